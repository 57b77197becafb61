"""The SQL of the task routes: what it answers, which indexes it uses, what it can't be made to do.

How many statements a request takes is asserted in test_tasks.py, how many round trips by
`python -m benchmarks.network`.
"""

import inspect
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain, combinations, product
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.conf import settings as server_settings
from django.db import connection
from django.urls import get_resolver
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Session, User
from tasks.fields import TASK, TaskSerializer
from tasks.models import PRIORITIES, Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.processes import PATIENCE_S, wait_until
from todo_project.environment import Rate
from todo_project.models import Clock, RateCounter
from todo_project.resources.statement import rows_of

LIST = "/api/me/tasks"
MEBIBYTE = 1024 * 1024

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=80)
moments = st.timedeltas(timedelta(0), timedelta(days=2_900_000)).map(
    lambda age: datetime(1970, 1, 1, tzinfo=UTC) + age
)
lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=80)
rows = st.fixed_dictionaries(
    {
        "title": lines.map(lambda text: f"x{text}"),
        "description": st.none() | texts,
        "completed_at": st.none() | moments,
        "priority": st.integers(0, len(PRIORITIES) - 1),
        "labels": st.lists(lines.map(lambda text: f"x{text}"[:50]), max_size=3, unique=True),
        "due_on": st.dates(),
        "due_time": st.none() | st.times().map(lambda at: at.replace(microsecond=0)),
        "start_on": st.just(date.min),
        "created_at": moments,
        "updated_at": moments,
    }
)


@given(row=rows)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_answers_are_what_the_serializer_writes(
    row: dict[str, Any], alice: User, alice_client: ApiClient
) -> None:
    """[T1] [V2] Byte for byte, whatever the texts and times."""
    Task.objects.all().delete()
    task = Task.objects.create(user=alice, **row)
    path = f"{LIST}/{task.pk}"
    body = {"title": f"{row['title']}.", "description": row["description"]}

    assert _data(alice_client.get(path)) == _serialized(task)
    assert _data(alice_client.get(LIST)) == b"[" + _serialized(task) + b"]"
    assert _data(alice_client.patch(path, {})) == _serialized(task)
    assert _data(alice_client.put(path, body)) == _serialized(task)
    completion = {"is_completed": row["completed_at"] is None}
    assert _data(alice_client.patch(f"{path}/complete", completion)) == _serialized(task)
    created = alice_client.post(LIST, {**body, **completion})
    assert _data(created) == _serialized(
        Task.objects.get(pk=json.loads(created.content)["data"]["id"])
    )


def _data(response: Any) -> bytes:
    content: bytes = response.content
    return (
        content.removeprefix(b'{"data":')
        .rpartition(b',"meta":{"request_id"')[0]
        .partition(b',"meta":{"request_id"')[0]
    )


def _serialized(task: Task) -> bytes:
    task.refresh_from_db()
    epoch = Clock.objects.get(user_id=task.user_id).epoch
    tagged: Any = task  # no column has the tag
    tagged.etag = f'"{epoch}-{TASK.revision}-{task.version}"'
    return orjson.dumps(TaskSerializer(tagged).data)


# --- Plans ------------------------------------------------------------------------------------

USERS = 1000
TASKS_EACH = 20
# What the parameters are to the server.
SQL_TYPES = {
    UUID: "uuid", int: "bigint", bool: "boolean", datetime: "timestamptz", list: "text[]"
}  # fmt: skip


