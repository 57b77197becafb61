"""What how many people need, on paper: from what was measured to processes, cores and disks.

    python -m benchmarks.scaling            prints the tables
    python -m benchmarks.scaling --write    writes them into docs/scaling.md and docs/operations.md
    python -m benchmarks.scaling --measure  measures BYTES, on a database of the benchmarks' own

Processor times are those of RESULTS.md. A model has assumptions: they stand below, by name, and any
of them is wrong for somebody. Requests are assumed to come independently of each other, and cores
to be those of RESULTS.md.
"""

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import command
from .dataset import Scale
from .report import table

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = Path(__file__).parent / "RESULTS.md"
CONNECTIONS = 100  # whose table of RESULTS.md is read

# --- Assumptions ------------------------------------------------------------------------------

# Four reads to a write, as benchmarks.paced has it.
MIX = {"list": 0.4, "read": 0.4, "create": 0.05, "complete": 0.05, "patch": 0.05, "delete": 0.05}
WRITES = 0.2
# Cores that are busier than that make people wait when many come at once.
LOAD = 0.5
# Of each person, whether they come that day or not: the app is opened a few times, and asks.
REQUESTS_PER_DAY = 100
BUSIEST_HOUR = 0.1  # of the day's requests
TASKS_PER_PERSON = 200
SESSIONS_PER_PERSON = 3
DAYS_OF_CHANGES = 90  # CHANGES_KEPT
THREADS = 4
CONNECTIONS_PER_PROCESS = THREADS + 1

# --- Measured ---------------------------------------------------------------------------------

# Of a process, `python -m benchmarks.sign_ins`: 36 for two.
SIGN_INS_PER_SECOND = 18
# Of a row with its indexes, `python -m benchmarks.scaling --measure`.
BYTES: Mapping[str, int] = {
    "tasks_task": 927,
    "todo_project_change": 167,
    "accounts_user": 385,
    "accounts_session": 360,
    "todo_project_clock": 294,
}

# --- Of Neon: https://neon.com/docs/connect/connection-pooling --------------------------------

# Its unit of compute is a core and 4 GB; what max_connections each size has.
COMPUTES: Mapping[float, int] = {
    0.25: 104,
    0.5: 209,
    1: 419,
    2: 839,
    4: 1678,
    8: 3357,
    16: 4000,
    56: 4000,
}
POOLED = 0.9  # of max_connections


@dataclass(frozen=True)
class Costs:
    """Seconds of a processor that a request takes, over all routes as they are mixed."""

    service: float
    postgres: float

    @classmethod
    def measured(cls, results: str) -> "Costs":
        """From the text of RESULTS.md. Raises ValueError where that has another form."""
        _, found, rest = results.partition(f"### {CONNECTIONS} connections\n")
        rows = re.findall(r"^\| (\w+) +\| ours +\| +([\d,]+) \| +([\d,]+) \|", rest, re.MULTILINE)
        # The first table, of one row for each route.
        micros = {route: (_number(ours), _number(theirs)) for route, ours, theirs in rows[:7]}
        if not found or not micros.keys() >= MIX.keys():
            raise ValueError(f"RESULTS.md has no table of {CONNECTIONS} connections")
        service, postgres = (
            sum(share * micros[route][i] for route, share in MIX.items()) / 1e6 for i in (0, 1)
        )
        return cls(service, postgres)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write the tables into the documents")
    parser.add_argument("--measure", action="store_true", help="measure the bytes of rows")
    options = parser.parse_args()
    if options.measure:
        command.run(measure)
        return
    for (document, name), text in tables(Costs.measured(RESULTS.read_text())).items():
        if options.write:
            path = DOCS / document
            path.write_text(replaced(path.read_text(), name, text))
        else:
            print(f"{document}, {name}:\n\n{text}\n")


def tables(costs: Costs) -> dict[tuple[str, str], str]:
    """By document and name."""
    return {
        ("scaling.md", "costs"): costs_table(costs),
        ("scaling.md", "people"): people_table(costs),
        ("operations.md", "sizes"): sizes_table(costs),
    }


def replaced(document: str, name: str, text: str) -> str:
    """The document with another text between the marks of `name`. Raises ValueError without."""
    begin, end = (f"<!-- {mark} benchmarks.scaling {name} -->\n" for mark in ("begin", "end"))
    before, has_begin, rest = document.partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise ValueError(f"no place for {name}")
    return f"{before}{begin}{text}\n{end}{after}"


