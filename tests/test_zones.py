"""When tasks with a zone are due: found by the database, by the application's zones."""

import io
import json
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from tasks.days import OFFSETS_UNTIL, ZONES, due_at
from tasks.models import Task
from tasks.zones import load
from tests.client import ApiClient, Browser, assert_error, data_of
from todo_project.models import Change, Clock

LIST = "/api/me/tasks"

BERLIN: Mapping[str, Any] = {
    "due_on": "2026-12-01",
    "due_time": "09:30",
    "time_zone": "Europe/Berlin",
}
BERLIN_AT = "2026-12-01T08:30:00.000000Z"
ROW: Mapping[str, Any] = {
    "due_on": date(2026, 12, 1),
    "due_time": time(9, 30),
    "time_zone": "Europe/Berlin",
}
ROW_AT = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)


def sql(statement: str, *parameters: Any, using: str = "default") -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


# --- What the database finds ------------------------------------------------------------------

_SEED = 20261127
_RANDOM_TIMES = 20_000
_DAY_S = 24 * 60 * 60
# Days around which clocks change: in Berlin, Lord Howe (by half an hour) and New York; the day that
# Apia left out; Kathmandu's quarter of an hour.
_EDGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("America/New_York", date(2183, 3, 9)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Asia/Kathmandu", date(1986, 1, 1)),
    ("Asia/Gaza", date(2040, 10, 20)),
    ("Africa/Monrovia", date(1972, 1, 7)),
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Europe/Dublin", date(1968, 10, 27)),
]


def _times() -> Iterator[tuple[date, time, str]]:
    for zone, day in _EDGES:
        for minute in range(-_DAY_S // 60, 2 * _DAY_S // 60, 15):
            for seconds in (-1, 0):
                at = datetime.combine(day, time()) + timedelta(minutes=minute, seconds=seconds)
                yield at.date(), at.time(), zone
    chance = random.Random(_SEED)
    zones = sorted(ZONES)
    days = OFFSETS_UNTIL.toordinal() - 1
    for number in range(_RANDOM_TIMES):
        first = date(1900, 1, 1).toordinal() if number % 10 else 1
        day = date.fromordinal(chance.randint(first, days))
        second = timedelta(seconds=chance.randrange(_DAY_S))
        yield day, (datetime.combine(day, time()) + second).time(), chance.choice(zones)


@pytest.mark.django_db
def test_database_finds_the_instants_that_python_finds() -> None:
    """As RFC 5545 has it: skipped times, repeated ones, any zone, any day until 2199."""
    times = list(_times())
    columns = [list(column) for column in zip(*times, strict=True)]

    found = sql(
        "SELECT tasks_due_at(on_day, at, zone)"
        "  FROM unnest(%s::date[], %s::time[], %s::text[]) WITH ORDINALITY"
        "       AS local (on_day, at, zone, number) ORDER BY number",
        *columns,
    )

    assert [instant for (instant,) in found] == [due_at(*each) for each in times]


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Sydney", "Europe/Dublin", "UTC"])
def test_far_future_has_winter_time(zone: str) -> None:
    """Whatever the season."""
    winters = {due_at(date(2199, month, 2), time(12), zone) for month in (1, 7)}
    latest = max(at.time() for at in winters if at)

    for month in (1, 7):
        ((found,),) = sql("SELECT tasks_due_at(%s, '12:00', %s)", date(2300, month, 2), zone)
        assert found.time() == latest


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("on", "at", "zone"),
    [
        pytest.param("9999-12-31", "23:59", "America/New_York", id="after 9999"),
        pytest.param("0001-01-01", "00:00", "Asia/Tokyo", id="before 1"),
        pytest.param("2026-12-01", "09:30", "Mars/Olympus_Mons", id="no zone"),
        pytest.param("2026-12-01", "09:30", "EST", id="a zone of PostgreSQL's"),
        pytest.param("2026-12-01", None, "Europe/Berlin", id="any time"),
        pytest.param("2026-12-01", "09:30", None, id="wherever the person is"),
    ],
)
def test_there_is_no_instant(on: str, at: str | None, zone: str | None) -> None:
    assert sql("SELECT tasks_due_at(%s, %s, %s)", on, at, zone) == [(None,)]


# --- Requests ---------------------------------------------------------------------------------


def test_due_at_is_that_of_the_zone(alice_client: ApiClient) -> None:
    created = data_of(alice_client.post(LIST, {"title": "x", **BERLIN}), 201)
    path = f"{LIST}/{created['id']}"

    assert created["time_zone"] == "Europe/Berlin"
    assert created["due_at"] == BERLIN_AT
    assert data_of(alice_client.get(path)) == created


