"""The trash: what a person deleted, until it is restored, or purged."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from todo_project.api.callers import Caller
from todo_project.api.envelope import json_response
from todo_project.api.serializers import StrictSerializer

from .base import OwnedView
from .fields import TIME
from .pages import Seal, foreign_cursor, next_link, within_bytes
from .parameters import PageQuery
from .resource import RESOURCES, KindField, ResourceField
from .statement import page_json_sql, read_sql, rows_of, weighed_sql

# Kind, id, JSON in UTF-8, when it was deleted, and when it will be purged.
Row = tuple[str, UUID, bytes, str, str]


def fetch_trash(caller: Caller, limit: int, after: tuple[str, UUID] | None) -> Sequence[Row]:
    """The rows deleted before a time and id, the newest first, one more than `limit` at most."""
    sql = _trash_sql(
        caller.live_sql,
        is_later=after is not None,
        is_weighed=limit > settings.PAGE_SIZE_DEFAULT,
    )
    parameters: dict[str, Any] = {"rows": limit + 1, "kept_for": settings.TRASH_KEPT}
    if after is not None:
        parameters |= {"after_time": after[0], "after_id": after[1]}
    return [row for row in rows_of(caller, sql, parameters) if row[0] is not None]


@cache
def _trash_sql(live_sql: str, *, is_later: bool, is_weighed: bool) -> str:
    beyond = "AND (deleted_at, id) < (%(after_time)s::timestamptz, %(after_id)s::uuid)"
    kinds = [
        f"""(
            SELECT '{kind}' AS type, item.id, {resource.json_sql} AS json, item.deleted_at
              FROM (
                  SELECT {resource.columns_sql}, deleted_at FROM {resource.table}
                   WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL
                     {beyond if is_later else ""}
                   ORDER BY deleted_at DESC, id DESC
                   LIMIT %(rows)s
              ) AS item
        )"""
        for kind, resource in sorted(RESOURCES.items())
    ]
    rows = f"""
        SELECT * FROM ({" UNION ALL ".join(kinds)}) AS item
         ORDER BY deleted_at DESC, id DESC LIMIT %(rows)s
    """
    if is_weighed:
        rows = weighed_sql(rows, "octet_length(json)")
    return read_sql(
        "trash.list",
        live_sql,
        f"""
        SELECT trashed.type, trashed.id, {page_json_sql("trashed.json")},
               {TIME.format("trashed.deleted_at")},
               {TIME.format("(trashed.deleted_at + %(kept_for)s)")}
          FROM caller
          LEFT JOIN ({rows}) AS trashed ON true
        """,
    )


class TrashedSerializer(StrictSerializer):
    """Something that was deleted, and can be restored."""

    type = KindField(help_text="What it is.")
    id = serializers.UUIDField()
    resource = ResourceField(help_text="As it was.")
    deleted_at = serializers.DateTimeField()
    purge_at = serializers.DateTimeField(help_text="From then on it may be gone for good.")


class TrashView(OwnedView):
    """What a person deleted."""

    query_serializers = {"get": PageQuery}  # noqa: RUF012

    @extend_schema(operation_id="trash_list", responses=TrashedSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """List what is in your trash, what was deleted last first."""
        limit = self.query["limit"]
        found = fetch_trash(self.caller, limit, self._after())
        self.is_settled = True
        rows = found[: len(within_bytes([json for _, _, json, *_ in found[:limit]]))]
        meta: dict[str, Any] = {"limit": limit, "next_cursor": None}
        headers = {}
        if len(rows) < len(found):
            _, row_id, _, deleted_at, _ = rows[-1]
            meta["next_cursor"] = self._seal.close([deleted_at, row_id])
            path = f"{self.own_path}/trash"
            headers["Link"] = next_link(path, self.parameters, meta["next_cursor"])
        return json_response(request, list(map(_answer, rows)), meta=meta, headers=headers)

    def _after(self) -> tuple[str, UUID] | None:
        if "cursor" not in self.query:
            return None
        try:
            deleted_at, row_id = self._seal.open(self.query["cursor"])
            return deleted_at, UUID(row_id)
        except (ValueError, TypeError):
            raise foreign_cursor() from None

    @property
    def _seal(self) -> Seal:
        return Seal({"owner": str(self.caller.user_id), "list": "trash"})


def _answer(row: Row) -> Mapping[str, Any]:
    kind, row_id, json, deleted_at, purge_at = row
    return {
        "type": kind,
        "id": row_id,
        "resource": orjson.Fragment(json),
        "deleted_at": deleted_at,
        "purge_at": purge_at,
    }
