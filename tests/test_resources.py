"""Whatever belongs to a person keeps the same promises: tasks, and the things of the tests' own.

Each walk is over RESOURCES, so that a new resource is tested by being registered. `tests/things` is
the proof of what one takes: a model with its migration, fields, a view and its routes.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import override_settings
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks.fields import TASK
from tasks.recurring import Recurrence
from tests import urls
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.openapi import documented_by
from tests.resources import (
    SAMPLES_EACH,
    body_of,
    create,
    document_of_tests,
    everything,
    generated_columns,
    pages,
    path_of,
    required_of,
    version_of,
)
from tests.test_filters_and_orders import FILTERS
from tests.things.fields import THING, ThingSerializer
from tests.things.models import Thing
from todo_project.models import Change, Purged
from todo_project.resources import batch, writes
from todo_project.resources.fields import (
    Choice,
    Instant,
    Line,
    Reference,
    Since,
    Tag,
    Words,
)
from todo_project.resources.resource import RESOURCES, Resource
from todo_project.resources.routes import owned_routes
from todo_project.resources.views import OwnedViewSet

# Real transactions: all that one of them writes has one version.
pytestmark = pytest.mark.django_db(transaction=True)

TRASH = "/api/me/trash"
CHANGES = "/api/me/changes"
BATCH = "/api/me/batch"

each_resource = pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
each_field = pytest.mark.parametrize(
    ("resource", "name"),
    [
        pytest.param(resource, name, id=f"{resource.name}-{name}")
        for resource in RESOURCES.values()
        for name, field in resource.written.items()
        # test_lists_of_tasks.py has what they refer to, and test_recurring.py has rules.
        if not isinstance(field, Reference | Recurrence)
    ],
)


@pytest.fixture(autouse=True, scope="module")
def _documented() -> Iterator[None]:
    """Answers are checked against the document of what the tests serve."""
    with documented_by(document_of_tests()):
        yield


@pytest.fixture
def row(resource: Resource, alice_client: ApiClient) -> dict[str, Any]:
    """One of Alice's."""
    return create(alice_client, resource)


@pytest.fixture
def path(resource: Resource, row: dict[str, Any]) -> str:
    """Where it is."""
    return f"{path_of(resource)}/{row['id']}"


def unversioned(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("version", "etag")}


def newest(client: ApiClient, resource: Resource, row_id: str) -> dict[str, Any]:
    data = data_of(client.get(f"{path_of(resource)}/{row_id}"))
    assert isinstance(data, dict)
    return data


# --- One place for each field -------------------------------------------------------------------


@each_resource
def test_fields_are_the_columns(resource: Resource) -> None:
    """What the table has is answered, but for what it computes from that and for the trash."""
    generated = generated_columns(resource.model)
    columns = {field.column for field in resource.model._meta.concrete_fields}
    kinds = [field for field in resource.fields.values() if not isinstance(field, Tag)]
    named = {name for field in kinds for name in (field.name, field.column)}

    assert columns - generated == named - generated | resource.inner.keys() | {"deleted_at"}
    assert {field.sort_key.column for field in kinds if field.sort_key} <= columns


class LongerSerializer(ThingSerializer):
    """A thing with one line more."""

    ends_at = Instant(allow_null=True, required=False, sorts=True)


@pytest.fixture
def longer() -> Iterator[Resource]:
    """Things with one field more: a column, and its line."""
    with connection.cursor() as cursor, patch.dict(Resource.registered):
        cursor.execute("ALTER TABLE things_thing ADD ends_at timestamptz")
        resource = Resource(
            model=Thing, serializer_class=LongerSerializer, name="longer", segment="longer"
        )
        view = type("LongerViewSet", (OwnedViewSet,), {"resource": resource})
        patterns = [*owned_routes("api", view), *urls.urlpatterns]
        with override_settings(ROOT_URLCONF=type("Urls", (), {"urlpatterns": patterns})):
            yield resource
        cursor.execute("ALTER TABLE things_thing DROP ends_at")


