"""`manage.py serve`: the production server, of the package todo_project.server.

The parent process only watches; its workers serve, each a process with its own threads and a
database connection for each thread. The HTTP that they understand is HTTP/1.1, in the clear: TLS
ends at the proxy before the service.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from todo_project import VERSION, metrics
from todo_project.health import DRAIN_FILE_VARIABLE
from todo_project.middleware.gate import TURNS_VARIABLE
from todo_project.server.application import Application
from todo_project.server.supervisor import Drain, Supervisor, connections_max, listening
from todo_project.server.worker import Options

logger = logging.getLogger(__name__)

HOST_DEFAULT = "0.0.0.0"  # noqa: S104  # every interface: in a container there is no other way in
PROCESSES_MAX_DEFAULT = 4
# While one waits for the database the others work. A task's request is one statement, so that
# little is waited for where the database is near; from a millisecond on more than 2 are of use,
# and they do no harm before. See docs/performance.md.
THREADS_DEFAULT = 4
# Threads that never work: they refuse what would wait in vain. See middleware/gate.py.
SPARE_THREADS = 1
# How long a load balancer may take to notice /readyz.
DRAIN_SECONDS_DEFAULT = 5
# Longer than the minute after which load balancers usually close theirs, so that none sends a
# request into a connection that this side is closing.
KEEP_ALIVE_SECONDS_DEFAULT = 75
# How long a thread that computes may keep the others waiting for Python's lock. Its default, 5 ms,
# is as long as ten requests, and each of those waits for the lock several times.
SWITCH_INTERVAL_SECONDS = 0.0005


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
        parser.add_argument(
            "--keep-alive-seconds",
            type=_integer(5, 3600),
            default=KEEP_ALIVE_SECONDS_DEFAULT,
            help="how long an idle connection is kept: longer than the load balancer before it "
            "keeps it (default: %(default)s); also how long a request may take to arrive",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.DEBUG:
            raise CommandError(
                "serve is for production: set DEBUG=false, and what that requires. "
                "The development server is `make run`."
            )
        if sys.platform != "linux":
            raise CommandError("serve needs Linux. The development server is `make run`.")
        host, port = options["host"], options["port"]
        with ExitStack() as stack:
            try:
                listener = stack.enter_context(listening(host, port))
            except OSError as error:
                reason = f"Can't listen on {host} port {port}: {error.strerror}."
                raise CommandError(reason) from error
            folder = stack.enter_context(TemporaryDirectory(prefix="todo-serve-"))
            drain_file = Path(folder, "draining")
            # The workers inherit these.
            os.environ[DRAIN_FILE_VARIABLE] = str(drain_file)
            os.environ[TURNS_VARIABLE] = str(options["threads"])
            if settings.METRICS_TOKEN:
                metrics.share(options["processes"])
            logger.info(
                "serving",
                extra={"version": VERSION}
                | {k: options[k] for k in ("host", "port", "processes", "threads")},
            )
            Supervisor(
                listener,
                _load_application,
                Options(
                    threads=options["threads"] + SPARE_THREADS,
                    keep_alive_seconds=options["keep_alive_seconds"],
                    body_max_bytes=settings.MAX_BATCH_BODY_BYTES,
                    long_bodies=settings.LONG_BODIES,
                    connections_max=connections_max(),
                ),
                processes=options["processes"],
                drain=Drain(options["drain_seconds"], drain_file.touch),
            ).run()
        logger.info("stopped")


def _load_application(number: int) -> Application:
    """Runs in each new worker."""
    os.environ[metrics.WORKER_VARIABLE] = str(number)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    from todo_project.wsgi import application

    return application


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
