"""One worker process: its threads read requests, have the application answer them, and send.

Each thread takes whatever connection has something to read or room to write, and does all that can
be done for it without waiting for its client: so slow clients hold no thread, whichever way they
are slow. What is held for them in memory is bounded, for all of them together. Of an answer that is
made while it is read, that is a piece: the next one is made when it is sent, by whichever thread.
"""

import errno
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from struct import pack

from .application import Application, Rest, answer_request, common_environ
from .messages import CONTINUE, Request, RequestReader, empty_answer

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 64 * 1024
# In one turn, so that other connections have theirs.
ACCEPT_MAX = 16
ANSWERS_MAX = 16
# Kept open, most of them idle; for one more that which is idle for longest is ended. 1,000 clients
# at once must fit into one process, because they are not spread evenly.
CONNECTIONS_MAX = 2048
# Descriptors for other things than clients.
DESCRIPTORS_BESIDE = 128
# What the kernel holds of answers for each connection, doubled for its own needs. Left to itself it
# would hold 4 MiB. Enough for 1 MB/s over a way of a tenth of a second.
SEND_BUFFER_BYTES = 128 * 1024
# And of what clients send while nobody reads it.
RECEIVE_BUFFER_BYTES = 128 * 1024
# What is kept of unread answers and of bodies on their way, of all connections. The largest page
# is 1 MiB, the documentation's largest file 1.6 MB. Beyond it those end that hold most for longest.
HELD_MAX_BYTES = 64 * 1024 * 1024
# A client that takes nothing of its answer for so long is gone. The kernel asks for more only when
# a third of its buffer is free: so this is 2 KB/s.
WRITE_STALL_SECONDS = 30
# An answer to a request that was not read whole: for so long, and so much, the rest is thrown away,
# because the kernel would take the answer back where it were not read.
LINGER_SECONDS = 2
LINGER_BYTES = 4 * 1024 * 1024
# The deadline of a connection that a thread works for.
WORKING = float("inf")
TICK_SECONDS = 1.0
# When the worker stops: idle connections have so long to send what is on its way, and requests that
# are not there yet, to come.
STOP_IDLE_SECONDS = 1.0
STOP_ARRIVAL_SECONDS = 5.0
# From the parent: it will stop soon, and says so to whoever asks.
DRAIN_SIGNAL = signal.SIGUSR1
STOPPING_TICK_SECONDS = 0.05
# How a connection ends when it is closed: SO_LINGER's two numbers.
_END_IN_ORDER, _END_BY_RESET = pack("ii", 0, 0), pack("ii", 1, 0)
# How long the kernel goes on for a client that doesn't take what was sent to it.
TCP_USER_TIMEOUT_MILLISECONDS = 30_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a worker serves."""

    threads: int
    # Of a connection between requests; also what a whole head, and a whole body, may take.
    keep_alive_seconds: float
    body_max_bytes: int
    # Larger ones, by the last part of a path.
    long_bodies: Mapping[bytes, int] = field(default_factory=dict)
    connections_max: int = CONNECTIONS_MAX


class Connection:
    """One client's. Whatever thread was woken for it owns it until it waits again."""

    __slots__ = (
        "address",
        "answer_bytes",
        "answers",
        "deadline",
        "expires_at",
        "held_bytes",
        "held_since",
        "is_ended",
        "is_last_answer",
        "is_watched",
        "lingered_bytes",
        "moved_at",
        "reader",
        "rest",
        "socket",
        "stage",
        "unsent",
    )

    def __init__(self, client: socket.socket, address: str, reader: RequestReader) -> None:
        now = time.monotonic()
        self.socket = client
        self.address = address
        self.reader = reader
        self.answers = 0
        self.unsent: memoryview | None = None  # the rest of an answer
        self.answer_bytes = 0  # of the whole of it, which is kept until the rest is sent
        self.rest: Rest | None = None  # what of an answer isn't made yet
        self.held_bytes = 0
        self.held_since = now
        self.moved_at = now
        self.deadline = WORKING
        self.stage = (-1, -1)  # of what it waits for, and until when
        self.expires_at = 0.0
        self.is_last_answer = False
        self.is_watched = False  # by epoll
        self.is_ended = False
        self.lingered_bytes: int | None = None  # None: it doesn't

    def cost(self, now: float) -> float:
        """What it holds, by how long it hasn't moved, and a little by how long it holds it."""
        return self.held_bytes * (now - self.moved_at + 0.1 * (now - self.held_since))


