"""Several statements in one round trip: all of them or none, whatever happens."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from types import FrameType
from typing import Any, cast

import pytest
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.transaction import TransactionManagementError
from django.db.utils import DataError, ProgrammingError
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from tests.processes import PATIENCE_S, wait_until
from tests.test_queries import is_in_the_way
from tests.wire import counted_round_trips, needs_prepared_statements
from todo_project.postgresql import base
from todo_project.postgresql.base import DatabaseWrapper
from todo_project.watchdog import watchdog

pytestmark = pytest.mark.django_db(transaction=True)

Statement = tuple[str, dict[str, Any]]

ONE: Statement = ("SELECT 1", {})
INSERT = """
    INSERT INTO accounts_user (id, email, name, password, is_active, is_staff, is_superuser)
    VALUES (gen_random_uuid(), %(email)s, '', '', true, false, false) RETURNING email
"""
SLEEP: Statement = ("SELECT pg_sleep(3)", {})  # until then the server notices nothing
UNREAD_LENGTH = 20_000_000  # of a text that the sockets' buffers can't hold
SEQUENCES = 500


def insert(email: str) -> Statement:
    return INSERT, {"email": email}


def emails() -> list[str | None]:
    """When nobody writes any more."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE accounts_user IN SHARE MODE")
    return list(User.objects.order_by("email").values_list("email", flat=True))


@pytest.fixture
def database(db: None) -> Iterator[DatabaseWrapper]:
    """Whatever a test does to it, the next one has another."""
    database = cast("DatabaseWrapper", connections[DEFAULT_DB_ALIAS])
    database.close()  # the statements that it has prepared and counted are this test's alone
    database.ensure_connection()
    yield database
    database.close()


# --- Round trips ------------------------------------------------------------------------------


@needs_prepared_statements
@pytest.mark.parametrize("count", [1, 2, 100])
def test_pipeline_takes_one_round_trip(count: int, database: DatabaseWrapper) -> None:
    """Also when its statements are new, and when they are prepared."""
    statements = [(f"SELECT {n % 8}, %(n)s::int", {"n": n}) for n in range(count)]
    for _ in range(4):
        with counted_round_trips(database.connection) as round_trips:
            rows = database.fetch_each(statements)
            assert round_trips() == 1
        assert rows == [[(n % 8, n)] for n in range(count)]


@needs_prepared_statements
def test_pipeline_of_a_transaction_brings_its_begin(database: DatabaseWrapper) -> None:
    """The second one ends it. After a rollback psycopg forgets what it has prepared, by a third."""
    statements = [insert("a@example.com"), insert("b@example.com")]
    counts = []
    for is_kept in (False, True):
        with counted_round_trips(database.connection) as round_trips:
            with transaction.atomic():
                assert database.fetch_each(statements) == [
                    [("a@example.com",)], [("b@example.com",)],
                ]  # fmt: skip
                transaction.set_rollback(not is_kept)
            counts.append(round_trips())

    assert counts == [3, 2]
    assert emails() == ["a@example.com", "b@example.com"]


@needs_prepared_statements
def test_pipeline_begins_a_transaction_once(database: DatabaseWrapper) -> None:
    with transaction.atomic():
        database.fetch_each([insert("a@example.com")])
        with counted_round_trips(database.connection) as round_trips:
            database.fetch_each([insert("b@example.com"), ONE])
            assert round_trips() == 1
        transaction.set_rollback(True)

    assert emails() == []


@needs_prepared_statements
def test_pipeline_has_the_isolation_that_was_asked_for(database: DatabaseWrapper) -> None:
    database.connection.isolation_level = 4
    with transaction.atomic():
        rows = database.fetch_each([("SHOW transaction_isolation", {}), ONE])

    assert rows == [[("serializable",)], [(1,)]]


