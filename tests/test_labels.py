"""[O3] Labels of tasks: how they are listed, renamed, merged and taken off."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import meeting
from tests.resources import everything, pages, version_of
from tests.wire import counted_round_trips, needs_prepared_statements
from todo_project.environment import Rate
from todo_project.models import Change

LABELS = "/api/me/labels"
TASKS = "/api/me/tasks"
CHANGES = "/api/me/changes"
RACERS = 20

together = pytest.mark.django_db(transaction=True)


def new_task(client: ApiClient, *labels: str, **fields: Any) -> Any:
    return data_of(client.post(TASKS, {"title": "x", "labels": labels, **fields}), 201)


def trash(client: ApiClient, task: Any) -> Any:
    assert client.delete(f"{TASKS}/{task['id']}").status_code == 204
    return task


def labels_of(user: User) -> list[list[str]]:
    """Of each task, in the order in which they were made."""
    return list(Task.objects.filter(user=user).order_by("id").values_list("labels", flat=True))


def read(client: ApiClient, **query: Any) -> list[tuple[str, int]]:
    """All labels, page by page."""
    return [(row["name"], row["open_tasks"]) for row in everything(client, LABELS, **query)]


def path_of(label: str) -> str:
    return f"{LABELS}/{quote(label, safe='')}"


def rename(client: ApiClient, label: str, name: str, **headers: str) -> Any:
    return client.patch(path_of(label), {"name": name}, **headers)


def remove(client: ApiClient, label: str, **headers: str) -> Any:
    return client.delete(path_of(label), **headers)


def state_of(user: User) -> Any:
    return (
        version_of(user),
        list(Task.objects.order_by("id").values()),
        list(Change.objects.order_by("user_id", "version", "id").values()),
    )


# --- Listing them -----------------------------------------------------------------------------


def test_labels_are_listed_by_name(alice_client: ApiClient) -> None:
    """By code point, with their open tasks: not those in the trash."""
    new_task(alice_client, "b", "\u00e4", "a")
    new_task(alice_client, "b", "B")
    new_task(alice_client, "b", "done", is_completed=True)
    trash(alice_client, new_task(alice_client, "b", "gone"))
    new_task(alice_client)

    assert read(alice_client) == [("B", 1), ("a", 1), ("b", 2), ("done", 0), ("\u00e4", 1)]


def test_nobody_without_labels_has_some(alice_client: ApiClient) -> None:
    new_task(alice_client)

    response = alice_client.get(LABELS)

    assert data_of(response) == []
    meta = meta_of(response)
    assert (meta["limit"], meta["next_cursor"]) == (50, None)
    assert "Link" not in response


@pytest.mark.parametrize("limit", [1, 2, 6, 7, 8])
def test_labels_have_pages(limit: int, alice: User, alice_client: ApiClient) -> None:
    """[L1] [L2] Each once, and nothing of the last page's beyond it."""
    names = ["!", "A", "a", "a/b", "b", "\u00e4", "\U0001f389"]
    new_task(alice_client, *reversed(names))

    found = list(pages(alice_client, LABELS, "next_cursor", limit=limit))

    assert [row["name"] for page in found for row in page] == names
    assert {len(page) for page in found[:-1]} <= {limit}
    assert len(found) == -(-len(names) // limit)


def test_link_leads_to_the_next_page(alice: User, alice_client: ApiClient) -> None:
    new_task(alice_client, "a", "b", "c")

    first = alice_client.get(LABELS, query={"limit": 2})

    link, _, relation = first["Link"].partition(">")
    assert relation == '; rel="next"'
    assert link.startswith(f"</api/{alice.pk}/labels?")
    rest = alice_client.get(link.removeprefix("<"))
    assert data_of(rest) == [{"name": "c", "open_tasks": 1}]
    assert "Link" not in rest


def test_cursor_is_bound(alice_client: ApiClient, bob_client: ApiClient) -> None:
    """[L1] To its owner, and to this list."""
    new_task(alice_client, "a", "b")
    new_task(alice_client)
    cursor = meta_of(alice_client.get(LABELS, query={"limit": 1}))["next_cursor"]
    of_tasks = meta_of(alice_client.get(TASKS, query={"limit": 1}))["next_cursor"]

    for client, sent in [
        (bob_client, cursor),
        (alice_client, of_tasks),
        (alice_client, cursor[:-1]),
        (alice_client, "x"),
    ]:
        response = client.get(LABELS, query={"cursor": sent})
        (fault,) = assert_error(response, 400, "VALIDATION_ERROR")["cursor"]
        assert fault["code"] == "invalid_cursor"


@pytest.mark.parametrize(
    ("query", "name", "code"),
    [
        ({"limit": "0"}, "limit", "min_value"),
        ({"limit": "201"}, "limit", "max_value"),
        ({"limit": "x"}, "limit", "invalid"),
        ({"total": "true"}, "total", "unknown"),
    ],
)
def test_query_is_strict(
    query: Mapping[str, str], name: str, code: str, alice_client: ApiClient
) -> None:
    """[B4]"""
    details = assert_error(alice_client.get(LABELS, query=query), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details[name]] == [code]


@pytest.mark.parametrize("tasks", [1, 50])
def test_labels_are_one_query(
    tasks: int,
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    Task.objects.bulk_create(Task(user=alice, title="x", labels=["a"]) for _ in range(tasks))

    with django_assert_num_queries(1):
        response = alice_client.get(LABELS)

    assert data_of(response) == [{"name": "a", "open_tasks": tasks}]


# --- Renaming and taking off ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(["x", "a", "y"], ["x", "b", "y"], id="in its place"),
        pytest.param(["a", "x", "b", "y"], ["b", "x", "y"], id="both, the old first"),
        pytest.param(["x", "b", "y", "a"], ["x", "b", "y"], id="both, the new first"),
        pytest.param(["y", "b", "a"], ["y", "b"], id="both, side by side"),
        pytest.param(["A", "aa", "b"], ["A", "aa", "b"], id="others"),
    ],
)
def test_rename_keeps_the_order(
    before: Sequence[str], after: Sequence[str], alice: User, alice_client: ApiClient
) -> None:
    new_task(alice_client, "a")
    new_task(alice_client, *before)

    assert data_of(rename(alice_client, "a", "b"))["name"] == "b"

    assert labels_of(alice) == [["b"], after]


