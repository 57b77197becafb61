"""Days, urgency and labels of tasks: what they take, and what lists make of them."""

import json
from collections.abc import Mapping
from datetime import date, time
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of

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
        pytest.param({"labels": ["\u0958" * 26]}, "labels", "max_length", id="52 as NFC"),
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


# --- Lists: what they give is in test_filters_and_orders.py -----------------------------------


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