def costs_table(costs: Costs) -> str:
    per_person = storage(1)
    log = BYTES["todo_project_change"] * WRITES * REQUESTS_PER_DAY * DAYS_OF_CHANGES
    rows = [
        ("service, of a request", f"{costs.service * 1e6:.0f} µs of a core"),
        ("PostgreSQL, of a request", f"{costs.postgres * 1e6:.0f} µs of a core"),
        ("a task with its indexes", f"{BYTES['tasks_task']:,} bytes"),
        ("a line of the log of changes", f"{BYTES['todo_project_change']:,} bytes"),
        ("a person, in all", f"{per_person / 1024:.0f} KiB, {log / per_person:.0%} of it the log"),
        ("sign-ins of a process", f"{SIGN_INS_PER_SECOND} a second"),
    ]
    return table(("what", "measured"), rows, labels=2)


def people_table(costs: Costs) -> str:
    header = (
        *("people", "requests/s", "service, cores", "processes", "connections"),
        *("PostgreSQL, cores", "tasks", "database", "all sign in anew"),
    )
    rows = []
    for people in (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        rate = people * REQUESTS_PER_DAY * BUSIEST_HOUR / 3600
        processes = math.ceil(rate * costs.service / LOAD)
        rows.append(
            (
                f"{people:,}",
                f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
                _cores(rate * costs.service / LOAD),
                f"{processes:,}",
                f"{processes * CONNECTIONS_PER_PROCESS:,}",
                _cores(rate * costs.postgres / LOAD),
                f"{people * TASKS_PER_PERSON:,}",
                _size(storage(people)),
                _duration(people / (processes * SIGN_INS_PER_SECOND)),
            )
        )
    return table(header, rows, labels=0)


def sizes_table(costs: Costs) -> str:
    header = (
        *("compute", "`max_connections`, of them pooled", "requests/s"),
        *("processes × threads", "connections of the service"),
    )
    rows = []
    for compute, connections in COMPUTES.items():
        rate = _rounded_down(compute * LOAD / costs.postgres)
        processes = math.ceil(rate * costs.service / LOAD)
        rows.append(
            (
                f"{compute:g} CU",
                f"{connections:,}, {math.floor(connections * POOLED):,}",
                f"{rate:,}",
                f"{processes} × {THREADS}",
                f"{processes * CONNECTIONS_PER_PROCESS}",
            )
        )
    return table(header, rows, labels=2)


def storage(people: int) -> float:
    """Bytes of the tables that grow with people, and of their indexes."""
    rows = {
        "tasks_task": TASKS_PER_PERSON,
        "todo_project_change": WRITES * REQUESTS_PER_DAY * DAYS_OF_CHANGES,
        "accounts_user": 1,
        "accounts_session": SESSIONS_PER_PERSON,
        "todo_project_clock": 1,
    }
    return people * sum(BYTES[name] * number for name, number in rows.items())


def measure() -> None:
    """Prints what a row of each table of BYTES takes, with its share of the indexes."""
    with command.open_bench(None) as bench:
        data = bench.dataset(Scale(users=1_000, tasks_per_user=100))
        data.sign_in()
        with data.connect() as connection:
            connection.execute(_CHANGES)
            for name in BYTES:
                connection.execute(f"VACUUM {name}")
                row = connection.execute(
                    f"SELECT pg_total_relation_size('{name}') / count(*) FROM {name}"
                ).fetchone()
                assert row is not None
                print(f'    "{name}": {row[0]},')
            connection.execute("TRUNCATE todo_project_change")


# As they come: one person's among everybody else's.
_CHANGES = """
    INSERT INTO todo_project_change (user_id, version, type, id)
    SELECT user_id, number, 'task', gen_random_uuid()
      FROM todo_project_clock, generate_series(1, 100) AS number ORDER BY number, random()
"""


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _rounded_down(rate: float) -> int:
    """To two digits: more would pretend to a knowledge of other people's cores."""
    unit: int = 10 ** max(0, math.floor(math.log10(rate)) - 1)
    return int(rate // unit * unit)


def _cores(cores: float) -> str:
    return f"{cores:,.0f}" if cores >= 10 else f"{cores:.2g}"


def _size(size: float) -> str:
    for unit in ("MiB", "GiB"):
        size /= 1024 if unit == "GiB" else 1024**2
        if size < 1024:
            return f"{size:,.0f} {unit}"
    return f"{size / 1024:,.1f} TiB"


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h"


if __name__ == "__main__":
    main()
