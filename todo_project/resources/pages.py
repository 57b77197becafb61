"""Keyset pages: the next page begins after the last row of this one, wherever that row stands now.

The cost of a page does not depend on its depth, and walking to the end gives each row that stood
still exactly once, whatever ties there are and whatever is written meanwhile.

Hand-written: REST framework's CursorPagination loops forever over more than 1,000 equal values,
and answers a forged cursor with 500. Source of the technique:
https://use-the-index-luke.com/no-offset

A page also ends before its rows would pass settings.PAGE_BYTES_MAX.
"""

import base64
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from hmac import compare_digest
from itertools import accumulate
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.conf import settings
from rest_framework.exceptions import ErrorDetail, ValidationError

from .ordering import Ordering

# Of what Link and Location name. Read once: each look at the settings takes half a microsecond.
PATH_PREFIX: str = settings.PATH_PREFIX


@dataclass(frozen=True)
class Position:
    """Where a row stands in an order: the values that it is sorted by, as answered, and its id."""

    values: tuple[str | None, ...]
    id: UUID

    @property
    def parameters(self) -> dict[str, Any]:
        """As text, null or not: a statement is prepared anew for each type of its parameters."""
        return {
            **{f"after_{n}": value for n, value in enumerate(self.values)},
            "after_id": self.id,
        }


@dataclass(frozen=True)
class Seal:
    """Makes opaque texts of values, and values of those texts.

    They are signed together with `binding`, which names whatever they must not be used without: the
    caller, the filters and the order, say. They are no secret to clients.
    """

    binding: Mapping[str, str]

    def close(self, values: Sequence[Any]) -> str:
        encoded = base64.urlsafe_b64encode(orjson.dumps(values)).rstrip(b"=")
        return (encoded + b"." + self._signature(encoded, settings.SECRET_KEY)).decode()

    def open(self, text: str) -> list[Any]:
        """Raises ValueError for a text that was not made here, or was made for something else."""
        encoded, _, signature = text.encode().rpartition(b".")
        secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        if not any(compare_digest(signature, self._signature(encoded, each)) for each in secrets):
            raise ValueError(text)
        return list(orjson.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))))

    def _signature(self, encoded: bytes, secret: str) -> bytes:
        bound = orjson.dumps(self.binding, option=orjson.OPT_SORT_KEYS)
        return base64.urlsafe_b64encode(
            blake2b(encoded + b"." + bound, key=_key(secret), digest_size=24).digest()
        )


@cache
def _key(secret: str) -> bytes:
    """What signs. BLAKE2 with a key is made for it (RFC 7693, section 2.9).

    Hand-written: Django's Signer derives a key at each use, and another for each binding. In a list
    of 20 that took some 10 microseconds more.
    """
    return blake2b(secret.encode(), person=b"cursor").digest()


@dataclass(frozen=True)
class CursorCodec:
    """Turns positions in an order into cursors and back."""

    ordering: Ordering
    binding: Mapping[str, str]

    def encode(self, row: Mapping[str, Any]) -> str:
        """The cursor of what comes after `row`, which is given as the API answers it."""
        return Seal(self.binding).close(
            [*(key.value_of(row) for key in self.ordering.keys), row["id"]]
        )

    def decode(self, cursor: str) -> Position:
        """Raises ValidationError for a cursor that was not made for this list."""
        try:
            *values, row_id = Seal(self.binding).open(cursor)
            keyed = zip(self.ordering.keys, values, strict=True)
            return Position(tuple(key.checked(value) for key, value in keyed), UUID(str(row_id)))
        except (ValueError, TypeError):
            raise foreign_cursor() from None


def foreign_cursor() -> ValidationError:
    return ValidationError({"cursor": [_FOREIGN_CURSOR]})


def within_bytes(rows: Sequence[bytes]) -> Sequence[bytes]:
    """The first rows, as JSON, that have PAGE_BYTES_MAX together; one in any case."""
    fitting = bisect_right(list(accumulate(map(len, rows))), settings.PAGE_BYTES_MAX)
    return rows[: max(fitting, 1)]


_FOREIGN_CURSOR = ErrorDetail(
    "This cursor was not made for this list. Take `next_cursor` as it came, with the same filters "
    "and ordering, or leave it out to begin at the first page.",
    code="invalid_cursor",
)


def next_link(path: str, parameters: Mapping[str, str], cursor: str) -> str:
    """The value of a Link header (RFC 8288) that leads to the next page."""
    query = urlencode({**parameters, "cursor": cursor})
    return f'<{PATH_PREFIX}{path}?{query}>; rel="next"'
