"""What the way to the database costs: round trips of each request, and latency as they grow longer.

Every server has a proxy between itself and PostgreSQL that adds 0, 1 or 5 ms to each round trip.
One client sends one request after another, so that nothing waits but for the network. Needs
PostgreSQL by TCP; where its URL asks for `sslmode=verify-full`, the proxy's address won't fit.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

from . import command
from .client import Connection
from .dataset import Account, Dataset, Scale
from .proxy import DelayingProxy, delaying_proxy
from .report import table
from .servers import Server, floor, ours, peer, require_peer, running
from .traffic import READ_ROUTES, ROUTES, Request, list_page, of_route

SCALE = Scale(users=1_000, tasks_per_user=100)
DELAYS_MS = (0, 1, 5)
WARM_UP_CONNECTIONS = 16  # more than a server has threads, so that each connects to the database
# Where a server asks the database for something more after its answer has left.
SETTLE_S = 0.02


@dataclass(frozen=True)
class Chain:
    """A server, and the proxy behind it."""

    server: Server
    proxy: DelayingProxy


@dataclass(frozen=True)
class Series:
    """Requests of one route with one delay."""

    round_trips: float  # median of a request
    p50_ms: float


async def measure(chain: Chain, requests: Sequence[Request]) -> Series:
    """Sends the requests one after another."""
    connection = await Connection.open(chain.server.port)
    round_trips, seconds = [], []
    for request in requests:
        before = chain.proxy.round_trips
        start = time.perf_counter()
        await connection.send(request)
        seconds.append(time.perf_counter() - start)
        await asyncio.sleep(SETTLE_S)
        round_trips.append(chain.proxy.round_trips - before)
    connection.close()
    return Series(statistics.median(round_trips), statistics.median(seconds) * 1000)


async def warm_up(chain: Chain, account: Account) -> None:
    connections = [await Connection.open(chain.server.port) for _ in range(WARM_UP_CONNECTIONS)]
    for _ in range(3):
        await asyncio.gather(*(c.send(list_page(account, "limit=20")) for c in connections))
    for connection in connections:
        connection.close()


def measure_route(
    chain: Chain, dataset: Dataset, accounts: Sequence[Account], route: str, count: int
) -> list[Series]:
    """A series for each delay."""
    found = []
    for delay_ms in DELAYS_MS:
        chain.proxy.delay_s = delay_ms / 1000
        doomed = dataset.add_doomed(accounts, count) if route == "delete" else ()
        requests = list(islice(of_route(route, accounts, doomed), count))
        found.append(asyncio.run(measure(chain, requests)))
        if route not in READ_ROUTES:
            dataset.restore()
    chain.proxy.delay_s = 0
    return found


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--requests", type=int, default=40, help="of a series (default: 40)")
    options = parser.parse_args()
    require_peer()
    with command.open_bench(options.database_url) as bench, ExitStack() as stack:
        dataset = bench.dataset(SCALE)
        accounts = dataset.sign_in()
        chains = []
        for program in (ours(), peer(), floor()):
            proxy, url = stack.enter_context(delaying_proxy(dataset.url))
            log = bench.folder / f"{program.name}.log"
            chains.append(Chain(stack.enter_context(running(program, url, log)), proxy))
            asyncio.run(warm_up(chains[-1], accounts[0]))
        rows = []
        for route in ROUTES:
            for chain in chains:
                series = measure_route(chain, dataset, accounts, route, options.requests)
                # With a delay the count is exact.
                figures = [f"{series[-1].round_trips:g}", *(f"{s.p50_ms:.1f}" for s in series)]
                rows.append([route, chain.server.name, *figures])
    header = ["route", "server", "round trips", *(f"p50 ms, +{ms} ms" for ms in DELAYS_MS)]
    print(f"\n{table(header, rows)}\n")


if __name__ == "__main__":
    command.run(main)
