"""A running service for programs of generated clients, and where these are made."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jwt
import pytest
from django.conf import settings

from accounts.models import User
from tests.clients.walk import SEEN
from tests.conftest import begin_session
from tests.processes import PATIENCE_S
from tests.serve.conftest import Server, database, running  # noqa: F401  # a fixture

# More writes than the rest of the walk has, and soon reached.
RATE_LIMIT_WRITES = "40/minute"

Make = Callable[[Path], None]
MadeOnce = Callable[[str, Make], Path]
Walk = Callable[..., None]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """Makes a folder, once for all processes of the run that ask for it by this name."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def made(name: str, make: Make) -> Path:
        folder = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                begun = shared / f"{name}.begun"
                shutil.rmtree(begun, ignore_errors=True)
                begun.mkdir()
                make(begun)
                begun.rename(folder)
        return folder

    return made


def run(
    command: Sequence[str | Path], folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, with an environment of its own."""
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.fixture(scope="module")
def server(
    database: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("clients")
    with running(folder, database, processes=1, RATE_LIMIT_WRITES=RATE_LIMIT_WRITES) as server:
        yield server


def past_access(user: User) -> str:
    """An access token whose time has passed."""
    claims = jwt.decode(begin_session(user).access, options={"verify_signature": False})
    past = {**claims, "iat": claims["iat"] - 7200, "exp": claims["exp"] - 7200}
    return jwt.encode(past, settings.JWT_SIGNING_KEY, algorithm="HS256")


@pytest.fixture
def walk(server: Server, alice: User) -> Walk:
    """Takes the walk with a program; of a test marked django_db(transaction=True)."""

    def take(command: Sequence[str | Path], folder: Path, **variables: str) -> None:
        walked = run(
            command,
            folder,
            TODO_URL=f"http://127.0.0.1:{server.port}",
            TODO_PAST_ACCESS=past_access(alice),
            **variables,
        )
        assert walked.stderr == ""
        assert walked.stdout.splitlines() == SEEN

    return take
