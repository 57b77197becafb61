"""What the database keeps whoever writes: rules, indexes, cascades; and how statements reach it."""

import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import pytest
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    connection,
    connections,
    models,
    transaction,
)
from django.db.transaction import TransactionManagementError
from django.db.utils import DataError, NotSupportedError, ProgrammingError

from accounts.models import Session, User
from tasks.models import Task
from tests.conftest import begin_session
from tests.wire import needs_prepared_statements
from todo_project.postgresql.base import STATEMENTS_MAX, DatabaseWrapper


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="spaces"),
        pytest.param("\t\n\r", id="tabs and newlines"),
    ],
)
def test_title_needs_a_visible_character(title: str, alice: User) -> None:
    """[T2]"""
    with pytest.raises(IntegrityError, match="tasks_task_title_visible"):
        Task.objects.create(user=alice, title=title)


@pytest.mark.parametrize(
    ("column", "value"),
    [("title", "a" * 256), ("description", "a" * 20_001)],
    ids=["title", "description"],
)
def test_lengths_are_bounded(column: str, value: str, alice: User) -> None:
    """[T2]"""
    with pytest.raises((DataError, IntegrityError)):
        Task.objects.create(**{"user": alice, "title": "x", column: value})


def test_is_completed_cannot_be_set_apart_from_completed_at(task: Task) -> None:
    """[T2] Not even by SQL."""
    with connection.cursor() as cursor, pytest.raises((ProgrammingError, NotSupportedError)):
        cursor.execute("UPDATE tasks_task SET is_completed = true WHERE id = %s", [task.pk])


def test_indexes_are_these_and_each_names_its_reader() -> None:
    """[T3] The comments stand beside the declarations, in the models."""
    assert _index_columns(Task) == {
        ("user", "-created_at", "-id"),
        ("user", "-deleted_at", "-id"),
        ("user", "list", "position", "id"),
        ("user", "parent", "position", "id"),
        (),  # by when a task is due: of expressions
    }


@pytest.mark.django_db
def test_indexes_of_the_tasks_table() -> None:
    """[T3]"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'tasks_task'")
        definitions = {row[0].partition(" USING ")[2] for row in cursor.fetchall()}

    of_open = "WHERE ((completed_at IS NULL) AND (deleted_at IS NULL))"
    due = (
        "COALESCE((due_on + COALESCE((due_time - '00:00:00'::time without time zone),"
        " '-00:00:00.000001'::interval)), 'infinity'::timestamp without time zone)"
    )
    assert definitions == {
        "btree (id)",
        "btree (user_id, id)",
        'btree (user_id, list_id, "position", id)',
        'btree (user_id, parent_id, "position", id) WHERE (parent_id IS NOT NULL)',
        (
            "btree (user_id, series_id, occurrence_on)"
            " WHERE ((deleted_at IS NULL) AND (series_id IS NOT NULL))"
        ),
        "btree (user_id, created_at DESC, id DESC) WHERE (deleted_at IS NULL)",
        "btree (user_id, deleted_at DESC, id DESC) WHERE (deleted_at IS NOT NULL)",
        f'btree (user_id, list_id, "position", id) {of_open}',
        f"btree (user_id, {due}, id) {of_open}",
    }


def _index_columns(model: type[models.Model]) -> set[tuple[str, ...]]:
    return {tuple(index.fields) for index in model._meta.indexes}


@pytest.mark.parametrize(
    ("email", "other"),
    [("a@example.com", "A@Example.COM"), ("A@example.com", "a@example.com")],
    ids=["capitals later", "capitals first"],
)
@pytest.mark.django_db
def test_email_is_unique_whatever_its_case(email: str, other: str) -> None:
    """[U1]"""
    User.objects.create(email=email)

    with pytest.raises(IntegrityError, match="accounts_user_email_unique"):
        User.objects.create(email=other)


def test_everything_of_a_person_goes_with_them(alice: User, bob: User, task: Task) -> None:
    """[T1] By the database, so that raw SQL can't leave anything behind."""
    begin_session(alice)
    Task.objects.create(user_id=bob.pk, title="Bob's")

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_user WHERE id = %s", [alice.pk])

    assert list(Task.objects.values_list("title", flat=True)) == ["Bob's"]
    assert not Session.objects.exists()


