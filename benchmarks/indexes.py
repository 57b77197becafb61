"""What the indexes of open tasks cost a write, and are worth to a list.

The tasks are copied for each variant, in one database: `without` has the table's other indexes,
`due` and `list` one more each, `both` is as the service has it, and `all tasks` has those two of
completed tasks as well. They take turns, statement by statement, on one connection that waits for
no disk. Reads are of a user with 100,000 tasks, of which the last 5,000 are open. Then each variant
goes through other writes of the same kind alone, for its write-ahead log and for the share of
updates that are heap-only.
"""

import statistics
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import psycopg
from uuid_utils.compat import uuid7

from . import command
from .dataset import Scale
from .folding import in_turn
from .report import table

SCALE = Scale(users=1_000, tasks_per_user=100, heavy_tasks=100_000)
OPEN_EACH = 5_000
DUE, LIST = "tasks_task_open_due", "tasks_task_open_list"
VARIANTS: Mapping[str, set[str]] = {
    "without": set(),
    "due": {DUE},
    "list": {LIST},
    "both": {DUE, LIST},
    "all tasks": {DUE, LIST},
}
COLUMNS = "id, user_id, title, completed_at, due_on, list_id, position, created_at, updated_at"
_CREATE = f"""
    INSERT INTO {{}}.tasks_task ({COLUMNS}, version)
    VALUES (%(new_id)s, %(user_id)s, %(title)s, NULL, {{}}, NULL, %(position)s, now(), now(), 1)
"""
_CHANGE = "UPDATE {}.tasks_task SET {}, updated_at = now() WHERE id = %(id)s"
WRITES: Mapping[str, tuple[str, str]] = {
    "create, without a day": (_CREATE, "NULL"),
    "create, with a day": (_CREATE, "current_date + %(number)s"),
    "PATCH of the title": (_CHANGE, "title = %(title)s"),
    "PATCH of the day": (_CHANGE, "due_on = current_date + %(number)s"),
    "complete": (_CHANGE, "completed_at = now()"),
    "reopen": (_CHANGE, "completed_at = NULL"),
}
# What is asked for, and by which keys of an order.
READS: Mapping[str, tuple[str, str]] = {
    "today and overdue": ("completed_at IS NULL AND {due} < current_date + 1", "{due}"),
    "open, by due": ("completed_at IS NULL", "{due}"),
    "open in the inbox, by hand": ("completed_at IS NULL AND list_id IS NULL", "list_id, position"),
    "all, by due": ("true", "{due}"),
}


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--reads", type=int, default=60, help="of each kind")
    parser.add_argument("--writes", type=int, default=3_000, help="of each kind")
    options = parser.parse_args()
    with (
        command.open_bench(options.database_url) as bench,
        (dataset := bench.dataset(SCALE)).connect() as connection,
    ):
        connection.execute("SET synchronous_commit = off")
        sizes = [[variant, *_made(connection, variant)] for variant in VARIANTS]
        user_id = dataset.sign_in_heavy().user_id
        reads = [[read, *_read(connection, read, user_id, options.reads)] for read in READS]
        rows = [(write, _measured(connection, write, options.writes)) for write in WRITES]
        for variant in VARIANTS:
            connection.execute(f'DROP SCHEMA "{variant}" CASCADE')
    print(f"\n{table(('tasks_task', 'MiB of indexes'), sizes, labels=1)}\n")
    print(f"\n{table(('ms', *VARIANTS), reads, labels=1)}\n")
    for what, place in (("ms", 0), ("bytes of WAL", 1), ("heap-only, %", 2)):
        cells = [[name, *(each[place] for each in found)] for name, found in rows]
        print(f"\n{table((what, *VARIANTS), cells, labels=1)}\n")


