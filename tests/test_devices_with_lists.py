"""The devices of test_devices.py with lists, subtasks, moves, labels and tasks that recur.

The model says what each write comes to (model_of_tasks.py); what the database chooses is compared
with what it implies. Beside it the tables keep what holds whatever the model believes.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from uuid_utils.compat import uuid7

from accounts.models import User
from tasks.models import REPEATS_FROM, Task, TaskList
from tests.client import ApiClient, data_of
from tests.copies import Name
from tests.devices import (
    DEVICES,
    PATHS,
    PURGE,
    RUNS,
    Device,
    Devices,
    Fields,
    Outcome,
    Request,
    Write,
    epoch_of,
    run,
)
from tests.model_of_tasks import (
    DEFAULTS,
    LEVELS_MAX,
    NEW_SERIES,
    RULES,
    ZONE,
    Owner,
    Row,
    beside,
    siblings,
    today,
)
from todo_project.models import Change, Clock

KEEP = {"tasks": "keep"}


@dataclass(frozen=True)
class Kind:
    """A kind of write: what it does, and which fields it sends."""

    kind: str
    op: str
    names: Sequence[str] = ()
    query: Fields = field(default_factory=dict)


# Some stand here more than once, so that they come more often.
KINDS = (
    Kind("list", "create", ["name"]),
    Kind("list", "update", ["name"]),
    Kind("list", "replace", ["name"]),
    Kind("list", "delete"),
    Kind("list", "delete", query=KEEP),
    Kind("list", "delete", query=PURGE),
    Kind("list", "delete", query={**KEEP, **PURGE}),
    *[Kind("list", "restore")] * 3,
    *[Kind("task", "create", ["title", "list_id", "labels"])] * 2,
    *[Kind("task", "create", ["title", "parent_id", "due_on"])] * 3,
    *[Kind("task", "create", ["title", "list_id", "recurrence", "due_on", "repeat_from"])] * 2,
    Kind("task", "create", ["title", "parent_id", "recurrence", "due_on"]),
    *[Kind("task", "complete", ["is_completed"])] * 8,
    *[Kind("task", "skip")] * 2,
    *[Kind("task", "delete")] * 4,
    Kind("task", "delete", query=PURGE),
    *[Kind("task", "restore")] * 6,
    Kind("task", "replace", ["title", "is_completed"]),
    Kind("task", "update", ["labels", "is_completed"]),
    Kind("task", "update", ["list_id"]),
    Kind("task", "update", ["list_id", "parent_id"]),
    *[Kind("task", "update", ["list_id", "is_completed"])] * 3,
    *[Kind("task", "update", ["parent_id"])] * 2,
    Kind("task", "update", ["due_on"]),
    Kind("task", "update", ["recurrence"]),
    Kind("task", "update", ["recurrence", "due_on"]),
    Kind("task", "update", ["repeat_from"]),
    *[Kind("task", "move", ["before"])] * 3,
    *[Kind("task", "move", ["after"])] * 2,
    *[Kind("task", "move", ["list_id"])] * 2,
    *[Kind("task", "move", ["parent_id"])] * 2,
    Kind("task", "move", ["list_id", "parent_id"]),
    Kind("task", "move", ["list_id", "before"]),
    Kind("task", "move"),
)

# What it is, which row it is about, and what its fields get.
Wanted = tuple[Kind, int, Sequence[int]]

numbers = st.integers(0, 59)
writes = st.lists(
    st.tuples(st.sampled_from(KINDS), numbers, st.lists(numbers, min_size=5, max_size=5)),
    min_size=2,
    max_size=5,
)


class ManyDevicesWithLists(Devices[Owner]):
    """What the devices write, and how it is compared with the model."""

    kinds = ("list", "task")
    settle_limit = 50
    sent = 0
    settled = 0

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, list[str]] = {kind: [] for kind in self.kinds}  # that were there once

    @initialize(has_subtasks=st.booleans())
    def furnish(self, has_subtasks: bool) -> None:
        """Something to begin with: a list, a task of three levels, and one that recurs."""
        phone = self.devices["phone"]
        a_list, *ids = (str(uuid7()) for _ in range(5))
        parents = [None, *ids[:2], ids[1] if has_subtasks else None]
        phone.queue.append(Write("create", a_list, {"name": self._title(phone)}, kind="list"))
        for row_id, parent_id in zip(ids, parents, strict=True):
            data = {
                "title": self._title(phone),
                "list_id": a_list,
                "parent_id": parent_id,
                "due_on": today().isoformat(),
            }
            if row_id in (ids[0], ids[3]):
                data["recurrence"] = "FREQ=DAILY"
            phone.queue.append(Write("create", row_id, data))
        request = self._request(phone, 5, True, False)
        self._answered(phone, request, self._deliver(phone, request), False)

    # --- What devices write -------------------------------------------------------------------

    @rule(name=st.sampled_from([*DEVICES]), writes=writes, is_conditional=st.booleans())
    def write(self, name: str, writes: Sequence[Wanted], is_conditional: bool) -> None:
        device = self.devices[name]
        for kind, number, values in writes:
            if kind.op == "create":
                device.queue.append(self._creation(device, kind, number, values))
                continue
            row_id = self._find(
                device,
                kind.kind,
                number,
                is_trashed=kind.op == "restore",
                recurs=kind.op == "skip" or "is_completed" in kind.names,
            )
            if row_id is not None:
                data = self._values(device, kind.names, values)
                tag = device.tags.get(row_id) if is_conditional else None
                device.queue.append(Write(kind.op, row_id, data, tag, kind.kind, kind.query))

    @rule(
        name=st.sampled_from(["phone", "laptop", "tablet"]),
        writes=writes,
        is_conditional=st.booleans(),
        many=st.integers(0, 6),
        is_atomic=st.booleans(),
    )
    def write_and_send(
        self,
        name: str,
        writes: Sequence[Wanted],
        is_conditional: bool,
        many: int,
        is_atomic: bool,
    ) -> None:
        """As whoever is online mostly does."""
        self.write(name, writes, is_conditional)
        for _ in writes:
            self.send(name, "well", many, is_atomic, is_keyed=False, tries_again=False)

    def _creation(
        self, device: Device[Owner], kind: Kind, number: int, values: Sequence[int]
    ) -> Write:
        """Under an id of the device's, of the server's; or one that was taken at some time.

        Below a task it is in that task's list, mostly.
        """
        data = self._values(device, kind.names, values)
        if data.get("recurrence") is not None:
            data["due_on"] = data["due_on"] or today().isoformat()
        parent = device.owner.tasks.get(data.get("parent_id") or "")
        if parent is not None and number % 8 < 7:
            data["list_id"] = parent.data["list_id"]
        row_id = None if number % 3 == 0 else str(uuid7())
        if number % 7 == 6:
            row_id = self._find(device, kind.kind, number, is_trashed=number % 2 == 0)
        return Write("create", row_id, data, kind=kind.kind)

    def _find(
        self,
        device: Device[Owner],
        kind: str,
        number: int,
        *,
        is_trashed: bool = False,
        recurs: bool = False,
    ) -> str | None:
        """The id of what lives, or is in the trash, mostly; or of what was ever there."""
        rows = device.owner.rows(kind)
        ids = [n for n in self.ids[kind] if n in rows and rows[n].is_trashed == is_trashed]
        if recurs and number % 4 < 3:
            ids = [n for n in ids if rows[n].data["recurrence"] is not None] or ids
        if number % 10 == 9:
            ids = self.ids[kind]
        return ids[number % len(ids)] if ids else None

    def _values(
        self, device: Device[Owner], names: Sequence[str], numbers: Sequence[int]
    ) -> Fields:
        data = {
            name: self._value(device, name, number)
            for name, number in zip(names, numbers, strict=False)
        }
        # There may be none yet of which it could be the id.
        return {n: v for n, v in data.items() if v is not None or n not in ("before", "after")}

    def _value(self, device: Device[Owner], name: str, number: int) -> Any:
        match name:
            case "title" | "name":
                return self._title(device)
            case "labels":
                return ["home", "garden", "büro"][: number % 4]
            case "due_on":
                day = today() + timedelta(number % 9 - 6)
                return None if number % 10 == 9 else day.isoformat()
            case "recurrence":
                return [*RULES, None][number % (len(RULES) + 1)]
            case "repeat_from":
                return REPEATS_FROM[number % 2]
            case "is_completed":
                return number % 5 < 3
        is_none = name in ("list_id", "parent_id") and number % 4 == 3
        return (
            None if is_none else self._find(device, "list" if name == "list_id" else "task", number)
        )

    @rule(name=st.sampled_from([*DEVICES]), online=st.sampled_from([True, True, False]))
    def go_offline_or_back(self, name: str, online: bool) -> None:
        self.devices[name].is_online = online

    @rule(name=st.sampled_from([*DEVICES]), number=numbers, kind=st.sampled_from(["task", "list"]))
    def read_one(self, name: str, number: int, kind: str) -> None:
        """Found as long as it lives, by its owner."""
        device = self.devices[name]
        if device.is_online and self.ids[kind]:
            row_id = self.ids[kind][number % len(self.ids[kind])]
            answer = self._call(device, "GET", f"{PATHS[kind]}/{row_id}")
            lives = (kind, row_id) in self.living(device.owner)
            assert answer.status_code == (200 if lives else 404)

    # It ends what everybody has, so that most runs must do without.
    @precondition(lambda self: self.count % 17 == 16)
    @rule()
    def restore_the_database(self) -> None:
        """[V2] Nothing that devices kept from before leads anywhere."""
        call_command("new_epochs", stdout=StringIO())
        for person in self.people.values():
            person.clock = Clock.objects.get(user=person.user).version

    # --- The model ----------------------------------------------------------------------------

    def model_of(self, name: str, user: User, access: str) -> Owner:
        return Owner(name, user, access)

    def living(self, person: Owner) -> Mapping[Name, Fields]:
        return {
            (kind, row_id): row.public
            for kind in self.kinds
            for row_id, row in person.rows(kind).items()
            if not row.is_trashed
        }

    def trashed(self, person: Owner) -> set[Name]:
        return {
            (kind, row_id)
            for kind in self.kinds
            for row_id, row in person.rows(kind).items()
            if row.is_trashed
        }

    def shape(self, kind: str, answered: Mapping[str, Any]) -> Fields:
        return {n: answered[n] for n in (*DEFAULTS[kind], "version", "position")}

    def _call(self, device: Device[Owner], method: str, path: str, *body: Any, **more: Any) -> Any:
        return super()._call(device, method, path, *body, **more, x_time_zone=ZONE)

    def _request(
        self, device: Device[Owner], many: int, is_atomic: bool, is_keyed: bool
    ) -> Request:
        """What a batch does to the order isn't known before its end: only its first move asks.

        Nor does anything behind a move that may have given all siblings new places, and versions.
        """
        request = super()._request(device, many, is_atomic, is_keyed)
        if request.is_batch:
            makes_room = False
            for number, write in enumerate(request.writes):
                if number and write.tag is not None and (write.op == "move" or makes_room):
                    writes = request.writes[:number]
                    return Request(writes, request.key, request.is_batch, request.is_atomic)
                makes_room = makes_room or not {"before", "after"}.isdisjoint(write.data)
        return request

    def _do(
        self, person: Owner, write: Write, answer: Mapping[str, Any], *, is_alone: bool
    ) -> Outcome:
        is_current = True
        if is_alone and write.tag is not None:
            is_current = epoch_of(write.tag) == Clock.objects.get(user=person.user).epoch
        others = {
            row_id
            for other in self.people.values()
            if other is not person
            for row_id in other.rows(write.kind)
        }
        given = answer.get("data") or {}
        return person.do(write, given, is_current=is_current, is_alone=is_alone, others=others)

    def expect_alone(self, person: Owner, write: Write, response: Any) -> None:
        began = person.step
        body = json.loads(response.content) if response.content else {}
        answer = {"status": response.status_code, **body}
        before = deepcopy(person.tasks)
        outcome = self._do(person, write, answer, is_alone=True)
        self.compare(write, outcome, answer)
        self._adopt(person, [write], began)
        if write.op == "move" and outcome.status == 200:
            self._compare_order(person, write, before)

    def expect_batch(self, person: Owner, request: Request, response: Any) -> None:
        began = person.step
        before = deepcopy((person.lists, person.tasks))
        body = json.loads(response.content)
        answers = body.get("data") or [{}] * len(request.writes)
        outcomes = [
            self._do(person, write, answer, is_alone=False)
            for write, answer in zip(request.writes, answers, strict=True)
        ]
        moves = [n for n, write in enumerate(request.writes) if {"before", "after"} & {*write.data}]
        for outcome in outcomes[moves[0] :] if moves else []:
            if outcome.row is not None:  # all siblings may have got new places to make room
                outcome.row.pop("position", None)
                outcome.row.pop("version", None)
        if request.is_atomic and not all(outcome.is_done for outcome in outcomes):
            person.lists, person.tasks = before
            assert response.status_code == 409, response.content
            failed = body["error"]["details"]["operations"]
            expected = {n: each for n, each in enumerate(outcomes) if not each.is_done}
            assert [each["index"] for each in failed] == [*expected], (request, failed, outcomes)
            answers = {each["index"]: each for each in failed}
            for each in expected.values():
                # Nobody is told the id of what was made and taken back.
                if each.row is not None and each.row.get("next_task_id") not in person.tasks:
                    each.row.pop("next_task_id", None)
            pairs = [(request.writes[n], expected[n], answers[n]) for n in expected]
        else:
            assert response.status_code == 200, (response.content, outcomes)
            pairs = [*zip(request.writes, outcomes, answers, strict=True)]
        for write, outcome, answer in pairs:
            self.compare(write, outcome, answer)
        self._adopt(person, request.writes, began)

    def _compare_order(self, person: Owner, write: Write, before: Mapping[str, Row]) -> None:
        """A task that was moved is where it was sent; its siblings have the order of before."""
        assert write.id is not None
        data = person.tasks[write.id].data
        place = (data["list_id"], data["parent_id"])
        order, order_before = siblings(person.tasks, *place), siblings(before, *place)
        assert [n for n in order if n != write.id] == [n for n in order_before if n != write.id]
        neighbour_id = write.data.get("before") or write.data.get("after")
        if neighbour_id is None:
            assert order[-1] == write.id
            return
        order = beside(person.tasks, order, neighbour_id)
        number = order.index(write.id)
        assert order[number + 1 if "before" in write.data else number - 1] == neighbour_id

    # --- The tables ---------------------------------------------------------------------------

    def _adopt(self, person: Owner, writes: Sequence[Write], began: int) -> None:
        """[V1] Takes over what the database chose, and asserts that it fits what was done.

        Each write has one version, in their order, and the log has all of them; what it didn't
        concern has its version still, unless its siblings got new positions to make room.
        """
        since, person.clock = person.clock, Clock.objects.get(user=person.user).version
        log = Change.objects.filter(user=person.user, version__gt=since)
        logged = {
            (kind, str(n), version) for kind, n, version in log.values_list("type", "id", "version")
        }
        assert {version for *_, version in logged} == set(range(since + 1, person.clock + 1))
        may_make_room = any({"before", "after"} & write.data.keys() for write in writes)
        steps: dict[int, set[int]] = defaultdict(set)
        lists = {str(row.pk): row for row in TaskList.objects.filter(user=person.user)}
        tasks = {str(row.pk): row for row in Task.objects.filter(user=person.user)}
        self._bind(person, tasks)
        found: dict[Name, TaskList | Task] = {("list", n): row for n, row in lists.items()}
        found |= {("task", n): row for n, row in tasks.items()}
        assert {*found} == {(kind, n) for kind in self.kinds for n in person.rows(kind)}
        for (kind, row_id), stored in found.items():
            row = person.rows(kind)[row_id]
            if str(row.data.get("series_id")).startswith(NEW_SERIES):
                row.data["series_id"] = str(stored.series_id)  # type: ignore[union-attr]
            makes_room = may_make_room and row.position not in ("", stored.position)
            is_concerned = row.stamped > began
            assert makes_room or row.position in ("", stored.position), row
            assert makes_room or row.version in (None, stored.version), row
            assert (stored.version > since) == (is_concerned or makes_room), row
            assert stored.version <= since or (kind, row_id, stored.version) in logged, row
            if row.updated_at is not None:
                is_same = row.updated_at == stored.updated_at
                assert is_same == (row.updated_in == row.written), row
            if is_concerned and not makes_room:
                steps[row.stamped].add(stored.version)
            row.version, row.position = stored.version, stored.position
            row.updated_in, row.updated_at = row.written, stored.updated_at
            if row_id not in self.ids[kind]:
                self.ids[kind].append(row_id)
        versions = [version for step in sorted(steps) for version in sorted(steps[step])]
        assert versions == sorted(versions)
        assert all(len(each) == 1 for each in steps.values()), steps

    def _bind(self, person: Owner, found: Mapping[str, Task]) -> None:
        """Gives copies the ids that the database chose: by what they are copies of."""
        unknown = {n: fields_of(task) for n, task in found.items() if n not in person.tasks}
        while unknown:
            copies = [
                (row_id, chosen_id)
                for row_id, row in person.tasks.items()
                if row_id not in found
                for chosen_id, fields in unknown.items()
                if row.data == fields | ({"series_id": row_id} if fields["series_id"] else {})
            ]
            assert copies, (unknown, person.tasks)
            # A copy stands where what it is of does, which tells it from others that are alike.
            in_place = [
                (row_id, chosen_id)
                for row_id, chosen_id in copies
                if person.tasks[row_id].position == found[chosen_id].position
            ]
            row_id, chosen_id = (in_place or copies)[0]
            del unknown[chosen_id]
            person.tasks[chosen_id] = row = person.tasks.pop(row_id)
            if row.data["series_id"] is not None:
                row.data["series_id"] = chosen_id
            for child in person.tasks.values():
                if child.data["parent_id"] == row_id:
                    child.data["parent_id"] = chosen_id

    @invariant()
    def table_is_as_the_model(self) -> None:
        """What was done is there, and nothing else."""
        if self.is_written:
            self.is_written = False
            self.compare_table()

    def compare_table(self) -> None:
        for person in self.people.values():
            lists = {str(row.pk): row for row in TaskList.objects.filter(user=person.user)}
            tasks = {str(row.pk): row for row in Task.objects.filter(user=person.user)}
            stored = {**lists, **tasks}
            model = {**person.lists, **person.tasks}
            assert {row_id: {"name": row.name} for row_id, row in lists.items()} == {
                row_id: row.data for row_id, row in person.lists.items()
            }
            assert {row_id: fields_of(task) for row_id, task in tasks.items()} == {
                row_id: row.data for row_id, row in person.tasks.items()
            }
            assert {n: row.version for n, row in stored.items()} == {
                n: row.version for n, row in model.items()
            }
            # Together they go into the trash, and together they come back.
            trashed = {(row.trashed, stored[row_id].deleted_at) for row_id, row in model.items()}
            assert len(trashed) == len({n for n, _ in trashed}) == len({at for _, at in trashed})
            assert all((step is None) == (at is None) for step, at in trashed)
            assert_tables_hold(lists, tasks)


def fields_of(task: Task) -> Fields:
    """What the model has of a task."""

    def text(value: object) -> str | None:
        return None if value is None else str(value)

    return {
        "title": task.title,
        "is_completed": task.is_completed,
        "labels": task.labels,
        "due_on": text(task.due_on),
        "list_id": text(task.list_id),
        "parent_id": text(task.parent_id),
        "recurrence": task.recurrence,
        "repeat_from": REPEATS_FROM[task.repeat_from],
        "series_id": text(task.series_id),
        "next_task_id": text(task.next_task_id),
        "occurrence_on": text(task.occurrence_on),
        "series_start_on": text(task.series_start_on),
    }


def assert_tables_hold(lists: Mapping[str, TaskList], tasks: Mapping[str, Task]) -> None:
    """[O2] [Q2] What holds of one person's rows whatever was done to them."""
    days = [
        (task.series_id, task.occurrence_on)
        for task in tasks.values()
        if task.series_id and task.deleted_at is None
    ]
    assert len(days) == len(set(days))
    for task in tasks.values():
        levels, above = 1, task
        while above.parent_id is not None:
            above, levels = tasks[str(above.parent_id)], levels + 1
            assert above.pk != task.pk
        if task.deleted_at is not None:
            continue
        assert levels <= LEVELS_MAX
        if task.list_id is not None:
            assert lists[str(task.list_id)].deleted_at is None
        if task.parent_id is not None:
            parent = tasks[str(task.parent_id)]
            assert (parent.deleted_at, parent.list_id) == (None, task.list_id)


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_devices_agree_on_lists_and_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    """[V1] [V2] [I1] [D1] [F1] [F2] [B6] [O2] [Q1] [Q2] Nothing is lost, or comes again twice."""
    run(ManyDevicesWithLists, RUNS, capsys)


