"""Lists of tasks: what they take, and how tasks are in them, go with them and come back."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User
from tasks.models import LISTS_MAX, Task, TaskList
from tests.client import ApiClient, Browser, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import at_once, meeting
from tests.wire import counted_round_trips, needs_prepared_statements
from todo_project.environment import Rate
from todo_project.models import Change, Clock, Purged

LISTS = "/api/me/lists"
TASKS = "/api/me/tasks"
TRASH = "/api/me/trash"
CHANGES = "/api/me/changes"
BATCH = "/api/me/batch"

together = pytest.mark.django_db(transaction=True)


def new_list(client: ApiClient, name: str = "Groceries", **fields: Any) -> Any:
    return data_of(client.post(LISTS, {"name": name, **fields}), 201)


def new_task(client: ApiClient, title: str = "Buy milk", **fields: Any) -> Any:
    return data_of(client.post(TASKS, {"title": title, **fields}), 201)


def read(client: ApiClient, path: str) -> Any:
    return data_of(client.get(path))


def titles(client: ApiClient, **query: Any) -> list[str]:
    return [task["title"] for task in data_of(client.get(TASKS, query=query))]


def trashed(client: ApiClient) -> list[tuple[str, str]]:
    return [(row["type"], row["id"]) for row in read(client, TRASH)]


def delete(client: ApiClient, row: Any, query: str = "") -> None:
    segment = "lists" if "name" in row else "tasks"
    response = client.delete(f"/api/me/{segment}/{row['id']}{query}")
    assert response.status_code == 204, response.content


def clock(user: User) -> int:
    return Clock.objects.get(user=user).version


def without_version(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if name not in ("version", "etag")}


# --- The fields of a list ---------------------------------------------------------------------


def test_list_has_its_fields(alice: User, alice_client: ApiClient) -> None:
    before = clock(alice)

    response = alice_client.post(LISTS, {"name": "  Groceries "})

    row = data_of(response, 201)
    assert row.keys() == {
        *("id", "user_id", "name", "color", "position", "is_archived"),
        *("created_at", "updated_at", "version", "etag"),
    }
    assert row["user_id"] == str(alice.pk)
    assert (row["name"], row["color"], row["is_archived"]) == ("Groceries", None, False)
    assert row["version"] == before + 1
    assert row["position"] == f"{row['version']:012x}"
    assert response["Location"] == f"/api/{alice.pk}/lists/{row['id']}"
    assert response["ETag"] == row["etag"]
    assert read(alice_client, f"{LISTS}/{row['id']}") == row
    assert read(alice_client, LISTS) == [row]


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param({"name": "x" * 150}, {}, id="150 characters"),
        pytest.param({"color": "#1E90fF"}, {"color": "#1e90ff"}, id="color in capitals"),
        pytest.param({"color": "#000000"}, {}, id="black"),
        pytest.param({"color": None}, {}, id="no color"),
        pytest.param({"is_archived": True}, {}, id="archived"),
        pytest.param({"position": "0"}, {"position": None}, id="position is the server's"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_fields_are_kept(
    method: str, sent: Mapping[str, Any], answered: Mapping[str, Any], alice_client: ApiClient
) -> None:
    there = new_list(alice_client)
    path = LISTS if method == "POST" else f"{LISTS}/{there['id']}"

    response = alice_client.call(method, path, {"name": "y", **sent})

    row = data_of(response, 201 if method == "POST" else 200)
    expected = {"name": "y", **sent, **answered}
    if "position" in expected:
        last = row["version"] if method == "POST" else there["version"]
        expected["position"] = f"{last:012x}"
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("sent", "field", "code"),
    [
        pytest.param({"name": ""}, "name", "blank", id="no name"),
        pytest.param({"name": "\u200b"}, "name", "blank", id="invisible"),
        pytest.param({"name": "a\nb"}, "name", "control_characters", id="two lines"),
        pytest.param({"name": "a" + "\u0301" * 31}, "name", "combining_marks", id="marks"),
        pytest.param({"name": "x" * 151}, "name", "max_length", id="151 characters"),
        pytest.param({"name": None}, "name", "null", id="null as name"),
        pytest.param({"color": "red"}, "color", "color", id="a name of a color"),
        pytest.param({"color": "#fff"}, "color", "color", id="three digits"),
        pytest.param({"color": "#1e90ff\n"}, "color", "color", id="a line feed"),
        pytest.param({"color": ""}, "color", "blank", id="an empty color"),
        pytest.param({"color": 0x1E90FF}, "color", "invalid", id="a number"),
        pytest.param({"is_archived": None}, "is_archived", "null", id="null as flag"),
        pytest.param({"title": "x"}, "title", "unknown", id="a field of tasks"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_no_list_is_refused(
    method: str, sent: Mapping[str, Any], field: str, code: str, alice_client: ApiClient
) -> None:
    """[B4] By the name of the field."""
    path = LISTS if method == "POST" else f"{LISTS}/{new_list(alice_client)['id']}"
    sent = {"name": "y", **sent} if method == "POST" else sent

    details = assert_error(alice_client.call(method, path, sent), 400, "VALIDATION_ERROR")

    assert {name: [fault["code"] for fault in faults] for name, faults in details.items()} == {
        field: [code]
    }


def test_lists_are_sorted_and_filtered(alice_client: ApiClient) -> None:
    """[L3] By default in their manual order: as they were made."""
    names = ["banana", "Apple", "ápple pie"]
    rows = [new_list(alice_client, name, is_archived=name == "Apple") for name in names]

    def found(**query: Any) -> list[str]:
        return [row["name"] for row in data_of(alice_client.get(LISTS, query=query))]

    assert found() == found(ordering="position") == names
    assert found(ordering="name") == ["Apple", "ápple pie", "banana"]
    assert found(ordering="-created_at") == names[::-1]
    assert found(is_archived="true") == ["Apple"]
    assert found(ids=f"{rows[2]['id']},{rows[0]['id']},{uuid4()}") == ["banana", "ápple pie"]
    first = alice_client.get(LISTS, query={"limit": 2, "total": "true"})
    assert meta_of(first)["total"] == 3
    assert found(limit=2, cursor=meta_of(first)["next_cursor"]) == names[2:]


def test_list_is_conditional_and_repeatable(alice_client: ApiClient) -> None:
    """[V2] [I1] As everything that is a person's."""
    row = new_list(alice_client)
    path = f"{LISTS}/{row['id']}"

    assert alice_client.get(path, if_none_match=row["etag"]).status_code == 304
    changed = data_of(alice_client.patch(path, {"name": "Food"}, if_match=row["etag"]))
    stale = alice_client.patch(path, {"name": "Fruit"}, if_match=row["etag"])
    assert assert_error(stale, 412, "PRECONDITION_FAILED")["current"] == changed
    again = [alice_client.post(LISTS, {"name": "Once"}, idempotency_key="k") for _ in range(2)]
    assert data_of(again[0], 201) == data_of(again[1], 201)
    assert again[1]["Idempotent-Replayed"] == "true"
    chosen = f"{LISTS}/{uuid4()}"
    assert data_of(alice_client.put(chosen, {"name": "Mine"}, if_none_match="*"), 201)
    assert_error(
        alice_client.put(chosen, {"name": "Mine"}, if_none_match="*"), 412, "PRECONDITION_FAILED"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "queries"),
    [
        pytest.param("GET", "", None, 1, id="list"),
        pytest.param("POST", "", {"name": "x"}, 1, id="create"),
        pytest.param("GET", "/{id}", None, 1, id="read"),
        pytest.param("PATCH", "/{id}", {"name": "x"}, 1, id="update"),
        pytest.param("PUT", "/{id}", {"name": "x"}, 1, id="replace"),
        pytest.param("DELETE", "/{id}", None, 1, id="delete"),
        pytest.param("DELETE", "/{id}?permanent=true", None, 1, id="purge"),
        pytest.param("POST", "/{id}/restore", None, 1, id="restore"),
        # The opening and the work, which go together: see below.
        pytest.param("DELETE", "/{id}?tasks=keep", None, 2, id="keep"),
        pytest.param("DELETE", "/{id}?tasks=keep&permanent=true", None, 2, id="keep, purge"),
    ],
)
def test_each_is_one_statement_however_many_tasks(
    method: str,
    path: str,
    body: Any,
    queries: int,
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    row = new_list(alice_client)
    Task.objects.bulk_create(Task(user=alice, title="x", list_id=row["id"]) for _ in range(20))

    with django_assert_num_queries(queries):
        sent = [] if body is None else [body]
        response = alice_client.call(method, LISTS + path.format(id=row["id"]), *sent)

    assert response.status_code in (200, 201, 204), response.content


@together
@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "k"}], ids=["bare", "keyed"])
@pytest.mark.parametrize(
    "query",
    [
        *("", "?permanent=true"),
        pytest.param("?tasks=keep", marks=needs_prepared_statements),
        pytest.param("?tasks=keep&permanent=true", marks=needs_prepared_statements),
    ],
)
def test_deletion_takes_one_round_trip(
    query: str, headers: dict[str, str], alice: User, alice_client: ApiClient
) -> None:
    """However many tasks go with it."""
    rows = [new_list(alice_client, f"{n}") for n in range(3)]
    for row in rows:
        Task.objects.bulk_create(Task(user=alice, title="x", list_id=row["id"]) for _ in range(20))
    for n, row in enumerate(rows[:2]):  # prepares
        headers = {name: f"{value}{n}" for name, value in headers.items()}
        alice_client.delete(f"{LISTS}/{row['id']}{query}", **headers)

    with counted_round_trips(connection.connection) as round_trips:
        headers = {name: f"{value}-last" for name, value in headers.items()}
        response = alice_client.delete(f"{LISTS}/{rows[2]['id']}{query}", **headers)
        assert (response.status_code, round_trips()) == (204, 1)


