"""Lists: pages, cursors, filters and orders."""

import json
import random
import unicodedata
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations, product
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from django.db import connection
from django.http import HttpResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from todo_project.resources.pages import Seal

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
ANY_ORDERINGS = [
    ",".join(f"{sign}{field}" for sign, field in zip(signs, fields, strict=True))
    for count in (1, 2, 3)
    for fields in permutations(("created_at", "updated_at", "completed_at", "title"), count)
    for signs in product(("", "-"), repeat=count)
]
MEBIBYTE = 1024 * 1024
ID = "0198c0de-0000-7000-8000-000000000000"


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


@pytest.mark.parametrize("ordering", [*ORDERINGS, "-title,completed_at", "title,-updated_at"])
def test_ties_are_given_once_while_others_write(
    ordering: str, alice: User, alice_client: ApiClient
) -> None:
    """[L2] 2,500 tasks with equal values; others come and go between the pages."""
    still = Task.objects.bulk_create(
        Task(user=alice, title="same", created_at=NOON, updated_at=NOON, completed_at=None)
        for _ in range(2400)
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


@given(data=st.data())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_pages_join_to_the_sorted_whole(
    data: st.DataObject, alice: User, alice_client: ApiClient
) -> None:
    """[L3] [L2] Property: any rows, order and page size, and writes between the pages.

    Nulls come last; ties go by id, in the direction of the last key.
    """
    ordering = data.draw(st.sampled_from(ANY_ORDERINGS))
    rows, others = (data.draw(st.lists(_task_rows(), max_size=most)) for most in (14, 6))
    limit = data.draw(st.integers(1, 6))
    Task.objects.all().delete()
    still = Task.objects.bulk_create(Task(user=alice, **row) for row in rows)
    expected = _sorted_ids(still, ordering)
    restless: list[Task] = []
    seen: list[str] = []
    query: dict[str, Any] = {"limit": limit, "ordering": ordering}
    while query.get("cursor", "") is not None:
        response = alice_client.get(LIST, query=query)
        seen.extend(row["id"] for row in data_of(response))
        query["cursor"] = meta_of(response)["next_cursor"]
        if restless:
            restless.pop().delete()
        if others:
            restless.append(Task.objects.create(user_id=alice.pk, **others.pop()))

    assert len(seen) == len(set(seen))
    assert [task_id for task_id in seen if task_id in set(expected)] == expected


def _task_rows() -> st.SearchStrategy[dict[str, Any]]:
    moments = st.integers(0, 2).map(lambda n: NOON + timedelta(microseconds=n))
    return st.fixed_dictionaries(
        {
            "title": st.sampled_from(["a", "B", "Z", "ä", "É", "e\u0301", "ß", "SS", "🎉", "_"]),
            "created_at": moments,
            "updated_at": moments,
            "completed_at": st.none() | moments,
        }
    )


def _sorted_ids(tasks: list[Task], ordering: str) -> list[str]:
    """Sorted by the last key first, because Python keeps the order of equals."""
    keys = ordering.split(",")
    rows = sorted(tasks, key=lambda task: task.pk, reverse=keys[-1].startswith("-"))
    for key in reversed(keys):
        field = key.removeprefix("-")
        empty = [row for row in rows if getattr(row, field) is None]
        filled = [row for row in rows if getattr(row, field) is not None]
        filled.sort(key=lambda row: _sort_value(row, field), reverse=key.startswith("-"))
        rows = filled + empty
    return [str(row.pk) for row in rows]


def _sort_value(task: Task, field: str) -> Any:
    value = getattr(task, field)
    if field != "title":
        return value
    decomposed = unicodedata.normalize("NFKD", value).casefold()
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def test_titles_are_sorted_as_people_read_them(alice: User, alice_client: ApiClient) -> None:
    """[L3]"""
    titles = [
        "zebra",
        "Éclair",
        "apple",
        "Banana",
        "eclair 2",
        "Apple pie",
        "café",
        "Cafe",
        "10",
        "9",
    ]
    Task.objects.bulk_create(Task(user=alice, title=title) for title in titles)

    found = _titles(alice_client, ordering="title")

    assert found == [
        *("10", "9", "apple", "Apple pie", "Banana", "café", "Cafe", "Éclair", "eclair 2", "zebra")
    ]
    assert _titles(alice_client, ordering="-title") == found[::-1]


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
        pytest.param({"search": "b % 100"}, {"done"}, id="words in any order"),
        pytest.param({"search": "DONE 100"}, {"done"}, id="words in title and description"),
        pytest.param({"search": "done gruen"}, set(), id="a word that is nowhere"),
        pytest.param({"search": "done early"}, set(), id="words of two tasks"),
        pytest.param({"search": "late "}, {"late"}, id="white space behind"),
        pytest.param({"search": "\u3000late\u00a0"}, {"late"}, id="other white space"),
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
    ("title", "search"),
    [
        pytest.param("Buy some milk", "milk buy ", id="any order"),
        pytest.param("Café", "cafe", id="accent"),
        pytest.param("Cafe\u0301", "cafe", id="accent, decomposed"),
        pytest.param("Cafe\u0301", "Café", id="composed finds decomposed"),
        pytest.param("Café", "Cafe\u0301", id="decomposed finds composed"),
        pytest.param("Cafe", "café", id="accent that is asked for only"),
        pytest.param("Straße", "strasse", id="sharp s"),
        pytest.param("Straße", "STRASSE", id="sharp s in capitals"),
        pytest.param("STRAẞE", "straße", id="capital sharp s"),
        pytest.param("Strasse", "straße", id="sharp s that is asked for"),
        pytest.param("İstanbul", "istanbul", id="dotted capital I"),
        pytest.param("ISPARTA", "ısparta", id="dotless i"),
        pytest.param("ΣΊΣΥΦΟΣ", "σίσυφος", id="final sigma in capitals"),
        pytest.param("Σίσυφος", "ΣΊΣΥΦΟΣ", id="final sigma that is asked for in capitals"),
        pytest.param("Ο Σίσυφος", "σισυφοσ", id="final sigma as any"),
        pytest.param("ﬁle", "FILE", id="ligature"),
        pytest.param("ＴＯＤＯ", "todo", id="full width"),
        pytest.param("100％ sure", "100%", id="full-width percent is a literal one"),
        pytest.param("100% sure", "100％", id="a literal percent is a full-width one"),
        pytest.param("Łódź", "lodz", id="stroke"),
        pytest.param("Ærø", "AERO", id="Danish"),
        pytest.param("Việt Nam", "viet", id="two accents"),
        pytest.param("ЁЛКА", "елка", id="Cyrillic"),
        pytest.param("שָׁלוֹם", "שלום", id="Hebrew points"),
        pytest.param("مُحَمَّد", "محمد", id="Arabic points"),
        pytest.param("우유", "\u110b\u116e\u110b\u1172", id="Hangul, decomposed"),
        pytest.param("I ❤ you", "❤\ufe0f", id="variation selector"),
        pytest.param("Donau\u00addampf", "donaudampf", id="soft hyphen"),
        pytest.param("می\u200cخواهم", "میخواهم", id="joiner"),
        pytest.param("a" * 255, f"{'a' * 100} {'a' * 99}", id="as long as can be"),
        pytest.param("abcdefg", " ".join("abcdefg" * 14), id="98 words"),
    ],
)
def test_search_folds(title: str, search: str, alice: User, alice_client: ApiClient) -> None:
    """[L4] Case, accents, Unicode forms; in title and description alike."""
    in_title = Task.objects.create(user=alice, title=title)
    in_description = Task.objects.create(user=alice, title="x", description=f"… {title} …")
    Task.objects.create(user=alice, title="other")

    found = data_of(alice_client.get(LIST, query={"search": search}))

    assert {row["id"] for row in found} == {str(in_title.pk), str(in_description.pk)}
    assert {row["title"] for row in found} == {title, "x"}


