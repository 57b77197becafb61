"""What is noted of a request on its way, for whoever sees it before or after.

RequestMiddleware hangs them on Django's request. REST framework's hands reads through to it, so
that both have the same notes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from django.http import HttpRequest
from rest_framework.request import Request

if TYPE_CHECKING:
    from .limits import Reservation, Usage


@dataclass(slots=True)
class Notes:
    """Of one request."""

    request_id: str
    user_id: UUID | None = None  # whose request it is, for the access log
    rate_usage: "Usage | None" = None  # the tightest, for headers
    reservation: "Reservation | None" = None  # of a try that may be given back
    is_connection_lost: bool = False  # the one to the database, so that a read is tried again


def notes_of(request: HttpRequest | Request) -> Notes:
    """The notes that RequestMiddleware made."""
    notes: Notes = request.notes  # type: ignore[union-attr]
    return notes
