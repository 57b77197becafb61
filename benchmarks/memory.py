"""Does the server's memory grow? 200,000 requests, reads and writes mixed, to one process.

PSS and RSS are those of all of the server's processes together: one that serves, one that watches
it, and Python's helper. PSS counts what they share once.
"""

import asyncio
from collections.abc import Sequence

from . import command
from .client import Connection, RequestError
from .dataset import Account, Scale
from .report import table
from .servers import Server, ours, running
from .traffic import of_person

SCALE = Scale(users=1_000, tasks_per_user=100)
REQUESTS = 200_000
SAMPLES = 10
CONNECTIONS = 32
READS_PER_WRITE = 1
WARM_UP_REQUESTS = 500  # what is loaded at the first use is no growth


class Crowd:
    """People on one connection each, who send their next request when the answer is there."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._people = [of_person(account, reads_per_write=READS_PER_WRITE) for account in accounts]
        self._next = [next(person) for person in self._people]

    async def send(self, server: Server, count: int) -> None:
        """Sends `count` requests. Raises FailedError where one fails."""
        left = iter(range(count))

        async def work(number: int) -> None:
            connection = await Connection.open(server.port)
            for _ in left:
                answer = await connection.send(self._next[number])
                self._next[number] = self._people[number].send(answer)
            connection.close()

        try:
            await asyncio.gather(*(work(number) for number in range(len(self._people))))
        except (RequestError, OSError, EOFError) as error:
            raise command.FailedError(f"A request failed: {error}") from error


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="default: %(default)s")
    options = parser.parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        crowd = Crowd(dataset.sign_in()[:CONNECTIONS])
        with running(ours(), dataset.url, bench.folder / "ours.log") as server:
            asyncio.run(crowd.send(server, WARM_UP_REQUESTS))
            samples = [_memory_mib(server)]
            step = options.requests // SAMPLES
            for number in range(SAMPLES):
                print(f"{number * step:,} requests ...", flush=True)
                asyncio.run(crowd.send(server, step))
                samples.append(_memory_mib(server))
        dataset.restore()
    rows = [
        [f"{number * step:,}", f"{pss:.1f}", f"{rss:.1f}", f"{pss - samples[0][0]:+.1f}"]
        for number, (pss, rss) in enumerate(samples)
    ]
    print(f"\n{table(('requests', 'PSS MiB', 'RSS MiB', 'growth of PSS'), rows, labels=0)}\n")


def _memory_mib(server: Server) -> tuple[float, float]:
    server.rest()
    return server.processes.pss_bytes() / 2**20, server.processes.rss_bytes() / 2**20


if __name__ == "__main__":
    command.run(main)
