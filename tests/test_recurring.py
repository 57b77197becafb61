"""Tasks that come again: what their rules take, what completing, reopening and skipping make."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks import recurring
from tasks.days import ZONES, today
from tasks.models import Task
from tasks.recurrence import Rule
from tasks.recurring import UPCOMING_MAX
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import meeting
from tests.wire import counted_round_trips
from todo_project.models import Change, Clock

TASKS = "/api/me/tasks"
BATCH = "/api/me/batch"
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
# Of what is due at some time on its day, the day must not turn while a test runs: a test is a
# matter of seconds, and this one of a minute before midnight in UTC.
TODAY = datetime.now(UTC).date()
COPIES_MAX = 100

pytestmark = pytest.mark.django_db(transaction=True)


def new(client: ApiClient, title: str = "Water the plants", **fields: Any) -> Any:
    return data_of(client.post(TASKS, {"title": title, **fields}), 201)


def routine(client: ApiClient, rule: str = "FREQ=DAILY", due: date = TODAY, **fields: Any) -> Any:
    return new(client, due_on=f"{due}", recurrence=rule, **fields)


def read(client: ApiClient, task_id: str) -> Any:
    return data_of(client.get(f"{TASKS}/{task_id}"))


def complete(client: ApiClient, task: Mapping[str, Any], **headers: str) -> Any:
    return data_of(client.patch(f"{TASKS}/{task['id']}/complete", {}, **headers))


def reopen(client: ApiClient, task: Mapping[str, Any]) -> Any:
    return data_of(client.patch(f"{TASKS}/{task['id']}/complete", {"is_completed": False}))


def following(client: ApiClient, task: Mapping[str, Any], **headers: str) -> Any:
    """The occurrence that completing makes."""
    return read(client, complete(client, task, **headers)["next_task_id"])


def children(client: ApiClient, task: Mapping[str, Any]) -> Any:
    return data_of(client.get(TASKS, query={"parent_id": task["id"], "ordering": "position"}))


def titles(client: ApiClient, **query: Any) -> Sequence[str]:
    return [task["title"] for task in data_of(client.get(TASKS, query=query))]


def clock(user: User) -> int:
    return Clock.objects.get(user=user).version


def faults(response: Any) -> Mapping[str, Sequence[str]]:
    details = assert_error(response, 400, "VALIDATION_ERROR")
    return {name: [fault["code"] for fault in found] for name, found in details.items()}


# --- The fields ---------------------------------------------------------------------------------


def test_a_rule_begins_a_series(alice_client: ApiClient) -> None:
    task = routine(alice_client, "interval=2;byday=fr,mo;freq=weekly")

    assert task["recurrence"] == "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR"
    assert task["repeat_from"] == "due"
    assert (task["series_id"], task["next_task_id"]) == (task["id"], None)
    assert (task["occurrence_on"], task["series_start_on"]) == (f"{TODAY}", f"{TODAY}")


def test_what_is_read_only_stays(alice_client: ApiClient) -> None:
    task = routine(alice_client)
    others = {"series_id": str(uuid4()), "next_task_id": str(uuid4()), "occurrence_on": None}

    assert data_of(alice_client.put(f"{TASKS}/{task['id']}", {**task, **others})) == task


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        pytest.param("INTERVAL=2", "FREQ", id="no FREQ"),
        pytest.param("RRULE:FREQ=DAILY", "RRULE", id="with its name"),
        pytest.param("FREQ=HOURLY", "FREQ", id="by hours"),
        pytest.param("FREQ=DAILY;INTERVAL=0", "INTERVAL", id="no interval"),
        pytest.param("FREQ=DAILY;COUNT=1000", "COUNT", id="1000 times"),
        pytest.param("FREQ=DAILY;COUNT=2;UNTIL=20301231", "UNTIL", id="two ends"),
        pytest.param("FREQ=DAILY;UNTIL=20301231T000000Z", "UNTIL", id="until an instant"),
        pytest.param("FREQ=YEARLY;BYWEEKNO=3", "BYWEEKNO", id="weeks of a year"),
        pytest.param("FREQ=WEEKLY;BYDAY=XX", "BYDAY", id="no such weekday"),
        pytest.param("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY", id="no such day"),
        pytest.param("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "BYMONTH", id="30 February"),
        pytest.param("FREQ=DAILY;UNTIL=20000101", "UNTIL", id="over before it begins"),
        pytest.param("FREQ=DAILY;FREQ=DAILY", "FREQ", id="twice"),
        pytest.param("every day", "RRULE", id="prose"),
    ],
)
@pytest.mark.parametrize("way", ["POST", "PATCH both", "PATCH rule", "PUT", "batch"])
def test_what_is_no_rule_is_refused(
    rule: str, part: str, way: str, alice: User, alice_client: ApiClient
) -> None:
    """[B4] By the part, whatever else is sent with it; also where its first day is in the table."""
    fields = {"due_on": f"{TODAY}", "recurrence": rule}
    task = new(alice_client, due_on=f"{TODAY}")
    before = clock(alice)

    match way:
        case "POST":
            response = alice_client.post(TASKS, {"title": "x", **fields})
        case "PATCH both":
            response = alice_client.patch(f"{TASKS}/{task['id']}", fields)
        case "PATCH rule":
            response = alice_client.patch(f"{TASKS}/{task['id']}", {"recurrence": rule})
        case "PUT":
            response = alice_client.put(f"{TASKS}/{task['id']}", {"title": "x", **fields})
        case _:
            operation = {"op": "update", "id": task["id"], "data": {"recurrence": rule}}
            answer = alice_client.post(BATCH, {"operations": [operation], "atomic": False})
            ((outcome),) = data_of(answer)
            assert outcome["status"] == 400
            found = outcome["error"]["details"]["recurrence"]
            assert found[0]["message"].startswith(f"{part}: ")
            assert clock(alice) == before
            return

    assert faults(response) == {"recurrence": ["rule"]}
    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["recurrence"][0]["message"].startswith(f"{part}: ")
    assert clock(alice) == before


@pytest.mark.parametrize(
    ("there", "sent"),
    [
        pytest.param({}, {"recurrence": "FREQ=DAILY"}, id="no day"),
        pytest.param(
            {"due_on": "2030-01-01", "recurrence": "FREQ=DAILY"}, {"due_on": None}, id="day goes"
        ),
    ],
)
def test_a_rule_needs_a_day(
    there: Mapping[str, Any], sent: Mapping[str, Any], alice_client: ApiClient
) -> None:
    task = new(alice_client, **there)

    assert faults(alice_client.patch(f"{TASKS}/{task['id']}", sent)) == {"recurrence": ["invalid"]}
    if not there:
        assert faults(alice_client.post(TASKS, {"title": "x", **sent})) == {
            "recurrence": ["invalid"]
        }
    assert read(alice_client, task["id"]) == task


def test_another_rule_begins_another_series(alice_client: ApiClient) -> None:
    first = routine(alice_client)
    second = following(alice_client, first)
    path = f"{TASKS}/{second['id']}"
    moved = data_of(alice_client.patch(path, {"due_on": f"{TODAY + 3 * DAY}"}))

    weekly = data_of(alice_client.patch(path, {"recurrence": "FREQ=WEEKLY"}))

    assert moved["series_id"] == first["id"]
    assert weekly["series_id"] == second["id"]
    assert weekly["series_start_on"] == weekly["occurrence_on"] == f"{TODAY + 3 * DAY}"
    assert following(alice_client, weekly)["due_on"] == f"{TODAY + 3 * DAY + WEEK}"
    none = data_of(alice_client.patch(path, {"recurrence": None}))
    assert [none[name] for name in ("series_id", "occurrence_on", "series_start_on")] == [None] * 3
    assert read(alice_client, first["id"])["next_task_id"] == second["id"]


@pytest.mark.parametrize("spelling", ["FREQ=DAILY", "freq=daily;interval=1;wkst=mo"])
def test_the_same_rule_goes_on(spelling: str, alice_client: ApiClient) -> None:
    """Said again, in whichever spelling, with the day to which the occurrence was moved."""
    second = following(alice_client, routine(alice_client))
    path = f"{TASKS}/{second['id']}"

    said = data_of(alice_client.put(path, {**second, "recurrence": spelling}))
    moved = data_of(
        alice_client.patch(path, {"recurrence": spelling, "due_on": f"{TODAY + 9 * DAY}"})
    )

    assert said == second
    assert moved["occurrence_on"] == second["occurrence_on"]
    assert moved["series_id"] == second["series_id"]
    assert following(alice_client, moved)["due_on"] == f"{TODAY + 2 * DAY}"


def test_is_recurring_filters(alice_client: ApiClient) -> None:
    routine(alice_client, title="again")
    new(alice_client, "once")

    assert titles(alice_client, is_recurring="true") == ["again"]
    assert titles(alice_client, is_recurring="false") == ["once"]


# --- Completing ---------------------------------------------------------------------------------


def test_the_next_one_has_the_same_fields(alice: User, alice_client: ApiClient) -> None:
    """[Q1] With a day of its own, and what depends on that."""
    own = data_of(alice_client.post("/api/me/lists", {"name": "Home"}), 201)
    parent = new(alice_client, "Home", list_id=own["id"])
    task = routine(
        alice_client,
        "FREQ=WEEKLY",
        description="All of them",
        priority="high",
        labels=["home", "plants"],
        due_time="18:30",
        time_zone="UTC",
        start_on=f"{TODAY - 2 * DAY}",
        list_id=own["id"],
        parent_id=parent["id"],
    )
    before = clock(alice)

    done = complete(alice_client, task)

    second = read(alice_client, done["next_task_id"])
    changed = {
        *("id", "due_on", "due_at", "start_on", "occurrence_on"),
        *("created_at", "updated_at", "version", "etag"),
    }
    assert {name for name in task if second[name] != task[name]} == changed
    assert second["due_on"] == second["occurrence_on"] == f"{TODAY + WEEK}"
    assert second["start_on"] == f"{TODAY + 5 * DAY}"
    assert second["due_at"].startswith(f"{TODAY + WEEK}T18:30")
    assert second["version"] == done["version"] == before + 1 == clock(alice)
    logged = Change.objects.filter(user=alice, version=before + 1).values_list("id", flat=True)
    assert set(logged) == {UUID(done["id"]), UUID(second["id"])}


@pytest.mark.parametrize(
    ("rule", "due", "expected"),
    [
        pytest.param("FREQ=DAILY", 0, 1, id="in time"),
        pytest.param("FREQ=DAILY", 3, 4, id="before it is due"),
        pytest.param("FREQ=DAILY", -3, 0, id="late: not before the day of completion"),
        pytest.param("FREQ=DAILY;INTERVAL=3", -4, 2, id="late, in the rhythm of the rule"),
        pytest.param("FREQ=DAILY;INTERVAL=3", -3, 0, id="late, and today is one of its days"),
        pytest.param("FREQ=WEEKLY", -1, 6, id="a day late"),
        pytest.param("FREQ=WEEKLY", -700, 0, id="a hundred weeks late"),
        pytest.param("FREQ=DAILY;COUNT=3", -1, 0, id="the second of three"),
    ],
)
def test_next_day(rule: str, due: int, expected: int, alice_client: ApiClient) -> None:
    """[Q1] The first day of the rule after this one's, and not before today."""
    task = routine(alice_client, rule, TODAY + due * DAY)

    assert following(alice_client, task)["due_on"] == f"{TODAY + expected * DAY}"


