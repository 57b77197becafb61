"""What the folded texts cost a write, and what they are worth to a search and to titles in order.

The tasks are copied three times, in one database: `plain` has neither folded texts nor anything
made for them, `folded` is as the service has it, and `indexed` has an index for the order of titles
as well. They take turns, statement by statement, on one connection that waits for no disk. Reads
are of a user with 100,000 tasks; writes give the tasks of others the texts of seeded ones.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import psycopg
from uuid_utils.compat import uuid7

from . import command
from .dataset import Scale, columns_of
from .report import percentile, table

SCALE = Scale(users=1_000, tasks_per_user=100, heavy_tasks=100_000)
VARIANTS = ("plain", "folded", "indexed")
# A tenth of the statements take less: whatever else the machine does can only add.
SHARE = 0.1

# As the service looked for a text before it had folded ones.
_FORMER_SEARCH = (
    "(upper(title) LIKE upper('%%never found%%')"
    " OR upper(description) LIKE upper('%%never found%%'))"
)
_WRITES: Mapping[str, str] = {
    "create": """
        INSERT INTO {}.tasks_task (id, user_id, title, description)
        VALUES (%(new_id)s, %(user_id)s, %(title)s, %(description)s)
    """,
    "PATCH of the title": """
        UPDATE {}.tasks_task SET title = %(title)s, updated_at = now()
         WHERE id = %(id)s AND user_id = %(user_id)s
    """,
    "complete": """
        UPDATE {}.tasks_task SET completed_at = now(), updated_at = now()
         WHERE id = %(id)s AND user_id = %(user_id)s
    """,
}


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--reads", type=int, default=60, help="of each kind")
    parser.add_argument("--writes", type=int, default=3_000, help="of each kind")
    options = parser.parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        heavy = dataset.sign_in_heavy()
        with dataset.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            sizes = _make_variants(connection)
            reads = _reads(connection, heavy.user_id, options.reads)
            writes = _writes(connection, options.writes)
            for variant in VARIANTS:
                connection.execute(f"DROP SCHEMA {variant} CASCADE")
    print(f"\n{table(('tasks_task', 'MiB', 'rewritten in s'), sizes, labels=1)}\n")
    head = ("statement", *(f"{variant}, ms" for variant in VARIANTS))
    print(f"\n{table(head, reads + writes, labels=1)}\n")


def _make_variants(connection: psycopg.Connection) -> list[list[str]]:
    """Copies the tasks into a schema for each variant; how large and how long in the making."""
    rows = []
    for variant in VARIANTS:
        copy = f"{variant}.tasks_task"
        connection.execute(f"DROP SCHEMA IF EXISTS {variant} CASCADE")
        connection.execute(f"CREATE SCHEMA {variant}")
        connection.execute(f"CREATE TABLE {copy} (LIKE public.tasks_task INCLUDING ALL)")
        connection.execute(f"ALTER TABLE {copy} DROP title_folded, DROP description_folded")
        columns = ", ".join(columns_of(connection, "public.tasks_task"))
        connection.execute(
            f"INSERT INTO {copy} ({columns}) SELECT {columns} FROM public.tasks_task ORDER BY id"
        )
        started = time.perf_counter()
        if variant != "plain":
            connection.execute(
                f"ALTER TABLE {copy}"
                ' ADD title_folded text COLLATE "C"'
                " GENERATED ALWAYS AS (tasks_fold(title)) STORED,"
                ' ADD description_folded text COLLATE "C"'
                " GENERATED ALWAYS AS (tasks_fold(description)) STORED"
            )
        seconds = time.perf_counter() - started
        if variant == "indexed":
            connection.execute(f"CREATE INDEX ON {copy} (user_id, title_folded, id)")
        connection.execute(f"VACUUM (ANALYZE) {copy}")
        size = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (copy,)).fetchone()
        assert size is not None
        rows.append([variant, f"{size[0] / 2**20:.0f}", f"{seconds:.1f}"])
    return rows


def _reads(connection: psycopg.Connection, user_id: UUID, count: int) -> list[list[str]]:
    from tasks.fields import TASK

    def search(variant: str) -> str:
        condition = _FORMER_SEARCH if variant == "plain" else TASK.filters["search"].sql
        return f"{condition} ORDER BY created_at DESC, id DESC"

    def by_title(variant: str) -> str:
        return f'true ORDER BY {"title" if variant == "plain" else "title_folded"} COLLATE "C", id'

    parameters = {"user_id": user_id, "search": ["never", "found"]}
    rows = []
    for name, what in (("search, never found", search), ("ordering=title", by_title)):
        statements = [
            f"SELECT id FROM {variant}.tasks_task"
            f" WHERE user_id = %(user_id)s AND deleted_at IS NULL AND {what(variant)} LIMIT 21"
            for variant in VARIANTS
        ]
        rows.append([name, *in_turn(connection, statements, lambda _: parameters, count)])
    return rows


def _writes(connection: psycopg.Connection, count: int) -> list[list[str]]:
    targets = connection.execute(
        "SELECT id, user_id, title, description FROM benchmark.target ORDER BY number LIMIT %s",
        (count,),
    ).fetchall()

    def parameters(number: int) -> Mapping[str, Any]:
        task_id, user_id, _, _ = targets[number % len(targets)]
        _, _, title, description = targets[-number % len(targets)]
        return {
            "id": task_id,
            "new_id": uuid7(),
            "user_id": user_id,
            "title": title,
            "description": description,
        }

    return [
        [name, *in_turn(connection, [write.format(each) for each in VARIANTS], parameters, count)]
        for name, write in _WRITES.items()
    ]


def in_turn(
    connection: psycopg.Connection,
    statements: list[str],
    parameters: Callable[[int], Mapping[str, Any]],
    count: int,
) -> list[str]:
    """Milliseconds of each statement."""
    seconds: list[list[float]] = [[] for _ in statements]
    for number in range(count):
        values = parameters(number)
        for statement, taken in zip(statements, seconds, strict=True):
            started = time.perf_counter()
            connection.execute(statement, values, prepare=True)
            taken.append(time.perf_counter() - started)
    return [f"{percentile(taken, SHARE) * 1000:.3g}" for taken in seconds]


if __name__ == "__main__":
    command.run(main)
