"""Node for the tests that need it: finds it, and installs what a folder's package-lock.json names.

A test marked `node(folder)` needs both. Without them it is skipped by name, or fails where
REQUIRE_NODE=true asks for it, as CI does.
"""

import fcntl
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

# The oldest that Better Auth runs on.
VERSION = 20
HOW_TO_INSTALL = f"install Node {VERSION} or later, with npm: https://nodejs.org/en/download"
# No scripts of packages, and little patience with a registry that is out of reach.
NPM_CI = (
    *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"),
)


def prepare(folder: Path, test: str) -> None:
    """Skips or fails `test` where the packages of `folder` can't be had."""
    fault = _missing() or _install(folder)
    if fault is None:
        return
    if os.environ.get("REQUIRE_NODE") == "true":
        pytest.fail(f"{test}: {fault}", pytrace=False)
    pytest.skip(f"{test}: {fault}")


def _missing() -> str | None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"there is no {program} here; {HOW_TO_INSTALL}"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < VERSION:
        return f"node is {version or 'broken'}; {HOW_TO_INSTALL}"
    return None


@cache
def _install(folder: Path) -> str | None:
    """Runs `npm ci` once for each state of the lock file, however many processes ask for it."""
    installed = folder / "node_modules" / ".installed"
    with (folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = lock.read()
        if installed.exists() and installed.read_text() == wanted:
            return None
        run = subprocess.run(NPM_CI, cwd=folder, capture_output=True, text=True)
        if run.returncode != 0:
            return f"npm ci failed in {folder}: {' '.join(run.stderr.split())}"
        installed.write_text(wanted)
    return None
