"""[F1] [F2] The feed of changes: who follows it has, at its end, exactly what is there."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import Racers
from todo_project.models import Change, Clock, Purged, random_epoch
from todo_project.purging import purge_changes, purge_trash

LIST = "/api/me/tasks"
CHANGES = "/api/me/changes"
TRASH = "/api/me/trash"
MEBIBYTE = 1024 * 1024


def create(client: ApiClient, title: str = "x", **fields: Any) -> Any:
    return data_of(client.post(LIST, {"title": title, **fields}), 201)


class Follower:
    """A device: what it has, and how far it is."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.rows: dict[str, Any] = {}
        self.since: str | None = None
        self.seen: list[Any] = []  # every change that it was told

    def pull(self, limit: int | None = None) -> bool:
        """One page. Whether there is more."""
        query: dict[str, Any] = {} if limit is None else {"limit": limit}
        if self.since is not None:
            query["since"] = self.since
        response = self._client.get(CHANGES, query=query)
        changes, meta = data_of(response), meta_of(response)
        assert meta.keys() == {"request_id", "next_since", "has_more"}
        assert limit is None or len(changes) <= limit
        assert len({(change["type"], change["id"]) for change in changes}) == len(changes)
        for change in changes:
            assert change["type"] == "task"
            if change["deleted"]:
                assert change["resource"] is None
                self.rows.pop(change["id"], None)
            else:
                assert change["resource"]["id"] == change["id"]
                assert change["resource"]["version"] == change["version"]
                self.rows[change["id"]] = change["resource"]
        self.seen += changes
        self.since = meta["next_since"]
        more: bool = meta["has_more"]
        return more

    def catch_up(self, limit: int | None = None) -> list[Any]:
        """All that there is; what came."""
        begin = len(self.seen)
        turns = 0
        while self.pull(limit):
            turns += 1
            assert turns < 1000, "it never ends"
        return self.seen[begin:]

    def assert_complete(self) -> None:
        assert self.rows == living(self._client)


def living(client: ApiClient) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    query: dict[str, Any] = {"limit": 200}
    while query.get("cursor", "") is not None:
        response = client.get(LIST, query=query)
        rows |= {row["id"]: row for row in data_of(response)}
        query["cursor"] = meta_of(response)["next_cursor"]
    return rows


def apart() -> None:
    """Lets what the database stamps next be another transaction's; a test's is one."""
    Clock.objects.update(stamped_by=None)


@pytest.fixture
def follower(alice_client: ApiClient) -> Follower:
    return Follower(alice_client)


# --- What it tells ----------------------------------------------------------------------------


def test_begins_with_everything_that_lives(
    alice_client: ApiClient, follower: Follower, bob_client: ApiClient
) -> None:
    """[F1] No tombstones; and nothing of anybody else."""
    tasks = [create(alice_client, f"{n}") for n in range(5)]
    create(bob_client)
    alice_client.delete(f"{LIST}/{tasks[0]['id']}")
    alice_client.delete(f"{LIST}/{tasks[1]['id']}?permanent=true")

    changes = follower.catch_up()

    assert sorted(change["id"] for change in changes) == sorted(row["id"] for row in tasks[2:])
    assert not any(change["deleted"] for change in changes)
    follower.assert_complete()
    assert follower.catch_up() == []


