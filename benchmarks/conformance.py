"""Looks whether all servers do the same before they are measured."""

import json
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any

from .dataset import Account
from .servers import Server

# The service's tasks have more: what else it does (versions, tags) is none of the others' work.
FIELDS = (
    *("id", "user_id", "title", "description"),
    *("is_completed", "completed_at", "created_at", "updated_at"),
)
OTHER_EACH_TIME = ("id", "completed_at", "created_at", "updated_at")


class DifferenceError(Exception):
    """A server answers otherwise than the first one, or not with success."""


def require_equal_answers(servers: Sequence[Server], account: Account) -> None:
    """Sends every server one request of each route. Raises DifferenceError where answers differ.

    FIELDS of list and read must be equal; of the writes those that aren't OTHER_EACH_TIME.
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

    def send(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        if not 200 <= response.status < 300:
            raise DifferenceError(f"{server.name}: {method} {path}: {response.status} {content!r}")
        return response.status, json.loads(content) if content else None

    status, page = send("GET", f"{path}?limit=20")
    cursor = page["meta"]["next_cursor"]
    answers: list[Any] = [("list", status, _tasks(page), sorted(page["meta"]))]
    if cursor:
        status, page = send("GET", f"{path}?limit=20&cursor={cursor}")
        answers.append(("list, page 2", status, _tasks(page)))
    status, body = send("GET", f"{path}/{account.tasks[0][0]}")
    answers.append(("read", status, _task(body["data"]), sorted(body["meta"])))

    status, body = send("POST", path, {"title": " A task ", "description": "Ask first."})
    answers.append(("create", status, _lasting(body)))
    task = f"{path}/{body['data']['id']}"
    for name, method, url, sent in (
        ("complete", "PATCH", f"{task}/complete", {"is_completed": True}),
        ("put", "PUT", task, {"title": "Another", "description": None, "is_completed": False}),
        ("patch", "PATCH", task, {"title": "A third"}),
    ):
        status, body = send(method, url, sent)
        answers.append((name, status, _lasting(body)))
    answers.append(("delete", *send("DELETE", task)))
    connection.close()
    return answers


def _tasks(page: Any) -> list[dict[str, Any]]:
    return [_task(data) for data in page["data"]]


def _task(data: Any) -> dict[str, Any]:
    return {name: data[name] for name in FIELDS}


def _lasting(body: Any) -> Any:
    """A task's answer; of what is another each time, whether there is any."""
    data = {
        name: bool(value) if name in OTHER_EACH_TIME else value
        for name, value in _task(body["data"]).items()
    }
    return data, sorted(body["meta"])
