"""The HTTP server by itself: one worker, in this process, with an application of the test's."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http.client import HTTPResponse, IncompleteRead
from types import SimpleNamespace
from typing import Any

import pytest

from tests.processes import PATIENCE_S, wait_until
from todo_project.server import worker
from todo_project.server.supervisor import listening
from todo_project.server.worker import Options, Worker

BODY_MAX = 1000
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
KEEP_ALIVE_SECONDS = 600  # nothing ends by it while a test waits for its end
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
LARGE = b"x" * (1024 * 1024)


class Pieces(Iterator[bytes]):
    """An answer that is made while it is read: `count` mebibytes, and an empty block at first."""

    def __init__(self, count: int, *, breaks_off: type[Exception] | None = None) -> None:
        self.count = count
        self.breaks_off = breaks_off
        self.made = -1
        self.closed = 0

    def __next__(self) -> bytes:
        self.made += 1
        if self.made > self.count:
            raise StopIteration
        if self.made == self.count and self.breaks_off is not None:
            raise self.breaks_off("on purpose")
        return LARGE if self.made else b""

    def close(self) -> None:
        self.closed += 1


class Running:
    """A worker whose application answers `/large` with a mebibyte and echoes everything else.

    But `/pieces`, to which it answers `pieces`.
    """

    pieces: Pieces

    def __init__(self, listener: socket.socket, options: Options) -> None:
        self.port: int = listener.getsockname()[1]
        self.calls = 0
        self.at_work = threading.Event()
        self.may_go_on = threading.Event()
        self.worker = Worker(listener, self.application, options, parent=os.getppid())
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.clients: list[socket.socket] = []

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, worker.DRAIN_SIGNAL})
        self.worker.run()

    def application(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.calls += 1
        body = LARGE
        match environ["PATH_INFO"]:
            case "/large":
                pass
            case "/fails":
                raise RuntimeError("a defect")
            case "/waits":
                self.at_work.set()
                assert self.may_go_on.wait(PATIENCE_S)
                body = b"waited"
            case "/unread":
                body = b"unread"
            case "/pieces":
                start("200 OK", [])
                return self.pieces
            case _:
                body = environ["wsgi.input"].read() or b"nothing"
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body] if body is LARGE else (body,)

    def connect(self, sent: bytes = b"", *, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", self.port))
        client.sendall(sent)
        self.clients.append(client)
        return client

    def stop(self) -> None:
        self.may_go_on.set()
        for client in self.clients:
            client.close()
        self.worker.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    @property
    def held_bytes(self) -> int:
        return self.worker._held_bytes

    @property
    def connections(self) -> int:
        return len(self.worker._connections)

    def waits_for(self, sent: bytes) -> bool:
        """The only client, of whom all that was sent is read, and who has a deadline by now."""
        connections = list(self.worker._connections.values())
        return len(connections) == 1 and all(
            each.deadline != worker.WORKING
            and (each.unsent is not None or each.reader.is_idle is not bool(sent))
            for each in connections
        )

    @property
    def moved_at(self) -> float:
        """When any client moved last."""
        return max(each.moved_at for each in list(self.worker._connections.values()))


@pytest.fixture
def running() -> Iterator[Running]:
    with listening("127.0.0.1", 0) as listener:
        server = Running(
            listener,
            Options(threads=2, keep_alive_seconds=KEEP_ALIVE_SECONDS, body_max_bytes=BODY_MAX),
        )
        yield server
        server.stop()


def answer_of(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    response = HTTPResponse(client, method=method)
    response.begin()
    return response.status, response.read()


def test_requests_on_one_connection(running: Running) -> None:
    client = running.connect()
    for body in (b"a", b"bc", b""):
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer_of(client) == (200, body or b"nothing")
    assert running.connections == 1


def test_requests_sent_ahead_are_answered_in_order(running: Running) -> None:
    bodies = [b"%d" % number for number in range(40)]
    client = running.connect(
        b"".join(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies)
    )
    with client.makefile("rb") as file:
        answers = [_answer_from(file) for _ in bodies]
    assert answers == bodies


def _answer_from(file: Any) -> bytes:
    length = 0
    while (line := file.readline()) != b"\r\n":
        name, _, value = line.partition(b": ")
        if name == b"Content-Length":
            length = int(value)
    body: bytes = file.read(length)
    return body


def test_one_hundred_continue_is_said_once(running: Running) -> None:
    client = running.connect(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"a")
    client.sendall(b"b")
    assert answer_of(client) == (200, b"ab")


def test_failing_application_is_500_and_no_more(running: Running) -> None:
    client = running.connect(b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer_of(client) == (500, b"")
    assert client.recv(1) == b""
    assert answer_of(running.connect(GET + b"\r\n")) == (200, b"nothing")


def test_slow_clients_hold_no_thread(running: Running) -> None:
    """Neither with heads nor with bodies that never end, nor by not reading."""
    for _ in range(20):
        running.connect(b"GET /a HTTP/1.1\r\nHos")
        running.connect(POST + b"Content-Length: 9\r\n\r\nab")
        running.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
    assert answer_of(running.connect(GET + b"\r\n")) == (200, b"nothing")


def test_slow_reader_gets_everything(running: Running) -> None:
    client = running.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
    wait_until(lambda: running.held_bytes > len(LARGE))
    assert answer_of(client) == (200, LARGE)
    wait_until(lambda: running.held_bytes == 0)
    client.sendall(GET + b"\r\n")
    assert answer_of(client) == (200, b"nothing")


def test_last_answer_to_a_slow_reader_ends_the_connection(running: Running) -> None:
    client = running.connect(
        b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", receive_buffer=4096
    )
    wait_until(lambda: running.held_bytes > len(LARGE))
    assert answer_of(client) == (200, LARGE)
    assert client.recv(1) == b""


PIECES = b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n"


def test_answer_is_made_while_it_is_read(running: Running) -> None:
    """[X4] No piece before the one before it was taken, whose reader holds no thread meanwhile."""
    running.pieces = Pieces(6)
    client = running.connect(PIECES, receive_buffer=4096)
    wait_until(lambda: running.held_bytes > len(LARGE))
    others = [answer_of(running.connect(GET + b"\r\n")) for _ in range(8)]
    made, held = running.pieces.made, running.held_bytes

    answer = HTTPResponse(client)
    answer.begin()

    assert others == [(200, b"nothing")] * 8
    assert made == 1
    assert held < 2 * len(LARGE)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert answer.read() == 6 * LARGE
    assert running.pieces.closed == 1
    client.sendall(GET + b"\r\n")
    assert answer_of(client) == (200, b"nothing")


def test_answer_in_pieces_to_an_old_client(running: Running) -> None:
    """HTTP/1.0 has no chunks: the body ends with the connection."""
    running.pieces = Pieces(3)
    client = running.connect(b"GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = HTTPResponse(client)
    answer.begin()

    assert answer.headers["Connection"] == "close"
    assert "Transfer-Encoding" not in answer.headers
    assert answer.read() == 3 * LARGE


def test_head_makes_no_piece(running: Running) -> None:
    running.pieces = Pieces(3)
    client = running.connect(PIECES.replace(b"GET", b"HEAD"))

    assert answer_of(client, "HEAD") == (200, b"")
    assert (running.pieces.made, running.pieces.closed) == (-1, 1)
    client.sendall(GET + b"\r\n")
    assert answer_of(client) == (200, b"nothing")


@pytest.mark.parametrize("error", [ConnectionAbortedError, RuntimeError], ids=["told", "a defect"])
def test_answer_that_breaks_off_is_seen_to(
    error: type[Exception], running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """[X3] The connection ends before the body does. A defect is logged here, if nowhere else."""
    running.pieces = Pieces(3, breaks_off=error)
    client = running.connect(PIECES)
    answer = HTTPResponse(client)
    answer.begin()

    with pytest.raises(IncompleteRead) as caught:
        answer.read()

    assert caught.value.partial == 2 * LARGE
    wait_until(lambda: running.pieces.closed == 1)
    assert len(caplog.records) == (error is RuntimeError)
    assert answer_of(running.connect(GET + b"\r\n")) == (200, b"nothing")


def test_answer_that_breaks_off_is_seen_by_an_old_client(running: Running) -> None:
    """[X3] To whom the end of the connection is that of the body: it is no end in order."""
    running.pieces = Pieces(3, breaks_off=ConnectionAbortedError)
    client = running.connect(b"GET /pieces HTTP/1.0\r\n\r\n")
    answer = HTTPResponse(client)
    answer.begin()

    with pytest.raises(ConnectionResetError):
        answer.read()


@pytest.mark.parametrize("is_told", [True, False], ids=["gone", "silent"])
def test_answer_whose_reader_is_gone_is_let_go(
    is_told: bool, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WRITE_STALL_SECONDS", 0.0)
    running.pieces = Pieces(100)
    client = running.connect(PIECES, receive_buffer=4096)
    if is_told:
        client.close()

    wait_until(lambda: running.pieces.closed == 1)
    assert running.pieces.made < 100


def test_stop_lets_pieces_come_to_their_end(running: Running) -> None:
    running.pieces = Pieces(6)
    client = running.connect(PIECES, receive_buffer=4096)
    wait_until(lambda: running.held_bytes > len(LARGE))
    running.worker.stop()

    assert answer_of(client) == (200, 6 * LARGE)


def test_unread_answers_are_bounded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """[N2] Beyond the bound whoever moved least is ended; a reader is not."""
    monkeypatch.setattr(worker, "HELD_MAX_BYTES", 5 * len(LARGE))
    ask = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    for number in range(3):
        running.connect(ask, receive_buffer=4096)
        wait_until(lambda n=number: running.held_bytes > (n + 1) * len(LARGE))  # type: ignore[misc]
    reader = running.connect(ask, receive_buffer=4096)
    wait_until(lambda: running.held_bytes > 4 * len(LARGE))
    received = b""
    for number in range(3):
        before = running.moved_at
        received += receive(reader, 250_000)
        wait_until(lambda moved=before: running.moved_at > moved)  # type: ignore[misc]
        running.connect(ask, receive_buffer=4096)
        wait_until(lambda n=number: running.calls == n + 5)  # type: ignore[misc]
        wait_until(lambda: running.held_bytes <= 5 * len(LARGE))
    wait_until(lambda: running.connections <= 5)
    received += receive(reader, len(LARGE) - len(received))
    assert b"200 OK" in received


def receive(client: socket.socket, size: int) -> bytes:
    """So many bytes at least."""
    received = b""
    while len(received) < size:
        piece = client.recv(65536)
        assert piece, "ended too early"
        received += piece
    return received


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        pytest.param(b"GET /a HTTP/1.1\r\nX: ", b"x", id="head"),
        pytest.param(POST + b"Content-Length: 900\r\n\r\n", b"x", id="body"),
        pytest.param(CHUNKED + b"1;", b"x", id="extension of a chunk"),
        pytest.param(b"", b"\r\n", id="empty lines"),
        pytest.param(POST + b"Content-Length: 900000\r\n\r\n", b"x", id="behind the answer"),
    ],
)
def test_dripping_gains_no_time(
    head: bytes, drop: bytes, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head and a body have a time each, and the rest of a refused body has one."""
    options = Options(threads=2, keep_alive_seconds=2, body_max_bytes=BODY_MAX)
    monkeypatch.setattr(running.worker, "_options", options)
    client = running.connect(head)
    wait_until(lambda: running.connections == 1)

    def has_ended() -> bool:
        with suppress(OSError):
            client.send(drop)
        return running.connections == 0

    wait_until(has_ended)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", id="reads nothing"),
        pytest.param(b"", id="sends nothing"),
        pytest.param(b"GET /a HT", id="half a head"),
        pytest.param(POST + b"Content-Length: 9\r\n\r\nab", id="half a body"),
    ],
)
def test_whoever_does_not_move_is_ended(
    sent: bytes, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.connect(sent, receive_buffer=4096)
    wait_until(lambda: running.waits_for(sent))
    later = max(KEEP_ALIVE_SECONDS, worker.WRITE_STALL_SECONDS) + 1
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later, sleep=time.sleep)
    monkeypatch.setattr(worker, "time", clock)
    wait_until(lambda: running.connections == 0)
    assert running.held_bytes == 0


