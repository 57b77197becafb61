"""One person and a running server: what is there, and the networks of two devices."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import psycopg
import pytest

from accounts.models import User
from tests.conftest import begin_session
from tests.examples.wire import Wire, laid
from tests.processes import PATIENCE_S, database_url, direct_database_url, production, start
from tests.serve.conftest import Server, database, running  # noqa: F401  # a fixture

TOO_LONG_AGO = "UPDATE todo_project_change SET changed_at = changed_at - interval '91 days'"


@dataclass(frozen=True)
class Person:
    """Somebody, and what they see without any device between."""

    email: str
    access: str
    server: Server

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.access}", "Content-Type": "application/json"}
        port = self.server.port
        with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/api/me/{path}", data, headers)
            answer = connection.getresponse()
            content = answer.read()
        assert answer.status in (200, 201, 204), content
        return json.loads(content)["data"] if content else None

    def tasks(self) -> list[Any]:
        """The oldest first."""
        tasks: list[Any] = self.call("GET", "tasks?ordering=created_at&limit=200")
        return tasks

    def titles(self) -> list[str]:
        return sorted(task["title"] for task in self.tasks())


@pytest.fixture(scope="module")
def server(
    database: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("examples"), database, processes=1) as server:
        yield server


@pytest.fixture
def person(alice: User, server: Server) -> Person:
    """Of a test marked django_db(transaction=True): the server's own connections see her."""
    assert alice.email is not None
    return Person(alice.email, begin_session(alice).access, server)


@pytest.fixture
def wires(server: Server) -> Iterator[tuple[Wire, Wire]]:
    with ExitStack() as stack:
        yield stack.enter_context(laid(server.port)), stack.enter_context(laid(server.port))


@pytest.fixture
def months_pass(database: str) -> Callable[[], None]:  # noqa: F811
    """Makes the server forget every change until now, as it does after 90 days."""

    def pass_() -> None:
        with psycopg.connect(direct_database_url(database)) as connection:
            connection.execute(TOO_LONG_AGO)
        environment = production(DATABASE_URL=database_url(database))
        purge = start("purge_expired", env=environment, stdout=subprocess.PIPE)
        assert purge.wait(PATIENCE_S) == 0
        assert purge.stdout is not None
        purge.stdout.close()

    return pass_
