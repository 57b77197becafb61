"""Every filter and every order of tasks, beside a plain reading of the contract in Python.

The readings know nothing of SQL. They stand here by the names that the resource has: a filter or
an order without one fails the tests.
"""

import random
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from tasks.fields import TASK
from tasks.models import PRIORITIES, Task, TaskList
from tests.client import ApiClient, data_of, meta_of

LIST = "/api/me/tasks"

# --- Few values of each, so that there are ties -------------------------------------------------

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MOMENTS = [NOON + timedelta(microseconds=n) for n in range(3)]
DAYS = [date(2026, 12, 1), date(2026, 12, 2), date.min, date.max]
TIMES = [None, time(0), time(9, 30), time(9, 30, 15)]
START = date(2026, 11, 30)
WORDS = ["a", "b", "c"]
TEXTS = ["Buy milk", "buy Milk", "Äpfel", "apfel", "E\u0301clair", "100%", "Straße"]
ROWS_MAX = 14


def _ids(seed: int, count: int) -> list[UUID]:
    """In no order."""
    generator = random.Random(seed)
    return [UUID(int=generator.getrandbits(128), version=4) for _ in range(count)]


IDS, OTHERS_IDS = _ids(1, ROWS_MAX), _ids(2, ROWS_MAX)
LISTS, OTHERS_LISTS = _ids(3, 2), _ids(4, 2)

rows = st.fixed_dictionaries(
    {
        "title": st.sampled_from(TEXTS),
        "description": st.none() | st.sampled_from(TEXTS),
        "completed_at": st.none() | st.sampled_from(MOMENTS),
        "priority": st.integers(0, len(PRIORITIES) - 1),
        "labels": st.lists(st.sampled_from(WORDS), unique=True, max_size=3),
        "due": st.none() | st.tuples(st.sampled_from(DAYS), st.sampled_from(TIMES)),
        "start_on": st.none() | st.sampled_from([START, DAYS[0], date.min, date.max]),
        "list": st.none() | st.integers(0, len(LISTS) - 1),
        "is_subtask": st.booleans(),
        "position": st.sampled_from(["a", "B", "aa"]),
        "recurs": st.booleans(),
        "created_at": st.sampled_from(MOMENTS),
        "updated_at": st.sampled_from(MOMENTS),
        "deleted_at": st.sampled_from([None, None, None, NOON]),
    }
)


COMPUTED = {"due", "start_on", "list", "is_subtask", "recurs"}


