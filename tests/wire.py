"""What a connection to PostgreSQL sends, as libpq itself tells it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from psycopg.pq import Trace

# Several statements go together by these alone, else one by one, as at a PgBouncer before 1.21.
needs_prepared_statements = pytest.mark.skipif(
    not settings.PREPARED_STATEMENTS, reason="Prepared statements are off."
)


@contextmanager
def counted_round_trips(connection: Any) -> Iterator[Callable[[], int]]:
    """How often psycopg's `connection` has waited for the server since the block began.

    Each Sync and each simple query makes the server say that it is ready, and each Flush what it
    has so far: whoever sends one waits for that.
    """
    with tempfile.NamedTemporaryFile("r") as log:
        pgconn = connection.pgconn
        pgconn.trace(log.fileno())
        pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

        def count() -> int:
            pgconn.untrace()  # writes what it holds back
            log.seek(0)
            sent = [line.split("\t")[2].strip() for line in log if line.startswith("F\t")]
            return sum(message in ("Sync", "Query", "Flush") for message in sent)

        try:
            yield count
        finally:
            pgconn.untrace()
