"""Django's PostgreSQL backend, for a server that may go away and come back at any time.

The ENGINE of the database that serves requests; nothing imports it.
https://docs.djangoproject.com/en/5.2/ref/databases/#subclassing-the-built-in-database-backends
"""

import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, cast

import psycopg
from django.conf import settings
from django.db import transaction
from django.db.backends.postgresql import base

from todo_project import metrics

from .pipeline import Execution, execute_together

CONNECT_TIMEOUT_MIN_SECONDS = 2  # psycopg takes none that is shorter
# How many statements a connection keeps: prepared by PostgreSQL, with a cursor here. One earns its
# place by a second use before so many others came, and gives it up to them when it is the one that
# was not used for longest. docs/performance.md has what more and fewer are worth.
STATEMENTS_MAX = 200


class DatabaseWrapper(base.DatabaseWrapper):
    """Replaces broken connections before they are used, and gives up on new ones in time."""

    def fetch_all(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of one statement, by a cursor that is kept for it with the connection.

        To make a cursor costs more than to use it: psycopg finds out anew how to convert each type.
        Raises what Django's cursors raise. It is one of those where queries are logged or wrapped;
        and where psycopg writes the parameters into them, because it would keep what it wrote.
        """
        if not self._keeps_cursors:
            with self.cursor() as django_cursor:
                django_cursor.execute(sql, parameters)
                return cast("list[tuple[Any, ...]]", django_cursor.fetchall())
        self._get_ready()
        with self.wrap_database_errors:
            is_known = sql in self._statements
            statement = self._statement(sql, keep=is_known)
            cursor = statement.cursor
            values = [parameters[name] for name in statement.names]
            # In the binary format bytes come as they are, and as text with two digits for each.
            cursor.execute(statement.sql, values, prepare=is_known, binary=True)
            rows = cursor.fetchall()
            _let_go(cursor)
            return rows

    def fetch_each(
        self, statements: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> list[list[tuple[Any, ...]]]:
        """The rows of each of several statements, which take one round trip together.

        They are done all or none. In autocommit they are one transaction; in an atomic() block
        they belong to its own, and the BEGIN of a block that starts with them goes with them.
        Each sees what was committed before it began, which parts of one statement don't.

        Raises what Django's cursors raise: the error of the first that fails. Where fetch_all()
        uses Django's cursors the statements go one by one, in a transaction all the same.
        """
        self._get_ready()
        if not self._keeps_cursors:
            with transaction.atomic(using=self.alias, savepoint=False):
                return [self.fetch_all(sql, parameters) for sql, parameters in statements]
        with self.wrap_database_errors:
            executions = list(self._executions(statements))
            try:
                execute_together(self.connection, executions)
                return [execution.cursor.fetchall() for execution in executions]
            finally:
                for execution in executions:
                    _let_go(execution.cursor)

    def _executions(
        self, statements: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[Execution]:
        cursors = set[psycopg.Cursor[Any]]()
        for sql, parameters in statements:
            is_known = sql in self._statements
            statement = self._statement(sql, keep=is_known)
            cursor = statement.cursor
            if cursor in cursors:  # it has one result, and this is the statement's second
                cursor = psycopg.RawCursor(self.connection)
            cursors.add(cursor)
            values = [parameters[name] for name in statement.names]
            yield Execution(cursor, statement.sql, values, prepare=is_known)

    @property
    def _keeps_cursors(self) -> bool:
        return self._server_binds and not self.queries_logged and not self.execute_wrappers

    def _get_ready(self) -> None:
        """What Django does before it makes a cursor."""
        if self.connection is None:
            self.ensure_connection()
        self.validate_thread_sharing()
        self.validate_no_broken_transaction()

    def _statement(self, sql: str, *, keep: bool) -> "_Statement":
        """The one of `sql`, which is kept from its second use on, when it is prepared.

        Until then the cursor would keep the parameters, which may be long texts.
        """
        statement = self._statements.pop(sql, None) or _Statement(
            psycopg.RawCursor(self.connection), *_numbered(sql)
        )
        if len(self._statements) >= STATEMENTS_MAX:
            del self._statements[next(iter(self._statements))]
        # At the end: what was not used for longest stands first.
        self._statements[sql] = statement if keep else None
        return statement

    @cached_property
    def _server_binds(self) -> bool:
        return bool(self.settings_dict["OPTIONS"].get("server_side_binding"))

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        """Connects within the connect_timeout, however many addresses the host has.

        psycopg would give each of them that time, and nobody watches: there is no connection yet
        that could be cut. Looking the name up comes before that, and has a time limit of its own,
        the resolver's.
        """
        try:
            conn_params = {**conn_params, **_addresses(conn_params)}
            connection: psycopg.Connection[Any] = super().get_new_connection(conn_params)
        except psycopg.OperationalError:
            metrics.DATABASE_CONNECTIONS.add("failed")
            raise
        metrics.DATABASE_CONNECTIONS.add("made")
        connection.prepared_max = STATEMENTS_MAX
        self._statements: dict[str, _Statement | None] = {}
        return connection

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        """At the end of a transaction that broke the connection Django would make another for this.

        A new one begins with it anyway, when it is needed.
        """
        if autocommit and self.connection is None:
            self.autocommit = True
        else:
            super().set_autocommit(autocommit, *args, **kwargs)

    def close_if_unusable_or_obsolete(self) -> None:
        """Called before each request. It asks the server nothing.

        Django itself would ask, after an error, whether the connection still works: outside of the
        watchdog's sight, so that a server which froze meanwhile would keep the thread for ever.
        """
        connection = self.connection
        is_idle = connection is not None and not self.in_atomic_block
        if is_idle and (self.errors_occurred or is_broken(connection)):
            metrics.DATABASE_CONNECTIONS_LOST.add()
            self.close()
        super().close_if_unusable_or_obsolete()


class _Statement(NamedTuple):
    """A cursor, and what it executes: always the same, as _numbered() gives it."""

    cursor: psycopg.Cursor[Any]
    sql: bytes
    names: tuple[str, ...]


def _let_go(cursor: psycopg.Cursor[Any]) -> None:
    """The rows are not to be kept with the cursor."""
    if cursor.pgresult is not None:
        cursor.pgresult.clear()


@lru_cache(maxsize=STATEMENTS_MAX)
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """A statement as PostgreSQL takes it, with $1, $2, … for its parameters; and their names.

    psycopg does the same, and remembers 128 statements at most, none of more than 4,096 bytes.
    """
    numbers = _Numbers()
    numbered = sql % numbers
    return numbered.encode(), tuple(numbers)


class _Numbers(dict[str, str]):
    """The number of each name, in the order in which they are first asked for."""

    def __missing__(self, name: str) -> str:
        number = self[name] = f"${len(self) + 1}"
        return number


def _addresses(conn_params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that share the time among the host's addresses.

    As many are tried as can have psycopg's minimum each, in the resolver's order, which puts first
    what can be reached. Raises psycopg.OperationalError where there is none.
    """
    host = conn_params.get("host") or "/"
    if host.startswith(("/", "@")) or "," in host or "hostaddr" in conn_params:
        return {}  # a Unix socket, or somebody chose the addresses
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg.OperationalError(f"failed to resolve host {host!r}: {error}") from None
    seconds = int(conn_params.get("connect_timeout", settings.CONNECT_TIMEOUT_SECONDS))
    most = max(1, seconds // CONNECT_TIMEOUT_MIN_SECONDS)
    addresses = [str(entry[4][0]) for entry in found[:most]]
    return {
        "host": ",".join([host] * len(addresses)),
        "hostaddr": ",".join(addresses),
        "connect_timeout": seconds // len(addresses),
    }


def is_broken(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has ended this idle connection. No round trip; some microseconds.

    A restart does that to every connection, and a write can't be tried again once it was sent.
    """
    try:
        if _has_input(connection):
            connection.pgconn.consume_input()  # a notice, say, or the reason of the end
            return _has_input(connection)  # the end itself can be read again and again
    except psycopg.OperationalError:
        return True
    return False


def _has_input(connection: psycopg.Connection[Any]) -> bool:
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
