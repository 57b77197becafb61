"""Moves: to another place among siblings, below another task, into another list."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection
from django.db.models import Value
from django.db.models.functions import Concat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks.models import TASK_LEVELS_MAX, Task, TaskList
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import meeting
from tests.wire import counted_round_trips, needs_prepared_statements
from todo_project.environment import Rate
from todo_project.models import Change, Clock

LISTS = "/api/me/lists"
TASKS = "/api/me/tasks"
CHANGES = "/api/me/changes"
BATCH = "/api/me/batch"
POSITION_MAX_CHARACTERS = 64

# Where rows are renumbered the statement has failed before, which a transaction doesn't survive.
together = pytest.mark.django_db(transaction=True)


def new_list(client: ApiClient, name: str = "Groceries") -> str:
    row_id: str = data_of(client.post(LISTS, {"name": name}), 201)["id"]
    return row_id


def new_task(client: ApiClient, title: str, **fields: Any) -> str:
    row_id: str = data_of(client.post(TASKS, {"title": title, **fields}), 201)["id"]
    return row_id


def new_tasks(client: ApiClient, titles: str, **fields: Any) -> list[str]:
    """One for each letter."""
    return [new_task(client, title, **fields) for title in titles]


def read(client: ApiClient, task_id: str) -> Any:
    return data_of(client.get(f"{TASKS}/{task_id}"))


def move(client: ApiClient, task_id: str, **where: Any) -> Any:
    return data_of(client.post(f"{TASKS}/{task_id}/move", where))


def delete(client: ApiClient, task_id: str) -> None:
    assert client.delete(f"{TASKS}/{task_id}").status_code == 204


def order(client: ApiClient, *, list_id: str = "inbox", parent_id: str = "none") -> str:
    """The titles of siblings, in their order, joined."""
    query = {"parent_id": parent_id, "ordering": "position", "limit": 200}
    if parent_id == "none":
        query["list_id"] = list_id
    return "".join(task["title"] for task in data_of(client.get(TASKS, query=query)))


def clock(user: User) -> int:
    return Clock.objects.get(user=user).version


def changed_since(user: User, version: int) -> dict[int, set[str]]:
    """What the log of changes has since: versions with the ids of their tasks."""
    versions: dict[int, set[str]] = {}
    rows = Change.objects.filter(user=user, type="task", version__gt=version)
    for reached, row_id in rows.values_list("version", "id"):
        versions.setdefault(reached, set()).add(str(row_id))
    return versions


def faults(details: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    return {name: [fault["code"] for fault in each] for name, each in details.items()}


def take_room(ids: Sequence[str]) -> None:
    """As they are from before there were positions: none has one, the oldest is the first."""
    Task.objects.filter(pk__in=ids).update(position="")


# --- Where a task comes to be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved", "where", "expected"),
    [
        pytest.param("d", {"before": "a"}, "dabc", id="before the first"),
        pytest.param("d", {"before": "c"}, "abdc", id="before another"),
        pytest.param("a", {"after": "b"}, "bacd", id="after another"),
        pytest.param("a", {"after": "d"}, "bcda", id="after the last"),
        pytest.param("a", {}, "bcda", id="last"),
        pytest.param("a", {"list_id": None}, "bcda", id="last of the inbox"),
        pytest.param("a", {"parent_id": None}, "bcda", id="last of those without a parent"),
        pytest.param("b", {"before": "d", "list_id": None, "parent_id": None}, "acbd", id="all"),
    ],
)
def test_task_moves_among_its_siblings(
    moved: str, where: Mapping[str, Any], expected: str, alice: User, alice_client: ApiClient
) -> None:
    """[O5] [V1] [F1] One version, and of this task alone."""
    ids = dict(zip("abcd", new_tasks(alice_client, "abcd"), strict=True))
    where = {name: ids.get(value, value) for name, value in where.items()}
    was, before = read(alice_client, ids[moved]), clock(alice)

    task = move(alice_client, ids[moved], **where)

    assert order(alice_client) == expected
    assert changed_since(alice, before) == {before + 1: {ids[moved]}}
    assert task == read(alice_client, ids[moved])
    assert task["version"] == clock(alice) == before + 1
    assert task["updated_at"] > was["updated_at"]
    assert {name for name, value in task.items() if value != was[name]} == {
        *("position", "updated_at", "version", "etag")
    }
    assert move(alice_client, ids[moved], **where) == task


@pytest.mark.parametrize(
    ("moved", "where"),
    [
        pytest.param("a", {"before": "b"}, id="before the next"),
        pytest.param("b", {"after": "a"}, id="after the one before"),
        pytest.param("c", {}, id="the last"),
        pytest.param("c", {"after": "b"}, id="after the last but one"),
        pytest.param("c", {"list_id": None}, id="the last of the inbox"),
        pytest.param("x", {"parent_id": "c"}, id="the last of its parent's"),
        pytest.param("x", {"parent_id": "c", "list_id": None}, id="in its list, too"),
        pytest.param("x", {}, id="an only child"),
    ],
)
@pytest.mark.parametrize("are_old", [False, True], ids=["placed", "without a position"])
@pytest.mark.parametrize("by", ["route", "batch"])
def test_task_that_is_there_stays_as_it_is(
    by: str,
    are_old: bool,
    moved: str,
    where: Mapping[str, Any],
    alice: User,
    alice_client: ApiClient,
) -> None:
    """[V1] Whatever positions there are."""
    ids = dict(zip("abc", new_tasks(alice_client, "abc"), strict=True))
    ids["x"] = new_task(alice_client, "x", parent_id=ids["c"])
    if are_old:
        take_room(list(ids.values()))
    where = {name: ids.get(value, value) for name, value in where.items()}
    was, before = read(alice_client, ids[moved]), clock(alice)

    if by == "batch":
        operation = {"op": "move", "id": ids[moved], "data": where}
        ((outcome),) = data_of(alice_client.post(BATCH, {"operations": [operation]}))
        assert outcome == {"status": 200, "data": was}
    else:
        assert move(alice_client, ids[moved], **where) == was

    assert clock(alice) == before


@together
def test_a_position_of_any_length_may_stay(alice: User, alice_client: ApiClient) -> None:
    """Of whoever made it; nothing has to be found then."""
    task_id = new_task(alice_client, "a")
    Task.objects.update(position="f" * 100)
    before = clock(alice)

    assert move(alice_client, task_id)["position"] == "f" * 100
    assert clock(alice) == before


def test_task_moves_with_all_below_it(alice: User, alice_client: ApiClient) -> None:
    """[V1] [F1] In one version. Those keep their own order."""
    row = new_list(alice_client)
    there = new_tasks(alice_client, "pq", list_id=row)
    task = new_task(alice_client, "t")
    below = new_tasks(alice_client, "xyz", parent_id=task)
    move(alice_client, below[2], before=below[0])
    beside = new_task(alice_client, "u")
    before = clock(alice)

    moved = move(alice_client, task, before=there[1])

    assert (moved["list_id"], moved["parent_id"]) == (row, None)
    assert order(alice_client, list_id=row) == "ptq"
    assert order(alice_client, parent_id=task) == "zxy"
    assert order(alice_client) == "u"
    assert changed_since(alice, before) == {before + 1: {task, *below}}
    assert {read(alice_client, task_id)["list_id"] for task_id in below} == {row}
    assert read(alice_client, beside)["version"] < before + 1


@pytest.mark.parametrize(
    ("where", "place", "expected"),
    [
        pytest.param({"list_id": "list"}, "list", "lmt", id="only a list"),
        pytest.param({"list_id": None}, "inbox", "abut", id="only its own list: out of its parent"),
        pytest.param({"parent_id": None}, "inbox", "abut", id="no parent: in its own list"),
        pytest.param({"parent_id": None, "list_id": "list"}, "list", "lmt", id="both, no parent"),
        pytest.param({"parent_id": "a"}, "a", "xyt", id="only a parent"),
        pytest.param({"parent_id": "l"}, "l", "wt", id="a parent in another list"),
        pytest.param({"parent_id": "l", "list_id": "list"}, "l", "wt", id="a parent and its list"),
        pytest.param({"before": "m"}, "list", "ltm", id="before one of another list"),
        pytest.param({"after": "w"}, "l", "wt", id="after one below a task of another list"),
        pytest.param({"before": "y"}, "a", "xty", id="before one below another task"),
        pytest.param(
            {"before": "y", "parent_id": "a", "list_id": None}, "a", "xty", id="and all that is so"
        ),
        pytest.param({}, "u", "vt", id="nothing: last where it is"),
    ],
)
def test_what_is_left_out_follows(
    where: Mapping[str, Any], place: str, expected: str, alice_client: ApiClient
) -> None:
    row = new_list(alice_client)
    ids = dict(zip("abu", new_tasks(alice_client, "abu"), strict=True))
    ids |= zip("lm", new_tasks(alice_client, "lm", list_id=row), strict=True)
    ids |= zip("xy", new_tasks(alice_client, "xy", parent_id=ids["a"]), strict=True)
    ids["w"] = new_task(alice_client, "w", parent_id=ids["l"], list_id=row)
    ids |= zip("tv", new_tasks(alice_client, "tv", parent_id=ids["u"]), strict=True)
    ids["list"] = row

    moved = move(
        alice_client, ids["t"], **{name: ids.get(value, value) for name, value in where.items()}
    )

    parent_id = None if place in ("list", "inbox") else ids[place]
    assert moved["parent_id"] == parent_id
    assert moved["list_id"] == (row if place in ("list", "l") else None)
    if parent_id is None:
        assert order(alice_client, list_id=row if place == "list" else "inbox") == expected
    else:
        assert order(alice_client, parent_id=parent_id) == expected


def test_what_lies_in_the_trash_is_no_sibling(alice_client: ApiClient) -> None:
    """[D1] It comes back to its place."""
    a, b, c, d = new_tasks(alice_client, "abcd")
    delete(alice_client, b)

    move(alice_client, d, after=a)

    assert order(alice_client) == "adc"
    data_of(alice_client.post(f"{TASKS}/{b}/restore"))
    assert order(alice_client) in ("abdc", "adbc")
    delete(alice_client, c)
    assert_error(alice_client.post(f"{TASKS}/{c}/move", {"before": a}), 404, "NOT_FOUND")


# --- Refusals ---------------------------------------------------------------------------------

NOWHERE = "5929654b-7e72-48e0-a1d1-f32ad0bf562f"


@together
@pytest.mark.parametrize("by", ["route", "batch"])
@pytest.mark.parametrize(
    ("sent", "field", "code"),
    [
        pytest.param({"before": "a", "after": "b"}, "after", "invalid", id="two neighbours"),
        pytest.param({"before": "x"}, "before", "invalid", id="no id"),
        pytest.param({"after": 7}, "after", "invalid", id="a number"),
        pytest.param({"list_id": "inbox"}, "list_id", "invalid", id="no id of a list"),
        pytest.param({"parent_id": "none"}, "parent_id", "invalid", id="no id of a parent"),
        pytest.param({"position": "0"}, "position", "unknown", id="a position"),
        pytest.param({"before": NOWHERE}, "before", "absent", id="before an absent one"),
        pytest.param({"after": NOWHERE}, "after", "absent", id="after an absent one"),
        pytest.param({"before": "bobs"}, "before", "absent", id="before another's"),
        pytest.param({"after": "gone"}, "after", "absent", id="after a trashed one"),
        pytest.param({"before": "task"}, "before", "absent", id="before itself"),
        pytest.param(
            {"before": "listed", "list_id": None}, "before", "invalid", id="neighbour's list"
        ),
        pytest.param({"after": "a", "parent_id": "b"}, "after", "invalid", id="neighbour's parent"),
        pytest.param(
            {"after": "below", "parent_id": None}, "after", "invalid", id="neighbour is below"
        ),
        pytest.param({"before": "below"}, "parent_id", "circle", id="before one below itself"),
        pytest.param({"after": "level 5"}, "parent_id", "depth", id="after one too deep"),
        pytest.param({"list_id": NOWHERE}, "list_id", "absent", id="an absent list"),
        pytest.param({"list_id": "bobs list"}, "list_id", "absent", id="another's list"),
        pytest.param({"list_id": "gone list"}, "list_id", "absent", id="a trashed list"),
        pytest.param(
            {"list_id": NOWHERE, "parent_id": "a"}, "parent_id", "invalid", id="not the parent's"
        ),
    ],
)
def test_what_is_no_place_is_refused(
    sent: Mapping[str, Any],
    field: str,
    code: str,
    by: str,
    alice: User,
    bob: User,
    alice_client: ApiClient,
) -> None:
    """[O5] [B4] [R1] By the field, and nothing changes."""
    ids: dict[str, Any] = dict(zip("ab", new_tasks(alice_client, "ab"), strict=True))
    ids["task"] = new_task(alice_client, "t")
    ids["below"] = new_task(alice_client, "u", parent_id=ids["task"])
    ids["listed"] = new_task(alice_client, "v", list_id=new_list(alice_client))
    ids["gone"] = new_task(alice_client, "w")
    delete(alice_client, ids["gone"])
    ids["bobs"] = str(Task.objects.create(user=bob, title="Bob's").pk)
    ids["bobs list"] = str(TaskList.objects.create(user=bob, name="Bob's").pk)
    ids["gone list"] = new_list(alice_client)
    assert alice_client.delete(f"{LISTS}/{ids['gone list']}").status_code == 204
    above = None
    for level in range(1, TASK_LEVELS_MAX + 1):
        above = ids[f"level {level}"] = new_task(alice_client, f"{level}", parent_id=above)
    where = {name: ids.get(value, value) for name, value in sent.items()}
    before, rows = clock(alice), list(Task.objects.order_by("id").values())

    if by == "batch":
        body = {"operations": [{"op": "move", "id": ids["task"], "data": where}], "atomic": False}
        ((outcome),) = data_of(alice_client.post(BATCH, body))
        assert outcome["status"] == 400
        details = outcome["error"]["details"]
    else:
        response = alice_client.post(f"{TASKS}/{ids['task']}/move", where)
        details = assert_error(response, 400, "VALIDATION_ERROR")

    assert faults(details) == {field: [code]}
    assert clock(alice) == before
    assert list(Task.objects.order_by("id").values()) == rows


@pytest.mark.parametrize("where", [{}, {"before": NOWHERE}, {"before": 7}], ids=str)
def test_absent_task_cannot_be_moved(where: Mapping[str, Any], alice_client: ApiClient) -> None:
    """[E1] Which comes before what is wrong with the place."""
    assert_error(alice_client.post(f"{TASKS}/{uuid4()}/move", where), 404, "NOT_FOUND")
    assert_error(alice_client.post(f"{TASKS}/x/move", where), 404, "NOT_FOUND")


def test_lists_cannot_be_moved(alice_client: ApiClient) -> None:
    """[B6]"""
    operation = {"op": "move", "type": "list", "id": new_list(alice_client)}

    response = alice_client.post(BATCH, {"operations": [operation]})

    assert_error(response, 400, "VALIDATION_ERROR")


@together
@pytest.mark.parametrize("what", ["task", "before", "after", "parent_id", "list_id"])
@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
def test_others_rows_are_absent(
    is_trashed: bool, what: str, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[R1] As those that never were, and they stay as they are."""
    row = new_list(alice_client)
    theirs = new_tasks(alice_client, "ab")
    if is_trashed:
        delete(alice_client, theirs[0])
        assert alice_client.delete(f"{LISTS}/{row}").status_code == 204
    own = new_tasks(bob_client, "xy")
    before = [*Task.objects.order_by("id").values(), *Change.objects.values()]

    def answer(foreign_id: object) -> Any:
        task = foreign_id if what == "task" else own[0]
        where = {} if what == "task" else {what: str(foreign_id)}
        return bob_client.post(f"{TASKS}/{task}/move", where, x_request_id="same")

    response, never = answer(row if what == "list_id" else theirs[0]), answer(uuid4())

    assert response.status_code == (404 if what == "task" else 400)
    assert response.content == never.content
    assert before == [*Task.objects.order_by("id").values(), *Change.objects.values()]


