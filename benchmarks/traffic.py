"""What people ask for: streams of requests, of one route or mixed.

wrk.lua sends the same for each route.
"""

import itertools
import json
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from .dataset import Account, Doomed

ROUTES = ("list", "read", "create", "complete", "put", "patch", "delete")
READ_ROUTES = frozenset({"list", "read"})

PRIORITIES = ("none", "low", "medium", "high", "urgent")
# Tasks become due within a year from the first of these days, which no seeded task starts after.
POSTPONED_DAYS = 60
YEAR_DAYS = 365


@dataclass(frozen=True)
class Request:
    """`route` is one of ROUTES, and names the request in reports."""

    route: str
    method: str
    path: str
    access: str
    content: Any = None

    def encoded(self) -> bytes:
        body = b"" if self.content is None else json.dumps(self.content).encode()
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {self.access}\r\n"
        )
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body


def of_route(
    route: str, accounts: Sequence[Account], doomed: Sequence[Doomed] = ()
) -> Iterator[Request]:
    """Requests of one route, each by a random account; of `delete` as many as there are `doomed`.

    Nearly every write changes something: titles are numbered, days go on, completion alternates;
    only a priority may be the task's already.
    """
    if route == "delete":
        for task in doomed:
            owner = accounts[task.owner]
            yield _delete(owner, str(task.task_id))
        return
    changed: dict[object, bool] = {}
    for number in itertools.count():
        account = random.choice(accounts)
        task_id, was_completed = random.choice(account.tasks)
        completed = changed[task_id] = not changed.get(task_id, was_completed)
        match route:
            case "list":
                yield list_page(account, "limit=20")
            case "read":
                yield _read(account, str(task_id))
            case "create":
                yield _create(account, number)
            case "complete":
                yield _complete(account, str(task_id), completed=completed)
            case "put":
                yield _put(account, str(task_id), number, completed=completed)
            case "patch":
                yield _patch(account, str(task_id), number)


def of_person(
    account: Account, *, reads_per_write: int, deletable: Iterable[UUID] = ()
) -> Generator[Request, bytes, None]:
    """What one person does, at random and without end; takes the body of each answer.

    Reads are lists and reads of one task, writes create, complete, change and delete tasks, each as
    often. What is deleted was created here or is one of `deletable`; a person who has neither
    creates a task instead.
    """
    left_to_delete = [str(task_id) for task_id in deletable]
    changed: dict[object, bool] = {}
    for number in itertools.count():
        task_id, was_completed = random.choice(account.tasks)
        if random.randrange(reads_per_write + 1):
            if random.randrange(2):
                yield list_page(account, "limit=20")
            else:
                yield _read(account, str(task_id))
            continue
        match random.choice(("create", "complete", "patch", "delete")):
            case "complete":
                completed = changed[task_id] = not changed.get(task_id, was_completed)
                yield _complete(account, str(task_id), completed=completed)
            case "patch":
                yield _patch(account, str(task_id), number)
            case "delete" if left_to_delete:
                yield _delete(account, left_to_delete.pop())
            case _:
                body = yield _create(account, number)
                left_to_delete.append(json.loads(body)["data"]["id"])


def list_page(account: Account, query: str) -> Request:
    return Request("list", "GET", f"{_list_path(account)}?{query}", account.access)


def _read(account: Account, task_id: str) -> Request:
    return Request("read", "GET", f"{_list_path(account)}/{task_id}", account.access)


def _create(account: Account, number: int) -> Request:
    content = {
        "title": f"Write a report, number {number}",
        "due_on": _day(number),
        "priority": PRIORITIES[number % 5],
        "labels": ["work", "letters"][: number % 3],
    }
    if number % 3 == 0:
        content["description"] = "Ask first. Only mornings."
    return Request("create", "POST", _list_path(account), account.access, content)


def _complete(account: Account, task_id: str, *, completed: bool) -> Request:
    path = f"{_list_path(account)}/{task_id}/complete"
    return Request("complete", "PATCH", path, account.access, {"is_completed": completed})


def _put(account: Account, task_id: str, number: int, *, completed: bool) -> Request:
    content = {
        "title": f"Replaced, number {number}",
        "description": "Ask first. Only mornings.",
        "is_completed": completed,
        "priority": PRIORITIES[number % 5],
        "labels": ["work", "letters"],
        "due_on": _day(number),
        "due_time": "18:30",
        "time_zone": "Europe/Berlin",
        "start_on": _day(0),
        "list_id": str(account.lists[number % len(account.lists)]) if account.lists else None,
    }
    return Request("put", "PUT", f"{_list_path(account)}/{task_id}", account.access, content)


def _patch(account: Account, task_id: str, number: int) -> Request:
    """The title, the day or the priority, each as often."""
    changes: Sequence[Mapping[str, Any]] = (
        {"title": f"Changed, number {number}"},
        {"due_on": _day(number)},
        {"priority": PRIORITIES[number % 5]},
    )
    path = f"{_list_path(account)}/{task_id}"
    return Request("patch", "PATCH", path, account.access, changes[number % 3])


def _day(number: int) -> str:
    days = POSTPONED_DAYS + number % YEAR_DAYS
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def _delete(account: Account, task_id: str) -> Request:
    return Request("delete", "DELETE", f"{_list_path(account)}/{task_id}", account.access)


def _list_path(account: Account) -> str:
    return f"/api/{account.user_id}/tasks"
