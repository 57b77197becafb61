"""Lists: pages, cursors, filters and orders."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.http import HttpResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of

LIST = "/api/me/tasks"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ORDERINGS = [
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
    "completed_at",
    "-completed_at",
    "title",
    "-title",
]


def _walk(client: ApiClient, **query: Any) -> list[str]:
    """The ids of all pages, by `next_cursor`."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        response = client.get(LIST, query={**query, **cursor})
        ids.extend(row["id"] for row in data_of(response))
        next_cursor = meta_of(response)["next_cursor"]
        if next_cursor is None:
            return ids
        cursor = {"cursor": next_cursor}


def _titles(client: ApiClient, **query: Any) -> list[str]:
    return [row["title"] for row in data_of(client.get(LIST, query=query))]


def test_person_without_tasks_gets_an_empty_page(alice_client: ApiClient) -> None:
    response = alice_client.get(LIST, query={"total": "true"})

    assert data_of(response) == []
    meta = meta_of(response)
    assert (meta["limit"], meta["next_cursor"], meta["total"]) == (50, None, 0)
    assert "Link" not in response


def test_newest_come_first_in_pages_of_fifty(alice: User, alice_client: ApiClient) -> None:
    """[L1] 1,000 tasks, and no total unless it was asked for."""
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", created_at=NOON + timedelta(seconds=n)) for n in range(1000)
    )

    response = alice_client.get(LIST)

    assert [row["title"] for row in data_of(response)] == [f"{n}" for n in range(999, 949, -1)]
    assert meta_of(response).keys() == {"request_id", "limit", "next_cursor"}


@pytest.mark.parametrize("prefix", ["/api/me/tasks", "/users/{id}/tasks/"])
def test_link_leads_to_the_next_page(prefix: str, alice: User, alice_client: ApiClient) -> None:
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    query = {"limit": "2", "ordering": "title", "total": "true", "search": ""}
    query.pop("search")

    response = alice_client.get(prefix.format(id=alice.pk), query=query)

    link, relation = response["Link"].split("; ")
    target = urlsplit(link.strip("<>"))
    assert relation == 'rel="next"'
    assert (target.netloc, target.path) == ("", f"/api/{alice.pk}/tasks")
    assert parse_qs(target.query) == {
        "limit": ["2"],
        "ordering": ["title"],
        "total": ["true"],
        "cursor": [meta_of(response)["next_cursor"]],
    }
    last = alice_client.get(link.strip("<>"))
    assert [row["title"] for row in data_of(last)] == ["2"]
    assert "Link" not in last


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_ties_are_given_once_while_others_write(
    ordering: str, alice: User, alice_client: ApiClient
) -> None:
    """[L2] 2,500 tasks with equal values; others come and go between the pages."""
    still = Task.objects.bulk_create(
        Task(user=alice, title="same", created_at=NOON, updated_at=NOON, completed_at=None)
        for _ in range(2500)
    )
    restless = Task.objects.bulk_create(
        Task(user=alice, title="same", created_at=NOON, updated_at=NOON) for _ in range(40)
    )
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 200, "ordering": ordering}
    while True:
        response = alice_client.get(LIST, query=query)
        seen.extend(row["id"] for row in data_of(response))
        if meta_of(response)["next_cursor"] is None:
            break
        query["cursor"] = meta_of(response)["next_cursor"]
        Task.objects.filter(pk__in=[restless.pop().pk, restless.pop().pk]).delete()
        Task.objects.create(user_id=alice.pk, title="new")
        Task.objects.create(user=alice, title="same", created_at=NOON, updated_at=NOON)

    assert len(seen) == len(set(seen))
    assert {str(task.pk) for task in still} <= set(seen)


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.django_db
def test_pages_join_to_the_sorted_whole(
    ordering: str, alice: User, alice_client: ApiClient
) -> None:
    """[L3] [L2] Property: any rows, any page size; nulls last, ties by id in the same direction."""

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(rows=st.lists(_task_rows(), max_size=14), limit=st.integers(1, 6))
    def check(rows: list[dict[str, Any]], limit: int) -> None:
        Task.objects.all().delete()
        Task.objects.bulk_create(Task(user=alice, **row) for row in rows)

        assert _walk(alice_client, ordering=ordering, limit=limit) == _sorted_ids(ordering)

    check()


def _task_rows() -> st.SearchStrategy[dict[str, Any]]:
    moments = st.integers(0, 2).map(lambda n: NOON + timedelta(microseconds=n))
    return st.fixed_dictionaries(
        {
            "title": st.sampled_from(["a", "B", "Z", "ä", "é", "zz", "🎉", "_"]),
            "created_at": moments,
            "updated_at": moments,
            "completed_at": st.none() | moments,
        }
    )