# --- Terms ------------------------------------------------------------------------------------


def test_move_depends_on_the_version(alice: User, alice_client: ApiClient) -> None:
    """[V2] And a retry whose first answer was lost finds its own work done."""
    a, b, c = new_tasks(alice_client, "abc")
    path, tag = f"{TASKS}/{a}/move", read(alice_client, a)["etag"]

    response = alice_client.post(path, {"after": b}, if_match=tag)
    moved = data_of(response)
    assert response["ETag"] == moved["etag"] != tag
    assert data_of(alice_client.post(path, {"after": b}, if_match=tag)) == moved
    before = clock(alice)
    for header in (tag, 'W/"x"', "x"):
        stale = alice_client.post(path, {"after": c}, if_match=header)
        assert assert_error(stale, 412, "PRECONDITION_FAILED")["current"] == moved
    assert (order(alice_client), clock(alice)) == ("bac", before)
    data_of(alice_client.post(path, {"after": c}, if_match=moved["etag"]))
    assert order(alice_client) == "bca"


def test_batch_moves_what_has_the_version(alice_client: ApiClient) -> None:
    """[B6] [V2]"""
    a, b, c = new_tasks(alice_client, "abc")
    version = read(alice_client, a)["version"]
    operations = [
        {"op": "move", "id": a, "if_version": version, "data": {"after": after}}
        for after in (b, b, c)
    ]

    outcomes = data_of(alice_client.post(BATCH, {"operations": operations, "atomic": False}))

    assert [outcome["status"] for outcome in outcomes] == [200, 200, 412]
    assert outcomes[0]["data"] == outcomes[1]["data"] == read(alice_client, a)