@pytest.mark.parametrize(
    ("sent", "instant"),
    [
        pytest.param({"due_on": "2026-07-01"}, "2026-07-01T07:30:00.000000Z", id="day"),
        pytest.param({"due_time": "09:31"}, "2026-12-01T08:31:00.000000Z", id="time"),
        pytest.param({"time_zone": "UTC"}, "2026-12-01T09:30:00.000000Z", id="zone"),
        pytest.param(
            {"due_on": "2026-10-25", "due_time": "02:30"}, "2026-10-25T00:30:00.000000Z", id="twice"
        ),
        pytest.param(
            {"due_on": "2026-03-29", "due_time": "02:30"}, "2026-03-29T01:30:00.000000Z", id="never"
        ),
        pytest.param({"time_zone": None}, None, id="no zone"),
        pytest.param({"due_time": None, "time_zone": None}, None, id="any time"),
        pytest.param({"due_on": None, "due_time": None, "time_zone": None}, None, id="no day"),
        pytest.param({"title": "y"}, BERLIN_AT, id="something else"),
        pytest.param({}, BERLIN_AT, id="nothing"),
    ],
)
def test_change_of_some_moves_it(
    sent: Mapping[str, Any], instant: str | None, alice_client: ApiClient
) -> None:
    """[T4] What isn't sent counts as it is, in one statement."""
    task = data_of(alice_client.post(LIST, {"title": "x", **BERLIN}), 201)
    path = f"{LIST}/{task['id']}"

    with CaptureQueriesContext(connection) as queries:
        changed = data_of(alice_client.patch(path, sent))

    assert len(queries) == 1
    assert changed["due_at"] == instant
    assert changed == {
        **task,
        **sent,
        "due_at": instant,
        **{name: changed[name] for name in ("version", "etag", "updated_at")},
    }
    assert data_of(alice_client.get(path)) == changed


def test_batch_finds_it(alice_client: ApiClient) -> None:
    """[B6]"""
    task = data_of(alice_client.post(LIST, {"title": "x", **BERLIN}), 201)
    operations = [
        {"op": "create", "data": {"title": "a", **BERLIN}},
        {"op": "create", "data": {"title": "b", **BERLIN, "time_zone": "UTC"}},
        {"op": "create", "data": {"title": "c"}},
        {"op": "update", "id": task["id"], "data": {"time_zone": "Asia/Kathmandu"}},
    ]

    response = alice_client.post("/api/me/batch", {"operations": operations})

    assert [outcome["data"]["due_at"] for outcome in json.loads(response.content)["data"]] == [
        BERLIN_AT,
        "2026-12-01T09:30:00.000000Z",
        None,
        "2026-12-01T03:45:00.000000Z",
    ]


@pytest.mark.parametrize(
    ("zone", "code"),
    [
        *(
            pytest.param(name, "time_zone", id=repr(name))
            for name in ("EST", "europe/berlin", "Europe/Berlin ", "+01:00", "localtime", "\0")
        ),
        pytest.param("", "blank", id="empty"),
        pytest.param(1, "invalid", id="a number"),
    ],
)
def test_what_is_no_zone_is_refused(zone: Any, code: str, alice_client: ApiClient) -> None:
    """[B4] By the letter, and not as PostgreSQL reads it."""
    sent = {"title": "x", **BERLIN, "time_zone": zone}

    details = assert_error(alice_client.post(LIST, sent), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details["time_zone"]] == [code]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("POST", {"time_zone": "UTC", "due_on": "2026-12-01"}),
        ("PUT", {"time_zone": "UTC", "due_on": "2026-12-01", "due_time": None}),
        ("PATCH", {"due_time": None}),
    ],
)
def test_zone_needs_a_time(
    method: str, sent: Mapping[str, Any], alice: User, alice_client: ApiClient
) -> None:
    """[T2]"""
    task = Task.objects.create(user=alice, title="x", **ROW)
    path = LIST if method == "POST" else f"{LIST}/{task.pk}"

    response = alice_client.call(method, path, {"title": "x", **sent})

    assert assert_error(response, 400, "VALIDATION_ERROR").keys() == {"time_zone"}


def test_due_at_that_is_sent_does_not_count(alice_client: ApiClient) -> None:
    """As that of any field which is answered only: what was read can be sent back."""
    task = data_of(alice_client.post(LIST, {"title": "x", "due_at": BERLIN_AT}), 201)

    assert task["due_at"] is None


