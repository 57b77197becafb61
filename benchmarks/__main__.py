"""`make bench`, `make bench-quick`: this project, a FastAPI peer, a floor and the bare SQL."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
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

SCALE = Scale(users=10_000, tasks_per_user=100)
QUICK_SCALE = Scale(users=1_000, tasks_per_user=100)
CONNECTIONS = (1, 32, 100, 1000)
PLAN = [(connections, route) for connections in CONNECTIONS for route in ROUTES]
# Enough for what is looked at daily: every route at one level, and one more level of one route.
QUICK_PLAN = [*((32, route) for route in ROUTES), (100, "list")]
REPORT = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    options = _options()
    require_wrk()
    require_peer()
    plan = _plan(options)
    rounds = options.rounds or (2 if options.quick else 3)
    seconds = options.seconds or (2 if options.quick else 4)
    with command.open_bench(options.database_url) as bench:
        scale = QUICK_SCALE if options.quick else SCALE
        text = _measure(bench, scale, plan, rounds=rounds, seconds=seconds)
    print(text)
    if not options.quick and plan == PLAN:
        REPORT.write_text(text)
        print(f"Written to benchmarks/{REPORT.name}.")


def _options() -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="less data, fewer and shorter loads")
    parser.add_argument("--rounds", type=int, help="default: 3, with --quick 2")
    parser.add_argument("--seconds", type=int, help="of a load, at least (default: 4, quick 2)")
    parser.add_argument("--connections", type=int, nargs="+", metavar="N", help="default: all")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, help="default: all")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> list[tuple[int, str]]:
    """Pairs of connections and route."""
    plan = QUICK_PLAN if options.quick else PLAN
    if options.connections:
        plan = [(connections, route) for connections in options.connections for route in ROUTES]
    if options.routes:
        plan = [(connections, route) for connections, route in plan if route in options.routes]
    return plan


def _measure(
    bench: command.Bench,
    scale: Scale,
    plan: Sequence[tuple[int, str]],
    *,
    rounds: int,
    seconds: int,
) -> str:
    """Returns the report."""
    programs = [ours(), peer(), floor()]
    measured: dict[Point, list[Measurement]] = defaultdict(list)
    measured_bare: dict[str, list[BareMeasurement]] = {route: [] for _, route in plan}
    dataset = bench.dataset(scale)
    with all_running(programs, dataset.url, bench.folder) as servers:
        accounts = dataset.sign_in()
        require_equal_answers(servers, accounts[0])
        comparison = Comparison(bench, dataset, servers, accounts, seconds)
        # It varies less than the servers do.
        bare_sql = BareSql(bench, dataset, accounts, max(1, seconds // 2))
        obstacles = {route: bare_sql.obstacle(route) for route in measured_bare}
        comparison.warm_up()
        for number in range(1, rounds + 1):
            print(f"Round {number} of {rounds} ...", flush=True)
            for point, measurement in comparison.round(plan):
                measured[point].append(measurement)
            for route, obstacle in obstacles.items():
                if obstacle is None:
                    measured_bare[route].append(bare_sql.measure(route))
    with dataset.connect() as connection:
        environment = {
            "Measured on": f"{datetime.now(UTC):%Y-%m-%d}",
            "Data": str(scale),
            "Loads": f"medians of {rounds} rounds of {seconds} s, or of 10 ms for each connection "
            "where that is longer",
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
