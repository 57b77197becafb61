"""On what was measured: the machine and the versions, without names of folders or hosts."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psycopg

from .service import PROJECT

OURS = ("Django", "djangorestframework", "psycopg", "httptools", "orjson", "PyJWT")
PEERS = ("fastapi", "sqlmodel", "SQLAlchemy", "asyncpg", "uvicorn", "uvloop", "pydantic", "PyJWT")
POSTGRES_SETTINGS = ("shared_buffers", "fsync", "synchronous_commit")


def describe(connection: psycopg.Connection) -> dict[str, str]:
    """What to name beside figures, in the order in which to name it."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", info)
    kib = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    settings = [f"{name} {_setting(connection, name)}" for name in POSTGRES_SETTINGS]
    return {
        "Processor": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "Memory": f"{int(kib[1]) / 2**20:.0f} GiB" if kib else "unknown",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": ", ".join([_setting(connection, "server_version"), *settings]),
        "Load": _wrk_version(),
        "Service, floor": ", ".join(f"{name} {version(name)}" for name in OURS),
        "Peer": ", ".join(f"{name} {_locked(name)}" for name in PEERS),
    }


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _locked(name: str) -> str:
    """The version that the peer's environment is made with."""
    lock = (PROJECT / "benchmarks" / "requirements.txt").read_text()
    match = re.search(rf"^{name}==(\S+)", lock, re.MULTILINE | re.IGNORECASE)
    assert match is not None, name
    return match[1]


def _wrk_version() -> str:
    # It prints its version with its usage, and fails.
    ended = subprocess.run(["wrk", "--version"], check=False, capture_output=True, text=True)  # noqa: S607
    return " ".join((ended.stdout + ended.stderr).split()[:2])
