"""One person on three devices, and another beside them: what devices do, whatever they keep.

Each device has a copy, a queue and a position of the feed; it is offline by turns, and sends again
what got no answer. Subclasses of Devices have a model of the service, which says what each request
must come to, and the rules that fill the queues.
"""

import json
import os
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from accounts.models import User
from tests.client import ApiClient, data_of, meta_of
from tests.conftest import begin_session
from tests.copies import Copy, Name
from todo_project.models import Clock

# `make fuzz` sets it. What a run sends differs from run to run.
RUNS = int(os.environ.get("FUZZ_RUNS", "8"))
MANY_RUNS = 250
MANY_REQUESTS = 10_000
STEPS = 90

CHANGES, TRASH, BATCH = (f"/api/me/{name}" for name in ("changes", "trash", "batch"))
PATHS = {"task": "/api/me/tasks", "list": "/api/me/lists"}
DEVICES = {"phone": "alice", "laptop": "alice", "tablet": "alice", "bobs": "bob"}
# What becomes of a request: its answer arrives; or it does, but not the answer; or nothing; or it
# arrives twice, and the second answer is the one that is seen.
NETWORKS = ("well", "well", "well", "answer lost", "request lost", "twice")
PAGE_MAX = 4  # few, so that the others write between two pages

PURGE = {"permanent": "true"}

Fields = dict[str, Any]


@dataclass(frozen=True)
class Write:
    """A change that a device wants; where it names a tag, on condition of that."""

    op: str
    id: str | None
    data: Fields = field(default_factory=dict)
    tag: str | None = None
    kind: str = "task"
    query: Fields = field(default_factory=dict)  # of a deletion, by its own route alone

    @property
    def is_purge(self) -> bool:
        return "permanent" in self.query

    @property
    def is_for_batches(self) -> bool:
        return not self.query


@dataclass(frozen=True)
class Request:
    """What is sent, and is sent again as it was until there is an answer."""

    writes: Sequence[Write]
    key: str | None
    is_batch: bool = False
    is_atomic: bool = False


@dataclass
class Outcome:
    """What a write comes to, and the fields that its answer or error has, some of them."""

    status: int
    row: Fields | None = None

    @property
    def is_done(self) -> bool:
        return self.status < 400


@dataclass
class Person:
    """Somebody, and what the service must have of them: see subclasses."""

    name: str
    user: User
    access: str
    kept: dict[str, tuple[int, Any]] = field(default_factory=dict)  # by their keys, answers


P = TypeVar("P", bound=Person)


@dataclass
class Device(Generic[P]):
    owner: P
    copy: Copy = field(default_factory=Copy)
    queue: list[Write] = field(default_factory=list)
    unanswered: Request | None = None
    is_online: bool = True
    tags: dict[str, str] = field(default_factory=dict)  # by id, that were seen last
    pages: dict[str, tuple[str, Any]] = field(default_factory=dict)  # by address, with their tags

    def see(self, row: Mapping[str, Any]) -> None:
        self.tags[row["id"]] = row["etag"]


def epoch_of(tag: str) -> str:
    return tag.strip('"').split("-")[0]


def version_of(tag: str) -> int:
    return int(tag.strip('"').split("-")[2])