def _sorted_ids(ordering: str) -> list[str]:
    field = ordering.removeprefix("-")
    rows = list(Task.objects.all())
    filled = [row for row in rows if getattr(row, field) is not None]
    empty = [row for row in rows if getattr(row, field) is None]
    descending = ordering.startswith("-")
    filled.sort(key=lambda row: (getattr(row, field), row.pk), reverse=descending)
    empty.sort(key=lambda row: row.pk, reverse=descending)
    return [str(row.pk) for row in filled + empty]


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        pytest.param({"is_completed": "true"}, {"done"}, id="completed"),
        pytest.param({"is_completed": "false"}, {"early", "late"}, id="open"),
        pytest.param({"created_after": "2026-01-31T12:00:00Z"}, {"late", "done"}, id="inclusive"),
        pytest.param({"created_before": "2026-01-31T12:00:00Z"}, {"early"}, id="exclusive"),
        pytest.param({"created_after": "2026-01-31T13:00:00+01:00"}, {"late", "done"}, id="offset"),
        pytest.param({"updated_after": "2026-01-31T12:00:00.000001Z"}, {"done"}, id="microseconds"),
        pytest.param({"updated_before": "2026-01-31T12:00:00Z"}, {"early"}, id="updated before"),
        pytest.param({"completed_after": "0001-01-01T00:00:00Z"}, {"done"}, id="year 1"),
        pytest.param({"completed_before": "9999-12-31T23:59:59Z"}, {"done"}, id="year 9999"),
        pytest.param({"search": "LATE"}, {"late"}, id="search title"),
        pytest.param({"search": "gRÜn"}, {"early"}, id="search description"),
        pytest.param({"search": "100%"}, {"done"}, id="percent is literal"),
        pytest.param({"search": "a_b"}, {"done"}, id="underscore is literal"),
        pytest.param({"search": "\\"}, {"done"}, id="backslash is literal"),
        pytest.param({"search": "%"}, {"done"}, id="percent alone"),
        pytest.param({"search": "late", "is_completed": "true"}, set(), id="both must hold"),
        pytest.param({"search": " "}, {"done"}, id="white space is searched for"),
    ],
)
def test_filters(
    query: dict[str, str], titles: set[str], alice: User, alice_client: ApiClient
) -> None:
    """[L3]"""
    microsecond = timedelta(microseconds=1)
    Task.objects.bulk_create(
        [
            Task(
                user=alice,
                title="early",
                description="GRün",
                created_at=NOON - microsecond,
                updated_at=NOON - microsecond,
            ),
            Task(user=alice, title="late", created_at=NOON, updated_at=NOON),
            Task(
                user=alice,
                title="done",
                description="100% a_b \\",
                created_at=NOON,
                updated_at=NOON + microsecond,
                completed_at=NOON,
            ),
        ]
    )

    assert set(_titles(alice_client, **query)) == titles
    response = alice_client.get(LIST, query={**query, "total": "true"})
    assert meta_of(response)["total"] == len(titles)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "05"),
        ("limit", "+5"),
        ("limit", "5.0"),
        ("limit", "５"),
        ("limit", "9" * 400),
        ("total", "True"),
        ("total", "1"),
        ("is_completed", "yes"),
        ("is_completed", "null"),
        ("ordering", "id"),
        ("ordering", "--title"),
        ("ordering", "title,created_at"),
        ("ordering", "user__password"),
        ("search", "x" * 201),
        ("search", "nul\x00"),
        ("created_after", "2026-01-31"),
        ("created_after", "2026-01-31T12:00:00"),
        ("created_after", "2026-02-30T12:00:00Z"),
        ("created_after", "2026-W05-6T12:00:00Z"),
        ("created_after", "0000-01-01T00:00:00Z"),
        ("created_after", "0001-01-01T00:00:00+14:00"),
        ("created_before", "9999-12-31T23:59:59-12:00"),
        ("created_before", "10000-01-01T00:00:00Z"),
        ("updated_after", "2026-01-31T12:00:00 02:00"),
        ("updated_before", "now"),
        ("completed_after", "2026-01-31T24:00:00Z"),
        ("completed_before", "1e400"),
        ("cursor", "x"),
        ("cursor", "."),
        ("cursor", "WzFd.x"),
        ("cursor", "é"),
        ("cursor", "x" * 5000),
        ("", "x"),
        ("page", "2"),
        ("offset", "10"),
        ("Limit", "10"),
        ("format", "json"),
    ],
    ids=lambda value: value[:24],
)
def test_bad_parameters_are_named(name: str, value: str, alice_client: ApiClient) -> None:
    """[B4] [L1]"""
    details = assert_error(alice_client.get(LIST, query={name: value}), 400, "VALIDATION_ERROR")

    assert details.keys() == {name}
    assert details[name][0]["message"]


@pytest.mark.parametrize(
    ("raw", "name", "code"),
    [
        ("limit=5&limit=5", "limit", "repeated"),
        ("limit=", "limit", "empty"),
        ("limit", "limit", "empty"),
        ("search=a&search=b", "search", "repeated"),
        ("search=%FF", "non_field_errors", "invalid"),
        ("&".join(f"a{n}=1" for n in range(101)), "non_field_errors", "invalid"),
    ],
    ids=["repeated", "empty", "no equals sign", "repeated search", "not UTF-8", "too many"],
)
def test_bad_query_strings_are_named(
    raw: str, name: str, code: str, alice_client: ApiClient
) -> None:
    """[B4]"""
    details = assert_error(alice_client.get(f"{LIST}?{raw}"), 400, "VALIDATION_ERROR")

    assert details[name][0]["code"] == code