def _made(connection: psycopg.Connection, variant: str) -> list[str]:
    """Copies the tasks, with room in each page for changed ones, as a table in use has it."""
    copy = f'"{variant}".tasks_task'
    connection.execute(f'DROP SCHEMA IF EXISTS "{variant}" CASCADE')
    connection.execute(f'CREATE SCHEMA "{variant}"')
    connection.execute(
        f"CREATE TABLE {copy} (LIKE public.tasks_task INCLUDING ALL EXCLUDING INDEXES)"
        " WITH (fillfactor = 80, autovacuum_enabled = false)"
    )
    connection.execute(
        f"""
        INSERT INTO {copy} ({COLUMNS}, version)
        SELECT id, user_id, title,
               CASE WHEN age > {OPEN_EACH} THEN coalesce(completed_at, created_at) END,
               CASE WHEN age % 2 = 0 THEN current_date + 7 - (age / 100)::integer END,
               NULL, lpad(to_hex({SCALE.heavy_tasks} - age), 12, '0'), created_at, updated_at, 1
          FROM (
              SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY created_at DESC) AS age
                FROM public.tasks_task
          ) AS task ORDER BY id
        """
    )
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public' AND tablename = 'tasks_task'"
    ).fetchall()
    for name, definition in indexes:
        if name in VARIANTS[variant] or name not in (DUE, LIST):
            made = definition.replace(" ON public.tasks_task", f" ON {copy}")
            if variant == "all tasks":
                made = made.replace("(completed_at IS NULL) AND ", "")
            connection.execute(made)
    connection.execute(f"VACUUM (ANALYZE) {copy}")
    size = connection.execute("SELECT pg_indexes_size(%s::regclass)", (copy,)).fetchone()
    assert size is not None
    return [f"{size[0] / 2**20:.1f}"]


def _read(connection: psycopg.Connection, read: str, user_id: UUID, count: int) -> list[str]:
    """Milliseconds of a page of each variant."""
    from tasks.fields import TASK

    (due,) = (key.sorted_sql for key in TASK.sort_keys if key.field == "due")
    condition, order = (part.format(due=due) for part in READS[read])
    statements = [
        f'SELECT id FROM "{variant}".tasks_task'
        f" WHERE user_id = %(user_id)s AND deleted_at IS NULL AND {condition}"
        f" ORDER BY {order}, id LIMIT 51"
        for variant in VARIANTS
    ]
    return in_turn(connection, statements, lambda _: {"user_id": user_id}, count)


def _measured(connection: psycopg.Connection, write: str, count: int) -> list[tuple[str, ...]]:
    """Of each variant: milliseconds, bytes of the log, and the share of heap-only updates."""
    text, what = WRITES[write]
    wanted = "IS NOT NULL" if write == "reopen" else "IS NULL"
    targets = connection.execute(
        f"SELECT id, user_id, title FROM without.tasks_task WHERE completed_at {wanted}"
        " ORDER BY md5(id::text) LIMIT %s",
        (2 * count,),
    ).fetchall()

    def parameters(first: int) -> Callable[[int], Mapping[str, Any]]:
        def of(number: int) -> Mapping[str, Any]:
            task_id, user_id, title = targets[(first + number) % len(targets)]
            values = {"id": task_id, "new_id": uuid7(), "user_id": user_id, "title": title[::-1]}
            return {**values, "position": f"{number:012x}", "number": number % 30 - 10}

        return of

    statements = [text.format(f'"{variant}"', what) for variant in VARIANTS]
    for variant in VARIANTS:
        connection.execute(f'VACUUM "{variant}".tasks_task')
    taken = in_turn(connection, statements, parameters(0), count)
    costs = []
    for variant, statement in zip(VARIANTS, statements, strict=True):
        before = _updates(connection, variant)
        logged = [
            _logged(connection, statement, parameters(count)(number)) for number in range(count)
        ]
        updates, heap_only = (
            after - earlier
            for after, earlier in zip(_updates(connection, variant), before, strict=True)
        )
        share = f"{100 * heap_only / updates:.0f}" if updates else ""
        costs.append((f"{statistics.median(filter(None, logged)):.0f}", share))
    return [(each, *cost) for each, cost in zip(taken, costs, strict=True)]


def _logged(connection: psycopg.Connection, statement: str, values: Mapping[str, Any]) -> int:
    """Bytes of write-ahead log; 0 where it has whole pages, as after each checkpoint."""
    explained = connection.execute(f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {statement}", values)
    row = explained.fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return 0 if plan["WAL FPI"] else int(plan["WAL Bytes"])


def _updates(connection: psycopg.Connection, variant: str) -> tuple[int, int]:
    """How many there have been, and how many of them heap-only."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = %s", (variant,)
    ).fetchone()
    assert row is not None
    return row[0], row[1]


if __name__ == "__main__":
    command.run(main)
