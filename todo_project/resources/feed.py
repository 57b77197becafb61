"""The feed of a person's changes: who follows it has, at its end, exactly what is there.

The first pages walk over everything that lives, by kind and id. From then on the log tells what was
written since the first page was read, in the order of versions: writes of one person commit in
that order, because each holds their clock. So nothing can commit before a position that was handed
out. An entry of the log counts as long as nothing newer was written of the same row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from todo_project.api.callers import Caller
from todo_project.api.envelope import json_response
from todo_project.api.errors import Gone
from todo_project.api.serializers import QuerySerializer, StrictSerializer, StringField

from .base import OwnedView, not_modified, tag_headers
from .pages import Seal, within_bytes
from .parameters import CURSOR_MAX_CHARACTERS, page_size
from .preconditions import known_tags, list_tag_sql, unless_known
from .resource import RESOURCES, KindField, ResourceField
from .statement import page_json_sql, read_sql, rows_of, weighed_sql

_NIL = UUID(int=0)
_WALK, _LOG = "walk", "log"
# No kind's name: the position has all of its version before it.
_LAST_TYPE = "~"


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """How far a follower is: up to a version, and within it or on the walk to a row.

    On the walk `version` is what the clock said at its beginning.
    """

    epoch: str
    version: int
    phase: str = _LOG
    type: str = ""
    id: UUID = _NIL

    @classmethod
    def behind(cls, epoch: str, version: int) -> "FeedPosition":
        """Of whoever has all of a version: what comes after it follows."""
        return cls(epoch, version, _LOG, _LAST_TYPE)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Behind a whole version it is before the next: an empty type comes first by any collation.

        Many sort `~` before letters, and would give the version's changes again.
        """
        is_behind = self.type == _LAST_TYPE
        return {
            "after_version": self.version + 1 if is_behind else self.version,
            "after_type": "" if is_behind else self.type,
            "after_id": self.id,
        }

    @property
    def complete_version(self) -> int:
        """Up to which the follower has everything: not the version in whose middle they are."""
        is_whole = self.phase == _WALK or self.type == _LAST_TYPE
        return self.version if is_whole else self.version - 1


@dataclass(frozen=True, slots=True)
class FeedCodec:
    """Turns positions into what `since` takes, and back. A person's own, and no one else's."""

    owner_id: UUID

    def encode(self, position: FeedPosition) -> str:
        values = (position.epoch, position.version, position.phase, position.type, position.id)
        return self._seal.close(values)

    def decode(self, since: str) -> FeedPosition:
        """Raises ValidationError for what is no position of this person's feed."""
        try:
            epoch, version, phase, kind, row_id = self._seal.open(since)
            return FeedPosition(epoch, version, phase, kind, UUID(row_id))
        except (ValueError, TypeError):
            raise ValidationError({"since": [_FOREIGN_POSITION]}) from None

    @property
    def _seal(self) -> Seal:
        return Seal({"owner": str(self.owner_id), "feed": "changes"})