@pytest.fixture
def many(alice: User) -> User:
    """Alice with 400 tasks among the 20,000 of others, and everybody signed in."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_user (id, email, name, password, is_active, is_staff, is_superuser)
            SELECT gen_random_uuid(), 'user' || n || '@example.com', '', '', true, false, false
              FROM generate_series(1, %s) AS n
            """,
            [USERS],
        )
        cursor.execute(
            """
            INSERT INTO accounts_session
                   (id, user_id, refresh_hash, previous_refresh_hash, expires_at, user_agent)
            SELECT gen_random_uuid(), id, '', '', now() + interval '1 day', '' FROM accounts_user
            """
        )
        cursor.execute(
            """
            INSERT INTO tasks_task (id, user_id, title, completed_at, created_at)
            SELECT gen_random_uuid(), owner.id, 'Task ' || n,
                   CASE WHEN n %% 3 = 0 THEN now() END, now() - random() * interval '1 year'
              FROM accounts_user AS owner
              JOIN generate_series(1, 400) AS n ON n <= %s OR owner.id = %s
            """,
            [TASKS_EACH, alice.pk],
        )
        cursor.execute("ANALYZE tasks_task, accounts_user, accounts_session")
    return alice


class Statements:
    """The statements that the block executes, and how PostgreSQL plans them."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.all.append((sql, params))
        return execute(sql, params, many, context)

    def plans(self) -> Iterator[str]:
        """The plan for these very values, and the one for any, which prepared statements get."""
        for sql, params in self.all:
            names = list(params)
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
                yield json.dumps(cursor.fetchone()[0])
            prepared = sql % {name: f"${number}" for number, name in enumerate(names, 1)}
            types = ", ".join(SQL_TYPES.get(type(params[name]), "text") for name in names)
            nulls = ", ".join("NULL" for _ in names)
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                cursor.execute(f"PREPARE plan ({types}) AS {prepared}")
                cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE plan ({nulls})")
                yield json.dumps(cursor.fetchone()[0])
                cursor.execute("DEALLOCATE plan")


OWN = "tasks_task_user_live"


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "index", "is_sorted"),
    [
        pytest.param("GET", LIST, {}, b"", OWN, False, id="default order"),
        pytest.param("GET", LIST, {"ordering": "created_at"}, b"", OWN, False, id="created_at"),
        pytest.param("GET", LIST, {"ordering": "-updated_at"}, b"", "", True, id="-updated_at"),
        pytest.param("GET", LIST, {"ordering": "updated_at"}, b"", "", True, id="updated_at"),
        pytest.param("GET", LIST, {"ordering": "-completed_at"}, b"", "", True, id="-completed_at"),
        pytest.param("GET", LIST, {"ordering": "completed_at"}, b"", "", True, id="completed_at"),
        pytest.param("GET", LIST, {"ordering": "-title"}, b"", "", True, id="-title"),
        pytest.param("GET", LIST, {"ordering": "title"}, b"", "", True, id="title"),
        pytest.param(
            "GET", LIST, {"ordering": "-created_at,title"}, b"", OWN, None, id="created_at first"
        ),
        pytest.param(
            "GET", LIST, {"ordering": "title,-completed_at"}, b"", "", True, id="two keys"
        ),
        pytest.param("GET", LIST, {"limit": "200"}, b"", OWN, False, id="a large page"),
        pytest.param("GET", LIST, {"is_completed": "true"}, b"", "", None, id="is_completed"),
        pytest.param("GET", LIST, {"search": "Task 7"}, b"", OWN, False, id="search"),
        pytest.param(
            "GET", LIST, {"created_after": "2026-01-01T00:00:00Z"}, b"", OWN, False, id="created"
        ),
        pytest.param(
            "GET", LIST, {"updated_before": "2099-01-01T00:00:00Z"}, b"", "", None, id="updated"
        ),
        pytest.param(
            "GET",
            LIST,
            {"completed_after": "2026-01-01T00:00:00Z"},
            b"",
            "",
            None,
            id="completed",
        ),
        pytest.param("GET", LIST, {"total": "true"}, b"", OWN, False, id="total"),
        pytest.param("GET", f"{LIST}/{{}}", {}, b"", "", False, id="read"),
        pytest.param("PUT", f"{LIST}/{{}}", {}, {"title": "y"}, "", False, id="replace"),
        pytest.param("PATCH", f"{LIST}/{{}}", {}, {"title": "y"}, "", False, id="update"),
        pytest.param("PATCH", f"{LIST}/{{}}/complete", {}, {}, "", False, id="complete"),
        pytest.param("DELETE", f"{LIST}/{{}}", {}, b"", "", False, id="delete"),
    ],
)
def test_plans_read_no_table(
    method: str,
    path: str,
    query: dict[str, str],
    body: Any,
    index: str,
    is_sorted: bool | None,  # None: as the planner thinks fit
    many: User,
    alice_client: ApiClient,
) -> None:
    """[T3] [L2] The owner's own tasks at most, and where an index has the order, a page of them."""
    statements = Statements()
    task = many.tasks.first()
    assert task is not None
    with connection.execute_wrapper(statements):
        response = alice_client.call(method, path.format(task.pk), body, query=query)
    assert response.status_code in (200, 204)

    for plan in statements.plans():
        assert '"Seq Scan"' not in plan
        assert index in plan if index == OWN else "tasks_task_" in plan
        assert is_sorted is None or ('"Sort"' in plan) is is_sorted


