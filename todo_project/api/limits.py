"""How often something may be done, counted in PostgreSQL: the same for all processes and machines.

Hand-written: REST framework's own throttles count in a cache, not atomically, and its
documentation says that they are no defence against brute force.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from todo_project import metrics
from todo_project.addresses import client_network
from todo_project.environment import Rate

from .notes import notes_of


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a limit is used, the present try included."""

    scope: str  # of settings.RATE_LIMITS
    limit: int
    hits: int
    reset_seconds: int

    @property
    def is_exceeded(self) -> bool:
        return self.hits > self.limit

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.hits)


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts the tries of one identity in windows of `rate.period_seconds`."""

    scope: str
    rate: Rate
    key: UUID

    @classmethod
    def of(cls, scope: str, identity: str) -> "Counter | None":
        """The counter of what `scope` names in settings.RATE_LIMITS; None where that is off.

        Identities are kept as hashes: the table knows no addresses.
        """
        rate: Rate | None = settings.RATE_LIMITS[scope]
        if rate is None:
            return None
        text = f"{scope} {rate.period_seconds} {identity}"
        return cls(scope, rate, UUID(bytes=sha256(text.encode()).digest()[:16]))

    @property
    def parameters(self) -> dict[str, Any]:
        """What the SQL below needs to know."""
        return {
            "counter_key": self.key,
            "counter_period": self.rate.period_seconds,
            "counter_limit": self.rate.limit,
        }

    def usage(self, hits: int, reset_seconds: float) -> Usage:
        """What the row says that counts."""
        return Usage(self.scope, self.rate.limit, hits, reset_seconds=max(1, ceil(reset_seconds)))


# One statement, atomic by the row's lock: of simultaneous calls each gets a number of its own.
# Windows are fixed, and by the database's clock. It counts {tries}, for each row of {source}: one
# or none.
_UPSERT = """
    INSERT INTO todo_project_ratecounter AS counter (key, "window", hits, expires_at)
    SELECT %(counter_key)s, epoch / %(counter_period)s, {tries},
           to_timestamp((epoch / %(counter_period)s + 1) * %(counter_period)s)
      FROM (SELECT floor(extract(epoch FROM statement_timestamp()))::bigint AS epoch) AS clock,
           {source}
    ON CONFLICT (key) DO UPDATE SET
        -- A statement may have waited for the row's lock into the next window: never back.
        hits = excluded.hits
             + CASE WHEN counter."window" >= excluded."window" THEN counter.hits ELSE 0 END,
        "window" = greatest(counter."window", excluded."window"),
        expires_at = greatest(counter.expires_at, excluded.expires_at)
"""
_RETURNING = """
    RETURNING hits, extract(epoch FROM expires_at - statement_timestamp())::float AS reset_seconds
"""
_ONCE = "(VALUES (1)) AS once"


def count_sql(source: str, tries: str = "1") -> str:
    """Counts `tries` for each row of `source`: gives `hits` and `reset_seconds`."""
    return _UPSERT.format(source=source, tries=tries) + _RETURNING


def reserved_sql(source: str, tries: str = "1") -> str:
    """Counts `tries` for each row of `source`, unless they are too many: then it gives no row.

    What is too many changes nothing, or it would stand in the way of what is given back.
    """
    return f"""
        {_UPSERT.format(source=source, tries=tries)}
        WHERE counter."window" < excluded."window" OR counter.hits + {tries} <= %(counter_limit)s
        {_RETURNING}, "window"
    """


def reservation_sql(source: str) -> str:
    """What `reserved` gives, or the limit and one more, for each row of `source`.

    When the window ends is then told by the clock: the row may be younger than the snapshot.
    """
    return f"""
        SELECT hits, reset_seconds, "window" FROM reserved
        UNION ALL
        SELECT %(counter_limit)s + 1, (
            %(counter_period)s
            - mod(extract(epoch FROM statement_timestamp()), %(counter_period)s)
        )::float, NULL
          FROM {source} WHERE NOT EXISTS (SELECT FROM reserved)
    """  # noqa: S608  # made of constants


_COUNT = count_sql(_ONCE, "%(tries)s")
_RESERVE = f"WITH reserved AS ({reserved_sql(_ONCE)}) {reservation_sql(_ONCE)}"
_GIVE_BACK = """
    UPDATE todo_project_ratecounter SET hits = hits - 1
     WHERE key = %(counter_key)s AND "window" = %(window)s
"""


def count(counter: Counter, tries: int = 1) -> Usage:
    """Counts some tries. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {**counter.parameters, "tries": tries})
        return counter.usage(*cursor.fetchone())


@dataclass(frozen=True, slots=True)
class Reservation:
    """A try that was counted, or refused, before it was known whether it has to be counted."""

    counter: Counter
    usage: Usage
    window: int | None  # None where it was refused

    def give_back(self) -> None:
        """Counts it no longer. One statement."""
        with connection.cursor() as cursor:
            cursor.execute(_GIVE_BACK, {**self.counter.parameters, "window": self.window})


def reserve(counter: Counter) -> Reservation:
    """Counts one try that may be given back, unless it is one too many. One statement.

    Together, those that stay counted and those under way never exceed the limit.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RESERVE, counter.parameters)
        hits, reset_seconds, window = cursor.fetchone()
    return Reservation(counter, counter.usage(hits, reset_seconds), window)


def enforce(request: HttpRequest | Request, counter: Counter | None) -> None:
    """Counts a try, and raises Throttled (429) where it is one too many."""
    if counter is not None:
        admit(request, count(counter))


def admit(request: HttpRequest | Request, usage: Usage) -> None:
    """Raises Throttled (429) where a try that was counted is one too many.

    The tightest usage of the request is noted, for RequestMiddleware to write into headers.
    """
    notes = notes_of(request)
    if notes.rate_usage is None or usage.remaining <= notes.rate_usage.remaining:
        notes.rate_usage = usage
    if usage.is_exceeded:
        metrics.LIMITS_HIT.add(usage.scope)
        raise Throttled(wait=usage.reset_seconds)


class ScopedThrottle(BaseThrottle):
    """A limit of a route, checked before its input is read. Subclasses say of whom."""

    scope: str
    methods: frozenset[str] = frozenset({"POST", "PUT", "PATCH", "DELETE"})  # those that count

    def identity(self, request: Request) -> str:
        """Whose tries are counted together."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        if request.method in self.methods:
            enforce(request, self.counter(request))
        return True

    def counter(self, request: Request) -> Counter | None:
        """What counts the request; None where the limit is off."""
        return Counter.of(self.scope, self.identity(request))


class AddressThrottle(ScopedThrottle):
    """Counts the tries of a client's network."""

    def identity(self, request: Request) -> str:
        return client_network(request)
