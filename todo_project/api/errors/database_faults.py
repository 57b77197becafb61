"""What failed in the database, and what the operator is told of it."""

import logging
import time
import traceback

import psycopg
from django.db import InterfaceError, InternalError, OperationalError

from todo_project import metrics

logger = logging.getLogger(__name__)

# Read-only server and idle-in-transaction timeout: psycopg raises InternalError for these two.
# Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SHUTDOWN_SQLSTATES = frozenset({"57P01", "57P02", "57P03"})
_TRANSIENT_INTERNAL_SQLSTATES = frozenset({"25006", "25P03"})
# A statement, a lock, idle in a transaction.
_TIMEOUT_SQLSTATES = frozenset({"57014", "55P03", "25P03"})
_NO_ROOM_CLASS = "53"

# In an outage every request fails for the same reason, and a traceback has some kilobytes.
TRACEBACK_INTERVAL_SECONDS = 1.0
_traced_at = -TRACEBACK_INTERVAL_SECONDS


def log_database_fault(exception: Exception) -> None:
    """Tells the operator, in a line; from time to time also where in the code it happened.

    Not by `exc_info`, which ends with the server's whole message.
    """
    global _traced_at
    metrics.DATABASE_FAULTS.add(_kind(exception))
    cause = exception.__cause__ or exception
    told = {
        "cause": type(cause).__name__,
        "sqlstate": getattr(cause, "sqlstate", None),
        "reason": _reason(cause),
    }
    now = time.monotonic()
    if now - _traced_at >= TRACEBACK_INTERVAL_SECONDS:
        _traced_at = now
        told["traceback"] = "".join(traceback.format_tb(exception.__traceback__))
    logger.error("database fault", extra=told)


def _reason(cause: BaseException) -> str:
    """The first part of the server's message: the others (DETAIL, CONTEXT) may quote rows.

    Where it sent none, what libpq says of the connection: with host, user and database, and never
    the password.
    """
    primary: str | None = None
    if isinstance(cause, psycopg.Error):
        primary = cause.diag.message_primary
    return primary or " ".join(str(cause).split())


def _kind(exception: Exception) -> str:
    """As operators tell faults apart, for the metrics."""
    if is_connection_lost(exception):
        return "connection"
    sqlstate = getattr(exception.__cause__, "sqlstate", None) or ""
    if sqlstate in _TIMEOUT_SQLSTATES:
        return "timeout"
    return "room" if sqlstate.startswith(_NO_ROOM_CLASS) else "other"


def is_database_fault(exception: Exception) -> bool:
    """Whether the database could not do its work, rather than being asked something wrong."""
    if isinstance(exception, InternalError):
        sqlstate = getattr(exception.__cause__, "sqlstate", None)
        return sqlstate in _TRANSIENT_INTERNAL_SQLSTATES
    return isinstance(exception, OperationalError | InterfaceError)


def is_connection_lost(exception: Exception) -> bool:
    """Whether the connection broke, so that a fresh one may do.

    psycopg gives no SQLSTATE where the server had no chance to send one.
    """
    if isinstance(exception, InterfaceError):
        return True
    sqlstate = getattr(exception.__cause__, "sqlstate", None)
    return isinstance(exception, OperationalError) and (
        sqlstate is None or sqlstate.startswith("08") or sqlstate in _SHUTDOWN_SQLSTATES
    )
