"""Everything that a person has, as one JSON document, made page by page while it is read.

Each page is one statement, by kind and id, and looks the caller up again. Nothing is kept of it
once it is taken: neither a transaction nor a cursor, which a pooler would not let live anyway. So
the document is no snapshot; the position that it begins with leads on to whatever was written
since, because it is older than each of its pages.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Any, NamedTuple, cast
from uuid import UUID
from weakref import WeakValueDictionary

import orjson
from django.conf import settings
from rest_framework import serializers
from rest_framework.serializers import SerializerMetaclass

from todo_project import metrics
from todo_project.api.callers import Caller
from todo_project.api.errors import ExportBusy
from todo_project.api.serializers import StrictSerializer
from todo_project.api.streaming import BrokenOffError, StreamedResponse

from .feed import FeedCodec, FeedPosition
from .fields import TIME
from .pages import within_bytes
from .resource import RESOURCES, Resource
from .statement import page_json_sql, read_sql, rows_of, weighed_sql

FORMAT, FORMAT_VERSION = "todo-export", 1

_NIL = UUID(int=0)
# The last of each reader in this process. Weak: one that nobody was handed is none.
_under_way: "WeakValueDictionary[str, Export]" = WeakValueDictionary()
_lock = Lock()


class Export(Iterator[bytes]):
    """The pieces of a caller's document. No generator: that would keep the piece that it gave.

    `opening` are the members before the resources: values, and lists of objects. `reader` is who
    gets the document: an earlier one of the same reader breaks off.

    Raises ExportBusy where settings.EXPORTS_AT_ONCE others are under way. A piece raises the
    caller's refusal, or BrokenOffError.
    """

    def __init__(self, caller: Caller, reader: str, opening: Mapping[str, Any]) -> None:
        self._caller = caller
        self._reader = reader
        self._deadline = time.monotonic() + settings.EXPORT_TIME_LIMIT_SECONDS
        self._others = iter([resource for _, resource in sorted(RESOURCES.items())])
        self._resource = next(self._others, None)  # whose page comes next
        self._after = _NIL
        self._lead = b"{\n" + _members(opening) + _beginning_of(self._resource)
        with _lock:
            require_place(reader)
            _under_way[reader] = self

    def __next__(self) -> bytes:
        if self._resource is None:
            raise StopIteration
        if _under_way.get(self._reader) is not self:
            raise BrokenOffError("the same reader has begun another export")
        if time.monotonic() > self._deadline:
            raise BrokenOffError("it takes too long")
        page = _fetch_page(self._caller, self._resource, self._after)
        piece = self._lead + _lines(page.rows)
        if page.last_id is not None:
            self._after, self._lead = page.last_id, b","
            return piece
        self._resource = next(self._others, None)
        self._after, self._lead = _NIL, _beginning_of(self._resource)
        return piece + b"\n]" + (b"" if self._resource else _END)

    def close(self) -> None:
        """Gives its place back."""
        with _lock:
            if _under_way.get(self._reader) is self:
                del _under_way[self._reader]


def require_place(reader: str) -> None:
    """Raises ExportBusy where an export of this reader would find no place."""
    if reader not in _under_way and len(_under_way) >= settings.EXPORTS_AT_ONCE:
        metrics.REFUSALS.add("export")
        raise ExportBusy()


def begin(caller: Caller) -> Mapping[str, Any]:
    """The first members of a document that begins now. One statement; before any of its pages."""
    ((epoch, version, now),) = rows_of(caller, _begin_sql(caller.live_sql), {})
    since = FeedCodec(caller.user_id).encode(FeedPosition.behind(epoch, version))
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "exported_at": now,
        "version": version,
        "since": since,
    }


def file_response(caller: Caller, reader: str, opening: Mapping[str, Any]) -> StreamedResponse:
    """The document as a file. Raises ExportBusy."""
    response = StreamedResponse(Export(caller, reader, opening), content_type="application/json")
    name = f"{FORMAT}-{opening['exported_at'][:10]}.json"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


class _Page(NamedTuple):
    rows: Sequence[bytes]  # as JSON, in UTF-8
    last_id: UUID | None  # None where there are no more


def _fetch_page(caller: Caller, resource: Resource, after: UUID) -> _Page:
    """The caller's rows behind an id, those of the trash included. One statement."""
    limit = settings.EXPORT_PAGE_ROWS
    parameters = {"after_id": after, "rows": limit + 1}
    rows = rows_of(caller, _page_sql(caller.live_sql, resource), parameters)
    found = [json for _, json in rows if json is not None]
    page = within_bytes(found[:limit])
    return _Page(page, rows[len(page) - 1][0] if len(page) < len(found) else None)


@cache
def _begin_sql(live_sql: str) -> str:
    now = TIME.format("statement_timestamp()")
    return read_sql(
        "export.begin",
        live_sql,
        f"SELECT clock.epoch, clock.version, {now} FROM caller CROSS JOIN clock",
    )


@cache
def _page_sql(live_sql: str, resource: Resource) -> str:
    rows = f"""
        SELECT {resource.columns_sql}, deleted_at FROM {resource.table}
         WHERE user_id = %(user_id)s AND id > %(after_id)s::uuid
         ORDER BY id
         LIMIT %(rows)s
    """
    return read_sql(
        f"{resource.name}.export",
        live_sql,
        f"""
        SELECT page.id, {page_json_sql("page.json")}
          FROM caller
          LEFT JOIN (
              SELECT item.id, {resource.exported_json_sql} AS json
                FROM ({weighed_sql(rows, resource.weight_sql)}) AS item
          ) AS page ON true
         ORDER BY page.id
        """,
    )


# A line for each object, so that two documents can be compared by lines.

_END = b"\n}\n"


def _members(values: Mapping[str, Any]) -> bytes:
    return b",\n".join(
        b'"%b":%b' % (name.encode(), _value(value)) for name, value in values.items()
    )


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        return b"[%b\n]" % _lines([orjson.dumps(each) for each in value])
    return orjson.dumps(value)


def _beginning_of(resource: Resource | None) -> bytes:
    return b"" if resource is None else b',\n"%b":[' % resource.segment.encode()


def _lines(objects: Sequence[bytes]) -> bytes:
    return b"\n" + b",\n".join(objects) if objects else b""


class DocumentSerializer(StrictSerializer):
    """The document, as it is documented: nothing is written or read by it."""

    format = serializers.CharField(help_text=f"`{FORMAT}`.")
    format_version = serializers.IntegerField(help_text="Another one where members change.")
    exported_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="Your clock when the export began.")
    since = serializers.CharField(
        help_text="Where `changes` goes on, with whatever was written since the export began."
    )

    def get_fields(self) -> dict[str, Any]:
        """With each of the resources, which are not known before all apps are."""
        resources = {
            resource.segment: _exported_class(resource)(many=True)
            for _, resource in sorted(RESOURCES.items())
        }
        return {**super().get_fields(), **resources}


@cache
def _exported_class(resource: Resource) -> type[StrictSerializer]:
    deleted_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when it is in the trash; null where it isn't."
    )
    name = f"Exported{resource.model.__name__}Serializer"
    members = {"deleted_at": deleted_at, "__doc__": "As its own route answers it, or did."}
    return cast(
        "type[StrictSerializer]",
        SerializerMetaclass(name, (resource.serializer_class,), members),
    )
