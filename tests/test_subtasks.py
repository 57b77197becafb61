"""Subtasks: what may be a parent, and how they go with their task and come back."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection
from django.db.models.functions import Now
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks.models import TASK_LEVELS_MAX, Task, TaskList
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import meeting
from tests.wire import counted_round_trips
from todo_project.models import Change, Clock, Purged
from todo_project.resources.resource import constraint_of

LISTS = "/api/me/lists"
TASKS = "/api/me/tasks"
TRASH = "/api/me/trash"
CHANGES = "/api/me/changes"
BATCH = "/api/me/batch"

together = pytest.mark.django_db(transaction=True)


def new_list(client: ApiClient, name: str = "Groceries") -> str:
    row_id: str = data_of(client.post(LISTS, {"name": name}), 201)["id"]
    return row_id


def new_task(client: ApiClient, title: str = "Buy milk", **fields: Any) -> Any:
    return data_of(client.post(TASKS, {"title": title, **fields}), 201)


def chain(client: ApiClient, levels: int, **fields: Any) -> list[str]:
    """Tasks below each other: their ids."""
    ids: list[str] = []
    for level in range(1, levels + 1):
        above = {"parent_id": ids[-1]} if ids else {}
        ids.append(new_task(client, f"level {level}", **fields, **above)["id"])
    return ids


def read(client: ApiClient, task_id: str) -> Any:
    return data_of(client.get(f"{TASKS}/{task_id}"))


def patch(client: ApiClient, task_id: str, **fields: Any) -> Any:
    return data_of(client.patch(f"{TASKS}/{task_id}", fields))


def delete(client: ApiClient, task_id: str, query: str = "") -> None:
    response = client.delete(f"{TASKS}/{task_id}{query}")
    assert response.status_code == 204, response.content


def restore(client: ApiClient, task_id: str) -> Any:
    return data_of(client.post(f"{TASKS}/{task_id}/restore"))


def do(client: ApiClient, *operations: Mapping[str, Any], atomic: bool = False) -> Any:
    return data_of(client.post(BATCH, {"operations": operations, "atomic": atomic}))


def found(client: ApiClient, **query: Any) -> list[str]:
    return [task["title"] for task in data_of(client.get(TASKS, query=query))]


def clock(user: User) -> int:
    return Clock.objects.get(user=user).version


def without_version(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if name not in ("version", "etag")}


def changed_since(user: User, version: int) -> dict[int, set[tuple[str, str]]]:
    """What the log of changes has since: versions with what they are about."""
    versions: dict[int, set[tuple[str, str]]] = {}
    rows = Change.objects.filter(user=user, version__gt=version)
    for reached, kind, row_id in rows.values_list("version", "type", "id"):
        versions.setdefault(reached, set()).add((kind, str(row_id)))
    return versions


def tasks_of(ids: Sequence[str]) -> set[tuple[str, str]]:
    return {("task", task_id) for task_id in ids}


def faults(details: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    return {name: [fault["code"] for fault in each] for name, each in details.items()}


# --- What may be a parent ---------------------------------------------------------------------


def test_task_is_below_another(alice_client: ApiClient) -> None:
    parent = new_task(alice_client, "parent")
    child = new_task(alice_client, "child", parent_id=parent["id"].upper())
    loose = new_task(alice_client, "loose")

    assert (parent["parent_id"], child["parent_id"]) == (None, parent["id"])
    assert found(alice_client, parent_id=parent["id"].upper()) == ["child"]
    assert found(alice_client, parent_id="none") == ["loose", "parent"]
    assert found(alice_client, parent_id=child["id"]) == []
    assert found(alice_client, parent_id=uuid4()) == []
    moved = patch(alice_client, loose["id"], parent_id=child["id"])
    assert (moved["parent_id"], moved["position"]) == (child["id"], loose["position"])
    assert moved["version"] == loose["version"] + 1
    assert patch(alice_client, loose["id"], parent_id=child["id"]) == moved
    assert data_of(alice_client.put(f"{TASKS}/{loose['id']}", {"title": "loose"})) == moved
    assert patch(alice_client, loose["id"], parent_id=None)["parent_id"] is None
    assert read(alice_client, parent["id"]) == parent


@pytest.mark.parametrize("value", ["x", "", "None", "inbox", "{hex}"])
def test_filter_says_what_is_valid(value: str, alice_client: ApiClient) -> None:
    """[B4] [B5]"""
    query = {"parent_id": value.format(hex=uuid4().hex)}

    details = assert_error(alice_client.get(TASKS, query=query), 400, "VALIDATION_ERROR")

    assert list(details) == ["parent_id"]


def test_pages_of_subtasks_go_on(alice_client: ApiClient) -> None:
    """[L1] [L2] In their manual order; a cursor is bound to the parent."""
    parent, other = new_task(alice_client, "parent"), new_task(alice_client, "other")
    for n in range(3):
        new_task(alice_client, f"{n}", parent_id=parent["id"])
        new_task(alice_client, f"other's {n}", parent_id=other["id"])
    query = {"parent_id": parent["id"], "ordering": "position", "limit": 2}
    first = alice_client.get(TASKS, query=query)
    cursor = meta_of(first)["next_cursor"]

    assert [task["title"] for task in data_of(first)] == ["0", "1"]
    assert found(alice_client, **query, cursor=cursor) == ["2"]
    elsewhere = {**query, "parent_id": other["id"], "cursor": cursor}
    assert_error(alice_client.get(TASKS, query=elsewhere), 400, "VALIDATION_ERROR")


def test_five_levels_are_few_enough(alice_client: ApiClient) -> None:
    """By whatever writes."""
    ids = chain(alice_client, TASK_LEVELS_MAX - 1)
    (branch, leaf) = chain(alice_client, 2)

    new_task(alice_client, parent_id=ids[-1])
    patch(alice_client, branch, parent_id=ids[-2])
    moved = data_of(alice_client.post(f"{TASKS}/{leaf}/move", {"parent_id": ids[-1]}))

    assert moved["parent_id"] == ids[-1]
    patch(alice_client, branch, parent_id=None)
    patch(alice_client, leaf, parent_id=branch)
    (outcome,) = do(alice_client, {"op": "move", "id": branch, "data": {"parent_id": ids[2]}})
    assert (outcome["status"], outcome["data"]["parent_id"]) == (200, ids[2])


MAKING = ("POST", "PUT at a chosen id", "create in a batch")
CHANGING = ("PUT", "PATCH", "move", "update in a batch", "move in a batch")
CODES = {
    **dict.fromkeys(("absent", "another's", "trashed"), "absent"),
    **dict.fromkeys(("itself", "a child", "a grandchild"), "circle"),
    **dict.fromkeys(("at the last level", "above the last level"), "depth"),
    "in a list": "invalid",
}
# What is made has nothing below it, and no id before.
OF_CHANGES_ALONE = ("a child", "a grandchild", "above the last level")


@together
@pytest.mark.parametrize(
    ("kind", "way"),
    [
        pytest.param(kind, way, id=f"{kind}, {way}")
        for kind in CODES
        for way in (*MAKING, *CHANGING)
        if way in CHANGING or kind not in OF_CHANGES_ALONE
        if (kind, way) != ("itself", "POST")
    ],
)
def test_what_is_no_parent_is_refused(
    kind: str, way: str, alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[R1] By the field, and nothing changes. What isn't one's own is as absent as the rest."""
    task, child, grandchild = chain(alice_client, 3)
    levels = chain(alice_client, TASK_LEVELS_MAX)
    listed = new_task(alice_client, list_id=new_list(alice_client))["id"]
    others = Task.objects.create(user=bob, title="Bob's")
    gone = new_task(alice_client)["id"]
    delete(alice_client, gone)
    chosen = str(uuid4())
    parent_id = {
        "absent": str(uuid4()),
        "another's": str(others.pk),
        "trashed": gone,
        "itself": chosen if way in MAKING else task,
        "a child": child,
        "a grandchild": grandchild,
        "at the last level": levels[4],
        "above the last level": levels[2],
        "in a list": listed,
    }[kind]
    sent = {"title": "x", "list_id": None, "parent_id": parent_id}
    where = {"list_id": None, "parent_id": parent_id}
    before, rows = clock(alice), list(Task.objects.order_by("id").values())

    def answer() -> Mapping[str, Any]:
        path = f"{TASKS}/{task}"
        operation: Mapping[str, Any]
        match way:
            case "POST":
                response = alice_client.post(TASKS, sent)
            case "PUT at a chosen id":
                response = alice_client.put(f"{TASKS}/{chosen}", sent, if_none_match="*")
            case "PUT":
                response = alice_client.put(path, sent)
            case "PATCH":
                response = alice_client.patch(path, where)
            case "move":
                response = alice_client.post(f"{path}/move", where)
            case _:
                op = way.removesuffix(" in a batch")
                operation = {
                    "op": op,
                    "id": chosen if op == "create" else task,
                    "data": where if op == "move" else sent,
                }
                (outcome,) = do(alice_client, operation)
                assert outcome["status"] == 400
                details: Mapping[str, Any] = outcome["error"]["details"]
                return details
        return assert_error(response, 400, "VALIDATION_ERROR")

    assert faults(answer()) == {"parent_id": [CODES[kind]]}
    assert clock(alice) == before
    assert list(Task.objects.order_by("id").values()) == rows


