"""The document of this service's own export: what is there keeps its ids, times and series."""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError

from tasks.fields import TASK
from tasks.lists import LIST
from todo_project.api.errors import error_object
from todo_project.api.parsers import StrictJSONParser
from todo_project.api.serializers import DayField, TimeField
from todo_project.api.views import read_uuid
from todo_project.resources.export import FORMAT, FORMAT_VERSION
from todo_project.resources.resource import Resource

from .rows import Document, Kind, Options, Row, check_count, shown

# Of one row, told of by name: each is answered with the names of all that there are.
_UNKNOWN_MAX = 3

# A series is what all of these say together.
_SERIES = ("series_id", "occurrence_on", "series_start_on")


def read(file: bytes, options: Options) -> Document:
    """Raises ParseError for what is no such document, ValidationError for one that is too long."""
    document = StrictJSONParser().parse(BytesIO(file))
    if document.get("format") != FORMAT:
        raise ParseError(f'The file is no export of this service: its "format" isn\'t "{FORMAT}".')
    if document.get("format_version") != FORMAT_VERSION:
        raise ParseError(
            f'The export has a "format_version" that isn\'t known here. Known: {FORMAT_VERSION}.'
        )
    lists, tasks = (_rows_of(document, resource) for resource in (LIST, TASK))
    check_count(len(lists) + len(tasks))
    rows = [_row(number, LIST, sent) for number, sent in enumerate(lists, start=1)]
    rows += [_row(number, TASK, sent) for number, sent in enumerate(tasks, start=len(rows) + 1)]
    others = sorted(document.keys() - _KNOWN)
    notes = [f"Not taken: {', '.join(others)}."] if others else []
    return Document(rows, notes)


_KNOWN = {
    *("format", "format_version", "exported_at", "version", "since"),
    *(LIST.segment, TASK.segment),
}


def _rows_of(document: Mapping[str, Any], resource: Resource) -> list[Any]:
    rows = document.get(resource.segment, [])
    if not isinstance(rows, list):
        raise ParseError(f'"{resource.segment}" in the export is no list.')
    return rows


def _row(number: int, resource: Resource, sent: Any) -> Row:
    row = Row(number, Kind(resource.name), "")
    if not isinstance(sent, dict):
        row.fail(_fault("Must be an object.", "invalid"))
        return row
    row.title = shown(sent.get("title" if resource is TASK else "name"))
    row.own_id = _id(sent.get("id"))
    if row.own_id is None:
        row.fail(_fault("Must be a UUID with hyphens.", "invalid", "id"))
        return row
    row.source = str(row.own_id)
    if (position := shown(sent.get("position"))) != "":
        row.rank = f"{position} {row.own_id}"  # those of one position stand by their ids, as there
    if sent.get("deleted_at") is not None:
        row.skip("It is in the trash there, and stays out.")
        return row
    row.data = {name: value for name, value in sent.items() if name not in _APART}
    further = [name for name in row.data if name not in resource.fields][_UNKNOWN_MAX:]
    for name in further:
        del row.data[name]
    if further:
        row.notes.append(f"Further unknown fields: {len(further)}.")
    faults = dict(_read_past(row, resource, sent))
    if resource is TASK:
        faults |= _read_places(row, sent)
    if faults:
        row.fail(error_object(ValidationError(faults))["details"])
    return row


_NO_ID = ErrorDetail("Must be a UUID with hyphens, or null.", "invalid")
_APART = frozenset({"deleted_at", "list_id", "parent_id"})


def _read_places(row: Row, sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Reads list and parent; gives what is wrong with them."""
    places = {name: _id(sent.get(name)) for name in ("list_id", "parent_id")}
    row.in_list, row.below = (None if place is None else str(place) for place in places.values())
    return {
        name: [_NO_ID]
        for name, place in places.items()
        if place is None and sent.get(name) is not None
    }


def _read_past(row: Row, resource: Resource, sent: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Reads what came about there; gives what is wrong with it."""
    for name in resource.imported:
        value = sent.get(name)
        if value is None:
            continue
        try:
            row.past[name] = _READERS[name](value)
        except ValidationError as error:
            yield name, error.detail
    found = row.past.keys() & set(_SERIES)
    if found and (len(found) < len(_SERIES) or sent.get("recurrence") is None):
        for name in found:
            del row.past[name]
        row.notes.append("Of its series not all is said: it begins one of its own.")


def _id(value: Any) -> UUID | None:
    return read_uuid(value) if isinstance(value, str) else None


def _read_id(value: Any) -> UUID:
    row_id = _id(value)
    if row_id is None:
        raise ValidationError([_NO_ID])
    return row_id


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "created_at": TimeField().to_internal_value,
    "completed_at": TimeField().to_internal_value,
    "series_id": _read_id,
    "next_task_id": _read_id,
    "occurrence_on": DayField().to_internal_value,
    "series_start_on": DayField().to_internal_value,
}


def _fault(message: str, code: str, field: str = "non_field_errors") -> Mapping[str, Any]:
    return {field: [{"code": code, "message": message}]}
