"""Idempotency-Key: the answer of a write is kept by the write's own transaction, for its retry.

A convention of many services; the IETF's draft of it has expired
(draft-ietf-httpapi-idempotency-key-header-07). Unlike there a request that meets its twin at work
waits for it, and gets its answer. statement.py has the SQL.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError
from django.db.models.functions import Now
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from todo_project.api.callers import Caller
from todo_project.models import IdempotencyKey

HEADER = "Idempotency-Key"

# After the first try another request with the key has committed, and its answer is found. Only one
# whose kept answer is purged in between meets a third.
KEY_RACE_TRIES = 2

# Bare, or as the draft has it, a string of structured fields (RFC 9651): the same key.
_KEY = re.compile(r'"(?P<quoted>[\x21\x23-\x5b\x5d-\x7e]{1,255})"|(?P<bare>[\x21\x23-\x7e]{1,255})')

_FAULT = ErrorDetail(
    "1 to 255 visible ASCII characters, without quotation marks inside: a UUID, say.",
    code="invalid",
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key, what it came with, and how the write will be answered, if it takes place."""

    key: str
    fingerprint: UUID
    status: int
    location: str | None = None

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {
            "key": self.key,
            "fingerprint": self.fingerprint,
            "key_status": self.status,
            "key_location": self.location,
            "key_kept_for": settings.IDEMPOTENCY_KEYS_KEPT,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that a key stands for, and to which request."""

    fingerprint: UUID
    status: int
    body: str | None
    location: str | None
    etag: str | None

    @classmethod
    def of(cls, columns: Sequence[Any]) -> Self | None:
        return None if columns[0] is None else cls(*columns[:5])


def read_key(request: Request) -> str | None:
    """The request's key; None without the header. Raises ValidationError."""
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return None
    match = _KEY.fullmatch(header.strip())
    if match is None:
        raise ValidationError({HEADER: [_FAULT]})
    return match["quoted"] or match["bare"]


def fingerprint(operation: str, row_id: object, query: Mapping[str, str], body: Any) -> UUID:
    """What tells one request from another: what it does, to what, and its body.

    Of the body's JSON it is the meaning, and of the path the resource: by whatever name the caller
    is called there, and under which prefix.
    """
    meaning = json.dumps([operation, str(row_id), query, body], sort_keys=True)
    return UUID(bytes=sha256(meaning.encode("utf-8", "surrogatepass")).digest()[:16])


def kept_answer(caller: Caller, key: Key) -> Replay | None:
    """What a key stands for by now. One query."""
    kept = IdempotencyKey.objects.filter(
        user_id=caller.user_id,
        key=key.key,
        created_at__gt=Now() - settings.IDEMPOTENCY_KEYS_KEPT,
    )
    columns = kept.values_list("fingerprint", "status", "body", "location", "etag")
    return next((Replay.of(row) for row in columns), None)


def is_key_taken(error: IntegrityError) -> bool:
    diagnosis = getattr(error.__cause__, "diag", None)
    return getattr(diagnosis, "table_name", None) == "todo_project_idempotencykey"
