"""What a person with very many tasks pays: [T3] [F1] [D1] [V2] read a page, never what they have.

Both kinds of plans: that for the values, and the one for any, which prepared statements get.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
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
OPEN = 5_000  # the newest of those that live
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
    """Alice with 100,000 tasks among other people: 5,000 in the trash, then 5,000 open ones."""
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
            INSERT INTO tasks_list (id, user_id, name, version)
            SELECT id, id, 'Groceries', 2 FROM accounts_user
            """
        )
        # They would take three times as long as the rest, and find nothing to do.
        cursor.execute("ALTER TABLE tasks_task DISABLE TRIGGER USER")
        # What was made first stands first by hand, and is due first; every second has a day.
        cursor.execute(
            """
            INSERT INTO tasks_task
                   (id, user_id, title, created_at, deleted_at, completed_at, due_on, due_time,
                    list_id, position, version)
            SELECT gen_random_uuid(), owner.id, 'Task ' || n, made_at,
                   CASE WHEN n <= least(each / 10, %s) THEN now() - n * interval '1 second' END,
                   CASE WHEN n > least(each / 10, %s) + %s THEN made_at + interval '1 hour' END,
                   CASE WHEN n %% 2 = 0 THEN made_at::date + 2 + n %% 7 END,
                   CASE WHEN n %% 4 = 0 THEN time '09:00' END,
                   CASE WHEN n %% 3 > 0 THEN owner.id END, lpad(to_hex(each - n), 12, '0'), n + 1
              FROM (
                  SELECT id, CASE WHEN id = %s THEN %s ELSE %s END AS each FROM accounts_user
              ) AS owner, generate_series(1, each) AS n,
                   LATERAL (SELECT now() - n * interval '1 minute' AS made_at) AS moment
            """,
            [TRASHED, TRASHED, OPEN, alice.pk, TASKS, TASKS_EACH],
        )
        cursor.execute("ALTER TABLE tasks_task ENABLE TRIGGER USER")
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
            "ANALYZE tasks_task, tasks_list, accounts_user, accounts_session, todo_project_change,"
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
    types = ", ".join(sql_type(value) for value in params.values())
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


def sql_type(value: object) -> str:
    """What psycopg says that it is."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return "timestamp"
    return {**SQL_TYPES, timedelta: "interval"}.get(type(value), "text")


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


def rows_read(plan: dict[str, Any]) -> int:
    """How many of those, whether they are what is asked for or not."""
    return sum(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in scans(plan)
        if "Relation Name" in node
    )


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
        (CHANGES, {}, "tasks_task_own"),
        (CHANGES, {"since": walk}, "tasks_task_own"),
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


class Cost(NamedTuple):
    """Which index a list is read by, and how many tasks at most. None: any, or the table."""

    by: str | None
    rows: int = PAGE + 1


BY_DUE, BY_HAND = "tasks_task_open_due", "tasks_task_open_list"
# No index has the order. A person with most of the table is read from it, each task once; what the
# processes of a parallel plan read is given as averages, which are rounded.
ONCE = Cost(None, TASKS + OTHERS * TASKS_EACH + 10)


def test_lists_of_every_day_read_a_page(heavy: User, alice_client: ApiClient) -> None:
    """[T3] [L2] Today, a list and the inbox: not what was completed in years, on no page.

    Where there is no index it is said how much is read.
    """
    tomorrow = f"{datetime.now(UTC).date() + timedelta(days=1)}"
    is_open = {"is_completed": "false"}
    today = {**is_open, "due_before": tomorrow, "ordering": "due"}
    one, inbox = ({"list_id": str(each), "ordering": "position"} for each in (heavy.pk, "inbox"))
    for query, cost in [
        (today, Cost(BY_DUE)),
        ({**today, "ordering": "due,-priority"}, Cost(BY_DUE, PAGE + 1000)),  # those of one time
        ({**today, "total": "true"}, Cost(BY_DUE, OPEN)),
        ({**is_open, "due_before": tomorrow}, ONCE),
        ({**is_open, "ordering": "due"}, Cost(BY_DUE)),
        ({**is_open, "ordering": "due", "due_after": "9999-12-31"}, Cost(BY_DUE, 0)),
        ({**is_open, "ordering": "-due"}, ONCE),
        ({"ordering": "due"}, ONCE),
        ({**one, **is_open}, Cost(BY_HAND)),
        ({**one, **is_open, "ordering": "-position"}, Cost(BY_HAND)),
        ({**one, **is_open, "ordering": "due"}, ONCE),
        ({**one, **is_open, "ordering": "-created_at"}, ONCE),
        (one, Cost("tasks_task_user_list")),
        ({**inbox, **is_open}, Cost(BY_HAND)),
        (inbox, Cost("tasks_task_user_list")),
        ({"has_due": "false"}, Cost("tasks_task_user_live", 3 * PAGE)),
        ({**is_open, "has_due": "false"}, Cost("tasks_task_user_live", 3 * PAGE)),
        ({**is_open, "has_due": "false", "ordering": "position"}, ONCE),
        (is_open, Cost("tasks_task_user_live")),
    ]:
        first, statements = get(alice_client, LIST, query={"limit": PAGE, **query})
        cursor = meta_of(first)["next_cursor"]
        pages = [statements]
        if cursor is not None:
            pages.append(
                get(alice_client, LIST, query={"limit": PAGE, **query, "cursor": cursor})[1]
            )
        for page in pages:
            for plan in explained(page):
                nodes = list(scans(plan))
                used = {node.get("Index Name") for node in nodes}
                assert cost.by in (None, *used), (query, nodes)
                assert rows_read(plan) <= cost.rows, (query, rows_read(plan), nodes)


def test_page_by_due_costs_the_same_everywhere(heavy: User, alice_client: ApiClient) -> None:
    """[L2] At the first day, at the last one, and among the tasks that have none."""
    query: dict[str, Any] = {"is_completed": "false", "ordering": "due", "limit": 200}
    costs = set()
    while query.get("cursor", "") is not None:
        response, statements = get(alice_client, LIST, query=query)
        costs |= {rows_read(plan) for plan in explained(statements)}
        query["cursor"] = meta_of(response)["next_cursor"]

    assert data_of(response)[-1]["due_on"] is None
    assert max(costs) == 201