@pytest.mark.parametrize(
    ("title", "search"),
    [
        pytest.param("बिल", "बल", id="vowel signs are no accents"),
        pytest.param("が", "か", id="voiced kana"),
        pytest.param("한국", "하", id="part of a syllable"),
        pytest.param("100 sure", "100%", id="percent"),
        pytest.param("axb", "a_b", id="underscore"),
        pytest.param("axb", "a＿b", id="full-width underscore"),
        pytest.param("a%b", "a\\%b", id="backslash"),
        pytest.param("milk", "m ilk x", id="one word of three"),
        # Of several words the longest is looked for by another function.
        pytest.param("something, 100 sure", "something 0%", id="percent in a short word"),
        pytest.param("something, axb", "something a_b", id="underscore in a short word"),
        pytest.param("something, axb", "something a＿b", id="full-width underscore there"),
        pytest.param("something, a%b", "something a\\%b", id="backslash in a short word"),
    ],
)
def test_search_folds_no_more(
    title: str, search: str, alice: User, alice_client: ApiClient
) -> None:
    """[L4]"""
    Task.objects.create(user=alice, title=title)

    assert _titles(alice_client, search=search) == []


def test_search_has_no_word_across_title_and_description(
    alice: User, alice_client: ApiClient
) -> None:
    """[L4]"""
    Task.objects.create(user=alice, title="some", description="thing that is longer")

    assert _titles(alice_client, search="something") == []
    assert _titles(alice_client, search="omet longer") == []
    assert _titles(alice_client, search="some thing") == ["some"]


