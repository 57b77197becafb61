"""What can be done with a task, and what it costs the database."""

import threading
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import begin_session
from tests.processes import PATIENCE_S
from todo_project.models import Clock


def test_create_answers_the_row(alice: User, alice_client: ApiClient) -> None:
    """[T1] [B1] [V1] Trimmed title, untrimmed description, the database's clock, a Location."""
    response = alice_client.post(
        "/api/me/tasks", {"title": " \t Buy milk\n", "description": "  two litres "}
    )

    data = data_of(response, 201)
    row = Task.objects.get()
    assert data == {
        "id": str(row.pk),
        "user_id": str(alice.pk),
        "title": "Buy milk",
        "description": "  two litres ",
        "is_completed": False,
        "completed_at": None,
        "priority": "none",
        "labels": [],
        "due_on": None,
        "due_time": None,
        "time_zone": None,
        "due_at": None,
        "start_on": None,
        "list_id": None,
        "parent_id": None,
        "position": f"{2:012x}",
        "recurrence": None,
        "repeat_from": "due",
        "series_id": None,
        "next_task_id": None,
        "occurrence_on": None,
        "series_start_on": None,
        "created_at": _written(row.created_at),
        "updated_at": _written(row.created_at),
        "version": 2,
        "etag": response["ETag"],
    }
    assert row.version == Clock.objects.get(user=alice).version
    assert row.pk.version == 7
    assert response["Location"] == f"/api/{alice.pk}/tasks/{row.pk}"
    assert data_of(alice_client.get(response["Location"])) == data


def test_create_completed(alice_client: ApiClient) -> None:
    data = data_of(alice_client.post("/api/me/tasks", {"title": "x", "is_completed": True}), 201)

    row = Task.objects.get()
    assert data["is_completed"] is True
    assert data["completed_at"] == _written(row.completed_at) == data["created_at"]


@pytest.mark.parametrize(
    ("body", "title", "description"),
    [
        pytest.param({"title": "a" * 255}, "a" * 255, None, id="longest title"),
        pytest.param({"title": f" {'a' * 255} "}, "a" * 255, None, id="longest after trimming"),
        pytest.param({"title": "𝕬🎉é"}, "𝕬🎉é", None, id="beyond the basic plane"),
        pytest.param({"title": "\\u0000"}, "\\u0000", None, id="a backslash is a backslash"),
        pytest.param({"title": "x", "description": ""}, "x", "", id="empty description"),
        pytest.param({"title": "x", "description": None}, "x", None, id="null description"),
        pytest.param({"title": "x", "description": "b" * 20_000}, "x", "b" * 20_000, id="longest"),
    ],
)
def test_create_accepts(
    body: dict[str, Any], title: str, description: str | None, alice_client: ApiClient
) -> None:
    data = data_of(alice_client.post("/api/me/tasks", body), 201)

    assert (data["title"], data["description"]) == (title, description)


def test_replace_keeps_what_is_left_out(alice_client: ApiClient, task: Task) -> None:
    data = data_of(alice_client.put(f"/api/me/tasks/{task.pk}", {"title": "Buy oats"}))

    assert (data["title"], data["description"]) == ("Buy oats", "Two litres")


def test_replace_requires_the_title(alice_client: ApiClient, task: Task) -> None:
    details = assert_error(
        alice_client.put(f"/api/me/tasks/{task.pk}", {"description": "x"}), 400, "VALIDATION_ERROR"
    )

    assert details["title"][0]["code"] == "required"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_read_task_can_be_sent_back(method: str, alice_client: ApiClient, task: Task) -> None:
    """[B4] Read-only fields are accepted, without effect."""
    path = f"/api/me/tasks/{task.pk}"
    read = data_of(alice_client.get(path))
    forged = {**read, "created_at": "2001-01-01T00:00:00Z", "completed_at": "nonsense", "id": 5}

    assert data_of(alice_client.call(method, path, read)) == read
    assert data_of(alice_client.call(method, path, forged)) == read


def test_update_changes_only_what_is_sent(alice_client: ApiClient, task: Task) -> None:
    """[T4] [T1]"""
    data = data_of(alice_client.patch(f"/api/me/tasks/{task.pk}", {"description": None}))

    assert (data["title"], data["description"]) == ("Buy milk", None)
    assert data["updated_at"] > data["created_at"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("PATCH", "", {}, id="empty"),
        pytest.param("PATCH", "", {"title": " Buy milk "}, id="same title"),
        pytest.param("PUT", "", {"title": "Buy milk", "description": "Two litres"}, id="same"),
        pytest.param("PATCH", "", {"is_completed": False}, id="open already"),
        pytest.param("PATCH", "/complete", {"is_completed": False}, id="reopened already"),
    ],
)
def test_write_that_changes_nothing_leaves_updated_at(
    method: str, path: str, body: dict[str, Any], alice_client: ApiClient, task: Task
) -> None:
    """[T1]"""
    before = data_of(alice_client.get(f"/api/me/tasks/{task.pk}"))

    assert data_of(alice_client.call(method, f"/api/me/tasks/{task.pk}{path}", body)) == before