def test_move_is_done_once_for_a_key(alice: User, alice_client: ApiClient) -> None:
    """[I1]"""
    a, b, c = new_tasks(alice_client, "abc")
    path = f"{TASKS}/{a}/move"

    first = alice_client.post(path, {"after": b}, idempotency_key="k")
    move(alice_client, a, after=c)
    before = clock(alice)
    again = alice_client.post(path, {"after": b}, idempotency_key="k")

    assert data_of(again) == data_of(first)
    assert again["Idempotent-Replayed"] == "true"
    assert again["ETag"] == first["ETag"]
    other = alice_client.post(path, {"before": b}, idempotency_key="k")
    assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")
    assert (order(alice_client), clock(alice)) == ("bca", before)


def test_move_counts_as_a_write(alice_client: ApiClient, settings: Any) -> None:
    a, b, c = new_tasks(alice_client, "abc")
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(1, 3600)}

    assert alice_client.post(f"{TASKS}/{a}/move")["RateLimit-Remaining"] == "0"
    response = alice_client.post(f"{TASKS}/{c}/move", {"before": b})

    assert_error(response, 429, "RATE_LIMITED")
    assert order(alice_client) == "bca"


def test_followers_learn_of_a_move_alone(alice_client: ApiClient) -> None:
    """[F1]"""
    a, _, c = new_tasks(alice_client, "abc")
    since = meta_of(alice_client.get(CHANGES))["next_since"]

    moved = move(alice_client, c, before=a)

    (change,) = data_of(alice_client.get(CHANGES, query={"since": since}))
    assert (change["version"], change["resource"]) == (moved["version"], moved)


