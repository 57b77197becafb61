"""What the export of a person's data takes: memory, time, and what others wait meanwhile.

First a person with 100 tasks and one with 100,000, each three times, one after the other. Memory is
PSS, of all of the server's processes together: before, and the highest while the file is read. Then
somebody reads their list without a pause, while people with 100 tasks download their file again and
again: nobody, one, as many as a process serves at once; and the same number of others pages of 200
tasks instead.

The server has one core; PostgreSQL and those who read share the others.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection

from django.conf import settings

from . import command, service
from .compare import PeakMemory
from .dataset import Account, Scale
from .report import percentile, table
from .servers import Program, Server, ours, running

SCALE = Scale(users=1_000, tasks_per_user=100, heavy_tasks=100_000)
PATH = "/api/auth/me/export"
PAGE = "/api/me/tasks?limit=200"
LIST = "/api/me/tasks?limit=20"
ROUNDS = 3
WAITS = 500
RECEIVE_BYTES = 256 * 1024


def unlimited() -> Program:
    """The service without the limit of exports."""
    off = {"RATE_LIMIT_EXPORTS": "off"}
    return replace(ours(), environment=lambda url: {**service.environment(url), **off})


def download(server: Server, account: Account, path: str = PATH) -> Iterator[bytes]:
    """The answer, as it comes. Raises FailedError."""
    client = HTTPConnection("127.0.0.1", server.port, timeout=60)
    client.request("GET", path, headers={"Authorization": f"Bearer {account.access}"})
    answer = client.getresponse()
    if answer.status != 200:
        raise command.FailedError(f"{path} answered {answer.status}: {answer.read()!r}")
    while part := answer.read(RECEIVE_BYTES):
        yield part
    client.close()


def measure(server: Server, account: Account, tasks: int) -> list[str]:
    """A row: how large the file is, how long it takes, and what the server needs for it."""
    server.rest()
    before = server.processes.pss_bytes() / 2**20
    size, started = 0, time.monotonic()
    cpu = server.processes.cpu_seconds()
    with PeakMemory(server) as memory:
        for part in download(server, account):
            size += len(part)
    seconds = time.monotonic() - started
    server.rest()
    cpu = server.processes.cpu_seconds() - cpu
    peak = max(memory.peak_bytes, server.processes.pss_bytes()) / 2**20
    return [
        f"{tasks:,}",
        f"{size / 1e6:.1f}",
        f"{seconds:.2f}",
        f"{cpu:.2f}",
        f"{before:.1f}",
        f"{peak:.1f}",
        f"{peak - before:+.1f}",
    ]


def check(server: Server, account: Account, tasks: int) -> None:
    """Raises FailedError where the file isn't one, or not all of it."""
    document = json.loads(b"".join(download(server, account)))
    if len(document["tasks"]) != tasks:
        raise command.FailedError(f"{len(document['tasks'])} tasks and not {tasks}.")


@contextmanager
def reading(server: Server, accounts: Sequence[Account], path: str) -> Iterator[list[int]]:
    """Each of these reads it again and again; counts their bytes."""
    is_over = threading.Event()
    counts = [0] * len(accounts)

    def work(number: int) -> None:
        while not is_over.is_set():
            for part in download(server, accounts[number], path):
                counts[number] += len(part)
                if is_over.is_set():
                    return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(accounts))]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def wait(server: Server, account: Account, readers: Sequence[Account], path: str) -> list[str]:
    """A row: what somebody's list takes while these read."""
    client = HTTPConnection("127.0.0.1", server.port, timeout=60)
    waits = []
    with reading(server, readers, path) as counts, PeakMemory(server) as memory:
        time.sleep(0.5)
        began, already = time.monotonic(), sum(counts)
        for _ in range(WAITS):
            started = time.monotonic()
            client.request("GET", LIST, headers={"Authorization": f"Bearer {account.access}"})
            client.getresponse().read()
            waits.append((time.monotonic() - started) * 1e3)
        rate = (sum(counts) - already) / (time.monotonic() - began) / 1e6
    client.close()
    return [
        f"{len(readers)} of {path}",
        f"{rate:.1f}",
        f"{percentile(waits, 0.5):.1f}",
        f"{percentile(waits, 0.95):.1f}",
        f"{max(waits):.1f}",
        f"{memory.peak_bytes / 2**20:.1f}",
    ]


def main() -> None:
    options = command.parser(__doc__).parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        people = dataset.sign_in()
        heavy = dataset.sign_in_heavy()
        with running(unlimited(), dataset.url, bench.folder / "ours.log") as server:
            for account, tasks in ((people[0], SCALE.tasks_per_user), (heavy, SCALE.heavy_tasks)):
                check(server, account, tasks)
            alone = [
                measure(server, account, tasks)
                for account, tasks in (
                    (people[0], SCALE.tasks_per_user),
                    (heavy, SCALE.heavy_tasks),
                )
                for _ in range(ROUNDS)
            ]
            most = settings.EXPORTS_AT_ONCE
            beside = [
                wait(server, people[0], people[1 : 1 + count], path)
                for count, path in ((0, PATH), (1, PATH), (most, PATH), (most, PAGE))
            ]
    of_one = ("tasks", "MB", "seconds", "CPU s", "PSS MiB before", "highest", "growth")
    print(f"\n{table(of_one, alone, labels=0)}\n")
    of_all = ("readers", "MB/s in all", "p50 ms of a list", "p95 ms", "longest", "highest PSS MiB")
    print(f"{table(of_all, beside, labels=1)}\n")


if __name__ == "__main__":
    command.run(main)
