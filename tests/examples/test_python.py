"""The command-line client of examples/python with a real server: nothing is lost, nothing twice."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from accounts.models import User
from tests.conftest import PASSWORD
from tests.examples.conftest import Person
from tests.examples.wire import Wire
from tests.processes import PATIENCE_S, PROJECT, direct_database_url
from tests.serve.conftest import running

pytestmark = pytest.mark.django_db(transaction=True)

PROGRAM = PROJECT / "examples" / "python" / "todo.py"
MANY = 120  # more than one batch holds


@dataclass(frozen=True)
class Device:
    """A file of the program, and the network that the device is in. Each command is a process."""

    file: Path
    wire: Wire

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, PROGRAM, "--file", self.file, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={"PATH": os.environ["PATH"]},
        )

    def __call__(self, *arguments: str) -> str:
        """A command that succeeds: what it prints."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.strip()

    def fails(self, *arguments: str) -> str:
        """A command that doesn't: what it says."""
        done = self.run(*arguments)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    def sign_in(self, person: Person, *, password: str = PASSWORD) -> str:
        done = self.run("sign-in", self.wire.address, person.email, stdin=f"{password}\n")
        return done.stderr.strip()

    def queue(self, operations: Sequence[Any]) -> None:
        """As many commands would."""
        self("list")  # makes the file
        rows = [(json.dumps(operation),) for operation in operations]
        with sqlite3.connect(self.file) as file:
            file.executemany("INSERT INTO queue (operation) VALUES (?)", rows)

    def lines(self, *options: str) -> list[str]:
        """Of the list, without ids."""
        shown = self("list", *options).splitlines()
        return sorted(f"{line[:4]}{line[11:]}" for line in shown)


@pytest.fixture
def devices(person: Person, wires: tuple[Wire, Wire], tmp_path: Path) -> tuple[Device, Device]:
    phone, laptop = (
        Device(tmp_path / name, wire) for name, wire in zip(("phone", "laptop"), wires, strict=True)
    )
    for device in (phone, laptop):
        assert device.sign_in(person) == ""
    return phone, laptop