# --- Where there is no room -------------------------------------------------------------------


@together
@pytest.mark.parametrize("by", ["route", "batch"])
def test_siblings_without_positions_are_numbered_once(
    by: str, alice: User, alice_client: ApiClient
) -> None:
    """[V1] [F1] One version more for all of them; nobody else's."""
    ids = new_tasks(alice_client, "abcdef")
    loose = new_task(alice_client, "l", list_id=new_list(alice_client))
    below = new_task(alice_client, "b", parent_id=ids[0])
    take_room([*ids, loose, below])
    others = [read(alice_client, loose), read(alice_client, below)]
    times = {task_id: read(alice_client, task_id)["updated_at"] for task_id in ids}
    before = clock(alice)

    if by == "batch":
        operations = [
            {"op": "move", "id": ids[0], "data": {"before": ids[5]}},
            {"op": "move", "id": ids[1], "data": {"after": ids[3]}},
        ]
        outcomes = data_of(alice_client.post(BATCH, {"operations": operations}))
        assert [outcome["status"] for outcome in outcomes] == [200, 200]
    else:
        move(alice_client, ids[0], before=ids[5])
        move(alice_client, ids[1], after=ids[3])

    assert order(alice_client) == "cdbeaf"
    assert changed_since(alice, before) == {
        before + 1: set(ids),
        before + 2: {ids[0]},
        before + 3: {ids[1]},
    }
    assert others == [read(alice_client, loose), read(alice_client, below)]
    assert {task_id: read(alice_client, task_id)["updated_at"] for task_id in ids[2:]} == {
        task_id: times[task_id] for task_id in ids[2:]
    }


