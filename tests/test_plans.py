"""What sync costs a person with very many tasks: [F1] [D1] [V2] read a page, never what they have.

Both kinds of plans: that for the values, and the one for any, which prepared statements get.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection

from accounts.models import User
from tests.client import ApiClient, data_of, meta_of
from tests.test_queries import SQL_TYPES, Statements
from todo_project.models import Clock
from todo_project.resources.feed import FeedCodec, FeedPosition

LIST = "/api/me/tasks"
CHANGES = "/api/me/changes"
TRASH = "/api/me/trash"
TASKS = 100_000
TRASHED = 5_000
OTHERS = 300
TASKS_EACH = 50
PAGE = 20
# Pages of 8 KiB. A row of the caller's session and one of the clock, each by an index; and what
# folds the words of a search.
SMALL_READ_BUFFERS = 50
# And each task of a page by two indexes of three levels, the log's, and that of what was purged.
PAGE_BUFFERS = SMALL_READ_BUFFERS + 12 * PAGE
LARGE = {"tasks_task", "todo_project_change", "todo_project_purged"}
INDEXED = {"Index Scan", "Index Only Scan"}


@pytest.fixture
def heavy(alice: User) -> User:
    """Alice with 100,000 tasks, of which 5,000 are in the trash, among other people."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_user (id, email, name, password, is_active, is_staff, is_superuser)
            SELECT gen_random_uuid(), 'user' || n || '@example.com', '', '', true, false, false
              FROM generate_series(1, %s) AS n
            """,
            [OTHERS],
        )
        cursor.execute(
            """
            INSERT INTO tasks_task (id, user_id, title, created_at, deleted_at, version)
            SELECT gen_random_uuid(), owner.id, 'Task ' || n, now() - n * interval '1 minute',
                   CASE WHEN n <= least(each / 10, %s) THEN now() - n * interval '1 second' END,
                   n + 1
              FROM (
                  SELECT id, CASE WHEN id = %s THEN %s ELSE %s END AS each FROM accounts_user
              ) AS owner, generate_series(1, each) AS n
            """,
            [TRASHED, alice.pk, TASKS, TASKS_EACH],
        )
        cursor.execute(
            """
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, version, 'task', id FROM tasks_task
            """
        )
        cursor.execute(
            """
            INSERT INTO todo_project_purged (user_id, type, id, version)
            SELECT user_id, type, gen_random_uuid(), version FROM todo_project_change
            """
        )
        cursor.execute(
            """
            UPDATE todo_project_clock AS clock SET version = written.version
              FROM (SELECT user_id, max(version) AS version FROM tasks_task GROUP BY user_id)
                   AS written
             WHERE written.user_id = clock.user_id
            """
        )
        cursor.execute(
            "ANALYZE tasks_task, accounts_user, accounts_session, todo_project_change,"
            " todo_project_clock, todo_project_purged"
        )
    return alice


def get(client: ApiClient, path: str, **options: Any) -> tuple[Any, Statements]:
    statements = Statements()
    with connection.execute_wrapper(statements):
        response = client.get(path, **options)
    assert len(statements.all) == 1
    return response, statements


def explained(statements: Statements) -> Iterator[dict[str, Any]]:
    """The plans as they run: for the values, and for any."""
    ((sql, params),) = statements.all
    prepared = sql % {name: f"${number}" for number, name in enumerate(params, 1)}
    known = {**SQL_TYPES, timedelta: "interval"}
    types = ", ".join(known.get(type(value), "text") for value in params.values())
    values = ", ".join(f"%({name})s" for name in params)
    # EXECUTE takes no parameters of its own.
    literals = psycopg.ClientCursor(connection.connection).mogrify(values, params)
    with connection.cursor() as cursor:
        for mode in ("force_custom_plan", "force_generic_plan"):
            cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")
            cursor.execute(f"PREPARE plan ({types}) AS {prepared}")
            try:
                for _ in range(2):  # the first sets hint bits, and reads the catalogue
                    cursor.execute(
                        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)"
                        f" EXECUTE plan ({literals})"
                    )
                    plan = cursor.fetchone()[0][0]["Plan"]
            finally:
                cursor.execute("DEALLOCATE plan")
            yield plan


def buffers(plan: dict[str, Any]) -> int:
    """How many pages of the database it reads."""
    count: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return count


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What it reads of tables that have a row or more for each task."""
    if node.get("Relation Name") in LARGE or "Bitmap" in node["Node Type"]:
        yield node
    for child in node.get("Plans", []):
        yield from scans(child)


