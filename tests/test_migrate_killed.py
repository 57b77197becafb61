"""`manage.py migrate`, killed at any moment and run again, ends as if nothing had happened."""

import os
import random
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from django.contrib.postgres import operations as django_operations
from django.db import ProgrammingError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, RunSQL
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from pytest_django.plugin import DjangoDbBlocker

from tests.killing import Moment, killing_proxy
from tests.processes import direct_database_url as database_url
from tests.processes import made_database
from todo_project.management.commands.migrate import AtomicExecutor
from todo_project.postgresql import operations

NAME = "test_todo_killed"
# So many databases, each with so many kills. FUZZ_RUNS=100 for more.
RUNS = int(os.environ.get("FUZZ_RUNS", "3"))
KILLS = 5

# All that a migrate makes. Not the numbers of rows and columns, some of which a kill may spend.
SCHEMA = {
    "relations": """
        SELECT relname, relkind, relpersistence, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    """,
    "columns": """
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
            attgenerated, attcollation::regcollation::text, pg_get_expr(adbin, adrelid)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    """,
    "indexes": """
        SELECT pg_get_indexdef(indexrelid), indisvalid, indisready
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE relnamespace = 'public'::regnamespace
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": """
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """,
    "extensions": "SELECT extname FROM pg_extension",
}
ROWS = {
    "migrations": "SELECT app, name FROM django_migrations",
    "content types": "SELECT app_label, model FROM django_content_type",
    "permissions": """
        SELECT app_label, model, codename, name FROM auth_permission
        JOIN django_content_type ON django_content_type.id = content_type_id
    """,
}

Contents = dict[str, list[tuple[Any, ...]]]


def contents(name: str, queries: Mapping[str, str] = SCHEMA | ROWS) -> Contents:
    """What is in the database."""
    with psycopg.connect(database_url(name), autocommit=True) as session:
        return {
            what: sorted(session.execute(query).fetchall(), key=repr)
            for what, query in queries.items()
        }


@dataclass(frozen=True)
class Undisturbed:
    """A database that was migrated without a kill, and how many messages that took."""

    name: str
    messages: int


@pytest.fixture(scope="module")
def undisturbed(django_db_setup: None, worker_id: str) -> Iterator[Undisturbed]:
    with (
        made_database(f"{NAME}_undisturbed_{worker_id}") as name,
        killing_proxy(database_url(name)) as proxy,
    ):
        done = proxy.run("migrate")
        assert done.returncode == 0, done.stdout
        yield Undisturbed(name, proxy.messages)


@pytest.fixture
def database(django_db_setup: None, worker_id: str) -> Iterator[str]:
    """Name of an empty database."""
    with made_database(f"{NAME}_{worker_id}") as name:
        yield name


def migrate(name: str, moments: Iterable[Moment], *arguments: str) -> int:
    """Runs it until it ends, killed at one of the moments each time; returns how often it was."""
    kills = 0
    with killing_proxy(database_url(name)) as proxy:
        for moment in [*moments, None]:
            done = proxy.run("migrate", *arguments, moment=moment)
            if moment is None or done.returncode != -moment.signal:
                break
            kills += 1
    assert done.returncode == 0, done.stdout
    return kills


def some_moment(chance: random.Random, messages: int) -> Moment:
    """Any, but more often one where something is made for good or recorded."""
    kinds = {b"": messages // 3, b"COMMIT": 8, b"INSERT INTO": 8}
    text = chance.choice(list(kinds))
    return Moment(
        chance.randint(1, kinds[text]),
        text,
        is_delivered=chance.choice([True, False]),
        signal=chance.choice([signal.SIGKILL, signal.SIGTERM]),
    )


@pytest.mark.parametrize("seed", range(RUNS))
def test_killed_at_random_moments(seed: int, database: str, undisturbed: Undisturbed) -> None:
    chance = random.Random(seed)
    moments = [some_moment(chance, undisturbed.messages) for _ in range(KILLS)]

    assert migrate(database, moments) > 0

    assert contents(database) == contents(undisturbed.name)


@pytest.mark.parametrize(
    "moments",
    [
        [Moment(1, b'CREATE TABLE "django_migrations"')],
        [Moment(1, b'CREATE TABLE "django_migrations"', is_delivered=True)],
        # What a migration does has to be there with its record, or neither.
        [Moment(6, b'INSERT INTO "django_migrations"')] * 9,
        [Moment(2, b'INSERT INTO "django_content_type"', is_delivered=True)],
        [Moment(2, b'INSERT INTO "auth_permission"')],
    ],
    ids=["before the table", "after the table", "before records", "content types", "permissions"],
)
def test_killed_at_bad_moments(
    moments: list[Moment], database: str, undisturbed: Undisturbed
) -> None:
    assert migrate(database, moments) > 0

    assert contents(database) == contents(undisturbed.name)


def test_killed_on_the_way_back(undisturbed: Undisturbed, worker_id: str) -> None:
    """Before it takes the record away."""
    moment = Moment(1, b'DELETE FROM "django_migrations"')
    with made_database(f"{NAME}_back_{worker_id}", template=undisturbed.name) as name:
        kills = migrate(name, [moment, moment], "tasks", "zero")
        assert kills == 2
        left = contents(name)
        assert [row for row in left["relations"] if row[0].startswith("tasks_")] == []
        assert [row for row in left["migrations"] if row[0] == "tasks"] == []

        migrate(name, [])

        assert contents(name) == contents(undisturbed.name)


# --- Migrations that aren't atomic --------------------------------------------------------------

INDEX = models.Index(fields=["completed_at"], name="tasks_task_completed_at")
# As one is whose building was cut off.
MAKE_INVALID = """
    UPDATE pg_index SET indisvalid = false FROM pg_class
    WHERE pg_class.oid = indexrelid AND relname = ANY(%s)
"""


@contextmanager
def connected(name: str) -> Iterator[BaseDatabaseWrapper]:
    connections.databases["killed"] = {**connections["direct"].settings_dict, "NAME": name}
    try:
        yield connections["killed"]
    finally:
        connections["killed"].close()
        del connections["killed"], connections.databases["killed"]


def invented(*steps: Operation, app: str = "tasks") -> Migration:
    """A migration that isn't atomic, and could be the app's next."""

    class Invented(Migration):
        atomic = False
        operations = list(steps)
        dependencies = MigrationLoader(None).graph.leaf_nodes(app)

    return Invented("invented", app)


def run(
    migration: Migration, part: slice, state: ProjectState, connection: BaseDatabaseWrapper
) -> ProjectState:
    """Runs these of its operations; returns the state after them."""
    with connection.schema_editor(atomic=False) as editor:
        return invented(*migration.operations[part], app=migration.app_label).apply(
            state.clone(), editor
        )


def indexes(name: str) -> set[str]:
    return {row[0] for row in contents(name, SCHEMA)["relations"] if row[1] == "i"}


def results_of_second_runs(migration: Migration, prefix: str) -> Iterator[Contents]:
    """Of the first run that nobody disturbs, after ones killed at 0, 1, 2 ... of its operations.

    An index that the last of them made is left as one that was cut off.
    """
    key = (migration.app_label, migration.name)
    with made_database(f"{prefix}_before") as before:
        with connected(before) as connection:
            executor = AtomicExecutor(connection, lambda *arguments: None)
            nodes = executor.loader.graph.node_map
            parents = sorted(nodes[key].parents) if key in nodes else migration.dependencies
            state_before = executor.migrate(parents)
        for done in range(len(migration.operations) + 1):
            last = max(done - 1, 0)
            with (
                made_database(f"{prefix}_after", template=before) as name,
                connected(name) as connection,
                connection.cursor() as cursor,
            ):
                state = run(migration, slice(last), state_before, connection)
                finished = indexes(name)
                run(migration, slice(last, done), state, connection)
                cursor.execute(MAKE_INVALID, [list(indexes(name) - finished)])
                run(migration, slice(None), state_before, connection)
                yield contents(name, SCHEMA)


def not_atomic() -> list[Migration]:
    """All that there are, other packages' included, in order."""
    migrations = MigrationLoader(None).disk_migrations  # in another order in each process
    return [migration for _, migration in sorted(migrations.items()) if not migration.atomic]


@pytest.fixture
def prefix(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, worker_id: str
) -> Iterator[str]:
    """Of names of databases, which may be used."""
    with django_db_blocker.unblock():
        yield f"{NAME}_{worker_id}"


@pytest.mark.parametrize(
    "migration",
    [
        invented(
            operations.AddIndexConcurrently("task", INDEX),
            operations.RemoveIndexConcurrently("task", "tasks_task_user_live"),
        ),
        *not_atomic(),
    ],
    ids=str,
)
def test_migration_that_is_not_atomic_can_be_run_again(migration: Migration, prefix: str) -> None:
    """A rule for each to come: a new one is in this test by itself."""
    first, *others = results_of_second_runs(migration, prefix)

    assert others == [first] * len(migration.operations)
    assert all(is_valid for _, is_valid, _ in first["indexes"])


@pytest.mark.parametrize(
    "operation",
    [
        django_operations.AddIndexConcurrently("task", INDEX),
        RunSQL("ALTER TABLE tasks_task ADD CHECK (completed_at < 'infinity') NOT VALID"),
        RunSQL("CREATE INDEX CONCURRENTLY IF NOT EXISTS again ON tasks_task (completed_at)"),
    ],
    ids=["is in its own way", "does it twice", "takes the half for the whole"],
)
def test_rule_finds_what_can_not_be_run_again(operation: Operation, prefix: str) -> None:
    with pytest.raises((ProgrammingError, AssertionError), match=r"already exists|assert"):
        test_migration_that_is_not_atomic_can_be_run_again(invented(operation), prefix)


def test_concurrent_indexes_go_back_again(prefix: str) -> None:
    """Here what is added back is there already, and what is removed is gone."""
    steps = (
        operations.AddIndexConcurrently("task", INDEX),
        operations.RemoveIndexConcurrently("task", "tasks_task_user_live"),
    )
    migration = invented(*steps)
    with made_database(f"{prefix}_back") as name, connected(name) as connection:
        executor = AtomicExecutor(connection, lambda *arguments: None)
        state = executor.migrate(migration.dependencies)
        before = contents(name, SCHEMA)
        for _ in range(2):
            with connection.schema_editor(atomic=False) as editor:
                migration.unapply(state.clone(), editor)

        assert contents(name, SCHEMA) == before