@together
@pytest.mark.parametrize("by", ["route", "batch"])
def test_version_that_a_request_names_is_good_for_all_of_it(
    by: str, alice: User, alice_client: ApiClient
) -> None:
    """[V2] The task itself may be numbered on the way; but who is late stays late."""
    ids = new_tasks(alice_client, "abc")
    take_room(ids)
    stale = read(alice_client, ids[0])
    data_of(alice_client.patch(f"{TASKS}/{ids[0]}", {"description": "x"}))
    task = read(alice_client, ids[0])

    def answer(row: Mapping[str, Any], neighbour: str) -> int:
        where = {"before": neighbour}
        if by == "route":
            path = f"{TASKS}/{ids[0]}/move"
            return alice_client.post(path, where, if_match=row["etag"]).status_code
        operation = {"op": "move", "id": ids[0], "if_version": row["version"], "data": where}
        body = {"operations": [operation], "atomic": False}
        ((outcome),) = data_of(alice_client.post(BATCH, body))
        status: int = outcome["status"]
        return status

    assert answer(stale, ids[2]) == 412
    assert order(alice_client) == "abc"
    take_room(ids)
    task = read(alice_client, ids[0])
    assert answer(task, ids[2]) == 200
    assert order(alice_client) == "bac"


@together
def test_key_is_good_where_siblings_are_numbered(alice: User, alice_client: ApiClient) -> None:
    """[I1] And it counts as one write."""
    ids = new_tasks(alice_client, "abc")
    take_room(ids)
    path, where = f"{TASKS}/{ids[0]}/move", {"before": ids[2]}
    left = int(alice_client.post(f"{TASKS}/{ids[2]}/move")["RateLimit-Remaining"])

    first = alice_client.post(path, where, idempotency_key="k")
    before = clock(alice)
    again = alice_client.post(path, where, idempotency_key="k")

    assert data_of(first) == data_of(again)
    assert int(first["RateLimit-Remaining"]) == left - 1
    assert (order(alice_client), clock(alice)) == ("bac", before)


@together
def test_what_is_restored_has_its_place_among_the_numbered(alice_client: ApiClient) -> None:
    """[D1]"""
    ids = new_tasks(alice_client, "abcd")
    take_room(ids)
    delete(alice_client, ids[2])

    move(alice_client, ids[0], before=ids[3])
    data_of(alice_client.post(f"{TASKS}/{ids[2]}/restore"))

    assert order(alice_client) == "bacd"