def test_search_sees_what_was_written_last(alice_client: ApiClient) -> None:
    """[L4]"""
    created = data_of(alice_client.post(LIST, {"title": "Café"}), 201)
    path = f"{LIST}/{created['id']}"
    assert _titles(alice_client, search="cafe") == ["Café"]

    alice_client.patch(path, {"title": "Thé", "description": "À la menthe"})

    assert _titles(alice_client, search="cafe") == []
    assert _titles(alice_client, search="menthe the") == ["Thé"]
    alice_client.patch(path, {"description": None})
    assert _titles(alice_client, search="menthe") == []


@pytest.mark.parametrize(
    ("name", "value", "code", "valid"),
    [
        pytest.param("is_completed", "True", "invalid_choice", "true, false", id="flag"),
        pytest.param("total", "1", "invalid_choice", "true, false", id="another flag"),
        pytest.param(
            "ordering",
            "Title",
            "invalid_choice",
            "up to 3 of title, completed_at, priority, start_on, position, created_at, updated_at, "
            "due, separated by commas",
            id="order",
        ),
        pytest.param("ordering", "title,id", "invalid_choice", "created_at", id="second key"),
        pytest.param("ordering", "title,", "invalid_choice", "created_at", id="empty key"),
        pytest.param("ordering", "title, id", "invalid_choice", "created_at", id="space"),
        pytest.param(
            "ordering",
            "title,created_at,updated_at,completed_at",
            "invalid_choice",
            "up to 3",
            id="four keys",
        ),
        pytest.param("ordering", "title,-title", "repeated", "title", id="a key twice"),
        pytest.param("search", " \u3000\t", "blank", "no word", id="search without a word"),
        pytest.param("search", "\u200b \u00ad", "blank", "no word", id="words that can't be seen"),
    ],
)
def test_refusals_say_what_is_valid(
    name: str, value: str, code: str, valid: str, alice_client: ApiClient
) -> None:
    """[B4] [L3]"""
    response = alice_client.get(LIST, query={name: value})

    ((field, (fault,)),) = assert_error(response, 400, "VALIDATION_ERROR").items()
    assert (field, fault["code"]) == (name, code)
    assert valid in fault["message"]


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
        ("ordering", ","),
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
        pytest.param({"ordering": "-created_at,title"}, id="a key more"),
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
    """[L1] Bound to neither `limit` nor `total`; times and words that are equal are equal."""
    Task.objects.bulk_create(Task(user=alice, title=f"t{n}") for n in range(3))
    first = {
        "search": "t ",
        "limit": 1,
        "created_after": "2020-01-01T00:00:00Z",
        "ordering": "-created_at",
    }
    cursor = meta_of(alice_client.get(LIST, query=first))["next_cursor"]

    response = alice_client.get(
        LIST,
        query={
            "search": "t",
            "limit": 2,
            "total": "true",
            "cursor": cursor,
            "created_after": "2020-01-01T01:00:00+01:00",
        },
    )

    assert len(data_of(response)) == 2