def test_removal_keeps_the_order(alice: User, alice_client: ApiClient) -> None:
    for labels in (["x", "a", "y"], ["a"], ["y", "x"]):
        new_task(alice_client, *labels)

    response = remove(alice_client, "a")

    assert (response.status_code, response.content) == (204, b"")
    assert labels_of(alice) == [["x", "y"], [], ["y", "x"]]
    assert_error(remove(alice_client, "a"), 404, "NOT_FOUND")


def test_rename_answers_the_label_after_it(alice_client: ApiClient) -> None:
    """Merged, each task counts once."""
    new_task(alice_client, "a")
    new_task(alice_client, "a", "b")
    new_task(alice_client, "b")
    new_task(alice_client, "a", is_completed=True)
    trash(alice_client, new_task(alice_client, "a"))
    trash(alice_client, new_task(alice_client, "b"))

    answer = data_of(rename(alice_client, "a", "b"))

    assert answer == {"name": "b", "open_tasks": 3}
    assert read(alice_client) == [("b", 3)]


@pytest.mark.parametrize(
    ("way", "has_changed"),
    [
        pytest.param(partial(rename, name="b"), {"a", "a b", "trash"}, id="rename"),
        pytest.param(remove, {"a", "a b", "trash"}, id="removal"),
    ],
)
def test_all_tasks_change_in_one_version(
    way: Any, has_changed: set[str], alice: User, alice_client: ApiClient
) -> None:
    """[V1] [F1] Those that have it, in the trash or not, and no others."""
    made = {
        "a": new_task(alice_client, "a"),
        "a b": new_task(alice_client, "a", "b"),
        "b": new_task(alice_client, "b"),
        "none": new_task(alice_client),
        "trash": trash(alice_client, new_task(alice_client, "a")),
    }
    before = {name: Task.objects.get(pk=task["id"]) for name, task in made.items()}
    since = meta_of(alice_client.get(CHANGES))["next_since"]
    reached = version_of(alice)

    assert way(alice_client, "a").status_code in (200, 204)

    assert version_of(alice) == reached + 1
    for name, task in made.items():
        row = Task.objects.get(pk=task["id"])
        was = before[name]
        if name in has_changed:
            assert row.version == reached + 1, name
            assert row.updated_at > was.updated_at, name
        else:
            assert (row.version, row.updated_at) == (was.version, was.updated_at), name
        assert row.deleted_at == was.deleted_at, name
    changes = data_of(alice_client.get(CHANGES, query={"since": since}))
    assert {(row["id"], row["deleted"], row["version"]) for row in changes} == {
        (made[name]["id"], name == "trash", reached + 1) for name in has_changed
    }


