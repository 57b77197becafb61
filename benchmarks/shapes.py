"""What a statement costs that is one of many: a list and a change, in more and more shapes.

A shape is a statement's text: each choice of filters and orders makes one, and each of the fields
that a PATCH sends. The shapes here do the same work, and differ in a comment: what is dearer is so
by their number alone. "1 among 1,500" is the first row's shape, between as many others; each comes
right after a second one that is as frequent, because after any longer wait all is dearer.

In process, without an HTTP server. Each row has a connection of its own, which waits for no disk
and has used each shape before as often as PostgreSQL takes to choose its plan. The rows take turns.
A tenth of the calls took less than what is printed: whatever else the machine does can only add.
CPU time is the service's, without PostgreSQL's; "in all" is what the service waited.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from uuid import UUID

from . import command, service
from .dataset import Dataset, Scale
from .report import percentile, table

SCALE = Scale(users=1_000, tasks_per_user=100)
COUNTS = (1, 50, 99, 120, 400, 1_500)
ROUNDS = 3
CALLS = 150  # of a row in a round
# PostgreSQL plans a prepared statement anew five times, before it may keep a plan.
WARM_UP_USES = 8
WARM_UP_CALLS_MAX = 3_200
SHARE = 0.1

Work = Callable[[], object]
Costs = Mapping[str, Sequence[float]]  # by row: microseconds of CPU time, and of all


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--kept", type=int, metavar="N", help="statements that a connection keeps")
    parser.add_argument("--threshold", type=int, metavar="N", help="uses before one is prepared")
    options = parser.parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        found = _measure(dataset, options.kept, options.threshold)
        dataset.restore()
    for name, costs in found.items():
        least = next(iter(costs.values()))
        rows = [[row, *_figures(cost, least)] for row, cost in costs.items()]
        header = (f"shapes of a {name}", "CPU µs", "ratio", "in all µs", "ratio")
        print(f"\n{table(header, rows, labels=1)}\n")


def _figures(cost: Sequence[float], least: Sequence[float]) -> list[str]:
    pairs = zip(cost, least, strict=True)
    return [text for us, one in pairs for text in (f"{us:,.0f}", f"{us / one:.2f}")]


def _measure(dataset: Dataset, kept: int | None, threshold: int | None) -> Mapping[str, Costs]:
    """Runs child() with the service's settings."""
    account = dataset.sign_in()[0]
    arguments = (account.access, str(account.tasks[0][0]), kept, threshold)
    output = subprocess.run(
        [sys.executable, "-c", f"from benchmarks.shapes import child; child{arguments!r}"],
        cwd=service.PROJECT,
        env=service.environment(dataset.url),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    found: Mapping[str, Costs] = json.loads(output)
    return found


def child(access: str, task_id: str, kept: int | None, threshold: int | None) -> None:
    """Prints costs by statement and row as JSON."""
    from django.conf import settings

    import todo_project.wsgi  # noqa: F401  # sets Django up
    from todo_project.postgresql import base

    if kept is not None:
        base.STATEMENTS_MAX = kept
    if threshold is not None:
        settings.DATABASES["default"]["OPTIONS"]["prepare_threshold"] = threshold
    found = {name: _costs(works) for name, works in _works(access, UUID(task_id)).items()}
    json.dump(found, sys.stdout)


def _works(access: str, task_id: UUID) -> Mapping[str, Sequence[Work]]:
    """For each statement what executes it, each time in another shape."""
    from dataclasses import dataclass

    from accounts import session_tokens
    from accounts.callers import SessionCaller
    from tasks.fields import TASK
    from todo_project.api.limits import Counter
    from todo_project.resources import reads, writes

    @dataclass(frozen=True)
    class ShapedCaller(SessionCaller):
        live_sql: str = ""

    claims = session_tokens.read_access(access.encode())
    live_sql = SessionCaller(claims.user_id, claims.session_id).live_sql
    callers = [
        ShapedCaller(claims.user_id, claims.session_id, f"/* {n} */ {live_sql}")
        for n in range(COUNTS[-1] + 2)
    ]
    query = TASK.query_serializer(data={})
    query.is_valid(raise_exception=True)
    counter = Counter.of("writes", str(claims.user_id))
    titles = (f"Number {n}" for n in range(sys.maxsize))

    def page(caller: ShapedCaller) -> Work:
        return lambda: reads.fetch_page(caller, TASK, query.validated_data)

    def change(caller: ShapedCaller) -> Work:
        work = writes.change(TASK, ("title",))
        return lambda: writes.perform(caller, counter, work, {"id": task_id, "title": next(titles)})

    return {"list": [*map(page, callers)], "change": [*map(change, callers)]}


def _both(first: Work, second: Work) -> None:
    first()
    second()


class _Row:
    """A connection on which `works` take turns, with one of `between`, unmeasured, before each."""

    def __init__(self, works: Sequence[Work], between: Sequence[Work] = ()) -> None:
        from django.db import connections

        self._works = cycle(works)
        self._between = cycle(between or [lambda: None])
        self._warm_up_calls = min(WARM_UP_USES * len(works), WARM_UP_CALLS_MAX)
        self._database = connections["default"].copy()
        self._cpu_s: list[float] = []
        self._all_s: list[float] = []

    def warm_up(self) -> None:
        self._begin()
        with self._database.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        self._take_turns(self._warm_up_calls)

    def measure(self) -> None:
        self._begin()
        self._take_turns(CALLS)  # what the process keeps is of the row before
        calls = self._take_turns(CALLS)
        self._cpu_s += [cpu_s for cpu_s, _ in calls]
        self._all_s += [all_s for _, all_s in calls]

    def cost(self) -> Sequence[float]:
        return [percentile(taken, SHARE) * 1e6 for taken in (self._cpu_s, self._all_s)]

    def _begin(self) -> None:
        from django.db import connections

        connections["default"] = self._database

    def _take_turns(self, calls: int) -> list[tuple[float, float]]:
        taken = []
        for work, between in islice(zip(self._works, self._between, strict=True), calls):
            between()
            cpu_s, all_s = time.process_time(), time.perf_counter()
            work()
            taken.append((time.process_time() - cpu_s, time.perf_counter() - all_s))
        return taken


def _costs(works: Sequence[Work]) -> Costs:
    rows = {f"{count:,}": _Row(works[:count]) for count in COUNTS}
    frequent, second, *rare = works
    between = [partial(_both, work, second) for work in rare]
    rows[f"1 among {len(rare):,}"] = _Row([frequent], between)
    for row in rows.values():
        row.warm_up()
    for _ in range(ROUNDS):
        for row in rows.values():
            row.measure()
    return {name: row.cost() for name, row in rows.items()}


if __name__ == "__main__":
    command.run(main)
