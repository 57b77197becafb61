"""`manage.py runserver` reads and writes HTTP as the production server does."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import database_url, production, start, wait_until
from tests.serve.conftest import LIMITS_OFF, Server, read_answer

pytestmark = pytest.mark.django_db  # so that there is a test database

CHUNKS = b'd\r\n{"title": "in\r\nb\r\n two parts"\r\n1\r\n}\r\n0\r\n\r\n'


class DevelopmentServer(Server):
    """A running `manage.py runserver`, with the reloader: a child that is started by a parent."""

    def __init__(self, folder: Path, database: str, **variables: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = start(
                "runserver",
                f"127.0.0.1:{self.port}",
                env=production(
                    DATABASE_URL=database_url(database), DEBUG="true", **{**LIMITS_OFF, **variables}
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.clients = []
        wait_until(self.is_ready)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevelopmentServer]:
    server = DevelopmentServer(tmp_path_factory.mktemp("development"), database)
    try:
        yield server
    finally:
        server.end()


def _head(line: str, access: str, *fields: str) -> str:
    common = ("Host: 127.0.0.1", f"Authorization: Bearer {access}", "Connection: close")
    return "\n".join((line, *common, "Content-Type: application/json", *fields))


def test_body_in_chunks(server: DevelopmentServer, access: str) -> None:
    head = _head("POST /api/me/tasks HTTP/1.1", access, "Transfer-Encoding: chunked")

    status, body = read_answer(server.send(head, CHUNKS))

    assert status == 201, body
    assert json.loads(body)["data"]["title"] == "in two parts"


@pytest.mark.parametrize(
    ("field", "sent"),
    [("Transfer-Encoding: chunked", CHUNKS[:-5]), ("Content-Length: 400", b'{"title": "x"}')],
    ids=["chunks", "announced"],
)
def test_body_that_breaks_off(
    field: str, sent: bytes, server: DevelopmentServer, access: str
) -> None:
    """[B7]"""
    client = server.send(_head("POST /api/me/tasks HTTP/1.1", access, field), sent)
    client.shutdown(socket.SHUT_WR)

    status, body = read_answer(client)

    assert (status, json.loads(body)["error"]["code"]) == (400, "PARSE_ERROR")


def test_body_that_is_too_large(server: DevelopmentServer, access: str) -> None:
    head = _head("POST /api/me/tasks HTTP/1.1", access, "Content-Length: 1000000")

    status, body = read_answer(server.send(head, b" " * 1_000_000))

    assert (status, json.loads(body)["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_no_content_has_no_length(server: DevelopmentServer, access: str) -> None:
    """RFC 9110, section 8.6. The connection goes on."""
    client = server.connect()
    headers = {"Authorization": f"Bearer {access}", "Content-Type": "application/json"}
    client.request("POST", "/api/me/tasks", '{"title": "x"}', headers)
    task = json.loads(client.getresponse().read())["data"]["id"]

    client.request("DELETE", f"/api/me/tasks/{task}", headers=headers)
    deleted = client.getresponse()
    deleted.read()
    client.request("GET", "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js")
    static = client.getresponse()

    assert (deleted.status, deleted.getheader("Content-Length")) == (204, None)
    assert static.status == 200
    assert len(static.read()) == int(static.getheader("Content-Length", "0"))


def test_what_is_no_http(server: DevelopmentServer) -> None:
    assert read_answer(server.send("NO HTTP\nHost: x")) == (400, b"")


def test_ctrl_c_ends_it(database: str, tmp_path: Path) -> None:
    server = DevelopmentServer(tmp_path, database)
    idle = server.connect()
    idle.request("GET", "/livez")
    assert idle.getresponse().read()

    try:
        for process in (server.process, *server.workers()):  # a terminal tells them all
            process.send_signal(signal.SIGINT)

        assert server.process.wait(timeout=20) == 0
    finally:
        server.end()
    assert "Traceback" not in server.log.read_text()