# --- At most so many --------------------------------------------------------------------------


def fill(user: User, most: int) -> Sequence[TaskList]:
    return TaskList.objects.bulk_create(TaskList(user=user, name=f"{n}") for n in range(most))


@together
def test_one_too_many_is_refused(alice: User, bob: User, alice_client: ApiClient) -> None:
    """[O1] What lies in the trash doesn't count; nor do other people's."""
    fill(bob, 3)
    (gone, *_) = fill(alice, LISTS_MAX)
    before = clock(alice)

    response = alice_client.post(LISTS, {"name": "One more"})

    assert_error(response, 409, "CONFLICT")
    assert str(LISTS_MAX) in json.loads(response.content)["error"]["message"]
    chosen = alice_client.put(f"{LISTS}/{uuid4()}", {"name": "x"}, if_none_match="*")
    assert_error(chosen, 409, "CONFLICT")
    operation = {"op": "create", "type": "list", "data": {"name": "x"}}
    outcome = data_of(alice_client.post(BATCH, {"operations": [operation], "atomic": False}))
    assert outcome[0]["error"]["code"] == "CONFLICT"
    assert clock(alice) == before
    delete(alice_client, {"id": gone.pk, "name": gone.name})
    new_list(alice_client, "One more")
    assert_error(alice_client.post(f"{LISTS}/{gone.pk}/restore"), 409, "CONFLICT")