def test_plus_sign_is_explained(alice_client: ApiClient) -> None:
    response = alice_client.get(f"{LIST}?created_after=2026-01-31T12:00:00+02:00")

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert "%2B" in details["created_after"][0]["message"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"ordering": "title"}, id="other order"),
        pytest.param({"ordering": "created_at"}, id="other direction"),
        pytest.param({"is_completed": "false"}, id="a filter more"),
        pytest.param({"search": "x"}, id="a search more"),
    ],
)
def test_cursor_of_another_list_is_refused(
    other: dict[str, str], alice: User, alice_client: ApiClient
) -> None:
    """[L1]"""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    cursor = meta_of(alice_client.get(LIST, query={"limit": 1}))["next_cursor"]

    response = alice_client.get(LIST, query={"limit": 1, "cursor": cursor, **other})

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["cursor"][0]["code"] == "invalid_cursor"


def test_cursor_of_another_person_is_refused(
    alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[L1]"""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    cursor = meta_of(alice_client.get(LIST, query={"limit": 1}))["next_cursor"]

    response = bob_client.get(LIST, query={"limit": 1, "cursor": cursor})

    assert_error(response, 400, "VALIDATION_ERROR")


def test_cursor_outlives_another_limit_total_and_spelling(
    alice: User, alice_client: ApiClient
) -> None:
    """[L1] Bound to neither `limit` nor `total`; times that are equal are equal."""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    first = {"limit": 1, "created_after": "2020-01-01T00:00:00Z", "ordering": "-created_at"}
    cursor = meta_of(alice_client.get(LIST, query=first))["next_cursor"]

    response = alice_client.get(
        LIST,
        query={
            "limit": 2,
            "total": "true",
            "cursor": cursor,
            "created_after": "2020-01-01T01:00:00+01:00",
        },
    )

    assert len(data_of(response)) == 2


@pytest.mark.parametrize("character", ["🎉", "é", "\x01", '"', "a"])
def test_longest_titles_are_paged_through(
    character: str, alice: User, alice_client: ApiClient
) -> None:
    """[L1] [L2] The service takes every cursor that it makes."""
    Task.objects.bulk_create(Task(user=alice, title=character * 255) for _ in range(3))

    assert len(_walk(alice_client, ordering="title", limit=1)) == 3


def test_search_is_read_as_utf_8_however_it_is_written(
    alice: User, alice_client: ApiClient
) -> None:
    """A client that doesn't percent-encode sends raw bytes, which WSGI hands over as Latin-1."""
    Task.objects.create(user_id=alice.pk, title="Café")
    raw = alice_client.generic(
        "GET",
        LIST,
        QUERY_STRING="search=café".encode().decode("latin-1"),
        headers={"authorization": f"Bearer {alice_client.access}"},
    )

    assert [row["title"] for row in data_of(cast("HttpResponse", raw))] == ["Café"]
    assert _titles(alice_client, search="CAFÉ") == ["Café"]


def test_tampered_cursors_are_refused(alice: User, alice_client: ApiClient) -> None:
    """[L1] Any change of any one character."""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(2))
    cursor = meta_of(alice_client.get(LIST, query={"limit": 1}))["next_cursor"]
    generator = random.Random(7)
    for place in generator.sample(range(len(cursor)), 20):
        other = "A" if cursor[place] != "A" else "B"
        forged = cursor[:place] + other + cursor[place + 1 :]

        assert_error(alice_client.get(LIST, query={"cursor": forged}), 400, "VALIDATION_ERROR")


def test_pages_use_the_index_whatever_their_depth(alice: User, alice_client: ApiClient) -> None:
    """[L2] The whole comparison is an index condition; nothing is sorted, nothing is skipped."""
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", created_at=NOON + timedelta(seconds=n // 7))
        for n in range(3000)
    )
    cursor = meta_of(alice_client.get(LIST, query={"limit": 100}))["next_cursor"]
    with connection.cursor() as sql:
        sql.execute("ANALYZE tasks_task")
    statements: list[tuple[str, Any]] = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "tasks_task" in sql:
            statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        alice_client.get(LIST, query={"limit": 100, "cursor": cursor})

    ((statement, params),) = statements
    with connection.cursor() as sql:
        sql.execute(f"EXPLAIN (FORMAT JSON) {statement}", params)
        plan = json.dumps(sql.fetchone()[0])
    assert "tasks_task_user_created" in plan
    assert '"Node Type": "Sort"' not in plan
    assert "ROW(created_at, id) < ROW(" in plan
    assert "OFFSET" not in statement
    assert "COUNT" not in statement
