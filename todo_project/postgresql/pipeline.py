"""Several statements in one round trip, all of them or none: libpq's pipeline mode.

PostgreSQL begins to work on the first while the others are under way, and each sees what was
committed before it began: also while the one before it waited for a lock. Parts of one statement
can't do that, because they share its snapshot.
https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg.abc import PQGen
from psycopg.generators import send
from psycopg.pq import PipelineStatus, TransactionStatus


class Execution(NamedTuple):
    """A statement that is to be executed, by a cursor that none of the others uses."""

    cursor: psycopg.Cursor[Any]
    sql: bytes
    values: list[Any]
    prepare: bool


def execute_together(connection: psycopg.Connection[Any], executions: Sequence[Execution]) -> None:
    """Leaves to each cursor its result; raises the error of the first that fails.

    In autocommit they are one transaction. Else they join the one that is open, or open one: its
    BEGIN then goes with them.

    After an error the connection is as it was before, prepared statements included, but where the
    server's answer did not come whole: then it is closed.
    """
    prepared = _Prepared(connection)
    first_error: Exception | None = None
    try:
        with _pipelined(connection) as pipeline:
            try:
                if not connection.autocommit:
                    _begin(connection, pipeline)
                for cursor, sql, values, prepare in executions:
                    cursor.execute(sql, values, prepare=prepare)
            except Exception as error:  # noqa: BLE001  # raised below
                # Not out of the block: psycopg would log what follows from it as errors, too.
                first_error = error
                if connection.autocommit:
                    _roll_back(pipeline)
            except BaseException:
                # The end of the block would commit the half of them that was sent.
                connection.close()
                raise
    except psycopg.Error as error:
        _raise_interruption(error)
        first_error = first_error or error
    finally:
        if not _is_in_step(connection):
            connection.close()
    if first_error is not None:
        if not connection.closed:
            prepared.restore()
        raise first_error


class _Pipeline(psycopg.Pipeline):
    """psycopg's own sends a Flush after its Sync, to be sure of the answers: they come without.

    And where they came before the Flush, a pooler in transaction mode takes that for the beginning
    of something, and keeps a connection to the server for a client that asks for nothing more.
    """

    def _exit_gen(self) -> PQGen[None]:
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        finally:
            yield from send(self.pgconn)  # what the socket didn't take yet
            yield from self._fetch_gen(flush=False)


@contextmanager
def _pipelined(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Pipeline]:
    """As connection.pipeline(), which knows psycopg's own alone."""
    pipeline = connection._pipeline = _Pipeline(connection)
    try:
        with pipeline:
            yield pipeline
    finally:
        connection._pipeline = None


def _begin(connection: psycopg.Connection[Any], pipeline: psycopg.Pipeline) -> None:
    """Opens the transaction, where none is open; psycopg would by a round trip of its own.

    That it does where an isolation level was asked for.
    """
    is_idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    if is_idle and connection.isolation_level is None:
        pipeline.result_queue.append(None)
        connection.pgconn.send_query_params(b"BEGIN", None)


def _roll_back(pipeline: psycopg.Pipeline) -> None:
    """Undoes what was sent before an error that is not the server's: a text it can't take, say.

    After one of the server's own, PostgreSQL leaves this out as well.
    """
    pipeline.result_queue.append(None)
    pipeline.command_queue.append(partial(pipeline.pgconn.send_query_params, b"ROLLBACK", None))


def _raise_interruption(error: psycopg.Error) -> None:
    """Raises what made the wait for the answer end, where `error` has only come after it."""
    interruption = error.__context__
    if interruption is not None and not isinstance(interruption, Exception):
        raise interruption


def _is_in_step(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing is under way any more."""
    pgconn = connection.pgconn
    return pgconn.pipeline_status == PipelineStatus.OFF and pgconn.transaction_status in (
        TransactionStatus.IDLE,
        TransactionStatus.INTRANS,
        TransactionStatus.INERROR,
    )


class _Prepared:
    """What the connection has prepared, so that an error in a pipeline can't change it.

    psycopg takes a statement for prepared as soon as it has sent it, and for forgotten likewise.
    PostgreSQL does neither after an error, until the end of the pipeline.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._manager = connection._prepared
        self._first_new = self._manager._prepared_idx
        self._known = [*self._manager._names.values(), *self._manager._to_flush]

    def restore(self) -> None:
        """Forgets what was new, there and here, and what psycopg meant to forget.

        In one round trip, where there is such. To forget what isn't there is no error.
        """
        manager = self._manager
        # As PrepareManager.get() names them: it doesn't keep those of statements that failed.
        new = [f"_pg3_{n}".encode() for n in range(self._first_new, manager._prepared_idx)]
        kept = {key: name for key, name in manager._names.items() if name not in new}
        manager._names.clear()
        manager._names.update(kept)
        lost = [name for name in [*self._known, *new] if name not in kept.values()]
        manager._to_flush.clear()
        manager._to_flush.extend(lost)
        if lost:
            # Whoever waits is to learn of the first error, and not of one here.
            with suppress(psycopg.Error), _pipelined(self._connection):
                self._connection.wait(manager.maintain_gen(self._connection))