@together
def test_no_race_makes_one_too_many(alice: User) -> None:
    fill(alice, LISTS_MAX - 1)
    clients = [ApiClient(begin_session(alice).access) for _ in range(6)]

    responses = meeting(
        [alice], *(partial(client.post, LISTS, {"name": "x"}) for client in clients)
    )

    assert sorted(response.status_code for response in responses) == [201, *[409] * 5]
    assert TaskList.objects.filter(user=alice).count() == LISTS_MAX


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"color": "#1E90FF"}, id="color in capitals"),
        pytest.param({"color": "red"}, id="no color"),
        pytest.param({"name": "a\nb"}, id="two lines"),
        pytest.param({"name": " "}, id="blank"),
    ],
)
def test_table_refuses_it_whoever_writes(fields: Mapping[str, Any], alice: User) -> None:
    """[T2]"""
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskList.objects.create(**{"user": alice, "name": "x", **fields})


# --- The list of a task -----------------------------------------------------------------------


def test_task_is_in_the_inbox_or_in_a_list(alice_client: ApiClient) -> None:
    row, other = new_list(alice_client), new_list(alice_client, "Other")
    loose = new_task(alice_client, "loose")
    task = new_task(alice_client, "in", list_id=row["id"].upper())

    assert (loose["list_id"], task["list_id"]) == (None, row["id"])
    assert titles(alice_client, list_id=row["id"].upper()) == ["in"]
    assert titles(alice_client, list_id="inbox") == ["loose"]
    assert titles(alice_client, list_id=other["id"]) == []
    assert titles(alice_client, list_id=uuid4()) == []
    path = f"{TASKS}/{task['id']}"
    moved = data_of(alice_client.patch(path, {"list_id": other["id"]}))
    assert (moved["list_id"], moved["position"]) == (other["id"], task["position"])
    assert moved["version"] == task["version"] + 1
    assert data_of(alice_client.patch(path, {"list_id": other["id"]})) == moved
    assert data_of(alice_client.put(path, {"title": "in"})) == moved
    assert data_of(alice_client.patch(path, {"list_id": None}))["list_id"] is None
    assert titles(alice_client, list_id="inbox", ordering="position") == ["loose", "in"]


@pytest.mark.parametrize("value", ["x", "", "Inbox", "none", "{hex}"])
def test_filter_says_what_is_valid(value: str, alice_client: ApiClient) -> None:
    """[B4] [B5]"""
    value = value.format(hex=uuid4().hex)

    details = assert_error(
        alice_client.get(TASKS, query={"list_id": value}), 400, "VALIDATION_ERROR"
    )

    assert list(details) == ["list_id"]


def test_pages_of_the_inbox_go_on(alice_client: ApiClient) -> None:
    """[L1] [L2] A cursor is bound to the filter, null or not."""
    row = new_list(alice_client)
    for n in range(3):
        new_task(alice_client, f"{n}")
        new_task(alice_client, f"in {n}", list_id=row["id"])
    query = {"list_id": "inbox", "ordering": "position", "limit": 2}
    first = alice_client.get(TASKS, query=query)
    cursor = meta_of(first)["next_cursor"]

    assert [task["title"] for task in data_of(first)] == ["0", "1"]
    assert titles(alice_client, **query, cursor=cursor) == ["2"]
    assert_error(
        alice_client.get(TASKS, query={**query, "list_id": row["id"], "cursor": cursor}),
        400,
        "VALIDATION_ERROR",
    )