def test_field_takes_a_column_and_a_line(longer: Resource, alice_client: ApiClient) -> None:
    """It is written, answered, filtered by, sorted by and, in a batch, too: all from its line."""
    early, late = "2026-01-01T00:00:00.000000Z", "2027-01-01T00:00:00.000000Z"
    path = path_of(longer)

    first = data_of(alice_client.post(path, {"name": "x", "ends_at": late}), 201)
    second = data_of(alice_client.post(path, {"name": "y"}), 201)
    changed = data_of(alice_client.patch(f"{path}/{second['id']}", {"ends_at": early}))

    assert first["ends_at"] == late
    assert (second["ends_at"], changed["ends_at"]) == (None, early)
    assert everything(alice_client, path, ordering="ends_at", limit=1) == [changed, first]
    assert everything(alice_client, path, ends_after=late) == [first]
    assert everything(alice_client, path, ends_before=late) == [changed]
    assert "new.ends_at" in batch.creations(longer).written_sql
    assert first["etag"].split("-")[1] == longer.revision != THING.revision
    assert writes.change(longer, ("ends_at",)).written_sql.count("ends_at = ") == 1


# --- What can be done with one row --------------------------------------------------------------


@each_resource
def test_created_row_is_what_is_read_and_listed(
    resource: Resource, alice: User, alice_client: ApiClient
) -> None:
    """[V1] [V2] In the order of its fields, with the clock's version."""
    body = body_of(resource)

    response = alice_client.post(path_of(resource), body)

    row = data_of(response, 201)
    assert list(row) == list(resource.fields)
    assert {name: row[name] for name in body} == body
    assert (row["user_id"], row["version"]) == (str(alice.pk), version_of(alice))
    assert row["etag"] == response["ETag"]
    assert response["Location"] == f"{path_of(resource, alice.pk)}/{row['id']}"
    assert data_of(alice_client.get(response["Location"])) == row
    assert data_of(alice_client.get(path_of(resource))) == [row]


@each_resource
def test_least_that_can_be_created(resource: Resource, alice_client: ApiClient) -> None:
    row = data_of(alice_client.post(path_of(resource), required_of(resource)), 201)

    left_out = resource.written.keys() - required_of(resource).keys()
    assert {name: row[name] for name in left_out} == {
        name: resource.defaults[name] for name in left_out
    }


@each_field
def test_field_changes_alone(
    resource: Resource, name: str, alice: User, alice_client: ApiClient
) -> None:
    """[T4] And a value that it has already changes nothing, not even the version [V1]."""
    row = create(alice_client, resource)
    path = f"{path_of(resource)}/{row['id']}"
    sent = {each: body_of(resource, 1)[each] for each in (name, *FITTING.get(name, ()))}

    changed = data_of(alice_client.patch(path, sent))
    again = data_of(alice_client.patch(path, sent))

    expected = {**row, **sent}
    follows = {
        field.column
        for field in resource.fields.values()
        if isinstance(field, Since) and field.name == name and field.column in row
    }
    # Triggers say when that is.
    follows |= {"due_at"} if name in ("due_on", "due_time", "time_zone", "start_on") else set()
    differing = {field for field in row if changed[field] != expected[field]}
    assert differing == {"updated_at", "version", "etag"} | follows
    assert changed["version"] == version_of(alice) == row["version"] + 1
    assert again == changed


@each_resource
def test_replacement_keeps_what_is_left_out(
    resource: Resource, row: dict[str, Any], path: str, alice_client: ApiClient
) -> None:
    replaced = data_of(alice_client.put(path, required_of(resource, 1)))

    assert {name: replaced[name] for name in resource.written} == {
        **{name: row[name] for name in resource.written},
        **required_of(resource, 1),
    }


