"""Ends requests whose database does not answer at all.

statement_timeout runs on the server, so a server that is frozen, or cut off by the network, never
raises it; psycopg then waits for ever. The watchdog shuts the connection's socket down when the
request's time is over, and psycopg raises OperationalError at once, which is answered as 503.
"""

import socket
import threading
import time
from typing import Any

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from . import metrics

POLL_SECONDS = 0.25


class Watchdog:
    """Watches the requests of one process, by a thread that sleeps while there are none.

    A context manager for the thread that a request runs in.
    """

    def __init__(self) -> None:
        self._requests: dict[int, tuple[float, Any]] = {}
        self._busy = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        """Gives what the block asks of the database settings.REQUEST_TIME_LIMIT_SECONDS."""
        if self._thread is None:
            self._start()
        deadline = time.monotonic() + settings.REQUEST_TIME_LIMIT_SECONDS
        wrapper = connections[DEFAULT_DB_ALIAS]
        with self._lock:  # not while the watchdog looks through them
            self._requests[threading.get_ident()] = (deadline, wrapper)
            if not self._busy.is_set():
                self._busy.set()

    def __exit__(self, *error: object) -> None:
        with self._lock:  # not while its socket is being shut down
            del self._requests[threading.get_ident()]

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
    try:
        # Closing this object must not close psycopg's descriptor: detach it.
        handle = socket.socket(fileno=connection.pgconn.socket)
        try:
            handle.shutdown(socket.SHUT_RDWR)
        finally:
            handle.detach()
    except (OSError, psycopg.OperationalError):
        return  # closed meanwhile, or shut down already
    metrics.WATCHDOG_CUTS.add()


watchdog = Watchdog()
