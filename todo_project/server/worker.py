"""One worker process: its threads read requests, have the application answer them, and send.

Each thread takes whatever connection has something to read or room to write, and does all that can
be done for it without waiting for its client: so slow clients hold no thread, whichever way they
are slow. What is held for them in memory is bounded, for all of them together.
"""

import errno
import logging
import os
import select
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from .application import Application, answer_request, common_environ
from .messages import CONTINUE, Request, RequestReader, empty_answer

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 64 * 1024
ACCEPT_MAX = 16  # in one turn, so that other connections have theirs
# Kept open, most of them idle; more wait in the kernel until one is closed. 1,000 clients at once
# must fit into one process, because the kernel does not spread them evenly.
CONNECTIONS_MAX = 2048
# What the kernel holds of answers for each connection, doubled for its own needs. Left to itself it
# would hold 4 MiB. Enough for 1 MB/s over a way of a tenth of a second.
SEND_BUFFER_BYTES = 128 * 1024
# What is kept of unread answers and of bodies on their way, of all connections. The largest page
# is 1 MiB, the documentation's largest file 1.6 MB. Beyond it those end that moved least.
HELD_MAX_BYTES = 64 * 1024 * 1024
# A client that takes nothing of its answer for so long is gone. The kernel asks for more only when
# a third of its buffer is free: so this is 2 KB/s.
WRITE_STALL_SECONDS = 30
# An answer to a request that was not read whole: so long, and for so much, the rest is thrown away,
# because the kernel would take the answer back where it were not read.
LINGER_SECONDS = 2
LINGER_BYTES = 4 * 1024 * 1024
# The deadline of a connection that a thread works for.
WORKING = float("inf")
TICK_SECONDS = 1.0
STOPPING_TICK_SECONDS = 0.05
# How long the kernel goes on for a client that doesn't take what was sent to it.
TCP_USER_TIMEOUT_MILLISECONDS = 30_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a worker serves."""

    threads: int
    # Of a connection between requests; also what a whole head, and a whole body, may take.
    keep_alive_seconds: int
    body_max_bytes: int


class Connection:
    """One client's. Whatever thread was woken for it owns it until it waits again."""

    __slots__ = (
        "address",
        "answer_bytes",
        "deadline",
        "held_bytes",
        "is_ended",
        "is_last_answer",
        "is_watched",
        "lingered_bytes",
        "moved_at",
        "reader",
        "socket",
        "unsent",
    )

    def __init__(self, client: socket.socket, address: str, reader: RequestReader) -> None:
        self.socket = client
        self.address = address
        self.reader = reader
        self.unsent: memoryview | None = None  # the rest of an answer
        self.answer_bytes = 0  # of the whole of it, which is kept until the rest is sent
        self.held_bytes = 0
        self.deadline = 0.0
        self.moved_at = time.monotonic()
        self.is_last_answer = False
        self.is_watched = False  # by epoll
        self.is_ended = False
        self.lingered_bytes: int | None = None  # None: it doesn't


