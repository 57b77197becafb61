"""`make audit` with PyPI's answers made up: nothing here needs a network."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import PROJECT

# Python imports it when it starts, pip-audit's included.
MADE_UP = """
import json, requests

def get(session, url, **options):
    response = requests.Response()
    response.status_code, text = {answers}.get(url.split("/")[4], {usual})
    response._content = text.encode()
    return response

requests.Session.get = get
"""
CLEAN = (200, json.dumps({"vulnerabilities": []}))
UNKNOWN = (404, "")
HOLE = {
    "id": "PYSEC-2026-1",
    "aliases": [],
    "summary": "A hole.",
    "fixed_in": ["99"],
    "withdrawn": None,
    "published": "2026-01-01T00:00:00Z",
}
HOLED = (200, json.dumps({"vulnerabilities": [HOLE]}))


@pytest.mark.parametrize(
    ("usual", "answers", "is_good", "said"),
    [
        (CLEAN, {}, True, "No known vulnerabilities found"),
        (CLEAN, {"django": HOLED}, False, "PYSEC-2026-1"),
        (CLEAN, {"django": UNKNOWN}, False, "could not be audited: django"),
        (UNKNOWN, {}, False, "could not be audited"),
    ],
    ids=["clean", "a hole", "one not looked up", "none looked up"],
)
def test_audit_is_good_only_where_each_package_was_audited(
    usual: tuple[int, str],
    answers: dict[str, tuple[int, str]],
    is_good: bool,
    said: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(MADE_UP.format(usual=usual, answers=answers))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    # What is installed is not this test's to make anew.
    command = ["make", "--old-file=.venv/installed-dev", "audit"]
    audit = subprocess.run(command, cwd=PROJECT, env=environment, text=True, capture_output=True)

    assert said in audit.stdout + audit.stderr
    assert (audit.returncode == 0) == is_good