def test_what_is_restored_has_the_new_name(alice_client: ApiClient) -> None:
    new_task(alice_client, "a", "c")
    gone = trash(alice_client, new_task(alice_client, "a", "c"))

    data_of(rename(alice_client, "a", "b"))
    remove(alice_client, "c")

    assert data_of(alice_client.post(f"{TASKS}/{gone['id']}/restore"))["labels"] == ["b"]


@pytest.mark.parametrize(
    "body",
    [{"name": "a"}, {"name": " a "}, {}, {"open_tasks": 7}],
    ids=["same", "trimmed", "nothing", "read-only"],
)
def test_rename_to_itself_changes_nothing(body: Any, alice: User, alice_client: ApiClient) -> None:
    """[V1]"""
    new_task(alice_client, "a", "b")
    before = state_of(alice)

    response = alice_client.patch(path_of("a"), body)

    assert data_of(response) == {"name": "a", "open_tasks": 1}
    assert state_of(alice) == before


@pytest.mark.parametrize("way", [partial(rename, name="b"), remove], ids=["rename", "removal"])
@pytest.mark.parametrize(
    "label",
    [
        pytest.param("b", id="of no task"),
        pytest.param("A", id="in another case"),
        pytest.param("bobs", id="another's"),
        pytest.param("gone", id="of the trash alone"),
        pytest.param("a,b", id="comma"),
        pytest.param("x" * 51, id="too long"),
        pytest.param("\u200b", id="invisible"),
        pytest.param(" ", id="blank"),
        pytest.param("a\nb", id="two lines"),
        pytest.param("a\x00", id="NUL"),
        pytest.param("\u0316\u0301" * 400, id="marks"),
        pytest.param("a/", id="slash at its end"),
    ],
)
def test_label_that_is_not_there(
    label: str, way: Any, alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """Also where it can't be one."""
    new_task(alice_client, "a")
    trash(alice_client, new_task(alice_client, "gone"))
    new_task(bob_client, "bobs", "a")
    before = state_of(alice)

    assert_error(way(alice_client, label), 404, "NOT_FOUND")

    assert state_of(alice) == before


@pytest.mark.parametrize(
    "label",
    ["a/b", "a/", "/a", "/", "//", "a//b", "a/../b", "a b", "a%2Fb", "a?b", "a#b", "a+b", "\u00e4"],
)
def test_name_in_the_path(label: str, alice: User, alice_client: ApiClient) -> None:
    """Percent-encoded, it may be any; none is taken for another."""
    new_task(alice_client, label, *{"a", "b", "a/b"} - {label})
    kept = {"a", "b", "a/b"} - {label}

    assert data_of(rename(alice_client, label, "\U0001f389")) == {
        "name": "\U0001f389",
        "open_tasks": 1,
    }
    assert data_of(rename(alice_client, "\U0001f389", label))["name"] == label
    assert remove(alice_client, label).status_code == 204

    (found,) = labels_of(alice)
    assert set(found) == kept


def test_name_in_the_path_is_read_as_a_label(alice: User, alice_client: ApiClient) -> None:
    """As NFC, and trimmed; with slashes as they are."""
    new_task(alice_client, "\u00e9", "a/b", "c")

    assert remove(alice_client, "e\u0301").status_code == 204
    assert alice_client.delete(f"{LABELS}/a/b").status_code == 204
    assert remove(alice_client, " c ").status_code == 204

    assert labels_of(alice) == [[]]


@pytest.mark.parametrize(
    ("body", "name", "code"),
    [
        pytest.param({"name": ""}, "name", "blank", id="empty"),
        pytest.param({"name": "\u200b"}, "name", "blank", id="invisible"),
        pytest.param({"name": "a,b"}, "name", "comma", id="comma"),
        pytest.param({"name": "a\nb"}, "name", "control_characters", id="two lines"),
        pytest.param({"name": "x" * 51}, "name", "max_length", id="51 characters"),
        pytest.param({"name": "\u0958" * 26}, "name", "max_length", id="52 as NFC"),
        pytest.param({"name": "a" + "\u0316" * 31}, "name", "combining_marks", id="marks"),
        pytest.param({"name": None}, "name", "null", id="null"),
        pytest.param({"name": 1}, "name", "invalid", id="number"),
        pytest.param({"label": "b"}, "label", "unknown", id="unknown"),
    ],
)
def test_what_is_no_label_is_refused(
    body: Any, name: str, code: str, alice: User, alice_client: ApiClient
) -> None:
    """[B4] By the name of the field; after 404 [E1]."""
    new_task(alice_client, "a")
    trash(alice_client, new_task(alice_client, "gone"))
    before = state_of(alice)

    details = assert_error(alice_client.patch(path_of("a"), body), 400, "VALIDATION_ERROR")

    assert {field: [fault["code"] for fault in faults] for field, faults in details.items()} == {
        name: [code]
    }
    for label in ("b", "gone"):
        assert_error(alice_client.patch(path_of(label), body), 404, "NOT_FOUND")
    assert state_of(alice) == before


def test_new_name_is_kept_as_a_label_is(alice: User, alice_client: ApiClient) -> None:
    new_task(alice_client, "a")

    assert data_of(rename(alice_client, "a", f" e\u0301{'x' * 49} "))["name"] == "\u00e9" + "x" * 49

    assert labels_of(alice) == [["\u00e9" + "x" * 49]]


@pytest.mark.parametrize("header", ["if_match", "if_none_match"])
@pytest.mark.parametrize("way", [partial(rename, name="b"), remove], ids=["rename", "removal"])
def test_conditions_are_refused(
    way: Any, header: str, alice: User, alice_client: ApiClient
) -> None:
    """[V2] There is no tag."""
    new_task(alice_client, "a")

    details = assert_error(way(alice_client, "a", **{header: "*"}), 400, "VALIDATION_ERROR")

    ((fault,),) = details.values()
    assert fault["code"] == "not_supported"
    assert labels_of(alice) == [["a"]]
    assert_error(way(alice_client, "c", **{header: "*"}), 404, "NOT_FOUND")


@pytest.mark.parametrize("way", [partial(rename, name="b"), remove], ids=["rename", "removal"])
def test_repeat_gets_the_first_answer(way: Any, alice: User, alice_client: ApiClient) -> None:
    """[I1] Whatever became of the label, and of the tasks."""
    new_task(alice_client, "a")
    new_task(alice_client, "a")
    first = way(alice_client, "a", idempotency_key="k")
    assert "Idempotent-Replayed" not in first
    new_task(alice_client, "a", "other")
    before = state_of(alice)

    again = way(alice_client, "a", idempotency_key="k")

    assert again["Idempotent-Replayed"] == "true"
    assert again.status_code == first.status_code
    if first.content:
        assert data_of(again) == data_of(first) == {"name": "b", "open_tasks": 2}
    others = [
        rename(alice_client, "a", "c", idempotency_key="k"),
        way(alice_client, "other", idempotency_key="k"),
    ]
    for other in others:
        assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")
    assert state_of(alice) == before
    assert_error(way(alice_client, "d", idempotency_key="new"), 404, "NOT_FOUND")
    new_task(alice_client, "d")
    assert "Idempotent-Replayed" not in way(alice_client, "d", idempotency_key="new")


@pytest.mark.parametrize("way", [partial(rename, name="b"), remove], ids=["rename", "removal"])
def test_it_counts_as_one_write(
    way: Any, alice: User, alice_client: ApiClient, settings: Any
) -> None:
    """However many tasks it changes; and nothing is done where it is one too many."""
    Task.objects.bulk_create(Task(user=alice, title="x", labels=["a", "c"]) for _ in range(5))
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(3, 3600)}

    answers = [way(alice_client, label) for label in ("a", "absent", "c", "c")]

    assert [answer.status_code for answer in answers[1::2]] == [404, 429]
    assert answers[0]["RateLimit-Remaining"] == "2"
    assert answers[2]["RateLimit-Remaining"] == "0"
    assert {answer.status_code for answer in answers[::2]} <= {200, 204}