@together
def test_a_thousand_moves_to_one_place(alice: User, alice_client: ApiClient) -> None:
    """Each into the gap that the one before has halved."""
    first, *pair, last = new_tasks(alice_client, "axyb")
    before = clock(alice)

    lengths = set()
    for n in range(1000):
        moved = move(alice_client, pair[n % 2], before=last)
        lengths.add(len(moved["position"]))

    assert order(alice_client) == "axyb"
    assert max(lengths) <= POSITION_MAX_CHARACTERS
    numbered = clock(alice) - before - 1000
    assert 3 <= numbered <= 6  # after some two hundred each
    assert read(alice_client, first)["version"] > before


@together
def test_a_thousand_siblings_without_positions(alice: User, alice_client: ApiClient) -> None:
    rows = Task.objects.bulk_create(Task(user=alice, title="x") for _ in range(1000))
    ids = [str(task.pk) for task in rows]
    take_room(ids)
    before = clock(alice)

    move(alice_client, ids[999], before=ids[500])
    move(alice_client, ids[0], after=ids[1])

    found = Task.objects.order_by("position", "id").values_list("pk", flat=True)
    expected = [ids[1], ids[0], *ids[2:500], ids[999], *ids[500:999]]
    assert list(map(str, found)) == expected
    changed = {version: len(tasks) for version, tasks in changed_since(alice, before).items()}
    assert changed == {before + 1: 1000, before + 2: 1, before + 3: 1}


# --- Any moves --------------------------------------------------------------------------------


@dataclass
class Forest:
    """Ordered trees in lists, as a person would think of them."""

    parents: dict[str, str | None] = field(default_factory=dict)
    siblings: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)

    def add(self, task: str, list_id: str | None) -> None:
        self.parents[task] = None
        self.siblings.setdefault(("list", list_id), []).append(task)

    def group_of(self, task: str) -> tuple[str, str | None]:
        return next(group for group, tasks in self.siblings.items() if task in tasks)

    def list_of(self, task: str) -> str | None:
        while (parent := self.parents[task]) is not None:
            task = parent
        return self.group_of(task)[1]

    def below(self, task: str) -> Iterator[str]:
        """The task and all below it."""
        yield task
        for child in self.siblings.get(("parent", task), []):
            yield from self.below(child)

    def height(self, task: str) -> int:
        return 1 + max(map(self.height, self.siblings.get(("parent", task), [])), default=0)

    def level(self, task: str | None) -> int:
        return 0 if task is None else 1 + self.level(self.parents[task])

    def move(self, task: str, where: Mapping[str, str | None]) -> bool | None:
        """Whether anything changes; None where it can't be."""
        neighbour = where.get("before") or where.get("after")
        if neighbour is not None:
            if neighbour == task:
                return None
            group = self.group_of(neighbour)
            list_id, parent = self.list_of(neighbour), self.parents[neighbour]
            if where.get("list_id", list_id) != list_id or where.get("parent_id", parent) != parent:
                return None
        elif (parent := where.get("parent_id")) is not None:
            group = ("parent", parent)
            if where.get("list_id", self.list_of(parent)) != self.list_of(parent):
                return None
        elif where:
            group = ("list", where.get("list_id", self.list_of(task)))
        else:
            group, parent = self.group_of(task), self.parents[task]
        if parent in set(self.below(task)):
            return None
        if self.level(parent) + self.height(task) > TASK_LEVELS_MAX:
            return None
        was = self.group_of(task)
        place = (was, self.siblings[was].index(task))
        self.siblings[was].remove(task)
        goal = self.siblings.setdefault(group, [])
        at = len(goal) if neighbour is None else goal.index(neighbour) + ("after" in where)
        goal.insert(at, task)
        self.parents[task] = parent
        return place != (group, at)

    def found(self) -> dict[tuple[str, str | None], list[str]]:
        return {group: tasks for group, tasks in self.siblings.items() if tasks}


