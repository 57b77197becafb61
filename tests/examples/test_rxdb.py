"""RxDB and the adapter of examples/rxdb with a real server: two clients, offline by turns."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.examples.conftest import Person
from tests.examples.wire import Wire
from tests.processes import PATIENCE_S, PROJECT, wait_until

pytestmark = [pytest.mark.node("examples/rxdb"), pytest.mark.django_db(transaction=True)]

FOLDER = PROJECT / "examples" / "rxdb"

MANY = 35
ZERO_WIDTH_SPACE = "\u200b"


@dataclass(frozen=True)
class Device:
    """One of the two in the program, and its network."""

    name: str
    wire: Wire
    process: subprocess.Popen[str]

    def __call__(self, action: str, text: str = "") -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.name} {action} {text}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def tasks(self) -> list[Any]:
        tasks: list[Any] = self("list")
        return tasks

    def titles(self) -> list[str]:
        return [task["title"] for task in self.tasks()]


@pytest.fixture
def devices(
    person: Person, wires: tuple[Wire, Wire], tmp_path: Path
) -> Iterator[tuple[Device, Device]]:
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["node", "two-devices.js", *(wire.address for wire in wires)],
            cwd=FOLDER,
            env={"PATH": os.environ["PATH"], "TODO_TOKEN": person.access},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    yield Device("phone", wires[0], process), Device("laptop", wires[1], process)
    try:
        process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, (tmp_path / "log").read_text()) == (0, "")


def outcomes(device: Device) -> list[int]:
    """Of all operations of a device, in the order in which they were done."""
    return [one["status"] for each in device.wire.sent("/batch") for one in each.answer["data"]]


def assert_alike(person: Person, *devices: Device) -> None:
    """What each of the devices has is what the server has, versions included."""
    fields = ("id", "title", "description", "is_completed", "version")

    def is_alike(device: Device) -> bool:
        device("sync")
        there = [{name: task[name] for name in fields} for task in person.tasks()]
        return sorted(device.tasks(), key=_id) == sorted(there, key=_id)

    for device in (*devices, *devices):
        device("sync")
    for device in devices:
        wait_until(lambda device=device: is_alike(device))  # type: ignore[misc]


def _id(task: Mapping[str, Any]) -> str:
    return str(task["id"])


def test_two_clients_offline_by_turns_end_alike(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[F1] [F2] [B6]"""
    phone, laptop = devices
    phone("add", "Buy milk")
    assert phone("sync") == []
    assert laptop("sync") == []
    assert laptop.titles() == ["Buy milk"]

    phone("offline")
    phone("add", "Call mum")
    phone("edit", "Buy milk -> Buy oat milk")
    phone("edit", "Buy oat milk -> Buy soy milk")
    laptop("add", "Buy bread")
    laptop("sync")
    assert person.titles() == ["Buy bread", "Buy milk"]
    phone("online")
    assert phone("sync") == []

    laptop("offline")
    laptop("done", "Buy bread")
    laptop("add", "Never mind")
    laptop("rm", "Never mind")
    phone("rm", "Buy soy milk")
    phone("note", "Call mum -> Her birthday")
    assert phone("sync") == []
    laptop("online")
    assert laptop("sync") == []

    assert_alike(person, phone, laptop)
    assert person.titles() == ["Buy bread", "Call mum"]