@pytest.mark.parametrize(
    ("rule", "start", "days"),
    [
        pytest.param(
            "FREQ=MONTHLY;BYMONTHDAY=-1",
            "2031-01-31",
            ["2031-02-28", "2031-03-31", "2031-04-30"],
            id="ends of months",
        ),
        pytest.param(
            "FREQ=MONTHLY", "2031-01-31", ["2031-03-31", "2031-05-31"], id="months with 31 days"
        ),
        pytest.param("FREQ=YEARLY", "2032-02-29", ["2036-02-29", "2040-02-29"], id="leap days"),
        pytest.param(
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "2031-01-31",
            ["2031-02-28", "2031-03-31"],
            id="last workdays",
        ),
        pytest.param(
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO;WKST=SU",
            "2031-01-05",
            ["2031-01-06", "2031-01-19", "2031-01-20"],
            id="weeks that begin on Sundays",
        ),
    ],
)
def test_days_of_a_series(
    rule: str, start: str, days: Sequence[str], alice_client: ApiClient
) -> None:
    """[Q1] One after the other. Not from the day to which an occurrence was moved."""
    task = routine(alice_client, rule, date.fromisoformat(start))
    found = []

    for _ in days:
        task = following(alice_client, task)
        found.append(task["due_on"])
        moved = f"{date.fromisoformat(task['due_on']) + 2 * DAY}"
        task = data_of(alice_client.patch(f"{TASKS}/{task['id']}", {"due_on": moved}))

    assert found == days


