"""Loads the servers in turn, and takes down what each request cost."""

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from . import wrk
from .command import Bench
from .dataset import DOOMED_PER_SECOND, Account, Dataset, write_accounts, write_doomed
from .servers import Server
from .traffic import READ_ROUTES

WARM_UP_S = 1
WARM_UP_CONNECTIONS = 32
MEMORY_SAMPLE_S = 0.2
# A load is at least so much longer, or many connections wouldn't get to their second request.
SECONDS_PER_CONNECTION = 0.006


@dataclass(frozen=True, order=True)
class Point:
    """What is measured: a route of a server at a number of connections."""

    connections: int
    route: str
    server: str


@dataclass(frozen=True)
class Measurement:
    """One load. CPU times are microseconds for each request."""

    cpu_us: float
    postgres_cpu_us: float | None
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    peak_pss_mib: float


class Comparison:
    """Servers on one database, and the people who use them."""

    def __init__(
        self,
        bench: Bench,
        dataset: Dataset,
        servers: Sequence[Server],
        accounts: Sequence[Account],
        seconds: int,
    ) -> None:
        self._postgres = bench.postgres
        self._dataset = dataset
        self._servers = servers
        self._accounts = accounts
        self._seconds = seconds
        self._accounts_file = bench.folder / "accounts"
        self._doomed_file = bench.folder / "doomed"
        write_accounts(accounts, self._accounts_file)

    def warm_up(self) -> None:
        """Lets every server connect, prepare its statements and fill its caches; unmeasured."""
        for server in self._servers:
            for route in ("list", "patch"):
                self._load(server, route, WARM_UP_CONNECTIONS, WARM_UP_S)
        self._dataset.restore()

    def round(self, plan: Sequence[tuple[int, str]]) -> Iterator[tuple[Point, Measurement]]:
        """Measures each pair of connections and route on every server, one right after the other.

        Who comes first changes at random, so that none always finds the caches warm.
        """
        for connections, route in plan:
            for server in random.sample(self._servers, len(self._servers)):
                if route == "delete":
                    self._prepare_doomed(connections)
                yield (
                    Point(connections, route, server.name),
                    self._measure(server, route, connections),
                )
                server.rest()
                if route not in READ_ROUTES:
                    self._dataset.restore()

    def _measure(self, server: Server, route: str, connections: int) -> Measurement:
        postgres = self._postgres
        postgres_before = postgres.cpu_seconds() if postgres else 0.0
        before = server.processes.cpu_seconds()
        with PeakMemory(server) as memory:
            load = self._load(server, route, connections, self._duration(connections))
        cpu_s = server.processes.cpu_seconds() - before
        postgres_cpu_s = postgres.cpu_seconds() - postgres_before if postgres else None
        return Measurement(
            cpu_us=cpu_s * 1e6 / load.requests,
            postgres_cpu_us=None
            if postgres_cpu_s is None
            else postgres_cpu_s * 1e6 / load.requests,
            rate=load.rate,
            p50_ms=load.p50_ms,
            p95_ms=load.p95_ms,
            p99_ms=load.p99_ms,
            peak_pss_mib=memory.peak_bytes / 2**20,
        )

    def _load(self, server: Server, route: str, connections: int, seconds: int) -> wrk.Load:
        doomed: Path | None = self._doomed_file if route == "delete" else None
        traffic = wrk.Traffic(route, self._accounts_file, doomed)
        try:
            return wrk.load(server.port, traffic, connections=connections, seconds=seconds)
        except wrk.LoadError as error:
            raise wrk.LoadError(f"{server.name}: {error}") from None

    def _duration(self, connections: int) -> int:
        return max(self._seconds, round(SECONDS_PER_CONNECTION * connections))

    def _prepare_doomed(self, connections: int) -> None:
        count = DOOMED_PER_SECOND * self._duration(connections)
        write_doomed(self._dataset.add_doomed(self._accounts, count), self._doomed_file)


class PeakMemory:
    """The greatest PSS of a server during the block, looked at every MEMORY_SAMPLE_S."""

    def __init__(self, server: Server) -> None:
        self.peak_bytes = 0
        self._server = server
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(MEMORY_SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, self._server.processes.pss_bytes())