def test_empty_feed_has_a_position(follower: Follower, alice_client: ApiClient) -> None:
    """[F1] From which what comes is told."""
    assert follower.catch_up() == []
    task = create(alice_client)

    (change,) = follower.catch_up()

    assert change == {
        "type": "task",
        "id": task["id"],
        "version": task["version"],
        "deleted": False,
        "resource": task,
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_tells_in_the_order_of_versions(
    limit: int, alice_client: ApiClient, follower: Follower
) -> None:
    """[F1] Each thing once, as it is now, wherever it stood in between."""
    tasks = [create(alice_client, f"{n}") for n in range(5)]
    follower.catch_up()
    for turn in range(3):
        for task in reversed(tasks):
            data_of(alice_client.patch(f"{LIST}/{task['id']}", {"title": f"{turn}"}))
    alice_client.delete(f"{LIST}/{tasks[2]['id']}")

    changes = follower.catch_up(limit)

    versions = [change["version"] for change in changes]
    assert versions == sorted(versions)
    assert [change["id"] for change in changes] == [tasks[n]["id"] for n in (4, 3, 1, 0, 2)]
    follower.assert_complete()


@pytest.mark.parametrize(
    ("steps", "is_told", "is_deleted"),
    [
        pytest.param(["trash"], True, True, id="trashed"),
        pytest.param(["purge"], True, True, id="purged"),
        pytest.param(["trash", "purge"], True, True, id="purged from the trash"),
        pytest.param(["trash", "restore"], True, False, id="restored"),
        pytest.param(["trash", "restore", "trash"], True, True, id="trashed again"),
        pytest.param(["purge", "put"], True, False, id="made again"),
        pytest.param(["trash", "purge", "put", "trash"], True, True, id="made again and trashed"),
        pytest.param(["purge", "put", "purge"], True, True, id="made again and purged"),
        pytest.param(["complete", "complete"], True, False, id="completed"),
        pytest.param(["nothing"], False, False, id="nothing changed"),
    ],
)
@pytest.mark.parametrize("pulls", [False, True], ids=["at the end", "after each step"])
def test_tells_what_became_of_it(
    pulls: bool,
    steps: list[str],
    is_told: bool,
    is_deleted: bool,
    alice_client: ApiClient,
    follower: Follower,
) -> None:
    """[F1] Once, and as it is now."""
    address = f"{LIST}/{create(alice_client)['id']}"
    follower.catch_up()
    send: dict[str, Callable[[], Any]] = {
        "trash": lambda: alice_client.delete(address),
        "purge": lambda: alice_client.delete(f"{address}?permanent=true"),
        "restore": lambda: alice_client.post(f"{address}/restore"),
        "put": lambda: alice_client.put(address, {"title": "again"}, if_none_match="*"),
        "complete": lambda: alice_client.patch(f"{address}/complete"),
        "nothing": lambda: alice_client.patch(address, {"title": "x"}),
    }
    changes: list[Any] = []
    for step in steps:
        apart()
        assert send[step]().status_code in (200, 201, 204)
        if pulls:
            changes += follower.catch_up()
            follower.assert_complete()
    if not pulls:
        changes = follower.catch_up()
        assert len(changes) == (1 if is_told else 0)

    assert not changes or changes[-1]["deleted"] is is_deleted
    follower.assert_complete()


def test_write_by_hand_is_told(alice: User, alice_client: ApiClient, follower: Follower) -> None:
    """[V1] Admin, commands and imports stamp as well."""
    create(alice_client)
    follower.catch_up()
    writes: list[Callable[[], Any]] = [
        lambda: Task.objects.update(title="by hand"),
        lambda: Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3)),
        Task.objects.all()[0].delete,
        lambda: Task.objects.update(deleted_at=timezone.now()),
        Task.objects.all().delete,
    ]
    for write in writes:
        apart()
        write()
        follower.catch_up(2)
        follower.assert_complete()