@pytest.mark.parametrize(
    ("rule", "count"),
    [("FREQ=DAILY;COUNT=3", 3), (f"FREQ=DAILY;UNTIL={TODAY + 2 * DAY:%Y%m%d}", 3)],
    ids=["COUNT", "UNTIL"],
)
@pytest.mark.parametrize("is_moved", [False, True], ids=["as it is", "moved each time"])
def test_series_ends(rule: str, count: int, is_moved: bool, alice_client: ApiClient) -> None:
    """[Q1]"""
    task = routine(alice_client, rule)
    for number in range(2, count + 1):
        if is_moved:
            body = {"due_on": f"{TODAY + 50 * DAY}"}
            task = data_of(alice_client.patch(f"{TASKS}/{task['id']}", body))
        task = following(alice_client, task)
        assert task["occurrence_on"] == f"{TODAY + (number - 1) * DAY}"

    last = complete(alice_client, task)

    assert (last["is_completed"], last["next_task_id"]) == (True, None)
    assert len(titles(alice_client)) == count


@pytest.mark.parametrize(
    ("rule", "due", "expected"),
    [
        pytest.param("FREQ=DAILY;INTERVAL=3", -10, TODAY + 3 * DAY, id="late"),
        pytest.param("FREQ=DAILY;INTERVAL=3", 10, TODAY + 3 * DAY, id="early"),
        pytest.param("FREQ=WEEKLY;INTERVAL=2", -3, TODAY + 2 * WEEK, id="two weeks from now"),
        pytest.param(
            "FREQ=WEEKLY;BYDAY=MO,TH",
            -30,
            next(Rule.parse("FREQ=WEEKLY;BYDAY=MO,TH").days(TODAY, TODAY + DAY)),
            id="on the weekdays of the rule",
        ),
    ],
)
def test_repeat_from_completion(
    rule: str, due: int, expected: date, alice_client: ApiClient
) -> None:
    """[Q1] Counted from the day of the completion."""
    task = routine(alice_client, rule, TODAY + due * DAY, repeat_from="completion")

    second = following(alice_client, task)

    assert second["due_on"] == second["occurrence_on"] == f"{expected}"
    assert second["series_start_on"] == f"{TODAY}"
    assert second["series_id"] == task["id"]


def test_count_and_until_end_what_repeats_from_completion(alice_client: ApiClient) -> None:
    """[Q1]"""
    until = f"FREQ=DAILY;INTERVAL=2;UNTIL={TODAY + DAY:%Y%m%d}"
    task = routine(alice_client, until, repeat_from="completion")
    assert complete(alice_client, task)["next_task_id"] is None

    task = routine(alice_client, "FREQ=DAILY;COUNT=3", repeat_from="completion")
    second = following(alice_client, task)
    third = following(alice_client, second)  # on the same day: the one of the second is taken
    assert [second["due_on"], third["due_on"]] == [f"{TODAY + n * DAY}" for n in (1, 2)]
    assert complete(alice_client, third)["next_task_id"] is None


def test_repeat_from_can_be_changed(alice_client: ApiClient) -> None:
    task = routine(alice_client, "FREQ=DAILY;INTERVAL=3", TODAY - DAY)
    path = f"{TASKS}/{task['id']}"

    changed = data_of(alice_client.patch(path, {"repeat_from": "completion"}))

    assert changed["series_id"] == task["id"]
    second = following(alice_client, task)
    assert second["due_on"] == f"{TODAY + 3 * DAY}"
    back = data_of(alice_client.patch(f"{TASKS}/{second['id']}", {"repeat_from": "due"}))
    assert following(alice_client, back)["due_on"] == f"{TODAY + 6 * DAY}"


@pytest.mark.parametrize("repeat_from", ["due", "completion"])
def test_repeat_from_can_be_changed_with_the_completion(
    repeat_from: str, alice_client: ApiClient
) -> None:
    other = {"due": "completion", "completion": "due"}[repeat_from]
    task = routine(alice_client, "FREQ=DAILY;INTERVAL=3", TODAY - DAY, repeat_from=other)

    body = {"repeat_from": repeat_from, "is_completed": True}
    done = data_of(alice_client.patch(f"{TASKS}/{task['id']}", body))

    expected = {"due": TODAY + 2 * DAY, "completion": TODAY + 3 * DAY}[repeat_from]
    assert read(alice_client, done["next_task_id"])["due_on"] == f"{expected}"


def test_repeat_from_is_changed_on_the_last_day(alice_client: ApiClient) -> None:
    """What is reckoned for either looks much alike."""
    task = routine(alice_client, f"FREQ=DAILY;UNTIL={TODAY:%Y%m%d}", TODAY - DAY)

    body = {"repeat_from": "completion", "is_completed": True}
    done = data_of(alice_client.patch(f"{TASKS}/{task['id']}", body))

    assert done["next_task_id"] is None


def test_a_rule_that_only_sql_could_write_is_named(alice: User, alice_client: ApiClient) -> None:
    task = Task.objects.create(user=alice, title="x", due_on=TODAY, recurrence="every day")
    path = f"{TASKS}/{task.pk}"

    assert faults(alice_client.patch(f"{path}/complete", {})) == {"recurrence": ["rule"]}
    data_of(alice_client.patch(path, {"recurrence": None}))
    assert complete(alice_client, {"id": task.pk})["next_task_id"] is None


def by_complete(client: ApiClient, task_id: str) -> None:
    data_of(client.patch(f"{TASKS}/{task_id}/complete"))


def by_patch(client: ApiClient, task_id: str) -> None:
    data_of(client.patch(f"{TASKS}/{task_id}", {"is_completed": True, "title": "Done"}))


def by_put(client: ApiClient, task_id: str) -> None:
    task = read(client, task_id)
    data_of(client.put(f"{TASKS}/{task_id}", {**task, "is_completed": True}))


def by_batch(client: ApiClient, task_id: str, op: str = "complete") -> None:
    data = {"is_completed": True}
    operations = [{"op": op, "id": task_id, "data": data}]
    ((outcome),) = data_of(client.post(BATCH, {"operations": operations}))
    assert outcome["data"]["next_task_id"]


def by_orm(client: ApiClient, task_id: str) -> None:
    Task.objects.filter(pk=task_id).update(completed_at=datetime.now(UTC))