@pytest.fixture
def at(heavy: User) -> Callable[..., str]:
    """A position in Alice's feed."""
    clock = Clock.objects.get(user=heavy)
    codec = FeedCodec(heavy.pk)

    def position(version: int = clock.version, *place: Any) -> str:
        return codec.encode(FeedPosition(clock.epoch, version, *(place or ("log", "~"))))

    return position


def test_reads_use_their_index(
    heavy: User, at: Callable[..., str], alice_client: ApiClient
) -> None:
    """[F1] [D1] [T3] And no more than a page of it, neither of a log nor of the tasks."""
    walk = at(1, "walk", "task", UUID(int=2**127))
    cursor = meta_of(alice_client.get(TRASH, query={"limit": PAGE}))["next_cursor"]
    for path, query, index in [
        (CHANGES, {}, "tasks_task_user_id"),
        (CHANGES, {"since": walk}, "tasks_task_user_id"),
        (CHANGES, {"since": at(TASKS // 2)}, "todo_project_change_pkey"),
        (TRASH, {}, "tasks_task_user_trash"),
        (TRASH, {"cursor": cursor}, "tasks_task_user_trash"),
        (LIST, {}, "tasks_task_user_live"),
    ]:
        response, statements = get(alice_client, path, query={"limit": PAGE, **query})

        assert len(data_of(response)) == PAGE
        for plan in explained(statements):
            nodes = list(scans(plan))
            assert {node["Node Type"] for node in nodes} <= INDEXED, (path, query, nodes)
            assert index in {node.get("Index Name") for node in nodes}, (path, query, nodes)
            assert buffers(plan) < PAGE_BUFFERS, (path, query, buffers(plan))


def test_page_of_the_feed_costs_the_same_everywhere(
    heavy: User, at: Callable[..., str], alice_client: ApiClient
) -> None:
    """[F1] At the beginning of 100,000 changes, in their middle, and at their end; so a walk's."""
    log = [at(version) for version in (1, TASKS // 2, TASKS - PAGE - 10)]
    ids = (0, 2**127, 2**127 + 2**126)
    walk = [at(TASKS, "walk", "task", UUID(int=first)) for first in ids]
    for places in (log, walk):
        costs = []
        for since in places:
            response, statements = get(alice_client, CHANGES, query={"since": since, "limit": PAGE})
            assert len(data_of(response)) == PAGE
            costs.append([buffers(plan) for plan in explained(statements)])
        for by_plan in zip(*costs, strict=True):
            assert max(by_plan) <= 1.3 * min(by_plan), costs


def test_not_modified_reads_neither_page_nor_count(
    heavy: User, at: Callable[..., str], alice_client: ApiClient
) -> None:
    """[V2] One small read: who calls, and their clock."""
    for path, query in [
        (LIST, {"limit": 200}),
        (LIST, {"total": "true", "limit": 200}),
        (LIST, {"search": "task 7", "ordering": "title"}),
        (LIST, {"ordering": "-updated_at", "limit": 200}),
        (CHANGES, {"limit": 200}),
        (CHANGES, {"limit": 200, "since": at(1)}),
    ]:
        tag = alice_client.get(path, query=query)["ETag"]

        response, statements = get(alice_client, path, query=query, if_none_match=tag)

        assert response.status_code == 304
        for plan in explained(statements):
            assert [node for node in scans(plan) if node["Actual Loops"]] == [], (path, query)
            assert buffers(plan) < SMALL_READ_BUFFERS, (path, query, buffers(plan))
