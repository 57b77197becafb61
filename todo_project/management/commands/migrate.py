"""Django's migrate, on the direct connection, one at a time, and without harm to be killed."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DataError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration

from todo_project.environment import is_pooled

# An arbitrary number that no other program takes; advisory locks are per database.
LOCK_KEY = 7_203_685_417_200_111
POLL_SECONDS = 0.2
# A killed migrate's session ends its statement, and frees the lock, within this time.
CLIENT_CHECK_INTERVAL = "1s"


class AtomicExecutor(MigrationExecutor):
    """Commits a migration together with its record, forwards and backwards.

    Django records it in a second transaction where it defers SQL (foreign keys, indexes), and
    always when it goes backwards: killed between the two, it finds its own table in its way for
    ever. What is left to a migration that isn't atomic: see todo_project.postgresql.operations.
    """

    def __init__(
        self, connection: BaseDatabaseWrapper, progress_callback: Callable[..., None]
    ) -> None:
        super().__init__(connection, self._report)
        self._progress_callback = progress_callback

    def apply_migration(self, state: Any, migration: Migration, *args: Any, **kwargs: Any) -> Any:
        with self._transaction(migration):
            return super().apply_migration(state, migration, *args, **kwargs)

    def unapply_migration(self, state: Any, migration: Migration, *args: Any, **kwargs: Any) -> Any:
        with self._transaction(migration):
            return super().unapply_migration(state, migration, *args, **kwargs)

    # django-stubs has the signature of an older Django.
    def record_migration(self, migration: Migration) -> None:  # type: ignore[override]
        """Of a squashed one every record or none, atomic or not."""
        with transaction.atomic(self.connection.alias):
            super().record_migration(migration)  # type: ignore[call-arg,arg-type]

    def _report(self, action: str, *arguments: Any) -> None:
        """Says OK when it is committed."""
        report = partial(self._progress_callback, action, *arguments)
        if action.endswith("_success"):
            transaction.on_commit(report, using=self.connection.alias)
        else:
            report()

    def _transaction(self, migration: Migration) -> AbstractContextManager[None]:
        return transaction.atomic(self.connection.alias) if migration.atomic else nullcontext()


# Django's command has no other place to name it.
migrate.MigrationExecutor = AtomicExecutor  # type: ignore[attr-defined]


class Command(migrate.Command):
    """Migrates through DIRECT_DATABASE_URL, under an advisory lock.

    Deploys that begin at the same time wait for each other; the later ones find nothing to do. One
    that was cut off is finished by the next.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database="direct")
        parser.add_argument(
            "--lock-timeout",
            type=int,
            default=600,
            help="Seconds to wait for another migrate to end (default: 600).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        if is_pooled(connection.settings_dict):
            raise CommandError(
                "migrate needs a database session of its own, which a pooled endpoint can't give. "
                "Set DIRECT_DATABASE_URL to the direct endpoint: the same host without `-pooler`."
            )
        with connection.cursor() as cursor:
            # The role's are for requests. Its lock_timeout stays: while a migration waits for a
            # table, every request waits behind it.
            cursor.execute("SET statement_timeout = 0")
            cursor.execute("SET idle_in_transaction_session_timeout = 0")
            with suppress(DataError):  # a server whose system can't tell: Windows
                cursor.execute(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'")
        with migration_lock(connection, timeout_seconds=options["lock_timeout"]):
            super().handle(*args, **options)


@contextmanager
def migration_lock(connection: BaseDatabaseWrapper, *, timeout_seconds: int) -> Iterator[None]:
    """Holds the lock for the life of the block. Raises CommandError where it isn't had in time.

    Polled in autocommit: a session that waits inside pg_advisory_lock() holds a snapshot, which
    CREATE INDEX CONCURRENTLY under the lock would wait for, and the two would deadlock.
    """
    deadline = time.monotonic() + timeout_seconds
    while not _scalar(connection, "SELECT pg_try_advisory_lock(%s)"):
        if time.monotonic() > deadline:
            raise CommandError(f"Another migrate still runs after {timeout_seconds} seconds.")
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        if connection.is_usable():
            _scalar(connection, "SELECT pg_advisory_unlock(%s)")


def _scalar(connection: BaseDatabaseWrapper, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, [LOCK_KEY])
        return cursor.fetchone()[0]
