"""`make bench`, `make bench-quick`: this project, a FastAPI peer, a floor and the bare SQL."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from . import command, cores, report
from .bare_sql import BareMeasurement, BareSql
from .compare import Comparison, Measurement, Point
from .conformance import require_equal_answers
from .dataset import Scale
from .environment import describe
from .servers import all_running, floor, ours, peer, require_peer
from .traffic import ROUTES
from .wrk import require_wrk

CONNECTIONS = (1, 32, 100, 1000)
REPORT = Path(__file__).with_name("RESULTS.md")


@dataclass(frozen=True)
class Extent:
    """How much is measured; `plan` holds pairs of connections and route."""

    scale: Scale
    plan: Sequence[tuple[int, str]]
    rounds: int
    bare_sql_rounds: int
    seconds: int  # of a load, at least


FULL = Extent(
    scale=Scale(users=10_000, tasks_per_user=100),
    plan=[(connections, route) for connections in CONNECTIONS for route in ROUTES],
    rounds=3,
    bare_sql_rounds=2,
    seconds=2,
)
# Enough for what is looked at daily: every route at one level, and one more level of one route. The
# bare SQL varies little.
QUICK = Extent(
    scale=Scale(users=1_000, tasks_per_user=100),
    plan=[*((32, route) for route in ROUTES), (100, "list")],
    rounds=2,
    bare_sql_rounds=1,
    seconds=2,
)


def main() -> None:
    options = _options()
    extent = _extent(options)
    require_wrk()
    require_peer()
    with command.open_bench(options.database_url) as bench:
        text = _measure(bench, extent)
    print(text)
    if extent == FULL:
        REPORT.write_text(text)
        print(f"Written to benchmarks/{REPORT.name}.")


def _options() -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="less data, fewer and shorter loads")
    parser.add_argument("--rounds", type=int, help="default: 3, quick: 2")
    parser.add_argument("--seconds", type=int, help="of a load, at least (default: 2)")
    parser.add_argument("--connections", type=int, nargs="+", metavar="N", help="default: all")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, help="default: all")
    return parser.parse_args()


def _extent(options: argparse.Namespace) -> Extent:
    extent = QUICK if options.quick else FULL
    if options.connections:
        plan = [(connections, route) for connections in options.connections for route in ROUTES]
        extent = replace(extent, plan=plan)
    if options.routes:
        plan = [
            (connections, route) for connections, route in extent.plan if route in options.routes
        ]
        extent = replace(extent, plan=plan)
    return replace(
        extent,
        rounds=options.rounds or extent.rounds,
        seconds=options.seconds or extent.seconds,
    )


def _measure(bench: command.Bench, extent: Extent) -> str:
    """Returns the report."""
    programs = [ours(), peer(), floor()]
    measured: dict[Point, list[Measurement]] = defaultdict(list)
    measured_bare: dict[str, list[BareMeasurement]] = {route: [] for _, route in extent.plan}
    dataset = bench.dataset(extent.scale)
    with all_running(programs, dataset.url, bench.folder) as servers:
        accounts = dataset.sign_in()
        require_equal_answers(servers, accounts[0])
        comparison = Comparison(bench, dataset, servers, accounts, extent.seconds)
        bare_sql = BareSql(bench, dataset, accounts, max(1, extent.seconds // 2))
        obstacles = {route: bare_sql.obstacle(route) for route in measured_bare}
        comparison.warm_up()
        for number in range(extent.rounds):
            print(f"Round {number + 1} of {extent.rounds} ...", flush=True)
            for point, measurement in comparison.round(extent.plan):
                measured[point].append(measurement)
            for route, obstacle in obstacles.items():
                if obstacle is None and number < extent.bare_sql_rounds:
                    measured_bare[route].append(bare_sql.measure(route))
    with dataset.connect() as connection:
        environment = {
            "Measured on": f"{datetime.now(UTC):%Y-%m-%d}",
            "Data": str(extent.scale),
            "Loads": f"medians of {extent.rounds} rounds; {extent.seconds} s each, or 6 ms for "
            "each connection where that is longer",
            "Cores": f"server {cores.SERVER}, everything else {cores.OTHERS}",
            **describe(connection),
        }
    names = [program.name for program in programs]
    return report.document(
        environment,
        report.ratios(measured, names[0], names[1:]),
        report.comparison(measured, names),
        report.bare_sql(measured_bare, obstacles),
    )


if __name__ == "__main__":
    command.run(main)