def test_other_people_keep_their_labels(
    alice_client: ApiClient, bob: User, bob_client: ApiClient
) -> None:
    new_task(alice_client, "a", "c")
    new_task(bob_client, "a", "c")
    before = (version_of(bob), list(Task.objects.filter(user=bob).values()))

    data_of(rename(alice_client, "a", "b"))
    assert remove(alice_client, "c").status_code == 204

    assert (version_of(bob), list(Task.objects.filter(user=bob).values())) == before
    assert read(alice_client) == [("b", 1)]
    assert read(bob_client) == [("a", 1), ("c", 1)]


# --- What it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", [partial(rename, name="b"), remove], ids=["rename", "removal"])
@pytest.mark.parametrize("tasks", [1, 50])
@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "k"}], ids=["bare", "keyed"])
def test_it_is_two_statements_however_many_tasks(
    way: Any,
    tasks: int,
    headers: dict[str, str],
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """The opening and the work, which go together: see below."""
    Task.objects.bulk_create(Task(user=alice, title="x", labels=["a"]) for _ in range(tasks))

    with django_assert_num_queries(2):
        response = way(alice_client, "a", **headers)

    assert response.status_code in (200, 204)


@needs_prepared_statements
@together
@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "k"}], ids=["bare", "keyed"])
@pytest.mark.parametrize("way", [partial(rename, name="x"), remove], ids=["rename", "removal"])
def test_it_takes_one_round_trip(
    way: Any, headers: dict[str, str], alice: User, alice_client: ApiClient
) -> None:
    Task.objects.bulk_create(Task(user=alice, title="x", labels=["a", "b", "c"]) for _ in range(20))
    for label in ("a", "b"):  # prepares
        way(alice_client, label, **{name: f"{value}{label}" for name, value in headers.items()})

    with counted_round_trips(connection.connection) as round_trips:
        response = way(alice_client, "c", **headers)
        assert (response.status_code in (200, 204), round_trips()) == (True, 1)


