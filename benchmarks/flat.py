"""Is a list as fast for a user with 100,000 tasks as for one with 100?

Both live in one database and get pages of 20 rows; where a page is not full, as for a search that
finds nothing, it isn't for either. Requests for the two alternate, one after another on one
connection. `waited` is how long the server waited for PostgreSQL, by a proxy between them which
adds a tenth of a millisecond of its own; CPU times are microseconds for each request.

    --long   instead: every route in a database with 1,000,000 tasks and in one with 10,000,000. The
             first time it seeds both, which takes some ten minutes and 6 GB of disk
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, repeat
from urllib.parse import urlencode

from . import command
from .client import Connection
from .command import Bench, FailedError
from .dataset import Account, Dataset, Scale
from .processes import ProcessTree
from .proxy import DelayingProxy, delaying_proxy
from .report import table
from .servers import Server, ours, running
from .traffic import READ_ROUTES, ROUTES, Request, list_page, of_route

SCALE = Scale(users=1_000, tasks_per_user=100, heavy_tasks=100_000)
LONG_SCALES = (
    Scale(users=10_000, tasks_per_user=100),
    Scale(users=100_000, tasks_per_user=100),
)
PAGE_ROWS = 20
# Each finds a full page for whoever has 100 tasks.
FILTERS = (
    *(("is_completed", value) for value in ("true", "false")),
    *(("priority", value) for value in ("none", "none,low,medium")),
    *(("has_labels", value) for value in ("true", "false")),
    *(("has_due", value) for value in ("true", "false")),
    ("list_id", "inbox"),
)
# By which column, and before which share of the account's tasks.
BOUNDS: Sequence[tuple[str, str, float]] = (
    *((f"{name}_after", f"{name}_at", 0.25) for name in ("created", "updated", "completed")),
    *((f"{name}_before", f"{name}_at", 0.75) for name in ("created", "updated", "completed")),
    ("due_after", "due_on", 0.25),
    ("due_before", "due_on", 0.75),
    ("startable_on", "due_on", 0.5),
)
ORDERS = (
    *("created_at", "updated_at", "completed_at", "title"),
    *("due", "priority", "position", "start_on"),
)
DEEP_PAGE = 500
# Requests of one kind before it is the other's turn: enough for CPU time, which comes in 10 ms.
TURN_REQUESTS = 25
WARM_UP_REQUESTS = 10

HEADER = ("CPU µs", "PostgreSQL's", "waited p50 ms", "request p50 ms")


@dataclass(frozen=True)
class Subject:
    """A server with the proxy behind it, and what it is asked for."""

    server: Server
    proxy: DelayingProxy
    requests: Iterator[Request]


@dataclass
class Cost:
    """What requests of one kind have cost so far."""

    cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    rows: set[int] = field(default_factory=set)  # on a page

    def figures(self) -> list[float]:
        """In the order of HEADER."""
        count = len(self.seconds)
        return [
            self.cpu_s * 1e6 / count,
            self.postgres_cpu_s * 1e6 / count,
            statistics.median(self.waited_s) * 1000,
            statistics.median(self.seconds) * 1000,
        ]


async def alternate(
    subjects: Sequence[Subject], postgres: ProcessTree | None, turns: int
) -> list[Cost]:
    """Lets the subjects answer in turn; the cost of each. `postgres` None: its CPU time is 0."""
    costs = [Cost() for _ in subjects]
    connections = [await Connection.open(subject.server.port) for subject in subjects]
    for subject, connection in zip(subjects, connections, strict=True):
        for request in islice(subject.requests, WARM_UP_REQUESTS):
            await connection.send(request)
    for _ in range(turns):
        for subject, connection, cost in zip(subjects, connections, costs, strict=True):
            cpu_s = subject.server.processes.cpu_seconds()
            postgres_cpu_s = postgres.cpu_seconds() if postgres else 0.0
            for request in islice(subject.requests, TURN_REQUESTS):
                await _send(subject, connection, request, cost)
            cost.cpu_s += subject.server.processes.cpu_seconds() - cpu_s
            cost.postgres_cpu_s += (postgres.cpu_seconds() if postgres else 0.0) - postgres_cpu_s
    for connection in connections:
        connection.close()
    return costs


async def _send(subject: Subject, connection: Connection, request: Request, cost: Cost) -> None:
    waited_s, start = subject.proxy.waited_s, time.perf_counter()
    body = await connection.send(request)
    cost.seconds.append(time.perf_counter() - start)
    cost.waited_s.append(subject.proxy.waited_s - waited_s)
    if request.route == "list":
        cost.rows.add(len(json.loads(body)["data"]))


async def _deep_page(server: Server, account: Account) -> Request:
    """The request of page DEEP_PAGE, which is found by walking there."""
    connection = await Connection.open(server.port)
    request = list_page(account, f"limit={PAGE_ROWS}")
    for _ in range(DEEP_PAGE - 1):
        cursor = json.loads(await connection.send(request))["meta"]["next_cursor"]
        request = list_page(account, urlencode({"limit": PAGE_ROWS, "cursor": cursor}))
    connection.close()
    return request


def _lists(dataset: Dataset) -> dict[str, Callable[[Account], Request]]:
    """Every filter and order, by the name to print; bounds of time lie among the account's own."""

    def by(**query: str) -> Callable[[Account], Request]:
        return lambda account: list_page(account, urlencode({"limit": PAGE_ROWS, **query}))

    def by_time(name: str, column: str, share: float) -> Callable[[Account], Request]:
        def make(account: Account) -> Request:
            bound = dataset.time_at(account, column, share).isoformat()
            return list_page(account, urlencode({"limit": PAGE_ROWS, name: bound}))

        return make

    lists = {"page 1": by()}
    lists |= {f"{name}={value}": by(**{name: value}) for name, value in FILTERS}
    lists["search, often found"] = by(search="the")
    lists["search, never found"] = by(search="never found")
    lists["labels, never found"] = by(labels="never found")
    lists |= {name: by_time(name, column, share) for name, column, share in BOUNDS}
    for order in ORDERS:
        for sign in ("", "-"):
            lists[f"ordering={sign}{order}"] = by(ordering=f"{sign}{order}")
    for orders in ("-created_at,title", "-completed_at,title"):
        lists[f"ordering={orders}"] = by(ordering=orders)
    return lists