def forest_of(user: User) -> dict[tuple[str, str | None], list[str]]:
    """What the table has."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for task in Task.objects.owned_by(user.pk).order_by("position", "id"):
        kind, above = (
            ("list", task.list_id) if task.parent_id is None else ("parent", task.parent_id)
        )
        group = (kind, None if above is None else str(above))
        groups.setdefault(group, []).append(str(task.pk))
    return groups


TASKS_COUNT = 8
NUMBERS = st.integers(0, TASKS_COUNT - 1)
PLACES = st.one_of(
    st.fixed_dictionaries({"before": NUMBERS}),
    st.fixed_dictionaries({"after": NUMBERS}),
    st.fixed_dictionaries({"parent_id": NUMBERS}),
    st.fixed_dictionaries({"list_id": st.integers(0, 1)}),
    st.fixed_dictionaries({}, optional={"parent_id": NUMBERS, "list_id": st.integers(0, 1)}),
    st.fixed_dictionaries(
        {"before": NUMBERS},
        optional={"parent_id": st.one_of(st.none(), NUMBERS), "list_id": st.integers(0, 1)},
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), NUMBERS, PLACES),
        st.tuples(st.just("move in a batch"), NUMBERS, PLACES),
        st.tuples(st.sampled_from(["none", "long"]), NUMBERS, st.just({})),
    ),
    min_size=5,
    max_size=25,
)


@together
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_any_moves_make_the_order_that_they_say(
    steps: Sequence[tuple[str, int, Mapping[str, Any]]], alice: User, alice_client: ApiClient
) -> None:
    """[V1] Also across numbering: where positions are none, or as long as can be."""
    Task.objects.all().delete()
    TaskList.objects.all().delete()
    lists = [None, str(TaskList.objects.create(user=alice, name="Groceries").pk)]
    rows = Task.objects.bulk_create(
        Task(user=alice, title="x", list_id=lists[n % 2]) for n in range(TASKS_COUNT)
    )
    ids = [str(task.pk) for task in rows]
    forest = Forest()
    for n, task in enumerate(ids):
        forest.add(task, lists[n % 2])

    for op, number, place in steps:
        task = ids[number]
        if op in ("none", "long"):
            group = forest.group_of(task)
            squeeze(forest.siblings[group], is_long=op == "long")
            if op == "none":
                forest.siblings[group].sort()
            assert forest_of(alice) == forest.found()
            continue
        where = {
            name: value if value is None else (lists if name == "list_id" else ids)[value]
            for name, value in place.items()
        }
        before = Task.objects.get(pk=task).version
        changes = forest.move(task, where)
        if op == "move":
            status = alice_client.post(f"{TASKS}/{task}/move", where).status_code
        else:
            body = {"operations": [{"op": "move", "id": task, "data": where}], "atomic": False}
            ((outcome),) = data_of(alice_client.post(BATCH, body))
            status = outcome["status"]
        assert status == (400 if changes is None else 200)
        if changes is False:
            assert Task.objects.get(pk=task).version == before
        assert forest_of(alice) == forest.found()


def squeeze(tasks: Sequence[str], *, is_long: bool) -> None:
    """Leaves no room between them, in the order that they have."""
    if not is_long:
        take_room(tasks)
        return
    for number, task in enumerate(tasks, start=1):
        # Less than what is new; of two that follow each other the text between is too long.
        position = Concat(Value("0" * (POSITION_MAX_CHARACTERS - 2)), Value(f"{number:02x}"))
        Task.objects.filter(pk=task).update(position=position)


@pytest.mark.parametrize(
    ("low", "high", "between"),
    [
        pytest.param("", "8", "4", id="before the first"),
        pytest.param("", "1", "08", id="before a small one"),
        pytest.param("", "000000000001", "0000000000008", id="before the first of all"),
        pytest.param("4", "8", "6", id="a digit between"),
        pytest.param("4", "5", "48", id="none between"),
        pytest.param("4f", "5", "4f8", id="none but behind"),
        pytest.param("4", "41", "408", id="behind the lower"),
        pytest.param("00000000002a", "00000000002b", "00000000002a8", id="two versions"),
        pytest.param("", "", None, id="neither has one"),
        pytest.param("", "0", None, id="nothing is less"),
        pytest.param("4", "4", None, id="the same"),
        pytest.param("4", "40", None, id="next to each other"),
        pytest.param("5", "4", None, id="the wrong way round"),
    ],
)
def test_text_between_two_others(low: str, high: str, between: str | None, db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tasks_position_between(%s, %s)", [low, high])
        assert cursor.fetchone() == (between,)
    assert between is None or low < between < high


# --- What it costs ----------------------------------------------------------------------------


@needs_prepared_statements
@together
@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "k"}], ids=["bare", "keyed"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param({"before": "{first}"}, id="before"),
        pytest.param({"after": "{first}"}, id="after"),
        pytest.param({"parent_id": "{first}"}, id="below"),
        pytest.param({"list_id": "{list}"}, id="into a list"),
        pytest.param({}, id="last"),
    ],
)
def test_move_is_one_statement_and_one_round_trip(
    where: Mapping[str, str],
    headers: Mapping[str, str],
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """With twenty subtasks and a hundred siblings."""
    row = TaskList.objects.create(user=alice, name="Groceries")
    first, *rest = Task.objects.bulk_create(Task(user=alice, title="x") for _ in range(100))
    ids = {"first": str(first.pk), "list": str(row.pk)}
    body = {name: value.format(**ids) for name, value in where.items()}
    tasks = rest[40:43]
    for task in tasks:
        Task.objects.bulk_create(Task(user=alice, title="x", parent=task) for _ in range(20))

    def send(number: int) -> Any:
        keyed = {name: f"{value}{number}" for name, value in headers.items()}
        return alice_client.post(f"{TASKS}/{tasks[number].pk}/move", body, **keyed)

    send(0)  # prepares
    with django_assert_num_queries(1):
        data_of(send(1))
    with counted_round_trips(connection.connection) as round_trips:
        response = send(2)
        assert (response.status_code, round_trips()) == (200, 1)


@needs_prepared_statements
@together
def test_batch_of_moves_takes_two_round_trips(alice: User, alice_client: ApiClient) -> None:
    """[B6] What it does, and its end."""
    ids = new_tasks(alice_client, "abcdef")
    operations = [{"op": "move", "id": task, "data": {"before": ids[0]}} for task in ids[1:]]
    data_of(alice_client.post(BATCH, {"operations": operations}))  # prepares

    with counted_round_trips(connection.connection) as round_trips:
        data_of(alice_client.post(BATCH, {"operations": operations[::-1]}))
        assert round_trips() == 2


# --- Races ------------------------------------------------------------------------------------


def client_of(user: User) -> ApiClient:
    return ApiClient(begin_session(user).access)


@together
@pytest.mark.parametrize("by", ["move", "PATCH", "sql and move"])
def test_moves_that_cross_make_no_circle(by: str, alice: User, bob: User) -> None:
    """One below the other while that comes below the first: one is done, whatever meets."""
    one, two = (Task.objects.create(user=alice, title=title) for title in "ab")
    clients = [client_of(alice), client_of(alice)]

    def write(client: ApiClient, task: Task, parent: Task) -> int:
        where = {"parent_id": str(parent.pk)}
        if by == "PATCH":
            return client.patch(f"{TASKS}/{task.pk}", where).status_code
        if by == "sql and move" and task is two:
            try:
                Task.objects.filter(pk=task.pk).update(parent=parent)
            except IntegrityError:
                return 400
            return 200
        return client.post(f"{TASKS}/{task.pk}/move", where).status_code

    works = [partial(write, clients[0], one, two), partial(write, clients[1], two, one)]
    for _ in range(200 if by == "move" else 10):
        statuses = meeting([alice], *works)

        assert sorted(statuses) == [200, 400]
        below = dict(Task.objects.filter(parent__isnull=False).values_list("pk", "parent_id"))
        assert below == ({one.pk: two.pk} if statuses[0] == 200 else {two.pk: one.pk})
        Task.objects.update(parent=None)


@together
@pytest.mark.parametrize("are_old", [False, True], ids=["placed", "without a position"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_moves_to_one_place_at_once(
    side: str, are_old: bool, alice: User, alice_client: ApiClient
) -> None:
    """All are done, each next to that sibling when it was, and no two have one position."""
    ids = new_tasks(alice_client, "abcdefghij")
    if are_old:
        take_room(ids)
    middle = ids[4]
    moved = [ids[n] for n in (0, 2, 7, 9)]
    clients = [client_of(alice) for _ in moved]
    before = clock(alice)

    responses = meeting(
        [alice],
        *(
            partial(client.post, f"{TASKS}/{task}/move", {side: middle})
            for client, task in zip(clients, moved, strict=True)
        ),
    )

    rows = [data_of(response) for response in responses]
    by_time = [row["title"] for row in sorted(rows, key=lambda row: row["version"])]
    if side == "before":
        expected = "bd" + "".join(by_time) + "efgi"
    else:
        expected = "bde" + "".join(by_time[::-1]) + "fgi"
    assert order(alice_client) == expected
    assert Task.objects.values("position").distinct().count() == len(ids)
    assert len(changed_since(alice, before)) == clock(alice) - before


@together
def test_move_meets_what_happens_to_its_neighbour(alice: User, alice_client: ApiClient) -> None:
    """It is found, and looked at, once the others are done: never where it isn't any more."""
    row = new_list(alice_client)
    neighbour, task = new_tasks(alice_client, "ab")
    clients = [client_of(alice) for _ in range(2)]

    responses = meeting(
        [alice],
        partial(clients[0].patch, f"{TASKS}/{neighbour}", {"list_id": row}),
        partial(clients[1].post, f"{TASKS}/{task}/move", {"before": neighbour}),
    )

    assert [response.status_code for response in responses] == [200, 200]
    is_after = json.loads(responses[1].content)["data"]["list_id"] == row
    assert order(alice_client, list_id=row) == ("ba" if is_after else "a")
    assert UUID(task) in Task.objects.values_list("pk", flat=True)