@pytest.mark.parametrize(
    ("ordering", "condition"),
    [
        pytest.param("-created_at", "ROW(created_at, id) < ROW(", id="default order"),
        pytest.param("created_at", "ROW(created_at, id) > ROW(", id="created_at"),
        pytest.param("-created_at,title", "(created_at <= ", id="mixed directions"),
        pytest.param("created_at,completed_at", "(created_at >= ", id="with nulls"),
    ],
)
@pytest.mark.parametrize("limit", [20, 60])
def test_later_pages_use_the_index_whole(
    limit: int, ordering: str, condition: str, many: User, alice_client: ApiClient
) -> None:
    """[L2] The depth of a page costs nothing: the comparison is an index condition."""
    query = {"limit": limit, "ordering": ordering}
    cursor = meta_of(alice_client.get(LIST, query=query))["next_cursor"]
    statements = Statements()

    with connection.execute_wrapper(statements):
        data_of(alice_client.get(LIST, query={**query, "cursor": cursor}))

    for plan in statements.plans():
        assert OWN in plan
        assert '"Node Type": "Sort"' not in plan
        (index_condition,) = re.findall(rf'"{OWN}".*?"Index Cond": "([^"]*)"', plan)
        assert condition in index_condition
    assert "OFFSET" not in statements.all[0][0]
    assert "count(" not in statements.all[0][0]


def test_words_are_folded_once(many: User, alice_client: ApiClient) -> None:
    """[L4] And not for each task, in neither kind of plan; neither are the tasks' texts."""
    statements = Statements()

    with connection.execute_wrapper(statements):
        data_of(alice_client.get(LIST, query={"search": "Täsk 7", "ordering": "title"}))

    for plan in statements.plans():
        (condition,) = re.findall(r'"Filter": "([^"]*strpos[^"]*)"', plan)
        # As a number with a dollar sign until PostgreSQL 16.
        assert re.search(r"strpos\(title_folded, (\(InitPlan|\$)", condition)
        assert not re.search("lower|upper|tasks_fold", condition)


def test_statements_are_few_however_queries_differ(alice: User, alice_client: ApiClient) -> None:
    """[L2] [L4] One for the first page of an order, one for all others, one for all searches.

    Whether values are null, and how many words there are, would else make new ones to prepare.
    """
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(4))
    for task in Task.objects.order_by("id")[:2]:
        Task.objects.filter(pk=task.pk).change(completed_at=timezone.now())
    statements = Statements()

    with connection.execute_wrapper(statements):
        query: dict[str, Any] = {"limit": 1, "ordering": "completed_at,-title"}
        while query.get("cursor", "") is not None:
            query["cursor"] = meta_of(alice_client.get(LIST, query=query))["next_cursor"]
        for search in ("a", "a b", "a b c d e f"):
            data_of(alice_client.get(LIST, query={"search": search}))

    shapes = {sql: set[tuple[str, ...]]() for sql, _ in statements.all}
    for sql, params in statements.all:
        # What psycopg prepares by: it sends a null as it sends text.
        types = (SQL_TYPES.get(type(value), "text") for value in params.values())
        shapes[sql].add(tuple(types))
    assert len(statements.all) == 4 + 3
    assert [len(types) for types in shapes.values()] == [1, 1, 1]