# --- Whoever writes ---------------------------------------------------------------------------


def test_table_refuses_a_zone_without_time(alice: User) -> None:
    """[T2]"""
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.create(user=alice, title="x", due_on=date(2026, 12, 1), time_zone="UTC")


@pytest.mark.parametrize("pretended", [None, datetime(2000, 1, 1, tzinfo=UTC)])
def test_whoever_writes_sets_it(pretended: datetime | None, alice: User) -> None:
    """[T2] What they pretend doesn't count."""
    task = Task.objects.create(user=alice, title="x", **ROW, due_at=pretended)
    task.refresh_from_db()
    assert task.due_at == ROW_AT

    Task.objects.update(due_at=pretended)
    task.refresh_from_db()
    assert task.due_at == ROW_AT

    Task.objects.update(time_zone="UTC")
    task.refresh_from_db()
    assert task.due_at == ROW_AT.replace(hour=9)

    Task.objects.update(time_zone=None, due_at=pretended)
    task.refresh_from_db()
    assert task.due_at is None


def test_admin_sets_it(olga: User, alice: User) -> None:
    browser = Browser()
    browser.force_login(olga)
    task = Task.objects.create(user=alice, title="x")
    path = f"/admin/tasks/task/{task.pk}/change/"
    form = {"title": "x", "due_on": "2026-12-01", "due_time": "09:30", "completed_at_0": ""}
    form |= {"priority": "0", "repeat_from": "0"}

    refused = browser.post(path, {**form, "time_zone": "EST"})
    response = browser.post(path, {**form, "time_zone": "Europe/Berlin"})

    assert (refused.status_code, response.status_code) == (200, 302)
    task.refresh_from_db()
    assert (task.time_zone, task.due_at) == ("Europe/Berlin", ROW_AT)


# --- manage.py load_time_zones ----------------------------------------------------------------


def _load() -> str:
    printed = io.StringIO()
    call_command("load_time_zones", stdout=printed)
    return printed.getvalue()


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_load_time_zones_moves_what_is_due_at_another_instant(
    alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[V1] Stamped, and what stays is left alone."""
    sql("DELETE FROM tasks_zoneoffset WHERE zone = 'Europe/Berlin' AND since > '2026-10-01'")
    sql("UPDATE tasks_zoneoffset SET utc_offset = '1 hour' WHERE zone = 'UTC'")
    sql("INSERT INTO tasks_zoneoffset VALUES ('Mars/Olympus_Mons', '0001-01-01', '1 hour')")
    moved = Task.objects.create(user=alice, title="x", **ROW)
    trashed = Task.objects.create(user=alice, title="x", **ROW, deleted_at=ROW_AT)
    summer = Task.objects.create(user=alice, title="x", **{**ROW, "due_on": date(2026, 9, 1)})
    other = Task.objects.create(user=bob, title="x", **{**ROW, "time_zone": "Asia/Tokyo"})
    of_bob = Task.objects.create(user=bob, title="x")
    rows = {row.pk: row for row in Task.objects.all()}
    assert rows[moved.pk].due_at == ROW_AT - timedelta(hours=1)
    clocks = dict(Clock.objects.values_list("user_id", "version"))
    # An idle change meets new zones and leaves the instant for the command to move.
    unmoved = data_of(alice_client.patch(f"{LIST}/{moved.pk}", {"time_zone": "Europe/Berlin"}))
    assert unmoved["version"] == rows[moved.pk].version

    try:
        assert _load().endswith(", and 2 tasks by them.\n")
        assert _load() == "0 offsets of zones changed, and 0 tasks by them.\n"
    finally:
        with transaction.atomic():
            load(connection)

    now = {row.pk: row for row in Task.objects.all()}
    assert now[moved.pk].due_at == now[trashed.pk].due_at == ROW_AT
    stamped = clocks[alice.pk] + 1
    assert {now[moved.pk].version, now[trashed.pk].version} == {stamped}
    assert now[moved.pk].updated_at > rows[moved.pk].updated_at
    for row in (summer, other, of_bob):
        assert now[row.pk].version == rows[row.pk].version
    changes = Change.objects.filter(user=alice, version=stamped).values_list("id", flat=True)
    assert set(changes) == {moved.pk, trashed.pk}
    assert Clock.objects.get(user=bob).version == clocks[bob.pk]
    assert sql("SELECT count(*) FROM tasks_zoneoffset WHERE zone = 'Mars/Olympus_Mons'") == [(0,)]