@together
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "batch", "update in a batch"])
@pytest.mark.parametrize("kind", ["absent", "another's", "trashed"])
def test_list_has_to_be_ones_own_and_living(
    kind: str, method: str, alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[R1] All alike."""
    row = TaskList.objects.create(user=bob if kind == "another's" else alice, name="x")
    if kind == "trashed":
        delete(alice_client, {"id": row.pk, "name": "x"})
    sent = {"title": "y", "list_id": str(uuid4() if kind == "absent" else row.pk)}
    task = new_task(alice_client)
    before = clock(alice)

    if "batch" in method:
        operation = {"op": "create", "data": sent}
        if "update" in method:
            operation = {"op": "update", "id": task["id"], "data": sent}
        body = {"operations": [operation], "atomic": False}
        ((outcome),) = data_of(alice_client.post(BATCH, body))
        assert outcome["status"] == 400
        details = outcome["error"]["details"]
    else:
        path = TASKS if method == "POST" else f"{TASKS}/{task['id']}"
        details = assert_error(alice_client.call(method, path, sent), 400, "VALIDATION_ERROR")

    assert details == {
        "list_id": [{"code": "absent", "message": "None of your lists, or it is in the trash."}]
    }
    assert clock(alice) == before
    assert read(alice_client, TASKS) == [task]


@pytest.mark.parametrize("value", [17, "inbox", "", "{}", True, []], ids=repr)
def test_list_id_is_a_uuid(value: Any, alice_client: ApiClient) -> None:
    """[B4]"""
    details = assert_error(
        alice_client.post(TASKS, {"title": "x", "list_id": value}), 400, "VALIDATION_ERROR"
    )

    assert [fault["code"] for fault in details["list_id"]] == ["invalid"]


@together
@pytest.mark.parametrize("kind", ["absent", "another's", "trashed"])
def test_database_keeps_people_and_trash_apart_whoever_writes(
    kind: str, alice: User, bob: User
) -> None:
    """[T2] SQL by hand, too."""
    row = TaskList.objects.create(user=bob if kind == "another's" else alice, name="x")
    if kind == "trashed":
        TaskList.objects.update(deleted_at=Now())
    list_id = uuid4() if kind == "absent" else row.pk
    task = Task.objects.create(user=alice, title="y")

    with pytest.raises(IntegrityError):
        Task.objects.create(user=alice, title="z", list_id=list_id)
    with pytest.raises(IntegrityError):
        Task.objects.filter(pk=task.pk).update(list_id=list_id)
    assert Task.objects.get().list_id is None


# --- Positions --------------------------------------------------------------------------------


def test_what_is_new_comes_last(alice: User, alice_client: ApiClient) -> None:
    """Whoever makes it; creations of one statement in their order."""
    titles_of_batch = [f"batch {n:02}" for n in range(20)]
    new_task(alice_client, "first")
    Task.objects.create(user=alice, title="by admin")
    operations = [{"op": "create", "data": {"title": title}} for title in titles_of_batch]
    data_of(alice_client.post(BATCH, {"operations": operations}))
    new_task(alice_client, "last")

    expected = ["first", "by admin", *titles_of_batch, "last"]
    assert titles(alice_client, ordering="position") == expected
    assert titles(alice_client, ordering="-position") == expected[::-1]
    positions = [task["position"] for task in data_of(alice_client.get(TASKS))]
    assert len(set(positions)) == len(positions)


# --- Trash ------------------------------------------------------------------------------------


@together
@pytest.mark.parametrize("by", ["route", "batch", "sql"])
def test_list_goes_with_its_tasks_and_comes_back(
    by: str, alice: User, alice_client: ApiClient
) -> None:
    """[O1] [D1] [V1] In one version each; what was trashed before stays there."""
    row, other = new_list(alice_client), new_list(alice_client, "Other")
    tasks = [new_task(alice_client, f"{n}", list_id=row["id"]) for n in range(3)]
    before_it = new_task(alice_client, "before it", list_id=row["id"])
    loose = new_task(alice_client, "loose")
    elsewhere = new_task(alice_client, "elsewhere", list_id=other["id"])
    delete(alice_client, before_it)
    before = clock(alice)

    def change(op: str) -> None:
        if by == "sql":
            deleted_at = Now() if op == "delete" else None
            TaskList.objects.filter(pk=row["id"]).update(deleted_at=deleted_at)
        elif by == "batch":
            operation = {"op": op, "type": "list", "id": row["id"]}
            data_of(alice_client.post(BATCH, {"operations": [operation]}))
        elif op == "delete":
            delete(alice_client, row)
        else:
            data_of(alice_client.post(f"{LISTS}/{row['id']}/restore"))

    change("delete")

    went = {("list", row["id"]), *(("task", task["id"]) for task in tasks)}
    assert set(trashed(alice_client)) == {*went, ("task", before_it["id"])}
    assert read(alice_client, LISTS) == [other]
    assert read(alice_client, TASKS) == [elsewhere, loose]
    assert clock(alice) == before + 1
    logged = Change.objects.filter(user=alice, version=before + 1)
    assert {(kind, str(row_id)) for kind, row_id in logged.values_list("type", "id")} == went

    change("restore")

    assert trashed(alice_client) == [("task", before_it["id"])]
    back = [read(alice_client, f"{TASKS}/{task['id']}") for task in tasks]
    assert list(map(without_version, back)) == list(map(without_version, tasks))
    restored = read(alice_client, f"{LISTS}/{row['id']}")
    assert without_version(restored) == without_version(row)
    assert {restored["version"], *(task["version"] for task in back)} == {before + 2}
    assert clock(alice) == before + 2
    logged = Change.objects.filter(user=alice, version=before + 2)
    assert {(kind, str(row_id)) for kind, row_id in logged.values_list("type", "id")} == went
    data_of(alice_client.post(f"{TASKS}/{before_it['id']}/restore"))
    assert titles(alice_client, list_id=row["id"]) == ["before it", "2", "1", "0"]


def test_what_is_edited_in_the_trash_comes_back_with_its_list(
    alice: User, alice_client: ApiClient
) -> None:
    """[D1] An operator's change makes another version."""
    row = new_list(alice_client)
    task = new_task(alice_client, list_id=row["id"])
    delete(alice_client, row)
    Task.objects.filter(pk=task["id"]).update(title="Edited")
    TaskList.objects.filter(pk=row["id"]).update(name="Edited")

    data_of(alice_client.post(f"{LISTS}/{row['id']}/restore"))

    assert titles(alice_client, list_id=row["id"]) == ["Edited"]


@pytest.mark.parametrize("by", ["route", "batch", "sql"])
def test_task_alone_comes_back_to_the_inbox(by: str, alice_client: ApiClient) -> None:
    """[D1] While its list is in the trash; and stays there when that comes back."""
    row = new_list(alice_client)
    task, other = (new_task(alice_client, title, list_id=row["id"]) for title in ("a", "b"))
    delete(alice_client, row)

    if by == "sql":
        Task.objects.filter(pk=task["id"]).update(deleted_at=None)
    elif by == "batch":
        operation = {"op": "restore", "id": task["id"]}
        (outcome,) = data_of(alice_client.post(BATCH, {"operations": [operation]}))
        assert outcome["data"]["list_id"] is None
    else:
        restored = data_of(alice_client.post(f"{TASKS}/{task['id']}/restore"))
        assert without_version(restored) == {**without_version(task), "list_id": None}

    assert titles(alice_client) == titles(alice_client, list_id="inbox") == ["a"]
    data_of(alice_client.post(f"{LISTS}/{row['id']}/restore"))
    assert titles(alice_client, list_id="inbox") == ["a"]
    assert titles(alice_client, list_id=row["id"]) == [other["title"]]


def test_tasks_are_kept_where_that_is_asked_for(alice: User, alice_client: ApiClient) -> None:
    """[D1] [V1] In the inbox, in one version with the list."""
    row = new_list(alice_client)
    tasks = [new_task(alice_client, f"{n}", list_id=row["id"]) for n in range(3)]
    gone = new_task(alice_client, "gone", list_id=row["id"])
    delete(alice_client, gone)
    before = clock(alice)

    delete(alice_client, row, "?tasks=keep")

    assert clock(alice) == before + 1
    assert trashed(alice_client) == [("list", row["id"]), ("task", gone["id"])]
    assert titles(alice_client, list_id="inbox") == ["2", "1", "0"]
    kept = read(alice_client, f"{TASKS}/{tasks[0]['id']}")
    assert (kept["version"], kept["position"]) == (before + 1, tasks[0]["position"])
    assert kept["updated_at"] > tasks[0]["updated_at"]
    logged = Change.objects.filter(user=alice, version=before + 1).values_list("type", "id")
    assert len(set(logged)) == 4
    data_of(alice_client.post(f"{LISTS}/{row['id']}/restore"))
    assert titles(alice_client, list_id=row["id"]) == []
    data_of(alice_client.post(f"{TASKS}/{gone['id']}/restore"))
    assert titles(alice_client, list_id=row["id"]) == ["gone"]


@pytest.mark.parametrize(
    "query", ["?tasks=", "?tasks=delete", "?task=keep", "?tasks=keep&tasks=keep"]
)
def test_tasks_is_keep(query: str, alice_client: ApiClient) -> None:
    """[B4] Nothing is deleted by a slip."""
    row = new_list(alice_client)

    assert_error(alice_client.delete(f"{LISTS}/{row['id']}{query}"), 400, "VALIDATION_ERROR")

    assert read(alice_client, LISTS) == [row]


def test_deletion_that_keeps_tasks_has_terms(alice: User, alice_client: ApiClient) -> None:
    """[V2] [I1] [E1] Behind an opening as without one."""
    row = new_list(alice_client)
    task = new_task(alice_client, list_id=row["id"])
    path = f"{LISTS}/{row['id']}?tasks=keep"
    data_of(alice_client.patch(f"{LISTS}/{row['id']}", {"name": "Food"}))
    before = clock(alice)

    stale = alice_client.delete(path, if_match=row["etag"], idempotency_key="k")

    current = assert_error(stale, 412, "PRECONDITION_FAILED")["current"]
    assert read(alice_client, LISTS) == [current]
    assert read(alice_client, TASKS) == [task]
    assert clock(alice) == before
    first = alice_client.delete(path, if_match=current["etag"], idempotency_key="k")
    again = alice_client.delete(path, if_match=current["etag"], idempotency_key="k")
    assert (first.status_code, again.status_code) == (204, 204)
    assert again["Idempotent-Replayed"] == "true"
    assert titles(alice_client, list_id="inbox") == [task["title"]]
    assert_error(alice_client.delete(path), 404, "NOT_FOUND")
    other = alice_client.delete(f"{LISTS}/{row['id']}?permanent=true", idempotency_key="k")
    assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")


def test_deletion_that_keeps_tasks_counts(alice_client: ApiClient, settings: Any) -> None:
    """One too many does nothing."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(3, 3600)}
    row = new_list(alice_client)
    task = new_task(alice_client, list_id=row["id"])
    path = f"{LISTS}/{row['id']}?tasks=keep"

    assert alice_client.delete(f"{LISTS}/{uuid4()}?tasks=keep")["RateLimit-Remaining"] == "0"
    assert_error(alice_client.delete(path), 429, "RATE_LIMITED")
    assert read(alice_client, TASKS) == [task]
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": None}
    assert alice_client.delete(path).status_code == 204
    assert titles(alice_client, list_id="inbox") == [task["title"]]


def test_deletion_that_keeps_tasks_needs_a_session(alice: User, alice_client: ApiClient) -> None:
    """[S3] Whatever the transaction's setting was before."""
    gone, row = (new_list(alice_client, name) for name in ("gone", "there"))
    delete(alice_client, gone, "?tasks=keep")
    Session.objects.filter(user=alice).end()

    response = alice_client.delete(f"{LISTS}/{row['id']}?tasks=keep")

    assert_error(response, 401, "TOKEN_INVALID")
    assert TaskList.objects.get(deleted_at=None).name == "there"


@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
@pytest.mark.parametrize("by", ["route", "sql"])
def test_list_is_purged_with_its_tasks(
    by: str, is_trashed: bool, alice: User, alice_client: ApiClient
) -> None:
    """[D1] Those that were trashed by themselves can still be restored: to the inbox."""
    row = new_list(alice_client)
    task = new_task(alice_client, list_id=row["id"])
    alone = new_task(alice_client, "alone", list_id=row["id"])
    delete(alice_client, alone)
    if is_trashed:
        delete(alice_client, row)

    if by == "sql":
        TaskList.objects.all().delete()
    else:
        delete(alice_client, row, "?permanent=true")

    assert trashed(alice_client) == [("task", alone["id"])]
    assert read(alice_client, TASKS) == read(alice_client, LISTS) == []
    gone = Purged.objects.filter(user=alice).values_list("type", "id")
    assert set(gone) == {("list", UUID(row["id"])), ("task", UUID(task["id"]))}
    restored = data_of(alice_client.post(f"{TASKS}/{alone['id']}/restore"))
    assert restored["list_id"] is None


def test_list_is_purged_without_its_tasks(alice: User, alice_client: ApiClient) -> None:
    row = new_list(alice_client)
    task = new_task(alice_client, list_id=row["id"])
    before = clock(alice)

    delete(alice_client, row, "?tasks=keep&permanent=true")

    assert clock(alice) == before + 1
    kept = read(alice_client, f"{TASKS}/{task['id']}")
    assert (kept["list_id"], kept["version"]) == (None, before + 1)
    assert list(Purged.objects.values_list("type", "id")) == [("list", UUID(row["id"]))]


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_purge_comes_to_lists_and_their_tasks(alice: User, alice_client: ApiClient) -> None:
    """[D1] After thirty days, without a word to followers."""
    row, fresh = new_list(alice_client), new_list(alice_client, "fresh")
    for title in ("a", "b", "c"):
        new_task(alice_client, title, list_id=row["id"])
    new_task(alice_client, "fresh", list_id=fresh["id"])
    old = datetime.now(UTC) - timedelta(days=31)
    TaskList.objects.filter(pk=row["id"]).update(deleted_at=old)
    delete(alice_client, fresh)
    before = clock(alice)

    call_command("purge_expired", "--batch", "2", verbosity=0)

    assert list(TaskList.objects.values_list("name", flat=True)) == ["fresh"]
    assert list(Task.objects.values_list("title", flat=True)) == ["fresh"]
    assert Purged.objects.count() == 4
    assert clock(alice) == before


def test_everything_goes_with_the_person(alice: User, bob: User, alice_client: ApiClient) -> None:
    """Lists, tasks in them, and tasks that were trashed by themselves."""
    row = new_list(alice_client)
    new_task(alice_client, list_id=row["id"])
    delete(alice_client, new_task(alice_client, list_id=row["id"]))
    TaskList.objects.create(user=bob, name="Bob's")

    alice.delete()

    assert list(TaskList.objects.values_list("name", flat=True)) == ["Bob's"]
    assert not Task.objects.exists()
    assert not Change.objects.exclude(user=bob).exists()


# --- Races ------------------------------------------------------------------------------------

THREADS = 20


@together
@pytest.mark.parametrize("query", ["", "?tasks=keep", "?permanent=true"])
def test_no_task_lives_in_a_list_that_was_deleted_meanwhile(
    query: str, alice: User, alice_client: ApiClient
) -> None:
    """[O2] It goes with it, or is refused; and is kept where tasks are."""
    row = new_list(alice_client)
    task = Task.objects.create(user=alice, title="there")
    clients = [ApiClient(begin_session(alice).access) for _ in range(THREADS)]
    sent = {"title": "x", "list_id": row["id"]}
    works: list[Callable[[], Any]] = [partial(client.post, TASKS, sent) for client in clients[2:]]
    works.append(partial(clients[1].patch, f"{TASKS}/{task.pk}", sent))
    works.insert(THREADS // 2, partial(clients[0].delete, f"{LISTS}/{row['id']}{query}"))

    responses = meeting([alice], *works)

    statuses = [response.status_code for response in responses]
    assert statuses.pop(THREADS // 2) == 204
    assert set(statuses) <= {200, 201, 400}
    for response in responses:
        if response.status_code == 400:
            assert assert_error(response, 400, "VALIDATION_ERROR").keys() == {"list_id"}
    living = Task.objects.filter(user=alice, deleted_at=None)
    assert not living.filter(list_id=row["id"]).exists()
    in_time = len([status for status in statuses if status != 400])
    if query == "?tasks=keep":
        assert living.count() == in_time + (statuses[-1] == 400)
    elif not query:
        assert Task.objects.filter(deleted_at__isnull=False, list_id=row["id"]).count() == in_time


@together
def test_raw_writer_meets_a_list_that_is_trashed_meanwhile(
    alice: User, alice_client: ApiClient
) -> None:
    """[O2] Its look at the list comes after its wait at the clock."""
    row = new_list(alice_client)

    def create() -> str:
        try:
            Task.objects.create(user=alice, title="x", list_id=row["id"])
        except IntegrityError:
            return "refused"
        return "in time"

    def trash() -> str:
        TaskList.objects.filter(pk=row["id"]).update(deleted_at=Now())
        return "trashed"

    for _ in range(3):
        meeting([alice], create, trash, create)
        assert not Task.objects.filter(deleted_at=None, list_id=row["id"]).exists()
        TaskList.objects.filter(pk=row["id"]).update(deleted_at=None)


@together
def test_restored_twice_at_once(alice: User, alice_client: ApiClient) -> None:
    """[V1] One version, whoever comes first."""
    row = new_list(alice_client)
    new_task(alice_client, list_id=row["id"])
    delete(alice_client, row)
    before = clock(alice)
    clients = [ApiClient(begin_session(alice).access) for _ in range(4)]

    responses = at_once(
        *(partial(client.post, f"{LISTS}/{row['id']}/restore") for client in clients)
    )

    assert len({json.dumps(data_of(response), sort_keys=True) for response in responses}) == 1
    assert clock(alice) == before + 1
    assert len(titles(alice_client, list_id=row["id"])) == 1


# --- Feed and batch ---------------------------------------------------------------------------


def follow(client: ApiClient, since: str | None, limit: int = 3) -> tuple[dict[Any, Any], str]:
    """What a follower has by then of each, None where it is deleted; and the next position."""
    seen: dict[Any, Any] = {}
    while True:
        query = {"limit": limit} | ({} if since is None else {"since": since})
        response = client.get(CHANGES, query=query)
        for change in data_of(response):
            seen[change["type"], change["id"]] = change["resource"]
            assert change["deleted"] == (change["resource"] is None)
        since = meta_of(response)["next_since"]
        if not meta_of(response)["has_more"]:
            return seen, since


def everything(client: ApiClient) -> dict[Any, Any]:
    return {
        (kind, row["id"]): row
        for kind, path in (("list", LISTS), ("task", TASKS))
        for row in read(client, path)
    }


@pytest.mark.parametrize("limit", [1, 2, 200])
def test_followers_learn_of_both(limit: int, alice_client: ApiClient) -> None:
    """[F1] [F2] In pages that end anywhere in a version."""
    for n in range(3):
        row = new_list(alice_client, f"{n}")
        for m in range(3):
            new_task(alice_client, f"{m}", list_id=row["id"])
    follower, since = follow(alice_client, None, limit)
    assert follower == everything(alice_client)

    steps: list[Callable[[], Any]] = [
        lambda: delete(alice_client, row),
        lambda: alice_client.post(f"{LISTS}/{row['id']}/restore"),
        lambda: delete(alice_client, row, "?tasks=keep"),
        lambda: delete(alice_client, read(alice_client, LISTS)[0], "?permanent=true"),
    ]
    for number, step in zip(count(), steps, strict=False):
        step()
        seen, since = follow(alice_client, since, limit)
        follower |= seen
        living = {key: found for key, found in follower.items() if found is not None}
        assert living == everything(alice_client), number


def test_batch_makes_lists_and_tasks_in_them(alice: User, alice_client: ApiClient) -> None:
    """[B6] In their order, so that a task may name a list of the same batch."""
    row_id, task_id = str(uuid4()), str(uuid4())
    operations = [
        {"op": "create", "type": "list", "id": row_id, "data": {"name": "Groceries"}},
        {"op": "create", "id": task_id, "data": {"title": "Buy milk", "list_id": row_id}},
        {"op": "update", "type": "list", "id": row_id, "data": {"color": "#1E90FF"}},
        {"op": "delete", "type": "list", "id": row_id},
        {"op": "update", "id": task_id, "data": {"title": "x"}},
        {"op": "restore", "type": "list", "id": row_id},
        {"op": "complete", "id": task_id},
    ]

    found = data_of(alice_client.post(BATCH, {"operations": operations, "atomic": False}))

    assert [outcome["status"] for outcome in found] == [201, 201, 200, 204, 404, 200, 200]
    assert found[5]["data"] == read(alice_client, f"{LISTS}/{row_id}")
    assert found[5]["data"]["color"] == "#1e90ff"
    assert found[6]["data"] == read(alice_client, f"{TASKS}/{task_id}")
    assert found[6]["data"]["list_id"] == row_id


def test_lists_cannot_be_completed(alice_client: ApiClient) -> None:
    """[B6]"""
    operation = {"op": "complete", "type": "list", "id": new_list(alice_client)["id"]}

    response = alice_client.post(BATCH, {"operations": [operation]})

    assert_error(response, 400, "VALIDATION_ERROR")


# --- Admin ------------------------------------------------------------------------------------

ADMIN = "/admin/tasks/tasklist/"


@pytest.fixture
def admin(olga: User) -> Browser:
    browser = Browser()
    browser.force_login(olga)
    return browser


def act(admin: Browser, action: str, *rows: TaskList) -> str:
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    page: str = admin.post(ADMIN, form, follow=True).content.decode()
    return page


def test_admin_moves_lists_with_their_tasks(alice: User, admin: Browser) -> None:
    row = TaskList.objects.create(user=alice, name="Groceries")
    Task.objects.create(user=alice, title="Buy milk", list=row)

    assert "Moved to the trash: 1 list." in act(admin, "move_to_trash", row)
    assert not Task.objects.filter(deleted_at=None).exists()
    assert "Restored 1 list." in act(admin, "restore", row)
    assert Task.objects.get(deleted_at=None).list == row


@together
def test_admin_changes_what_was_changed_alone(alice: User, admin: Browser) -> None:
    """[T4] [V1]"""
    row = TaskList.objects.create(user=alice, name="Groceries", color="#1e90ff")
    before = clock(alice)
    form = {"name": "Food", "color": "", "archived_at_0": "", "archived_at_1": ""}

    assert admin.post(f"{ADMIN}{row.pk}/change/", form).status_code == 302

    changed = TaskList.objects.get()
    assert (changed.name, changed.color) == ("Food", None)
    assert changed.updated_at > row.created_at
    assert changed.version == clock(alice) == before + 1
    wrong = admin.post(f"{ADMIN}{row.pk}/change/", {**form, "color": "red"})
    assert "Write it as #1e90ff" in wrong.content.decode()


def test_admin_tells_of_one_list_too_many(alice: User, admin: Browser) -> None:
    """[O1]"""
    gone = TaskList.objects.create(user=alice, name="gone", deleted_at=Now())
    fill(alice, LISTS_MAX)

    assert "Nothing was done" in act(admin, "restore", gone)
    added = admin.post(f"{ADMIN}add/", {"user": str(alice.pk), "name": "One more"})
    assert f"This person has {LISTS_MAX} lists" in added.content.decode()
    assert TaskList.objects.filter(deleted_at=None).count() == LISTS_MAX


def test_admin_finds_lists_by_owner(
    alice: User, bob: User, admin: Browser, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for user in (alice, bob):
        TaskList.objects.bulk_create(TaskList(user=user, name=f"{user.name}s") for _ in range(20))
    admin.get(ADMIN)

    # Session and operator; the owner; the count and the page.
    with django_assert_num_queries(5):
        page = admin.get(f"{ADMIN}?q=bob@example.com").content.decode()

    assert page.count("Bobs</a>") == 20
    assert "Alices</a>" not in page


# --- Isolation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "", None, id="read"),
        pytest.param("PATCH", "", {"name": "Mine"}, id="update"),
        pytest.param("PUT", "", {"name": "Mine"}, id="replace"),
        pytest.param("DELETE", "", None, id="delete"),
        pytest.param("DELETE", "?tasks=keep", None, id="keep"),
        pytest.param("DELETE", "?permanent=true", None, id="purge"),
        pytest.param("DELETE", "?tasks=keep&permanent=true", None, id="keep, purge"),
        pytest.param("POST", "/restore", None, id="restore"),
    ],
)
@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
def test_others_lists_are_absent(
    is_trashed: bool,
    method: str,
    path: str,
    body: Any,
    alice_client: ApiClient,
    bob_client: ApiClient,
) -> None:
    """[R1] As those that never were, and their tasks stay."""
    row = new_list(alice_client)
    new_task(alice_client, list_id=row["id"])
    if is_trashed:
        delete(alice_client, row)
    before = [*TaskList.objects.values(), *Task.objects.values(), *Change.objects.values()]

    sent = [] if body is None else [body]
    response = bob_client.call(method, f"{LISTS}/{row['id']}{path}", *sent, x_request_id="same")
    never = bob_client.call(method, f"{LISTS}/{uuid4()}{path}", *sent, x_request_id="same")

    assert response.status_code == 404
    assert response.content == never.content
    assert before == [*TaskList.objects.values(), *Task.objects.values(), *Change.objects.values()]
    assert read(bob_client, LISTS) == []