class Devices(RuleBasedStateMachine, Generic[P]):
    """What devices do with their queues and copies. A subclass has its own count of `sent`."""

    kinds: ClassVar[Sequence[str]]
    settle_limit: ClassVar[int] = PAGE_MAX
    sent: ClassVar[int]  # of all runs
    settled: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.people = {name: self._person(name) for name in ("alice", "bob")}
        self.devices = {name: Device(self.people[owner]) for name, owner in DEVICES.items()}
        self.count = 0
        self.is_written = True  # since it was compared last

    def _person(self, name: str) -> P:
        user = User.objects.create(email=f"{name}-{uuid4()}@example.com")
        return self.model_of(name, user, begin_session(user).access)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._settle()
        finally:
            User.objects.filter(pk__in=[person.user.pk for person in self.people.values()]).delete()

    # --- The model ----------------------------------------------------------------------------

    @abstractmethod
    def model_of(self, name: str, user: User, access: str) -> P:
        """Of a person who has nothing."""

    @abstractmethod
    def expect_alone(self, person: P, write: Write, response: Any) -> None:
        """Does a write to the model, and asserts that the answer says the same."""

    @abstractmethod
    def expect_batch(self, person: P, request: Request, response: Any) -> None:
        """Does writes to the model, and asserts that the answer says the same."""

    @abstractmethod
    def living(self, person: P) -> Mapping[Name, Fields]:
        """What lists and reads must have, in the shape that answers have by `shape`."""

    @abstractmethod
    def trashed(self, person: P) -> set[Name]:
        """What the trash must have."""

    @abstractmethod
    def shape(self, kind: str, answered: Mapping[str, Any]) -> Fields:
        """The fields of an answer that the model knows."""

    @abstractmethod
    def compare_table(self) -> None:
        """Asserts that the tables have what the models have."""

    # --- What devices do ----------------------------------------------------------------------

    @rule(name=st.sampled_from([*DEVICES]))
    def go_offline_or_back(self, name: str) -> None:
        device = self.devices[name]
        device.is_online = not device.is_online

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

    @rule(name=st.sampled_from([*DEVICES]), limit=st.integers(1, PAGE_MAX))
    def read(self, name: str, limit: int) -> None:
        """Lists and trash are as they must be; unchanged ones aren't sent again."""
        device = self.devices[name]
        if not device.is_online:
            return
        assert self._shapes(self._everything(device, limit)) == self.living(device.owner)
        trashed = self._walk(device, TRASH, limit)
        assert {(entry["type"], entry["id"]) for entry in trashed} == self.trashed(device.owner)

    # --- The end ------------------------------------------------------------------------------

    def _settle(self) -> None:
        """All come back, send what they have, and follow to the end: then all have the same."""
        for device in self.devices.values():
            device.is_online = True
            while device.queue:
                request = device.unanswered or self._request(device, 3, False, True)
                device.unanswered = request
                self._answered(device, request, self._deliver(device, request), False)
        self.compare_table()
        for device in self.devices.values():
            device.copy.has_all = False
            while not device.copy.has_all:
                self._pull(device, self.settle_limit, is_conditional=True, is_lost=False)
            everything = self._everything(device, self.settle_limit)
            assert device.copy.things == everything
            assert self._shapes(everything) == self.living(device.owner)
        phone, laptop, tablet, _ = self.devices.values()
        assert phone.copy.things == laptop.copy.things == tablet.copy.things
        type(self).settled += 1

    # --- Requests -----------------------------------------------------------------------------

    def _call(self, device: Device[P], method: str, path: str, *body: Any, **more: Any) -> Any:
        """Sends; asserts that nobody is shown anything of the other's."""
        type(self).sent += 1
        response = ApiClient(device.owner.access).call(method, path, *body, **more)
        text = response.content.decode()
        for other in self.people.values():
            if other is not device.owner:
                assert f"{other.name}'s" not in text
                assert str(other.user.pk) not in text
        return response

    def _request(self, device: Device[P], many: int, is_atomic: bool, is_keyed: bool) -> Request:
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

    def _deliver(self, device: Device[P], request: Request) -> Any:
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
            self.expect_batch(person, request, response)
        else:
            self.expect_alone(person, request.writes[0], response)
        if request.key is not None and response.status_code < 400:
            person.kept[request.key] = (response.status_code, data)
        return response

    def _send_alone(self, device: Device[P], write: Write, headers: Mapping[str, str]) -> Any:
        more = {**headers} if write.tag is None else {**headers, "if_match": write.tag}
        path = f"{PATHS[write.kind]}/{write.id}"
        match write.op:
            case "create" if write.id is None:
                return self._call(device, "POST", PATHS[write.kind], write.data, **more)
            case "create":
                return self._call(device, "PUT", path, write.data, **more, if_none_match="*")
            case "update":
                return self._call(device, "PATCH", path, write.data, **more)
            case "replace":
                return self._call(device, "PUT", path, write.data, **more)
            case "complete":
                return self._call(device, "PATCH", f"{path}/complete", write.data, **more)
            case "move":
                return self._call(device, "POST", f"{path}/move", write.data, **more)
            case "restore" | "skip":
                return self._call(device, "POST", f"{path}/{write.op}", **more)
        return self._call(device, "DELETE", path, query=write.query, **more)

    def _operation(self, write: Write) -> Fields:
        operation: Fields = {"op": "update" if write.op == "replace" else write.op}
        if write.kind != "task":
            operation["type"] = write.kind
        if write.id is not None:
            operation["id"] = write.id
        if write.data:
            operation["data"] = write.data
        if write.tag is not None:
            operation["if_version"] = version_of(write.tag)
        return operation

    def _answered(
        self, device: Device[P], request: Request, answer: Any, tries_again: bool
    ) -> None:
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
                    queue.append(replace(write, tag=current["etag"]))
        device.queue = queue

    def _pull(self, device: Device[P], limit: int, *, is_conditional: bool, is_lost: bool) -> None:
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
        self,
        device: Device[P],
        path: str,
        query: Mapping[str, Any],
        *,
        is_conditional: bool = True,
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

    def _walk(self, device: Device[P], path: str, limit: int) -> list[Any]:
        found: list[Any] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            rows, meta = self._get(device, path, query)
            found += rows
            if meta["next_cursor"] is None:
                return found
            query["cursor"] = meta["next_cursor"]

    def _everything(self, device: Device[P], limit: int) -> dict[Name, Any]:
        return {
            (kind, row["id"]): row
            for kind in self.kinds
            for row in self._walk(device, PATHS[kind], limit)
        }

    def _shapes(self, things: Mapping[Name, Any]) -> dict[Name, Fields]:
        return {name: self.shape(name[0], row) for name, row in things.items()}

    def _title(self, device: Device[P]) -> str:
        self.count += 1
        return f"{device.owner.name}'s {self.count}"

    def compare(self, write: Write, expected: Outcome, answer: Mapping[str, Any]) -> None:
        """A 412 tells what is there now; of an answer without error it is the row."""
        assert answer["status"] == expected.status, (write, expected, answer)
        if expected.row is not None:
            is_refused = expected.status == 412
            row = answer["error"]["details"]["current"] if is_refused else answer["data"]
            assert {name: row[name] for name in expected.row} == expected.row, write


def run(machine: type[Devices], runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    """So many runs of a machine; asserts that they all came to an end, and tells of how many."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="FUZZ_RUNS" not in os.environ,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    with capsys.disabled():
        print(f"{machine.sent:,} requests in {runs} runs")  # noqa: T201  # a figure
    assert machine.settled >= runs
    if runs >= MANY_RUNS:
        assert machine.sent >= MANY_REQUESTS