def test_changes_are_few_statements_however_they_differ(
    alice_client: ApiClient, task: Task
) -> None:
    """[T4] One for each choice of fields that are sent, whatever their values, null or long."""
    fields: dict[str, list[Any]] = {
        "title": ["x", "y" * 255],
        "description": [None, "", "z" * 20_000],
        "is_completed": [True, False],
    }
    changes = [
        dict(zip(names, values, strict=True))
        for names in chain.from_iterable(combinations(fields, n) for n in range(4))
        for values in product(*(fields[name] for name in names))
    ]

    for body in [*changes, *changes]:
        data_of(alice_client.patch(f"{LIST}/{task.pk}", body))

    with connection.cursor() as cursor:
        # As PostgreSQL has them: psycopg prepares one anew for each type of its parameters.
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        texts = [text for (text,) in cursor.fetchall() if "written AS" in text]
    assert len(changes) == 36
    assert len(texts) == (2**3 if server_settings.PREPARED_STATEMENTS else 0)
    assert len(set(texts)) == len(texts)


def test_no_cache_grows_with_what_clients_send() -> None:
    """Each is bounded, or depends on code and settings alone: the kind of caller, a class, keys."""
    get_resolver().url_patterns  # noqa: B018  # imports what serves
    cached = {
        f"{function.__module__}.{function.__qualname__}": function
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in {"accounts", "tasks", "todo_project"}
        for function in vars(module).values()
        if hasattr(function, "cache_parameters")
    }
    unbounded = {
        name: set(inspect.signature(function).parameters)
        for name, function in cached.items()
        if function.cache_parameters()["maxsize"] is None
    }

    assert {
        "todo_project.resources.reads._page_sql",
        "todo_project.resources.statement.write_sql",
    } <= cached.keys()
    assert unbounded.pop("accounts.signing_keys.SigningKeys") == {"keys"}  # of the settings
    assert unbounded.pop("tasks.days._read_zone") == {"name"}  # one of ZONES
    assert unbounded.pop("todo_project.resources.pages._key") == {"secret"}  # of the settings
    ours = {"live_sql", "notes_use", "serializer_class", "is_partial", "resource"}
    ours |= {"is_walk", "is_weighed", "is_conditional", "is_later"}
    for name, parameters in unbounded.items():
        assert parameters <= ours, name


