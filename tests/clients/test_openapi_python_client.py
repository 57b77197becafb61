"""A client by openapi-python-client: strict types, and it works."""

import os
import sys
from pathlib import Path
from shutil import copy

import pytest

from tests.clients.conftest import MadeOnce, Walk, run
from tests.openapi import DOCUMENT
from tests.processes import PROJECT

WALK = PROJECT / "tests" / "clients" / "openapi_python_client" / "walk.py"
GENERATED = "generated.txt"


@pytest.fixture(scope="module")
def client(made_once: MadeOnce) -> Path:
    """A folder with the package, and the walk."""

    def make(folder: Path) -> None:
        command = ["-m", "openapi_python_client", "generate", f"--path={DOCUMENT}"]
        generated = run(
            [sys.executable, *command, f"--output-path={folder}", "--overwrite"],
            folder,
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # it formats with ruff
        )
        (folder / GENERATED).write_text(generated.stdout + generated.stderr)
        copy(WALK, folder)

    return made_once("openapi_python_client", make)


def test_generator_complains_of_nothing(client: Path) -> None:
    (said,) = (client / GENERATED).read_text().splitlines()

    assert said.startswith("Generating ")


def test_types_are_strict(client: Path) -> None:
    checked = run([sys.executable, "-m", "mypy", "--strict", "."], client)

    assert checked.returncode == 0, checked.stdout


def test_typo_is_found_by_types(client: Path, tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text(
        "from todo_api_client.models import TaskRequest\n\nTaskRequest('x', descripton='x')\n"
    )

    checked = run([sys.executable, "-m", "mypy", "typo.py"], tmp_path, MYPYPATH=str(client))

    assert 'Unexpected keyword argument "descripton"' in checked.stdout


@pytest.mark.django_db(transaction=True)
def test_walk(client: Path, walk: Walk) -> None:
    walk([sys.executable, "walk.py"], client)