WAYS: Mapping[str, Callable[[ApiClient, str], None]] = {
    "complete": by_complete,
    "PATCH": by_patch,
    "PUT": by_put,
    "batch": by_batch,
    "batch, update": partial(by_batch, op="update"),
    "ORM": by_orm,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_whoever_completes_it(
    way: Callable[[ApiClient, str], None], alice: User, alice_client: ApiClient
) -> None:
    """[Q1] [Q2] A repeat makes nothing, and advances nothing."""
    task = routine(alice_client)

    way(alice_client, task["id"])

    done = read(alice_client, task["id"])
    assert done["is_completed"]
    second = read(alice_client, done["next_task_id"])
    assert second["due_on"] == f"{TODAY + DAY}"
    assert not second["is_completed"]
    assert UUID(second["id"]).version == 7
    assert second["id"] > task["id"]
    before = clock(alice)
    if way is not by_orm:
        way(alice_client, task["id"])
        assert clock(alice) == before
    assert Task.objects.filter(user=alice).count() == 2


def test_what_is_created_completed_has_no_next_one(alice_client: ApiClient) -> None:
    """It is history: imports make it."""
    task = routine(alice_client, is_completed=True)

    assert task["next_task_id"] is None
    assert len(titles(alice_client)) == 1


# --- Subtasks -----------------------------------------------------------------------------------


def test_subtasks_are_copied_open(alice: User, alice_client: ApiClient) -> None:
    """[Q1] All that live, of each level, moved by as many days. In one version."""
    task = routine(alice_client, "FREQ=WEEKLY")
    one = new(alice_client, "1", parent_id=task["id"], due_on=f"{TODAY - DAY}", labels=["a"])
    inner = new(alice_client, "1.1", parent_id=one["id"], start_on=f"{TODAY}")
    two = new(alice_client, "2", parent_id=task["id"])
    gone = new(alice_client, "3", parent_id=task["id"])
    complete(alice_client, inner)
    complete(alice_client, two)
    alice_client.delete(f"{TASKS}/{gone['id']}")

    done = complete(alice_client, task)

    copies = children(alice_client, {"id": done["next_task_id"]})
    assert [(copy["title"], copy["is_completed"]) for copy in copies] == [
        ("1", False),
        ("2", False),
    ]
    assert copies[0]["due_on"] == f"{TODAY - DAY + WEEK}"
    assert copies[0]["labels"] == ["a"]
    (inner_copy,) = children(alice_client, copies[0])
    assert (inner_copy["title"], inner_copy["is_completed"]) == ("1.1", False)
    assert inner_copy["start_on"] == f"{TODAY + WEEK}"
    rows = [done, *copies, inner_copy]
    assert {row["version"] for row in rows} == {clock(alice)}
    logged = Change.objects.filter(user=alice, version=clock(alice)).values_list("id", flat=True)
    assert {str(row_id) for row_id in logged} == {
        *(row["id"] for row in rows),
        done["next_task_id"],
    }
    assert [read(alice_client, row["id"])["is_completed"] for row in (inner, two)] == [True, True]


def test_subtask_that_recurs_is_copied_as_it_is_now(alice_client: ApiClient) -> None:
    """Not those that were done: they are history. The copy begins a series on the same days."""
    task = routine(alice_client, "FREQ=WEEKLY")
    daily = routine(alice_client, title="daily", parent_id=task["id"])
    second = following(alice_client, daily)

    done = complete(alice_client, task)

    (copy,) = children(alice_client, {"id": done["next_task_id"]})
    assert copy["series_id"] == copy["id"] != second["id"]
    assert copy["due_on"] == copy["occurrence_on"] == second["due_on"]
    assert following(alice_client, copy)["due_on"] == f"{TODAY + 2 * DAY}"


def test_too_many_subtasks_are_refused(alice: User, alice_client: ApiClient) -> None:
    """Nothing is lost, and nothing is copied without end."""
    task = routine(alice_client)
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", parent_id=task["id"]) for n in range(COPIES_MAX + 1)
    )

    assert_error(alice_client.patch(f"{TASKS}/{task['id']}/complete"), 409, "CONFLICT")

    assert not read(alice_client, task["id"])["is_completed"]
    Task.objects.filter(title="0").delete()
    done = complete(alice_client, task)
    assert Task.objects.filter(parent_id=done["next_task_id"]).count() == COPIES_MAX


# --- Reopening ----------------------------------------------------------------------------------


def test_reopening_takes_the_next_one_back(alice: User, alice_client: ApiClient) -> None:
    """[Q1] With its subtasks, and for good: the feed tells of them as deleted."""
    task = routine(alice_client)
    new(alice_client, "1", parent_id=task["id"])
    done = complete(alice_client, task)
    (copy,) = children(alice_client, {"id": done["next_task_id"]})
    position = meta_of(alice_client.get("/api/me/changes"))["next_since"]

    opened = reopen(alice_client, task)

    assert (opened["is_completed"], opened["next_task_id"]) == (False, None)
    gone = {done["next_task_id"], copy["id"]}
    for row_id in gone:
        assert_error(alice_client.get(f"{TASKS}/{row_id}"), 404, "NOT_FOUND")
    assert opened["version"] == clock(alice) == done["version"] + 1
    assert data_of(alice_client.get("/api/me/trash")) == []
    told = data_of(alice_client.get("/api/me/changes", query={"since": position}))
    assert {(change["id"], change["version"]) for change in told if change["deleted"]} == {
        (row_id, opened["version"]) for row_id in gone
    }


def test_another_completion_makes_another_one(alice_client: ApiClient) -> None:
    """[Q1] Of what the task is by then, rule and subtasks included."""
    task = routine(alice_client)
    first = new(alice_client, "1", parent_id=task["id"])
    before = complete(alice_client, task)
    reopen(alice_client, task)
    path = f"{TASKS}/{task['id']}"
    alice_client.patch(path, {"title": "Changed", "due_time": "09:30"})
    alice_client.delete(f"{TASKS}/{first['id']}")
    new(alice_client, "2", parent_id=task["id"])

    second = following(alice_client, task)

    assert second["id"] != before["next_task_id"]
    assert (second["title"], second["due_time"]) == ("Changed", "09:30")
    assert [child["title"] for child in children(alice_client, second)] == ["2"]
    reopen(alice_client, task)
    data_of(alice_client.patch(path, {"recurrence": "FREQ=WEEKLY"}))
    weekly = following(alice_client, task)
    assert (weekly["recurrence"], weekly["due_on"]) == ("FREQ=WEEKLY", f"{TODAY + WEEK}")


