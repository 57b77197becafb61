"""What tests need of Node is found and installed, or they say by name what is missing."""

import json
from pathlib import Path

import pytest

from tests import node
from tests.processes import PROJECT

LOCKS = [
    path
    for folder in ("examples", "tests")
    for path in (PROJECT / folder).rglob("package-lock.json")
    if "node_modules" not in path.parts
]


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lock file; `npm ci` there counts its runs in `runs`."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "node", "echo v20.0.0")
    program(tmp_path / "bin", "npm", "echo run >> runs; mkdir -p node_modules")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.delenv("REQUIRE_NODE", raising=False)
    (tmp_path / "package-lock.json").write_text("{}")
    return tmp_path


def test_packages_are_installed_once_for_each_lock_file(packages: Path) -> None:
    for _ in range(2):
        node._install.cache_clear()  # as another process
        node.prepare(packages, "test_of_something")
    assert (packages / "runs").read_text() == "run\n"

    (packages / "package-lock.json").write_text('{"packages": {}}')
    node._install.cache_clear()
    node.prepare(packages, "test_of_something")

    assert (packages / "runs").read_text() == "run\nrun\n"


@pytest.mark.parametrize(
    ("name", "script", "fault"),
    [
        ("node", None, "there is no node here; install Node 20 or later"),
        ("npm", None, "there is no npm here; install Node 20 or later"),
        ("node", "echo v18.20.4", "node is v18.20.4; install Node 20 or later"),
        ("node", "exit 1", "node is broken; install Node 20 or later"),
        ("npm", "echo 'npm error code ENOTFOUND' >&2; exit 1", "npm ci failed in"),
    ],
)
def test_what_is_missing_is_told_by_name(
    name: str, script: str | None, fault: str, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(packages / "bin"))
    (packages / "bin" / name).unlink()
    if script is not None:
        program(packages / "bin", name, script)

    with pytest.raises(pytest.skip.Exception, match=f"^test_of_something: {fault}"):
        node.prepare(packages, "test_of_something")
    monkeypatch.setenv("REQUIRE_NODE", "true")
    with pytest.raises(pytest.fail.Exception, match=f"^test_of_something: {fault}"):
        node.prepare(packages, "test_of_something")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_lock_pins_every_package_and_names_no_registry(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    del packages[""]

    assert packages
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
