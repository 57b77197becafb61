"""Keyset pages: the next page begins after the last row of this one, wherever that row stands now.

The cost of a page does not depend on its depth, and walking to the end gives each row that stood
still exactly once, whatever ties there are and whatever is written meanwhile.

Hand-written: REST framework's CursorPagination loops forever over more than 1,000 equal values,
and answers a forged cursor with 500. Source of the technique:
https://use-the-index-luke.com/no-offset
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.signing import BadSignature, Signer
from django.db.models import BooleanField, DateTimeField, F, Func, Model, Q, QuerySet, Value
from django.db.models.expressions import Combinable
from django.db.models.lookups import GreaterThan, LessThan
from rest_framework.exceptions import ErrorDetail, ValidationError


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """An order of rows: by `field`, ties broken by `id` in the same direction, nulls last.

    `expression` is what is sorted by where it isn't the column itself (a collation, say).
    """

    field: str
    descending: bool
    nullable: bool = False
    expression: Combinable | None = None

    @property
    def key(self) -> Combinable:
        return self.expression or F(self.field)

    def apply(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Sorts `queryset`. The index (…, field DESC, id DESC) serves both directions."""
        nulls_last = True if self.nullable else None
        key: Any = self.key
        if self.descending:
            return queryset.order_by(key.desc(nulls_last=nulls_last), F("id").desc())
        return queryset.order_by(key.asc(nulls_last=nulls_last), F("id").asc())

    def after(self, queryset: QuerySet[Any], position: "Position") -> QuerySet[Any]:
        """The rows of `queryset` that come after `position`."""
        compare = LessThan if self.descending else GreaterThan
        if position.value is None:
            beyond = compare(F("id"), Value(position.id))
            return queryset.filter(Q(**{f"{self.field}__isnull": True}), beyond)
        # One comparison of rows, which PostgreSQL takes into the index condition whole.
        beyond = compare(
            Func(self.key, F("id"), function="ROW", output_field=BooleanField()),
            Func(
                Value(position.value, output_field=self._value_field(queryset.model)),
                Value(position.id),
                function="ROW",
                output_field=BooleanField(),
            ),
        )
        if self.nullable:
            return queryset.filter(Q(beyond) | Q(**{f"{self.field}__isnull": True}))
        return queryset.filter(beyond)

    def _value_field(self, model: type[Model]) -> Any:
        return model._meta.get_field(self.field)


@dataclass(frozen=True)
class Position:
    """Where a row stands in an order: the value that it is sorted by, and its id."""

    value: datetime | str | None
    id: UUID


@dataclass(frozen=True)
class CursorCodec:
    """Turns positions into cursors and back.

    A cursor is signed together with `binding`, which names whatever it must not be used without:
    the caller, the filters and the order. It is opaque to clients, and no secret to them.
    """

    binding: Mapping[str, str]

    def encode(self, position: Position) -> str:
        value = position.value
        written = value.isoformat() if isinstance(value, datetime) else value
        payload = json.dumps([written, str(position.id)], ensure_ascii=False).encode()
        return self._signer.sign(base64.urlsafe_b64encode(payload).decode().rstrip("="))

    def decode(self, cursor: str, *, is_time: bool) -> Position:
        """Raises ValidationError for a cursor that was not made for this list."""
        try:
            text = self._signer.unsign(cursor)
            payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            value, row_id = json.loads(payload)
            if is_time and value is not None:
                value = datetime.fromisoformat(value)
            return Position(value, UUID(row_id))
        except (BadSignature, binascii.Error, ValueError, TypeError):
            raise ValidationError({"cursor": [_FOREIGN_CURSOR]}) from None

    @property
    def _signer(self) -> Signer:
        return Signer(sep=".", salt="cursor:" + json.dumps(self.binding, sort_keys=True))


_FOREIGN_CURSOR = ErrorDetail(
    "This cursor was not made for this list. Take `next_cursor` as it came, with the same filters "
    "and ordering, or leave it out to begin at the first page.",
    code="invalid_cursor",
)


@dataclass(frozen=True)
class KeysetPage:
    """One page of rows, and the cursor of the next; `next_cursor` is None on the last one."""

    rows: list[Any]
    next_cursor: str | None


def read_page(
    queryset: QuerySet[Any],
    ordering: Ordering,
    *,
    limit: int,
    cursor: str | None,
    binding: Mapping[str, str],
) -> KeysetPage:
    """Reads the page of at most `limit` rows after `cursor`, in one query.

    Raises ValidationError for a cursor with another `binding`.
    """
    codec = CursorCodec(binding)
    if cursor is not None:
        is_time = isinstance(queryset.model._meta.get_field(ordering.field), DateTimeField)
        queryset = ordering.after(queryset, codec.decode(cursor, is_time=is_time))
    rows = list(ordering.apply(queryset)[: limit + 1])  # the row too many tells of a next page
    if len(rows) <= limit:
        return KeysetPage(rows, next_cursor=None)
    last = rows[limit - 1]
    position = Position(getattr(last, ordering.field), last.id)
    return KeysetPage(rows[:limit], next_cursor=codec.encode(position))


def next_link(path: str, parameters: Mapping[str, str], cursor: str) -> str:
    """The value of a Link header (RFC 8288) that leads to the next page."""
    return f'<{path}?{urlencode({**parameters, "cursor": cursor})}>; rel="next"'
