"""How many threads a process needs: requests/s by threads, as the way to the database grows longer.

A thread waits while the database works and its answer is under way; others can work meanwhile, but
wait for Python's lock when all of them want to.
"""

import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from . import command, wrk
from .dataset import Dataset, Scale, write_accounts
from .proxy import delaying_proxy
from .report import table
from .servers import Server, ours, running
from .wrk import require_wrk

SCALE = Scale(users=1_000, tasks_per_user=100)
THREADS = (1, 2, 3, 4, 6, 8)
DELAYS_MS = (0, 1, 5)
ROUTES = ("list", "complete")
CONNECTIONS = 32
ROUNDS = 3


def measure(
    server: Server, dataset: Dataset, accounts_file: Path, route: str, seconds: int
) -> wrk.Load:
    traffic = wrk.Traffic(route, accounts_file, None)
    load = wrk.load(server.port, traffic, connections=CONNECTIONS, seconds=seconds)
    server.rest()
    if route != "list":
        dataset.restore()
    return load


def rows_of(loads: dict[tuple[str, int, int], list[wrk.Load]]) -> Sequence[Sequence[str]]:
    rows = []
    for route, threads in product(ROUTES, THREADS):
        of_delay = [loads[route, threads, delay_ms] for delay_ms in DELAYS_MS]
        rates = [f"{statistics.median(load.rate for load in found):,.0f}" for found in of_delay]
        p95s = [f"{statistics.median(load.p95_ms for load in found):.0f}" for found in of_delay]
        rows.append([route, str(threads), *rates, *p95s])
    return rows


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--seconds", type=int, default=2, help="of a load (default: 2)")
    options = parser.parse_args()
    require_wrk()
    loads: dict[tuple[str, int, int], list[wrk.Load]] = {}
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        accounts_file = bench.folder / "accounts"
        write_accounts(dataset.sign_in(), accounts_file)
        for _, threads in product(range(ROUNDS), THREADS):
            log = bench.folder / "ours.log"
            with (
                delaying_proxy(dataset.url) as (proxy, url),
                running(ours(threads=threads), url, log) as server,
            ):
                measure(server, dataset, accounts_file, "list", 1)  # to warm up
                for route, delay_ms in product(ROUTES, DELAYS_MS):
                    proxy.delay_s = delay_ms / 1000
                    load = measure(server, dataset, accounts_file, route, options.seconds)
                    loads.setdefault((route, threads, delay_ms), []).append(load)
                proxy.delay_s = 0
    header = ["route", "threads"]
    header += [f"requests/s, +{ms} ms" for ms in DELAYS_MS]
    header += [f"p95 ms, +{ms} ms" for ms in DELAYS_MS]
    print(f"\n{table(header, rows_of(loads))}\n")


if __name__ == "__main__":
    command.run(main)
