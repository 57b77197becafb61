"""The server: made at the first start, used by whoever starts it, stopped by its last user."""

import atexit
import os
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from .folders import (
    ADVICE,
    PORT,
    PROJECT,
    claim_folder,
    completed_folder,
    home_folder,
    prepare_home,
    socket_folder_of,
)
from .locks import lock_file, open_lock, try_lock
from .programs import POSTGRES_MAJOR, package_folder, programs_folder, run_program, run_psql

if sys.platform != "win32":  # so that settings can be imported there, for use with DATABASE_URL
    import fcntl

DATABASE = "todo"
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    # Trust authentication: whoever can open the socket is superuser.
    "unix_socket_permissions": "0700",
    # Several test workers, each with a pool, share the server with runserver.
    "max_connections": "200",
    "shared_buffers": "256MB",
}
START_TIMEOUT_S = 60  # crash recovery on a slow disk
# After it connections are cut without a checkpoint: harmless, the next start recovers.
FAST_STOP_TIMEOUT_S = 30
POLL_S = 0.05
LOG_TAIL_LINES = 20
# A process that sees the standard library and this package alone, and writes nothing beside them.
WATCHER_OPTIONS = ("-I", "-S", "-B")
WATCHER = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from todo_project.embedded_postgres.watcher import main; main()"
)

_users_lock: int | None = None


def database_url() -> str:
    """URL of the database `todo` of the embedded server. Starts and creates nothing.

    The socket folder stands, quoted, where a host would, and the port is named: a PGPORT in the
    environment would otherwise rename the socket for the clients.
    https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """
    socket_folder = quote(str(socket_folder_of(home_folder())), safe="")
    return f"postgresql://postgres@{socket_folder}:{PORT}/{DATABASE}"


def start() -> None:
    """Makes sure that the server runs, and that it does until this process ends.

    The first start creates the cluster and takes seconds, a later one less than a second.
    Raises RuntimeError, which says what to do, when the server does not start.
    """
    global _users_lock
    if _users_lock is not None:
        return
    if sys.platform == "win32":
        raise RuntimeError(f"The embedded PostgreSQL needs Linux or macOS: use WSL. {ADVICE}")
    package = package_folder()
    try:
        home = home_folder()
        prepare_home(home)
        users_lock = open_lock(home / "users.lock")
        try:
            fcntl.flock(users_lock, fcntl.LOCK_SH)  # waits for one that is stopping the server
            programs = _ensure_running(home, package)
        except BaseException:
            os.close(users_lock)
            raise
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"The embedded PostgreSQL does not start: {error}. {ADVICE}") from error
    _users_lock = users_lock
    atexit.register(_release, users_lock, home, programs)


def _ensure_running(home: Path, package: Path) -> Path:
    """Returns the folder of the PostgreSQL programs."""
    with lock_file(home / "start.lock") as start_lock:
        fcntl.flock(start_lock, fcntl.LOCK_EX)
        programs = programs_folder(home, package)
        # First of all, so that a server is stopped even if this process is killed while it starts.
        subprocess.run(
            [sys.executable, *WATCHER_OPTIONS, "-c", WATCHER, PROJECT, home, programs],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
            check=True,
        )
        if run_psql(home, programs, DATABASE, "SELECT 1").returncode == 0:
            return programs
        ensure_cluster(home, programs, start_lock)
        ensure_server(home, programs)
        if run_psql(home, programs, DATABASE, "SELECT 1").returncode != 0:
            created = run_psql(home, programs, "postgres", f"CREATE DATABASE {DATABASE}")
            if created.returncode != 0:
                raise start_failure(home, created.stdout)
    return programs