@pytest.mark.parametrize("character", ["🎉", "é", "\\", '"', "a"])
def test_longest_titles_are_paged_through(
    character: str, alice: User, alice_client: ApiClient
) -> None:
    """[L1] [L2] The service takes every cursor that it makes."""
    Task.objects.bulk_create(Task(user=alice, title=character * 255) for _ in range(3))

    assert len(_walk(alice_client, ordering="title", limit=1)) == 3
    assert len(_walk(alice_client, ordering="updated_at,-title,completed_at", limit=1)) == 3


# --- Bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [50, 200])
@pytest.mark.parametrize("character", ["a", "🎉", "\x01"], ids=["ASCII", "four bytes", "escaped"])
def test_page_ends_before_its_tasks_pass_a_mebibyte(
    character: str, limit: int, alice: User, alice_client: ApiClient
) -> None:
    """[L5] [L2] No sooner; and each task comes once, in order."""
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n:03}", description=character * 10_000) for n in range(130)
    )
    pages: list[list[Any]] = []
    query: dict[str, Any] = {"limit": limit, "ordering": "title"}
    while query.get("cursor", "") is not None:
        response = alice_client.get(LIST, query=query)
        pages.append(data_of(response))
        query["cursor"] = meta_of(response)["next_cursor"]
        assert meta_of(response)["limit"] == limit
        assert ("Link" in response) is (query["cursor"] is not None)

    assert [row["title"] for page in pages for row in page] == [f"{n:03}" for n in range(130)]
    sizes = [[len(orjson.dumps(row)) for row in page] for page in pages]
    assert max(map(sum, sizes)) <= MEBIBYTE
    for page, following in pairwise(sizes):
        assert len(page) == limit or sum(page) + following[0] > MEBIBYTE


def test_task_that_is_too_large_for_a_page_has_one_for_itself(
    alice: User, alice_client: ApiClient, settings: Any
) -> None:
    """[L5]"""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    settings.PAGE_BYTES_MAX = 10

    assert [
        row["title"] for row in data_of(alice_client.get(LIST, query={"ordering": "title"}))
    ] == ["0"]
    assert len(_walk(alice_client)) == 3


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


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param([], id="nothing"),
        pytest.param({"id": 1}, id="an object"),
        pytest.param(5, id="a number"),
        pytest.param([ID], id="no value"),
        pytest.param([None, ID], id="null where there is none"),
        pytest.param(["2026-13-01T00:00:00Z", ID], id="no time"),
        pytest.param([5, ID], id="a number as time"),
        pytest.param(["2026-01-01T00:00:00Z", "x", ID], id="two values"),
        pytest.param(["2026-01-01T00:00:00Z", 5], id="a number as id"),
        pytest.param(["2026-01-01T00:00:00Z", "x"], id="no id"),
        pytest.param(["2026-01-01T00:00:00Z", None], id="null as id"),
    ],
)
def test_cursor_of_another_release_is_refused(
    payload: Any, alice: User, alice_client: ApiClient
) -> None:
    """[L1] The signature is good, and what it signs is nothing that this one would have made."""
    binding = {"owner": str(alice.pk), "ordering": "-created_at"}
    cursor = Seal(binding).close(payload)

    details = assert_error(
        alice_client.get(LIST, query={"cursor": cursor}), 400, "VALIDATION_ERROR"
    )

    assert details["cursor"][0]["code"] == "invalid_cursor"


def test_pages_use_the_index_whatever_their_depth(alice: User, alice_client: ApiClient) -> None:
    """[L2] The whole comparison is an index condition; nothing is sorted, nothing is skipped."""
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", created_at=NOON + timedelta(seconds=n // 7))
        for n in range(2000)
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
    assert "tasks_task_user_live" in plan
    assert '"Node Type": "Sort"' not in plan
    assert "ROW(created_at, id) < ROW(" in plan
    assert "OFFSET" not in statement
    assert "COUNT" not in statement
