"""A TCP proxy before PostgreSQL that counts round trips, times them, and makes them longer.

A round trip begins when a client sends after it has got an answer to what it sent before; whatever
it sends until the next answer comes belongs to the same one. So a pipeline of several statements is
one. Counts are exact with a delay; without one an answer may overtake the rest of a pipeline.

Threads, and not an event loop, because a sleep of 1 ms is exact to a tenth in a thread, while an
event loop waits in whole milliseconds.
"""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 256 * 1024
POSTGRES_PORT = 5432
_Late = queue.SimpleQueue[tuple[float, bytes]]  # when to pass it on, and what; b"" is the end


class DelayingProxy:
    """Counts and times all of its connections together; read it while nothing is under way."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.delay_s = 0.0  # added to each round trip; may be changed at any time
        self.round_trips = 0
        self.waited_s = 0.0  # by clients, from the begin of a round trip to the end of its answer
        self._upstream = upstream
        self._lock = threading.Lock()

    def accept(self, listener: socket.socket) -> None:
        """Serves clients until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(self, client, server)
            for work in (link.receive_questions, link.pass_questions, link.pass_answers):
                threading.Thread(target=work, daemon=True).start()

    def add(self, *, round_trips: int = 0, waited_s: float = 0.0) -> None:
        with self._lock:
            self.round_trips += round_trips
            self.waited_s += waited_s


class _Link:
    """One client's connection, and its own to the server."""

    def __init__(self, proxy: DelayingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._late: _Late = queue.SimpleQueue()
        self._is_answered = True
        self._waits_since = 0.0

    def receive_questions(self) -> None:
        while chunk := _receive(self._client):
            now = time.perf_counter()
            if self._is_answered:
                self._is_answered = False
                self._waits_since = now
                self._proxy.add(round_trips=1)
            self._late.put((now + self._proxy.delay_s, chunk))
        self._late.put((0.0, b""))

    def pass_questions(self) -> None:
        while True:
            due, chunk = self._late.get()
            if not chunk:
                break
            time.sleep(max(0.0, due - time.perf_counter()))
            _send(self._server, chunk)
        _close(self._server)

    def pass_answers(self) -> None:
        while chunk := _receive(self._server):
            now = time.perf_counter()
            self._proxy.add(waited_s=now - self._waits_since)
            self._waits_since = now
            self._is_answered = True  # before the client can send what comes next
            _send(self._client, chunk)
        _close(self._client)


@contextmanager
def delaying_proxy(database_url: str) -> Iterator[tuple[DelayingProxy, str]]:
    """A proxy during the block, and the database's URL through it."""
    parts = urlsplit(database_url)
    assert parts.hostname is not None, "PostgreSQL by TCP alone"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        proxy = DelayingProxy((parts.hostname, parts.port or POSTGRES_PORT))
        threading.Thread(target=proxy.accept, args=(listener,), daemon=True).start()
        user, at, _ = parts.netloc.rpartition("@")
        yield proxy, urlunsplit((parts.scheme, f"{user}{at}127.0.0.1:{port}", *parts[2:]))
        # Wakes accept(), which closing alone does not.
        listener.shutdown(socket.SHUT_RDWR)


def _receive(end: socket.socket) -> bytes:
    """b"" at the end, however it came."""
    with suppress(OSError):
        return end.recv(CHUNK_BYTES)
    return b""


def _send(end: socket.socket, chunk: bytes) -> None:
    with suppress(OSError):  # its reader notices
        end.sendall(chunk)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
