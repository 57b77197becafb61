"""Django's PostgreSQL backend, for a server that may go away and come back at any time.

The ENGINE of the database that serves requests; nothing imports it.
https://docs.djangoproject.com/en/5.2/ref/databases/#subclassing-the-built-in-database-backends
"""

import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Replaces broken connections before they are used."""

    def close_if_unusable_or_obsolete(self) -> None:
        """Django calls this before and after each request. It asks the server nothing.

        Django itself would ask, after an error, whether the connection still works: outside of the
        watchdog's sight, so that a server which froze meanwhile would keep the thread for ever.
        """
        connection = self.connection
        is_idle = connection is not None and not self.in_atomic_block
        if is_idle and (self.errors_occurred or is_broken(connection)):
            self.close()
        super().close_if_unusable_or_obsolete()


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
