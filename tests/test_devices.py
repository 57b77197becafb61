"""One person on three devices, and another beside them, do anything in any order.

A model of the service says what each request must come to: of tasks by themselves here, with their
lists in test_devices_with_lists.py. Short by default; `make fuzz` sends 10,000 requests and more,
and counts them.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from uuid_utils.compat import uuid7

from accounts.models import User
from tasks.models import Task
from tests.copies import Name
from tests.devices import (
    DEVICES,
    PATHS,
    PURGE,
    RUNS,
    Devices,
    Fields,
    Outcome,
    Person,
    Request,
    Write,
    epoch_of,
    run,
    version_of,
)
from todo_project.models import Change, Clock


@dataclass
class Owner(Person):
    """What the service must have of somebody."""

    clock: int = 1
    steps: set[int] = field(default_factory=set)  # that the clock made
    tasks: dict[str, Fields] = field(default_factory=dict)  # those in the trash as well

    def advance(self, version: int) -> None:
        self.clock = version
        self.steps.add(version)

    @property
    def living(self) -> dict[str, Fields]:
        return {id_: task for id_, task in self.tasks.items() if not task["is_trashed"]}


def differs(write: Write, task: Mapping[str, Any]) -> bool:
    """Whether it would change the task."""
    match write.op:
        case "delete":
            return True
        case "restore":
            return bool(task["is_trashed"])
    return any(task[name] != value for name, value in write.data.items())


class ManyDevices(Devices[Owner]):
    """The model, and what the devices write."""

    kinds = ("task",)
    sent = 0
    settled = 0

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []  # of whatever was there once, of both

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
        if op == "purge":
            device.queue.append(Write("delete", row_id, tag=tag, query=PURGE))
        else:
            device.queue.append(Write(op, row_id, data, tag))

    @rule(name=st.sampled_from([*DEVICES]), place=st.integers(0, 50))
    def read_one(self, name: str, place: int) -> None:
        """Found as long as it lives, by its owner."""
        device = self.devices[name]
        if device.is_online and self.ids:
            row_id = self.ids[place % len(self.ids)]
            answer = self._call(device, "GET", f"{PATHS['task']}/{row_id}")
            assert answer.status_code == (200 if row_id in device.owner.living else 404)

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
        if self.is_written:
            self.is_written = False
            self.compare_table()

    def compare_table(self) -> None:
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

    # --- The model ----------------------------------------------------------------------------

    def model_of(self, name: str, user: User, access: str) -> Owner:
        return Owner(name, user, access)

    def living(self, person: Owner) -> Mapping[Name, Fields]:
        return {("task", row_id): self._public(task) for row_id, task in person.living.items()}

    def trashed(self, person: Owner) -> set[Name]:
        return {("task", row_id) for row_id in person.tasks.keys() - person.living.keys()}

    def _public(self, task: Fields) -> Fields:
        return {name: value for name, value in task.items() if name != "is_trashed"}

    def shape(self, kind: str, answered: Mapping[str, Any]) -> Fields:
        return {n: answered[n] for n in ("title", "description", "is_completed", "version")}

    def expect_alone(self, person: Owner, write: Write, response: Any) -> None:
        epoch = Clock.objects.get(user=person.user).epoch
        is_current = write.tag is None or epoch_of(write.tag) == epoch
        body = json.loads(response.content) if response.content else {}
        given = body.get("data") or {}
        outcome = self._do(person, write, given.get("id"), is_current, person.clock + 1)
        self.compare(write, outcome, {"status": response.status_code, **body})

    def expect_batch(self, person: Owner, request: Request, response: Any) -> None:
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
                self.compare(request.writes[each["index"]], expected[each["index"]], each)
            return
        assert response.status_code == 200, response.content
        for write, outcome, answer in zip(request.writes, outcomes, answers, strict=True):
            self.compare(write, outcome, answer)

    def _do(
        self, person: Owner, write: Write, given: str | None, is_current: bool, version: int
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
        if task is None or (task["is_trashed"] and write.op != "restore" and not write.is_purge):
            return Outcome(404)
        is_met = write.tag is None or (is_current and version_of(write.tag) == task["version"])
        if not differs(write, task):
            return Outcome(200, self._public(task))
        if not is_met:
            return Outcome(412, self._public(task))
        if write.is_purge:
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
    run(ManyDevices, RUNS, capsys)
