"""[B7] Bodies that break off, over real sockets: 400 and no effect, on every route."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from pytest_django import DjangoDbBlocker

from accounts.models import RemovedIdentity, User
from tasks.models import Task, TaskList
from tests.conftest import PASSWORD, begin_session, personal_token
from tests.openapi import read_document
from tests.serve.conftest import Server, read_answer, running

pytestmark = pytest.mark.django_db  # so that there is a test database

EMAIL = "breaks@example.com"
ANNOUNCED = "Content-Length: 400"
CHUNKED = "Transfer-Encoding: chunked"


class State:
    """Somebody with a task and a token, and what may not change of it all."""

    def __init__(self) -> None:
        self.user = User.objects.create_user(EMAIL, PASSWORD, name="Before")
        self.pair = begin_session(self.user)
        personal_token(self.user)
        self.identity = self.user.identities.create(issuer="https://i", subject="before")
        self.task = Task.objects.create(user_id=self.user.pk, title="Before", labels=["before"])
        self.list = TaskList.objects.create(user_id=self.user.pk, name="Before")

    def now(self) -> Any:
        """Everything that a request could have changed."""
        users = list(User.objects.order_by("pk").values())
        sessions = list(self.user.sessions.order_by("pk").values())
        tokens = list(self.user.personal_tokens.order_by("pk").values())
        identities = list(self.user.identities.order_by("pk").values())
        tasks = list(Task.objects.order_by("pk").values())
        lists = list(TaskList.objects.order_by("pk").values())
        return users, sessions, tokens, identities, tasks, lists, len(mail.outbox)


@pytest.fixture(scope="module")
def state(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[State]:
    with django_db_blocker.unblock():
        mail.outbox = []
        state = State()
        yield state
        state.user.delete()
        RemovedIdentity.objects.all().delete()  # the mark of it


@pytest.fixture(scope="module")
def unlimited(
    database: str, access: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("broken"), database) as server:
        yield server


def operations() -> list[tuple[str, str]]:
    """Each that could change something, with a body or without."""
    methods = ("post", "put", "patch", "delete")
    return [
        (method.upper(), path)
        for path, item in read_document()["paths"].items()
        for method in methods
        if method in item
    ]


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        pytest.param(ANNOUNCED, b"", id="announced, nothing"),
        pytest.param(ANNOUNCED, b"{}", id="announced, in the middle"),
        pytest.param(CHUNKED, b"", id="chunks, nothing"),
        pytest.param(CHUNKED, b"2\r\n{", id="in a chunk"),
        pytest.param(CHUNKED, b"2\r\n{}\r\n", id="behind a chunk"),
        pytest.param(CHUNKED, b"2\r\n{}\r\n0\r\n", id="before the last line"),
    ],
)
@pytest.mark.parametrize(("method", "path"), operations())
def test_broken_body_has_no_effect(
    method: str, path: str, coding: str, sent: bytes, unlimited: Server, state: State
) -> None:
    before = state.now()
    target = path.format(
        user_id="me",
        task_id=state.task.pk,
        list_id=state.list.pk,
        label=state.task.labels[0],
        session_id=next(iter(before[1]))["id"],
        token_id=next(iter(before[2]))["id"],
        identity_id=state.identity.pk,
    )
    head = (
        f"{method} {target} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {state.pair.access}\n"
        f"Content-Type: application/json\n{coding}"
    )
    client = unlimited.send(head, sent)
    client.shutdown(socket.SHUT_WR)

    status, body = read_answer(client)

    assert (status, json.loads(body)["error"]["code"]) == (400, "PARSE_ERROR")
    assert state.now() == before
