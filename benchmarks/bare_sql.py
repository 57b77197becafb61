"""The bare SQL of each route through pgbench, prepared: what no server can be faster than.

One statement a transaction, from as many clients as a server has connections. The
statements look up a random user or task by its number in benchmark.target, which loads by HTTP need
not, and which costs one more index lookup in a small table.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .command import Bench
from .dataset import DOOMED_PER_SECOND, Account, Dataset
from .postgres import pgbench

SCRIPTS = Path(__file__).with_name("sql")
# What stands for `{columns}` in them: what an answer is made of.
COLUMNS = (
    *("id", "user_id", "title", "description", "is_completed", "completed_at", "priority"),
    *("labels", "due_on", "due_time", "time_zone", "due_at", "start_on", "list_id", "parent_id"),
    *("position", "recurrence", "repeat_from", "series_id", "next_task_id", "occurrence_on"),
    "series_start_on",
    *("created_at", "updated_at", "version"),
)
CLIENTS = 2
POSTGRES_WITH_UUIDV7 = 18
MISSING = "pgbench is missing (Debian, Ubuntu: apt-get install postgresql)"


@dataclass(frozen=True)
class BareMeasurement:
    """One run of pgbench. CPU time is PostgreSQL's, in microseconds for each transaction."""

    postgres_cpu_us: float | None
    rate: float
    mean_ms: float


class BareSql:
    """pgbench on the database of a benchmark."""

    def __init__(
        self, bench: Bench, dataset: Dataset, accounts: Sequence[Account], seconds: int
    ) -> None:
        self._postgres = bench.postgres
        self._script = bench.folder / "script.sql"
        self._dataset = dataset
        self._accounts = accounts
        self._seconds = seconds
        self._program = pgbench()
        with dataset.connect() as connection:
            self._major = connection.info.server_version // 10_000

    def obstacle(self, route: str) -> str | None:
        """Why the route can't be measured; None where it can."""
        if self._program is None:
            return MISSING
        if route == "create" and self._major < POSTGRES_WITH_UUIDV7:
            return f"PostgreSQL {self._major} has no uuidv7()"
        return None

    def measure(self, route: str) -> BareMeasurement:
        """Raises RuntimeError where a transaction fails or does nothing."""
        assert self._program is not None
        dataset, postgres = self._dataset, self._postgres
        if route == "delete":
            dataset.add_doomed(self._accounts, DOOMED_PER_SECOND * self._seconds)
            dataset.number_doomed()
        tasks_before = dataset.count_tasks()
        cpu_before = postgres.cpu_seconds() if postgres else 0.0
        output = self._run(route)
        cpu_s = postgres.cpu_seconds() - cpu_before if postgres else None
        transactions = int(_number(r"transactions actually processed: (\d+)", output))
        failed = _number(r"failed transactions: (\d+)", output)
        expected = {"create": transactions, "delete": -transactions}.get(route, 0)
        if failed or dataset.count_tasks() - tasks_before != expected:
            raise RuntimeError(f"Transactions of `{route}` failed or did nothing:\n{output}")
        dataset.restore()
        return BareMeasurement(
            postgres_cpu_us=None if cpu_s is None else cpu_s * 1e6 / transactions,
            rate=_number(r"tps = ([\d.]+)", output),
            mean_ms=_number(r"latency average = ([\d.]+) ms", output),
        )

    def _run(self, route: str) -> str:
        script = (SCRIPTS / f"{route}.sql").read_text()
        self._script.write_text(script.replace("{columns}", ", ".join(COLUMNS)))
        targets = sum(len(account.tasks) for account in self._accounts)
        command = [
            *(str(self._program), "--protocol", "prepared", "--no-vacuum"),
            *("--client", str(CLIENTS), "--time", str(self._seconds)),
            *("--define", f"targets={targets}", "--file", str(self._script)),
            self._dataset.url,
        ]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        if ended.returncode != 0:
            raise RuntimeError(f"pgbench failed:\n{ended.stderr}")
        return ended.stdout


def _number(pattern: str, output: str) -> float:
    match = re.search(pattern, output)
    assert match is not None, output
    return float(match[1])