def test_one_statement_for_a_page(
    alice_client: ApiClient,
    follower: Follower,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[F1] Of the walk, and of what came after."""
    for _ in range(4):
        create(alice_client)
    for _ in range(3):
        with django_assert_num_queries(1):
            follower.pull(2)
    create(alice_client)
    with django_assert_num_queries(1):
        follower.pull(2)
    follower.assert_complete()


# --- Positions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"since": "x"},
        {"since": "0"},
        {"since": "5"},
        {"since": "x" * 5000},
        {"since": "W10.AAAA"},
        {"since": "é"},
        {"since": ""},
        {"since": " "},
        {"limit": 0},
        {"limit": 201},
        {"cursor": "x"},
        {"total": "true"},
    ],
    ids=str,
)
def test_feed_takes_no_other_parameter(query: dict[str, Any], alice_client: ApiClient) -> None:
    """[F1] [B4] A forged position is 400, never 500."""
    details = assert_error(alice_client.get(CHANGES, query=query), 400, "VALIDATION_ERROR")

    assert list(details) == list(query)


def test_positions_are_bound_to_the_caller(
    alice_client: ApiClient, bob_client: ApiClient, follower: Follower
) -> None:
    """[F1] And to the feed, and to every character."""
    create(alice_client)
    create(alice_client)
    follower.pull(1)
    since = str(follower.since)
    cursor = meta_of(alice_client.get(LIST, query={"limit": 1}))["next_cursor"]
    forged = [since[:n] + ("A" if since[n] != "A" else "B") + since[n + 1 :] for n in (0, 9, -9)]

    for client, position in [
        (bob_client, since),
        (alice_client, cursor),
        *((alice_client, position) for position in forged),
    ]:
        response = client.get(CHANGES, query={"since": position})
        details = assert_error(response, 400, "VALIDATION_ERROR")
        assert details["since"][0]["code"] == "invalid_cursor"
    assert "400" not in str(alice_client.get(CHANGES, query={"since": since}).status_code)


def test_position_of_another_epoch_is_gone(
    alice: User, alice_client: ApiClient, follower: Follower
) -> None:
    """[F1] [V2] Of the walk and behind it; so is one of a future that was undone."""
    for _ in range(3):
        create(alice_client)
    follower.pull(1)
    positions = [follower.since]
    follower.catch_up()
    positions.append(follower.since)
    create(alice_client)
    follower.catch_up()
    positions.append(follower.since)
    Clock.objects.filter(user=alice).update(epoch=random_epoch())

    for position in positions:
        response = alice_client.get(CHANGES, query={"since": position})
        assert assert_error(response, 410, "GONE") == {}
    anew = Follower(alice_client)
    anew.catch_up()
    anew.assert_complete()


@pytest.fixture
def purge(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets days pass, and `purge_expired` run, within the test's transaction."""
    monkeypatch.setattr("todo_project.purging._DATABASE", "default")

    def after(days: float) -> None:
        age = timezone.now() - timedelta(days=days)
        Change.objects.update(changed_at=age)
        Task.objects.exclude(deleted_at=None).update(deleted_at=age)
        purge_trash(Task, batch_rows=1000)
        purge_changes(batch_rows=2)

    return after


def test_position_older_than_what_is_kept_is_gone(
    alice_client: ApiClient, follower: Follower, purge: Any
) -> None:
    """[F1] 90 days. Who has seen what was purged goes on."""
    tasks = [create(alice_client, f"{n}") for n in range(3)]
    follower.catch_up()
    early = follower.since
    alice_client.delete(f"{LIST}/{tasks[0]['id']}?permanent=true")
    alice_client.patch(f"{LIST}/{tasks[1]['id']}", {"title": "y"})
    follower.catch_up()

    purge(89.9)
    assert data_of(alice_client.get(CHANGES, query={"since": early}))
    purge(90.1)

    assert not Change.objects.exists()
    assert not Purged.objects.exists()
    response = alice_client.get(CHANGES, query={"since": early})
    assert assert_error(response, 410, "GONE") == {}
    assert follower.catch_up() == []
    create(alice_client)
    assert len(follower.catch_up()) == 1
    follower.assert_complete()


def test_position_inside_a_version_that_was_purged_is_gone(
    alice: User, alice_client: ApiClient, follower: Follower, purge: Any
) -> None:
    """[F2] A version may have many rows, and a page ends among them."""
    follower.catch_up()
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    assert follower.pull(2)
    purge(91)

    response = alice_client.get(CHANGES, query={"since": follower.since})

    assert_error(response, 410, "GONE")


def test_end_of_a_version_is_the_same_in_any_collation(
    alice_client: ApiClient, follower: Follower
) -> None:
    """[F1] Databases sort signs before letters, or behind them; an empty text is always first."""
    create(alice_client)
    follower.catch_up()
    sent: list[Any] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sent.append((params["after_version"], params["after_type"]))
        return execute(sql, params, many, context)

    task = create(alice_client)
    follower.catch_up()
    with connection.execute_wrapper(note):
        assert follower.catch_up() == []

    assert sent == [(task["version"] + 1, "")]


def test_ended_session_comes_before_gone(
    alice: User, alice_client: ApiClient, follower: Follower
) -> None:
    """[E1] [S3]"""
    follower.catch_up()
    Clock.objects.filter(user=alice).update(epoch=random_epoch())
    Session.objects.filter(user=alice).end()

    for since in (follower.since, "x"):
        response = alice_client.get(CHANGES, query={"since": since})
        assert_error(response, 401, "TOKEN_INVALID")


def test_feed_needs_its_person(alice: User, alice_client: ApiClient, bob: User) -> None:
    """[R1]"""
    assert_error(alice_client.get(f"/api/{bob.pk}/changes"), 403, "PERMISSION_DENIED")
    assert data_of(alice_client.get(f"/api/{alice.pk}/changes/")) == []
    assert_error(ApiClient().get(CHANGES), 401, "NOT_AUTHENTICATED")
    assert_error(alice_client.post(CHANGES), 405, "METHOD_NOT_ALLOWED")


def test_nothing_new_is_not_modified(alice_client: ApiClient, follower: Follower) -> None:
    """[F1] [V2] At the same position; a follower asks again and again."""
    create(alice_client)
    follower.catch_up()
    query = {"since": follower.since}
    idle = alice_client.get(CHANGES, query=query)
    assert data_of(idle) == []

    again = alice_client.get(CHANGES, query=query, if_none_match=idle["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    create(alice_client)
    changed = alice_client.get(CHANGES, query=query, if_none_match=idle["ETag"])
    assert len(data_of(changed)) == 1


# --- Pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "most"), [(None, 100), (1, 1), (200, 200)], ids=["default", "least", "most"]
)
def test_limit_of_a_page(
    limit: int | None, most: int, alice: User, alice_client: ApiClient
) -> None:
    """[F1]"""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(201))

    response = alice_client.get(CHANGES, query={} if limit is None else {"limit": limit})

    assert len(data_of(response)) == most
    assert meta_of(response)["has_more"] is True


@pytest.mark.parametrize("is_walk", [True, False], ids=["walk", "log"])
@pytest.mark.parametrize("character", ["🎉", "\x01"], ids=["four bytes", "escaped"])
def test_page_ends_before_a_mebibyte(
    character: str, is_walk: bool, alice: User, alice_client: ApiClient, follower: Follower
) -> None:
    """[L5] [F1] And nothing is lost between pages."""
    if not is_walk:
        follower.catch_up()
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", description=character * 20_000) for n in range(30)
    )
    sizes = []
    more = True
    while more:
        query = (
            {"limit": 200} if follower.since is None else {"limit": 200, "since": follower.since}
        )
        sizes.append(len(alice_client.get(CHANGES, query=query).content))
        more = follower.pull(200)

    assert all(size < 1.02 * MEBIBYTE for size in sizes)
    assert all(size > 0.8 * MEBIBYTE for size in sizes[:-1])
    assert len(sizes) > 1
    follower.assert_complete()


