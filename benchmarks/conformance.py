"""Looks whether all servers do the same before they are measured."""

import json
from collections.abc import Sequence
from datetime import datetime
from http.client import HTTPConnection
from typing import Any

from .dataset import Account
from .servers import Server

# The others have no clocks: their versions are a row's own, and their tags and places follow these.
FIELDS = (
    *("id", "user_id", "title", "description", "is_completed", "completed_at", "priority"),
    *("labels", "due_on", "due_time", "time_zone", "due_at", "start_on", "list_id", "parent_id"),
    *("position", "recurrence", "repeat_from", "series_id", "next_task_id", "occurrence_on"),
    "series_start_on",
    *("created_at", "updated_at", "version", "etag"),
)
INSTANTS = (
    "completed_at",
    "due_at",
    "created_at",
    "updated_at",
)  # with as many digits as one likes
OTHER_FOR_EACH_SERVER = ("etag",)
OTHER_EACH_TIME = (
    *("id", "completed_at", "position", "created_at", "updated_at"),
    *("version", "etag"),
)

# A time that clocks skip, and a label that isn't in NFC.
NEW = {
    "title": " A task ",
    "description": "Ask first.",
    "priority": "high",
    "labels": [" cafe\u0301 ", "work"],
    "due_on": "2026-03-29",
    "due_time": "02:30:15",
    "time_zone": "Europe/Berlin",
    "start_on": "2026-03-29",
}
CHANGES = (
    {"title": "A third"},
    {"due_on": "2026-10-25", "due_time": "02:30"},
    {"priority": "none", "labels": []},
    {"time_zone": None},
    {"due_on": None, "due_time": None},
)
# Of fields that are bad, or that don't fit what is there: a task without a day.
BAD = (
    {"title": " "},
    {"title": "A\ntask"},
    {"priority": "higher"},
    {"priority": None},
    {"labels": ["a,b"]},
    {"labels": ["a", " a"]},
    {"labels": ["x" * 51]},
    {"labels": [str(number) for number in range(51)]},
    {"labels": None},
    {"due_on": "2026-02-30"},
    {"due_on": 20260228},
    {"due_on": "2026-02-28", "due_time": "09:30:15.5"},
    {"due_on": "2026-02-28", "due_time": "24:00"},
    {"due_time": "09:30"},
    {"due_on": "2026-02-28", "time_zone": "Europe/Berlin"},
    {"due_on": "2026-02-28", "due_time": "09:30", "time_zone": "Berlin"},
    {"due_on": "2026-02-28", "start_on": "2026-03-01"},
    {"list_id": "00000000-0000-7000-8000-000000000000"},
    {"list_id": "inbox"},
    {"colour": "red"},
)


class DifferenceError(Exception):
    """A server answers otherwise than the first one, or not with success."""


def require_equal_answers(servers: Sequence[Server], account: Account) -> None:
    """Sends every server some requests of each route. Raises DifferenceError where answers differ.

    FIELDS of list and read must be equal, but for those that are OTHER_FOR_EACH_SERVER; of the
    writes those that aren't OTHER_EACH_TIME. What is BAD has to be refused.
    """
    expected: list[Any] | None = None
    for server in servers:
        answers = _answers(server, account)
        if expected is None:
            expected = answers
        elif answers != expected:
            pairs = zip(answers, expected, strict=True)
            first = next(pair for pair in pairs if pair[0] != pair[1])
            raise DifferenceError(f"{server.name}: {first[0]}\n{servers[0].name}: {first[1]}")


def _answers(server: Server, account: Account) -> list[Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    path = f"/api/{account.user_id}/tasks"
    headers = {"Authorization": f"Bearer {account.access}", "Content-Type": "application/json"}

    def respond(method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()

    def send(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, content = respond(method, path, body)
        if not 200 <= status < 300:
            raise DifferenceError(f"{server.name}: {method} {path}: {status} {content!r}")
        return status, json.loads(content) if content else None

    status, page = send("GET", f"{path}?limit=20")
    cursor = page["meta"]["next_cursor"]
    answers: list[Any] = [("list", status, _tasks(page), sorted(page["meta"]))]
    if cursor:
        status, page = send("GET", f"{path}?limit=20&cursor={cursor}")
        answers.append(("list, page 2", status, _tasks(page)))
    status, body = send("GET", f"{path}/{account.tasks[0][0]}")
    answers.append(("read", status, _task(body["data"]), sorted(body["meta"])))

    status, body = send("POST", path, NEW)
    answers.append(("create", status, _lasting(body)))
    task = f"{path}/{body['data']['id']}"
    replacement = {
        **NEW,
        "title": "Another",
        "description": None,
        "is_completed": False,
        "list_id": str(account.lists[0]),
    }
    for name, method, url, sent in (
        ("complete", "PATCH", f"{task}/complete", {"is_completed": True}),
        ("put", "PUT", task, replacement),
        *(("patch", "PATCH", task, changes) for changes in CHANGES),
    ):
        status, body = send(method, url, sent)
        answers.append((name, status, _lasting(body)))
    for bad in BAD:
        for method, url, sent in (("POST", path, {"title": "x", **bad}), ("PATCH", task, bad)):
            status, _ = respond(method, url, sent)
            if status not in (400, 422):
                raise DifferenceError(f"{server.name}: {method} of {sent}: {status}")
    answers.append(("delete", *send("DELETE", task)))
    connection.close()
    return answers


def _tasks(page: Any) -> list[dict[str, Any]]:
    return [_task(data) for data in page["data"]]


def _task(data: Any, other: Sequence[str] = OTHER_FOR_EACH_SERVER) -> dict[str, Any]:
    """A task's fields; of those that are another, whether there is anything."""
    return {name: bool(data[name]) if name in other else _value(name, data) for name in FIELDS}


def _value(name: str, data: Any) -> Any:
    if name in INSTANTS and data[name] is not None:
        return datetime.fromisoformat(data[name])
    return data[name]


def _lasting(body: Any) -> Any:
    return _task(body["data"], OTHER_EACH_TIME), sorted(body["meta"])