def test_what_was_taken_back_frees_its_day(alice_client: ApiClient) -> None:
    """By mistake, undone, and skipped instead."""
    task = routine(alice_client)
    complete(alice_client, task)
    reopen(alice_client, task)

    assert data_of(skip(alice_client, task))["due_on"] == f"{TODAY + DAY}"


def _touch_title(client: ApiClient, second: Any, copy: Any) -> None:
    client.patch(f"{TASKS}/{second['id']}", {"title": "Touched"})


def _touch_subtask(client: ApiClient, second: Any, copy: Any) -> None:
    client.patch(f"{TASKS}/{copy['id']}/complete")


def _add_subtask(client: ApiClient, second: Any, copy: Any) -> None:
    new(client, "2", parent_id=second["id"])


def _delete_subtask(client: ApiClient, second: Any, copy: Any) -> None:
    client.delete(f"{TASKS}/{copy['id']}")


def _complete_it(client: ApiClient, second: Any, copy: Any) -> None:
    complete(client, second)


def _move_it(client: ApiClient, second: Any, copy: Any) -> None:
    new(client, "last")
    data_of(client.post(f"{TASKS}/{second['id']}/move"))


@pytest.mark.parametrize(
    "touch",
    [_touch_title, _touch_subtask, _add_subtask, _delete_subtask, _complete_it, _move_it],
    ids=lambda touch: touch.__name__.strip("_"),
)
def test_what_was_touched_stays(
    touch: Callable[[ApiClient, Any, Any], None], alice_client: ApiClient
) -> None:
    """[Q1] And there is no second one for its day [Q2]."""
    task = routine(alice_client)
    new(alice_client, "1", parent_id=task["id"])
    second = following(alice_client, task)
    (copy,) = children(alice_client, second)
    touch(alice_client, second, copy)
    count = Task.objects.count()

    opened = reopen(alice_client, task)

    assert opened["next_task_id"] == second["id"]
    read(alice_client, second["id"])
    assert complete(alice_client, task)["next_task_id"] == second["id"]
    assert Task.objects.count() == count


def test_next_one_that_was_deleted_is_made_anew(alice_client: ApiClient) -> None:
    """What comes out of the trash later goes on by itself: [Q2] one for each day of a series."""
    task = routine(alice_client)
    deleted = following(alice_client, task)
    alice_client.delete(f"{TASKS}/{deleted['id']}")

    opened = reopen(alice_client, task)

    assert opened["next_task_id"] is None
    second = following(alice_client, task)
    assert second["id"] != deleted["id"]
    restored = data_of(alice_client.post(f"{TASKS}/{deleted['id']}/restore"))
    assert restored["occurrence_on"] == second["occurrence_on"] == f"{TODAY + DAY}"
    assert restored["series_id"] not in (second["series_id"], restored["id"])
    assert following(alice_client, restored)["due_on"] == f"{TODAY + 2 * DAY}"
    assert following(alice_client, second)["due_on"] == f"{TODAY + 2 * DAY}"


def test_new_rule_after_what_was_touched_goes_on(alice_client: ApiClient) -> None:
    """It is another series, and the old one's next task stays what it is."""
    task = routine(alice_client)
    second = following(alice_client, task)
    alice_client.patch(f"{TASKS}/{second['id']}", {"title": "Touched"})
    reopen(alice_client, task)
    path = f"{TASKS}/{task['id']}"

    fields = {"recurrence": "FREQ=WEEKLY", "due_on": second["due_on"]}
    weekly = data_of(alice_client.patch(path, fields))

    assert weekly["next_task_id"] is None
    assert weekly["series_id"] != second["series_id"] == task["id"]
    assert following(alice_client, weekly)["due_on"] == f"{TODAY + DAY + WEEK}"


# --- Skipping -----------------------------------------------------------------------------------


def skip(client: ApiClient, task: Mapping[str, Any], **headers: str) -> Any:
    return client.post(f"{TASKS}/{task['id']}/skip", {}, **headers)


@pytest.mark.parametrize("repeat_from", ["due", "completion"])
def test_skip_moves_to_the_next_day(repeat_from: str, alice: User, alice_client: ApiClient) -> None:
    task = routine(alice_client, "FREQ=WEEKLY", start_on=f"{TODAY - DAY}", repeat_from=repeat_from)

    skipped = data_of(skip(alice_client, task))

    changed = {"due_on", "start_on", "occurrence_on", "updated_at", "version", "etag"}
    assert {name for name in task if skipped[name] != task[name]} == changed
    assert skipped["due_on"] == skipped["occurrence_on"] == f"{TODAY + WEEK}"
    assert skipped["start_on"] == f"{TODAY + 6 * DAY}"
    assert skipped["version"] == task["version"] + 1 == clock(alice)
    if repeat_from == "due":
        assert following(alice_client, skipped)["due_on"] == f"{TODAY + 2 * WEEK}"


def test_skip_goes_by_the_rule_and_not_by_the_day_it_was_moved_to(alice_client: ApiClient) -> None:
    task = routine(alice_client)
    path = f"{TASKS}/{task['id']}"
    moved = data_of(alice_client.patch(path, {"due_on": f"{TODAY + 20 * DAY}"}))

    assert data_of(skip(alice_client, moved))["due_on"] == f"{TODAY + DAY}"


def test_skip_is_conditional_and_repeatable(alice_client: ApiClient) -> None:
    """[V2] [I1]"""
    task = routine(alice_client)

    first = data_of(skip(alice_client, task, if_match=task["etag"], idempotency_key="k"))
    again = data_of(skip(alice_client, task, if_match=task["etag"], idempotency_key="k"))
    late = skip(alice_client, task, if_match=task["etag"])

    assert again == first
    assert assert_error(late, 412, "PRECONDITION_FAILED")["current"] == first


def test_what_cant_be_skipped(alice_client: ApiClient) -> None:
    """[B2]"""
    once, done = new(alice_client), routine(alice_client)
    complete(alice_client, done)
    last = routine(alice_client, "FREQ=DAILY;COUNT=2")
    last = data_of(skip(alice_client, last))

    for task in (once, done, last):
        assert_error(skip(alice_client, task), 409, "CONFLICT")
        operation = {"op": "skip", "id": task["id"]}
        answer = alice_client.post(BATCH, {"operations": [operation], "atomic": False})
        assert data_of(answer)[0]["status"] == 409
    assert_error(skip(alice_client, {"id": uuid4()}), 404, "NOT_FOUND")
    assert faults(alice_client.post(f"{TASKS}/{last['id']}/skip", {"days": 2})) == {
        "days": ["unknown"]
    }