_FOREIGN_POSITION = ErrorDetail(
    "This is no position of your changes. Take `next_since` as it came, or leave it out to begin "
    "with everything that there is.",
    code="invalid_cursor",
)


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Changes as JSON, in UTF-8; the position after them; whether there are more."""

    changes: Sequence[bytes]
    position: FeedPosition
    has_more: bool
    tag: str
    is_known: bool


def fetch_changes(
    caller: Caller, position: FeedPosition | None, limit: int, known: Sequence[str] | None
) -> FeedPage:
    """The page of at most `limit` changes after a position. One statement.

    Raises Gone where what came after it isn't kept any more.
    """
    is_walk = position is None or position.phase == _WALK
    sql = _changes_sql(
        caller.live_sql,
        is_walk=is_walk,
        is_weighed=limit > settings.CHANGES_PAGE_DEFAULT,
        is_conditional=known is not None,
    )
    after = position or FeedPosition("", 0, _WALK)
    parameters = {**after.parameters, "rows": limit + 1}
    if known is not None:
        parameters["known"] = known
    rows = rows_of(caller, sql, parameters)
    epoch, version, purged_version, tag, *_ = rows[0]
    if position is None:
        after = FeedPosition(epoch, version, _WALK)
    is_kept = purged_version <= after.complete_version
    if after.epoch != epoch or not is_kept or after.version > version:
        raise Gone()
    if known is not None and (tag in known or "*" in known):
        return FeedPage([], after, has_more=False, tag=tag, is_known=True)
    found = [change for *_, change in rows if change is not None]
    page = within_bytes(found[:limit])
    has_more = len(page) < len(found)
    if has_more:
        last = orjson.loads(page[-1])
        reached = after.version if is_walk else last["version"]
        end = FeedPosition(epoch, reached, after.phase, last["type"], UUID(last["id"]))
    elif is_walk:
        end = FeedPosition.behind(epoch, after.version)
        has_more = version > after.version
    else:
        end = FeedPosition.behind(epoch, version)
    changes = [
        change for (*_, is_current, _), change in zip(rows, page, strict=False) if is_current
    ]
    return FeedPage(changes, end, has_more, tag, is_known=False)


@cache
def feed_revision() -> str:
    shapes = [(kind, resource.revision) for kind, resource in sorted(RESOURCES.items())]
    return sha256(repr(shapes).encode()).hexdigest()[:6]


# As ChangeSerializer would write it. One text for each row, as of a list: five columns took the
# service half as long again.
_CHANGE = """
    '{"type":"' || entry.type || '","id":"' || entry.id || '","version":' || entry.version
    || ',"deleted":' || entry.is_deleted || ',"resource":' || coalesce(entry.json, 'null') || '}'