def test_refusal_is_seen_before_the_rest_was_sent(running: Running) -> None:
    """The kernel takes an answer back where the connection is closed with bytes unread."""
    client = running.connect(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
    with suppress(ConnectionError):
        client.sendall(b"x" * 2_000_000)
    assert answer_of(client) == (200, b"unread")


@pytest.mark.parametrize("path", [b"/large", b"/pieces"])
def test_nothing_is_done_behind_the_last_answer(path: bytes, running: Running) -> None:
    """What was sent ahead of it, its client sends again on another connection. RFC 9112, 9.6."""
    running.pieces = Pieces(1)
    running.worker._is_draining = True
    ahead = POST + b"Content-Length: 1\r\n\r\na"
    client = running.connect(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path + ahead)

    assert answer_of(client) == (200, LARGE)
    client.shutdown(socket.SHUT_WR)
    wait_until(lambda: running.connections == 0)
    assert running.calls == 1


def test_stop_answers_what_had_begun(running: Running) -> None:
    idle = running.connect(GET + b"\r\n")
    assert answer_of(idle) == (200, b"nothing")
    at_work = running.connect(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    assert running.at_work.wait(PATIENCE_S)
    half_sent = running.connect(POST + b"Content-Length: 2\r\n\r\na")
    wait_until(lambda: running.connections == 3)

    running.worker.stop()

    assert idle.recv(1) == b""
    half_sent.sendall(b"b")
    assert answer_of(half_sent) == (200, b"ab")
    running.may_go_on.set()
    assert answer_of(at_work) == (200, b"waited")
    running.thread.join(PATIENCE_S)
    assert not running.thread.is_alive()


def test_connections_beyond_the_most_take_the_idlest_ones_place(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens as many as there may be, and sends nothing, shuts nobody out."""
    options = Options(threads=2, keep_alive_seconds=20, body_max_bytes=BODY_MAX, connections_max=3)
    monkeypatch.setattr(running.worker, "_options", options)
    idle = [running.connect() for _ in range(3)]
    wait_until(lambda: running.connections == 3)

    late = running.connect(GET + b"\r\n")

    assert answer_of(late) == (200, b"nothing")
    assert idle[0].recv(1) == b""
    wait_until(lambda: running.connections == 3)


def test_worker_without_its_parent_stops(running: Running) -> None:
    running.worker._parent = os.getpid()  # which is not its parent's
    running.thread.join(PATIENCE_S)
    assert not running.thread.is_alive()
