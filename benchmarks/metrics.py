"""What METRICS_TOKEN costs a request: the same ones by turns, counted and not.

In one process, on one connection, without an HTTP server: what else the machine does slows both
down alike. The figures are of the CPU time of single requests: the lower quartile, which other
processes disturb less than the median.
"""

import json
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

from . import command
from .dataset import Scale
from .layers import LIST, PEOPLE, READ, Request, by_turns, in_child
from .report import table

SCALE = Scale(users=100, tasks_per_user=100)
TURNS = 4_000
WARM_UP_TURNS = 200
MOST = 1.02

# Another completion than the task has, each time that it comes round.
COMPLETE = Request(
    "complete",
    "PATCH",
    "/{}/complete",
    body=lambda turn: {"is_completed": turn // PEOPLE % 2 == 0},
)

Seconds = Mapping[str, tuple[float, float]]  # of a request: off, on


def main() -> None:
    options = command.parser(__doc__).parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        found: Seconds = in_child(
            "benchmarks.metrics",
            dataset,
            bench.folder / "people.json",
            METRICS_TOKEN=secrets.token_urlsafe(32),
        )
        dataset.restore()
    rows = [
        [
            route,
            f"{off * 1e6:,.1f}",
            f"{on * 1e6:,.1f}",
            f"{(on - off) * 1e6:,.1f}",
            f"{on / off:.3f}",
            f"<= {MOST}",
        ]
        for route, (off, on) in found.items()
    ]
    header = ("route", "CPU \u00b5s, off", "on", "difference", "ratio", "aim")
    print(f"\n{table(header, rows, labels=1)}\n")


def child(file: str) -> None:
    """Prints what requests took, as JSON."""
    from todo_project import wsgi  # noqa: F401  # sets Django up, and begins to count

    people = json.loads(Path(file).read_text())
    token, settings.METRICS_TOKEN = settings.METRICS_TOKEN, ""
    off = WSGIHandler()
    settings.METRICS_TOKEN = token
    on = WSGIHandler()
    found = {
        request.name: _quartiles(*(by_turns(each, people, request) for each in (off, on)))
        for request in (LIST, READ, COMPLETE)
    }
    json.dump(found, sys.stdout)


def _quartiles(*works: Callable[[], None]) -> Sequence[float]:
    found: list[list[float]] = [[] for _ in works]
    for turn in range(-WARM_UP_TURNS, TURNS):
        for number in range(len(works)) if turn % 2 else reversed(range(len(works))):
            started = time.thread_time()
            works[number]()
            seconds = time.thread_time() - started
            if turn >= 0:
                found[number].append(seconds)
    return [statistics.quantiles(each)[0] for each in found]


if __name__ == "__main__":
    command.run(main)
