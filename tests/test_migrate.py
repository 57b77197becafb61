"""`manage.py migrate` with real processes, each test on a database of its own."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db.migrations.loader import MigrationLoader

from tests.processes import PATIENCE_S, made_database, production, start, wait_until
from tests.processes import direct_database_url as database_url
from todo_project.management.commands.migrate import LOCK_KEY

NAME = "test_todo_migrate"
POOLED = "postgresql://app:secret@ep-x-pooler.example.com/todo"

Session = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def new_database(django_db_setup: None, worker_id: str) -> Iterator[str]:
    """Name of an empty database."""
    with made_database(f"{NAME}_{worker_id}") as name:
        yield name


@pytest.fixture
def session(new_database: str) -> Iterator[Session]:
    with psycopg.connect(database_url(new_database), autocommit=True) as session:
        yield session


@pytest.fixture
def migrates() -> Iterator[list[subprocess.Popen[str]]]:
    """Those that a test began: none outlives it."""
    begun: list[subprocess.Popen[str]] = []
    yield begun
    for migrate in begun:
        if migrate.poll() is None:
            migrate.kill()
            migrate.communicate(timeout=PATIENCE_S)


def begin(*options: str, **variables: str) -> subprocess.Popen[str]:
    return start(
        "migrate",
        *options,
        env=production(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def value(session: Session, sql: str) -> Any:
    row = session.execute(sql).fetchone()
    assert row is not None
    return row[0]


# Of this database alone: other test workers lock theirs.
LOCKS = (
    "FROM pg_locks WHERE pid IN"
    " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
)
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def test_simultaneous_migrates_apply_everything_once(
    session: Session, new_database: str, migrates: list[subprocess.Popen[str]]
) -> None:
    """Through DIRECT_DATABASE_URL alone; the pooled endpoint doesn't exist."""
    variables = {"DATABASE_URL": POOLED, "DIRECT_DATABASE_URL": database_url(new_database)}
    session.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])  # until both are there
    migrates += [begin(**variables), begin(**variables), begin("--lock-timeout=1", **variables)]

    impatient = migrates.pop()
    assert (
        "Another migrate still runs after 1 seconds."
        in impatient.communicate(timeout=PATIENCE_S)[0]
    )
    assert impatient.returncode == 1
    wait_until(lambda: value(session, f"SELECT count(*) {OTHERS}") == 2)
    # A session that waits inside of a query holds a snapshot, and CREATE INDEX CONCURRENTLY would
    # wait for that.
    wait_until(lambda: not value(session, f"SELECT count(*) {OTHERS} AND backend_xmin IS NOT NULL"))
    session.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])

    outputs = sorted(migrate.communicate(timeout=PATIENCE_S)[0] for migrate in migrates)
    assert [migrate.returncode for migrate in migrates] == [0, 0], outputs
    applied = session.execute("SELECT app, name FROM django_migrations").fetchall()
    of_the_service = [key for key in MigrationLoader(None).disk_migrations if key[0] != "things"]
    assert sorted(applied) == sorted(of_the_service)
    assert ["No migrations to apply." in output for output in outputs].count(True) == 1
    assert value(session, f"SELECT count(*) {LOCKS} AND locktype = 'advisory'") == 0


def test_killed_migrate_leaves_no_lock(
    session: Session, new_database: str, migrates: list[subprocess.Popen[str]]
) -> None:
    variables = {"DATABASE_URL": database_url(new_database)}
    with session.transaction():  # in the way of the first one
        session.execute("CREATE TABLE django_migrations ()")
        first = begin(**variables)
        migrates.append(first)
        wait_until(lambda: value(session, f"SELECT count(*) {LOCKS} AND NOT granted") == 1)
        assert value(session, f"SELECT count(*) {LOCKS} AND locktype = 'advisory'") == 1
        first.kill()
        first.communicate(timeout=PATIENCE_S)
        raise psycopg.Rollback

    second = begin("--lock-timeout=100", **variables)
    migrates.append(second)

    assert "Applying tasks.0001_initial... OK" in second.communicate(timeout=PATIENCE_S)[0]
    assert second.returncode == 0


def test_interrupted_migrate_says_nothing(
    session: Session, new_database: str, migrates: list[subprocess.Popen[str]]
) -> None:
    """Ctrl-C while `make run` or `make serve` begins: no traceback."""
    session.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
    migrate = begin(DATABASE_URL=database_url(new_database))
    migrates.append(migrate)
    wait_until(lambda: value(session, f"SELECT count(*) {OTHERS} AND query LIKE '%advisory%'"))

    migrate.send_signal(signal.SIGINT)

    assert "Traceback" not in migrate.communicate(timeout=PATIENCE_S)[0]
    assert migrate.returncode == 128 + signal.SIGINT


def test_killed_migrate_waits_for_nothing_any_more(
    session: Session, new_database: str, migrates: list[subprocess.Popen[str]]
) -> None:
    """Its session would stay in the queue for the table, with the lock, as long as that is held."""
    with session.transaction():
        session.execute("CREATE TABLE django_migrations ()")
        migrate = begin(DATABASE_URL=database_url(new_database))
        migrates.append(migrate)
        wait_until(lambda: value(session, f"SELECT count(*) {LOCKS} AND NOT granted") == 1)
        migrate.kill()
        migrate.communicate(timeout=30)

        wait_until(
            lambda: value(session, f"SELECT count(*) {LOCKS} AND locktype = 'advisory'") == 0
        )
        raise psycopg.Rollback