# --- All or none ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_atomic", [False, True], ids=["implicit", "atomic"])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("uses", [0, 1, 2, 3])
def test_failing_statement_undoes_the_others(
    uses: int, place: int, is_atomic: bool, database: DatabaseWrapper
) -> None:
    """Whether the statements are new, prepared by this very pipeline or before it."""
    for n in range(uses):
        database.fetch_each([insert(f"before{n}@example.com"), ONE])
    User.objects.all().delete()
    statements: list[Statement] = [insert("a@example.com"), ONE, insert("b@example.com")]
    statements.insert(place, insert("taken@example.com"))
    User.objects.create(email="taken@example.com")

    way = transaction.atomic() if is_atomic else nullcontext()
    with pytest.raises(IntegrityError, match="accounts_user_email_unique"), way:
        database.fetch_each(statements)

    assert emails() == ["taken@example.com"]
    del statements[place]
    rows = database.fetch_each(statements)
    assert rows == [[("a@example.com",)], [(1,)], [("b@example.com",)]]
    assert emails() == ["a@example.com", "b@example.com", "taken@example.com"]


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        pytest.param(("SELECT 1 / %(zero)s", {"zero": 0}), DataError, id="value"),
        pytest.param(("SELECT nonsense", {}), ProgrammingError, id="statement"),
        pytest.param(("SELECT %(text)s::text", {"text": "\0"}), DataError, id="NUL"),
        pytest.param(("SELECT %(x)s", {"x": object()}), ProgrammingError, id="type"),
        pytest.param(
            ("SELECT %(missing)s", {}), (KeyError, ProgrammingError), id="missing parameter"
        ),
        pytest.param(("SELECT pg_sleep(60)", {}), OperationalError, id="statement timeout"),
    ],
)
def test_every_kind_of_error_undoes_all(
    failing: Statement,
    error: type[Exception] | tuple[type[Exception], ...],
    database: DatabaseWrapper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also one of psycopg's own, which the server never hears of; and psycopg logs none."""
    limit: Statement = ("SELECT set_config('statement_timeout', '200', true)", {})
    for n in range(3):
        with pytest.raises(error):
            database.fetch_each([limit, insert(f"{n}@example.com"), failing, ONE])
        assert database.fetch_each([ONE, ONE]) == [[(1,)], [(1,)]]

    assert emails() == []
    assert not [record for record in caplog.records if record.name == "psycopg"]


def test_savepoint_takes_back_a_failed_pipeline(database: DatabaseWrapper) -> None:
    with transaction.atomic():
        database.fetch_each([insert("a@example.com"), ONE])
        for _ in range(3):
            with pytest.raises(IntegrityError), transaction.atomic():
                database.fetch_each([ONE, insert("b@example.com"), insert("a@example.com"), ONE])
            assert database.fetch_all(*ONE) == [(1,)]
        database.fetch_each([insert("c@example.com"), ONE])

    assert emails() == ["a@example.com", "c@example.com"]


class Interruption(BaseException):
    """Not KeyboardInterrupt, for which psycopg cancels what runs."""


@pytest.mark.parametrize("interruption", [Interruption, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("is_sent", [False, True], ids=["while it sends", "while it waits"])
def test_interrupted_pipeline_commits_all_or_none(
    is_sent: bool, interruption: type[BaseException], database: DatabaseWrapper
) -> None:
    """None where not all was sent. The connection is given up where more is to come on it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(interruption):
            database.fetch_each(_slow_statements(1 if is_sent else UNREAD_LENGTH))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    database.close_if_unusable_or_obsolete()
    assert database.fetch_each([ONE, ONE]) == [[(1,)], [(1,)]]
    assert emails() in ([], ["a@example.com", "b@example.com"] if is_sent else [])


def _slow_statements(length: int) -> list[Statement]:
    text = ("SELECT length(%(text)s::text)", {"text": "x" * length})
    return [insert("a@example.com"), SLEEP, text, insert("b@example.com")]


@pytest.mark.parametrize("is_atomic", [False, True], ids=["implicit", "atomic"])
def test_lost_connection_undoes_all(is_atomic: bool, database: DatabaseWrapper) -> None:
    end: Statement = ("SELECT pg_terminate_backend(pg_backend_pid())", {})
    statements = [insert("a@example.com"), end, insert("b@example.com")]

    for _ in range(3):
        way = transaction.atomic() if is_atomic else nullcontext()
        with pytest.raises(OperationalError), way:
            database.fetch_each(statements)
        database.close_if_unusable_or_obsolete()
        assert database.fetch_each([ONE, ONE]) == [[(1,)], [(1,)]]

    assert emails() == []


@pytest.mark.parametrize("length", [1, UNREAD_LENGTH], ids=["waits", "sends"])
def test_watchdog_ends_a_pipeline(length: int, database: DatabaseWrapper, settings: Any) -> None:
    """Also where the server doesn't take what comes after the statement that it works on."""
    settings.REQUEST_TIME_LIMIT_SECONDS = 0.5
    begin = time.monotonic()

    with pytest.raises(OperationalError), watchdog:
        database.fetch_each(_slow_statements(length))

    assert time.monotonic() - begin < 2.5  # before the server is done
    database.close_if_unusable_or_obsolete()
    assert database.fetch_each([ONE, ONE]) == [[(1,)], [(1,)]]
    assert emails() in ([], ["a@example.com", "b@example.com"] if length == 1 else [])


@pytest.mark.parametrize(
    ("count", "length"), [(100, 10_000), (100, 200_000), (2, UNREAD_LENGTH)], ids=str
)
def test_long_texts_go_both_ways(count: int, length: int, database: DatabaseWrapper) -> None:
    """Whoever only sends until all is sent waits for a server that waits to be read."""
    statements = [
        ("SELECT %(text)s::text", {"text": f"{n}".ljust(length, "x")}) for n in range(count)
    ]
    for _ in range(3):
        with watchdog:
            rows = database.fetch_each(statements)
        assert [row[0][0] for row in rows] == [values["text"] for _, values in statements]


# --- What is prepared -------------------------------------------------------------------------


def random_pipelines(
    database: DatabaseWrapper, source: random.Random, check: Callable[[], None]
) -> None:
    """Some, of statements that succeed, fail, are new, known and forgotten meanwhile."""
    for _ in range(source.randint(1, 6)):
        statements: list[Statement] = []
        expected = []
        for _ in range(source.randint(1, 8)):
            sort, value = source.randrange(9), source.choice([1, 2, "text"])
            cast_to = "text" if isinstance(value, str) else "int"
            statements.append((f"SELECT {sort}, %(value)s::{cast_to}", {"value": value}))
            expected.append([(sort, value)])
        failing = source.choice(["", "", "server", "unprepared", "client"])
        if failing:
            faulty: dict[str, Statement] = {
                "server": ("SELECT 1 / %(zero)s::int", {"zero": 0}),
                "unprepared": (f"SELECT nonsense{source.randrange(2)}", {}),
                "client": ("SELECT %(text)s::text", {"text": "\0"}),
            }
            statements.insert(source.randrange(len(statements) + 1), faulty[failing])
        _run(database, source.choice(["", "atomic", "undone", "savepoint"]), statements, expected)
        check()
        if source.random() < 0.5:
            sort = source.randrange(9)
            assert database.fetch_all(f"SELECT {sort}, %(value)s::int", {"value": 5}) == [(sort, 5)]
            check()


def _run(
    database: DatabaseWrapper, way: str, statements: Sequence[Statement], expected: list[Any]
) -> None:
    is_failing = len(statements) > len(expected)

    def run() -> None:
        if is_failing:
            with pytest.raises((DataError, ProgrammingError)):
                database.fetch_each(statements)
        else:
            assert database.fetch_each(statements) == expected

    if not way:
        run()
        return
    with transaction.atomic(using=database.alias):
        if way == "savepoint":
            assert database.fetch_all(*ONE) == [(1,)]
            with transaction.atomic(using=database.alias):
                run()
                transaction.set_rollback(is_failing, using=database.alias)
            assert database.fetch_each([ONE, ONE]) == [[(1,)], [(1,)]]
        else:
            run()
            transaction.set_rollback(is_failing or way == "undone", using=database.alias)


def few_statements(database: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection keeps so few that they push each other out all the time."""
    monkeypatch.setattr(base, "STATEMENTS_MAX", 5)
    database.connection.prepared_max = 4


@needs_prepared_statements
def test_what_is_prepared_stays_in_step(
    database: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg knows of each that the server has, and the server has each that psycopg knows of."""
    few_statements(database, monkeypatch)
    is_pooled = settings.DATABASES["direct"]["PORT"] != settings.DATABASES["default"]["PORT"]

    def check() -> None:
        manager = database.connection._prepared
        known = {*manager._names.values(), *manager._to_flush}  # which this query forgets
        with database.connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_prepared_statements", prepare=False)
            there = {name.encode() for (name,) in cursor.fetchall()}
        if not is_pooled:  # a pooler names them as it likes, and has them for all of its clients
            assert there == known

    for seed in range(SEQUENCES):
        random_pipelines(database, random.Random(seed), check)


@needs_prepared_statements
def test_pipeline_prepares_what_fetch_all_uses(database: DatabaseWrapper) -> None:
    sql = "SELECT %(n)s::int, 'shared'"

    database.fetch_all(sql, {"n": 1})
    database.fetch_each([(sql, {"n": 2}), (sql, {"n": 3}), ONE])
    database.fetch_all(sql, {"n": 4})

    with database.connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements", prepare=False)
        texts = [text for (text,) in cursor.fetchall()]
    assert texts.count("SELECT $1::int, 'shared'") == 1


@needs_prepared_statements
@pytest.mark.parametrize("is_failing", [False, True])
def test_kept_cursors_let_go_of_rows(is_failing: bool, database: DatabaseWrapper) -> None:
    sql = "SELECT repeat(%(text)s, 1000000)"
    fails = ("SELECT 1 / %(zero)s::int", {"zero": 0})
    for _ in range(3):
        database.fetch_each([(sql, {"text": "x"}), ONE])

    if is_failing:
        with pytest.raises(DataError):
            database.fetch_each([(sql, {"text": "x"}), fails])

    kept = database._statements[sql]
    assert kept is not None
    assert kept.cursor.pgresult is None or kept.cursor.pgresult.ntuples == 0
    assert kept.cursor._query is None


# --- As Django's cursors ----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["logged", "wrapped", "client-side binding"])
def test_statements_that_somebody_watches_go_one_by_one(
    way: str, database: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    failing = [insert("b@example.com"), insert("b@example.com")]

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    def run() -> None:
        rows = database.fetch_each([insert("a@example.com"), ONE])
        assert rows == [[("a@example.com",)], [(1,)]]
        with pytest.raises(IntegrityError):
            database.fetch_each(failing)

    if way == "logged":
        with CaptureQueriesContext(connection) as captured:
            run()
        seen += [query["sql"] for query in captured.captured_queries]
    elif way == "wrapped":
        with connection.execute_wrapper(wrapper):
            run()
    else:
        monkeypatch.setitem(database.__dict__, "_server_binds", False)
        run()

    assert sum("INSERT" in sql for sql in seen) == (0 if way == "client-side binding" else 3)
    assert emails() == ["a@example.com"]


def test_pipeline_minds_a_transaction_that_will_be_rolled_back(database: DatabaseWrapper) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            database.fetch_each([ONE, ONE])


def test_pipeline_stays_in_its_thread(database: DatabaseWrapper) -> None:
    errors: list[Exception] = []

    def fetch() -> None:
        try:
            database.fetch_each([ONE])
        except DatabaseError as error:
            errors.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    thread.join()

    assert "same thread" in str(errors[0])


# --- Why it exists ----------------------------------------------------------------------------


@pytest.mark.parametrize(("is_pipeline", "seen"), [(True, 1), (False, 0)], ids=["two", "one"])
def test_statement_sees_what_was_committed_while_the_one_before_it_waited(
    is_pipeline: bool, seen: int, database: DatabaseWrapper
) -> None:
    """READ COMMITTED: the parts of one statement have the snapshot of before the wait."""
    person = User.objects.create(email="a@example.com")
    lock = ("SELECT id FROM accounts_user WHERE id = %(id)s FOR UPDATE", {"id": person.pk})
    count: Statement = ("SELECT count(*) FROM accounts_user WHERE email = 'b@example.com'", {})
    one = (f"WITH locked AS MATERIALIZED ({lock[0]}) SELECT ({count[0]}) FROM locked", lock[1])
    answers: list[Any] = []

    def answer() -> None:
        mine = cast("DatabaseWrapper", connections[DEFAULT_DB_ALIAS])
        try:
            answers.append(mine.fetch_each([lock, count] if is_pipeline else [one])[-1])
        finally:
            mine.close()

    waiting = threading.Thread(target=answer)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(*lock)
            cursor.execute(*insert("b@example.com"))
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
            waiting.start()
            wait_until(lambda: is_in_the_way(pid))
            cursor.execute("COMMIT")
        waiting.join(PATIENCE_S)
    finally:
        other.close()

    assert answers == [[(seen,)]]
