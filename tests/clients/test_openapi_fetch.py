"""A client by openapi-typescript and openapi-fetch: strict, no typo compiles, and it works."""

from pathlib import Path

import pytest

from tests.clients import typescript
from tests.clients.conftest import MadeOnce, Walk
from tests.openapi import DOCUMENT
from tests.processes import PROJECT

pytestmark = pytest.mark.node("tests/clients/openapi_fetch")

FOLDER = PROJECT / "tests" / "clients" / "openapi_fetch"


@pytest.fixture(scope="module")
def client(made_once: MadeOnce) -> Path:
    command = ["openapi-typescript", str(DOCUMENT), "--output", "api.ts"]
    return made_once("openapi_fetch", lambda folder: typescript.make(folder, FOLDER, command))


def test_generator_complains_of_nothing(client: Path) -> None:
    name, done = (client / typescript.GENERATED).read_text().splitlines()

    assert "openapi-typescript" in name
    assert "openapi.yaml → api.ts" in done


def test_types_are_strict_and_typos_do_not_compile(client: Path) -> None:
    assert (client / typescript.COMPILED).read_text() == ""


@pytest.mark.django_db(transaction=True)
def test_walk(client: Path, walk: Walk) -> None:
    walk(["node", "compiled/walk.js"], client)
