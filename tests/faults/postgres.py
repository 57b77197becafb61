"""A PostgreSQL of the tests' own, to be broken in every way that a real one breaks."""

import os
import pwd
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from tests.processes import PATIENCE_S, free_port, wait_until
from todo_project import embedded_postgres as embedded

DATABASE = "todo"
ROLE = "app"  # an ordinary one: a superuser has connections in reserve, and may write anything
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "shared_buffers": "32MB",
    # Everything that happens in the database is the service's doing.
    "autovacuum": "off",
}


class PrivatePostgres:
    """One cluster in a folder of its own; clients reach it by TCP, the tests by its socket."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        embedded.claim_folder(folder)
        self.port = free_port()
        self.folder = folder
        self.log = folder / "server.log"
        self._settings = {
            **SETTINGS,
            **settings,
            "port": str(self.port),
            "unix_socket_directories": str(folder),
        }
        self._data = folder / "data"
        self._programs = embedded.programs_folder(folder, embedded.package_folder())
        with embedded.lock_file(folder / "start.lock") as lock:
            embedded.ensure_cluster(folder, self._programs, lock)

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str = DATABASE) -> None:
        """Makes an empty database that belongs to ROLE, which is made where it isn't there yet."""
        database, role = sql.Identifier(name), sql.Identifier(ROLE)
        if not self.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", ROLE, database="postgres"):
            self.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role), database="postgres")
        create = sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role)
        self.execute(create, database="postgres")

    def connect(self, *, database: str = DATABASE, user: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user=user,
            dbname=database,
            autocommit=True,
            connect_timeout=int(PATIENCE_S),
        )

    def execute(
        self, statement: str | sql.Composed, *values: object, database: str = DATABASE
    ) -> list[Any]:
        """Runs a statement as superuser; returns its rows."""
        with self.connect(database=database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def set_role(self, **settings: str) -> None:
        """Puts settings on ROLE. They hold for connections that are made from now on."""
        for name, value in settings.items():
            alter = sql.SQL("ALTER ROLE {} SET {} = {}")
            self.execute(alter.format(sql.Identifier(ROLE), sql.Identifier(name), value))

    @property
    def is_running(self) -> bool:
        return bool(self._pg_ctl("status").returncode == 0)

    def start(self) -> None:
        """Returns when the server takes connections."""
        options = shlex.join(f"--{name}={value}" for name, value in self._settings.items())
        timeout, log = f"{PATIENCE_S:.0f}", str(self.log)
        started = self._pg_ctl("start", "-w", "-t", timeout, "-l", log, "-o", options)
        if started.returncode != 0:
            raise embedded.start_failure(self.folder, started.stdout)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Returns when the server is gone. An immediate stop is a crash: it writes nothing more."""
        stopped = self._pg_ctl("stop", "-w", "-m", mode)
        assert stopped.returncode == 0, stopped.stdout

    def kill(self) -> None:
        """Ends every process of the server by SIGKILL, as a machine does that is out of memory."""
        processes = self.processes()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=PATIENCE_S)

    def terminate_connections(self, *, but: Sequence[int] = ()) -> int:
        """Ends the connections of ROLE, as an operator does; returns how many there were."""
        ended = self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE usename = %s AND pid <> ALL(%s)",
            ROLE,
            list(but),
        )
        return len(ended)

    def crash_connection(self) -> None:
        """Ends a connection of ROLE by SIGKILL: PostgreSQL then ends all others, and recovers.

        Returns when it takes connections again.
        """
        found = self.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s LIMIT 1", ROLE)
        known = len(self.log.read_text())
        os.kill(found[0][0], signal.SIGKILL)
        # It takes connections until it notices.
        wait_until(lambda: "reinitializing" in self.log.read_text()[known:])
        self.wait_for("SELECT true")

    def wait_for(self, query: str, *values: object) -> None:
        """Waits until the query's first value is true; meanwhile the server may be away."""

        def is_true() -> bool:
            with suppress(psycopg.OperationalError):
                return bool(self.execute(query, *values)[0][0])
            return False

        wait_until(is_true)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops every process, as a hypervisor does: connections stay open, and nobody answers."""
        processes = self.processes()
        for process in processes:  # the postmaster first, which would start new ones
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    @contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """The server has other settings, also for connections that exist."""
        for name, value in settings.items():
            alter = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value)
            self.execute(alter)
        self._reload()
        try:
            yield
        finally:
            for name in settings:
                self.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name)))
            self._reload()

    def _reload(self) -> None:
        """Returns when every process of the server was told to read its settings.

        The postmaster tells them at once when it has read its own, whose time new connections
        inherit. Backends read them before their next statement.
        """
        load_time = "SELECT pg_conf_load_time()"
        before = self.execute(load_time)
        self.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.execute(load_time) > before)

    @contextmanager
    def standby(self) -> Iterator[None]:
        """The server follows another one, and is promoted when the block ends."""
        self.stop()
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        if embedded.is_root():
            embedded.give_to_nobody(signal_file)
        self.start()
        try:
            yield
        finally:
            promoted = self._pg_ctl("promote", "-w")
            assert promoted.returncode == 0, promoted.stdout

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """All of the server's connections that ROLE may have are taken by others."""
        with exhaust(self.url) as connections:
            self.terminate_connections(but=[c.info.backend_pid for c in connections])
            with exhaust(self.url):
                yield

    @contextmanager
    def trigger(
        self, table: str, timing: str, body: str, *, database: str = DATABASE
    ) -> Iterator[None]:
        """Runs `body` (PL/pgSQL) for each row that is written to `table`, as superuser."""
        self.execute(
            f"CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            f" AS $$ BEGIN {body} RETURN NULL; END $$;"
            f" CREATE CONSTRAINT TRIGGER sabotage AFTER INSERT OR UPDATE OR DELETE ON {table}"
            f" {timing} FOR EACH ROW EXECUTE FUNCTION sabotage()",
            database=database,
        )
        try:
            yield
        finally:
            self.execute("DROP FUNCTION sabotage CASCADE", database=database)

    def processes(self) -> list[psutil.Process]:
        """The postmaster, and what it started."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    def _pg_ctl(self, command: str, *arguments: str) -> Any:
        data = str(self._data)
        return embedded.run_program(
            self.folder, self._programs, "pg_ctl", command, "-D", data, *arguments
        )


@contextmanager
def private_postgres(**settings: str) -> Iterator[PrivatePostgres]:
    """A server that runs as long as the block, with an empty database that belongs to ROLE."""
    # Not where TMPDIR says: root's server runs as nobody, who must be able to get there.
    folder = Path(tempfile.mkdtemp(prefix="todo-postgres-", dir="/tmp"))
    try:
        postgres = PrivatePostgres(folder, settings)
        try:
            postgres.start()
            postgres.create_database()
            yield postgres
        finally:
            if postgres.is_running:
                postgres.stop("immediate")
    finally:
        shutil.rmtree(folder)


@contextmanager
def exhaust(url: str) -> Iterator[list[psycopg.Connection]]:
    """Connects until the server refuses; the connections, which close with the block."""
    connections: list[psycopg.Connection] = []
    try:
        while True:
            try:
                connections.append(psycopg.connect(url))
            except psycopg.OperationalError:
                break
        yield connections
    finally:
        for connection in connections:
            connection.close()


def server_user() -> dict[str, Any]:
    """For subprocess.Popen: root's servers run as nobody, because they refuse to run as root."""
    if not embedded.is_root():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