# --- At once ----------------------------------------------------------------------------------


@pytest.fixture(params=["limited", "unlimited"])
def limit(request: pytest.FixtureRequest, settings: Any) -> None:
    """Its count locks as well, before the clock: without it that alone keeps writes apart."""
    if request.param == "unlimited":
        settings.RATE_LIMITS = dict.fromkeys(settings.RATE_LIMITS)


@together
@pytest.mark.usefixtures("limit")
def test_of_twenty_renames_at_once_one_takes_place(alice: User) -> None:
    """The others find no such label. In one version."""
    Task.objects.bulk_create(Task(user=alice, title="x", labels=["x", "a"]) for _ in range(20))
    before = version_of(alice)
    clients = [ApiClient(begin_session(alice).access) for _ in range(RACERS)]

    answers = meeting(
        [alice], *(partial(rename, client, "a", f"name {n}") for n, client in enumerate(clients))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [404] * (RACERS - 1)
    ((name, open_tasks), _) = read(clients[0])
    assert [n for n, answer in enumerate(answers) if answer.status_code == 200] == [
        int(name.removeprefix("name "))
    ]
    assert open_tasks == 20
    assert {tuple(labels) for labels in labels_of(alice)} == {("x", name)}
    assert set(Task.objects.values_list("version", flat=True)) == {before + 1}
    assert version_of(alice) == before + 1


@together
@pytest.mark.usefixtures("limit")
def test_rename_meets_what_is_created_and_changed(alice: User) -> None:
    """A task that is made, or gets the label, before the rename has the new name; else the old."""
    clients = [ApiClient(begin_session(alice).access) for _ in range(4)]
    new_task(clients[0], "a")
    other = new_task(clients[0])

    renamed, created, changed, removed = meeting(
        [alice],
        partial(rename, clients[0], "a", "b"),
        partial(clients[1].post, TASKS, {"title": "new", "labels": ["a"]}),
        partial(clients[2].patch, f"{TASKS}/{other['id']}", {"labels": ["a", "x"]}),
        partial(remove, clients[3], "x"),
    )

    version = Task.objects.earliest("id").version
    assert data_of(renamed)["name"] == "b"
    for task in (data_of(created, 201), data_of(changed)):
        row = Task.objects.get(pk=task["id"])
        is_before = task["version"] < version
        assert row.labels[0] == ("b" if is_before else "a")
    is_there = data_of(changed)["version"] < version_of(alice)
    assert removed.status_code in ((204, 404) if is_there else (404,))
    assert (removed.status_code == 204) == (Task.objects.get(pk=other["id"]).labels[1:] == [])
