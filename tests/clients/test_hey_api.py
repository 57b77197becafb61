"""A client by @hey-api/openapi-ts: strict, no typo compiles, and it works."""

import re
from pathlib import Path

import pytest

from tests.clients import typescript
from tests.clients.conftest import MadeOnce, Walk
from tests.openapi import DOCUMENT
from tests.processes import PROJECT

pytestmark = pytest.mark.node("tests/clients/hey_api")

FOLDER = PROJECT / "tests" / "clients" / "hey_api"


@pytest.fixture(scope="module")
def client(made_once: MadeOnce) -> Path:
    command = ["openapi-ts", "--input", str(DOCUMENT), "--output", "client", "--no-log-file"]
    return made_once("hey_api", lambda folder: typescript.make(folder, FOLDER, command))


def test_generator_complains_of_nothing(client: Path) -> None:
    said = (client / typescript.GENERATED).read_text()

    assert "Done!" in said
    assert [
        line for line in said.splitlines() if re.search("warn|error|⚠|❌", line, re.IGNORECASE)
    ] == []


def test_types_are_strict_and_typos_do_not_compile(client: Path) -> None:
    assert (client / typescript.COMPILED).read_text() == ""


@pytest.mark.django_db(transaction=True)
def test_walk(client: Path, walk: Walk) -> None:
    walk(["node", "compiled/walk.js"], client)
