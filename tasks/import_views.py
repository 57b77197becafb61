"""The import route: takes a file, and reports what became of each of its rows."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, ClassVar, cast

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from todo_project import metrics
from todo_project.api.components import Schema
from todo_project.api.envelope import json_response
from todo_project.api.errors import FormBody, ImportBusy
from todo_project.api.schema import EnvelopeSchema
from todo_project.api.serializers import (
    ChoiceField,
    FieldErrorsField,
    LineField,
    QuerySerializer,
    StrictSerializer,
)
from todo_project.resources.base import OwnedView, refuse_header
from todo_project.resources.parameters import FlagField
from todo_project.resources.throttles import ImportThrottle
from todo_project.text import validate_marks

from .fields import Zone
from .importing import FORMATS, WITH_LIST, Document, Ids, Kind, Options, Plan, Row, Status, Writer
from .models import LIST_NAME_MAX_CHARACTERS, TITLE_MAX_CHARACTERS

_FILE = "application/octet-stream"
# What clients call a file: by its format, or as curl does without being asked.
_MEDIA_TYPES = frozenset(
    {
        *("", _FILE, "application/json", "text/csv", "text/calendar", "text/plain"),
        "application/x-www-form-urlencoded",
    }
)
_places = threading.BoundedSemaphore(settings.IMPORTS_AT_ONCE)


class FileParser(BaseParser):
    """A body as it came, in UTF-8 by what is said of it; raises FormBody for forms and others."""

    media_type = "*/*"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        name, *parameters = (media_type or "").split(";")
        charsets = [
            value.strip().strip('"').lower()
            for key, _, value in (parameter.partition("=") for parameter in parameters)
            if key.strip().lower() == "charset"
        ]
        if name.strip().lower() not in _MEDIA_TYPES or set(charsets) - {"utf-8", "utf8"}:
            raise FormBody()
        return stream.read()


class ImportQuery(QuerySerializer):
    """The query parameters of an import."""

    format = ChoiceField(
        [*FORMATS],
        help_text="`todo`: this service's own export. `todoist`: a CSV of Todoist's, of one "
        "project. `google`: `Tasks.json` of Google Takeout. `ics`: VTODOs of an iCalendar file.",
    )
    dry_run = FlagField(
        default=False, help_text="`true`: nothing is written. The report is that of a real run."
    )
    time_zone = Zone(
        required=False,
        help_text="Where you are, such as `Europe/Berlin`: which day it is where a file has an "
        "instant. Left out: what the file says, else UTC.",
    )
    list = LineField(
        required=False,
        max_length=LIST_NAME_MAX_CHARACTERS,
        validators=[validate_marks],
        help_text="Of `todoist` and `ics`: the name of the list that the tasks come into, which is "
        "made by the first import. Left out: the calendar's name, else the inbox.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "list" in attrs and attrs["format"] not in WITH_LIST:
            message = "The file says itself which lists there are. Leave it out."
            raise ValidationError({"list": [ErrorDetail(message, code="not_supported")]})
        return attrs


class ImportRowSerializer(StrictSerializer):
    """What became of one row of a file."""

    row = serializers.IntegerField(
        allow_null=True,
        min_value=1,
        help_text="Its number: of a CSV as spreadsheets count, else by its place in the file, "
        "lists and tasks together. Null for a list that the request or the calendar names.",
    )
    kind = ChoiceField([*Kind], help_text="What it is in the file.")
    title = serializers.CharField(help_text="As it is taken; of others, as it stands there.")
    status = ChoiceField(
        [*Status],
        help_text="`merged`: it is part of another row's task. `skipped`: it is there already, or "
        "nothing that can be taken. `notes` and `errors` say more.",
    )
    id = serializers.UUIDField(
        allow_null=True, help_text="Of the list or task, also where that was there already."
    )
    errors = FieldErrorsField(help_text="Why it failed, as its own route would say. Else empty.")  # type: ignore[assignment]
    notes = serializers.ListField(
        child=serializers.CharField(), help_text="What was taken otherwise, or not at all."
    )


class ImportCountsSerializer(StrictSerializer):
    """How many rows became what."""

    created = serializers.IntegerField(min_value=0)
    merged = serializers.IntegerField(min_value=0)
    skipped = serializers.IntegerField(min_value=0)
    failed = serializers.IntegerField(min_value=0)


class ImportReportSerializer(StrictSerializer):
    """What became of a file."""

    format = ChoiceField([*FORMATS], help_text="As it was asked for.")
    dry_run = serializers.BooleanField(help_text="Whether nothing was written.")
    counts = ImportCountsSerializer()
    rows = ImportRowSerializer(many=True, help_text="In the order of the file.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="Of the whole file.")


class ImportSchema(EnvelopeSchema):
    """An operation whose body is a file."""

    def _get_request_body(self, direction: str = "request") -> Schema | None:
        size = self.view.body_max_bytes // 1024 // 1024
        return {
            "description": f"The file itself, in UTF-8, of at most {size} MiB. By any name that "
            "fits it, such as `text/csv`; a form around it is 415.",
            "content": {_FILE: {"schema": {"type": "string", "format": "binary"}}},
            "required": True,
        }


class ImportView(OwnedView):
    """Files of other services, and of this one's export."""

    schema = ImportSchema()
    parser_classes = (FileParser,)
    query_serializers: ClassVar = {"post": ImportQuery}
    body_max_bytes = settings.MAX_IMPORT_BODY_BYTES
    throttle_classes = (ImportThrottle,)
    # A look at the token, and a count, before the file is read; the batches look again.
    defers_caller_check = False

    def check_throttles(self, request: Request) -> None:
        """Who finds no place, and comes again as told, has no try counted for it."""
        if request.method == "POST":
            _take_place()
            _places.release()
        super().check_throttles(request)

    @extend_schema(operation_id="import_file", responses=ImportReportSerializer)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Import a file of tasks.

        Each row is done by itself, and reported: one that is wrong fails with the errors that its
        own route would answer. The same file sent again makes nothing twice, also where you have
        deleted something of it since. Send it with `dry_run=true` first.
        """
        deadline = time.monotonic() + settings.IMPORT_TIME_LIMIT_SECONDS
        for header in ("If-Match", "If-None-Match"):
            if f"HTTP_{header.upper().replace('-', '_')}" in request.META:
                raise refuse_header(header, "A file has no tag that could match.")
        _take_place()
        try:
            document = self._import(self.body["file"], deadline)
        finally:
            _places.release()
        return json_response(request, self._report(document))

    def _validated_body(self, request: Request, data: Any) -> dict[str, Any]:
        if not data:
            raise ParseError("The body is empty. Send the file itself.")
        return {"file": data}

    def _import(self, file: bytes, deadline: float) -> Document:
        name, zone = self.query["format"], self.query.get("time_zone")
        document = FORMATS[name](file, Options(zone, self.query.get("list")))
        plan = Plan(document, Ids(self.caller.user_id, name), zone)
        Writer(self.caller, plan, deadline).write(dry_run=self.query["dry_run"])
        return document

    def _report(self, document: Document) -> Mapping[str, Any]:
        counts = Counter(row.status for row in document.rows)
        return {
            "format": self.query["format"],
            "dry_run": self.query["dry_run"],
            "counts": {status.value: counts[status] for status in Status},
            "rows": [_told(row) for row in document.rows],
            "notes": document.notes,
        }


def _take_place() -> None:
    if not _places.acquire(blocking=False):
        metrics.REFUSALS.add("import")
        raise ImportBusy()


def _told(row: Row) -> Mapping[str, Any]:
    return {
        "row": row.number,
        "kind": row.kind,
        "title": row.title[:TITLE_MAX_CHARACTERS],
        "status": cast("Status", row.status),
        "id": row.id,
        "errors": row.errors,
        "notes": row.notes,
    }
