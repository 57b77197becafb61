"""`manage.py serve` as processes of its own, on the test database."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from accounts.models import User
from tests.conftest import begin_session
from tests.processes import database_url, free_port, production, start, wait_until

PROCESSES = 2
THREADS = 2
# Less than the server's keep-alive: no answer may have to wait until slow clients are given up.
CLIENT_TIMEOUT_S = 60
LIMITS_OFF = {
    f"RATE_LIMIT_{name.upper().replace('-', '_')}": "off" for name in settings.RATE_LIMITS
}


class Server:
    """A running `manage.py serve`; its log and temporary files are in `folder`."""

    def __init__(
        self,
        folder: Path,
        database: str,
        *,
        drain_seconds: int = 0,
        processes: int = PROCESSES,
        **variables: str,
    ) -> None:
        self.port = free_port()
        self.log = folder / "log"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        with self.log.open("w") as log:
            self.process = start(
                "serve",
                f"--port={self.port}",
                f"--processes={processes}",
                f"--threads={THREADS}",
                f"--drain-seconds={drain_seconds}",
                env=production(
                    DATABASE_URL=database_url(database),
                    TMPDIR=str(self.temporary),
                    **{**LIMITS_OFF, **variables},
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.clients: list[HTTPConnection | socket.socket] = []
        wait_until(self.is_ready)

    def connect(self) -> HTTPConnection:
        client = HTTPConnection("127.0.0.1", self.port, timeout=CLIENT_TIMEOUT_S)
        self.clients.append(client)
        return client

    def status(self, path: str, **headers: str) -> int:
        """Of a GET on a connection of its own."""
        with closing(self.connect()) as client:
            client.request("GET", path, headers=headers)
            return client.getresponse().status

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(OSError):
            return self.status("/readyz") == 200
        return False

    def send(self, head: str, body: bytes = b"") -> socket.socket:
        """Opens a connection and sends bytes as they are, for what no client library does."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=CLIENT_TIMEOUT_S)
        self.clients.append(client)
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        return client

    def begin_post(self, path: str, access: str, length: int) -> socket.socket:
        """Returns when the head was read: the server asks for the body, of `length` bytes."""
        client = self.send(
            f"POST {path} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {access}\n"
            f"Content-Type: application/json\nContent-Length: {length}\nExpect: 100-continue"
        )
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        return client

    def has_logged(self, message: str) -> bool:
        return message in self.log.read_text()

    def workers(self) -> list[Any]:
        workers: list[Any] = psutil.Process(self.process.pid).children()
        return workers

    def close_clients(self) -> None:
        while self.clients:
            self.clients.pop().close()

    def end(self) -> None:
        self.close_clients()
        if self.process.poll() is None:
            workers = self.workers()
            self.process.kill()
            for worker in workers:
                worker.kill()
            self.process.wait()

    def assert_silent(self, access: str) -> None:
        """The log has told no secret."""
        log = self.log.read_text()
        secrets = [access, settings.SECRET_KEY, settings.JWT_SIGNING_KEY]
        assert [secret for secret in secrets if secret in log] == []


def read_answer(client: socket.socket) -> tuple[int, bytes]:
    answer = HTTPResponse(client)
    answer.begin()
    return answer.status, answer.read()


@pytest.fixture(scope="session")
def database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> str:
    with django_db_blocker.unblock():
        name = str(connection.settings_dict["NAME"])
    # pytest-django makes the test database only for tests that are marked.
    assert name.startswith("test_"), "Select a test marked django_db, too: `or thread_that_ends`."
    return name


@pytest.fixture(scope="module")
def access(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """An access token of someone whom the server's own connections see."""
    with django_db_blocker.unblock():
        user = User.objects.create(email="serve@example.com")
        token = begin_session(user).access
    yield token
    with django_db_blocker.unblock():
        user.delete()


@contextmanager
def running(folder: Path, database: str, **options: Any) -> Iterator[Server]:
    server = Server(folder, database, **options)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def shared_server(
    database: str, access: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("serve"), database) as server:
        yield server
    server.assert_silent(access)


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """For tests that leave it running."""
    yield shared_server
    shared_server.close_clients()


@pytest.fixture
def own_server(
    database: str, access: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """For tests that end it; a parameter is the length of its drain in seconds."""
    with running(tmp_path, database, drain_seconds=getattr(request, "param", 2)) as server:
        yield server
    server.assert_silent(access)


@pytest.fixture
def headers(access: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access}", "Content-Type": "application/json"}
