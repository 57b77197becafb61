"""`manage.py serve` with real processes: what its HTTP keeps, and how it ends.

What an httptools of another version does otherwise shows here.
"""

import gc
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from tests.processes import PATIENCE_S, wait_until
from tests.serve.conftest import PROCESSES, THREADS, Server, read_answer, running
from tests.smtp import mail_server
from todo_project import VERSION
from todo_project.management.commands import serve
from todo_project.server import supervisor

LIST = "/api/me/tasks"
LIMIT = settings.MAX_BODY_BYTES
HURRY = [signal.SIGTERM, signal.SIGINT, signal.SIGINT]


def task(length: int) -> bytes:
    """A task as JSON, filled up with white space."""
    return b'{"title": "Buy milk"}'.ljust(length)


def test_head_has_no_body(server: Server) -> None:
    client = server.connect()
    client.request("HEAD", "/livez")
    head = client.getresponse()
    assert (head.status, head.read()) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0

    client.request("GET", "/livez")  # would read what had followed the headers
    assert client.getresponse().status == 200


def test_no_content_has_no_body(server: Server, headers: dict[str, str]) -> None:
    client = server.connect()
    client.request("POST", LIST, body=task(0), headers=headers)
    created = client.getresponse()
    location = created.headers["Location"]
    assert (created.status, json.loads(created.read())["data"]["title"]) == (201, "Buy milk")

    client.request("DELETE", location, headers=headers)
    deleted = client.getresponse()
    assert (deleted.status, deleted.read()) == (204, b"")

    client.request("GET", "/livez")
    assert client.getresponse().status == 200


def test_file_to_import_is_read_whole(server: Server, headers: dict[str, str]) -> None:
    """[M7] Of 5 MiB: more than any other route takes."""
    document = b'{"format": "todo-export", "format_version": 1, "tasks": []}'
    file = document.ljust(settings.MAX_IMPORT_BODY_BYTES)
    client = server.connect()

    client.request("POST", "/api/me/import?format=todo", body=file, headers=headers)
    answer = client.getresponse()

    counts = {"created": 0, "merged": 0, "skipped": 0, "failed": 0}
    assert (answer.status, json.loads(answer.read())["data"]["counts"]) == (200, counts)


@pytest.mark.parametrize("path", [LIST, "/import/x", "/api/me/imports", "/?import"])
def test_no_other_body_is_read_so_far(path: str, server: Server) -> None:
    """[M7] The server answers before it has come, whoever sends it."""
    client = server.send(
        f"POST {path} HTTP/1.1\nHost: 127.0.0.1\nContent-Type: application/json\n"
        f"Content-Length: {settings.MAX_BATCH_BODY_BYTES + 1}\nExpect: 100-continue"
    )

    assert not client.recv(4096).startswith(b"HTTP/1.1 100 ")


@pytest.mark.parametrize("sent", ["a%2Fb%2F", "a/b/", "%61%2fb/"])
def test_slash_of_a_label_arrives(sent: str, server: Server, headers: dict[str, str]) -> None:
    """[O3] Percent-encoded or not, at the end as well; and is no other label."""
    client = server.connect()

    def call(method: str, path: str, **body: Any) -> tuple[int, Any]:
        client.request(method, f"/api/me{path}", body=json.dumps(body), headers=headers)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read() or "{}").get("data")

    _, task = call("POST", "/tasks", title="x", labels=["a/b", "a/b/"])

    renamed = call("PATCH", f"/labels/{sent}", name="c/d/")
    again = call("PATCH", f"/labels/{sent}", name="c/d/")
    _, found = call("GET", f"/tasks/{task['id']}")
    removed = call("DELETE", "/labels/c%2Fd%2F")

    assert renamed == (200, {"name": "c/d/", "open_tasks": 1})
    assert again == (404, None)
    assert found["labels"] == ["a/b", "c/d/"]
    assert removed == (204, None)
    assert call("GET", "/labels") == (200, [{"name": "a/b", "open_tasks": 1}])
    call("DELETE", f"/tasks/{task['id']}")