def test_deleting_a_person_loads_none_of_their_tasks(
    alice: User, django_assert_max_num_queries: Any
) -> None:
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(200))

    with django_assert_max_num_queries(6) as captured:
        alice.delete()

    assert not any("tasks_task" in query["sql"] for query in captured.captured_queries)
    assert not Task.objects.exists()


ASSIGNED = [
    character
    for character in map(chr, range(1, sys.maxunicode + 1))
    if unicodedata.category(character) not in ("Cn", "Co", "Cs")
]
# The iota of ancient Greek goes as accents do, and is a letter of its own in capitals.
IOTA_SUBSCRIPT = "\u0345"


def fold(texts: list[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tasks_fold(text) FROM unnest(%s::text[]) WITH ORDINALITY AS _ (text, place)"
            " ORDER BY place",
            [texts],
        )
        return [folded for (folded,) in cursor.fetchall()]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(str.upper, id="upper"),
        pytest.param(str.lower, id="lower"),
        pytest.param(str.casefold, id="casefold"),
        *(
            pytest.param(partial(unicodedata.normalize, form), id=form)
            for form in ("NFC", "NFD", "NFKC", "NFKD")
        ),
    ],
)
def test_fold_knows_every_form_of_a_character(other: Callable[[str], str]) -> None:
    """[L4] Of all that Unicode has."""
    characters = [
        character
        for character in ASSIGNED
        if IOTA_SUBSCRIPT not in unicodedata.normalize("NFD", character)
    ]

    folded = fold(characters)
    assert fold([other(character) for character in characters]) == folded
    assert fold(folded) == folded


@pytest.mark.django_db
def test_fold_takes_marks_only_away() -> None:
    """[L4] Marks, what nobody sees, and fillers; of letters and signs something stays."""
    folded = fold(ASSIGNED)

    gone = [character for character, text in zip(ASSIGNED, folded, strict=True) if not text]
    assert {unicodedata.category(character) for character in gone} == {"Mn", "Me", "Cf", "Lo"}
    letters = [character for character in gone if unicodedata.category(character) == "Lo"]
    assert letters == ["\u115f", "\u1160", "\u3164", "\uffa0"]  # Hangul's fillers


@pytest.mark.django_db
def test_fold_depends_on_no_setting_of_the_session() -> None:
    """[L4] Dumps are restored, and indexes made, with no search_path at all."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        (schema,) = cursor.fetchone()
        cursor.execute("SET LOCAL search_path = ''")
        cursor.execute(f'SELECT "{schema}".tasks_fold(%s)', ["ΣΊΣΥΦΟΣ Straße"])

        assert cursor.fetchone() == ("σισυφοσ strasse",)


@pytest.fixture
def database(db: None) -> DatabaseWrapper:
    return cast("DatabaseWrapper", connections[DEFAULT_DB_ALIAS])


def prepared(database: DatabaseWrapper) -> list[str]:
    """The statements that the connection has prepared in PostgreSQL."""
    with database.connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements", prepare=False)
        return [statement for (statement,) in cursor.fetchall()]


def test_connection_that_saw_many_statements_serves_on(database: DatabaseWrapper) -> None:
    for n in [*range(3 * STATEMENTS_MAX), *range(3 * STATEMENTS_MAX)]:
        assert database.fetch_all(f"SELECT {n} + %(one)s", {"one": 1}) == [(n + 1,)]


def test_kept_statements_are_bounded(database: DatabaseWrapper) -> None:
    """Here and in PostgreSQL, also where each is used again before it would be forgotten."""
    for first in range(0, 5 * STATEMENTS_MAX, STATEMENTS_MAX // 2):
        for n in [*range(first, first + STATEMENTS_MAX // 2)] * 2:
            database.fetch_all(f"SELECT {n}", {})

    assert bool(database._statements) is settings.PREPARED_STATEMENTS
    assert len(database._statements) <= STATEMENTS_MAX
    assert bool(prepared(database)) is settings.PREPARED_STATEMENTS
    assert len(prepared(database)) <= 2 * STATEMENTS_MAX


@needs_prepared_statements
def test_as_many_statements_stay_prepared_as_are_kept(database: DatabaseWrapper) -> None:
    def use_all() -> set[str]:
        for n in range(STATEMENTS_MAX):
            database.fetch_all(f"SELECT {n}, 'kept'", {})
        with database.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_prepared_statements WHERE statement ~ 'kept'")
            return {name for (name,) in cursor.fetchall()}

    use_all()
    names = use_all()

    assert use_all() == names
    assert len(names) >= STATEMENTS_MAX


@needs_prepared_statements
def test_statement_is_kept_from_its_second_use_on(database: DatabaseWrapper) -> None:
    """To prepare what is used once would cost twice what it does, and take another's place."""
    sql = "SELECT %(text)s::text, 'once'"

    database.fetch_all(sql, {"text": "x"})
    assert database._statements[sql] is None
    assert "SELECT $1::text, 'once'" not in prepared(database)

    database.fetch_all(sql, {"text": "x"})
    assert database._statements[sql] is not None
    assert "SELECT $1::text, 'once'" in prepared(database)


