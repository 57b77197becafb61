"""What tests need to walk over every resource, whatever its fields are.

The values that are sent come from the kinds of the fields: a new kind needs a row in SAMPLES, or
every walk fails.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

from django.db import connection, models
from django.test import override_settings
from drf_spectacular.generators import SchemaGenerator

import tests.urls  # noqa: F401  # registers every resource
from accounts.models import User
from tasks.fields import Zone
from tasks.recurring import Recurrence
from tests.client import ApiClient, data_of, meta_of
from todo_project.models import Clock
from todo_project.resources.fields import (
    Choice,
    Color,
    Day,
    Instant,
    Line,
    Reference,
    Since,
    Stored,
    Text,
    TimeOfDay,
    Words,
)
from todo_project.resources.resource import RESOURCES, Resource

# What only the tests have.
TESTS_OWN = "thing"

# Three values of each kind that clients write, in their order. As answers have them.
SAMPLES: Mapping[type[Stored], Sequence[Any]] = {
    Line: ("apple", "Banana", "cherry"),
    Text: ("Two litres", "Two\nlines", "Ängste"),
    Instant: (
        "2026-01-31T09:30:00.000000Z",
        "2026-02-01T00:00:00.123456Z",
        "2027-01-01T00:00:00.000000Z",
    ),
    Since: (False, True, True),
    Words: (["a"], ["b", "a"], ["c"]),
    Day: ("2026-01-31", "2026-02-01", "2027-01-01"),
    TimeOfDay: ("09:30", "09:30:15", "18:00"),
    Zone: ("Europe/Berlin", "America/New_York", "UTC"),
    Color: ("#000000", "#1e90ff", "#ffffff"),
    Reference: (None, None, None),  # what it refers to isn't there in every walk
    Recurrence: (None, None, None),  # what recurs makes other rows when it is completed
}
SAMPLES_EACH = 3


def body_of(resource: Resource, number: int = 0) -> dict[str, Any]:
    """Values for all fields that clients write; from `number` on they differ from row to row."""
    return {
        name: _samples(field)[number % SAMPLES_EACH] for name, field in resource.written.items()
    }


def _samples(field: Stored) -> Sequence[Any]:
    if isinstance(field, Choice):
        first, second, *others = field.choices
        return (first, second, [second, *others][-1])
    return SAMPLES[type(field)]


def required_of(resource: Resource, number: int = 0) -> dict[str, Any]:
    """The least that can be created."""
    fields = resource.serializer_class().fields
    body = body_of(resource, number)
    return {name: value for name, value in body.items() if fields[name].required}


def path_of(resource: Resource, owner: object = "me") -> str:
    return f"/api/{owner}/{resource.segment}"


def create(client: ApiClient, resource: Resource, number: int = 0) -> dict[str, Any]:
    """A row of the client's, as it is answered."""
    data = data_of(client.post(path_of(resource), body_of(resource, number)), 201)
    assert isinstance(data, dict)
    return data


def pages(client: ApiClient, path: str, position: str, **query: Any) -> Iterator[list[Any]]:
    """The pages of a list, of the trash or of the feed, which name the next one in `meta`."""
    parameter = position.removeprefix("next_")
    while True:
        response = client.get(path, query=query)
        yield data_of(response)
        meta = meta_of(response)
        query[parameter] = meta[position]
        if not meta.get("has_more", meta[position] is not None):
            return


def everything(client: ApiClient, path: str, **query: Any) -> list[Any]:
    """All rows of a list, page by page."""
    return [row for page in pages(client, path, "next_cursor", **query) for row in page]


def version_of(user: User) -> int:
    return Clock.objects.get(user=user).version


def generated_columns(model: type[models.Model]) -> set[str]:
    """The columns that the table computes, as PostgreSQL says."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attgenerated <> ''",
            [model._meta.db_table],
        )
        return {column for (column,) in cursor.fetchall()}


@contextmanager
def service_alone() -> Iterator[None]:
    """The service without what only the tests have, for what describes it as it is."""
    registered = {name: each for name, each in RESOURCES.items() if name != TESTS_OWN}
    with (
        patch.dict(Resource.registered, registered, clear=True),
        override_settings(ROOT_URLCONF="todo_project.urls"),
        ExitStack() as stack,
    ):
        _forget_texts()
        stack.callback(_forget_texts)
        yield


def _forget_texts() -> None:
    """Of statements, which are of all resources that there are."""
    for name, module in list(sys.modules.items()):
        if name.startswith("todo_project.resources"):
            for function in vars(module).values():
                if hasattr(function, "cache_clear"):
                    function.cache_clear()


@cache
def document_of_tests() -> dict[str, Any]:
    """The OpenAPI document of all that the tests serve, made as the service makes its own."""
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    assert isinstance(document, dict)
    return document
