"""`manage.py` and `make` as a person types them, in processes of their own: what they are told."""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.processes import PATIENCE_S, PROJECT, database_url, free_port, start, wait_until
from todo_project import development
from todo_project.management.commands import runserver

REFUSAL = """\
Refusing to start:
  - SECRET_KEY: required with DEBUG off; make one with `make secret`
  - JWT_SIGNING_KEY: required with DEBUG off; make one with `make secret`
  - ALLOWED_HOSTS: required with DEBUG off; valid: host names separated by commas
  - DATABASE_URL: required with DEBUG off; valid: postgresql://user:password@host/database
"""


def run(
    *command: str, folder: Path = PROJECT, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command", ["runserver", "serve", "migrate", "seed_demo", "check", "createsuperuser"]
)
def test_refusal_to_start_is_all_that_is_told(command: str) -> None:
    """[C2] On stderr, without a traceback."""
    refused = run(sys.executable, "manage.py", command, DEBUG="false")

    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", REFUSAL)


def test_python_without_django_is_told_where_it_is() -> None:
    """As `python3 manage.py ...` is, where .venv isn't activated."""
    refused = run(sys.executable, "-S", "manage.py", "seed_demo")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"Django is not installed for {sys.executable}. ")
    assert ".venv/bin/python manage.py seed_demo" in refused.stderr or "make run" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("target", ["run", "secret", ".env"])
def test_make_names_the_python_that_is_missing(target: str, tmp_path: Path) -> None:
    for file in ("Makefile", ".env.example", "requirements.txt", "requirements-local.txt"):
        shutil.copy(PROJECT / file, tmp_path)

    refused = run("make", target, "PYTHON=nope", folder=tmp_path)

    assert refused.returncode == 2
    assert refused.stderr.startswith("There is no nope here. Name a Python from 3.11 to 3.13")
    assert not (tmp_path / ".env").exists()


# --- The development server -------------------------------------------------------------------


@pytest.fixture
def note() -> Iterator[Path]:
    """Where the server writes its address, for one test at a time. The developer's is put back."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed: other workers run tests, too
        before = development._NOTE.read_text() if development._NOTE.exists() else None
        yield development._NOTE
        if before is None:
            development._NOTE.unlink(missing_ok=True)
        else:
            development._NOTE.write_text(before)


@contextmanager
def running(log: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`manage.py runserver`, on the database of the tests."""
    env = {
        "PATH": os.environ["PATH"],
        "DEBUG": "true",
        "DATABASE_URL": database_url(settings.DATABASES["default"]["NAME"]),
        "DATABASE_PREPARED_STATEMENTS": str(settings.PREPARED_STATEMENTS).lower(),
        **variables,
    }
    with log.open("w") as output:
        process = start("runserver", *arguments, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_server_tells_that_its_port_is_taken(
    django_db_setup: None, tmp_path: Path, note: Path
) -> None:
    """And no address, because what answers there is somebody else."""
    log = tmp_path / "log"
    noted = note.read_text() if note.exists() else None
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with running(log, str(port)) as process:
            assert process.wait(timeout=PATIENCE_S) == 1

    told = log.read_text()
    assert f"Error: Port {port} is taken. Choose another: make run PORT={port + 1}, or" in told
    assert "http://" not in told
    assert "Traceback" not in told
    assert (note.read_text() if note.exists() else None) == noted


def test_server_tells_its_addresses_and_a_line_for_each_request(
    django_db_setup: None, tmp_path: Path, note: Path
) -> None:
    """PORT says where; static files have no line; Ctrl-C ends it."""
    port = free_port()
    log = tmp_path / "log"
    with running(log, "--noreload", PORT=str(port)) as process:
        wait_until(lambda: "Ctrl-C ends the server." in log.read_text())
        assert f"  API            http://127.0.0.1:{port}/api/me/tasks\n" in log.read_text()
        assert note.read_text() == f"http://127.0.0.1:{port}\n"
        before = len(log.read_text())
        for path, status in (
            ("/static/admin/css/base.css", 200),
            ("/static/nope.css", 404),
            ("/api/me/tasks?limit=2&search=caf%C3%A9", 401),
        ):
            with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as client:
                client.request("GET", path)
                assert client.getresponse().status == status
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 0

    lines = [line for line in log.read_text()[before:].splitlines() if line.startswith("GET ")]
    assert [line.rsplit(" ", 2)[0] for line in lines] == [
        "GET /static/nope.css 404",
        "GET /api/me/tasks?limit=2&search=caf%C3%A9 401",
    ]
    assert all(line.endswith(" ms") for line in lines)


@pytest.mark.parametrize(
    ("address", "is_ipv6", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:8001"),
        ("0.0.0.0", False, "http://127.0.0.1:8001"),
        ("0", False, "http://127.0.0.1:8001"),
        ("::1", True, "http://[::1]:8001"),
        ("todo.test", False, "http://todo.test:8001"),
    ],
)
def test_server_tells_addresses_that_can_be_opened(
    address: str, is_ipv6: bool, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(development, "_NOTE", tmp_path / "note")
    told = StringIO()
    command = runserver.Command(stdout=told)
    command.addr, command._raw_ipv6 = address, is_ipv6

    command.on_bind(8001)

    assert f" {url}/api/docs\n" in told.getvalue()
    assert development.server(default_port=1) == url


def test_server_tells_what_stands_below_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """[C3]"""
    monkeypatch.setattr(development, "_NOTE", tmp_path / "note")
    settings.PATH_PREFIX = "/todo"
    told = StringIO()
    command = runserver.Command(stdout=told)
    command.addr, command._raw_ipv6 = "127.0.0.1", False

    command.on_bind(8001)

    assert re.findall(r"http://\S+", told.getvalue()) == [
        "http://127.0.0.1:8001/todo/api/docs",
        "http://127.0.0.1:8001/todo/api/me/tasks",
        "http://127.0.0.1:8001/todo/admin/",
    ]