class Worker:
    """Serves what `listener` accepts, until SIGTERM comes or the parent is gone.

    SIGTERM must be blocked in the thread that makes and runs it.
    """

    def __init__(self, listener: socket.socket, application: Application, options: Options) -> None:
        self._listener = listener
        self._application = application
        self._options = options
        self._parent = os.getppid()
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._held_bytes = 0
        self._lock = threading.Lock()  # of all that threads share, and of closing sockets
        self._is_accepting = False
        self._is_stopping = False
        host, port = listener.getsockname()[:2]
        self._common = common_environ(host, port, is_multiprocess=True)

    def run(self) -> None:
        """Returns when every request that had begun has its answer."""
        self._accept_on()
        for number in range(self._options.threads):
            threading.Thread(target=self._work, name=f"server-{number}", daemon=True).start()
        while not (self._is_stopping and not self._connections):
            tick = STOPPING_TICK_SECONDS if self._is_stopping else TICK_SECONDS
            told = signal.sigtimedwait({signal.SIGTERM}, tick) is not None
            # After the parent was killed outright it would serve on, unwatched.
            if told or os.getppid() != self._parent:
                self._stop()
            self._end_overdue()

    def _stop(self) -> None:
        self._is_stopping = True
        with self._lock:
            self._accept_off()
            self._listener.close()

    def _end_overdue(self) -> None:
        """Ends connections whose time is over, and idle ones when the worker stops."""
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.deadline == WORKING:
                continue
            is_idle = connection.reader.is_idle and connection.unsent is None
            if now > connection.deadline or (self._is_stopping and is_idle):
                self._end(connection)

    # Threads.

    def _work(self) -> None:
        listener = self._listener.fileno()
        while True:
            for descriptor, _ in self._epoll.poll(maxevents=1):
                if descriptor == listener:
                    self._accept()
                elif (connection := self._connections.get(descriptor)) is not None:
                    self._serve(connection)

    def _accept(self) -> None:
        for _ in range(ACCEPT_MAX):
            try:
                client, address = self._listener.accept()
            except BlockingIOError:  # another thread or process was faster
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    logger.exception("no descriptor is left for a connection")
                    time.sleep(0.1)  # or it would be tried at once, and for ever
                return
            client.setblocking(False)
            with suppress(OSError):  # gone already
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(client, address[0], RequestReader(self._options.body_max_bytes))
            with self._lock:
                self._connections[client.fileno()] = connection
                if len(self._connections) >= CONNECTIONS_MAX:
                    self._accept_off()
            self._serve(connection)  # what it asks for has usually come with it

    def _serve(self, connection: Connection) -> None:
        """Does what can be done for a connection without waiting, and has it watched again."""
        connection.deadline = WORKING
        try:
            wanted = self._advance(connection)
        except OSError:  # the client is gone
            wanted = 0
        except Exception:
            logger.exception("defect of the server")
            wanted = 0
        if not wanted or connection.is_ended:
            self._close(connection)
            return
        self._hold(connection)
        try:
            if connection.is_watched:
                self._epoll.modify(connection.socket, wanted | select.EPOLLONESHOT)
            else:
                connection.is_watched = True
                self._epoll.register(connection.socket, wanted | select.EPOLLONESHOT)
        except (OSError, ValueError):
            self._close(connection)

    def _advance(self, connection: Connection) -> int:
        """Returns what to wait for: EPOLLIN, EPOLLOUT, or 0 where the connection has ended."""
        if connection.is_ended:
            return 0
        if connection.unsent is not None:
            if not self._send(connection, connection.unsent):
                return select.EPOLLOUT
            return self._answer_all(connection)
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return self._wait_for_more(connection)
        if connection.lingered_bytes is not None:
            return self._throw_away(connection, data)
        connection.moved_at = time.monotonic()
        if data:
            connection.reader.feed(data)
        else:
            connection.reader.feed_end()
        return self._answer_all(connection)

    def _answer_all(self, connection: Connection) -> int:
        """Answers the requests that have come, one behind the other. Returns as _advance()."""
        reader = connection.reader
        while not connection.is_last_answer:
            request = reader.next()
            if request is not None:
                data = self._answer(connection, request)
            elif reader.fault is not None:
                connection.is_last_answer = True
                data = empty_answer(reader.fault)
            elif reader.has_ended:
                return 0
            else:
                if reader.must_continue():
                    connection.socket.send(CONTINUE)
                return self._wait_for_more(connection)
            if not self._send(connection, data):
                return select.EPOLLOUT
        return self._linger(connection) if reader.has_ended else 0

    def _wait_for_more(self, connection: Connection) -> int:
        if self._is_stopping and connection.reader.is_idle:
            return 0
        connection.deadline = time.monotonic() + self._options.keep_alive_seconds
        return select.EPOLLIN

    def _answer(self, connection: Connection, request: Request) -> bytes:
        """What the application says."""
        data, connection.is_last_answer = answer_request(
            self._application, request, self._common, connection.address, self._stops
        )
        return data

    def _stops(self) -> bool:
        return self._is_stopping

    def _send(self, connection: Connection, data: bytes | memoryview) -> bool:
        """Sends what the kernel takes; False where a part is left, in `unsent`."""
        try:
            size = connection.socket.send(data)
        except BlockingIOError:
            size = 0
        now = time.monotonic()
        if size:
            connection.moved_at = now
        if size == len(data):
            connection.unsent = None
            return True
        if connection.unsent is None:
            connection.answer_bytes = len(data)
        connection.unsent = memoryview(data)[size:]
        connection.deadline = connection.moved_at + WRITE_STALL_SECONDS
        return False

    def _linger(self, connection: Connection) -> int:
        """Waits for the client to see its answer, before what it still sends makes it vanish."""
        connection.socket.shutdown(socket.SHUT_WR)
        connection.lingered_bytes = 0
        connection.deadline = time.monotonic() + LINGER_SECONDS
        return select.EPOLLIN

    def _throw_away(self, connection: Connection, data: bytes) -> int:
        assert connection.lingered_bytes is not None
        connection.lingered_bytes += len(data)
        if not data or connection.lingered_bytes > LINGER_BYTES:
            return 0
        connection.deadline = time.monotonic() + LINGER_SECONDS
        return select.EPOLLIN

    # What the threads share.

    def _hold(self, connection: Connection) -> None:
        """Counts what is kept for a connection; where it is too much in all, ends the slowest."""
        unsent = connection.unsent
        held = connection.reader.body_bytes + (0 if unsent is None else connection.answer_bytes)
        if held == connection.held_bytes:
            return
        with self._lock:
            self._held_bytes += held - connection.held_bytes
            connection.held_bytes = held
            surplus = self._held_bytes - HELD_MAX_BYTES
            holders = [c for c in self._connections.values() if c.held_bytes] if surplus > 0 else []
        for holder in sorted(holders, key=lambda c: c.moved_at):
            if surplus <= 0:
                break
            surplus -= holder.held_bytes
            self._end(holder)

    def _end(self, connection: Connection) -> None:
        """Has a connection closed by whichever thread is woken by its end."""
        with self._lock, suppress(OSError):
            connection.is_ended = True
            connection.socket.shutdown(socket.SHUT_RDWR)

    def _close(self, connection: Connection) -> None:
        with self._lock:
            self._held_bytes -= connection.held_bytes
            connection.held_bytes = 0
            connection.unsent = None
            self._connections.pop(connection.socket.fileno(), None)
            connection.socket.close()
            if not self._is_accepting and not self._is_stopping:
                self._accept_on()

    def _accept_on(self) -> None:
        self._is_accepting = True
        # Of several processes one is woken.
        self._epoll.register(self._listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _accept_off(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self._epoll.unregister(self._listener)