@each_resource
def test_row_is_created_under_a_chosen_id(
    resource: Resource, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[V2] Once: its owner is shown what is there, and anybody else nothing of it."""
    path = f"{path_of(resource)}/{uuid4()}"

    created = alice_client.put(path, body_of(resource), if_none_match="*")
    again = alice_client.put(path, body_of(resource, 1), if_none_match="*")
    others = bob_client.put(path, body_of(resource), if_none_match="*")

    row = data_of(created, 201)
    assert path.endswith(row["id"])
    assert assert_error(again, 412, "PRECONDITION_FAILED")["current"] == row
    assert assert_error(others, 409, "CONFLICT") == {}


# --- Lists --------------------------------------------------------------------------------------


def sort_names(resource: Resource) -> list[str]:
    keys = [field.sort_key for field in resource.fields.values()]
    return [f"{sign}{key.field}" for key in keys if key for sign in ("", "-")]


@pytest.mark.parametrize(
    ("resource", "ordering"),
    [
        pytest.param(resource, ordering, id=f"{resource.name}-{ordering}")
        for resource in RESOURCES.values()
        for ordering in sort_names(resource)
    ],
)
def test_pages_have_each_row_once_in_order(
    resource: Resource, ordering: str, alice_client: ApiClient
) -> None:
    """[L2] [L3] With ties, and without values."""
    rows = [create(alice_client, resource, number) for number in range(2 * SAMPLES_EACH)]
    rows.append(data_of(alice_client.post(path_of(resource), required_of(resource)), 201))
    name = ordering.removeprefix("-")

    def position(row: dict[str, Any]) -> tuple[Any, str]:
        field = resource.fields[name]
        if isinstance(field, Choice):
            return list(field.choices).index(row[name]), row["id"]
        return (row[name].lower() if isinstance(field, Line) else row[name], row["id"])

    with_value = [row for row in rows if row[name] is not None]
    expected = sorted(with_value, key=position, reverse=ordering != name)
    expected += sorted(
        (row for row in rows if row[name] is None),
        key=lambda row: str(row["id"]),
        reverse=ordering != name,
    )
    found = everything(alice_client, path_of(resource), ordering=ordering, limit=2)
    assert found == expected


# Those that have to fit another, which is sent along.
FITTING = {"start_on": ("due_on",)}


def cases_of(resource: Resource) -> Iterator[tuple[str, str, Callable[[dict[str, Any]], bool]]]:
    """For each filter a value, and what it lets through."""
    for name, field in resource.fields.items():
        if isinstance(field, Instant) and field.filters:
            after, before = field.filters
            bound = body_of(resource, 1).get(name, "2026-06-01T00:00:00Z")
            yield after, bound, partial(_is_after, name, bound)
            yield before, bound, partial(_is_before, name, bound)
        elif isinstance(field, Since):
            yield name, "true", partial(_is, name, True)
            yield name, "false", partial(_is, name, False)
        elif isinstance(field, Choice):
            if field.filters:
                yield name, "low", partial(_is, name, "low")
        elif isinstance(field, Words):
            yield name, "b", partial(_has, name, "b")
            yield f"{name}_any", "c", partial(_has, name, "c")
            yield f"has_{name}", "false", partial(_is, name, [])
        elif isinstance(field, Reference):
            yield name, field.nothing, partial(_is, name, None)
    if resource.searched:
        name = resource.searched[0]
        word = body_of(resource, 1)[name]
        yield "search", word, partial(_is, name, word)


def _is(name: str, value: object, row: dict[str, Any]) -> bool:
    return bool(row[name] == value)


def _has(name: str, value: object, row: dict[str, Any]) -> bool:
    return value in row[name]


def _is_after(name: str, bound: str, row: dict[str, Any]) -> bool:
    return row[name] is not None and row[name] >= bound


def _is_before(name: str, bound: str, row: dict[str, Any]) -> bool:
    return row[name] is not None and row[name] < bound


@pytest.mark.parametrize(
    ("resource", "name", "value", "lets_through"),
    [
        pytest.param(resource, name, value, test, id=f"{resource.name}-{name}={value}")
        for resource in RESOURCES.values()
        for name, value, test in cases_of(resource)
    ],
)
def test_filter_lets_through_what_it_says(
    resource: Resource,
    name: str,
    value: str,
    lets_through: Callable[[dict[str, Any]], bool],
    alice_client: ApiClient,
) -> None:
    """[L4]"""
    rows = [create(alice_client, resource, number) for number in range(SAMPLES_EACH)]
    rows.append(data_of(alice_client.post(path_of(resource), required_of(resource)), 201))

    query = {name: value, "total": "true", "ordering": "-created_at"}
    response = alice_client.get(path_of(resource), query=query)

    expected = [row for row in reversed(rows) if lets_through(row)]
    assert data_of(response) == expected
    assert meta_of(response)["total"] == len(expected)


@each_resource
def test_filters_are_all_tried(resource: Resource) -> None:
    """By the test above, or below (`ids`), or for tasks by those of test_filters_and_orders.py."""
    tried = {name for name, _, _ in cases_of(resource)} | {"ids"}
    if resource is TASK:
        tried |= FILTERS.keys()
    assert tried == resource.filters.keys()


@each_resource
def test_ids_find_ones_own(
    resource: Resource, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    mine, other = create(alice_client, resource), create(bob_client, resource)
    create(alice_client, resource)

    found = alice_client.get(path_of(resource), query={"ids": f"{mine['id']},{other['id']}"})

    assert data_of(found) == [mine]


# --- Conditions and keys ------------------------------------------------------------------------


@each_resource
def test_what_has_not_changed_is_not_sent_again(
    resource: Resource, row: dict[str, Any], path: str, alice_client: ApiClient
) -> None:
    """[V2] A row by its tag, a list by the clock's."""
    listed = alice_client.get(path_of(resource))["ETag"]

    for address, tag in ((path, row["etag"]), (path_of(resource), listed)):
        known = alice_client.get(address, if_none_match=tag)
        assert (known.status_code, known.content, known["ETag"]) == (304, b"", tag)

    alice_client.patch(path, body_of(resource, 1))
    for address, tag in ((path, row["etag"]), (path_of(resource), listed)):
        data_of(alice_client.get(address, if_none_match=tag))


@each_resource
def test_write_is_refused_to_whoever_saw_another_version(
    resource: Resource, row: dict[str, Any], path: str, alice_client: ApiClient
) -> None:
    """[V2] And shows what is there. Who saw the present one may."""
    current = data_of(alice_client.patch(path, body_of(resource, 1)))

    for method, body in (
        ("PUT", body_of(resource, 2)),
        ("PATCH", body_of(resource, 2)),
        ("DELETE", b""),
    ):
        response = alice_client.call(method, path, body, if_match=row["etag"])
        details = assert_error(response, 412, "PRECONDITION_FAILED")
        assert details["current"] == current
        assert response["ETag"] == current["etag"]

    changed = alice_client.patch(path, body_of(resource, 2), if_match=current["etag"])
    removed = alice_client.delete(path, if_match=data_of(changed)["etag"])
    assert removed.status_code == 204


@each_resource
def test_key_gets_the_first_answer_again(
    resource: Resource, alice: User, alice_client: ApiClient
) -> None:
    """[I1] Whatever was done with the row since, and nothing is done twice."""
    key = {"idempotency_key": str(uuid4())}
    first = alice_client.post(path_of(resource), body_of(resource), **key)
    path = f"{path_of(resource)}/{data_of(first, 201)['id']}"
    alice_client.patch(path, body_of(resource, 1))
    before = version_of(alice)

    second = alice_client.post(path_of(resource), body_of(resource), **key)
    other = alice_client.post(path_of(resource), body_of(resource, 1), **key)

    assert data_of(second, 201) == data_of(first, 201)
    assert second["Idempotent-Replayed"] == "true"
    assert (second["Location"], second["ETag"]) == (first["Location"], first["ETag"])
    assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")
    assert version_of(alice) == before
    assert resource.model._default_manager.count() == 1


# --- Trash, changes and batch -------------------------------------------------------------------


@each_resource
def test_deleted_row_lies_in_the_trash_until_it_is_restored(
    resource: Resource, row: dict[str, Any], path: str, alice_client: ApiClient
) -> None:
    """[D1] As it was, but for the version."""
    assert alice_client.delete(path).status_code == 204

    assert_error(alice_client.get(path), 404, "NOT_FOUND")
    assert data_of(alice_client.get(path_of(resource))) == []
    (trashed,) = data_of(alice_client.get(TRASH))
    assert (trashed["type"], trashed["id"]) == (resource.name, row["id"])
    assert unversioned(trashed["resource"]) == unversioned(row)

    restored = data_of(alice_client.post(f"{path}/restore"))
    assert unversioned(restored) == unversioned(row)
    assert restored["version"] == row["version"] + 2
    assert data_of(alice_client.get(TRASH)) == []
    assert data_of(alice_client.get(path_of(resource))) == [restored]
    assert data_of(alice_client.post(f"{path}/restore")) == restored


@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
@each_resource
def test_purged_row_is_gone(
    resource: Resource,
    is_trashed: bool,
    row: dict[str, Any],
    path: str,
    alice: User,
    alice_client: ApiClient,
) -> None:
    """[D1] [F1] What devices need to know of it stays: it was deleted, and when."""
    if is_trashed:
        alice_client.delete(path)

    response = alice_client.delete(path, query={"permanent": "true"})

    assert response.status_code == 204
    assert not resource.model._default_manager.exists()
    assert version_of(alice) == row["version"] + 1
    assert Purged.objects.get().version == version_of(alice)
    assert_error(alice_client.post(f"{path}/restore"), 404, "NOT_FOUND")


def follow(client: ApiClient, position: str | None, known: dict[str, Any]) -> str:
    """Brings what a device knows up to date, two changes a page; where it is then."""
    query: dict[str, Any] = {"limit": 2} | ({"since": position} if position else {})
    while True:
        response = client.get(CHANGES, query=query)
        for change in data_of(response):
            known.pop(change["id"], None)
            if not change["deleted"]:
                known[change["id"]] = (change["type"], change["resource"])
        query["since"] = meta_of(response)["next_since"]
        if not meta_of(response)["has_more"]:
            return str(query["since"])


def test_device_that_follows_has_what_is_there(alice_client: ApiClient) -> None:
    """[F1] [F2] All resources in one feed, each kind of change, from any position."""
    made = [
        (resource, create(alice_client, resource, number))
        for number in range(5)
        for resource in RESOURCES.values()
    ]
    early: dict[str, Any] = {}
    position = follow(alice_client, None, early)
    assert early == {row["id"]: (resource.name, row) for resource, row in made}

    for number, (resource, row) in enumerate(made):
        path = f"{path_of(resource)}/{row['id']}"
        match number // len(RESOURCES):
            case 0:
                alice_client.patch(path, body_of(resource, 1))
            case 1:
                alice_client.delete(path)
            case 2:
                alice_client.delete(path, query={"permanent": "true"})
            case 3:
                alice_client.delete(path)
                alice_client.post(f"{path}/restore")
    follow(alice_client, position, early)
    late: dict[str, Any] = {}
    follow(alice_client, None, late)

    living = {
        row["id"]: (resource.name, row)
        for resource in RESOURCES.values()
        for row in data_of(alice_client.get(path_of(resource)))
    }
    assert len(living) == 3 * len(RESOURCES)
    assert early == late == living


def test_trash_has_everything_newest_first(alice_client: ApiClient) -> None:
    """[D1] In pages over all resources."""
    deleted = []
    for number in range(3):
        for resource in RESOURCES.values():
            row = create(alice_client, resource, number)
            alice_client.delete(f"{path_of(resource)}/{row['id']}")
            deleted.append((resource.name, row["id"]))

    found = [row for page in pages(alice_client, TRASH, "next_cursor", limit=2) for row in page]

    assert [(row["type"], row["id"]) for row in found] == deleted[::-1]


def test_batch_writes_everything(alice: User, alice_client: ApiClient) -> None:
    """[B6] Each operation on each resource, in one transaction."""
    operations: list[dict[str, Any]] = []
    for resource in RESOURCES.values():
        place = {"type": resource.name, "id": str(uuid4())}
        operations += [
            {"op": "create", **place, "data": body_of(resource)},
            {"op": "update", **place, "data": body_of(resource, 1)},
            {"op": "delete", **place},
            {"op": "restore", **place},
        ]

    outcomes = data_of(alice_client.post(BATCH, {"operations": operations}))

    assert [each["status"] for each in outcomes] == [201, 200, 204, 200] * len(RESOURCES)
    assert version_of(alice) == 1 + len(operations)
    for resource, restored in zip(RESOURCES.values(), outcomes[3::4], strict=True):
        assert data_of(alice_client.get(path_of(resource))) == [restored["data"]]
        assert {name: restored["data"][name] for name in resource.written} == body_of(resource, 1)


# --- Whose it is, and who writes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        pytest.param("GET", "", id="read"),
        pytest.param("PUT", "", id="replace"),
        pytest.param("PATCH", "", id="update"),
        pytest.param("DELETE", "", id="delete"),
        pytest.param("DELETE", "?permanent=true", id="purge"),
        pytest.param("POST", "/restore", id="restore"),
    ],
)
@each_resource
def test_another_persons_row_is_absent(
    resource: Resource,
    method: str,
    rest: str,
    alice: User,
    row: dict[str, Any],
    path: str,
    alice_client: ApiClient,
    bob_client: ApiClient,
) -> None:
    """[R1] Below one's own path it isn't there, and below the owner's there is nothing."""
    body = body_of(resource, 1) if method in ("PUT", "PATCH") else b""
    owners_path = f"{path_of(resource, alice.pk)}/{row['id']}"

    below_own = bob_client.call(method, f"{path}{rest}", body)
    below_the_owners = bob_client.call(method, f"{owners_path}{rest}", body)

    assert_error(below_own, 404, "NOT_FOUND")
    assert_error(below_the_owners, 403, "PERMISSION_DENIED")
    assert newest(alice_client, resource, row["id"]) == row