def test_update_from_null_to_null_changes_nothing(alice: User, alice_client: ApiClient) -> None:
    task = Task.objects.create(user_id=alice.pk, title="x")

    data = data_of(alice_client.patch(f"/api/me/tasks/{task.pk}", {"description": None}))

    assert data["updated_at"] == data["created_at"]


def test_update_from_null_to_text(alice: User, alice_client: ApiClient) -> None:
    task = Task.objects.create(user_id=alice.pk, title="x")

    data = data_of(alice_client.patch(f"/api/me/tasks/{task.pk}", {"description": "y"}))

    assert data["description"] == "y"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="no body"),
        pytest.param({}, id="empty object"),
        pytest.param({"is_completed": True}, id="true"),
    ],
)
def test_complete_is_set_and_can_be_repeated(
    body: Any, alice_client: ApiClient, task: Task
) -> None:
    path = f"/api/me/tasks/{task.pk}/complete"

    first = data_of(alice_client.patch(path, body))
    second = data_of(alice_client.patch(path, body))

    assert first["is_completed"] is True
    assert first["completed_at"] == first["updated_at"] > first["created_at"]
    assert second == first


def test_complete_reopens(alice_client: ApiClient, task: Task) -> None:
    path = f"/api/me/tasks/{task.pk}/complete"
    alice_client.patch(path)

    data = data_of(alice_client.patch(path, {"is_completed": False}))

    assert (data["is_completed"], data["completed_at"]) == (False, None)


def test_completing_by_update_keeps_the_first_time(alice_client: ApiClient, task: Task) -> None:
    path = f"/api/me/tasks/{task.pk}"
    completed = data_of(alice_client.patch(path, {"is_completed": True}))

    data = data_of(alice_client.patch(path, {"is_completed": True, "title": "Bought milk"}))

    assert data["completed_at"] == completed["completed_at"]
    assert data["updated_at"] > completed["updated_at"]


def test_delete_answers_nothing_and_keeps_the_row(alice_client: ApiClient, task: Task) -> None:
    """[D1] It lies in the trash, where no other route of tasks sees it."""
    path = f"/api/me/tasks/{task.pk}"

    response = alice_client.delete(path)

    assert (response.status_code, response.content) == (204, b"")
    assert "Content-Type" not in response
    assert "Content-Length" not in response
    task.refresh_from_db()
    assert task.deleted_at is not None
    assert (task.title, task.description) == ("Buy milk", "Two litres")
    assert_error(alice_client.get(path), 404, "NOT_FOUND")
    assert_error(alice_client.delete(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "", None, id="read"),
        pytest.param("PUT", "", {"title": "y"}, id="replace"),
        pytest.param("PATCH", "", {"title": "y"}, id="update"),
        pytest.param("PATCH", "", {}, id="update of nothing"),
        pytest.param("PATCH", "/complete", {}, id="complete"),
        pytest.param("DELETE", "", None, id="delete"),
        pytest.param("DELETE", "?permanent=true", None, id="purge"),
        pytest.param("POST", "/restore", None, id="restore"),
    ],
)
def test_one_statement_for_one_task(
    method: str,
    path: str,
    body: Any,
    alice_client: ApiClient,
    task: Task,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """The check of the session, the count of a write and the work: one round trip."""
    with django_assert_num_queries(1):
        response = alice_client.call(
            method, f"/api/me/tasks/{task.pk}{path}", b"" if body is None else body
        )

    assert response.status_code in (200, 204)


def test_one_statement_to_create(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        data_of(alice_client.post("/api/me/tasks", {"title": "x", "is_completed": True}), 201)


@pytest.mark.parametrize("query", [{}, {"total": "true"}], ids=["list", "with total"])
@pytest.mark.parametrize("rows", [0, 1, 50])
def test_one_statement_to_list(
    rows: int,
    query: dict[str, str],
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(rows))

    with django_assert_num_queries(1):
        assert len(data_of(alice_client.get("/api/me/tasks", query=query))) == rows


@pytest.mark.django_db(transaction=True)
def test_simultaneous_updates_of_different_fields_both_survive(alice: User, task: Task) -> None:
    """[T4] Real threads with connections of their own, one field each, 20 times."""
    access = begin_session(alice).access
    barrier = threading.Barrier(2)
    statuses: list[int] = []

    def change(field: str) -> None:
        client = ApiClient(access)
        try:
            for turn in range(20):
                barrier.wait(PATIENCE_S)
                response = client.patch(f"/api/me/tasks/{task.pk}", {field: f"{field} {turn}"})
                statuses.append(response.status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(f,)) for f in ("title", "description")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    task.refresh_from_db()
    assert statuses == [200] * 40
    assert (task.title, task.description) == ("title 19", "description 19")


def test_account_deleted_meanwhile_refuses_the_task(alice: User, alice_client: ApiClient) -> None:
    """Nothing of a person is left behind by a request that was under way when they went."""

    def delete_before_insert(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT INTO tasks_task" in sql:
            User.objects.filter(pk=alice.pk).delete()
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(delete_before_insert):
        response = alice_client.post("/api/me/tasks", {"title": "x"})
        transaction.set_rollback(True)

    assert_error(response, 401, "TOKEN_INVALID")


def _written(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