def test_a_pushed_document_can_be_pushed_again_before_a_pull(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2] The version that a push made is known, and the next one is no conflict with oneself."""
    phone, _ = devices
    phone("sync")
    phone.wire.cut = "/changes"
    phone("add", "Buy milk")
    wait_until(lambda: person.titles() == ["Buy milk"])
    phone("edit", "Buy milk -> Buy oat milk")
    wait_until(lambda: person.titles() == ["Buy oat milk"])
    phone("edit", "Buy oat milk -> Buy soy milk")
    wait_until(lambda: person.titles() == ["Buy soy milk"])
    phone("rm", "Buy soy milk")
    wait_until(lambda: person.titles() == [])

    phone.wire.cut = None
    assert_alike(person, phone)
    assert outcomes(phone) == [201, 200, 200, 204]


def test_texts_from_both_sides_stay(devices: tuple[Device, Device], person: Person) -> None:
    """[V2] The one that was pushed last becomes a task of its own, and the person is told."""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    laptop("offline")
    phone("edit", "Buy milk -> Buy oat milk")
    phone("sync")
    laptop("edit", "Buy milk -> Buy soy milk")
    laptop("online")

    assert laptop("sync") == ['"Buy soy milk" was changed elsewhere']
    assert_alike(person, laptop, phone)
    assert person.titles() == ["Buy oat milk", "Buy soy milk"]


def test_changes_of_different_fields_both_stand(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2]"""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    laptop("offline")
    phone("edit", "Buy milk -> Buy oat milk")
    phone("sync")
    laptop("done", "Buy milk")
    laptop("online")

    assert laptop("sync") == []
    assert_alike(person, laptop, phone)
    (task,) = person.tasks()
    assert (task["title"], task["is_completed"]) == ("Buy oat milk", True)


def test_what_was_changed_elsewhere_is_not_deleted(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2]"""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    laptop("offline")
    phone("edit", "Buy milk -> Buy oat milk")
    phone("sync")
    laptop("rm", "Buy milk")
    laptop("online")

    assert laptop("sync") == ['"Buy milk" was changed elsewhere']
    assert_alike(person, laptop, phone)
    assert person.titles() == ["Buy oat milk"]


def test_text_for_what_was_deleted_elsewhere_is_kept(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[D1]"""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    laptop("offline")
    phone("rm", "Buy milk")
    phone("sync")
    laptop("note", "Buy milk -> Two litres")
    laptop("online")

    assert laptop("sync") == ['"Buy milk" was changed elsewhere']
    assert_alike(person, laptop, phone)
    (task,) = person.tasks()
    assert (task["title"], task["description"]) == ("Buy milk", "Two litres")


def test_what_was_deleted_can_be_restored(devices: tuple[Device, Device], person: Person) -> None:
    """[D1] A tombstone satisfies the schema; a document that is there again gets its own text."""
    phone, laptop = devices
    made = phone("add", "Buy milk")
    phone("note", "Buy milk -> Two litres")
    phone("sync")
    laptop("sync")
    phone("rm", "Buy milk")
    phone("sync")
    assert laptop("sync") == []
    assert laptop.tasks() == person.tasks() == []

    phone("restore", "Buy milk")

    assert phone("sync") == []
    assert_alike(person, phone, laptop)
    (task,) = person.tasks()
    assert (task["id"], task["title"], task["description"]) == (made, "Buy milk", None)


def test_a_client_that_restarts_goes_on(devices: tuple[Device, Device], person: Person) -> None:
    """[F2] With what it had not pushed yet, and where it was."""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("sync")
    phone.wire.cut = ""
    phone("edit", "Buy milk -> Buy oat milk")
    phone("add", "Buy bread")
    laptop("add", "Call mum")
    laptop("sync")

    assert phone("restart") == "started"
    assert phone.titles() == ["Buy bread", "Buy oat milk"]
    phone.wire.cut = None

    assert_alike(person, phone, laptop)
    assert person.titles() == ["Buy bread", "Buy oat milk", "Call mum"]
    assert sorted(outcomes(phone)) == [200, 201, 201]