@each_resource
def test_nothing_of_anothers_is_listed(
    resource: Resource, path: str, alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[R1] Neither what is there, nor what was."""
    create(alice_client, resource, 1)
    alice_client.delete(path)

    for address in (path_of(resource), TRASH, CHANGES):
        assert data_of(bob_client.get(address)) == []
    for address in (path_of(resource, alice.pk), f"/api/{alice.pk}/trash"):
        assert_error(bob_client.get(address), 403, "PERMISSION_DENIED")


WRITERS: dict[str, Callable[[Any], object]] = {
    "save": lambda row: row.save(),
    "update": lambda row: type(row).objects.update(updated_at=Now()),
    "statement": lambda row: _execute(row, "UPDATE {} SET created_at = now() WHERE id = %s"),
    "trash": lambda row: type(row).objects.update(deleted_at=Now()),
    "delete": lambda row: row.delete(),
    "deletion by a statement": lambda row: _execute(row, "DELETE FROM {} WHERE id = %s"),
}


def _execute(row: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.format(row._meta.db_table), [row.pk])


def _changed(row: Any) -> Any:
    """The row with another value in a column that clients write."""
    resource = next(each for each in RESOURCES.values() if each.model is type(row))
    name = next(iter(required_of(resource)))
    setattr(row, name, body_of(resource, 1)[name])
    return row


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@each_resource
def test_every_writer_stamps(
    resource: Resource,
    write: Callable[[Any], object],
    row: dict[str, Any],
    alice: User,
    alice_client: ApiClient,
) -> None:
    """[V1] Those who know nothing of versions, too."""
    known: dict[str, Any] = {}
    position = follow(alice_client, None, known)

    write(_changed(resource.model._default_manager.get()))

    follow(alice_client, position, known)
    assert version_of(alice) == row["version"] + 1
    assert Change.objects.filter(user=alice, version=version_of(alice)).count() == 1
    living = data_of(alice_client.get(path_of(resource)))
    assert [row for _, row in known.values()] == living
    assert [row["version"] for row in living] == [version_of(alice)] * len(living)


@each_resource
def test_whoever_adds_a_row_stamps(resource: Resource, alice: User) -> None:
    """[V1]"""
    row: Any = resource.model._default_manager.create(user=alice, **required_of(resource))

    row.refresh_from_db()
    assert row.version == version_of(alice) == 2


@each_resource
def test_rows_go_with_their_owner(resource: Resource, row: dict[str, Any], alice: User) -> None:
    alice.delete()

    assert not resource.model._default_manager.exists()
    assert not Change.objects.exists()


# --- What it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "rest", "sends"),
    [
        pytest.param("GET", "", False, id="read"),
        pytest.param("PUT", "", True, id="replace"),
        pytest.param("PATCH", "", True, id="update"),
        pytest.param("DELETE", "", False, id="delete"),
        pytest.param("DELETE", "?permanent=true", False, id="purge"),
        pytest.param("POST", "/restore", False, id="restore"),
    ],
)
@pytest.mark.parametrize("terms", ["none", "all"])
@each_resource
def test_one_statement_for_one_row(
    resource: Resource,
    terms: str,
    method: str,
    rest: str,
    sends: bool,
    row: dict[str, Any],
    path: str,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """Whether the caller counts, the limit, the condition, the key and the work."""
    headers = {"if_match": row["etag"], "idempotency_key": str(uuid4())} if terms == "all" else {}
    if method == "GET" and headers:
        headers = {"if_none_match": row["etag"]}

    with django_assert_num_queries(1):
        response = alice_client.call(
            method, f"{path}{rest}", body_of(resource, 1) if sends else b"", **headers
        )

    assert response.status_code in (200, 204, 304)


@each_resource
def test_one_statement_to_create(
    resource: Resource, alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        data_of(alice_client.post(path_of(resource), body_of(resource)), 201)


@pytest.mark.parametrize("rows", [0, 1, 50])
@each_resource
def test_one_statement_to_list(
    resource: Resource,
    rows: int,
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """However many rows there are, in the trash and in the feed as well."""
    objects = resource.model._default_manager
    objects.bulk_create(
        resource.model(user=alice, **required_of(resource, number)) for number in range(rows)
    )
    with django_assert_num_queries(1):
        assert len(data_of(alice_client.get(path_of(resource), query={"total": "true"}))) == rows
    with django_assert_num_queries(1):
        assert len(data_of(alice_client.get(CHANGES))) == rows
    objects.update(deleted_at=Now())

    with django_assert_num_queries(1):
        assert len(data_of(alice_client.get(TRASH))) == rows


# --- The document -------------------------------------------------------------------------------


@each_resource
def test_document_has_the_operations(resource: Resource) -> None:
    document = document_of_tests()
    operations = {
        operation["operationId"]
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if f"/{resource.segment}" in path
    }
    names = ("list", "create", "read", "replace", "update", "delete", "restore")
    assert {f"{resource.segment}_{name}" for name in names} <= operations
    properties = document["components"]["schemas"][resource.model.__name__]["properties"]
    assert list(properties) == list(resource.fields)
