"""The production server as a process of its own, and clients that speak to it over the network."""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
from django.conf import settings

from tests import processes
from tests.client import remember_secrets
from tests.processes import PATIENCE_S, free_port, wait_until

PROCESSES = 2
THREADS = 2
TIME_LIMIT_S = settings.REQUEST_TIME_LIMIT_SECONDS
# What callers have sent or were given that no service may log.
SECRETS = {settings.SECRET_KEY, settings.JWT_SIGNING_KEY}


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    method: str
    path: str
    status: int
    headers: HTTPMessage  # whatever the case of their names
    content: bytes
    seconds: float
    sent: Any = None

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        start = self.content[:200].decode(errors="replace")
        return f"{self.method} {self.path}: {self.status} after {self.seconds:.2f} s: {start}"


class Caller:
    """One client on one connection, which it keeps; not to be shared by threads.

    Whatever breaks is raised: nothing is sent twice.
    """

    def __init__(self, port: int, access: str = "") -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._access = access

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self._access:
            headers["Authorization"] = f"Bearer {self._access}"
        started = time.monotonic()
        try:
            self._connection.request(method, path, content, headers)
            response = self._connection.getresponse()
            received = response.read()
        except (OSError, HTTPException):
            self._connection.close()  # the next request makes a new one
            raise
        answer = Answer(
            method,
            path,
            response.status,
            response.headers,
            received,
            time.monotonic() - started,
            body,
        )
        remember_secrets(body, SECRETS)
        if path.startswith("/api/auth") and received:
            remember_secrets(answer.body.get("data"), SECRETS)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Account:
    """Somebody who is signed in."""

    email: str
    password: str
    access: str


class Service:
    """`manage.py serve` with production settings, in front of the database at `database_url`.

    It runs the code of `folder`.
    """

    def __init__(
        self,
        database_url: str,
        environment: Mapping[str, str] = MappingProxyType({}),
        *,
        folder: Path = processes.PROJECT,
    ) -> None:
        self.port = free_port()
        self._folder = folder
        limits = {f"RATE_LIMIT_{name.upper().replace('-', '_')}" for name in settings.RATE_LIMITS}
        self._environment = processes.production(
            DATABASE_URL=database_url, **{**dict.fromkeys(limits, "off"), **environment}
        )
        self._log: IO[str] | None = None
        self._process: subprocess.Popen[str] | None = None

    def manage(self, *arguments: str, **environment: str) -> str:
        """Runs a command of manage.py as the service's operator; returns what it printed."""
        with processes.start(
            *arguments,
            env={**self._environment, **environment},
            folder=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            output = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 0, output
        return output

    def start(self, *options: str) -> None:
        """Returns when the process answers, whatever its database does."""
        if self._log is None:
            self._log = tempfile.TemporaryFile(mode="a+")  # noqa: SIM115  # until stop()
        default = ["--processes", str(PROCESSES), "--threads", str(THREADS), "--drain-seconds", "0"]
        self._process = processes.start(
            *("serve", "--host", "127.0.0.1", "--port", str(self.port), *default, *options),
            env=self._environment,
            folder=self._folder,
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self._is_alive)

    def stop(self) -> None:
        """Ends the service as an operator does. Its log must have told no secret."""
        assert self._process is not None
        assert self._log is not None
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self.kill()
            log = self.log()
            self._log.close()
        assert [secret for secret in SECRETS if secret in log] == []

    def kill(self) -> None:
        """Ends all of its processes by SIGKILL."""
        assert self._process is not None
        if self._process.poll() is None:
            workers = self.workers()
            self._process.kill()
            self._process.wait()
            for worker in workers:
                worker.kill()
            psutil.wait_procs(workers, timeout=PATIENCE_S)

    def workers(self) -> list[psutil.Process]:
        """The processes that serve, without the one that watches them and Python's helpers."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def log(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        return self._log.read()

    def causes(self) -> list[str]:
        """The reasons of the 503s so far, as the log has them."""
        return [entry["reason"] for entry in self.faults()]

    def faults(self) -> list[dict[str, Any]]:
        """The log's entries of what the database could not do."""
        return [entry for entry in self._entries() if entry["message"] == "database fault"]

    def defects(self) -> list[dict[str, Any]]:
        """The log's entries of answers that were 500, and of what made them so."""
        return [
            entry
            for entry in self._entries()
            if entry["message"] == "defect" or entry.get("status") == 500
        ]

    def _entries(self) -> list[dict[str, Any]]:
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    def caller(self, account: Account | None = None) -> Caller:
        return Caller(self.port, account.access if account else "")

    def register(self) -> Account:
        """Somebody new, who is signed in."""
        email, password = f"{uuid4()}@example.com", "correct horse battery staple"
        credentials = {"email": email, "password": password}
        with self.caller() as caller:
            user = caller.call("POST", "/api/auth/register", credentials)
            assert user.status == 201, user
            pair = caller.call("POST", "/api/auth/token", credentials)
            assert pair.status == 200, pair
        return Account(email, password, pair.data["access"])

    def at_once(self, requests: Iterable[tuple[Any, ...]], account: Account) -> list[Answer]:
        """The answers to requests that are sent all at the same time, each on its connection."""
        requests = list(requests)
        barrier = threading.Barrier(len(requests))

        def send(request: tuple[Any, ...]) -> Answer:
            with self.caller(account) as caller:
                barrier.wait()
                return caller.call(*request)

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(send, requests))

    def _is_alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            with self.caller() as caller:
                return caller.call("GET", "/livez").status == 200
        except (OSError, HTTPException):
            return False


@contextmanager
def running(*loops: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs functions in threads until the block ends, which an event tells them.

    Raises what they raise.
    """
    end = threading.Event()
    with ThreadPoolExecutor(len(loops)) as pool:
        futures = [pool.submit(loop, end) for loop in loops]
        try:
            yield
        finally:
            end.set()
    for future in futures:
        future.result()