@pytest.mark.parametrize("character", ["🎉", "\x01"], ids=["four bytes", "escaped"])
def test_database_sends_little_more_than_a_page_may_hold(
    character: str, alice: User, alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[L5] Of the largest page, too, which could have 24 MiB."""
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", description=character * 10_000) for n in range(201)
    )
    fetched: list[int] = []

    def rows(*args: Any) -> Any:
        found = rows_of(*args)
        fetched.append(sum(len(task) for task, *_ in found))
        return found

    monkeypatch.setattr("todo_project.resources.reads.rows_of", rows)
    data_of(alice_client.get(LIST, query={"limit": 200}))

    assert MEBIBYTE < fetched[0] < 6.2 * MEBIBYTE


# --- What the caller is, and what counts ------------------------------------------------------


def test_ended_session_writes_and_counts_nothing(
    alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[S3] The statement itself finds that the session has ended."""
    Session.objects.filter(user=alice).end()

    for method, path, body in [
        ("POST", LIST, {"title": "y"}),
        ("PATCH", f"{LIST}/{task.pk}", {"title": "y"}),
        ("PATCH", f"{LIST}/{task.pk}/complete", {}),
        ("DELETE", f"{LIST}/{task.pk}", b""),
    ]:
        assert_error(alice_client.call(method, path, body), 401, "TOKEN_INVALID")

    assert list(Task.objects.values_list("title", "completed_at")) == [("Buy milk", None)]
    assert not RateCounter.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("PUT", "", {"title": "y"}, id="replace"),
        pytest.param("PATCH", "", {"title": "y"}, id="update"),
        pytest.param("PATCH", "", {}, id="update of nothing"),
        pytest.param("PATCH", "/complete", {}, id="complete"),
        pytest.param("DELETE", "", b"", id="delete"),
    ],
)
def test_write_that_is_one_too_many_is_not_done(
    method: str, path: str, body: Any, alice_client: ApiClient, task: Task, settings: Any
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(1, 3600)}
    data_of(alice_client.patch(f"{LIST}/{task.pk}", {}))

    response = alice_client.call(method, f"{LIST}/{task.pk}{path}", body)

    assert_error(response, 429, "RATE_LIMITED")
    assert response["RateLimit-Remaining"] == "0"
    assert list(Task.objects.values_list("title", "completed_at")) == [("Buy milk", None)]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", LIST, 405),
        ("POST", f"{LIST}?x=1", 400),
        ("GET", f"{LIST}?cursor=x", 400),
        ("PATCH", f"{LIST}/nonsense", 404),
        ("GET", f"{LIST}/nonsense", 404),
        ("GET", "/api/01234567-89ab-7def-8123-456789abcdef/tasks", 403),
    ],
    ids=str,
)
def test_ended_session_comes_before_every_other_error(
    method: str, path: str, status: int, alice: User, alice_client: ApiClient
) -> None:
    """[E1] [S3] Though no statement of the work looked the session up."""
    assert alice_client.call(method, path).status_code == status
    Session.objects.filter(user=alice).end()

    assert_error(alice_client.call(method, path), 401, "TOKEN_INVALID")


class CutOff(io.BytesIO):
    """A body whose client has gone."""

    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionResetError


def test_ended_session_comes_before_a_body_that_was_cut_off(
    alice: User, alice_client: ApiClient
) -> None:
    """[E1] [S3]"""
    environ: dict[str, Any] = {
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": "100",
        "wsgi.input": CutOff(),
    }

    def post() -> Any:
        headers = {"authorization": f"Bearer {alice_client.access}"}
        return alice_client.generic("POST", LIST, headers=headers, **environ)

    assert_error(post(), 400, "PARSE_ERROR")
    Session.objects.filter(user=alice).end()

    assert_error(post(), 401, "TOKEN_INVALID")


def is_in_the_way(pid: int) -> bool:
    """Whether somebody waits for a lock that the server process `pid` holds."""
    with connection.cursor() as cursor:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        cursor.execute(waiting, [pid])
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "title", "description"),
    [
        pytest.param({"description": "new"}, "theirs", "new", id="another field"),
        pytest.param({"title": "theirs"}, "theirs", "Two litres", id="the same value"),
        pytest.param({}, "theirs", "Two litres", id="nothing"),
    ],
)
def test_write_that_waits_for_another_answers_both(
    change: dict[str, str], title: str, description: str, alice: User, task: Task
) -> None:
    """[T4] [V1] The row is read when the lock is released, not as it was when the wait began."""
    access = begin_session(alice).access
    answers: list[Any] = []

    def patch() -> None:
        try:
            answers.append(data_of(ApiClient(access).patch(f"{LIST}/{task.pk}", change)))
        finally:
            connection.close()

    waiting = threading.Thread(target=patch)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE tasks_task SET title = 'theirs' WHERE id = %s", [task.pk])
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
            waiting.start()
            wait_until(lambda: is_in_the_way(pid))
            cursor.execute("COMMIT")
        waiting.join(PATIENCE_S)
    finally:
        other.close()

    assert (answers[0]["title"], answers[0]["description"]) == (title, description)
    task.refresh_from_db()
    assert task.title == "theirs"
    assert task.updated_at <= timezone.now()
