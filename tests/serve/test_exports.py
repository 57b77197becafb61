"""The export of a person's data by the servers as they run: piece by piece, as it is read."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from accounts.models import User
from accounts.session_tokens import TokenPair
from tasks.models import Task
from tests.conftest import begin_session
from tests.serve.conftest import Server, read_answer, running
from tests.serve.test_development import DevelopmentServer

pytestmark = pytest.mark.django_db  # so that there is a test database

TASKS = 600  # three pages
DESCRIPTION = "x" * 2_000  # a page is more than the kernel takes for a client
READERS = 4  # more than there are threads


@pytest.fixture(scope="module")
def readers(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[list[TokenPair]]:
    """The tokens of people with several pages of tasks."""
    with django_db_blocker.unblock():
        users = [User.objects.create(email=f"{n}@example.com") for n in range(READERS)]
        for user in users:
            Task.objects.bulk_create(
                (
                    Task(user_id=user.pk, title=str(number), description=DESCRIPTION)
                    for number in range(TASKS)
                ),
                batch_size=300,
            )
        pairs = [begin_session(user) for user in users]
    yield pairs
    with django_db_blocker.unblock():
        for user in users:
            user.delete()


def ask(server: Server, pair: TokenPair) -> HTTPResponse:
    """Begins an export, of which the kernel takes little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(("127.0.0.1", server.port))
    server.clients.append(client)
    client.sendall(
        b"GET /api/auth/me/export HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Authorization: Bearer " + pair.access.encode() + b"\r\n\r\n"
    )
    answer = HTTPResponse(client)
    answer.begin()
    assert answer.status == 200
    return answer


def titles(answer: HTTPResponse) -> list[str]:
    return [task["title"] for task in json.loads(answer.read())["tasks"]]


def log_out(server: Server, pair: TokenPair) -> None:
    body = json.dumps({"refresh": pair.refresh}).encode()
    head = (
        "POST /api/auth/logout HTTP/1.1\nHost: 127.0.0.1\nContent-Type: application/json\n"
        f"Content-Length: {len(body)}"
    )
    assert read_answer(server.send(head, body))[0] == 204


def test_slow_readers_hold_no_thread_and_get_everything(
    database: str, readers: list[TokenPair], access: str, tmp_path: Path
) -> None:
    """[X3] [X4] But for one whose session ends meanwhile."""
    with running(tmp_path, database, processes=1) as server:
        answers = [ask(server, pair) for pair in readers]
        status = server.status("/api/me/tasks", Authorization=f"Bearer {access}")
        log_out(server, readers[0])
        with pytest.raises(IncompleteRead) as caught:
            answers[0].read()
        found = [titles(answer) for answer in answers[1:]]

        assert status == 200
        assert answers[1].headers["Transfer-Encoding"] == "chunked"
        assert found == [[str(number) for number in range(TASKS)]] * (READERS - 1)
        assert b'"title":"199"' in caught.value.partial
        assert b'"title":"599"' not in caught.value.partial
        assert server.has_logged("an answer breaks off")
        assert not server.has_logged("Traceback")
        server.assert_silent(readers[0].access)


def test_development_server_sends_it_too(
    database: str, readers: list[TokenPair], tmp_path: Path
) -> None:
    server = DevelopmentServer(tmp_path, database)
    try:
        answer = ask(server, readers[1])
        found = titles(answer)
    finally:
        server.end()

    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert found == [str(number) for number in range(TASKS)]