def test_skip_in_a_batch(alice_client: ApiClient) -> None:
    task = routine(alice_client)
    operations = [{"op": "skip", "id": task["id"]}, {"op": "complete", "id": task["id"]}]

    skipped, done = data_of(alice_client.post(BATCH, {"operations": operations}))

    assert skipped["data"]["due_on"] == f"{TODAY + DAY}"
    assert read(alice_client, done["data"]["next_task_id"])["due_on"] == f"{TODAY + 2 * DAY}"


def test_bytes_of_copies_are_bounded(alice: User, alice_client: ApiClient) -> None:
    task = routine(alice_client)
    long = "\u2603" * 20_000
    Task.objects.bulk_create(
        Task(user=alice, title=f"{n}", description=long, parent_id=task["id"]) for n in range(18)
    )

    assert_error(alice_client.patch(f"{TASKS}/{task['id']}/complete"), 409, "CONFLICT")


def test_no_day_is_taken_twice(alice_client: ApiClient) -> None:
    """[Q2] Skipping to where there is one already."""
    task = routine(alice_client)
    second = following(alice_client, task)
    alice_client.patch(f"{TASKS}/{second['id']}", {"title": "Touched"})
    reopen(alice_client, task)

    assert_error(skip(alice_client, task), 409, "CONFLICT")


# --- Which day it is ----------------------------------------------------------------------------

# Somewhere it is another day than in UTC at any time: in one of these.
FAR = ("Pacific/Kiritimati", "Pacific/Pago_Pago")


@pytest.mark.parametrize("zone", [*FAR, "UTC"])
@pytest.mark.parametrize("way", ["header", "task", "task before header", "batch"])
def test_day_of_completion(zone: str, way: str, alice_client: ApiClient) -> None:
    """[Q1] In the task's zone, else in the header's."""
    fields = {"due_time": "12:00", "time_zone": zone} if way.startswith("task") else {}
    headers = {"x_time_zone": zone} if way in ("header", "batch") else {}
    if way == "task before header":
        headers = {"x_time_zone": next(other for other in FAR if other != zone)}
    task = routine(alice_client, due=TODAY - 10 * DAY, **fields)

    if way == "batch":
        operations = [{"op": "complete", "id": task["id"]}]
        (outcome,) = data_of(alice_client.post(BATCH, {"operations": operations}, **headers))
        second = read(alice_client, outcome["data"]["next_task_id"])
    else:
        second = following(alice_client, task, **headers)

    assert second["due_on"] == f"{today(zone, datetime.now(UTC))}"


@pytest.mark.parametrize("zone", ["Berlin", "", "europe/berlin", "EST", "localtime", "+02:00"])
def test_no_zone_is_refused(zone: str, alice_client: ApiClient) -> None:
    """[B4]"""
    task = routine(alice_client)
    path = f"{TASKS}/{task['id']}/complete"

    assert faults(alice_client.patch(path, {}, x_time_zone=zone)) == {"X-Time-Zone": ["time_zone"]}
    operations = [{"op": "complete", "id": task["id"]}]
    batch = alice_client.post(BATCH, {"operations": operations}, x_time_zone=zone)
    assert faults(batch) == {"X-Time-Zone": ["time_zone"]}
    assert not read(alice_client, task["id"])["is_completed"]


INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001  # of UTC


