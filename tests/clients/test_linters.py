"""Linters of OpenAPI documents find neither an error nor anything to warn of."""

import json
from pathlib import Path

import pytest

from tests.clients.conftest import run
from tests.openapi import DOCUMENT
from tests.processes import PROJECT

pytestmark = pytest.mark.node("tests/clients/linters")

FOLDER = PROJECT / "tests" / "clients" / "linters"
PROGRAMS = FOLDER / "node_modules" / ".bin"


def test_spectral_finds_nothing(tmp_path: Path) -> None:
    spectral = [str(PROGRAMS / "spectral"), "lint", f"--ruleset={FOLDER / 'spectral.yaml'}"]

    linted = run([*spectral, "--fail-severity=hint", "--display-only-failures", DOCUMENT], tmp_path)

    assert (linted.returncode, linted.stderr) == (0, ""), linted.stdout
    assert linted.stdout.startswith("No results with a severity of 'hint' or higher found!")


def test_redocly_finds_nothing(tmp_path: Path) -> None:
    redocly = [str(PROGRAMS / "redocly"), "lint", f"--config={FOLDER / 'redocly.yaml'}"]
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}

    linted = run([*redocly, "--format=json", DOCUMENT], tmp_path, **quiet)

    assert linted.returncode == 0, linted.stderr
    report = json.loads(linted.stdout)
    assert (report["problems"], report["totals"]["warnings"]) == ([], 0)
