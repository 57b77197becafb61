"""Django's migrate, on the direct connection and one at a time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from todo_project.environment import is_pooled

# An arbitrary number that no other program takes; advisory locks are per database.
LOCK_KEY = 7_203_685_417_200_111
POLL_SECONDS = 0.2


class Command(migrate.Command):
    """Migrates through DIRECT_DATABASE_URL, under an advisory lock.

    Deploys that begin at the same time wait for each other; the later ones find nothing to do.
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