def _fits_below(first: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    lives = first["deleted_at"] is None and row["deleted_at"] is None
    return lives and row is not first and row["list"] == first["list"]


def _start_of(row: Mapping[str, Any]) -> date | None:
    """Not after the day that it is due."""
    start: date | None = row["start_on"]
    due: tuple[date, time | None] | None = row["due"]
    return start if start is None or due is None else min(start, due[0])


def fill(alice: User, bob: User, values: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Gives both these tasks; those of Alice's are returned that aren't in the trash."""
    Task.objects.all().delete()
    TaskList.objects.all().delete()
    for owner, ids, lists in ((alice, IDS, LISTS), (bob, OTHERS_IDS, OTHERS_LISTS)):
        TaskList.objects.bulk_create(
            TaskList(id=list_id, user=owner, name="x") for list_id in lists
        )
        Task.objects.bulk_create(
            Task(
                id=row_id,
                user=owner,
                due_on=row["due"] and row["due"][0],
                due_time=row["due"] and row["due"][1],
                start_on=_start_of(row),
                list_id=None if row["list"] is None else lists[row["list"]],
                parent_id=ids[0] if row["is_subtask"] and _fits_below(values[0], row) else None,
                recurrence="FREQ=DAILY" if row["recurs"] and row["due"] else None,
                **{name: row[name] for name in row.keys() - COMPUTED},
            )
            for row_id, row in zip(ids, values, strict=False)
        )
    return list(Task.objects.filter(user=alice, deleted_at=None))


# --- What is meant ------------------------------------------------------------------------------


def folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def due_from(task: Task) -> datetime | None:
    """On the clock on the wall. A day without time counts from its midnight."""
    return None if task.due_on is None else datetime.combine(task.due_on, task.due_time or time())


class Reading(NamedTuple):
    """What a filter is asked, and whether it lets a task through."""

    values: st.SearchStrategy[str]
    lets_through: Callable[[str, Task], bool]


def flag(is_so: Callable[[Task], bool]) -> Reading:
    return Reading(
        st.sampled_from(["true", "false"]), lambda text, task: is_so(task) is (text == "true")
    )


def some(values: Iterable[Any], is_so: Callable[[set[str], Task], bool]) -> Reading:
    chosen = st.lists(st.sampled_from([*values]), unique=True, min_size=1, max_size=3)
    return Reading(
        chosen.map(lambda found: ",".join(map(str, found))),
        lambda text, task: is_so(set(text.split(",")), task),
    )


def since(values: Iterable[str], moment_of: Callable[[Task], datetime | None]) -> Reading:
    return Reading(
        st.sampled_from([*values]),
        lambda text, task: (
            (moment := moment_of(task)) is not None and moment >= datetime.fromisoformat(text)
        ),
    )


def before(values: Iterable[str], moment_of: Callable[[Task], datetime | None]) -> Reading:
    return Reading(
        st.sampled_from([*values]),
        lambda text, task: (
            (moment := moment_of(task)) is not None and moment < datetime.fromisoformat(text)
        ),
    )


def is_found(text: str, task: Task) -> bool:
    places = [folded(task.title), folded(task.description or "")]
    return all(any(folded(word) in place for place in places) for word in text.split())


INSTANTS = [moment.isoformat() for moment in MOMENTS]
WALL_CLOCKS = [
    *("2026-12-01", "2026-12-02", "2026-12-02T00:00", "2026-12-01T09:30", "2026-12-03"),
    *("0001-01-01", "9999-12-31", "9999-12-31T23:59"),
]
FILTERS: Mapping[str, Reading] = {
    "is_completed": flag(lambda task: task.completed_at is not None),
    "priority": some(PRIORITIES, lambda names, task: PRIORITIES[task.priority] in names),
    "labels": some(WORDS, lambda words, task: words <= set(task.labels)),
    "labels_any": some(WORDS, lambda words, task: bool(words & set(task.labels))),
    "has_labels": flag(lambda task: task.labels != []),
    "has_due": flag(lambda task: task.due_on is not None),
    "due_after": since(WALL_CLOCKS, due_from),
    "due_before": before(WALL_CLOCKS, due_from),
    "startable_on": Reading(
        st.sampled_from(["2026-11-29", "2026-11-30", "2026-12-01"]),
        lambda text, task: task.start_on is None or task.start_on <= date.fromisoformat(text),
    ),
    "list_id": Reading(
        st.sampled_from(["inbox", *map(str, LISTS)]),
        lambda text, task: ("inbox" if task.list_id is None else str(task.list_id)) == text,
    ),
    "parent_id": Reading(
        st.sampled_from(["none", str(IDS[0])]),
        lambda text, task: ("none" if task.parent_id is None else str(task.parent_id)) == text,
    ),
    "is_recurring": flag(lambda task: task.recurrence is not None),
    "ids": some([*IDS, OTHERS_IDS[0]], lambda ids, task: str(task.pk) in ids),
    "search": Reading(
        st.sampled_from(["milk", "milk BUY", "apfel", "éclair 100%", "strasse", "0%"]), is_found
    ),
    "created_after": since(INSTANTS, lambda task: task.created_at),
    "created_before": before(INSTANTS, lambda task: task.created_at),
    "updated_after": since(INSTANTS, lambda task: task.updated_at),
    "updated_before": before(INSTANTS, lambda task: task.updated_at),
    "completed_after": since(INSTANTS, lambda task: task.completed_at),
    "completed_before": before(INSTANTS, lambda task: task.completed_at),
}
# What rows are compared by; None comes last.
ORDERS: Mapping[str, Callable[[Task], Any]] = {
    "created_at": lambda task: task.created_at,
    "updated_at": lambda task: task.updated_at,
    "completed_at": lambda task: task.completed_at,
    "title": lambda task: folded(task.title),
    "priority": lambda task: task.priority,
    "start_on": lambda task: task.start_on,
    "position": lambda task: task.position,
    # Day, then time; those without time first.
    "due": lambda task: (
        task.due_on and (task.due_on, task.due_time is not None, task.due_time or time())
    ),
}


def expected_of(tasks: Iterable[Task], query: Mapping[str, str]) -> list[str]:
    """The ids that are to be found, in their order."""
    order = query["ordering"].split(",")
    found = [
        task
        for task in tasks
        if all(FILTERS[name].lets_through(query[name], task) for name in FILTERS.keys() & query)
    ]
    # By the last key first, because Python keeps the order of equals.
    found.sort(key=lambda task: task.pk, reverse=order[-1].startswith("-"))
    for name in reversed(order):
        value_of = ORDERS[name.removeprefix("-")]
        present = [task for task in found if value_of(task) is not None]
        present.sort(key=value_of, reverse=name.startswith("-"))
        found = present + [task for task in found if value_of(task) is None]
    return [str(task.pk) for task in found]


def assert_pages(client: ApiClient, tasks: Iterable[Task], query: dict[str, Any]) -> None:
    """The list has what is expected of it, page by page."""
    expected = expected_of(tasks, query)
    query = {**query, "total": "true"}
    found: list[str] = []
    while query.get("cursor", "") is not None:
        response = client.get(LIST, query=query)
        page = data_of(response)
        assert len(page) <= query["limit"]
        found += [task["id"] for task in page]
        assert found == expected[: len(found)]
        assert meta_of(response)["total"] == len(expected)
        query["cursor"] = meta_of(response)["next_cursor"]
    assert found == expected


# --- What is found ------------------------------------------------------------------------------


def test_each_has_a_reading() -> None:
    assert FILTERS.keys() == TASK.filters.keys()
    assert ORDERS.keys() == {key.field for key in TASK.sort_keys}


some_filters = st.lists(st.sampled_from(sorted(TASK.filters)), unique=True, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: FILTERS[name].values for name in names})
)
some_orders = st.lists(
    st.tuples(st.sampled_from([key.field for key in TASK.sort_keys]), st.sampled_from(["", "-"])),
    min_size=1,
    max_size=3,
    unique_by=lambda key: key[0],
).map(lambda keys: ",".join(f"{sign}{name}" for name, sign in keys))
# Beyond 50 pages are made by another statement.
limits = st.integers(1, 5) | st.just(60)

property_of_lists = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(
    values=st.lists(rows, max_size=ROWS_MAX),
    filters=some_filters,
    ordering=some_orders,
    limit=limits,
)
@property_of_lists
def test_lists_are_what_python_makes_of_the_rows(
    values: Sequence[Mapping[str, Any]],
    filters: Mapping[str, str],
    ordering: str,
    limit: int,
    alice: User,
    bob: User,
    alice_client: ApiClient,
) -> None:
    """[L2] [L3] [L4] All filters by all orders, with nulls and ties, page by page."""
    tasks = fill(alice, bob, values)

    assert_pages(alice_client, tasks, {**filters, "ordering": ordering, "limit": limit})


@given(
    values=st.lists(rows, min_size=8, max_size=ROWS_MAX),
    filters=st.fixed_dictionaries(
        {},
        optional={
            name: FILTERS[name].values
            for name in ("is_completed", "list_id", "has_due", "due_after", "due_before")
        },
    ),
    ordering=st.sampled_from(["due", "-due", "position", "-position", "created_at"]),
    beyond=st.sampled_from(["", ",-priority", ",completed_at"]),
    limit=limits,
)
@property_of_lists
def test_lists_of_every_day_are_what_python_makes_of_the_rows(
    values: Sequence[Mapping[str, Any]],
    filters: Mapping[str, str],
    ordering: str,
    beyond: str,
    limit: int,
    alice: User,
    bob: User,
    alice_client: ApiClient,
) -> None:
    """[L2] [L3] Those whose statements say more, for the sake of an index."""
    tasks = fill(alice, bob, values)

    assert_pages(alice_client, tasks, {**filters, "ordering": ordering + beyond, "limit": limit})


def test_all_filters_stand_together(alice: User, bob: User, alice_client: ApiClient) -> None:
    """[L3] A task that each of them lets through."""
    row = {
        "title": "Buy milk",
        "description": None,
        "completed_at": NOON,
        "priority": 0,
        "labels": WORDS,
        "due": (DAYS[0], None),
        "start_on": START,
        "list": 0,
        "is_subtask": True,
        "position": "a",
        "recurs": True,
        "created_at": NOON,
        "updated_at": NOON,
        "deleted_at": None,
    }
    first = {**row, "labels": []}  # of which the others are subtasks
    tasks = fill(alice, bob, [first, row, {**row}, {**row, "recurs": False}])
    at, later = NOON.isoformat(), MOMENTS[1].isoformat()
    query = {
        "is_completed": "true",
        "priority": "none,low",
        "labels": "a,b",
        "labels_any": "c",
        "has_labels": "true",
        "has_due": "true",
        "due_after": "2026-12-01",
        "due_before": "2026-12-01T00:01",
        "startable_on": "2026-11-30",
        "list_id": str(LISTS[0]),
        "parent_id": str(IDS[0]),
        "is_recurring": "true",
        "ids": ",".join(map(str, IDS)),
        "search": "milk",
        **{f"{name}_after": at for name in ("created", "updated", "completed")},
        **{f"{name}_before": later for name in ("created", "updated", "completed")},
    }
    assert query.keys() == TASK.filters.keys()

    assert len(expected_of(tasks, {**query, "ordering": "due"})) == 2
    assert_pages(alice_client, tasks, {**query, "ordering": "due,-title,position", "limit": 1})