def test_last_page_says_so(alice_client: ApiClient, follower: Follower) -> None:
    """[F1] `has_more` is false as soon as there is nothing more, also where the page is full."""
    for _ in range(4):
        create(alice_client)
    assert [follower.pull(2), follower.pull(2)] == [True, False]
    for _ in range(4):
        create(alice_client)
    assert [follower.pull(2), follower.pull(2)] == [True, False]
    follower.assert_complete()


# --- While others write -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_walk_while_others_write(limit: int, alice_client: ApiClient, follower: Follower) -> None:
    """[F2] Before and behind the place where it stands."""
    ids = [create(alice_client, f"{n}")["id"] for n in range(8)]
    writes: list[Callable[[], Any]] = [
        lambda: alice_client.patch(f"{LIST}/{ids[0]}", {"title": "behind"}),
        lambda: alice_client.patch(f"{LIST}/{ids[7]}", {"title": "before"}),
        lambda: alice_client.delete(f"{LIST}/{ids[1]}"),
        lambda: alice_client.delete(f"{LIST}/{ids[6]}?permanent=true"),
        lambda: create(alice_client, "new"),
        lambda: alice_client.post(f"{LIST}/{ids[1]}/restore"),
        lambda: alice_client.put(
            f"{LIST}/00000000-0000-4000-8000-000000000001", {"title": "y"}, if_none_match="*"
        ),
    ]
    more = True
    while more or writes:
        more = follower.pull(limit)
        if not more:
            follower.assert_complete()
        if writes:
            writes.pop(0)()
    follower.catch_up()

    follower.assert_complete()