@pytest.mark.parametrize("value", [17, "none", "", True, [], {}], ids=repr)
def test_parent_id_is_a_uuid(value: Any, alice_client: ApiClient) -> None:
    """[B4]"""
    response = alice_client.post(TASKS, {"title": "x", "parent_id": value})

    assert faults(assert_error(response, 400, "VALIDATION_ERROR")) == {"parent_id": ["invalid"]}


@together
@pytest.mark.parametrize(
    ("kind", "by"),
    [
        pytest.param(kind, by, id=f"{kind}, {by}")
        for kind in CODES
        for by in ("save", "update", "insert")
        if by != "insert" or kind not in OF_CHANGES_ALONE
    ],
)
def test_database_refuses_it_whoever_writes(
    kind: str, by: str, alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[T2] The ORM, and SQL by hand."""
    task, child, grandchild = chain(alice_client, 3)
    levels = chain(alice_client, TASK_LEVELS_MAX)
    row = TaskList.objects.create(user=alice, name="Groceries")
    listed = Task.objects.create(user=alice, title="x", list=row)
    gone = Task.objects.create(user=alice, title="x", deleted_at=Now())
    chosen = uuid4()
    parent_id = {
        "absent": uuid4(),
        "another's": Task.objects.create(user=bob, title="Bob's").pk,
        "trashed": gone.pk,
        "itself": chosen if by == "insert" else task,
        "a child": child,
        "a grandchild": grandchild,
        "at the last level": levels[4],
        "above the last level": levels[2],
        "in a list": listed.pk,
    }[kind]
    rows = list(Task.objects.order_by("id").values())

    def write() -> None:
        if by == "save":
            there = Task.objects.get(pk=task)
            there.parent_id = parent_id
            there.save()
        elif by == "update":
            Task.objects.filter(pk=task).update(parent_id=parent_id)
        else:
            Task.objects.create(id=chosen, user=alice, title="x", parent_id=parent_id)

    with pytest.raises(IntegrityError) as refused:
        write()

    assert (
        constraint_of(refused.value)
        in {
            "absent": {"tasks_task_parent_fk", "tasks_task_parent_lives"},
            "circle": {"tasks_task_parent_circle"},
            "depth": {"tasks_task_parent_depth"},
            "invalid": {"tasks_task_parent_list"},
        }[CODES[kind]]
    )
    assert list(Task.objects.order_by("id").values()) == rows


@together
def test_database_refuses_a_circle_of_one_statement(alice: User) -> None:
    """[T2] Two rows at once, each of them well by itself."""
    one, two = (Task.objects.create(user=alice, title=title) for title in ("a", "b"))

    with connection.cursor() as cursor, pytest.raises(IntegrityError):
        cursor.execute(
            "UPDATE tasks_task SET parent_id = CASE id WHEN %s THEN %s::uuid ELSE %s::uuid END",
            [one.pk, two.pk, one.pk],
        )

    assert not Task.objects.filter(parent__isnull=False).exists()


# --- In batches -------------------------------------------------------------------------------


def test_batch_makes_a_task_with_its_subtasks(alice_client: ApiClient) -> None:
    """[B6] In one request, by ids that the client chose."""
    ids = [str(uuid4()) for _ in range(TASK_LEVELS_MAX)]
    parents = [None, *ids[:-1]]
    operations = [
        {"op": "create", "id": task_id, "data": {"title": f"{n}", "parent_id": parent_id}}
        for n, (task_id, parent_id) in enumerate(zip(ids, parents, strict=True))
    ]
    move = {"op": "move", "id": ids[4], "data": {"parent_id": ids[1]}}
    outcomes = do(alice_client, *operations, move, atomic=True)

    assert [outcome["status"] for outcome in outcomes] == [201] * 5 + [200]
    assert [outcome["data"]["parent_id"] for outcome in outcomes] == [*parents, ids[1]]
    assert outcomes[5]["data"] == read(alice_client, ids[4])
    assert found(alice_client, parent_id=ids[1], ordering="position") == ["2", "4"]


@together
def test_batch_is_done_in_its_order(alice_client: ApiClient) -> None:
    """[B6] A parent that comes later isn't there yet, as by routes of their own."""
    parent_id = str(uuid4())
    child = {"op": "create", "data": {"title": "child", "parent_id": parent_id}}
    parent = {"op": "create", "id": parent_id, "data": {"title": "parent"}}

    outcomes = do(alice_client, child, parent, child)

    assert [outcome["status"] for outcome in outcomes] == [400, 201, 201]
    assert faults(outcomes[0]["error"]["details"]) == {"parent_id": ["absent"]}


@together
def test_batch_that_is_refused_leaves_nothing(alice: User, alice_client: ApiClient) -> None:
    """[B6] One level too many, of which all were made in it."""
    ids = [str(uuid4()) for _ in range(TASK_LEVELS_MAX + 1)]
    operations = [
        {"op": "create", "id": task_id, "data": {"title": "x", "parent_id": parent_id}}
        for task_id, parent_id in zip(ids, [None, *ids[:-1]], strict=True)
    ]
    before = clock(alice)

    response = alice_client.post(BATCH, {"operations": operations})

    (failed,) = assert_error(response, 409, "CONFLICT")["operations"]
    assert failed["index"] == TASK_LEVELS_MAX
    assert faults(failed["error"]["details"]) == {"parent_id": ["depth"]}
    assert (clock(alice), Task.objects.count()) == (before, 0)
    assert [outcome["status"] for outcome in do(alice_client, *operations)] == [*[201] * 5, 400]


# --- Lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["PATCH", "move", "batch", "sql"])
def test_task_takes_its_subtasks_to_another_list(
    by: str, alice: User, alice_client: ApiClient
) -> None:
    """[V1] [F1] In one version; what is in the trash stays there."""
    first, second = new_list(alice_client, "a"), new_list(alice_client, "b")
    ids = chain(alice_client, 4, list_id=first)
    beside = new_task(alice_client, "beside", list_id=first)
    gone = new_task(alice_client, "gone", list_id=first, parent_id=ids[0])
    delete(alice_client, gone["id"])
    rows = [read(alice_client, task_id) for task_id in ids]
    before = clock(alice)

    if by == "PATCH":
        patch(alice_client, ids[0], list_id=second)
    elif by == "move":
        data_of(alice_client.post(f"{TASKS}/{ids[0]}/move", {"list_id": second}))
    elif by == "batch":
        do(alice_client, {"op": "update", "id": ids[0], "data": {"list_id": second}})
    else:
        Task.objects.filter(pk=ids[0]).update(list_id=second)

    assert changed_since(alice, before) == {before + 1: tasks_of(ids)}
    assert clock(alice) == before + 1
    moved = [read(alice_client, task_id) for task_id in ids]
    assert {(row["list_id"], row["version"]) for row in moved} == {(second, before + 1)}
    assert [row["parent_id"] for row in moved] == [None, *ids[:-1]]
    assert [row["position"] for row in moved[1:]] == [row["position"] for row in rows[1:]]
    assert all(now["updated_at"] > max(row["updated_at"] for row in rows) for now in moved[1:])
    assert read(alice_client, beside["id"]) == beside
    assert restore(alice_client, gone["id"])["list_id"] == second


@together
@pytest.mark.parametrize("way", ["PATCH", "PUT", "batch", "sql"])
def test_subtask_alone_stays_in_its_list(way: str, alice: User, alice_client: ApiClient) -> None:
    """Or leaves its task as well."""
    row = new_list(alice_client)
    ids = chain(alice_client, 3)
    before = clock(alice)
    sent = {"title": "x", "list_id": row}

    if way == "sql":
        with pytest.raises(IntegrityError):
            Task.objects.filter(pk=ids[1]).update(list_id=row)
    else:
        if way == "batch":
            (outcome,) = do(alice_client, {"op": "update", "id": ids[1], "data": sent})
            details = outcome["error"]["details"]
        else:
            response = alice_client.call(way, f"{TASKS}/{ids[1]}", sent)
            details = assert_error(response, 400, "VALIDATION_ERROR")
        assert faults(details) == {"parent_id": ["invalid"]}
    assert clock(alice) == before

    patch(alice_client, ids[1], list_id=row, parent_id=None)

    assert changed_since(alice, before) == {before + 1: tasks_of(ids[1:])}
    assert read(alice_client, ids[2])["list_id"] == row


def test_list_goes_with_tasks_of_all_levels(alice: User, alice_client: ApiClient) -> None:
    """[O1] [D1] [V1]"""
    row = new_list(alice_client)
    ids = chain(alice_client, 4, list_id=row)
    rows = [read(alice_client, task_id) for task_id in ids]
    before = clock(alice)

    assert alice_client.delete(f"{LISTS}/{row}").status_code == 204
    assert found(alice_client) == []
    data_of(alice_client.post(f"{LISTS}/{row}/restore"))

    went = {("list", row), *tasks_of(ids)}
    assert changed_since(alice, before) == {before + 1: went, before + 2: went}
    back = [read(alice_client, task_id) for task_id in ids]
    assert list(map(without_version, back)) == list(map(without_version, rows))


def test_tasks_are_kept_with_their_subtasks(alice: User, alice_client: ApiClient) -> None:
    """[D1] In the inbox, where a list goes without them."""
    row = new_list(alice_client)
    ids = chain(alice_client, 3, list_id=row)
    before = clock(alice)

    assert alice_client.delete(f"{LISTS}/{row}?tasks=keep").status_code == 204

    assert changed_since(alice, before) == {before + 1: {("list", row), *tasks_of(ids)}}
    kept = [read(alice_client, task_id) for task_id in ids]
    assert [task["parent_id"] for task in kept] == [None, *ids[:-1]]
    assert {task["list_id"] for task in kept} == {None}


# --- Trash ------------------------------------------------------------------------------------


@together
@pytest.mark.parametrize("by", ["route", "batch", "sql"])
def test_task_goes_with_its_subtasks_and_comes_back(
    by: str, alice: User, alice_client: ApiClient
) -> None:
    """[D1] [V1] [F1] In one version each; what was trashed before stays there."""
    top, *ids = chain(alice_client, 5)
    beside = new_task(alice_client, "beside", parent_id=top)
    before_it = new_task(alice_client, "before it", parent_id=ids[0])
    delete(alice_client, before_it["id"])
    rows = [read(alice_client, task_id) for task_id in ids]
    before = clock(alice)

    def change(op: str) -> None:
        if by == "sql":
            deleted_at = Now() if op == "delete" else None
            Task.objects.filter(pk=ids[0]).update(deleted_at=deleted_at)
        elif by == "batch":
            do(alice_client, {"op": op, "id": ids[0]}, atomic=True)
        elif op == "delete":
            delete(alice_client, ids[0])
        else:
            restore(alice_client, ids[0])

    change("delete")

    assert changed_since(alice, before) == {before + 1: tasks_of(ids)}
    assert clock(alice) == before + 1
    trashed = {row["id"]: row["deleted_at"] for row in data_of(alice_client.get(TRASH))}
    assert trashed.keys() == {*ids, before_it["id"]}
    assert len({trashed[task_id] for task_id in ids}) == 1
    assert sorted(found(alice_client)) == ["beside", "level 1"]

    change("restore")

    assert changed_since(alice, before + 1) == {before + 2: tasks_of(ids)}
    assert clock(alice) == before + 2
    back = [read(alice_client, task_id) for task_id in ids]
    assert {row["version"] for row in back} == {before + 2}
    assert list(map(without_version, back)) == list(map(without_version, rows))
    assert [row["id"] for row in data_of(alice_client.get(TRASH))] == [before_it["id"]]
    assert read(alice_client, beside["id"]) == beside
    assert restore(alice_client, before_it["id"])["parent_id"] == ids[0]


@pytest.mark.parametrize("by", ["route", "batch", "sql"])
def test_subtask_comes_back_alone_as_a_task(by: str, alice: User, alice_client: ApiClient) -> None:
    """[D1] While its task is in the trash, with what is below it; and stays one."""
    ids = chain(alice_client, 4)
    delete(alice_client, ids[0])
    before = clock(alice)

    if by == "sql":
        Task.objects.filter(pk=ids[1]).update(deleted_at=None)
    elif by == "batch":
        (outcome,) = do(alice_client, {"op": "restore", "id": ids[1]})
        assert outcome["data"]["parent_id"] is None
    else:
        assert restore(alice_client, ids[1])["parent_id"] is None

    assert changed_since(alice, before) == {before + 1: tasks_of(ids[1:])}
    back = [read(alice_client, task_id) for task_id in ids[1:]]
    assert [row["parent_id"] for row in back] == [None, *ids[1:3]]
    assert restore(alice_client, ids[0])["version"] == before + 2
    assert changed_since(alice, before + 1) == {before + 2: tasks_of(ids[:1])}
    assert read(alice_client, ids[1]) == back[0]


def test_task_of_a_list_in_the_trash_comes_back_with_its_subtasks(
    alice: User, alice_client: ApiClient
) -> None:
    """[D1] To the inbox, all of them, and as they were otherwise."""
    row = new_list(alice_client)
    ids = chain(alice_client, 3, list_id=row)
    rows = [read(alice_client, task_id) for task_id in ids]
    assert alice_client.delete(f"{LISTS}/{row}").status_code == 204
    before = clock(alice)

    restore(alice_client, ids[0])

    assert changed_since(alice, before) == {before + 1: tasks_of(ids)}
    back = [without_version(read(alice_client, task_id)) for task_id in ids]
    assert back == [{**without_version(task), "list_id": None} for task in rows]
    data_of(alice_client.post(f"{LISTS}/{row}/restore"))
    assert found(alice_client, list_id=row) == []


def test_subtask_comes_back_to_where_its_task_is_by_now(
    alice: User, alice_client: ApiClient
) -> None:
    """[D1] With those that went into the trash with it, whose list may be gone."""
    first, second = new_list(alice_client, "a"), new_list(alice_client, "b")
    ids = chain(alice_client, 4, list_id=first)
    delete(alice_client, ids[1])
    patch(alice_client, ids[0], list_id=second)
    assert alice_client.delete(f"{LISTS}/{first}").status_code == 204
    before = clock(alice)

    back = restore(alice_client, ids[1])

    assert (back["list_id"], back["parent_id"]) == (second, ids[0])
    assert {read(alice_client, task_id)["list_id"] for task_id in ids} == {second}
    assert changed_since(alice, before) == {before + 1: tasks_of(ids[1:])}


@pytest.mark.parametrize(("levels", "is_root"), [(2, False), (3, True)], ids=["fits", "too deep"])
def test_subtask_that_came_to_be_too_deep_comes_back_as_a_task(
    levels: int, is_root: bool, alice_client: ApiClient
) -> None:
    """[D1] By those that come back with it."""
    above = chain(alice_client, 2)
    parent, *ids = chain(alice_client, 1 + levels)
    delete(alice_client, ids[0])
    patch(alice_client, parent, parent_id=above[-1])

    back = restore(alice_client, ids[0])

    assert back["parent_id"] == (None if is_root else parent)
    assert read(alice_client, ids[1])["parent_id"] == ids[0]


@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
@pytest.mark.parametrize("by", ["route", "sql"])
def test_task_is_purged_with_all_below_it(
    by: str, is_trashed: bool, alice: User, alice_client: ApiClient
) -> None:
    """[D1] [V1] [F1] Those that were trashed before, too."""
    top, *ids = chain(alice_client, 4)
    gone = new_task(alice_client, parent_id=ids[1])["id"]
    delete(alice_client, gone)
    if is_trashed:
        delete(alice_client, ids[0])
    before = clock(alice)

    if by == "sql":
        Task.objects.filter(pk=ids[0]).delete()
    else:
        delete(alice_client, ids[0], "?permanent=true")

    told = {} if is_trashed else {before + 1: tasks_of(ids)}
    assert changed_since(alice, before) == told
    assert [str(task_id) for task_id in Task.objects.values_list("pk", flat=True)] == [top]
    purged = Purged.objects.filter(user=alice).values_list("id", flat=True)
    assert set(purged) == {UUID(task_id) for task_id in (*ids, gone)}
    assert data_of(alice_client.get(TRASH)) == []


def test_everything_goes_with_the_person(alice: User, bob: User, alice_client: ApiClient) -> None:
    ids = chain(alice_client, 5)
    delete(alice_client, ids[3])
    Task.objects.create(user=bob, title="Bob's")

    alice.delete()

    assert [task.title for task in Task.objects.all()] == ["Bob's"]


def test_followers_learn_of_all_levels(alice_client: ApiClient) -> None:
    """[F1] [F2] And end with what is there."""
    row = new_list(alice_client)
    ids = chain(alice_client, 5)
    beside = new_task(alice_client, "beside")["id"]
    start = meta_of(alice_client.get(CHANGES, query={"limit": 200}))["next_since"]

    def told(since: str) -> tuple[dict[str, Any], str]:
        response = alice_client.get(CHANGES, query={"since": since})
        changes = {change["id"]: change["resource"] for change in data_of(response)}
        return changes, meta_of(response)["next_since"]

    patch(alice_client, ids[0], list_id=row)
    moved, since = told(start)
    assert moved == {task_id: read(alice_client, task_id) for task_id in ids}
    delete(alice_client, ids[1])
    gone, since = told(since)
    assert gone == dict.fromkeys(ids[1:])
    restore(alice_client, ids[2])
    back, since = told(since)
    assert back == {task_id: read(alice_client, task_id) for task_id in ids[2:]}
    delete(alice_client, ids[2], "?permanent=true")
    purged, since = told(since)
    assert purged == dict.fromkeys(ids[2:])
    data_of(alice_client.post(f"{TASKS}/{beside}/move", {"parent_id": ids[0]}))
    assert told(since)[0] == {beside: read(alice_client, beside)}


# --- What it costs ----------------------------------------------------------------------------


def family(user: User, subtasks: int = 20) -> Task:
    parent = Task.objects.create(user=user, title="parent")
    Task.objects.bulk_create(Task(user=user, title="x", parent=parent) for _ in range(subtasks))
    return parent


@together
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "", {"title": "x", "parent_id": "{other}"}, id="create"),
        pytest.param("PATCH", "/{id}", {"parent_id": "{other}"}, id="patch parent"),
        pytest.param("PATCH", "/{id}", {"list_id": "{list}"}, id="patch list"),
        pytest.param("DELETE", "/{id}", None, id="trash"),
        pytest.param("DELETE", "/{id}?permanent=true", None, id="purge"),
        pytest.param("POST", "/{trashed}/restore", None, id="restore"),
        pytest.param("GET", "?parent_id={id}", None, id="list"),
    ],
)
def test_each_is_one_statement_and_one_round_trip(
    method: str,
    path: str,
    body: Any,
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """However many subtasks."""
    row = TaskList.objects.create(user=alice, name="Groceries")

    def send() -> Any:
        ids = {"id": family(alice).pk, "other": family(alice).pk, "list": row.pk}
        trashed = family(alice)
        Task.objects.filter(pk=trashed.pk).update(deleted_at=Now())
        ids["trashed"] = trashed.pk
        values = {name: value.format(**ids) for name, value in (body or {}).items()}
        url = TASKS + path.format(**ids)
        return partial(alice_client.call, method, url, *([] if body is None else [values]))

    send()()  # prepares
    request = send()
    with django_assert_num_queries(1):
        assert request().status_code in (200, 201, 204)
    request = send()
    with counted_round_trips(connection.connection) as round_trips:
        response = request()
        assert (response.status_code in (200, 201, 204), round_trips()) == (True, 1)


# --- Races ------------------------------------------------------------------------------------


def client_of(user: User) -> ApiClient:
    return ApiClient(begin_session(user).access)


@together
def test_no_child_lives_below_a_task_that_was_trashed_meanwhile(
    alice: User, alice_client: ApiClient
) -> None:
    """It goes with it, or is refused."""
    parent, other = new_task(alice_client), new_task(alice_client)
    clients = [client_of(alice) for _ in range(8)]
    sent = {"title": "x", "parent_id": parent["id"]}
    works: list[Callable[[], Any]] = [partial(each.post, TASKS, sent) for each in clients[2:]]
    works.append(partial(clients[1].patch, f"{TASKS}/{other['id']}", sent))
    works.insert(3, partial(clients[0].delete, f"{TASKS}/{parent['id']}"))

    responses = meeting([alice], *works)

    assert responses.pop(3).status_code == 204
    refused = [response for response in responses if response.status_code == 400]
    assert {response.status_code for response in responses} <= {200, 201, 400}
    details = [assert_error(response, 400, "VALIDATION_ERROR") for response in refused]
    assert [faults(each) for each in details] == [{"parent_id": ["absent"]}] * len(refused)
    below = Task.objects.filter(parent_id=parent["id"])
    assert below.filter(deleted_at=None).count() == 0
    assert below.count() == len(responses) - len(refused)


@together
def test_raw_writer_meets_a_task_that_is_trashed_meanwhile(alice: User) -> None:
    """[T2] Its look at the parent comes after its wait at the clock."""
    parent = Task.objects.create(user=alice, title="parent")

    def create() -> str:
        try:
            Task.objects.create(user=alice, title="x", parent=parent)
        except IntegrityError:
            return "refused"
        return "in time"

    def trash() -> str:
        Task.objects.filter(pk=parent.pk).update(deleted_at=Now())
        return "trashed"

    meeting([alice], create, trash, create)

    assert not Task.objects.filter(deleted_at=None).exists()


@together
@pytest.mark.parametrize("round_number", range(5))
def test_no_race_makes_one_level_too_many(
    round_number: int, alice: User, alice_client: ApiClient
) -> None:
    """A fifth level, and one more above it: either, not both."""
    root = new_task(alice_client)["id"]
    ids = chain(alice_client, TASK_LEVELS_MAX - 1)
    sent = {"title": "x", "parent_id": ids[-1]}
    works = [
        partial(client_of(alice).post, TASKS, sent),
        partial(client_of(alice).post, f"{TASKS}/{ids[0]}/move", {"parent_id": root}),
    ]

    statuses = [response.status_code for response in meeting([alice], *works)]

    assert statuses in ([201, 400], [400, 200])
    is_deep = Task.objects.get(pk=ids[0]).parent_id is not None
    assert is_deep != Task.objects.filter(parent_id=UUID(ids[-1])).exists()


# --- Isolation --------------------------------------------------------------------------------


@together
@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "batch"])
def test_others_tasks_are_no_parents(
    method: str,
    is_trashed: bool,
    alice_client: ApiClient,
    bob_client: ApiClient,
) -> None:
    """[R1] As those that never were, and they stay as they are."""
    theirs = new_task(alice_client)["id"]
    if is_trashed:
        delete(alice_client, theirs)
    own = new_task(bob_client)["id"]
    before = [*Task.objects.order_by("id").values(), *Change.objects.values()]

    def answer(parent_id: object) -> Any:
        sent = {"title": "x", "parent_id": str(parent_id)}
        operations = [{"op": "create", "data": sent}, {"op": "update", "id": own, "data": sent}]
        body = {"operations": operations} if method == "batch" else sent
        path = {"POST": TASKS, "PATCH": f"{TASKS}/{own}", "batch": BATCH}[method]
        verb = "PATCH" if method == "PATCH" else "POST"
        return bob_client.call(verb, path, body, x_request_id="same")

    response, never = answer(theirs), answer(uuid4())

    assert response.status_code == (409 if method == "batch" else 400)
    assert response.content == never.content
    assert before == [*Task.objects.order_by("id").values(), *Change.objects.values()]
    assert found(bob_client, parent_id=theirs) == []