"""


@cache
def _changes_sql(live_sql: str, *, is_walk: bool, is_weighed: bool, is_conditional: bool) -> str:
    tag = list_tag_sql(feed_revision())
    unless = f"AND {unless_known(tag)}" if is_conditional else ""
    entries = _walk_sql(unless) if is_walk else _log_sql(unless)
    if is_weighed:
        entries = weighed_sql(entries, "coalesce(octet_length(json), 0)")
    return read_sql(
        "changes.walk" if is_walk else "changes.log",
        live_sql,
        f"""
        SELECT clock.epoch, clock.version, clock.purged_version, {tag},
               entry.is_deleted OR entry.json IS NOT NULL AS is_current,
               {page_json_sql(_CHANGE)} AS change
          FROM caller CROSS JOIN clock LEFT JOIN ({entries}) AS entry ON true
        """,
    )


def _walk_sql(unless: str) -> str:
    """What lives, by kind and id: each kind by its own index, and none beyond the page."""
    kinds = [
        f"""(
            SELECT item.version, '{kind}' AS type, item.id, false AS is_deleted,
                   {resource.json_sql} AS json
              FROM (
                  SELECT {resource.columns_sql} FROM {resource.table}
                   WHERE user_id = %(user_id)s AND deleted_at IS NULL
                     AND %(after_type)s::text COLLATE "C" <= '{kind}'
                     AND id > (SELECT CASE WHEN %(after_type)s::text = '{kind}'
                                           THEN %(after_id)s::uuid ELSE '{_NIL}'::uuid END)
                     {unless}
                   ORDER BY id
                   LIMIT %(rows)s
              ) AS item
        )"""
        for kind, resource in sorted(RESOURCES.items())
    ]
    return f"""
        SELECT * FROM ({" UNION ALL ".join(kinds)}) AS living
         ORDER BY type COLLATE "C", id LIMIT %(rows)s
    """


def _purged_sql() -> str:
    """Whether an entry of the log is a tombstone. No join: only of what isn't there it is asked.

    None where its id lives again: who made that may not have seen the tombstone.
    """
    revived = " OR ".join(
        f"""(log.type = '{kind}' AND EXISTS (
            SELECT FROM {resource.table} AS item
             WHERE item.id = log.id AND item.user_id = %(user_id)s
        ))"""
        for kind, resource in sorted(RESOURCES.items())
    )
    return f"""(
        SELECT true FROM todo_project_purged AS purged
         WHERE purged.user_id = %(user_id)s AND purged.type = log.type AND purged.id = log.id
           AND purged.version = log.version AND NOT ({revived})
    )"""


def _log_sql(unless: str) -> str:
    """What was written since, each entry with the row as it is now where nothing newer was."""
    kinds = [
        f"""
        SELECT item.deleted_at IS NOT NULL AS is_deleted,
               CASE WHEN item.deleted_at IS NULL THEN {resource.json_sql} END AS json
          FROM {resource.table} AS item
         WHERE log.type = '{kind}' AND item.id = log.id AND item.user_id = %(user_id)s
           AND item.version = log.version
        """
        for kind, resource in sorted(RESOURCES.items())
    ]
    return f"""
        SELECT log.version, log.type, log.id,
               coalesce(now_.is_deleted, {_purged_sql()}, false) AS is_deleted, now_.json
          FROM (
              SELECT version, type, id FROM todo_project_change
               WHERE user_id = %(user_id)s
                 AND (version, type, id) > (%(after_version)s::bigint, %(after_type)s::text,
                                            %(after_id)s::uuid)
                 {unless}
               ORDER BY version, type, id
               LIMIT %(rows)s
          ) AS log
          LEFT JOIN LATERAL ({" UNION ALL ".join(kinds)}) AS now_ ON true
         ORDER BY log.version, log.type, log.id
    """


class ChangesQuery(QuerySerializer):
    """The query parameters of the feed."""

    limit = page_size(settings.CHANGES_PAGE_DEFAULT)
    since = StringField(
        required=False,
        max_length=CURSOR_MAX_CHARACTERS,
        help_text="`meta.next_since` of the answer before, as it came. Opaque. Left out: from the "
        "beginning, with everything that there is.",
    )


class ChangeSerializer(StrictSerializer):
    """What became of one thing of yours since the position."""

    type = KindField(help_text="What it is.")
    id = serializers.UUIDField()
    version = serializers.IntegerField(help_text="The version that the change made.")
    deleted = serializers.BooleanField(help_text="It is in the trash, or gone for good.")
    resource = ResourceField(allow_null=True, help_text="As it is now; null where it is deleted.")


class ChangesMetaSerializer(StrictSerializer):
    """Where to go on."""

    request_id = serializers.CharField(help_text="As in X-Request-ID.")
    next_since = serializers.CharField(help_text="The `since` of the next request.")
    has_more = serializers.BooleanField(
        help_text="There is more already. Where it is false, you have exactly what is there."
    )


class ChangesView(OwnedView):
    """The feed of a person's changes."""

    query_serializers = {"get": ChangesQuery}  # noqa: RUF012
    meta_serializers = {"get": ChangesMetaSerializer}  # noqa: RUF012
    has_etag = frozenset({"get"})

    @extend_schema(
        operation_id="changes_list", responses={200: ChangeSerializer(many=True), 410: None}
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Follow what changes: each thing once, as it is now, in the order of versions.

        Without `since` it begins with everything that there is. Go on with `meta.next_since` for as
        long as `meta.has_more` is true; then you have exactly what is there, and keep the position
        for the next time. 410: the position is too old, begin anew without it.
        """
        codec = FeedCodec(self.caller.user_id)
        since = self.query.get("since")
        position = None if since is None else codec.decode(since)
        page = fetch_changes(self.caller, position, self.query["limit"], known_tags(request))
        self.is_settled = True
        tag = f"W/{page.tag}"
        if page.is_known:
            return not_modified(tag)
        meta = {"next_since": codec.encode(page.position), "has_more": page.has_more}
        changes = [orjson.Fragment(change) for change in page.changes]
        return json_response(request, changes, meta=meta, headers=tag_headers(tag))