operations = st.lists(
    st.tuples(
        st.sampled_from(
            ["create", "update", "same", "complete", "trash", "restore", "purge", "put", "hand"]
            + ["pull"] * 3
        ),
        st.integers(0, 5),
        st.integers(1, 4),
    ),
    max_size=40,
)


@given(operations=operations, limit=st.integers(1, 5))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_follower_has_exactly_what_is_there(
    operations: list[tuple[str, int, int]], limit: int, alice: User, alice_client: ApiClient
) -> None:
    """[F2] Whatever was done between its pages, of whatever size."""
    for row in Task.objects.all():
        alice_client.delete(f"{LIST}/{row.pk}?permanent=true")
    follower, early = Follower(alice_client), Follower(alice_client)
    early.catch_up()
    ids = [str(uuid4()) for _ in range(6)]
    for turn, (operation, which, size) in enumerate(operations):
        apart()
        address = f"{LIST}/{ids[which]}"
        match operation:
            case "create":
                ids[which] = create(alice_client, f"{turn}")["id"]
            case "update":
                alice_client.patch(address, {"title": f"{turn}"})
            case "same":
                alice_client.patch(address, {})
            case "complete":
                alice_client.patch(f"{address}/complete", {"is_completed": turn % 2 == 0})
            case "trash":
                alice_client.delete(address)
            case "restore":
                alice_client.post(f"{address}/restore")
            case "purge":
                alice_client.delete(f"{address}?permanent=true")
            case "put":
                alice_client.put(address, {"title": f"{turn}"}, if_none_match="*")
            case "hand":
                Task.objects.filter(pk=ids[which]).update(description=f"{turn}")
            case "pull":
                if not follower.pull(size):
                    follower.assert_complete()

    follower.catch_up(limit)
    early.catch_up(limit)

    follower.assert_complete()
    early.assert_complete()


@pytest.mark.django_db(transaction=True)
def test_followers_of_simultaneous_writers(alice: User) -> None:
    """[F2] However many write at the same time, and whatever commits late."""
    access = begin_session(alice).access
    client = ApiClient(access)
    shared = [create(client, f"{n}")["id"] for n in range(6)]
    rest = {"writers": 3}

    def write(seed: int) -> None:
        own = ApiClient(access)
        try:
            for turn in range(30):
                target = f"{LIST}/{shared[(turn * seed + seed) % len(shared)]}"
                match (turn + seed) % 5:
                    case 0:
                        create(own, f"{seed} {turn}")
                    case 1:
                        own.delete(target)
                    case 2:
                        own.post(f"{target}/restore")
                    case _:
                        own.patch(target, {"title": f"{seed} {turn}"})
        finally:
            rest["writers"] -= 1

    def follow(limit: int) -> Follower:
        follower = Follower(ApiClient(access))
        while rest["writers"]:
            follower.pull(limit)
        follower.catch_up(limit)
        return follower

    def work(number: int) -> Follower | None:
        if number > 3:
            return follow(number - 3)
        write(number)
        return None

    with Racers(5) as racers:
        done = racers.race(*(lambda number=number: work(number) for number in range(1, 6)))

    followers = [follower for follower in done if follower is not None]
    assert len(followers) == 2
    for follower in followers:
        follower.assert_complete()


@pytest.mark.django_db(transaction=True)
def test_what_commits_late_is_not_missed(alice: User) -> None:
    """[F2] A write by hand holds the clock: no later version is told before it commits."""
    client = ApiClient(begin_session(alice).access)
    task = create(client)
    follower = Follower(client)
    follower.catch_up()
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("UPDATE tasks_task SET title = 'late' WHERE id = %s", [task["id"]])
            with Racers(1) as racers:
                (future,) = racers.start(lambda: create(ApiClient(client.access), "meanwhile"))
                assert follower.catch_up() == []
                assert not future.done()
                other.commit()
                later = future.result()
    finally:
        other.close()

    assert [change["id"] for change in follower.catch_up()] == [task["id"], later["id"]]
    follower.assert_complete()