def ensure_cluster(home: Path, programs: Path, start_lock: int) -> None:
    data = home / "data"
    if data.exists():
        major = (data / "PG_VERSION").read_text().strip()
        if major != str(POSTGRES_MAJOR):
            raise RuntimeError(
                f"{data} was made by PostgreSQL {major}, but the embedded server is "
                f"{POSTGRES_MAJOR}: move its data with pg_dump of that version, or delete {home} "
                f"to begin with an empty database. {ADVICE}"
            )
        return
    with completed_folder(data) as folder:
        # The builtin provider sorts alike on every machine. An initdb that outlives this process
        # keeps start.lock, so that nobody clears its folder away under it.
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        made = run_program(
            home, programs, "initdb", f"--pgdata={folder}", *options, keep=[start_lock]
        )
        if made.returncode != 0:
            raise start_failure(home, made.stdout)


def ensure_server(home: Path, programs: Path) -> None:
    data, socket_folder = home / "data", socket_folder_of(home)
    claim_folder(socket_folder)
    deadline = time.monotonic() + START_TIMEOUT_S
    with lock_file(home / "server.lock") as server_lock:
        # Not free: a start whose beginner was killed is under way, or a crashed server's last
        # processes are ending.
        while not try_lock(server_lock, fcntl.LOCK_EX):
            if run_psql(home, programs, "postgres", "SELECT 1").returncode == 0:
                return
            if time.monotonic() > deadline:
                raise start_failure(home, "The server runs, but takes no connections.")
            time.sleep(POLL_S)
        # No server lives. What a crashed one left behind names an id that another process may have
        # by now, typically in a container that was started anew, and would keep this one from
        # starting.
        for leftover in (data / "postmaster.pid", socket_folder / f".s.PGSQL.{PORT}.lock"):
            leftover.unlink(missing_ok=True)
        log = home / "server.log"
        log.unlink(missing_ok=True)
        settings = SERVER_SETTINGS | {"unix_socket_directories": str(socket_folder)}
        options = shlex.join(f"--{name}={value}" for name, value in settings.items())
        arguments = ["start", "-w", "-t", str(START_TIMEOUT_S), "-D", str(data), "-l", str(log)]
        started = run_program(
            home, programs, "pg_ctl", *arguments, "-o", options, keep=[server_lock]
        )
        if started.returncode != 0:
            raise start_failure(home, started.stdout)


def _release(users_lock: int, home: Path, programs: Path) -> None:
    """At the end of a process: the last user stops the server before it is gone itself.

    Right in forked children too: parent and children share one lock, which holds until the last of
    them has closed it. Hence it must not be converted to an exclusive one here.
    """
    os.close(users_lock)
    deadline = time.monotonic() + 2 * FAST_STOP_TIMEOUT_S
    # Not found: .postgres was deleted.
    with suppress(FileNotFoundError), lock_file(home / "users.lock") as lock:
        while not try_lock(lock, fcntl.LOCK_EX):
            # Shared is to be had: others use the server. If not, the watcher is stopping it.
            if try_lock(lock, fcntl.LOCK_SH) or time.monotonic() > deadline:
                return
            time.sleep(POLL_S)
        stop(home, programs)


def stop(home: Path, programs: Path) -> None:
    """The caller holds users.lock exclusively, so that no one starts the server meanwhile."""
    deadline = time.monotonic() + FAST_STOP_TIMEOUT_S
    with lock_file(home / "server.lock") as server_lock:
        # pg_ctl signals the id in postmaster.pid: not without a server, when it may be another's.
        # Shared, as the watcher has it while it looks: only a server's is in the way.
        while not try_lock(server_lock, fcntl.LOCK_SH):
            mode = "fast" if time.monotonic() < deadline else "immediate"
            arguments = ["-D", str(home / "data"), "-m", mode, "-t", str(FAST_STOP_TIMEOUT_S)]
            run_program(home, programs, "pg_ctl", "stop", *arguments)
            time.sleep(POLL_S)


def start_failure(home: Path, output: str) -> RuntimeError:
    log, tail = home / "server.log", ""
    if log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join([f"The end of {log}:", *lines[-LOG_TAIL_LINES:]])
    return RuntimeError(
        f"The embedded PostgreSQL does not start:\n{output.strip()}\n{tail}\n"
        f"If its data are of no worth, delete {home} and try again. {ADVICE}"
    )