def test_log_tells_no_personal_token(server: Server, headers: dict[str, str]) -> None:
    """[A5] Neither as it is made nor as it is used, well or badly."""
    client = server.connect()
    body = json.dumps({"name": "x", "scopes": ["tasks:read"]})
    client.request("POST", "/api/auth/tokens", body=body, headers=headers)
    made = client.getresponse()
    token = json.loads(made.read())["data"]["token"]

    statuses = [
        server.status(path, Authorization=f"Bearer {sent}")
        for path, sent in (
            (LIST, token),
            (f"{LIST}?token={token}", token),
            ("/api/auth/sessions", token),
            (LIST, token[:-1]),
        )
    ]

    assert statuses == [200, 400, 403, 401]
    assert server.has_logged("/api/auth/tokens")
    assert not server.has_logged(token[5:-1])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(task(0), 201, id="small"),
        pytest.param(task(LIMIT), 201, id="as large as may be"),
        pytest.param(task(LIMIT + 1), 413, id="a byte too large"),
        pytest.param(task(3_000_000), 413, id="much too large"),
        pytest.param(b"", 400, id="empty"),
    ],
)
def test_body_in_chunks_is_read(
    body: bytes, status: int, server: Server, headers: dict[str, str]
) -> None:
    """[B4] Chunks have no Content-Length, without which Django reads nothing at all."""
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    client = server.connect()
    with suppress(ConnectionError):  # refused before all was sent
        client.request("POST", LIST, body=iter(pieces), headers=headers, encode_chunked=True)

    answer = client.getresponse()

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"


def test_length_beside_chunks_is_refused(server: Server, access: str) -> None:
    """RFC 9112, section 6.1: of two lengths a proxy may have believed the other one."""
    body = task(0)
    client = server.send(
        f"POST {LIST} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {access}\n"
        "Content-Type: application/json\nContent-Length: 3\nTransfer-Encoding: chunked",
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    )

    assert read_answer(client)[0] == 400


def test_oversize_body_is_answered_unread(server: Server, headers: dict[str, str]) -> None:
    """[B3] And the next request is answered, too, on whatever connection."""
    client = server.connect()
    with suppress(ConnectionError):
        client.request("POST", LIST, body=task(3_000_000), headers=headers)
    answer = client.getresponse()
    assert answer.status == 413
    assert answer.headers["Connection"] == "close"  # or the client would send its next one into it
    assert json.loads(answer.read())["error"]["code"] == "PAYLOAD_TOO_LARGE"

    client.close()
    client.request("GET", "/livez")
    assert client.getresponse().status == 200


