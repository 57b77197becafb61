"""Runs manage.py as production does: in processes of its own, with a production environment.

For the tests of commands. Nothing of the developer's environment or .env reaches these processes.
"""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.conf import settings

from todo_project import embedded_postgres

PROJECT = Path(__file__).resolve().parent.parent
# However busy the machine is: whoever waits for so long has found something that hangs.
PATIENCE_S = 120.0
# Ports below those that the system gives to outgoing connections: such a one could take the port
# before its server does, or while that is down, or connect to itself.
PORTS = range(20_000, 32_000)
# Hypothesis seeds Python's own, so that several processes would choose the same ports.
_random = random.SystemRandom()


def database_url(name: str) -> str:
    """URL of the database `name` on the server that the tests use."""
    url = os.environ.get("DATABASE_URL") or embedded_postgres.database_url()
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def direct_database_url(name: str) -> str:
    """The same without a pooler before it, for what needs a session of its own."""
    url = os.environ.get("DIRECT_DATABASE_URL") or database_url(name)
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@contextmanager
def made_database(name: str, *, template: str = "template1") -> Iterator[str]:
    """A database for the length of the block, empty or a copy; gives its name."""
    drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    with psycopg.connect(direct_database_url("postgres"), autocommit=True) as session:
        session.execute(drop)
        session.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            session.execute(drop)


def production(**variables: str) -> dict[str, str]:
    """A whole environment; `variables` join it."""
    return {
        "PATH": os.environ["PATH"],
        # Of the pooler that DATABASE_URL may name.
        "DATABASE_PREPARED_STATEMENTS": str(settings.PREPARED_STATEMENTS).lower(),
        "DEBUG": "false",
        "SECRET_KEY": settings.SECRET_KEY,
        "JWT_SIGNING_KEY": settings.JWT_SIGNING_KEY,
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL": "false",  # the tests speak plain HTTP
        **variables,
    }


def start(
    *arguments: str, env: dict[str, str], folder: Path = PROJECT, **options: Any
) -> subprocess.Popen[str]:
    """Starts `manage.py` in a session of its own, out of reach of the terminal's Ctrl-C.

    `folder` is another checkout, or a part of one.
    """
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_until(condition: Callable[[], Any]) -> None:
    """Raises AssertionError where `condition` never becomes true."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, f"not in {PATIENCE_S} seconds"
        sleep(0.02)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    while True:
        port = _random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
