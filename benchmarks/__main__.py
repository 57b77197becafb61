"""`make bench`, `make bench-quick`: this project, a FastAPI peer, a floor and the bare SQL."""

from collections import defaultdict

from . import command, report
from .compare import ROUTES, Comparison, Measurement, Point
from .conformance import require_equal_answers
from .dataset import Scale
from .servers import all_running, floor, ours, peer
from .wrk import require_wrk

SCALE = Scale(users=10_000, tasks_per_user=100)
QUICK_SCALE = Scale(users=1_000, tasks_per_user=100)
CONNECTIONS = (1, 32, 100, 1000)
# Enough for what is looked at daily: every route at one level, and one more level of one route.
QUICK_PLAN = [*((32, route) for route in ROUTES), (100, "list")]


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="less data, fewer loads, no report")
    parser.add_argument("--rounds", type=int, help="default: 3, with --quick 2")
    parser.add_argument("--seconds", type=int, help="of a load (default: 4, with --quick 2)")
    parser.add_argument(
        "--connections", type=int, nargs="+", metavar="N", help=f"default: {CONNECTIONS}"
    )
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=ROUTES)
    options = parser.parse_args()
    require_wrk()

    plan = [(n, route) for n in options.connections or CONNECTIONS for route in options.routes]
    if options.quick and not options.connections:
        plan = [(n, route) for n, route in QUICK_PLAN if route in options.routes]
    rounds = options.rounds or (2 if options.quick else 3)
    seconds = options.seconds or (2 if options.quick else 4)

    programs = [ours(), peer(), floor()]
    results: dict[Point, list[Measurement]] = defaultdict(list)
    with (
        command.open_bench(
            options.database_url, QUICK_SCALE if options.quick else SCALE
        ) as bench,
        all_running(programs, bench.dataset.url, bench.folder) as servers,
    ):
        accounts = bench.dataset.sign_in()
        require_equal_answers(servers, accounts[0])
        comparison = Comparison(bench, servers, accounts, seconds)
        comparison.warm_up()
        for number in range(1, rounds + 1):
            print(f"Round {number} of {rounds} ...", flush=True)
            for point, measurement in comparison.round(plan):
                results[point].append(measurement)
    names = [program.name for program in programs]
    print(report.comparison(results, names))
    print(report.ratios(results, names[0], names[1:]))


if __name__ == "__main__":
    command.run(main)
