"""Ends requests whose database does not answer at all.

statement_timeout runs on the server, so a server that is frozen, or cut off by the network, never
raises it; psycopg then waits for ever. The watchdog shuts the connection's socket down when the
request's time is over, and psycopg raises OperationalError at once, which is answered as 503.

Such an outage is then remembered for those who come next: see Outage.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg.pq import TransactionStatus

POLL_SECONDS = 0.25
# How long nobody tries to connect after a server did not answer. What waits for a thread meanwhile
# is refused within it: so long must a full queue take, and so much later the service may be back.
PAUSE_SECONDS = 1.0


class Outage:
    """Whether the server was last seen not to answer at all, as far as this process knows.

    A try to connect to such a server takes settings.CONNECT_TIMEOUT_SECONDS. If every thread made
    one for every request, requests would wait for a thread longer than they may take, and /livez
    behind them. So only one thread tries at a time, after a pause, and others are refused at once.
    A server that refuses connections is not meant: that takes no time.
    """

    def __init__(self) -> None:
        self._noted_at: float | None = None
        self._trial = threading.Lock()

    def note(self) -> None:
        """The server did not answer just now."""
        self._noted_at = time.monotonic()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """The block connects. Raises psycopg's OperationalError where that is not to be tried."""
        is_trial = self._noted_at is not None
        if is_trial and not self._begin_trial():
            raise psycopg.OperationalError("the server did not answer a moment ago")
        try:
            yield
            self._noted_at = None
        except psycopg.errors.ConnectionTimeout:
            self.note()
            raise
        finally:
            if is_trial:
                self._trial.release()

    def _begin_trial(self) -> bool:
        is_paused = time.monotonic() < (self._noted_at or 0) + PAUSE_SECONDS
        return not is_paused and self._trial.acquire(blocking=False)


outage = Outage()


class Watchdog:
    """Watches the requests of one process, by a thread that sleeps while there are none."""

    def __init__(self) -> None:
        self._requests: dict[int, tuple[float, Any]] = {}
        self._busy = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Gives what the block asks of the database settings.REQUEST_TIME_LIMIT_SECONDS."""
        if self._thread is None:
            self._start()
        key = threading.get_ident()
        deadline = time.monotonic() + settings.REQUEST_TIME_LIMIT_SECONDS
        wrapper = connections[DEFAULT_DB_ALIAS]
        with self._lock:  # not while the watchdog looks through them
            self._requests[key] = (deadline, wrapper)
            self._busy.set()
        try:
            yield
        finally:
            with self._lock:  # not while its socket is being shut down
                del self._requests[key]

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(POLL_SECONDS)
            with self._lock:
                if not self._requests:
                    self._busy.clear()
                now = time.monotonic()
                for deadline, wrapper in self._requests.values():
                    if now > deadline:
                        _end(wrapper)


def _end(wrapper: Any) -> None:
    connection = wrapper.connection
    if connection is None or connection.closed:
        return
    # Otherwise it is not the server that the request waits for: a slow client's body, say.
    if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
        outage.note()
    try:
        # Closing this object must not close psycopg's descriptor: detach it.
        handle = socket.socket(fileno=connection.pgconn.socket)
        try:
            handle.shutdown(socket.SHUT_RDWR)
        finally:
            handle.detach()
    except (OSError, psycopg.OperationalError):
        return  # closed meanwhile, or shut down already


watchdog = Watchdog()