@needs_prepared_statements
def test_rare_statements_push_out_no_frequent_one(database: DatabaseWrapper) -> None:
    """Whoever sends one odd query after another makes nobody else's slower."""
    frequent = "SELECT 'frequent'"
    database.fetch_all(frequent, {})
    database.fetch_all(frequent, {})
    before = database._statements[frequent]

    for n in range(3 * STATEMENTS_MAX):
        database.fetch_all(f"SELECT {n}", {})
        database.fetch_all(f"SELECT {n}", {})
        if n % (STATEMENTS_MAX // 2) == 0:
            database.fetch_all(frequent, {})

    assert before is not None
    assert database._statements[frequent] is before
    assert prepared(database).count(frequent) == 1


def test_statement_names_its_parameters_in_any_order(database: DatabaseWrapper) -> None:
    sql = "SELECT %(b)s::text, %(a)s::text, %(b)s::text, '%%'"

    for _ in range(3):
        assert database.fetch_all(sql, {"a": "A", "b": "B", "c": "C"}) == [("B", "A", "B", "%")]


@needs_prepared_statements
@pytest.mark.django_db(transaction=True)
def test_kept_cursor_lets_go_of_rows_and_parameters(database: DatabaseWrapper) -> None:
    """A page of tasks may have megabytes, and there is a cursor for each statement and thread."""
    sql = "SELECT repeat(%(text)s, 1000000)"

    for _ in range(4):
        database.fetch_all(sql, {"text": "x"})
        if kept := database._statements[sql]:
            assert kept.cursor.pgresult is not None
            assert kept.cursor.pgresult.ntuples == 0
            assert kept.cursor._query is None
            with transaction.atomic():  # psycopg then forgets what it has prepared
                transaction.set_rollback(True)

    assert kept is not None


def test_cursor_that_would_keep_the_parameters_is_not_kept(
    database: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would where psycopg writes them into the statement: without prepared statements."""
    monkeypatch.setitem(database.__dict__, "_server_binds", False)
    database._statements.clear()

    for _ in range(2):
        assert database.fetch_all("SELECT %(text)s::text", {"text": "private"}) == [("private",)]

    assert not database._statements


@pytest.mark.django_db(transaction=True)
def test_kept_cursors_go_with_their_connection(database: DatabaseWrapper) -> None:
    for _ in range(2):
        database.fetch_all("SELECT 1", {})

    database.close()

    for _ in range(2):
        assert database.fetch_all("SELECT 1", {}) == [(1,)]


def test_kept_cursors_stay_in_their_thread(database: DatabaseWrapper) -> None:
    """Another thread's statement would take the place of this one's rows."""
    with ThreadPoolExecutor(1) as thread, pytest.raises(DatabaseError, match="same thread"):
        thread.submit(database.fetch_all, "SELECT 1", {}).result()


def test_kept_cursor_minds_a_transaction_that_will_be_rolled_back(
    database: DatabaseWrapper,
) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            database.fetch_all("SELECT 1", {})