class Worker:
    """Serves what `listener` accepts, until SIGTERM comes or `parent` is gone.

    SIGTERM and DRAIN_SIGNAL must be blocked in the thread that makes and runs it.
    """

    def __init__(
        self,
        listener: socket.socket,
        application: Application,
        options: Options,
        *,
        parent: int,
    ) -> None:
        self._listener = listener
        self._application = application
        self._options = options
        self._parent = parent
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._held_bytes = 0
        self._lock = threading.Lock()  # of all that threads share, and of closing sockets
        self._is_draining = False
        self._stopped_at: float | None = None
        host, port = listener.getsockname()[:2]
        self._common = common_environ(host, port, is_multiprocess=True)

    def run(self) -> None:
        """Returns when every request that had begun has its answer."""
        # Every process is woken for each connection: were it one, it would mostly be the same.
        self._epoll.register(self._listener, select.EPOLLIN)
        for number in range(self._options.threads):
            threading.Thread(target=self._work, name=f"server-{number}", daemon=True).start()
        while self._stopped_at is None or self._connections:
            tick = TICK_SECONDS if self._stopped_at is None else STOPPING_TICK_SECONDS
            told = signal.sigtimedwait({signal.SIGTERM, DRAIN_SIGNAL}, tick)
            # Where the process was suspended meanwhile, Python tells of a signal that is none.
            signal_number = None if told is None else told.si_signo
            if signal_number == DRAIN_SIGNAL:
                self._is_draining = True
            # After the parent was killed outright it would serve on, unwatched.
            if signal_number == signal.SIGTERM or os.getppid() != self._parent:
                self.stop()
            self._end_overdue()

    def stop(self) -> None:
        """Accepts nothing any more, and ends when what had begun is answered."""
        if self._stopped_at is None:
            self._is_draining = True
            self._epoll.unregister(self._listener)
            self._listener.close()
            self._stopped_at = time.monotonic()

    def _end_overdue(self) -> None:
        """Ends connections whose time is over, which is soon when the worker stops."""
        now = time.monotonic()
        for connection in list(self._connections.values()):
            deadline = connection.deadline
            is_answered = connection.unsent is None and connection.rest is None
            if self._stopped_at is not None and is_answered:
                is_idle = connection.reader.is_idle
                grace = STOP_IDLE_SECONDS if is_idle else STOP_ARRIVAL_SECONDS
                deadline = min(deadline, self._stopped_at + grace)
            if now > deadline:
                self._end(connection)

    # Threads.

    def _work(self) -> None:
        listener = self._listener.fileno()
        try:
            while True:
                for descriptor, _ in self._epoll.poll(maxevents=1):
                    if descriptor == listener:
                        self._accept()
                    elif (connection := self._connections.get(descriptor)) is not None:
                        self._serve(connection)
        except BaseException:
            logger.critical("defect of the server: the worker ends", exc_info=True)
            os._exit(1)  # the parent starts another one

    def _accept(self) -> None:
        for _ in range(ACCEPT_MAX):
            try:
                client, address = self._listener.accept()
            except OSError as error:
                # Or another thread or process was faster, or the client is gone.
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._end_idlest()
                return
            client.setblocking(False)
            with suppress(OSError):  # gone already
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(
                client,
                address[0].removeprefix("::ffff:"),  # of IPv4, where both are listened to
                RequestReader(self._options.body_max_bytes, self._options.long_bodies),
            )
            with self._lock:
                self._connections[client.fileno()] = connection
                is_full = len(self._connections) > self._options.connections_max
            if is_full:
                self._end_idlest()
            self._serve(connection)  # what it asks for has usually come with it

    def _serve(self, connection: Connection) -> None:
        """Does what can be done for a connection without waiting, and has it watched again."""
        with self._lock:
            connection.deadline = WORKING
        wanted = 0
        if not connection.is_ended:
            try:
                wanted = self._advance(connection)
            except OSError:  # the client is gone, or the rest of its answer isn't to be had
                wanted = 0
        if wanted:
            self._hold(connection)
        with self._lock:
            if wanted and not connection.is_ended:
                connection.deadline = connection.expires_at
                watch = self._epoll.modify if connection.is_watched else self._epoll.register
                connection.is_watched = True
                watch(connection.socket, wanted | select.EPOLLONESHOT)
                return
            self._held_bytes -= connection.held_bytes
            connection.held_bytes = 0
            self._connections.pop(connection.socket.fileno(), None)
            connection.socket.close()
        if connection.rest is not None:
            connection.rest.close()

    def _advance(self, connection: Connection) -> int:
        """Returns what to wait for: EPOLLIN, EPOLLOUT, or 0 where the connection has ended."""
        if connection.unsent is not None:
            if not self._send(connection, connection.unsent):
                return select.EPOLLOUT
            if connection.is_last_answer and connection.rest is None:
                return self._linger(connection)
        elif connection.lingered_bytes is not None or not (
            connection.rest is not None or connection.reader.has_ready
        ):
            try:
                data = connection.socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return self._wait_for_more(connection)
            # What was sent ahead, too: whoever was told of the end sends it again elsewhere.
            if connection.lingered_bytes is not None:
                return self._throw_away(connection, data)
            connection.moved_at = time.monotonic()
            if data:
                connection.reader.feed(data)
            else:
                connection.reader.feed_end()
        if connection.rest is not None:
            return self._answer_on(connection, connection.rest)
        return self._answer_all(connection)

    def _answer_all(self, connection: Connection) -> int:
        """Answers the requests that have come, one behind the other. Returns as _advance()."""
        reader = connection.reader
        for _ in range(ANSWERS_MAX):
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
            connection.answers += 1
            if not self._send(connection, data):
                return select.EPOLLOUT
            if connection.rest is not None:
                return self._answer_on(connection, connection.rest)
            if connection.is_last_answer:
                return self._linger(connection)
        connection.expires_at = time.monotonic() + WRITE_STALL_SECONDS
        return select.EPOLLOUT  # there are more: after others have had their turn

    def _answer_on(self, connection: Connection, rest: Rest) -> int:
        """Sends the next piece of an answer, and lets others have their turn. As _advance().

        Raises ConnectionAbortedError where there is none, though it isn't the end.
        """
        connection.expires_at = time.monotonic() + WRITE_STALL_SECONDS
        piece = next(rest, None)
        if piece is not None:
            self._send(connection, piece)
            return select.EPOLLOUT
        rest.close()
        connection.rest = None
        if rest.ends_with_connection:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END_IN_ORDER)
        return self._linger(connection) if connection.is_last_answer else select.EPOLLOUT

    def _wait_for_more(self, connection: Connection) -> int:
        """A head, a body, and the time between requests have a time each, however they drip."""
        if connection.lingered_bytes is None:
            stage = (connection.answers, connection.reader.stage)
            if stage != connection.stage:
                connection.stage = stage
                seconds = self._options.keep_alive_seconds
                connection.expires_at = time.monotonic() + seconds
        return select.EPOLLIN

    def _answer(self, connection: Connection, request: Request) -> bytes:
        """What the application says."""
        data, connection.rest, connection.is_last_answer = answer_request(
            self._application, request, self._common, connection.address, self._stops
        )
        if connection.rest is not None and connection.rest.ends_with_connection:
            # Until it is whole: else an end, even that of the process, would make it so.
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END_BY_RESET)
        return data

    def _stops(self) -> bool:
        return self._is_draining

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
        connection.expires_at = connection.moved_at + WRITE_STALL_SECONDS
        return False

    def _linger(self, connection: Connection) -> int:
        """Waits for the client to see its answer, before what it still sends makes it vanish."""
        connection.socket.shutdown(socket.SHUT_WR)
        connection.lingered_bytes = 0
        connection.expires_at = time.monotonic() + LINGER_SECONDS
        return select.EPOLLIN

    def _throw_away(self, connection: Connection, data: bytes) -> int:
        assert connection.lingered_bytes is not None
        connection.lingered_bytes += len(data)
        return select.EPOLLIN if data and connection.lingered_bytes < LINGER_BYTES else 0

    # What the threads share.

    def _hold(self, connection: Connection) -> None:
        """Counts what is kept for a connection; where it is too much in all, ends the dearest."""
        unsent = 0 if connection.unsent is None else connection.answer_bytes
        held = connection.reader.held_bytes + unsent
        if held == connection.held_bytes:
            return
        now = time.monotonic()
        with self._lock:
            if not connection.held_bytes:
                connection.held_since = now
            self._held_bytes += held - connection.held_bytes
            connection.held_bytes = held
            surplus = self._held_bytes - HELD_MAX_BYTES
            holders = [c for c in self._connections.values() if c.held_bytes] if surplus > 0 else []
        for holder in sorted(holders, key=lambda c: c.cost(now), reverse=True):
            if surplus <= 0:
                break
            if holder is connection:
                holder.is_ended = True
            elif not self._end(holder):
                continue
            surplus -= holder.held_bytes

    def _end_idlest(self) -> None:
        """Ends the connection that hasn't moved for longest, to make room for another one."""
        waiting = [
            connection
            for connection in list(self._connections.values())
            if connection.deadline != WORKING and not connection.is_ended
        ]
        if waiting:
            self._end(min(waiting, key=lambda connection: connection.moved_at))

    def _end(self, connection: Connection) -> bool:
        """Has a connection closed by the thread that its end wakes; False where one has it."""
        with self._lock:
            if connection.deadline == WORKING:
                return False
            connection.is_ended = True
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            return True
