"""Would people wait? The contract's numbers, section 9, at the pace of people.

All are connected at once, and each makes a request every two seconds, four reads to one write,
against this project with two processes. Waiting begins when a request is due: one that had to wait
for the answer before it, or for this generator, counts that time too (no coordinated omission).

The service may use every core; PostgreSQL and this generator share one that is not the last.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from uuid import UUID

from . import command, cores
from .client import Connection, RequestError
from .dataset import Account, Dataset, Scale
from .report import percentile, table
from .servers import Server, ours, running
from .traffic import Request, of_person

SCALE = Scale(users=10_000, tasks_per_user=100)
PEOPLE = (100, 1000)
INTERVAL_S = 2.0
READS_PER_WRITE = 4
DELETABLE_PER_PERSON = 3
PROCESSES = 2
WARM_UP_S = 4
# p95 of every route, in milliseconds, with so many people.
LIMITS_MS = {100: 200, 1000: 500}


class Waiting:
    """Waiting times by route, in seconds, and what failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []


def crowd(dataset: Dataset, accounts: Sequence[Account]) -> list[Generator[Request, bytes, None]]:
    """What each of these people does; everybody finds some tasks to delete."""
    deletable: dict[int, list[UUID]] = defaultdict(list)
    for task in dataset.add_doomed(accounts, DELETABLE_PER_PERSON * len(accounts)):
        deletable[task.owner].append(task.task_id)
    return [
        of_person(account, reads_per_write=READS_PER_WRITE, deletable=deletable[number])
        for number, account in enumerate(accounts)
    ]


async def level(
    server: Server, people: Sequence[Generator[Request, bytes, None]], duration_s: float
) -> Waiting:
    """Everybody connects, and then makes requests for so long."""
    waiting = Waiting()
    connections = await asyncio.gather(*(Connection.open(server.port) for _ in people))
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for requests, connection in zip(people, connections, strict=True):
            group.create_task(_person(requests, connection, start, duration_s, waiting))
    return waiting


async def _person(
    requests: Generator[Request, bytes, None],
    connection: Connection,
    start: float,
    duration_s: float,
    waiting: Waiting,
) -> None:
    request = next(requests)
    due = start + random.random() * INTERVAL_S
    try:
        while due < start + duration_s:
            await asyncio.sleep(due - time.monotonic())
            answer = await connection.send(request)
            waiting.seconds[request.route].append(time.monotonic() - due)
            request = requests.send(answer)
            due += INTERVAL_S
    except (RequestError, OSError, EOFError) as error:
        waiting.errors.append(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def describe(waiting: Waiting) -> str:
    rows = []
    for route, seconds in sorted(waiting.seconds.items()):
        shown = [percentile(seconds, share) for share in (0.5, 0.95, 0.99)] + [max(seconds)]
        rows.append([route, f"{len(seconds):,}", *(f"{value * 1000:,.1f}" for value in shown)])
    return table(("route", "requests", "p50 ms", "p95 ms", "p99 ms", "max ms"), rows, labels=1)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=PEOPLE, help="default: 100 1000")
    parser.add_argument("--seconds", type=float, default=30, help="of each level (default: 30)")
    options = parser.parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        accounts = dataset.sign_in()
        log = bench.folder / "ours.log"
        with running(ours(PROCESSES), dataset.url, log, on=cores.ALL) as server:
            asyncio.run(level(server, crowd(dataset, accounts[: min(PEOPLE)]), WARM_UP_S))
            for people in options.people:
                requests = crowd(dataset, accounts[:people])
                busy_before = time.process_time()
                waiting = asyncio.run(level(server, requests, options.seconds))
                busy = (time.process_time() - busy_before) / options.seconds
                print(f"\n{people:,} people, {options.seconds:.0f} s\n\n{describe(waiting)}\n")
                print(
                    f"errors: {len(waiting.errors)}; the generator was busy {busy:.0%} of the time"
                )
                if waiting.errors:
                    raise command.FailedError(f"Requests failed, such as\n{waiting.errors[0]}")
                limit_ms = LIMITS_MS.get(people)
                if limit_ms is not None:
                    worst_ms = 1000 * max(percentile(s, 0.95) for s in waiting.seconds.values())
                    verdict = "kept" if worst_ms < limit_ms else "NOT kept"
                    print(f"p95 of every route below {limit_ms} ms: {verdict}")
        dataset.restore()


if __name__ == "__main__":
    command.run(main)
