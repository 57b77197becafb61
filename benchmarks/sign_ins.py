"""Do sign-ins starve everybody else? The contract's number [N1], section 9.

64 clients sign in again and again, each to another account and with the limits off, while 100
people work on their tasks, each with a request every two seconds (see paced.py). Once everybody
heeds Retry-After, and once nobody does, which is a flood of refusals.

The service may use every core; PostgreSQL and the generators share one that is not the last.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

from django.conf import settings
from django.contrib.auth.hashers import make_password

from . import command, cores, service
from .client import Connection
from .dataset import Account, Dataset, Scale
from .paced import Waiting, level
from .paced import crowd as people_of
from .report import percentile, table
from .servers import Program, Server, ours, running
from .traffic import Request

SCALE = Scale(users=1_000, tasks_per_user=100)
PROCESSES = 2
PEOPLE = 100
SIGNERS = 64
PASSWORD = "correct horse battery staple"  # noqa: S105  # of nobody
PROBE_INTERVAL_S = 0.1
WARM_UP_S = 4
P95_LIMIT_MS = 50
LIVENESS = Request("livez", "GET", "/livez", "")


@dataclass(frozen=True)
class Crowd:
    """Who signs in meanwhile; `is_patient` heeds Retry-After."""

    name: str
    requests: Sequence[Request]
    is_patient: bool = True


@dataclass(frozen=True)
class Load:
    """What was found with one crowd; `statuses` are those of its sign-ins."""

    crowd: Crowd
    seconds: float
    waiting: Waiting
    probes: Sequence[float]
    statuses: Mapping[int, int]

    @property
    def others(self) -> list[float]:
        """What requests for tasks waited, in seconds."""
        return [wait for waits in self.waiting.seconds.values() for wait in waits]


def unlimited(program: Program) -> Program:
    """The same with no limits but that of writes, which the other benchmarks have too."""
    names = (name.upper().replace("-", "_") for name in settings.RATE_LIMITS)
    off = {f"RATE_LIMIT_{name}": "off" for name in names if name != "WRITES"}
    return replace(program, environment=lambda url: {**service.environment(url), **off})


def sign_ins_of(dataset: Dataset, accounts: Sequence[Account]) -> list[Request]:
    """One request for each of these accounts, which get the same password."""
    with dataset.connect() as connection:
        rows = connection.execute(
            "UPDATE accounts_user SET password = %s WHERE id = ANY(%s) RETURNING email",
            (make_password(PASSWORD), [account.user_id for account in accounts]),
        ).fetchall()
    return [
        Request("sign-in", "POST", "/api/auth/token", "", {"email": email, "password": PASSWORD})
        for (email,) in rows
    ]


def sign_in(port: int, crowd: Crowd, seconds: float) -> Counter[int]:
    """All of the crowd sign in again and again, for so long; the answers by status.

    In a process of its own, so that it doesn't delay those who measure.
    """
    return asyncio.run(_sign_in(port, crowd, time.monotonic() + seconds))


async def _sign_in(port: int, crowd: Crowd, end: float) -> Counter[int]:
    statuses: Counter[int] = Counter()

    async def client(request: Request) -> None:
        connection = await Connection.open(port)
        while time.monotonic() < end:
            answer = await connection.exchange(request)
            statuses[answer.status] += 1
            if crowd.is_patient and answer.retry_after_seconds:
                await asyncio.sleep(answer.retry_after_seconds)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for request in crowd.requests:
            group.create_task(client(request))
    return statuses


async def probe(port: int, end: asyncio.Event) -> list[float]:
    """What /livez takes, in seconds, ten times a second. Raises RequestError where it fails."""
    connection = await Connection.open(port)
    waits = []
    while not end.is_set():
        started = time.monotonic()
        await connection.send(LIVENESS)
        waits.append(time.monotonic() - started)
        await asyncio.sleep(PROBE_INTERVAL_S)
    connection.close()
    return waits


async def measure(
    server: Server,
    people: Sequence[Generator[Request, bytes, None]],
    crowd: Crowd,
    seconds: float,
) -> Load:
    """People at their pace and a probe, while the crowd signs in."""
    end = asyncio.Event()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        probes = asyncio.create_task(probe(server.port, end))
        signing_in = asyncio.get_running_loop().run_in_executor(
            pool, sign_in, server.port, crowd, seconds
        )
        waiting = await level(server, people, seconds)
        statuses = await signing_in
        end.set()
        return Load(crowd, seconds, waiting, await probes, statuses)


def describe(loads: Sequence[Load]) -> str:
    quiet = percentile(loads[0].others, 0.95)
    rows = []
    for load in loads:
        p50, p95, worst = (percentile(load.others, share) for share in (0.5, 0.95, 1))
        rows.append(
            [
                load.crowd.name,
                f"{len(load.others):,}",
                *(f"{wait * 1000:,.1f}" for wait in (p50, p95, worst)),
                f"{p95 / quiet:.1f}",
                f"{load.statuses.get(200, 0) / load.seconds:,.0f}",
                f"{load.statuses.get(503, 0) / load.seconds:,.0f}",
                f"{max(load.probes) * 1000:,.1f}",
            ]
        )
    header = (
        *("sign-ins", "tasks' requests", "p50 ms", "p95 ms", "max ms", "p95 / none"),
        *("signed in/s", "refused/s", "/livez max ms"),
    )
    return table(header, rows, labels=1)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each load (default: 20)")
    options = parser.parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        accounts = dataset.sign_in()
        people, others = accounts[:PEOPLE], accounts[PEOPLE : PEOPLE + SIGNERS]
        requests = sign_ins_of(dataset, others)
        log = bench.folder / "ours.log"
        with running(unlimited(ours(PROCESSES)), dataset.url, log, on=cores.ALL) as server:
            asyncio.run(level(server, people_of(dataset, people), WARM_UP_S))
            loads = []
            for crowd in (
                Crowd("none", []),
                Crowd(f"{SIGNERS} that heed Retry-After", requests),
                Crowd(f"{SIGNERS} that don't", requests, is_patient=False),
            ):
                print(f"Sign-ins: {crowd.name} ...", flush=True)
                working = people_of(dataset, people)
                loads.append(asyncio.run(measure(server, working, crowd, options.seconds)))
        dataset.restore()
    print(f"\n{describe(loads)}\n")
    for load in loads:
        unexpected = set(load.statuses) - {200, 503}
        if load.waiting.errors or unexpected:
            raise command.FailedError(f"Failed: {load.waiting.errors[:1]}, {unexpected or ''}")
        verdict = "kept" if percentile(load.others, 0.95) * 1000 < P95_LIMIT_MS else "NOT kept"
        print(f"p95 below {P95_LIMIT_MS} ms, sign-ins: {load.crowd.name}: {verdict}")


if __name__ == "__main__":
    command.run(main)
