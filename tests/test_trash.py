"""[D1] The trash: what was deleted can be brought back, until it is purged."""

import re
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.db.models import F
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from todo_project.models import Clock
from todo_project.purging import purge_trash

LIST = "/api/me/tasks"
TRASH = "/api/me/trash"
CHANGES = "/api/me/changes"
MEBIBYTE = 1024 * 1024


def create(client: ApiClient, title: str = "x", **fields: Any) -> Any:
    return data_of(client.post(LIST, {"title": title, **fields}), 201)


def trash(client: ApiClient, task: Any) -> None:
    assert client.delete(f"{LIST}/{task['id']}").status_code == 204


def trashed_ids(client: ApiClient) -> list[str]:
    return [row["id"] for row in data_of(client.get(TRASH))]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_trash_lists_what_was_deleted(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[D1] As it was, when, and until when."""
    kept = create(alice_client, "kept")
    task = create(alice_client, "gone", description="y", is_completed=True)
    trash(alice_client, task)

    with django_assert_num_queries(1):
        (row,) = data_of(alice_client.get(TRASH))

    assert (row["type"], row["id"]) == ("task", task["id"])
    changed = {"version", "etag"}
    assert row["resource"].keys() == task.keys()
    for name in task.keys() - changed:
        assert row["resource"][name] == task[name], name
    assert row["resource"]["version"] == task["version"] + 1
    assert timezone.now() - moment(row["deleted_at"]) < timedelta(minutes=5)
    assert moment(row["purge_at"]) - moment(row["deleted_at"]) == timedelta(days=30)
    assert data_of(alice_client.get(LIST)) == [kept]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", b""),
        ("HEAD", "", b""),
        ("PUT", "", {"title": "y"}),
        ("PATCH", "", {"title": "y"}),
        ("PATCH", "", {}),
        ("PATCH", "/complete", b""),
        ("DELETE", "", b""),
    ],
    ids=str,
)
def test_trashed_task_is_not_there(
    method: str, path: str, body: Any, alice: User, alice_client: ApiClient
) -> None:
    """[D1] As one that never was; a second DELETE, too."""
    task = create(alice_client, is_completed=True)
    trash(alice_client, task)
    before = (Clock.objects.get(user=alice).version, list(Task.objects.values()))

    response = alice_client.call(method, f"{LIST}/{task['id']}{path}", body)

    never = alice_client.call(method, f"{LIST}/{uuid4()}{path}", body)
    assert response.status_code == never.status_code == 404
    ids = re.compile(rb'"request_id":"[^"]*"')
    assert ids.sub(b"", response.content) == ids.sub(b"", never.content)
    assert (Clock.objects.get(user=alice).version, list(Task.objects.values())) == before
    query = {"total": "true", "is_completed": "true", "search": "x"}
    listed = alice_client.get(LIST, query=query)
    assert (data_of(listed), meta_of(listed)["total"]) == ([], 0)


def test_restore_brings_it_back_as_it_was(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[D1] With its times; `updated_at` too, for nothing of it was changed."""
    task = create(alice_client, description="y", is_completed=True)
    trash(alice_client, task)
    address = f"{LIST}/{task['id']}/restore"

    with django_assert_num_queries(1):
        response = alice_client.post(address)

    data = data_of(response)
    assert {**data, "version": 0, "etag": ""} == {**task, "version": 0, "etag": ""}
    assert data["version"] == task["version"] + 2
    assert data_of(alice_client.get(f"{LIST}/{task['id']}")) == data
    assert data_of(alice_client.get(LIST)) == [data]
    assert data_of(alice_client.get(TRASH)) == []
    assert data_of(alice_client.post(address, {})) == data  # not in the trash: as it is


@pytest.mark.parametrize("prefix", ["/api/me", "/users/me"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_restore_under_both_prefixes(prefix: str, slash: str, alice_client: ApiClient) -> None:
    """[R2] [R3]"""
    task = create(alice_client)
    trash(alice_client, task)

    response = alice_client.post(f"{prefix}/tasks/{task['id'].upper()}/restore{slash}")

    assert data_of(response)["id"] == task["id"]


def test_restore_takes_no_body(alice_client: ApiClient) -> None:
    """[B4]"""
    task = create(alice_client)
    trash(alice_client, task)
    address = f"{LIST}/{task['id']}/restore"

    for response, name in [
        (alice_client.post(address, {"title": "y"}), "title"),
        (alice_client.post(f"{address}?x=1"), "x"),
    ]:
        assert list(assert_error(response, 400, "VALIDATION_ERROR")) == [name]
    assert trashed_ids(alice_client) == [task["id"]]


@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
@pytest.mark.parametrize("value", ["true", "false"])
def test_permanent_deletion(value: str, is_trashed: bool, alice_client: ApiClient) -> None:
    """[D1] From the trash, too. `false` is as if it were left out."""
    task = create(alice_client)
    if is_trashed:
        trash(alice_client, task)
    address = f"{LIST}/{task['id']}"

    response = alice_client.delete(f"{address}?permanent={value}")

    is_done = value == "true" or not is_trashed
    assert response.status_code == (204 if is_done else 404)
    assert Task.objects.count() == (0 if value == "true" else 1)
    assert len(trashed_ids(alice_client)) == (0 if value == "true" else 1)
    if value == "true":
        assert_error(alice_client.post(f"{address}/restore"), 404, "NOT_FOUND")
        assert_error(alice_client.delete(f"{address}?permanent=true"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "query", ["permanent=1", "permanent=True", "permanent=", "permanently=true"]
)
def test_permanent_is_true_or_false(query: str, alice_client: ApiClient) -> None:
    """[B4] Nothing is deleted by a slip."""
    task = create(alice_client)

    response = alice_client.delete(f"{LIST}/{task['id']}?{query}")

    assert list(assert_error(response, 400, "VALIDATION_ERROR")) == [query.partition("=")[0]]
    assert data_of(alice_client.get(LIST)) == [task]


def test_trash_is_the_callers_own(alice_client: ApiClient, bob_client: ApiClient) -> None:
    """[D1]"""
    task = create(alice_client)
    trash(alice_client, task)

    assert data_of(bob_client.get(TRASH)) == []
    address = f"{LIST}/{task['id']}"
    assert_error(bob_client.post(f"{address}/restore"), 404, "NOT_FOUND")
    assert_error(bob_client.delete(f"{address}?permanent=true"), 404, "NOT_FOUND")
    assert trashed_ids(alice_client) == [task["id"]]


def test_trash_needs_its_person(alice: User, alice_client: ApiClient, bob: User) -> None:
    """[S3] [R1]"""
    assert_error(alice_client.get(f"/api/{bob.pk}/trash"), 403, "PERMISSION_DENIED")
    assert data_of(alice_client.get(f"/api/{alice.pk}/trash/")) == []
    assert_error(ApiClient().get(TRASH), 401, "NOT_AUTHENTICATED")
    assert_error(alice_client.post(TRASH), 405, "METHOD_NOT_ALLOWED")
    Session.objects.filter(user=alice).end()
    assert_error(alice_client.get(TRASH), 401, "TOKEN_INVALID")


# --- Pages ------------------------------------------------------------------------------------


@pytest.fixture
def many(alice: User, alice_client: ApiClient) -> list[str]:
    """Ids of what is in the trash, as it is listed; some deleted at the same time."""
    tasks = Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(12))
    begin = timezone.now() - timedelta(days=1)
    for n, task in enumerate(tasks):
        deleted_at = begin + timedelta(microseconds=n // 3)
        Task.objects.filter(pk=task.pk).update(deleted_at=deleted_at)
    create(alice_client)
    rows = Task.objects.exclude(deleted_at=None).order_by("-deleted_at", "-id")
    return [str(row.pk) for row in rows]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 12, 200])
def test_pages_of_the_trash(limit: int, many: list[str], alice_client: ApiClient) -> None:
    """[D1] [L2] Each once, the newest first, ties by id; Link and cursor lead to the same."""
    found, query = [], {"limit": limit}
    for turn in count():
        response = alice_client.get(TRASH, query=query)
        meta = meta_of(response)
        page = data_of(response)
        found += [row["id"] for row in page]
        assert meta["limit"] == limit
        assert len(page) == limit or meta["next_cursor"] is None
        if meta["next_cursor"] is None:
            assert "Link" not in response
            break
        link = re.fullmatch(r'<([^>]*)>; rel="next"', response["Link"])
        assert link
        query = {"limit": limit, "cursor": meta["next_cursor"]}
        following = data_of(alice_client.get(link[1]))
        assert following == data_of(alice_client.get(TRASH, query=query))
        assert urlsplit(link[1]).path.startswith("/api/")
        assert turn < len(many)
    assert found == many


def test_walk_of_the_trash_while_others_write(many: list[str], alice_client: ApiClient) -> None:
    """[L2] What stood still comes exactly once."""
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while query.get("cursor", "") is not None:
        response = alice_client.get(TRASH, query=query)
        found += [row["id"] for row in data_of(response)]
        query["cursor"] = meta_of(response)["next_cursor"]
        trash(alice_client, create(alice_client))
        alice_client.post(f"{LIST}/{found[-1]}/restore")
    assert found == many


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "x"},
        {"cursor": "x" * 5000},
        {"cursor": "W10.AAAA"},
        {"cursor": "é"},
        {"cursor": ""},
        {"limit": 0},
        {"limit": 201},
        {"limit": "x"},
        {"total": "true"},
        {"ordering": "title"},
    ],
    ids=str,
)
def test_trash_takes_no_other_parameter(query: dict[str, Any], alice_client: ApiClient) -> None:
    """[L1] [B4]"""
    details = assert_error(alice_client.get(TRASH, query=query), 400, "VALIDATION_ERROR")

    assert list(details) == list(query)