def test_pooled_endpoint_is_refused_before_anything_is_sent() -> None:
    with socket.socket() as pooler:
        pooler.bind(("127.0.0.1", 0))
        pooler.listen()
        pooler.setblocking(False)
        host, port = pooler.getsockname()

        # libpq goes to the address and doesn't look for the name.
        migrate = begin(DATABASE_URL=f"{POOLED}?hostaddr={host}&port={port}")
        output = migrate.communicate(timeout=PATIENCE_S)[0]

        assert migrate.returncode == 1
        assert "Set DIRECT_DATABASE_URL to the direct endpoint" in output
        assert "Traceback" not in output
        with pytest.raises(BlockingIOError):
            pooler.accept()


def apply(migrates: list[subprocess.Popen[str]], name: str, *target: str) -> None:
    migrate = begin(*target, DATABASE_URL=database_url(name))
    migrates.append(migrate)
    output = migrate.communicate(timeout=60)[0]
    assert migrate.returncode == 0, output


ADD_USER = (
    "INSERT INTO accounts_user (id, email, password, name, is_active, is_staff, is_superuser)"
    " VALUES (%s, %s, '', %s, true, false, false)"
)
ADD_TASK = "INSERT INTO tasks_task (id, user_id, title, description) VALUES (%s, %s, %s, %s)"
BEFORE = ("tasks", "0002_task_user_cascade")


def test_rows_from_before_survive_the_rules_of_texts(
    session: Session, new_database: str, migrates: list[subprocess.Popen[str]]
) -> None:
    """[T5] [U1] What breaks a rule is left, forwards and back; addresses are brought into form."""
    ids = [f"0198f000-0000-7000-8000-00000000000{n}" for n in range(6)]
    emails = [
        *("a@münchen.de", "b@münchen.de", "b@xn--mnchen-3ya.de", "c@i❤.ws", "d@example.com"),
        "a@mu\u0308nchen.de",
    ]
    kept = ["a@xn--mnchen-3ya.de", *emails[1:]]
    apply(migrates, new_database, *BEFORE)
    for user_id, email in zip(ids, emails, strict=True):
        session.execute(ADD_USER, [user_id, email, "Two\nlines"])
    session.execute(ADD_TASK, [ids[0], ids[0], "Buy\tmilk", "x" * 10_000])

    apply(migrates, new_database)

    found = session.execute("SELECT email FROM accounts_user ORDER BY id").fetchall()
    assert [email for (email,) in found] == kept
    assert value(session, "SELECT count(*) FROM accounts_user WHERE name = E'Two\\nlines'") == 6
    assert value(session, "SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'c'")
    session.execute("UPDATE tasks_task SET completed_at = now(), description = repeat('y', 20000)")
    for sql in (
        "UPDATE tasks_task SET title = title",
        "UPDATE accounts_user SET name = name",
        "UPDATE tasks_task SET description = repeat('y', 20001)",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            session.execute(sql)

    apply(migrates, new_database, *BEFORE)
    apply(migrates, new_database, "accounts", "0002_session_user_cascade")
    session.execute("UPDATE tasks_task SET title = title")
    apply(migrates, new_database)

    assert value(session, "SELECT length(description) FROM tasks_task") == 20_000
    found = session.execute("SELECT email FROM accounts_user ORDER BY id").fetchall()
    assert [email for (email,) in found] == kept


BEFORE_CLOCKS = ("tasks", "0006_task_folded")
CLOCKS_GONE = ("todo_project", "0003_refuse_function")


def test_rows_from_before_the_clocks_have_their_first_version(
    session: Session, new_database: str, migrates: list[subprocess.Popen[str]]
) -> None:
    """[V1] Nobody's devices followed them. Back, the tasks stay as they are, and forth again."""
    ids = [f"0198f000-0000-7000-8000-{n:012}" for n in range(1, 2_002)]  # three batches
    apply(migrates, new_database, *BEFORE_CLOCKS)
    with session.cursor() as cursor:
        cursor.executemany(ADD_USER, [(id_, f"{id_}@example.com", "") for id_ in ids])
        session.execute(ADD_TASK, [ids[0], ids[0], "Buy milk", None])

    for _ in range(2):
        apply(migrates, new_database)

        clocks = "SELECT count(*), min(version), max(version) FROM todo_project_clock"
        assert session.execute(clocks).fetchone() == (len(ids), 1, 1)
        assert value(session, "SELECT version FROM tasks_task WHERE deleted_at IS NULL") == 1
        assert value(session, "SELECT count(*) FROM todo_project_change") == 0
        session.execute("UPDATE tasks_task SET description = 'Two litres'")
        assert value(session, "SELECT version FROM tasks_task") == 2
        assert value(session, "SELECT count(*) FROM todo_project_change") == 1

        apply(migrates, new_database, *CLOCKS_GONE)
        apply(migrates, new_database, *BEFORE_CLOCKS)
        session.execute("UPDATE tasks_task SET description = NULL")