# --- What runs have found, each by itself -------------------------------------------------------


def send(client: ApiClient, method: str, path: str, *body: Any, status: int = 200) -> Any:
    return data_of(client.call(method, path, *body), status)


def routine(client: ApiClient, **fields: Any) -> Any:
    data = {"title": "Water", "due_on": f"{today()}", "recurrence": "FREQ=DAILY", **fields}
    return send(client, "POST", PATHS["task"], data, status=201)


@pytest.mark.django_db(transaction=True)
def test_next_one_goes_where_its_task_is_moved_meanwhile(alice_client: ApiClient) -> None:
    """[Q1] By the completion itself, with its subtasks."""
    other = send(alice_client, "POST", PATHS["list"], {"name": "Garden"}, status=201)
    task = routine(alice_client)
    child = {"title": "Fill the can", "parent_id": task["id"]}
    send(alice_client, "POST", PATHS["task"], child, status=201)

    changes = {"is_completed": True, "list_id": other["id"]}
    done = send(alice_client, "PATCH", f"{PATHS['task']}/{task['id']}", changes)

    tasks = send(alice_client, "GET", PATHS["task"])
    assert {row["list_id"] for row in tasks} == {other["id"]}
    parents = {task["id"], done["next_task_id"]}
    assert {row["parent_id"] for row in tasks} == {None, *parents}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["moved away", "moved with its parent"])
def test_another_one_is_made_where_its_task_is_by_then(what: str, alice_client: ApiClient) -> None:
    """[Q1] Its parent may be in the trash by then, or in another list."""
    a_list = send(alice_client, "POST", PATHS["list"], {"name": "Garden"}, status=201)
    parent = send(alice_client, "POST", PATHS["task"], {"title": "Summer"}, status=201)
    task = routine(alice_client, parent_id=parent["id"])
    path, above = (f"{PATHS['task']}/{row['id']}" for row in (task, parent))
    first = send(alice_client, "PATCH", f"{path}/complete")
    send(alice_client, "PATCH", f"{path}/complete", {"is_completed": False})
    if what == "moved away":
        send(alice_client, "POST", f"{path}/move", {"parent_id": None})
        alice_client.delete(above)
    else:
        send(alice_client, "POST", f"{above}/move", {"list_id": a_list["id"]})

    done = send(alice_client, "PATCH", f"{path}/complete")

    assert done["next_task_id"] != first["next_task_id"]
    again = send(alice_client, "GET", f"{PATHS['task']}/{done['next_task_id']}")
    assert [again[name] for name in ("list_id", "parent_id")] == [
        done[name] for name in ("list_id", "parent_id")
    ]