def test_a_client_that_restarts_before_a_pull_takes_its_own_document_for_its_own(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2] The version that its push made is forgotten: a conflict, and one that loses nothing."""
    phone, _ = devices
    phone("sync")
    phone.wire.cut = "/changes"
    phone("add", "Buy milk")
    wait_until(lambda: person.titles() == ["Buy milk"])
    phone("restart")
    phone("edit", "Buy milk -> Buy oat milk")
    wait_until(lambda: person.titles() == ["Buy oat milk"])
    phone.wire.cut = None

    assert_alike(person, phone)
    assert outcomes(phone)[:2] == [201, 412]


def test_a_batch_whose_answer_was_lost_is_done_once(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[I1] And what was changed in the meantime is not lost, though it was to the old state."""
    phone, laptop = devices
    phone("sync")
    phone.wire.loses = "/batch"
    phone("add", "Buy milk")
    wait_until(lambda: person.titles() == ["Buy milk"])
    phone("edit", "Buy milk -> Buy oat milk")
    told = phone("sync")

    lost, again, *_ = phone.wire.sent("/batch")
    assert told == ["fetch failed"]
    assert lost.key == again.key
    assert again.headers["Idempotent-Replayed"] == "true"
    assert_alike(person, phone, laptop)
    assert person.titles() == ["Buy oat milk"]
    assert set(outcomes(phone)) == {200, 201}


def test_a_client_away_for_months_begins_anew(
    devices: tuple[Device, Device], person: Person, months_pass: Callable[[], None]
) -> None:
    """[F1] 410: what went meanwhile goes here too, without a tombstone; what waits is pushed."""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("add", "Call mum")
    phone("sync")
    laptop("sync")
    laptop("offline")
    laptop("add", "Buy bread")
    (milk,) = (task for task in person.tasks() if task["title"] == "Buy milk")
    person.call("DELETE", f"tasks/{milk['id']}?permanent=true")
    phone("edit", "Call mum -> Call dad")
    phone("sync")
    months_pass()
    laptop("online")

    assert laptop("sync") == []
    assert 410 in [each.status for each in laptop.wire.sent("/changes")]
    assert_alike(person, laptop, phone)
    assert person.titles() == ["Buy bread", "Call dad"]


def test_many_documents_go_out_in_batches(devices: tuple[Device, Device], person: Person) -> None:
    """[B6] RxDB pushes several at once; and a pull has more pages than one."""
    phone, laptop = devices
    phone("offline")
    for number in range(MANY):
        phone("add", f"Task {number}")
    phone("online")
    phone.wire.loses = "/batch"

    phone("sync")

    assert_alike(person, phone, laptop)
    assert len(person.tasks()) == MANY
    keys = [each.key for each in phone.wire.sent("/batch")]
    assert len(set(keys)) >= MANY / 10
    assert len(keys) == len(set(keys)) + 1  # the one whose answer was lost


def test_a_page_without_documents_is_not_the_end(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[F1] Where everything on a page has changed again since; RxDB would stop there."""
    phone, laptop = devices
    phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    (task,) = person.tasks()
    for batch in range(3):
        titles = [f"Buy {batch * 100 + number} litres" for number in range(100)]
        updates = [{"op": "update", "id": task["id"], "data": {"title": title}} for title in titles]
        person.call("POST", "batch", {"operations": updates})

    assert laptop("sync") == []

    assert laptop.titles() == ["Buy 299 litres"]


def test_what_the_server_can_not_take_is_told_and_blocks_nothing(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[T5] A title without anything to see, which RxDB's schema lets pass."""
    phone, _ = devices
    phone("add", "Buy milk")
    phone("sync")
    phone("edit", f"Buy milk -> {ZERO_WIDTH_SPACE}")
    phone("add", "Buy bread")

    assert "The request is not valid. `details` names what is wrong." in phone("sync")
    assert_alike(person, phone)
    assert person.titles() == ["Buy bread", "Buy milk"]


def test_a_busy_server_is_asked_again(devices: tuple[Device, Device], person: Person) -> None:
    """When it said that it should be."""
    phone, _ = devices
    phone("sync")
    phone.wire.busy = [503]
    began = monotonic()

    phone("add", "Buy milk")
    phone("sync")

    assert monotonic() - began >= 1
    assert_alike(person, phone)
