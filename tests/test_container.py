"""The service as its image runs it, without an engine.

From a copy of exactly what the image copies, which can't be written; without the powers of root;
with the environment of compose.yaml, on a database with its roles; and as process 1.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.postgres import PrivatePostgres
from tests.image import compose, copied, environment_of, is_ignored, last
from tests.processes import PATIENCE_S, PROJECT, free_port, wait_until
from tests.roles import APP, OWNER, postgres_with_roles, url_of

PROCESSES = 2


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """What the image has of the checkout, in a folder that can't be written."""
    # Not where TMPDIR says, nor in pytest's: nobody must be able to get there.
    folder = Path(tempfile.mkdtemp(prefix="todo-image-", dir="/tmp"))
    root = folder / "srv"
    root.mkdir()
    for source, to in copied():
        target = root / to / source if to == "./" else root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / source).is_dir():
            shutil.copytree(PROJECT / source, target, ignore=_ignored_in(source))
        else:
            shutil.copy(PROJECT / source, target)
    compiled = subprocess.run([sys.executable, "-m", "compileall", "-q", "."], cwd=root)
    assert compiled.returncode == 0
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o755)
    try:
        yield root
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def _ignored_in(source: str) -> Any:
    def ignored(folder: str, names: list[str]) -> set[str]:
        below = Path(source, Path(folder).relative_to(PROJECT / source))
        return {name for name in names if is_ignored(str(below / name))}

    return ignored


@pytest.fixture(scope="module")
def database() -> Iterator[PrivatePostgres]:
    with postgres_with_roles() as server:
        yield server


@pytest.fixture(scope="module")
def powerless() -> list[str]:
    """What begins the image's programs: as `cap_drop: [ALL]`, or root could write anything."""
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing, by which root gives up its powers")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


class Container:
    """The image's entry point, with the environment that the image and compose.yaml give it."""

    def __init__(self, image: Path, powerless: Sequence[str], database: PrivatePostgres) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="todo-tmp-", dir="/tmp"))  # its /tmp
        self._powerless = powerless
        self._options: dict[str, Any] = {
            "cwd": image,
            "env": {
                "PATH": os.environ["PATH"],
                "TMPDIR": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment_of(compose()["services"]["service"]),
                "PORT": str(self.port),
                "DATABASE_URL": url_of(database, APP),
                "DIRECT_DATABASE_URL": url_of(database, OWNER),
            },
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, *json.loads(last("ENTRYPOINT"))[1:], *arguments]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._powerless, *command],
            **self._options,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @contextmanager
    def running(self, *launcher: str) -> Iterator[subprocess.Popen[str]]:
        """`serve`; its log is the pipe, which is read at the end."""
        options = [f"--processes={PROCESSES}", "--drain-seconds=5"]
        with ExitStack() as stack:
            log = stack.enter_context((self.folder.parent / f"{self.folder.name}.log").open("w+"))
            stack.callback(os.unlink, log.name)
            process = subprocess.Popen(
                [*launcher, *self._powerless, *self.command("serve", *options)],
                **self._options,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                wait_until(lambda: self.status("/readyz") == 200 or process.poll() is not None)
                log.seek(0)
                assert process.poll() is None, log.read()
                yield process
            finally:
                for child in _all_of(process):
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
                process.wait()

    def status(self, path: str) -> int | None:
        """Of a GET; None where nobody answers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


def _all_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def container(
    image: Path, powerless: Sequence[str], database: PrivatePostgres
) -> Iterator[Container]:
    made = Container(image, powerless, database)
    migrated = made.run(*made.command("migrate", "--verbosity", "0"))
    assert (migrated.returncode, migrated.stdout) == (0, "")
    try:
        yield made
    finally:
        shutil.rmtree(made.folder)


def test_container_serves_and_drains(container: Container) -> None:
    """From a file system that it can't write, until SIGTERM."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing, by which docker/walk.sh walks")
    with container.running() as process:
        written = container.run(sys.executable, "-c", "open('manage.py', 'a')")
        assert "PermissionError" in written.stdout
        walk = container.run(str(PROJECT / "docker/walk.sh"), f"http://127.0.0.1:{container.port}")
        assert walk.returncode == 0, walk.stdout
        healthy = container.run(sys.executable, *json.loads(_health_command())[1:])
        assert (healthy.returncode, healthy.stdout) == (0, "")

        process.send_signal(signal.SIGTERM)
        wait_until(lambda: container.status("/readyz") == 503)
        assert container.status("/livez") == 200
        assert process.wait(PATIENCE_S) == 0
    assert list(container.folder.iterdir()) == []
    unhealthy = container.run(sys.executable, *json.loads(_health_command())[1:])
    assert unhealthy.returncode == 1


def _health_command() -> str:
    return last("HEALTHCHECK").partition("CMD ")[2]


def test_service_cannot_change_the_schema(container: Container, database: PrivatePostgres) -> None:
    """Its role owns nothing: docker/10-roles.sh."""
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    rights = "SELECT DISTINCT privilege_type FROM information_schema.role_table_grants"
    rights += " WHERE grantee = %s AND table_schema = 'public'"
    assert database.execute(owners) == [(OWNER,)]
    assert {right for (right,) in database.execute(rights, APP)} == {
        *("SELECT", "INSERT", "UPDATE", "DELETE")
    }

    checked = container.run(
        *container.command("check", "--database", "default", "--fail-level", "WARNING")
    )
    assert "no issues" in checked.stdout
    refused = container.run(*container.command("shell", "-c", _DROP))
    assert "must be owner of table" in refused.stdout


_DROP = "from django.db import connection; connection.cursor().execute('DROP TABLE tasks_task')"


def test_first_process_of_a_container(container: Container) -> None:
    """As process 1 it hears SIGTERM, replaces a worker that dies, and leaves no zombie behind."""
    new_names = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.getuid() != 0:
        new_names += ["--user", "--map-current-user"]
    try:
        probe = subprocess.run([*new_names, "true"], text=True, stdout=PIPE, stderr=STDOUT)
    except FileNotFoundError as missing:
        pytest.skip(f"{missing.filename} is missing")
    if probe.returncode != 0:
        pytest.skip(f"no process names of one's own here: {probe.stdout}")

    with container.running(*new_names) as launched:
        (first,) = psutil.Process(launched.pid).children()
        assert _number_inside(first) == 1

        victim = _workers(first)[0]
        victim.kill()
        wait_until(lambda: victim not in _workers(first) and len(_workers(first)) == PROCESSES)
        assert container.status("/livez") == 200
        statuses = [child.status() for child in first.children(recursive=True)]
        assert psutil.STATUS_ZOMBIE not in statuses

        first.send_signal(signal.SIGTERM)
        wait_until(lambda: container.status("/readyz") == 503)
        assert launched.wait(PATIENCE_S) == 0


def _number_inside(process: psutil.Process) -> int:
    """By its own process names."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def _workers(parent: psutil.Process) -> list[psutil.Process]:
    """Those that live; Python's helper isn't one."""
    return [child for child in parent.children() if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return is_alive and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return False
