"""How often something may be done, counted in PostgreSQL: the same for all processes and machines.

Hand-written: REST framework's own throttles count in a cache, not atomically, and its
documentation says that they are no defence against brute force.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from todo_project.addresses import client_network


@dataclass(frozen=True)
class Usage:
    """How much of a limit is used, the present try included."""

    limit: int
    hits: int
    reset_seconds: int

    @property
    def is_exceeded(self) -> bool:
        return self.hits > self.limit

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.hits)


# One statement, atomic by the row's lock: of simultaneous calls each gets a number of its own.
# Windows are fixed, and by the database's clock.
_COUNT = """
    INSERT INTO todo_project_ratecounter AS counter (key, "window", hits, expires_at)
    SELECT %(key)s, epoch / %(period)s, 1,
           to_timestamp((epoch / %(period)s + 1) * %(period)s)
      FROM (SELECT floor(extract(epoch FROM statement_timestamp()))::bigint AS epoch) AS clock
    ON CONFLICT (key) DO UPDATE SET
        -- A statement may have waited for the row's lock into the next window: never back.
        hits = CASE WHEN counter."window" >= excluded."window" THEN counter.hits + 1 ELSE 1 END,
        "window" = greatest(counter."window", excluded."window"),
        expires_at = greatest(counter.expires_at, excluded.expires_at)
    RETURNING hits, extract(epoch FROM expires_at - statement_timestamp())::float
"""


def count(scope: str, identity: str) -> Usage | None:
    """Counts one try of `identity` at what `scope` names in settings.RATE_LIMITS; None if it's off.

    One statement. Identities are kept as hashes: the table knows no addresses.
    """
    rate = settings.RATE_LIMITS[scope]
    if rate is None:
        return None
    key = UUID(bytes=sha256(f"{scope} {rate.period_seconds} {identity}".encode()).digest()[:16])
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"key": key, "period": rate.period_seconds})
        hits, seconds = cursor.fetchone()
    return Usage(limit=rate.limit, hits=hits, reset_seconds=max(1, ceil(seconds)))


def enforce(request: HttpRequest, scope: str, identity: str) -> None:
    """Counts a try, and raises Throttled (429) where it is one too many."""
    usage = count(scope, identity)
    if usage is None:
        return
    note_usage(request, usage)
    if usage.is_exceeded:
        raise Throttled(wait=usage.reset_seconds)


def note_usage(request: HttpRequest, usage: Usage) -> None:
    """Keeps the tightest usage of the request, for RequestMiddleware to write into headers."""
    noted: Usage | None = getattr(request, "rate_usage", None)
    if noted is None or usage.remaining <= noted.remaining:
        request.rate_usage = usage  # type: ignore[attr-defined]


class ScopedThrottle(BaseThrottle):
    """A limit of a route, checked before its input is read. Subclasses say of whom."""

    scope: str
    methods: frozenset[str] = frozenset({"POST", "PUT", "PATCH", "DELETE"})  # those that count

    def identity(self, request: Request) -> str:
        """Whose tries are counted together."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        if request.method in self.methods:
            enforce(request._request, self.scope, self.identity(request))
        return True


class AddressThrottle(ScopedThrottle):
    """Counts the tries of a client's network."""

    def identity(self, request: Request) -> str:
        return client_network(request._request)
