"""The parent process of the server: it serves nothing itself, and watches those that do."""

import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from typing import NamedTuple

from .application import Application
from .worker import (
    CONNECTIONS_MAX,
    DESCRIPTORS_BESIDE,
    DRAIN_SIGNAL,
    RECEIVE_BUFFER_BYTES,
    SEND_BUFFER_BYTES,
    TCP_USER_TIMEOUT_MILLISECONDS,
    Options,
    Worker,
)

logger = logging.getLogger(__name__)

# How long requests in flight may take after a stop, before they are cut off.
STOP_TIMEOUT_SECONDS = 30
# A worker that dies at once, and whoever takes its place, must not keep the processor busy.
RESPAWN_SECONDS = 1.0
TICK_SECONDS = 1.0
STOPPING_TICK_SECONDS = 0.05
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_WATCHED = _STOP_SIGNALS | {signal.SIGCHLD, DRAIN_SIGNAL}


@dataclass(frozen=True)
class Drain:
    """What happens between SIGTERM and the stop: `begin` is called, and it is served on."""

    seconds: float
    begin: Callable[[], None]


class _Begun(NamedTuple):
    """Which worker of how many a process is, and when it was started."""

    number: int
    at: float


class Supervisor:
    """Keeps so many workers alive, each of which loads the application by itself.

    `load` is told which of them it is, from 0: who takes the place of a dead one has its number.

    SIGTERM drains and then stops; SIGINT (Ctrl-C) and SIGHUP (a closed terminal) stop at once. A
    second signal ends the drain, and a third the requests in flight.
    """

    def __init__(
        self,
        listener: socket.socket,
        load: Callable[[int], Application],
        options: Options,
        *,
        processes: int,
        drain: Drain,
    ) -> None:
        self._listener = listener
        self._load = load
        self._options = options
        self._processes = processes
        self._drain = drain
        self._workers: dict[ForkProcess, _Begun] = {}

    def run(self) -> None:
        """Returns when it was told to stop, and all workers have ended."""
        # Blocked, and asked for one by one: a handler would run between any two instructions.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            while (told := self._watch()) is None:
                pass
            if told == signal.SIGTERM and self._drain.seconds:
                logger.info("draining", extra={"seconds": self._drain.seconds})
                self._drain.begin()
                self._tell(DRAIN_SIGNAL)
                deadline = time.monotonic() + self._drain.seconds
                while time.monotonic() < deadline and self._watch() is None:
                    pass
            self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self) -> int | None:
        """Replaces workers that died; returns a signal to stop, or None after a while."""
        self._replace_dead()
        told = signal.sigtimedwait(_WATCHED, TICK_SECONDS)
        return told.si_signo if told is not None and told.si_signo in _STOP_SIGNALS else None

    def _spawn(self) -> None:
        # Forked: what was read by now is shared. The application is not, because threads and random
        # numbers would be; of multiprocessing, because its children end as they should.
        taken = {begun.number for begun in self._workers.values()}
        number = next(number for number in count() if number not in taken)
        arguments = (number, os.getpid())
        worker = get_context("fork").Process(target=self._work, args=arguments, name="worker")
        worker.start()
        self._workers[worker] = _Begun(number, time.monotonic())

    def _work(self, number: int, parent: int) -> None:
        # Ctrl-C reaches every process of the terminal's group, but when to stop is the parent's to
        # say.
        os.setpgid(0, 0)
        Worker(self._listener, self._load(number), self._options, parent=parent).run()

    def _replace_dead(self) -> None:
        for worker, begun in list(self._workers.items()):
            if worker.exitcode is not None:
                del self._workers[worker]
                logger.error(
                    "a worker died", extra={"pid": worker.pid, "exit_code": worker.exitcode}
                )
                time.sleep(max(0.0, begun.at + RESPAWN_SECONDS - time.monotonic()))
        try:
            while len(self._workers) < self._processes:
                self._spawn()
        except OSError:  # no memory, no process id: at the next tick
            logger.exception("a worker can't be started")

    def _stop(self) -> None:
        logger.info("stopping")
        self._listener.close()
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while any(worker.exitcode is None for worker in self._workers):
            told = signal.sigtimedwait(_WATCHED, STOPPING_TICK_SECONDS)
            is_urgent = told is not None and told.si_signo in _STOP_SIGNALS
            if is_urgent or time.monotonic() > deadline:
                self._tell(signal.SIGKILL)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.exitcode is None and worker.pid is not None:
                os.kill(worker.pid, number)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, for all workers. Raises OSError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    with socket.create_server(
        (host, port), family=family, backlog=CONNECTIONS_MAX, dualstack_ipv6=both
    ) as listener:
        listener.setblocking(False)
        # What is accepted inherits these.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MILLISECONDS
        )
        yield listener


def connections_max() -> int:
    """How many connections a worker may keep. Raises the limit of open files as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, hard - DESCRIPTORS_BESIDE))
