"""What it costs that many devices follow one person: versions, conditions, the feed, batches.

In process, without an HTTP server: each contestant is a checkout of the service with a database of
its own, in one cluster, and they take turns. CPU time is the service's, and that of it and its
backend of PostgreSQL together; of many short turns the least, because whatever else the machine
does can only add. Commits wait for the disk only where many write for one person.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import UUID

from psycopg import sql

from . import command, cores, service
from .dataset import Account, Scale
from .report import table

SCALE = Scale(users=1_000, tasks_per_user=100)
TURNS = 80
CALLS = 8  # of a turn: done before the scheduler lets somebody else in, mostly
# PostgreSQL plans a prepared statement anew five times, before it may keep a plan.
WARM_UP_CALLS = 10
# Those who read are none of those who write, so that what they know stays true.
READERS = 20
WRITERS = 50
MANY = 100  # rows of a page, and operations of a batch
BATCHES = 1  # of a turn
# 16 connections, and nobody waits for a thread of another.
HOT_PROCESSES = 4
HOT_THREADS = 4
HOT_WRITES = 50  # of a thread in a turn
HOT_TURNS = 7
SCRIPT = service.PROJECT / "benchmarks" / "contestant.py"
ROUTES = ("list", "read", "create", "complete", "PUT", "PATCH", "delete")
ROUTES_MAX = 1.05  # of before
HOT_MIN = 0.6
# Work, that to which it is compared, how many of the latter, and the most that it should cost.
PAIRS = (
    ("304 of a list of 20", "list", 1, 0.6),
    ("304 of a list of 50", "list of 50", 1, 0.6),
    ("walk, 100 changes", "list of 100", 1, 1.3),
    ("log, 100 changes", "list of 100", 1, 1.3),
    ("batch of 100 creations", "create", MANY, 0.2),
)
TRIGGERED = ("create", "complete", "PUT", "PATCH", "delete")
STAMPS = ("stamp_delete", "stamp_insert", "stamp_keep", "stamp_update")

Request = Sequence[Any]  # as contestant.py takes them


class Cost(NamedTuple):
    """CPU seconds of a call."""

    service: float
    both: float


class Process:
    """A contestant's process, which takes orders."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def ask(self, order: str, **options: Any) -> Any:
        self.begin(order, **options)
        return self.end()

    def begin(self, order: str, **options: Any) -> None:
        _pipe(self._process.stdin).write(json.dumps({"do": order, **options}, default=str) + "\n")
        _pipe(self._process.stdin).flush()

    def end(self) -> Any:
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise command.FailedError(f"A contestant gave up:\n{self._log.read_text()[-2_000:]}")
        return json.loads(line)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