@given(zone=st.sampled_from(sorted(ZONES)), instant=INSTANTS)
@example(zone="America/Havana", instant=datetime(2026, 11, 1, 4, 30))  # noqa: DTZ001
@example(zone="America/Havana", instant=datetime(2026, 11, 1, 5, 30))  # noqa: DTZ001
@example(zone="Pacific/Apia", instant=datetime(2011, 12, 30, 9, 59))  # noqa: DTZ001
@example(zone="Pacific/Apia", instant=datetime(2011, 12, 30, 10, 1))  # noqa: DTZ001
@example(zone="Asia/Beirut", instant=datetime(2026, 10, 24, 21, 30))  # noqa: DTZ001
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_database_knows_which_day_it_is(zone: str, instant: datetime) -> None:
    """As the application says, in every zone, also where clocks go back over midnight."""
    instant = instant.replace(tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tasks_day_in(%s, %s)", [zone, instant])
        ((found,),) = cursor.fetchall()

    assert found == today(zone, instant)


# --- What it costs ------------------------------------------------------------------------------


def test_it_is_one_statement_however_late(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """Only what lies beyond the days that are reckoned takes more: a refusal, a read, and again."""
    task = routine(alice_client, due=TODAY - (UPCOMING_MAX - 1) * DAY)
    new(alice_client, "1", parent_id=task["id"])
    with django_assert_num_queries(1):
        complete(alice_client, task)

    task = routine(alice_client, due=TODAY - (UPCOMING_MAX + 1) * DAY)
    with django_assert_num_queries(3):
        done = complete(alice_client, task)
    second = read(alice_client, done["next_task_id"])
    assert second["due_on"] == f"{TODAY}"
    with django_assert_num_queries(1):
        complete(alice_client, second)


def test_days_are_reckoned_anew_after_so_many(
    alice: User, alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    task = routine(alice_client)
    for number in range(1, 2 * UPCOMING_MAX + 4):
        is_known = number == 1 or number % UPCOMING_MAX != 1
        with django_assert_num_queries(1 if is_known else 3):
            done = complete(alice_client, task)
        task = read(alice_client, done["next_task_id"])
        assert task["due_on"] == f"{TODAY + number * DAY}"


@pytest.mark.parametrize("what", ["complete", "reopen", "skip", "PATCH"])
def test_it_takes_one_round_trip(what: str, alice_client: ApiClient) -> None:
    def once() -> None:
        task = routine(alice_client)
        for n in range(3):
            new(alice_client, f"{n}", parent_id=task["id"])
        if what == "reopen":
            complete(alice_client, task)
        with counted_round_trips(connection.connection) as round_trips:
            match what:
                case "complete":
                    complete(alice_client, task)
                case "reopen":
                    reopen(alice_client, task)
                case "skip":
                    data_of(skip(alice_client, task))
                case _:
                    fields = {"recurrence": "FREQ=WEEKLY", "due_on": f"{TODAY}"}
                    data_of(alice_client.patch(f"{TASKS}/{task['id']}", fields))
            found.append(round_trips())

    found: list[int] = []
    for _ in range(3):  # prepares
        once()
    assert found[-1] == 1


@pytest.mark.parametrize("what", ["create", "PATCH", "complete"])
def test_it_reads_few_of_many_tasks(what: str, alice: User, alice_client: ApiClient) -> None:
    """Series are found by their index, whatever else the person has."""
    tasks = [Task(user=alice, title=f"{n}", due_on=TODAY) for n in range(2_000)]
    Task.objects.bulk_create(tasks)
    plain, task = new(alice_client, due_on=f"{TODAY}"), routine(alice_client)

    with transaction.atomic():
        before = rows_read()
        match what:
            case "create":
                routine(alice_client)
            case "PATCH":
                fields = {"recurrence": "FREQ=DAILY", "due_on": f"{TODAY}"}
                data_of(alice_client.patch(f"{TASKS}/{plain['id']}", fields))
            case _:
                complete(alice_client, task)
        assert rows_read() - before < 20


def rows_read() -> int:
    """Of the table of tasks, in this transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname = 'tasks_task'"
        )
        ((count,),) = cursor.fetchall()
    return int(count)


def test_rule_alone_is_read_with_its_day(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    task = new(alice_client, due_on=f"{TODAY}")
    with django_assert_num_queries(3):
        data_of(alice_client.patch(f"{TASKS}/{task['id']}", {"recurrence": "FREQ=DAILY"}))
    with django_assert_num_queries(1):
        complete(alice_client, task)


# --- All at once --------------------------------------------------------------------------------


@pytest.mark.parametrize("due", [0, -50], ids=["in time", "beyond what is reckoned"])
def test_simultaneous_completions_make_one(due: int, alice: User, alice_client: ApiClient) -> None:
    """[Q2] Of twenty devices at once; and those that get no answer may ask again."""
    task = routine(alice_client, due=TODAY + due * DAY)
    clients = [ApiClient(begin_session(alice).access) for _ in range(20)]
    path = f"{TASKS}/{task['id']}/complete"

    responses = meeting([alice], *(partial(client.patch, path, {}) for client in clients))

    answers = [data_of(response) for response in responses]
    assert answers == [answers[0]] * 20
    assert complete(alice_client, task) == answers[0]
    (second,) = Task.objects.filter(user=alice, completed_at=None)
    assert str(second.pk) == answers[0]["next_task_id"]


def test_completion_and_reopening_at_once_leave_one(alice: User, alice_client: ApiClient) -> None:
    """[Q2] Whichever comes last."""
    task = routine(alice_client)
    clients = [ApiClient(begin_session(alice).access) for _ in range(8)]
    path = f"{TASKS}/{task['id']}/complete"

    for _ in range(10):
        works = [
            partial(client.patch, path, {"is_completed": number % 2 == 0})
            for number, client in enumerate(clients)
        ]
        for response in meeting([alice], *works):
            data_of(response)
        now = read(alice_client, task["id"])
        assert Task.objects.filter(user=alice).count() == 1 + now["is_completed"]
        living = titles(alice_client, is_completed="false")
        assert len(living) == 1
        assert (now["next_task_id"] is not None) == now["is_completed"]


def test_table_keeps_one_for_each_day(alice: User, alice_client: ApiClient) -> None:
    """[Q2] [T2] Whoever writes."""
    task = routine(alice_client)
    fields = {"user": alice, "title": "x", "due_on": TODAY, "recurrence": "FREQ=DAILY"}
    series = {"series_id": task["id"], "series_start_on": TODAY, "occurrence_on": TODAY}

    with pytest.raises(IntegrityError, match="tasks_task_occurrence"), transaction.atomic():
        Task.objects.create(**fields, **series)
    with pytest.raises(IntegrityError, match="tasks_task_recurrence"), transaction.atomic():
        Task.objects.create(user=alice, title="x", recurrence="FREQ=DAILY")
    with pytest.raises(IntegrityError, match="tasks_task_completed_on"), transaction.atomic():
        Task.objects.create(user=alice, title="x", completed_on=TODAY)


def test_series_of_two_people_never_meet(
    alice: User, bob: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[R1] Not even under the same name: the id of a task that was purged is free again."""
    task = routine(alice_client)
    second = following(alice_client, task)
    alice_client.delete(f"{TASKS}/{second['id']}")
    alice_client.delete(f"{TASKS}/{task['id']}?permanent=true")
    before, row = clock(alice), Task.objects.get(pk=second["id"])
    body = {"title": "Bob's", "due_on": f"{TODAY}", "recurrence": "FREQ=DAILY"}
    bobs = data_of(bob_client.put(f"{TASKS}/{task['id']}", body, if_none_match="*"), 201)

    theirs = following(bob_client, bobs)

    assert theirs["title"] == "Bob's"
    assert theirs["id"] != second["id"]
    assert clock(alice) == before
    assert Task.objects.get(pk=second["id"]).version == row.version
    data_of(alice_client.post(f"{TASKS}/{second['id']}/restore"))
    assert complete(alice_client, second)["next_task_id"] != theirs["id"]


@pytest.mark.parametrize("way", ["PUT and complete", "PUT completed", "PATCH"])
def test_count_ends_whoever_sends_the_whole_task(way: str, alice_client: ApiClient) -> None:
    """The same rule and day said again begin nothing anew."""
    task = routine(alice_client, "FREQ=DAILY;COUNT=3")
    for number in range(1, 4):
        path = f"{TASKS}/{task['id']}"
        match way:
            case "PUT and complete":
                alice_client.put(path, {**task, "title": f"{number}"})
                done = complete(alice_client, task)
            case "PUT completed":
                done = data_of(alice_client.put(path, {**task, "is_completed": True}))
            case _:
                body = {name: task[name] for name in ("recurrence", "due_on")}
                done = data_of(alice_client.patch(path, {**body, "is_completed": True}))
        if number < 3:
            task = read(alice_client, done["next_task_id"])
    assert done["next_task_id"] is None


@pytest.mark.parametrize("repeat_from", ["due", "completion"])
def test_open_task_has_no_day_of_completion(repeat_from: str, alice_client: ApiClient) -> None:
    """Also where its maker said that it is open, and where it was completed before."""
    task = routine(alice_client, is_completed=False, repeat_from=repeat_from)
    assert Task.objects.get().completed_on is None
    complete(alice_client, task)
    reopen(alice_client, task)
    assert Task.objects.get().completed_on is None


def test_count_of_a_new_rule_is_its_own(alice_client: ApiClient) -> None:
    task = routine(alice_client, repeat_from="completion")
    for _ in range(3):
        task = following(alice_client, task)

    body = {"recurrence": "FREQ=DAILY;COUNT=3", "is_completed": True}
    done = data_of(alice_client.patch(f"{TASKS}/{task['id']}", body))

    assert done["next_task_id"] is not None


def test_count_from_completion_when_overdue_by_one_day(alice_client: ApiClient) -> None:
    task = routine(alice_client, "FREQ=DAILY;COUNT=2", TODAY - DAY, repeat_from="completion")

    assert following(alice_client, task)["due_on"] == f"{TODAY + DAY}"


def test_completion_may_change_list_and_parent(alice_client: ApiClient) -> None:
    own = data_of(alice_client.post("/api/me/lists", {"name": "Home"}), 201)
    task = routine(alice_client)
    new(alice_client, "1", parent_id=task["id"])

    body = {"list_id": own["id"], "is_completed": True}
    done = data_of(alice_client.patch(f"{TASKS}/{task['id']}", body))

    second = read(alice_client, done["next_task_id"])
    assert second["list_id"] == own["id"]
    assert [child["list_id"] for child in children(alice_client, second)] == [own["id"]]


@pytest.mark.parametrize("what", ["complete", "skip"])
def test_days_stay_within_the_calendar(what: str, alice_client: ApiClient) -> None:
    """What moves along ends at its first and last day."""
    task = routine(alice_client, start_on="0001-01-01")
    data_of(alice_client.patch(f"{TASKS}/{task['id']}", {"due_on": "9999-12-31"}))
    if what == "complete":
        new(alice_client, "1", parent_id=task["id"], due_on="0001-01-01")
        found = following(alice_client, task)
        assert children(alice_client, found)[0]["due_on"] == "0001-01-01"
    else:
        found = data_of(skip(alice_client, task))
    assert (found["due_on"], found["start_on"]) == (f"{TODAY + DAY}", "0001-01-01")
    late = routine(alice_client, due=TODAY - 10 * DAY)
    new(alice_client, "1", parent_id=late["id"], due_on="9999-12-31")
    assert children(alice_client, following(alice_client, late))[0]["due_on"] == "9999-12-31"


@pytest.mark.parametrize("repeat_from", ["due", "completion"])
def test_series_that_begins_on_the_last_day_has_no_other(
    repeat_from: str, alice_client: ApiClient
) -> None:
    """No day comes after it: for whoever makes it, gives it a rule, skips and completes it."""
    last = date.max
    made = routine(alice_client, due=last, repeat_from=repeat_from)
    given_one = new(alice_client, due_on=f"{last}", repeat_from=repeat_from)
    rule = {"recurrence": "FREQ=WEEKLY"}
    given_one = data_of(alice_client.patch(f"{TASKS}/{given_one['id']}", rule))

    for task in (made, given_one):
        assert task["occurrence_on"] == f"{last}"
        assert_error(skip(alice_client, task), 409, "CONFLICT")
        done = complete(alice_client, task)
        assert (done["next_task_id"] is None) == (repeat_from == "due")


def test_rule_that_changes_meanwhile_is_the_one_that_counts(
    alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the refusal and the second try somebody writes another."""
    task = routine(alice_client, due=TODAY - 100 * DAY)
    reckon, tries = recurring.reckoned, []

    def reckoned(*args: Any) -> Mapping[str, Any]:
        days = reckon(*args)
        tries.append(days)
        if len(tries) == 1:
            Task.objects.filter(pk=task["id"]).update(recurrence="FREQ=MONTHLY")
        return days

    monkeypatch.setattr(recurring, "reckoned", reckoned)

    second = following(alice_client, task)

    expected = Rule.parse("FREQ=MONTHLY").days(TODAY - 100 * DAY, TODAY)
    assert second["due_on"] == f"{next(expected)}"


def test_subtask_whose_series_ended_is_copied_without_it(alice_client: ApiClient) -> None:
    task = routine(alice_client)
    last = routine(alice_client, "FREQ=DAILY;COUNT=1", title="last", parent_id=task["id"])
    complete(alice_client, last)

    (copy,) = children(alice_client, following(alice_client, task))

    assert (copy["recurrence"], copy["series_id"], copy["is_completed"]) == (None, None, False)
    assert copy["due_on"] == f"{TODAY + DAY}"


def test_other_people_have_their_own(
    alice: User, bob: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[R1]"""
    task = routine(alice_client)
    before = clock(bob)

    assert_error(bob_client.patch(f"{TASKS}/{task['id']}/complete"), 404, "NOT_FOUND")
    assert_error(skip(bob_client, task), 404, "NOT_FOUND")
    complete(alice_client, task)

    assert clock(bob) == before
    assert titles(bob_client) == []
    assert meta_of(bob_client.get("/api/me/changes"))["has_more"] is False
    assert not Task.objects.exclude(user=alice).exists()


@given(
    rule=st.sampled_from(
        [
            "FREQ=DAILY",
            "FREQ=DAILY;INTERVAL=5",
            "FREQ=WEEKLY;BYDAY=MO,WE,FR",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU",
            "FREQ=MONTHLY;BYMONTHDAY=-1",
            "FREQ=MONTHLY;BYDAY=2TU",
            "FREQ=YEARLY",
            "FREQ=DAILY;COUNT=20",
        ]
    ),
    start=st.integers(-400, 100),
    skips=st.lists(st.booleans(), max_size=8),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_days_are_those_of_the_rule(
    rule: str, start: int, skips: Sequence[bool], alice_client: ApiClient
) -> None:
    """[Q1] However late, and whichever are skipped."""
    first = TODAY + start * DAY
    task = routine(alice_client, rule, first)
    for is_skipped in skips:
        occurrence = date.fromisoformat(task["occurrence_on"])
        not_before = occurrence + DAY if is_skipped else max(occurrence + DAY, TODAY)
        expected = list(islice(Rule.parse(rule).days(first, not_before), 1))
        if is_skipped:
            response = skip(alice_client, task)
            if not expected:
                assert_error(response, 409, "CONFLICT")
                return
            task = data_of(response)
        else:
            done = complete(alice_client, task)
            if not expected:
                assert done["next_task_id"] is None
                return
            task = read(alice_client, done["next_task_id"])
        assert task["due_on"] == f"{expected[0]}"
    assert re.fullmatch(r"[0-9-]{10}", task["due_on"])