def compare_users(bench: Bench, turns: int) -> None:
    """Prints the costs of each list for a user with many tasks and for one with few."""
    dataset = bench.dataset(SCALE)
    small, heavy = dataset.sign_in()[0], dataset.sign_in_heavy()
    with (
        delaying_proxy(dataset.url) as (proxy, url),
        running(ours(), url, bench.folder / "ours.log") as server,
    ):

        def measure(name: str, small_request: Request, heavy_request: Request) -> list[list[str]]:
            requests = (small_request, heavy_request)
            subjects = [Subject(server, proxy, repeat(request)) for request in requests]
            costs = asyncio.run(alternate(subjects, bench.postgres, turns))
            if costs[0].rows != costs[1].rows:
                raise FailedError(f"{name}: pages of {costs[0].rows} and {costs[1].rows} rows.")
            return _rows(name, (f"{SCALE.tasks_per_user:,}", f"{SCALE.heavy_tasks:,}"), costs)

        rows: list[list[str]] = []
        for name, make in _lists(dataset).items():
            rows += measure(name, make(small), make(heavy))
            if name == "page 1":
                deep = asyncio.run(_deep_page(server, heavy))
                rows += measure(f"page 1, page {DEEP_PAGE}", make(small), deep)
    print(f"\n{table(('list', 'tasks', *HEADER), rows)}\n")


def compare_tables(bench: Bench, turns: int) -> None:
    """Prints the costs of each route in a table and in one that is ten times as large."""
    datasets = [bench.dataset(scale) for scale in LONG_SCALES]
    accounts = [dataset.sign_in() for dataset in datasets]
    rows: list[list[str]] = []
    with ExitStack() as stack:
        behind = []
        for dataset in datasets:
            proxy, url = stack.enter_context(delaying_proxy(dataset.url))
            log = bench.folder / f"{dataset.scale.database}.log"
            behind.append((stack.enter_context(running(ours(), url, log)), proxy))
        for route in ROUTES:
            count = WARM_UP_REQUESTS + turns * TURN_REQUESTS
            streams = [
                of_route(route, people, dataset.add_doomed(people, count))
                if route == "delete"
                else of_route(route, people)
                for people, dataset in zip(accounts, datasets, strict=True)
            ]
            subjects = [
                Subject(*each, stream) for each, stream in zip(behind, streams, strict=True)
            ]
            costs = asyncio.run(alternate(subjects, bench.postgres, turns))
            rows += _rows(route, [f"{scale.tasks:,}" for scale in LONG_SCALES], costs)
            if route not in READ_ROUTES:
                for dataset in datasets:
                    dataset.restore()
    print(f"\n{table(('route', 'tasks', *HEADER), rows)}\n")


def _rows(name: str, sizes: Sequence[str], costs: Sequence[Cost]) -> list[list[str]]:
    """A row for each size, and the ratio of the second to the first."""
    first, second = (cost.figures() for cost in costs)
    ratios = [f"{b / a:.2f}" if a else "unknown" for a, b in zip(first, second, strict=True)]
    return [
        *(
            [name, size, *map(_shown, cost.figures())]
            for size, cost in zip(sizes, costs, strict=True)
        ),
        [name, "ratio", *ratios],
    ]


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=4, help=f"of {TURN_REQUESTS} requests each")
    parser.add_argument("--long", action="store_true", help="compare the sizes of the table")
    options = parser.parse_args()
    if options.long and options.database_url:
        parser.error("--long makes two databases of its own")
    with command.open_bench(options.database_url) as bench:
        (compare_tables if options.long else compare_users)(bench, options.turns)


if __name__ == "__main__":
    command.run(main)