class Contestant:
    """A checkout of the service, and a database of its own."""

    def __init__(self, bench: command.Bench, name: str, checkout: Path) -> None:
        self.name = name
        self.dataset = bench.dataset_apart(name, SCALE, checkout)
        self._checkout = checkout
        self._log = bench.folder / f"{name}.log"
        accounts = self.dataset.sign_in()
        self.readers, self.writers = accounts[:READERS], accounts[READERS : READERS + WRITERS]
        self.hot = accounts[READERS + WRITERS]

    @contextmanager
    def process(self) -> Iterator[Process]:
        with self._log.open("a") as log:
            process = subprocess.Popen(
                cores.pinned(cores.SERVER, [sys.executable, str(SCRIPT)]),
                cwd=self._checkout,
                # Not with this checkout's folder first, which is the script's.
                env={**service.environment(self.dataset.url), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            yield Process(process, self._log)
        finally:
            process.kill()
            process.wait()

    def wait_for_disk(self, *, on: bool) -> None:
        """Whether commits do, of processes that come from now on."""
        with self.dataset.connect() as connection:
            statement = sql.SQL("ALTER DATABASE {} SET synchronous_commit = {}")
            name = sql.Identifier(connection.info.dbname)
            connection.execute(statement.format(name, sql.Literal("on" if on else "off")))

    def drop_triggers(self) -> None:
        with self.dataset.connect() as connection:
            for stamp in STAMPS:
                connection.execute(f"DROP TRIGGER IF EXISTS tasks_task_{stamp} ON tasks_task")


class Script:
    """What a contestant's process is asked for, by the name of the work."""

    def __init__(self, contestant: Contestant, process: Process) -> None:
        self._process = process
        self._readers, self._writers = contestant.readers, contestant.writers
        # Titles of this run: what an earlier one wrote already would be no change.
        self._numbers = count(time.time_ns() // 1_000_000)
        self._completed: dict[UUID, bool] = {}
        self._known: dict[tuple[UUID, int], str] = {}
        self._positions: dict[UUID, str] = {}

    def prepare_followers(self) -> None:
        """Gives each reader a log of MANY changes, and the tags of their lists."""
        for reader in self._readers:
            self._positions[reader.user_id] = self._walk_to_end(reader)
            page = self._answer(_get(reader, f"tasks?limit={MANY}"))
            changes = [_change(reader, row["id"], {"title": self._title()}) for row in page["data"]]
            self._process.ask("answers", requests=changes)
            log = self._answer(self._read_log(reader))["data"]
            if len(log) != MANY:
                raise command.FailedError(f"A log of {len(log)} changes, and not of {MANY}.")
            for limit in (20, 50):
                ((headers, _),) = self._process.ask(
                    "answers", requests=[_get(reader, f"tasks?limit={limit}")]
                )
                self._known[reader.user_id, limit] = headers["ETag"]

    def cost(self, work: str, calls: int) -> Cost:
        requests = list(islice(self._requests(work, calls), calls))
        service_s, postgres_s = self._process.ask("cost", requests=requests)
        return Cost(service_s / calls, (service_s + postgres_s) / calls)

    def _requests(self, work: str, calls: int) -> Iterator[Request]:
        if work in ("create", "complete", "PUT", "PATCH", "batch of 100 creations"):
            return (self._write(work) for _ in count())
        if work == "delete":
            return iter(self._deletions(calls))
        return (self._read(work) for _ in count())

    def _read(self, work: str) -> Request:
        number = next(self._numbers)
        reader = self._readers[number % READERS]
        match work:
            case "list":
                return _get(reader, "tasks?limit=20")
            case "read":
                return _get(reader, f"tasks/{_task(reader, number)}")
            case "304 of a list of 20":
                return self._get_known(reader, 20)
            case "304 of a list of 50":
                return self._get_known(reader, 50)
            case "walk, 100 changes":
                return _get(reader, f"changes?limit={MANY}")
            case "log, 100 changes":
                return self._read_log(reader)
        return _get(reader, f"tasks?limit={work.rpartition(' ')[2]}")

    def _write(self, work: str) -> Request:
        number = next(self._numbers)
        writer = self._writers[number % WRITERS]
        task = _task(writer, number)
        match work:
            case "create":
                return _send(writer, 201, "POST", "tasks", {"title": self._title()})
            case "complete":
                completion = {"is_completed": self._completion(task)}
                return _send(writer, 200, "PATCH", f"tasks/{task}/complete", completion)
            case "PUT":
                body = {
                    "title": self._title(),
                    "description": None,
                    "is_completed": self._completion(task),
                }
                return _send(writer, 200, "PUT", f"tasks/{task}", body)
            case "PATCH":
                return _change(writer, task, {"title": self._title()})
        operations = [{"op": "create", "data": {"title": self._title()}} for _ in range(MANY)]
        return _send(writer, 200, "POST", "batch", {"operations": operations})

    def _deletions(self, calls: int) -> Iterator[Request]:
        """Of tasks that are made before."""
        numbers = list(islice(self._numbers, calls))
        writers = [self._writers[number % WRITERS] for number in numbers]
        creations = [
            _send(writer, 201, "POST", "tasks", {"title": self._title()}) for writer in writers
        ]
        made = self._process.ask("answers", requests=creations)
        for writer, (_, body) in zip(writers, made, strict=True):
            task = json.loads(body)["data"]["id"]
            yield _send(writer, 204, "DELETE", f"tasks/{task}")

    def _get_known(self, reader: Account, limit: int) -> Request:
        headers = {"HTTP_IF_NONE_MATCH": self._known[reader.user_id, limit]}
        return [304, "GET", _path(reader, f"tasks?limit={limit}"), reader.access, "", headers]

    def _read_log(self, reader: Account) -> Request:
        return _get(reader, f"changes?limit={MANY}&since={self._positions[reader.user_id]}")

    def _walk_to_end(self, reader: Account) -> str:
        path = f"changes?limit={MANY}"
        while True:
            meta = self._answer(_get(reader, path))["meta"]
            since: str = meta["next_since"]
            if not meta["has_more"]:
                return since
            path = f"changes?limit={MANY}&since={since}"

    def _answer(self, request: Request) -> Any:
        ((_, body),) = self._process.ask("answers", requests=[request])
        return json.loads(body)

    def _title(self) -> str:
        return f"Number {next(self._numbers)}"

    def _completion(self, task: UUID) -> bool:
        """Another one than it has, at the latest from the second on."""
        self._completed[task] = not self._completed.get(task, False)
        return self._completed[task]


def _path(account: Account, rest: str) -> str:
    return f"/api/{account.user_id}/{rest}"


def _get(account: Account, rest: str) -> Request:
    return [200, "GET", _path(account, rest), account.access, "", {}]


def _send(account: Account, status: int, method: str, rest: str, body: Any = None) -> Request:
    content = "" if body is None else json.dumps(body)
    return [status, method, _path(account, rest), account.access, content, {}]


def _change(account: Account, task: object, body: Any) -> Request:
    return _send(account, 200, "PATCH", f"tasks/{task}", body)


def _task(account: Account, number: int) -> UUID:
    return account.tasks[number // WRITERS % len(account.tasks)][0]


Costs = Mapping[tuple[str, str], Cost]  # by contestant and work


def _measure(contestants: Sequence[Contestant], turns: int) -> Costs:
    """The least of what each work cost each contestant that does it."""
    with ExitStack() as stack:
        scripts = {
            contestant.name: Script(contestant, stack.enter_context(contestant.process()))
            for contestant in contestants
        }
        followed = scripts["now"]
        followed.prepare_followers()
        plan = [(name, work) for work in ROUTES for name in scripts]
        plan = [(name, work) for name, work in plan if name != "untriggered" or work in TRIGGERED]
        # Right after each other, what is compared.
        for work, other, *_ in PAIRS:
            plan += [("now", name) for name in (other, work) if name not in ROUTES]
        plan = list(dict.fromkeys(plan))
        found: dict[tuple[str, str], list[Cost]] = {one: [] for one in plan}
        for name, work in plan:
            scripts[name].cost(work, WARM_UP_CALLS)
        for turn in range(turns):
            for name, work in plan if turn % 2 else reversed(plan):
                calls = BATCHES if work.startswith("batch") else CALLS
                found[name, work].append(scripts[name].cost(work, calls))
    return {
        one: Cost(min(cost.service for cost in costs), min(cost.both for cost in costs))
        for one, costs in found.items()
    }


def _hot_rates(contestants: Sequence[Contestant]) -> Mapping[str, Sequence[float]]:
    """Writes/s, turn by turn, of HOT_PROCESSES * HOT_THREADS connections for one person."""
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    numbers = count()
    with ExitStack() as stack:
        processes = {
            contestant.name: [
                stack.enter_context(contestant.process()) for _ in range(HOT_PROCESSES)
            ]
            for contestant in contestants
        }
        for turn in range(HOT_TURNS + 1):
            for contestant in contestants:
                rate = _hot_rate(contestant.hot, processes[contestant.name], numbers)
                if turn:  # the first one warms up
                    rates[contestant.name].append(rate)
    return rates


def _hot_rate(person: Account, processes: Sequence[Process], numbers: Iterator[int]) -> float:
    tasks = [task for task, _ in person.tasks]
    for process in processes:
        shares = [
            [
                _change(person, tasks[number % len(tasks)], {"title": f"Number {number}"})
                for number in islice(numbers, HOT_WRITES)
            ]
            for _ in range(HOT_THREADS)
        ]
        process.begin("prepare", shares=shares)
    for process in processes:
        process.end()
    started = time.perf_counter()
    for process in processes:
        process.begin("together")
    for process in processes:
        process.end()
    return HOT_PROCESSES * HOT_THREADS * HOT_WRITES / (time.perf_counter() - started)


def main() -> None:
    options = _options()
    with command.open_bench(options.database_url) as bench:
        checkouts = {"now": service.PROJECT, "untriggered": service.PROJECT}
        if options.before:
            checkouts["before"] = options.before.resolve()
        contestants = [Contestant(bench, *one) for one in sorted(checkouts.items())]
        for contestant in contestants:
            contestant.wait_for_disk(on=False)
            if contestant.name == "untriggered":
                contestant.drop_triggers()
        costs = _measure(contestants, options.turns)
        rates: Mapping[str, Sequence[float]] = {}
        if options.before:
            compared = [one for one in contestants if one.name != "untriggered"]
            for contestant in compared:
                contestant.wait_for_disk(on=True)
            rates = _hot_rates(compared)
        for contestant in contestants:
            contestant.dataset.restore()
    _report(costs, rates)


def _options() -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument(
        "--before",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout, a worktree of an earlier commit say, to compare the routes with; "
        "it takes the same packages",
    )
    parser.add_argument("--turns", type=int, default=TURNS, help=f"default: {TURNS}")
    return parser.parse_args()


def _report(costs: Costs, rates: Mapping[str, Sequence[float]]) -> None:
    print()
    if rates:
        rows = [
            [route, *_compared(costs["now", route], costs["before", route]), f"<= {ROUTES_MAX}"]
            for route in ROUTES
        ]
        print(f"{table(('route, now / before', *_COLUMNS), rows, labels=1)}\n")
    rows = [
        [f"{work} / {times} x {other}" if times > 1 else f"{work} / {other}",
         *_compared(costs["now", work], costs["now", other], times), f"<= {most}"]
        for work, other, times, most in PAIRS
    ]  # fmt: skip
    print(f"{table(('work', *_COLUMNS), rows, labels=1)}\n")
    rows = [
        [route, *_compared(costs["now", route], costs["untriggered", route]), ""]
        for route in TRIGGERED
    ]
    print(f"{table(('route, with triggers / without', *_COLUMNS), rows, labels=1)}\n")
    if rates:
        now, before = (statistics.median(rates[name]) for name in ("now", "before"))
        pairs = zip(rates["now"], rates["before"], strict=True)
        ratios = sorted(one / other for one, other in pairs)
        rows = [
            [
                f"{now:,.0f}",
                f"{before:,.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
                f">= {HOT_MIN}",
            ]
        ]
        header = ("writes/s for one person, now", "before", "ratio, median", "of turns", "aim")
        print(f"{table(header, rows, labels=0)}\n")


_COLUMNS = ("CPU µs of the service", "ratio", "with PostgreSQL", "ratio", "aim")


def _compared(cost: Cost, other: Cost, times: int = 1) -> list[str]:
    return [
        f"{cost.service * 1e6:,.0f}",
        f"{cost.service / other.service / times:.2f}",
        f"{cost.both * 1e6:,.0f}",
        f"{cost.both / other.both / times:.2f}",
    ]


if __name__ == "__main__":
    command.run(main)