@pytest.mark.parametrize(
    ("length", "first", "last"),
    [pytest.param(0, 100, 201, id="fits"), pytest.param(3_000_000, 413, None, id="too large")],
)
def test_expect_continue(
    length: int, first: int, last: int | None, server: Server, access: str
) -> None:
    body = task(length)
    client = server.send(
        f"POST {LIST} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {access}\n"
        f"Content-Type: application/json\nContent-Length: {len(body)}\nExpect: 100-continue"
    )
    line = client.recv(4096).partition(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 %d " % first)
    if last is not None:
        client.sendall(body)
        assert read_answer(client)[0] == last


@pytest.mark.parametrize(
    ("kibibytes", "status"), [(16, 200), (128, 431)], ids=["promised", "too many"]
)
def test_headers_reach_the_application(kibibytes: int, status: int, server: Server) -> None:
    line = f"X-Filling: {'x' * 4000}"  # more than 100 lines would be refused as such
    padding = "\n".join([line] * (kibibytes * 1024 // len(line)))
    client = server.send(f"GET /livez HTTP/1.1\nHost: 127.0.0.1\nX-Request-ID: seen\n{padding}")

    answered, body = read_answer(client)

    assert answered == status
    assert (b'"seen"' in body) is (status == 200)


@pytest.mark.parametrize("coding", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_client_that_disconnects_does_no_harm(coding: str, server: Server, access: str) -> None:
    workers = server.workers()
    head = f"POST {LIST} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {access}\n"
    for _ in range(4 * PROCESSES * THREADS):
        server.send(f"{head}Content-Type: application/json\n{coding}", b'5\r\n{"tit').close()

    assert server.status("/livez") == 200
    assert server.workers() == workers


@pytest.mark.parametrize("coding", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_slow_bodies_leave_a_thread(coding: str, server: Server) -> None:
    """However many: they wait for a turn, or in it, and the thread that never works reads none."""
    for _ in range(4 * PROCESSES * THREADS):
        server.send(f"POST {LIST} HTTP/1.1\nHost: 127.0.0.1\n{coding}", b'5\r\n{"tit')

    assert server.status("/livez") == 200


def test_sign_ins_at_once_starve_nobody(server: Server, headers: dict[str, str]) -> None:
    """[N1] Until one is refused, 16 clients sign in; the others are answered all the while."""
    body = json.dumps({"email": "nobody@example.com", "password": "a wrong guess"})
    is_over = threading.Event()

    def sign_in(client: HTTPConnection) -> list[tuple[int, str | None]]:
        found = []
        while not is_over.is_set():
            client.request("POST", "/api/auth/token", body, {"Content-Type": "application/json"})
            answer = client.getresponse()
            answer.read()
            found.append((answer.status, answer.headers["Retry-After"]))
        return found

    clients = [server.connect() for _ in range(16)]
    with ThreadPoolExecutor(len(clients)) as pool:
        signing_in = [pool.submit(sign_in, client) for client in clients]
        try:
            others = {
                (path, server.status(path, **headers)) for path in (LIST, "/livez", "/readyz") * 10
            }
        finally:
            is_over.set()
    answers = {answer for future in signing_in for answer in future.result()}

    assert others == {(LIST, 200), ("/livez", 200), ("/readyz", 200)}
    assert answers == {(401, None), (503, "1")}


def test_files_are_served(server: Server) -> None:
    """The documentation's own, by the service itself."""
    client = server.connect()
    client.request("GET", "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css")
    answer = client.getresponse()

    assert answer.status == 200
    assert len(answer.read()) == int(answer.headers["Content-Length"]) > 10_000


def test_worker_that_dies_is_replaced(server: Server) -> None:
    workers = server.workers()
    workers[0].kill()

    wait_until(lambda: workers[0] not in server.workers() and len(server.workers()) == PROCESSES)

    assert server.status("/livez") == 200


def told(server: Server) -> list[tuple[str, datetime]]:
    """What the server's parent process has logged, and when."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [
        (line["message"], datetime.fromisoformat(line["time"]))
        for line in lines
        if line["logger"] in (serve.__name__, supervisor.__name__)
    ]


def test_start_tells_the_version(server: Server) -> None:
    first = json.loads(server.log.read_text().partition("\n")[0])

    assert (first["message"], first["version"]) == ("serving", VERSION)


@pytest.mark.parametrize("own_server", [600], indirect=True, ids=["long drain"])
def test_sigterm_drains_and_then_stops(own_server: Server, access: str) -> None:
    """It is the second one that ends the drain."""
    workers = own_server.workers()
    body = task(0)
    own_server.process.terminate()

    wait_until(lambda: own_server.status("/readyz") == 503)
    assert own_server.status("/livez") == 200
    assert own_server.status(LIST, Authorization=f"Bearer {access}") == 200
    under_way = own_server.begin_post(LIST, access, len(body))
    own_server.process.terminate()
    wait_until(lambda: own_server.has_logged("stopping"))
    under_way.sendall(body)
    assert read_answer(under_way)[0] == 201

    assert own_server.process.wait(PATIENCE_S) == 0
    assert not any(worker.is_running() for worker in workers)
    assert list(own_server.temporary.iterdir()) == []
    assert [message for message, _ in told(own_server)] == [
        *("serving", "draining", "stopping", "stopped")
    ]


@pytest.mark.parametrize("own_server", [2], indirect=True, ids=["short drain"])
def test_drain_lasts_as_long_as_it_was_told(own_server: Server) -> None:
    own_server.process.terminate()

    assert own_server.process.wait(PATIENCE_S) == 0
    times = dict(told(own_server))
    assert times["stopping"] - times["draining"] >= timedelta(seconds=2)


def test_mails_that_were_promised_leave_before_the_end(
    database: str, access: str, tmp_path: Path
) -> None:
    """`access` is of whom they are for."""
    with (
        mail_server() as mails,
        running(
            tmp_path,
            database,
            EMAIL_URL=mails.url,
            PASSWORD_RESET_URL="https://app.example.com/reset?token={token}",
        ) as server,
    ):
        for _ in range(10):
            client = server.connect()
            body = b'{"email": "serve@example.com"}'
            headers = {"Content-Type": "application/json"}
            client.request("POST", "/api/auth/password/reset", body=body, headers=headers)
            assert client.getresponse().status == 202
        server.process.terminate()
        server.close_clients()

        assert server.process.wait(PATIENCE_S) == 0
        assert server.log.read_text().count("mail") == 0
    assert mails.recipients() == ["serve@example.com"] * 10


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGINT], id="Ctrl-C"),
        pytest.param([signal.SIGHUP], id="closed terminal"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], id="twice"),
        pytest.param(HURRY, id="thrice, with a request under way"),
    ],
)
@pytest.mark.parametrize("own_server", [600], indirect=True, ids=["long drain"])
def test_stops_sooner_where_it_is_asked_to(
    signals: list[signal.Signals], own_server: Server, access: str
) -> None:
    under_way = own_server.begin_post(LIST, access, 1000)
    if signals != HURRY:
        under_way.close()
    for number, message in zip(signals, ["", "draining", "stopping"], strict=False):
        wait_until(partial(own_server.has_logged, message))
        os.killpg(own_server.process.pid, number)

    # Before requests under way would be cut off in any case, and long before the end of the drain.
    assert own_server.process.wait(supervisor.STOP_TIMEOUT_SECONDS - 5) == 0


def test_workers_end_when_the_parent_is_killed(own_server: Server) -> None:
    workers = own_server.workers()
    own_server.process.kill()

    wait_until(lambda: not any(worker.is_running() for worker in workers))


def test_refuses_debug(settings: Settings) -> None:
    settings.DEBUG = True

    with pytest.raises(CommandError, match="set DEBUG=false"):
        call_command("serve")


def test_refuses_a_port_that_is_taken() -> None:
    """With SO_REUSEPORT the two would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(CommandError, match=f"Can't listen on 127.0.0.1 port {port}: "):
            call_command("serve", host="127.0.0.1", port=port)


@pytest.mark.parametrize("option", ["port", "processes", "threads", "drain-seconds"])
def test_refuses_numbers_out_of_range(option: str) -> None:
    with pytest.raises(CommandError, match=f"--{option}: valid: "):
        call_command("serve", f"--{option}=-1")


def ready() -> psycopg.Connection[Any]:
    """The connection of a request in this thread that asks the database something."""
    from todo_project.wsgi import application

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/readyz",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "wsgi.input": BytesIO(),
    }
    list(application(environ, lambda *args: lambda _: None))
    used: psycopg.Connection[Any] = connection.connection
    return used


@pytest.mark.django_db
def test_thread_that_ends_leaves_no_connection() -> None:
    """Not even until the garbage collector comes by."""
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as thread:
            used = thread.submit(ready).result()
            assert not used.closed
        assert used.closed
    finally:
        gc.enable()


@pytest.mark.django_db
def test_connection_past_its_age_is_replaced() -> None:
    """Neon suspends a database that nobody uses, and connections to it die then."""

    def expire() -> None:
        connection.close_at = time.monotonic()

    with ThreadPoolExecutor(1) as thread:
        young = thread.submit(ready).result()
        assert thread.submit(ready).result() is young
        thread.submit(expire).result()
        assert thread.submit(ready).result() is not young
        assert young.closed
