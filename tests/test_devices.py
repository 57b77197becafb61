"""One person on three devices, and another beside them, do anything in any order.

Each device has a copy, a queue and a position of the feed; it is offline by turns, and sends again
what got no answer. A model of the service says what each request must come to. Short by default;
`make fuzz` sends 10,000 requests and more, and counts them.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from uuid_utils.compat import uuid7

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, data_of, meta_of
from tests.conftest import begin_session
from tests.copies import Copy
from todo_project.models import Change, Clock

# `make fuzz` sets it. A run of 90 steps sends about 50 requests, which differ from run to run.
RUNS = int(os.environ.get("FUZZ_RUNS", "8"))
MANY_RUNS = 250
MANY_REQUESTS = 10_000
STEPS = 90

LIST, CHANGES, TRASH, BATCH = (f"/api/me/{name}" for name in ("tasks", "changes", "trash", "batch"))
DEVICES = {"phone": "alice", "laptop": "alice", "tablet": "alice", "bobs": "bob"}
# What becomes of a request: its answer arrives; or it does, but not the answer; or nothing; or it
# arrives twice, and the second answer is the one that is seen.
NETWORKS = ("well", "well", "well", "answer lost", "request lost", "twice")
PAGE_MAX = 4  # few, so that the others write between two pages

Fields = dict[str, Any]


@dataclass(frozen=True)
class Write:
    """A change that a device wants; where it names a tag, on condition of that."""

    op: str
    id: str | None
    data: Fields = field(default_factory=dict)
    tag: str | None = None

    @property
    def is_for_batches(self) -> bool:
        return self.op != "purge"

    def differs(self, task: Mapping[str, Any]) -> bool:
        """Whether it would change the task."""
        match self.op:
            case "delete" | "purge":
                return True
            case "restore":
                return bool(task["is_trashed"])
        return any(task[name] != value for name, value in self.data.items())


@dataclass(frozen=True)
class Request:
    """What is sent, and is sent again as it was until there is an answer."""

    writes: Sequence[Write]
    key: str | None
    is_batch: bool = False
    is_atomic: bool = False


@dataclass
class Outcome:
    """What a write comes to, and the task that its answer or error has."""

    status: int
    task: Fields | None = None

    @property
    def is_done(self) -> bool:
        return self.status < 400


@dataclass
class Person:
    """What the service must have of somebody."""

    name: str
    user: User
    access: str
    clock: int = 1
    steps: set[int] = field(default_factory=set)  # that the clock made
    tasks: dict[str, Fields] = field(default_factory=dict)  # those in the trash as well
    kept: dict[str, tuple[int, Any]] = field(default_factory=dict)  # by their keys, answers

    def advance(self, version: int) -> None:
        self.clock = version
        self.steps.add(version)

    @property
    def living(self) -> dict[str, Fields]:
        return {id_: task for id_, task in self.tasks.items() if not task["is_trashed"]}


@dataclass
class Device:
    owner: Person
    copy: Copy = field(default_factory=Copy)
    queue: list[Write] = field(default_factory=list)
    unanswered: Request | None = None
    is_online: bool = True
    tags: dict[str, str] = field(default_factory=dict)  # by task, that were seen last
    pages: dict[str, tuple[str, Any]] = field(default_factory=dict)  # by address, with their tags

    def see(self, task: Mapping[str, Any]) -> None:
        self.tags[task["id"]] = task["etag"]


def epoch_of(tag: str) -> str:
    return tag.strip('"').split("-")[0]


def version_of(tag: str) -> int:
    return int(tag.strip('"').split("-")[2])


class ManyDevices(RuleBasedStateMachine):
    """The model, and what the devices do."""

    sent = 0  # of all runs
    settled = 0

    def __init__(self) -> None:
        super().__init__()
        self.people = {name: self._person(name) for name in ("alice", "bob")}
        self.devices = {name: Device(self.people[owner]) for name, owner in DEVICES.items()}
        self.ids: list[str] = []  # of whatever was there once, of both
        self.count = 0
        self.is_written = True  # since it was compared last

    def _person(self, name: str) -> Person:
        user = User.objects.create(email=f"{name}-{uuid4()}@example.com")
        return Person(name, user, begin_session(user).access)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._settle()
        finally:
            User.objects.filter(pk__in=[person.user.pk for person in self.people.values()]).delete()

    # --- What devices do ----------------------------------------------------------------------

    @rule(name=st.sampled_from([*DEVICES]))
    def go_offline_or_back(self, name: str) -> None:
        device = self.devices[name]
        device.is_online = not device.is_online

    @rule(
        name=st.sampled_from([*DEVICES]),
        has_id=st.booleans(),
        place=st.none() | st.integers(0, 50),
    )
    def add(self, name: str, has_id: bool, place: int | None) -> None:
        """Under an id of the device's, of the server's; or one that was taken at some time."""
        row_id = str(uuid7()) if has_id else None  # in their order, so that runs can be repeated
        if has_id and place is not None and self.ids:
            row_id = self.ids[place % len(self.ids)]
        device = self.devices[name]
        data = {"title": self._title(device), "description": None, "is_completed": False}
        device.queue.append(Write("create", row_id, data))

    @rule(
        name=st.sampled_from([*DEVICES]),
        op=st.sampled_from(["update", "replace", "complete", "delete", "purge", "restore"]),
        place=st.integers(0, 50),
        is_of_copy=st.sampled_from([True, True, True, False]),
        is_conditional=st.booleans(),
        flag=st.booleans(),
    )
    def change(
        self, name: str, op: str, place: int, is_of_copy: bool, is_conditional: bool, flag: bool
    ) -> None:
        device = self.devices[name]
        known = [row_id for row_id in self.ids if ("task", row_id) in device.copy.things]
        ids = known if is_of_copy and op != "restore" else self.ids
        if not ids:
            return
        row_id = ids[place % len(ids)]
        data: Fields = {}
        if op in ("update", "replace"):
            data = {"title": self._title(device)}
        if op == "complete" or (op == "update" and flag):
            data["is_completed"] = flag
        tag = device.tags.get(row_id) if is_conditional else None
        device.queue.append(Write(op, row_id, data, tag))

    @rule(
        name=st.sampled_from([*DEVICES]),
        network=st.sampled_from(NETWORKS),
        many=st.integers(0, 5),
        is_atomic=st.booleans(),
        is_keyed=st.booleans(),
        tries_again=st.booleans(),
    )
    def send(
        self,
        name: str,
        network: str,
        many: int,
        is_atomic: bool,
        is_keyed: bool,
        tries_again: bool,
    ) -> None:
        """What is first in the queue: alone, or with others as a batch."""
        device = self.devices[name]
        if not device.is_online or not device.queue:
            return
        if device.unanswered is None:
            device.unanswered = self._request(device, many, is_atomic, is_keyed)
        request = device.unanswered
        if network == "request lost":
            return
        answer = self._deliver(device, request)
        if network == "twice":
            answer = self._deliver(device, request)
        if network != "answer lost":
            self._answered(device, request, answer, tries_again)

    @rule(
        name=st.sampled_from([*DEVICES]),
        limit=st.integers(1, PAGE_MAX),
        network=st.sampled_from(NETWORKS[2:5]),
        is_conditional=st.booleans(),
    )
    def pull(self, name: str, limit: int, network: str, is_conditional: bool) -> None:
        """A page of the feed."""
        device = self.devices[name]
        if device.is_online and network != "request lost":
            self._pull(device, limit, is_conditional=is_conditional, is_lost=network != "well")

    @rule(
        name=st.sampled_from([*DEVICES]), limit=st.integers(1, PAGE_MAX), place=st.integers(0, 50)
    )
    def read(self, name: str, limit: int, place: int) -> None:
        """Lists, trash and a task are as they must be; unchanged ones aren't sent again."""
        device = self.devices[name]
        if not device.is_online:
            return
        person = device.owner
        listed = self._walk(device, LIST, limit)
        assert {row["id"]: self._shape(row) for row in listed} == {
            row_id: self._public(task) for row_id, task in person.living.items()
        }
        trashed = self._walk(device, TRASH, limit)
        assert {entry["id"] for entry in trashed} == person.tasks.keys() - person.living.keys()
        if self.ids:
            row_id = self.ids[place % len(self.ids)]
            answer = self._call(device, "GET", f"{LIST}/{row_id}")
            assert answer.status_code == (200 if row_id in person.living else 404)

    # It ends what everybody has, so that most runs must do without.
    @precondition(lambda self: self.count % 7 == 6)
    @rule()
    def restore_the_database(self) -> None:
        """[V2] Nothing that devices kept from before leads anywhere."""
        call_command("new_epochs", stdout=StringIO())
        self.is_written = True
        for person in self.people.values():
            clock = Clock.objects.get(user=person.user).version
            assert clock > person.clock
            person.clock = clock

    @invariant()
    def table_is_as_the_model(self) -> None:
        """[V1] What was done is there, and nothing else; and the log has each step."""
        if not self.is_written:
            return
        self.is_written = False
        for person in self.people.values():
            rows = Task.objects.filter(user=person.user).values()
            assert {
                str(row["id"]): {
                    "title": row["title"],
                    "description": row["description"],
                    "is_completed": row["is_completed"],
                    "version": row["version"],
                    "is_trashed": row["deleted_at"] is not None,
                }
                for row in rows
            } == person.tasks
            assert Clock.objects.get(user=person.user).version == person.clock
            logged = Change.objects.filter(user=person.user).values_list("version", flat=True)
            assert set(logged) == person.steps

    # --- The end ------------------------------------------------------------------------------

    def _settle(self) -> None:
        """All come back, send what they have, and follow to the end: then all have the same."""
        for device in self.devices.values():
            device.is_online = True
            while device.queue:
                request = device.unanswered or self._request(device, 3, False, True)
                device.unanswered = request
                self._answered(device, request, self._deliver(device, request), False)
        self.table_is_as_the_model()
        for device in self.devices.values():
            device.copy.has_all = False
            while not device.copy.has_all:
                self._pull(device, PAGE_MAX, is_conditional=True, is_lost=False)
            everything = {("task", task["id"]): task for task in self._walk(device, LIST, PAGE_MAX)}
            assert device.copy.things == everything
            assert {row_id: self._shape(task) for (_, row_id), task in everything.items()} == {
                row_id: self._public(task) for row_id, task in device.owner.living.items()
            }
        phone, laptop, tablet, _ = self.devices.values()
        assert phone.copy.things == laptop.copy.things == tablet.copy.things
        ManyDevices.settled += 1

    # --- Requests -----------------------------------------------------------------------------

    def _call(self, device: Device, method: str, path: str, *body: Any, **more: Any) -> Any:
        """Sends; asserts that nobody is shown anything of the other's."""
        ManyDevices.sent += 1
        response = ApiClient(device.owner.access).call(method, path, *body, **more)
        text = response.content.decode()
        for other in self.people.values():
            if other is not device.owner:
                assert f"{other.name}'s" not in text
                assert str(other.user.pk) not in text
        return response

    def _request(self, device: Device, many: int, is_atomic: bool, is_keyed: bool) -> Request:
        writes = []
        for write in device.queue[:many]:
            if not write.is_for_batches:
                break
            writes.append(write)
        is_batch = bool(writes)
        writes = writes or device.queue[:1]
        # What the server chooses the id of would be made twice.
        needs_key = any(write.op == "create" and write.id is None for write in writes)
        key = str(uuid4()) if is_keyed or needs_key else None
        return Request(writes, key, is_batch, is_batch and is_atomic)

    def _deliver(self, device: Device, request: Request) -> Any:
        """Sends, and asserts that it comes to what the model says."""
        person, self.is_written = device.owner, True
        headers = {} if request.key is None else {"idempotency_key": request.key}
        replayed = person.kept.get(request.key or "")
        if request.is_batch:
            body = {
                "operations": [self._operation(write) for write in request.writes],
                "atomic": request.is_atomic,
            }
            response = self._call(device, "POST", BATCH, body, **headers)
        else:
            response = self._send_alone(device, request.writes[0], headers)
        data = json.loads(response.content).get("data") if response.content else None
        if replayed is not None:
            assert (response.status_code, data) == replayed
            assert response["Idempotent-Replayed"] == "true"
            return response
        assert "Idempotent-Replayed" not in response
        if request.is_batch:
            self._expect_batch(person, request, response)
        else:
            self._expect_alone(person, request.writes[0], response)
        if request.key is not None and response.status_code < 400:
            person.kept[request.key] = (response.status_code, data)
        return response

    def _send_alone(self, device: Device, write: Write, headers: Mapping[str, str]) -> Any:
        more = {**headers} if write.tag is None else {**headers, "if_match": write.tag}
        path = f"{LIST}/{write.id}"
        match write.op:
            case "create" if write.id is None:
                return self._call(device, "POST", LIST, write.data, **more)
            case "create":
                return self._call(device, "PUT", path, write.data, **more, if_none_match="*")
            case "update":
                return self._call(device, "PATCH", path, write.data, **more)
            case "replace":
                return self._call(device, "PUT", path, write.data, **more)
            case "complete":
                return self._call(device, "PATCH", f"{path}/complete", write.data, **more)
            case "restore":
                return self._call(device, "POST", f"{path}/restore", **more)
        query = {"permanent": "true"} if write.op == "purge" else {}
        return self._call(device, "DELETE", path, query=query, **more)

    def _operation(self, write: Write) -> Fields:
        operation: Fields = {"op": "update" if write.op == "replace" else write.op}
        if write.id is not None:
            operation["id"] = write.id
        if write.data:
            operation["data"] = write.data
        if write.tag is not None:
            operation["if_version"] = version_of(write.tag)
        return operation

    def _answered(self, device: Device, request: Request, answer: Any, tries_again: bool) -> None:
        """The device goes on: with what it was told, and what is left in its queue."""
        device.unanswered = None
        queue = device.queue[len(request.writes) :]
        body = json.loads(answer.content) if answer.content else {}
        if not request.is_batch:
            found = [{"status": answer.status_code, **body}]
        elif answer.status_code == 200:
            found = body["data"]
        else:  # nothing was done: without those that failed it will be
            failed = body["error"]["details"]["operations"]
            found = failed
            refused = {operation["index"] for operation in failed}
            queue = [w for n, w in enumerate(request.writes) if n not in refused] + queue
            request = Request([request.writes[n] for n in sorted(refused)], None)
        for write, outcome in zip(request.writes, found, strict=True):
            if outcome.get("data"):
                device.see(outcome["data"])
            if outcome["status"] == 412:
                current = outcome["error"]["details"]["current"]
                device.see(current)
                if write.op != "create" and tries_again:
                    queue.append(Write(write.op, write.id, write.data, current["etag"]))
        device.queue = queue

    def _pull(self, device: Device, limit: int, *, is_conditional: bool, is_lost: bool) -> None:
        query: dict[str, Any] = {"limit": limit}
        if device.copy.since is not None:
            query["since"] = device.copy.since
        answer = self._get(device, CHANGES, query, is_conditional=is_conditional)
        if is_lost:
            return
        if answer is None:
            assert device.copy.since is not None
            device.copy.start_anew()
            return
        changes, meta = answer
        device.copy.take(changes, meta)
        for change in changes:
            if change["resource"] is not None:
                device.see(change["resource"])

    def _get(
        self, device: Device, path: str, query: Mapping[str, Any], *, is_conditional: bool = True
    ) -> Any:
        """`data` and `meta`, from before where they are the same still; None for 410."""
        address = json.dumps([path, query])
        tag, page = device.pages.get(address, (None, None))
        if not is_conditional or tag is None:
            answer = self._call(device, "GET", path, query=dict(query))
        else:
            answer = self._call(device, "GET", path, query=dict(query), if_none_match=tag)
        if answer.status_code == 410:
            return None
        # A tag is of the clock: it stays as long as that does, and no longer.
        clock = Clock.objects.get(user=device.owner.user)
        now = (clock.epoch, clock.version)
        is_known = tag is not None and (epoch_of(tag[2:]), version_of(tag[2:])) == now
        if answer.status_code == 304:
            assert is_conditional
            assert is_known
            return page
        assert not (is_conditional and is_known)
        page = (data_of(answer), meta_of(answer))
        if "ETag" in answer:
            device.pages[address] = (answer["ETag"], page)
        return page

    def _walk(self, device: Device, path: str, limit: int) -> list[Any]:
        found: list[Any] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            rows, meta = self._get(device, path, query)
            found += rows
            if meta["next_cursor"] is None:
                return found
            query["cursor"] = meta["next_cursor"]

    # --- The model ----------------------------------------------------------------------------

    def _title(self, device: Device) -> str:
        self.count += 1
        return f"{device.owner.name}'s {self.count}"

    def _public(self, task: Fields) -> Fields:
        return {name: value for name, value in task.items() if name != "is_trashed"}

    def _shape(self, answered: Mapping[str, Any]) -> Fields:
        return {n: answered[n] for n in ("title", "description", "is_completed", "version")}

    def _expect_alone(self, person: Person, write: Write, response: Any) -> None:
        epoch = Clock.objects.get(user=person.user).epoch
        is_current = write.tag is None or epoch_of(write.tag) == epoch
        body = json.loads(response.content) if response.content else {}
        given = body.get("data") or {}
        outcome = self._do(person, write, given.get("id"), is_current, person.clock + 1)
        self._compare(outcome, {"status": response.status_code, **body})

    def _expect_batch(self, person: Person, request: Request, response: Any) -> None:
        before = deepcopy((person.clock, person.steps, person.tasks))
        body = json.loads(response.content)
        answers = body.get("data") or [{}] * len(request.writes)
        outcomes, made, version = [], set[str | None](), 0
        for write, answer in zip(request.writes, answers, strict=True):
            # Creations that follow each other share a version.
            if write.op != "create" or (write.id is not None and write.id in made):
                made, version = set(), 0
            step = version or person.clock + 1
            given = (answer.get("data") or {}).get("id", str(uuid4()))
            outcome = self._do(person, write, given, True, step)
            outcomes.append(outcome)
            if write.op == "create":
                made.add(write.id)
                version = step
        if request.is_atomic and not all(outcome.is_done for outcome in outcomes):
            person.clock, person.steps, person.tasks = before
            assert response.status_code == 409, response.content
            failed = body["error"]["details"]["operations"]
            expected = {n: each for n, each in enumerate(outcomes) if not each.is_done}
            assert [each["index"] for each in failed] == [*expected]
            for each in failed:
                self._compare(expected[each["index"]], each)
            return
        assert response.status_code == 200, response.content
        for outcome, answer in zip(outcomes, answers, strict=True):
            self._compare(outcome, answer)

    def _compare(self, expected: Outcome, answer: Mapping[str, Any]) -> None:
        """A 412 tells what is there now; of an answer without error it is the task."""
        assert answer["status"] == expected.status, answer
        if expected.status == 412:
            assert self._shape(answer["error"]["details"]["current"]) == expected.task
        elif expected.task is not None:
            assert self._shape(answer["data"]) == expected.task

    def _do(
        self, person: Person, write: Write, given: str | None, is_current: bool, version: int
    ) -> Outcome:
        """Does a write to the model; `version` is the one that the change gets."""
        row_id = write.id or given
        assert row_id is not None
        task = person.tasks.get(row_id)
        if write.op == "create":
            if task is not None:
                return Outcome(412, self._public(task))
            if any(row_id in other.tasks for other in self.people.values()):
                return Outcome(409)
            person.tasks[row_id] = {**write.data, "version": version, "is_trashed": False}
            person.advance(version)
            self.ids.append(row_id)
            return Outcome(201, self._public(person.tasks[row_id]))
        if task is None or (task["is_trashed"] and write.op not in ("restore", "purge")):
            return Outcome(404)
        is_met = write.tag is None or (is_current and version_of(write.tag) == task["version"])
        if not write.differs(task):
            return Outcome(200, self._public(task))
        if not is_met:
            return Outcome(412, self._public(task))
        if write.op == "purge":
            del person.tasks[row_id]
            if not task["is_trashed"]:  # else it was told of as deleted before
                person.advance(version)
            return Outcome(204)
        person.advance(version)
        task.update(write.data, version=version, is_trashed=write.op == "delete")
        return Outcome(204) if write.op == "delete" else Outcome(200, self._public(task))


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_devices_have_the_same_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """[V1] [V2] [I1] [D1] [F1] [F2] [B6] [S2] Nothing is lost, done twice, or shown to another."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        ManyDevices,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="FUZZ_RUNS" not in os.environ,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    with capsys.disabled():
        print(f"{ManyDevices.sent:,} requests in {RUNS} runs")  # noqa: T201  # a figure
    assert ManyDevices.settled >= RUNS
    if RUNS >= MANY_RUNS:
        assert ManyDevices.sent >= MANY_REQUESTS
