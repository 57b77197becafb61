"""Keyset pages: the next page begins after the last row of this one, wherever that row stands now.

The cost of a page does not depend on its depth, and walking to the end gives each row that stood
still exactly once, whatever ties there are and whatever is written meanwhile.

Hand-written: REST framework's CursorPagination loops forever over more than 1,000 equal values,
and answers a forged cursor with 500. Source of the technique:
https://use-the-index-luke.com/no-offset
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.core.signing import BadSignature, Signer
from rest_framework.exceptions import ErrorDetail, ValidationError


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """An order of rows: by `field`, ties broken by `id` in the same direction, nulls last.

    `collation` names that of a text; any other field is a time.
    """

    field: str
    descending: bool
    nullable: bool = False
    collation: str | None = None

    @property
    def order_by_sql(self) -> str:
        """What stands behind ORDER BY. An index (…, field DESC, id DESC) serves both directions."""
        direction = "DESC" if self.descending else "ASC"
        nulls = " NULLS LAST" if self.nullable else ""
        return f"{self._key_sql} {direction}{nulls}, id {direction}"

    def after_sql(self, *, is_null: bool) -> str:
        """The condition of the rows after a position, whose value is or is not null.

        Its parameters are `%(after_id)s` and, unless that is null, `%(after_value)s`.
        """
        operator = "<" if self.descending else ">"
        if is_null:
            return f"{self.field} IS NULL AND id {operator} %(after_id)s"
        # One comparison of rows, which PostgreSQL takes into the index condition whole.
        beyond = f"({self._key_sql}, id) {operator} (%(after_value)s, %(after_id)s)"
        return f"({beyond} OR {self.field} IS NULL)" if self.nullable else beyond

    @property
    def _key_sql(self) -> str:
        return f'{self.field} COLLATE "{self.collation}"' if self.collation else self.field


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

    ordering: Ordering
    binding: Mapping[str, str]

    def encode(self, row: Mapping[str, Any]) -> str:
        """The cursor of what comes after `row`, which is given as the API answers it."""
        payload = orjson.dumps([row[self.ordering.field], row["id"]])
        return self._signer.sign(base64.urlsafe_b64encode(payload).decode().rstrip("="))

    def decode(self, cursor: str) -> Position:
        """Raises ValidationError for a cursor that was not made for this list."""
        try:
            text = self._signer.unsign(cursor)
            payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            value, row_id = orjson.loads(payload)
            if value is not None and self.ordering.collation is None:
                value = datetime.fromisoformat(value)
            return Position(value, UUID(row_id))
        except (BadSignature, binascii.Error, ValueError, TypeError):
            raise ValidationError({"cursor": [_FOREIGN_CURSOR]}) from None

    @property
    def _signer(self) -> Signer:
        binding = orjson.dumps(self.binding, option=orjson.OPT_SORT_KEYS).decode()
        return Signer(sep=".", salt=f"cursor:{binding}")


_FOREIGN_CURSOR = ErrorDetail(
    "This cursor was not made for this list. Take `next_cursor` as it came, with the same filters "
    "and ordering, or leave it out to begin at the first page.",
    code="invalid_cursor",
)


def next_link(path: str, parameters: Mapping[str, str], cursor: str) -> str:
    """The value of a Link header (RFC 8288) that leads to the next page."""
    return f'<{path}?{urlencode({**parameters, "cursor": cursor})}>; rel="next"'
