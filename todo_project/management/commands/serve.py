"""`manage.py serve`: the production server. granian speaks HTTP, Django answers.

The parent process only watches; its workers serve, each a process with its own threads and a
database connection for each thread. The HTTP that they understand is HTTP/1.1, in the clear: TLS
ends at the proxy before the service.
"""

import argparse
import copy
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from todo_project.gate import TURNS_VARIABLE
from todo_project.health import DRAIN_FILE_VARIABLE

logger = logging.getLogger(__name__)

HOST_DEFAULT = "0.0.0.0"  # noqa: S104  # every interface: in a container there is no other way in
PROCESSES_MAX_DEFAULT = 4
# While one waits for the database the others work. A task's request is one statement, so that
# little is waited for where the database is near; from a millisecond on more than 2 are of use,
# and they do no harm before. See docs/performance.md.
THREADS_DEFAULT = 4
# Threads that never work: they refuse what would wait in vain. See gate.py.
SPARE_THREADS = 1
# How long a load balancer may take to notice /readyz.
DRAIN_SECONDS_DEFAULT = 5
# How long requests in flight may take after that, before they are cut off.
STOP_TIMEOUT_SECONDS = 30
# Kept open for each process, most of them idle; more wait in the kernel until one is closed. 1,000
# clients at once must fit into one process, because the kernel does not spread them evenly.
CONNECTIONS_PER_PROCESS = 2048
# The request line and all headers; what is longer is answered with 431. The contract promises
# 16 KiB of headers.
HEAD_MAX_BYTES = 32 * 1024
# Also the life of an idle connection. Longer than the minute after which load balancers usually
# close theirs, so that none sends a request into a connection that this side is closing.
HEAD_TIMEOUT_SECONDS = 75
# granian's longest: a thread that comes back must connect to the database anew.
THREAD_IDLE_SECONDS = 600
TICK_SECONDS = 1.0


class Command(BaseCommand):
    help = "Serves the API until it is told to stop by SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=HOST_DEFAULT, help="default: %(default)s")
        parser.add_argument(
            "--port", type=_integer(1, 65535), default=settings.PORT, help="default: PORT"
        )
        parser.add_argument(
            "--processes",
            type=_integer(1, 64),
            default=min(_usable_cores(), PROCESSES_MAX_DEFAULT),
            help=f"default: one for each usable core, at most {PROCESSES_MAX_DEFAULT}",
        )
        parser.add_argument(
            "--threads",
            type=_integer(1, 64),
            default=THREADS_DEFAULT,
            help="that work in each process (default: %(default)s); they and one more each hold a "
            "database connection",
        )
        parser.add_argument(
            "--drain-seconds",
            type=_integer(0, 600),
            default=DRAIN_SECONDS_DEFAULT,
            help="how long to go on serving after SIGTERM while /readyz fails, so that a load "
            "balancer notices (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.DEBUG:
            raise CommandError(
                "serve is for production: set DEBUG=false, and what that requires. "
                "The development server is `make run`."
            )
        _refuse_taken_port(options["host"], options["port"])
        with tempfile.TemporaryDirectory(prefix="todo-serve-") as folder:
            drain_file = Path(folder, "draining")
            # The workers inherit these.
            os.environ[DRAIN_FILE_VARIABLE] = str(drain_file)
            os.environ[TURNS_VARIABLE] = str(options["threads"])
            server = Server(
                "todo_project.wsgi:application",
                address=options["host"],
                port=options["port"],
                interface=Interfaces.WSGI,
                http=HTTPModes.http1,
                http1_settings=HTTP1Settings(
                    header_read_timeout=HEAD_TIMEOUT_SECONDS * 1000,
                    max_buffer_size=HEAD_MAX_BYTES,
                ),
                websockets=False,
                workers=options["processes"],
                blocking_threads=options["threads"] + SPARE_THREADS,
                blocking_threads_idle_timeout=THREAD_IDLE_SECONDS,
                backlog=CONNECTIONS_PER_PROCESS,
                backpressure=CONNECTIONS_PER_PROCESS,
                respawn_failed_workers=True,
                workers_kill_timeout=STOP_TIMEOUT_SECONDS,
                log_level=LogLevels.warning,
                log_dictconfig=copy.deepcopy(settings.LOGGING),  # granian changes it
                drain_file=drain_file,
                drain_seconds=options["drain_seconds"],
            )
            logger.info(
                "serving", extra={k: options[k] for k in ("host", "port", "processes", "threads")}
            )
            _tick(lambda *args: None)
            try:
                server.serve(target_loader=_load_application, wrap_loader=False)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)  # would kill Python while it ends
        logger.info("stopped")


class Server(MPServer):
    """granian, which at SIGTERM drains before it stops: it serves on while /readyz fails.

    A further signal ends that, and one more ends the requests in flight. SIGINT, Ctrl-C, does not
    drain.
    """

    def __init__(self, *args: Any, drain_file: Path, drain_seconds: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drain_file = drain_file
        self._drain_seconds = drain_seconds
        self._drained = threading.Event()
        self._signals = 0

    def signal_handler_interrupt(self, number: int, *args: Any) -> None:
        if os.getpid() != self.pid:  # a worker that has just been forked, with this handler
            os._exit(0)
        self._signals += 1
        if self._signals > 1 or number != signal.SIGTERM:
            self._drained.set()
        if self._signals == 1:
            # Not here: a handler runs between any two instructions of the main thread, which may
            # hold the very locks that this takes.
            threading.Thread(target=self._drain, daemon=True).start()
        elif self.interrupt_signal:
            for worker in self.wrks:
                worker.kill()  # type: ignore[no-untyped-call]

    # What a closed terminal sends. granian would start new workers, but with the same code.
    signal_handler_reload = signal_handler_interrupt

    def _drain(self) -> None:
        if not self._drained.is_set():
            logger.info("draining", extra={"seconds": self._drain_seconds})
            self._drain_file.touch()
            self._drained.wait(self._drain_seconds)
        logger.info("stopping")
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call]


def _load_application() -> Callable[..., Any]:
    """Runs in each new worker, before granian sets its signal handlers."""
    # Ctrl-C reaches every process of the terminal's group, but when to stop is the parent's to say.
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent(*args: Any) -> None:
        """After the parent was killed outright the worker would serve on, unwatched."""
        if os.getppid() != parent.pid:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, STOP_TIMEOUT_SECONDS)  # kills
            signal.raise_signal(signal.SIGTERM)

    _tick(end_with_parent)

    from todo_project.wsgi import application

    return application


def _tick(handler: Callable[..., None]) -> None:
    """Calls `handler` every second, in the main thread.

    Even a handler that does nothing is of use: Python only notes that a signal has come, and where
    it came just before the main thread began to wait, acts on it when the next one ends the wait.
    """
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)


def _refuse_taken_port(host: str, port: int) -> None:
    """Raises CommandError where something listens there already.

    granian itself would share the port with another process of the same user, so that a forgotten
    server went on answering every other request.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise CommandError(f"Can't listen on {host} port {port}: {error.strerror}.") from error


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _integer(minimum: int, maximum: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        number = int(text)
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"valid: {minimum} to {maximum}")
        return number

    return integer
