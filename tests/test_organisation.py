"""Days, urgency and labels of tasks: what they take, and what lists make of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from tasks.models import PRIORITIES, Task
from tests.client import ApiClient, assert_error, data_of, meta_of

LIST = "/api/me/tasks"

NOTHING: Mapping[str, Any] = {
    "priority": "none",
    "labels": [],
    "due_on": None,
    "due_time": None,
    "start_on": None,
}


def test_task_has_none_of_it_by_default(alice_client: ApiClient) -> None:
    task = data_of(alice_client.post(LIST, {"title": "Buy milk"}), 201)

    assert {name: task[name] for name in NOTHING} == NOTHING


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param({"priority": "urgent"}, {}, id="priority"),
        pytest.param({"labels": ["b", "a", "B"]}, {}, id="labels in their order"),
        pytest.param({"labels": [" e\u0301 "]}, {"labels": ["\u00e9"]}, id="labels as NFC"),
        pytest.param({"labels": [f"{n}" for n in range(50)]}, {}, id="50 labels"),
        pytest.param({"labels": ["x" * 50]}, {}, id="50 characters"),
        pytest.param({"due_on": "2028-02-29"}, {}, id="a leap day"),
        pytest.param({"due_on": "0001-01-01"}, {}, id="the first day"),
        pytest.param({"due_on": "9999-12-31"}, {}, id="the last day"),
        pytest.param({"due_on": "2026-12-01", "due_time": "09:30"}, {}, id="a minute"),
        pytest.param({"due_on": "2026-12-01", "due_time": "09:30:15"}, {}, id="a second"),
        pytest.param(
            {"due_on": "2026-12-01", "due_time": "09:30:00"}, {"due_time": "09:30"}, id="no seconds"
        ),
        pytest.param({"due_on": "2026-12-01", "start_on": "2026-12-01"}, {}, id="one day"),
        pytest.param({"start_on": "2026-12-01"}, {}, id="begun some day"),
    ],
)
def test_fields_are_kept(
    sent: Mapping[str, Any], answered: Mapping[str, Any], alice_client: ApiClient
) -> None:
    created = data_of(alice_client.post(LIST, {"title": "x", **sent}), 201)
    task = data_of(alice_client.post(LIST, {"title": "x"}), 201)
    changed = data_of(alice_client.patch(f"{LIST}/{task['id']}", sent))
    cleared = data_of(alice_client.patch(f"{LIST}/{task['id']}", NOTHING))

    expected = {**NOTHING, **sent, **answered}
    assert {name: created[name] for name in NOTHING} == expected
    assert {name: changed[name] for name in NOTHING} == expected
    assert {name: cleared[name] for name in NOTHING} == NOTHING


@pytest.mark.parametrize(
    ("sent", "field", "code"),
    [
        pytest.param({"priority": "highest"}, "priority", "invalid_choice", id="priority"),
        pytest.param({"priority": None}, "priority", "null", id="no priority"),
        pytest.param({"priority": 3}, "priority", "invalid_choice", id="rank"),
        pytest.param({"labels": "a"}, "labels", "invalid", id="labels as text"),
        pytest.param({"labels": [1]}, "labels", "invalid", id="a number"),
        pytest.param({"labels": None}, "labels", "null", id="no labels"),
        pytest.param({"labels": ["a", "a"]}, "labels", "repeated", id="twice"),
        pytest.param({"labels": ["\u00e9", "e\u0301"]}, "labels", "repeated", id="twice as NFC"),
        pytest.param({"labels": ["a,b"]}, "labels", "comma", id="comma"),
        pytest.param({"labels": [" "]}, "labels", "blank", id="blank"),
        pytest.param({"labels": ["\u200b"]}, "labels", "blank", id="invisible"),
        pytest.param({"labels": ["a\nb"]}, "labels", "control_characters", id="two lines"),
        pytest.param({"labels": ["x" * 51]}, "labels", "max_length", id="51 characters"),
        pytest.param(
            {"labels": [f"{n}" for n in range(51)]}, "labels", "max_length", id="51 labels"
        ),
        pytest.param({"due_on": "2026-02-29"}, "due_on", "day", id="no such day"),
        pytest.param({"due_on": "2026-2-1"}, "due_on", "day", id="short day"),
        pytest.param({"due_on": "2026-12-01T00:00:00Z"}, "due_on", "day", id="an instant"),
        pytest.param({"due_on": 20261201}, "due_on", "day", id="a number as day"),
        pytest.param({"due_on": "2026-12-01", "due_time": "24:00"}, "due_time", "time", id="24:00"),
        pytest.param({"due_on": "2026-12-01", "due_time": "9:30"}, "due_time", "time", id="9:30"),
        pytest.param(
            {"due_on": "2026-12-01", "due_time": "09:30Z"}, "due_time", "time", id="offset"
        ),
    ],
)
def test_what_is_none_of_it_is_refused(
    sent: Mapping[str, Any], field: str, code: str, alice_client: ApiClient
) -> None:
    """[B4] By the name of the field."""
    details = assert_error(alice_client.post(LIST, {"title": "x", **sent}), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details[field]] == [code]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize(
    ("sent", "field"),
    [
        pytest.param({"due_time": "09:30"}, "due_time", id="a time of no day"),
        pytest.param({"start_on": "2026-12-02", "due_on": "2026-12-01"}, "start_on", id="too late"),
    ],
)
def test_fields_fit_each_other(
    sent: Mapping[str, Any], field: str, method: str, alice: User, alice_client: ApiClient
) -> None:
    """[T2] Whichever of them is sent, and whichever is there."""
    task = Task.objects.create(user=alice, title="x")
    path = LIST if method == "POST" else f"{LIST}/{task.pk}"

    response = alice_client.call(method, path, {"title": "x", **sent})

    assert assert_error(response, 400, "VALIDATION_ERROR").keys() == {field}


@pytest.mark.django_db(transaction=True)
def test_fields_that_are_there_count(alice: User, alice_client: ApiClient) -> None:
    """[T4] A PATCH of one field meets the other as it is now."""
    task = Task.objects.create(
        user=alice,
        title="x",
        due_on=date(2026, 12, 1),
        due_time=time(9),
        start_on=date(2026, 12, 1),
    )
    path = f"{LIST}/{task.pk}"

    assert_error(alice_client.patch(path, {"due_on": "2026-11-30"}), 400, "VALIDATION_ERROR")
    assert_error(alice_client.patch(path, {"due_on": None}), 400, "VALIDATION_ERROR")
    moved = {"due_on": "2026-11-30", "start_on": "2026-11-30"}
    assert data_of(alice_client.patch(path, moved))["due_time"] == "09:00"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"priority": 5}, id="rank"),
        pytest.param({"labels": [f"{n}" for n in range(51)]}, id="51 labels"),
        pytest.param({"due_time": time(9)}, id="a time of no day"),
        pytest.param({"due_on": date(2026, 1, 1), "start_on": date(2026, 1, 2)}, id="too late"),
    ],
)
def test_table_refuses_it_whoever_writes(fields: Mapping[str, Any], alice: User) -> None:
    """[T2]"""
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.create(user=alice, title="x", **fields)


def test_cleared_day_needs_a_cleared_time(alice_client: ApiClient) -> None:
    task = data_of(
        alice_client.post(LIST, {"title": "x", "due_on": "2026-12-01", "due_time": "09:30"}), 201
    )

    cleared = {"due_on": None, "due_time": None}

    assert data_of(alice_client.patch(f"{LIST}/{task['id']}", cleared))["due_on"] is None


# --- Lists ------------------------------------------------------------------------------------

DAYS = [date(2026, 12, 1), date(2026, 12, 2)]
TIMES = [time(0), time(9, 30)]
WORDS = ["a", "b", "c"]

rows = st.fixed_dictionaries(
    {
        "priority": st.integers(0, len(PRIORITIES) - 1),
        "labels": st.lists(st.sampled_from(WORDS), unique=True, max_size=3),
        "due": st.none() | st.tuples(st.sampled_from(DAYS), st.none() | st.sampled_from(TIMES)),
        "start_on": st.none() | st.just(DAYS[0]),
        "is_completed": st.booleans(),
    }
)

Row = Task
Condition = Callable[[Row], bool]


def _due(row: Row) -> datetime | None:
    """As lists sort it: a day without time stands before all times of that day."""
    if row.due_on is None:
        return None
    if row.due_time is None:
        return datetime.combine(row.due_on, time()) - timedelta(microseconds=1)
    return datetime.combine(row.due_on, row.due_time)


def _due_from_midnight(row: Row) -> datetime | None:
    return None if row.due_on is None else datetime.combine(row.due_on, row.due_time or time())


def _after(moment: datetime) -> Condition:
    return lambda row: (due := _due_from_midnight(row)) is not None and due >= moment


def _before(moment: datetime) -> Condition:
    return lambda row: (due := _due_from_midnight(row)) is not None and due < moment


FILTERS: Mapping[str, tuple[Mapping[str, str], Condition]] = {
    "high or none": (
        {"priority": "high,none"},
        lambda row: PRIORITIES[row.priority] in ("high", "none"),
    ),
    "all labels": ({"labels": "a,b"}, lambda row: {"a", "b"} <= set(row.labels)),
    "any label": ({"labels_any": "a,c"}, lambda row: bool({"a", "c"} & set(row.labels))),
    "labelled": ({"has_labels": "true"}, lambda row: bool(row.labels)),
    "not labelled": ({"has_labels": "false"}, lambda row: not row.labels),
    "due": ({"has_due": "true"}, lambda row: row.due_on is not None),
    "never due": ({"has_due": "false"}, lambda row: row.due_on is None),
    "from a day": ({"due_after": "2026-12-02"}, _after(datetime.fromisoformat("2026-12-02"))),
    "from a minute": (
        {"due_after": "2026-12-01T09:30"},
        _after(datetime.fromisoformat("2026-12-01T09:30")),
    ),
    "before a day": ({"due_before": "2026-12-02"}, _before(datetime.fromisoformat("2026-12-02"))),
    "before a minute": (
        {"due_before": "2026-12-01T09:30"},
        _before(datetime.fromisoformat("2026-12-01T09:30")),
    ),
    "startable": (
        {"startable_on": "2026-11-30"},
        lambda row: row.start_on is None or row.start_on <= date(2026, 11, 30),
    ),
    "open": ({"is_completed": "false"}, lambda row: row.completed_at is None),
}
KEYS: Mapping[str, Callable[[Row], Any]] = {
    "due": _due,
    "priority": lambda row: row.priority,
    "start_on": lambda row: row.start_on,
}

filters = st.lists(st.sampled_from(sorted(FILTERS)), unique=True, max_size=2).filter(
    lambda names: len({key for name in names for key in FILTERS[name][0]}) == len(names)
)
orders = st.lists(
    st.tuples(st.sampled_from(sorted(KEYS)), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda order: order[0],
)


@given(rows=st.lists(rows, max_size=12), filters=filters, order=orders, limit=st.integers(1, 5))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_pages_are_what_python_makes_of_the_rows(
    rows: Sequence[Mapping[str, Any]],
    filters: Sequence[str],
    order: Sequence[tuple[str, bool]],
    limit: int,
    alice: User,
    bob: User,
    alice_client: ApiClient,
) -> None:
    """[L2] [L3] Every filter and every order, with nulls and ties, page by page."""
    Task.objects.all().delete()
    Task.objects.bulk_create(
        [
            Task(
                user=owner,
                title="x",
                priority=row["priority"],
                labels=row["labels"],
                due_on=row["due"] and row["due"][0],
                due_time=row["due"] and row["due"][1],
                start_on=row["start_on"],
                completed_at=datetime(2026, 1, 1).astimezone() if row["is_completed"] else None,
            )
            for row in rows
            for owner in (alice, bob)
        ]
    )
    query: dict[str, Any] = {
        "limit": limit,
        "ordering": ",".join(f"{'-' if descends else ''}{name}" for name, descends in order),
    }
    for name in filters:
        query |= FILTERS[name][0]
    expected = [
        row
        for row in Task.objects.filter(user=alice)
        if all(FILTERS[name][1](row) for name in filters)
    ]
    expected.sort(key=lambda row: row.pk, reverse=order[-1][1])
    for name, descends in reversed(order):
        key = KEYS[name]
        present = [row for row in expected if key(row) is not None]
        present.sort(key=key, reverse=descends)
        expected = present + [row for row in expected if key(row) is None]

    found: list[UUID] = []
    while query.get("cursor", "") is not None:
        response = alice_client.get(LIST, query=query)
        page = data_of(response)
        assert len(page) <= limit
        found += [UUID(task["id"]) for task in page]
        query["cursor"] = meta_of(response)["next_cursor"]

    assert found == [row.pk for row in expected]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param({"priority": "top"}, "invalid_choice", id="priority"),
        pytest.param({"priority": "high,high"}, "repeated", id="twice"),
        pytest.param({"labels": "a,,b"}, "blank", id="an empty label"),
        pytest.param({"due_after": "tomorrow"}, "wall_clock", id="no day"),
        pytest.param({"due_before": "2026-12-01T09:30Z"}, "wall_clock", id="offset"),
        pytest.param({"startable_on": "2026-12-32"}, "day", id="no such day"),
        pytest.param({"ids": "x"}, "invalid", id="no id"),
        pytest.param({"ids": ",".join([str(UUID(int=1))] * 101)}, "invalid", id="101 ids"),
    ],
)
def test_filters_say_what_is_valid(
    query: Mapping[str, str], code: str, alice_client: ApiClient
) -> None:
    details = assert_error(alice_client.get(LIST, query=dict(query)), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details[next(iter(query))]] == [code]


def test_ids_are_ones_own(alice: User, bob: User, alice_client: ApiClient) -> None:
    """[R1] Others' ids find nothing."""
    mine, other = (Task.objects.create(user=user, title="x") for user in (alice, bob))
    wanted = f"{str(mine.pk).upper()},{other.pk},{UUID(int=7)}"

    found = data_of(alice_client.get(LIST, query={"ids": wanted}))

    assert [task["id"] for task in found] == [str(mine.pk)]


def test_batch_takes_the_fields(alice_client: ApiClient) -> None:
    """[B6]"""
    sent = {
        "title": "x",
        "priority": "low",
        "labels": ["b", "a"],
        "due_on": "2026-12-01",
        "due_time": "09:30",
        "start_on": "2026-11-01",
    }

    response = alice_client.post("/api/me/batch", {"operations": [{"op": "create", "data": sent}]})

    ((created),) = (outcome["data"] for outcome in json.loads(response.content)["data"])
    assert {name: created[name] for name in sent} == sent