def test_cursors_of_the_trash_are_bound(
    many: list[str], alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[L1] To the caller, and to the trash."""
    cursor = meta_of(alice_client.get(TRASH, query={"limit": 2}))["next_cursor"]
    create(alice_client)
    listed = meta_of(alice_client.get(LIST, query={"limit": 1}))["next_cursor"]
    since = meta_of(alice_client.get(CHANGES))["next_since"]

    for client, path, query in [
        (bob_client, TRASH, {"cursor": cursor}),
        (alice_client, LIST, {"cursor": cursor}),
        (alice_client, TRASH, {"cursor": listed}),
        (alice_client, TRASH, {"cursor": since}),
        (alice_client, CHANGES, {"since": cursor}),
        (alice_client, TRASH, {"cursor": f"{cursor[:-1]}{'A' if cursor[-1] != 'A' else 'B'}"}),
    ]:
        details = assert_error(client.get(path, query=query), 400, "VALIDATION_ERROR")
        ((fault,),) = details.values()
        assert fault["code"] == "invalid_cursor"
    assert len(data_of(alice_client.get(TRASH, query={"cursor": cursor, "limit": 200}))) == 10


def test_page_of_the_trash_ends_before_a_mebibyte(alice: User, alice_client: ApiClient) -> None:
    """[L5]"""
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", description="🎉" * 20_000) for n in range(20)
    )
    Task.objects.update(deleted_at=F("created_at"))

    response = alice_client.get(TRASH, query={"limit": 200})

    assert 0.9 * MEBIBYTE < len(response.content) < 1.1 * MEBIBYTE
    assert meta_of(response)["next_cursor"] is not None


# --- The end ----------------------------------------------------------------------------------


@pytest.fixture
def purge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `purge_expired` does with the trash, within the test's transaction."""
    monkeypatch.setattr("todo_project.purging._DATABASE", "default")
    return lambda: purge_trash(Task, batch_rows=2)


def test_trash_is_purged_after_30_days(alice: User, alice_client: ApiClient, purge: Any) -> None:
    """[D1] [F1] For good, and those who follow have known it as deleted since it was."""
    tasks = [create(alice_client, f"{n}") for n in range(4)]
    since = meta_of(alice_client.get(CHANGES))["next_since"]
    for task in tasks[:3]:
        trash(alice_client, task)
    before = data_of(alice_client.get(CHANGES, query={"since": since}))
    for task, days in zip(tasks[:2], (30.01, 29.99), strict=True):
        row = Task.objects.filter(pk=task["id"])
        row.update(deleted_at=timezone.now() - timedelta(days=days), version=F("version"))
    clock = Clock.objects.get(user=alice).version

    assert purge() == 1

    assert trashed_ids(alice_client) == [tasks[2]["id"], tasks[1]["id"]]
    assert_error(alice_client.post(f"{LIST}/{tasks[0]['id']}/restore"), 404, "NOT_FOUND")
    assert Clock.objects.get(user=alice).version == clock
    after = data_of(alice_client.get(CHANGES, query={"since": since}))
    assert {row["id"] for row in after if row["deleted"]} == {row["id"] for row in before}


@pytest.mark.parametrize("is_permanent", [False, True], ids=["trashed", "purged"])
def test_account_goes_with_its_trash(
    is_permanent: bool, alice: User, alice_client: ApiClient
) -> None:
    task = create(alice_client)
    trash(alice_client, task)
    if is_permanent:
        alice_client.delete(f"{LIST}/{task['id']}?permanent=true")

    alice.delete()

    assert not Task.objects.exists()