def test_two_devices_offline_by_turns_end_alike(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[F1] [F2] [B6]"""
    phone, laptop = devices
    phone.wire.cut = ""
    milk = phone("add", "Buy milk", "--description", "Two litres")
    bread = phone("add", "Buy bread")
    phone("done", milk)
    phone("edit", bread, "--title", "Buy rye bread")
    assert phone.lines() == ["[ ] Buy rye bread *"]
    assert "Nothing is lost." in phone.fails("sync")

    call = laptop("add", "Call mum")
    laptop("sync")
    laptop.wire.cut = ""
    laptop("edit", call, "--description", "Her birthday")
    gone = laptop("add", "Never mind")
    laptop("rm", gone)

    phone.wire.cut = None
    phone("sync")
    laptop.wire.cut = None
    laptop("sync")
    phone("sync")

    everything = ["[ ] Buy rye bread", "[ ] Call mum", "[x] Buy milk"]
    texts = ["    Her birthday", "    Two litres"]
    assert phone.lines("--all") == [*texts, *everything]
    assert laptop.lines("--all") == sorted([*texts, "[-] Never mind", *everything])
    assert phone.lines() == laptop.lines() == [texts[0], *everything[:2]]
    assert person.titles() == ["Buy milk", "Buy rye bread", "Call mum"]


def test_an_edit_of_what_was_edited_elsewhere_overwrites_nothing(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2] Both texts stay, and the person is told."""
    phone, laptop = devices
    task = phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    phone("edit", task, "--title", "Buy oat milk")
    laptop("edit", task, "--title", "Buy soy milk")
    laptop("edit", task, "--description", "One litre")

    assert phone("sync") == ""
    told = laptop("sync")
    phone("sync")

    assert told == (
        '"Buy soy milk" was changed, and is "Buy oat milk" now, elsewhere meanwhile. '
        'What you wrote is a task of its own now, "Buy soy milk".'
    )
    assert person.titles() == ["Buy oat milk", "Buy soy milk"]
    both = ["    One litre", "[ ] Buy oat milk", "[ ] Buy soy milk"]
    assert phone.lines() == laptop.lines() == both


def test_edits_of_different_fields_both_stand(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2] The version was another one, but there is nothing to ask the person about."""
    phone, laptop = devices
    task = phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    phone("edit", task, "--title", "Buy oat milk")
    phone("done", task)
    laptop("edit", task, "--description", "One litre")

    assert phone("sync") == ""
    assert laptop("sync") == ""

    (left,) = person.tasks()
    assert (left["title"], left["description"]) == ("Buy oat milk", "One litre")
    assert left["is_completed"] is True


def test_an_edit_of_what_was_seen_only_after_it_overwrites_nothing(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2] A pull between the edit and its sending doesn't make the edit one of the new version."""
    phone, laptop = devices
    task = phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    laptop("edit", task, "--title", "Buy soy milk")
    phone("edit", task, "--title", "Buy oat milk")
    phone("sync")
    (seen,) = person.tasks()
    with sqlite3.connect(laptop.file) as file:
        file.execute("UPDATE copy SET task = ?", (json.dumps(seen),))

    laptop("sync")

    assert person.titles() == ["Buy oat milk", "Buy soy milk"]


def test_a_deletion_spares_what_was_edited_elsewhere(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[V2]"""
    phone, laptop = devices
    task = phone("add", "Buy milk")
    phone("sync")
    laptop("sync")
    phone("edit", task, "--title", "Buy oat milk")
    laptop("rm", task)
    phone("sync")

    assert laptop("sync") == (
        '"Buy milk" was changed, and is "Buy oat milk" now, elsewhere meanwhile: '
        'your "delete" was left out.'
    )
    assert laptop.lines() == ["[ ] Buy oat milk"]
    assert person.titles() == ["Buy oat milk"]


def test_text_for_what_was_deleted_elsewhere_is_kept(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[D1]"""
    phone, laptop = devices
    task = phone("add", "Buy milk")
    call = phone("add", "Call mum")
    phone("sync")
    laptop("sync")
    phone("rm", task)
    phone("rm", call)
    laptop("edit", task, "--description", "Two litres")
    laptop("done", call)
    phone("sync")

    told = laptop("sync").splitlines()
    phone("sync")

    assert told == [
        (
            '"Buy milk" was deleted elsewhere meanwhile. '
            'What you wrote is a task of its own now, "Buy milk".'
        ),
        '"Call mum" was deleted elsewhere meanwhile: your "complete" was left out.',
    ]
    assert phone.lines() == laptop.lines() == ["    Two litres", "[ ] Buy milk"]
    assert person.titles() == ["Buy milk"]


def test_what_was_deleted_on_one_device_is_restored_on_the_other(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[D1] Both know it as deleted; so does a second deletion of the same."""
    phone, laptop = devices
    task = phone("add", "Buy milk", "--description", "Two litres")
    phone("sync")
    laptop("sync")
    phone("rm", task)
    laptop("rm", task)
    phone("sync")
    assert laptop("sync") == ""
    assert person.titles() == []
    assert laptop.lines() == []

    laptop("restore", task)
    laptop("edit", task, "--title", "Buy oat milk")
    laptop("sync")
    phone("sync")

    assert phone.lines() == laptop.lines() == ["    Two litres", "[ ] Buy oat milk"]
    assert person.titles() == ["Buy oat milk"]


def test_what_is_gone_for_good_can_not_be_restored(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[D1]"""
    phone, _ = devices
    task = phone("add", "Buy milk")
    phone("sync")
    (made,) = person.tasks()
    person.call("DELETE", f"tasks/{made['id']}?permanent=true")
    phone("sync")
    assert phone.lines("--all") == ["[-] Buy milk"]

    phone("restore", task)
    assert phone("sync") == (
        '"Buy milk" was deleted elsewhere meanwhile: your "restore" was left out.'
    )
    assert phone.lines("--all") == ["[-] Buy milk"]


@pytest.mark.parametrize("command", ["add", "edit", "rm"])
def test_a_batch_whose_answer_was_lost_is_done_once(
    command: str, devices: tuple[Device, Device], person: Person
) -> None:
    """[I1] The same goes out again under the same key, by another process."""
    phone, _ = devices
    task = phone("add", "Buy milk")
    phone("sync")
    arguments = {"add": ["Buy bread"], "edit": [task, "--title", "Buy oat milk"], "rm": [task]}
    phone(command, *arguments[command])
    phone.wire.loses = "/batch"

    assert "Nothing is lost." in phone.fails("sync")
    done = person.call("GET", "changes")
    late = phone("add", "Later")
    phone("edit", late, "--title", "Much later")
    assert phone("sync") == ""

    lost, again, *others = phone.wire.sent("/batch")[1:]
    assert lost.key == again.key
    assert "Idempotent-Replayed" not in lost.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len({lost.key, *(other.key for other in others)}) == 3
    titles = {
        "add": ["Buy bread", "Buy milk", "Much later"],
        "edit": ["Buy oat milk", "Much later"],
        "rm": ["Much later"],
    }
    assert person.titles() == titles[command]
    versions = {change["id"]: change["version"] for change in done}
    assert {task["id"]: task["version"] for task in person.tasks()}.items() >= versions.items()
    assert phone.lines() == [f"[ ] {title}" for title in titles[command]]


def test_a_key_that_the_server_has_forgotten_makes_nothing_twice(
    devices: tuple[Device, Device], person: Person, database: str
) -> None:
    """[I1] After a day the ids and the versions still do."""
    phone, _ = devices
    task, other = phone("add", "Buy milk"), phone("add", "Call mum")
    phone("sync")
    phone("edit", task, "--title", "Buy oat milk")
    phone("rm", other)
    phone("add", "Buy bread")
    phone.wire.loses = "/batch"
    phone.fails("sync")
    before = person.tasks()
    with psycopg.connect(direct_database_url(database)) as connection:
        connection.execute("DELETE FROM todo_project_idempotencykey")

    assert phone("sync") == ""

    assert "Idempotent-Replayed" not in phone.wire.sent("/batch")[-1].headers
    assert person.tasks() == before
    assert person.titles() == ["Buy bread", "Buy oat milk"]
    assert phone.lines() == ["[ ] Buy bread", "[ ] Buy oat milk"]


def test_a_device_away_for_months_begins_anew(
    devices: tuple[Device, Device], person: Person, months_pass: Callable[[], None]
) -> None:
    """[F1] 410: what went meanwhile goes here too, without a tombstone; the queue is kept."""
    phone, laptop = devices
    gone, kept = phone("add", "Buy milk"), phone("add", "Call mum")
    phone("sync")
    laptop("sync")
    laptop("add", "Buy bread")
    (milk,) = (task for task in person.tasks() if task["title"] == "Buy milk")
    person.call("DELETE", f"tasks/{milk['id']}?permanent=true")
    phone("edit", kept, "--title", "Call dad")
    phone("sync")
    months_pass()

    assert laptop("sync") == ""

    assert [each.status for each in laptop.wire.sent("/changes")][-3:] == [200, 410, 200]
    assert laptop.lines("--all") == ["[ ] Buy bread", "[ ] Call dad", "[-] Buy milk"]
    assert person.titles() == ["Buy bread", "Call dad"]
    assert gone


def test_a_position_of_another_server_begins_anew(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[F1] 400: with other secrets, say."""
    phone, _ = devices
    phone("add", "Buy milk")
    phone("sync")
    with sqlite3.connect(phone.file) as file:
        file.execute("UPDATE note SET value = 'forged' WHERE name = 'since'")

    phone("sync")

    assert [each.status for each in phone.wire.sent("/changes")][-2:] == [400, 200]
    assert phone.lines() == ["[ ] Buy milk"]


def test_a_long_queue_goes_out_in_batches(devices: tuple[Device, Device], person: Person) -> None:
    """[B6] At most 100 operations each; more pages of changes than one, too."""
    phone, laptop = devices
    operations = [
        {"op": "create", "id": str(uuid4()), "data": {"title": f"Task {number}"}}
        for number in range(MANY)
    ]
    phone.queue(operations)

    phone("sync")
    laptop("sync")

    assert len(phone.wire.sent("/batch")) == 2
    assert len(person.tasks()) == len(laptop.lines()) == MANY


def test_a_batch_that_is_too_large_is_cut(devices: tuple[Device, Device], person: Person) -> None:
    """[B6] By its own bytes, and where the server says that its answer would be too large."""
    phone, _ = devices
    text = "\x01" * 20_000  # of six bytes each, as JSON
    operations = [
        {"op": "create", "id": str(uuid4()), "data": {"title": f"{number}", "description": text}}
        for number in range(40)
    ]
    phone.queue(operations)
    phone("sync")
    phone.queue(
        [
            {"op": "complete", "id": operation["id"], "data": {"is_completed": True}}
            for operation in operations
        ]
    )

    phone("sync")

    statuses = [each.status for each in phone.wire.sent("/batch")]
    assert 413 not in statuses
    assert statuses[-3:] == [400, 200, 200]
    assert len(phone.lines()) == 0


def test_an_operation_that_is_refused_leaves_the_others(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[B6]"""
    phone, _ = devices
    long = phone("add", "x" * 256)
    phone("edit", long, "--description", "The second operation on it")
    phone("add", "Buy milk")

    told = phone("sync")

    assert told.startswith(f'The server refused to create "{"x" * 256}": title: ')
    assert person.titles() == ["Buy milk"]
    assert phone.lines() == ["[ ] Buy milk"]


def test_tokens_are_renewed(devices: tuple[Device, Device], person: Person) -> None:
    """[S2] Even where the answer with the new ones was lost."""
    phone, _ = devices
    phone("add", "Buy milk")
    with sqlite3.connect(phone.file) as file:
        file.execute("UPDATE note SET value = 'expired' WHERE name = 'access'")
    phone.wire.loses = "/refresh"

    assert "Nothing is lost." in phone.fails("sync")
    phone("sync")

    assert [each.status for each in phone.wire.sent("/refresh")] == [200, 200]
    assert person.titles() == ["Buy milk"]


def test_a_session_that_ended_keeps_the_queue(
    devices: tuple[Device, Device], person: Person
) -> None:
    """[S3]"""
    phone, _ = devices
    phone("add", "Buy milk")
    with sqlite3.connect(phone.file) as file:
        file.execute("UPDATE note SET value = 'x' WHERE name IN ('access', 'refresh')")

    assert phone.fails("sync") == "Your session has ended. Sign in again; your queue is kept."
    assert phone.lines() == ["[ ] Buy milk *"]
    assert phone.sign_in(person) == ""
    phone("sync")

    assert person.titles() == ["Buy milk"]


def test_a_busy_server_is_asked_again(devices: tuple[Device, Device], person: Person) -> None:
    """When it said that it should be."""
    phone, _ = devices
    phone("add", "Buy milk")
    phone.wire.busy = [429, 503]
    began = monotonic()

    phone("sync")

    assert monotonic() - began >= 2
    assert person.titles() == ["Buy milk"]


def test_a_server_that_restarts_is_no_event(
    devices: tuple[Device, Device], person: Person, database: str, tmp_path: Path
) -> None:
    phone, _ = devices
    phone("add", "Buy milk")
    phone("sync")
    phone("add", "Buy bread")
    (tmp_path / "second").mkdir()
    with running(tmp_path / "second", database, processes=1) as second:
        phone.wire.to = second.port
        phone("sync")

    assert person.titles() == ["Buy bread", "Buy milk"]


def test_a_file_is_one_persons_own(
    devices: tuple[Device, Device], bob: User, person: Person
) -> None:
    """It is readable by nobody else on the machine, and takes nobody else's tokens."""
    phone, _ = devices
    assert stat.S_IMODE(phone.file.stat().st_mode) == 0o600
    assert bob.email is not None

    told = phone.sign_in(replace(person, email=bob.email))

    assert told == "This file has somebody else's tasks. Choose another with --file."


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "  "], "A task needs a title."),
        (["edit", "1"], "Name a --title or a --description."),
        (["done", "zz"], "0 tasks have an id that ends in zz."),
        (["restore", "1"], "0 deleted tasks have an id that ends in 1."),
        (["sign-in", "ftp://example.com", "a@example.com"], "The address has to begin with "),
        (["sync"], "Sign in first: "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_can_not_be_done_is_told(
    arguments: list[str], told: str, wires: tuple[Wire, Wire], tmp_path: Path
) -> None:
    phone = Device(tmp_path / "phone", wires[0])
    phone.queue([{"op": "create", "id": f"{uuid4()}"[:-1] + "1", "data": {"title": "Buy milk"}}])

    assert phone.fails(*arguments).startswith(told)


def test_a_wrong_password_is_told(person: Person, wires: tuple[Wire, Wire], tmp_path: Path) -> None:
    phone = Device(tmp_path / "phone", wires[0])

    assert "INVALID_CREDENTIALS" in phone.sign_in(person, password="wrong horse battery staple")
