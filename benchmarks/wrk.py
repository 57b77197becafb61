"""Load by wrk: closed loops, each connection sends its next request when the answer is there.

Under such a load latency is the number of connections over requests/s wherever the server is the
bottleneck; paced.py measures what people would wait.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk.lua")
# Closed connections and late answers are failures; an answer that a long queue delays is not late.
TIMEOUT = "60s"


class LoadError(Exception):
    """Not every request was answered with success, or there was no load at all."""


@dataclass(frozen=True)
class Load:
    """What wrk saw. Every request succeeded."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests/s."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Traffic:
    """Requests of one route; the files are those that wrk.lua describes."""

    route: str
    accounts: Path
    doomed: Path | None = None


def require_wrk() -> None:
    """Raises LoadError where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk is missing: apt-get install wrk (Debian, Ubuntu), and run this again.")


def load(port: int, traffic: Traffic, *, connections: int, seconds: int) -> Load:
    """Raises LoadError where a request fails."""
    files = [str(path) for path in (traffic.accounts, traffic.doomed) if path]
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--latency", "--timeout", TIMEOUT),
        *("--script", str(SCRIPT), f"http://127.0.0.1:{port}", "--", traffic.route, *files),
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        result = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise LoadError(f"wrk failed: {ended.stderr}{ended.stdout}") from None
    if result.pop("failures") or not result["requests"]:
        raise LoadError(f"Requests of `{traffic.route}` failed: {ended.stdout}")
    return Load(**result)
