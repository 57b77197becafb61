"""The three servers that are compared, each with one process on the same core."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from django.conf import settings

from . import cores, service
from .postgres import free_port
from .processes import ProcessTree

PEER_PYTHON = service.PROJECT / ".venv-bench" / "bin" / "python"
THREADS = 4  # of the service, its default, and of the floor; the peer's event loop has one
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40
# Work that a load left behind: a server is at rest when it used no more than a tick in this time.
REST_S = 0.1
REST_TIMEOUT_S = 60


@dataclass(frozen=True)
class Program:
    """How a server is started: its command for a port, and its environment for a database."""

    name: str
    command: Callable[[int], list[str]]
    environment: Callable[[str], Mapping[str, str]]


class Server:
    """A server that runs."""

    def __init__(self, name: str, port: int, processes: ProcessTree) -> None:
        self.name = name
        self.port = port
        self.processes = processes

    def rest(self) -> None:
        """Returns when the server has done what clients that are gone had asked for."""
        deadline = time.monotonic() + REST_TIMEOUT_S
        before = self.processes.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(REST_S)
            now = self.processes.cpu_seconds()
            if now - before <= 0.01:
                return
            before = now


def ours(processes: int = 1, threads: int = THREADS) -> Program:
    """This project as in production, everything on."""

    def command(port: int) -> list[str]:
        return [
            *(sys.executable, "manage.py", "serve", "--host", "127.0.0.1", "--port", str(port)),
            *("--processes", str(processes), "--threads", str(threads), "--drain-seconds", "0"),
        ]

    return Program("ours", command, service.environment)


def peer() -> Program:
    """FastAPI with SQLModel, under uvicorn."""

    def command(port: int) -> list[str]:
        return [
            *(str(PEER_PYTHON), "-m", "uvicorn", "benchmarks.peer_fastapi.main:app"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
        ]

    return Program("peer", command, _bare_environment)


def floor() -> Program:
    """No framework, under the service's own server."""

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.floor", str(port), str(THREADS)]

    return Program("floor", command, _bare_environment)


def require_peer() -> None:
    """Raises RuntimeError where the peer's packages are not installed."""
    if not PEER_PYTHON.exists():
        raise RuntimeError("The peer is not installed: use `make bench`, which does that.")


@contextmanager
def running(
    program: Program, database_url: str, log: Path, *, on: list[int] = cores.SERVER
) -> Iterator[Server]:
    """Runs a server during the block, on the cores `on`; its output goes to the file `log`."""
    port = free_port()
    command = cores.pinned(on, program.command(port))
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=service.PROJECT,
            env=dict(program.environment(database_url)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is the harness' affair, which then stops this
        )
    try:
        _wait_until_it_answers(process, port, log)
        yield Server(program.name, port, ProcessTree(process.pid))
    finally:
        _stop(process)


@contextmanager
def all_running(programs: list[Program], database_url: str, folder: Path) -> Iterator[list[Server]]:
    """Runs servers beside each other; one that gets no requests costs the others nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(running(program, database_url, folder / f"{program.name}.log"))
            for program in programs
        ]


def _bare_environment(database_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "JWT_SIGNING_KEY": settings.JWT_SIGNING_KEY,
    }


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except (OSError, HTTPException):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"A server did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    tree = ProcessTree(process.pid).pids()
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
