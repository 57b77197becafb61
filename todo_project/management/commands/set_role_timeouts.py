"""Puts on the database role that serves requests what they need: timeouts above all."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection, transaction
from psycopg import sql


class Command(BaseCommand):
    """Once for each role; again after settings.ROLE_TIMEOUTS or ROLE_SETTINGS changed.

    On the connection that serves requests and not on the direct one: the two may have different
    roles, and this needs no session of its own. Every role may do this to itself.
    """

    help = "Put settings.ROLE_TIMEOUTS and ROLE_SETTINGS on the role of DATABASE_URL."

    def handle(self, *args: Any, **options: Any) -> None:
        alter = sql.SQL("ALTER ROLE CURRENT_USER SET {} = {}")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ WRITE")  # the role may be a read-only one
            for name, value in {**settings.ROLE_TIMEOUTS, **settings.ROLE_SETTINGS}.items():
                statement = alter.format(sql.Identifier(name), sql.Literal(value))
                cursor.execute(statement.as_string(cursor.connection))
                self.stdout.write(f"{name} = {value}")
            cursor.execute("SELECT current_user")
            role = cursor.fetchone()[0]
        self.stdout.write(
            f"Set on the role {role}, for connections that are made from now on. A pooler keeps "
            f"those it has: reconnect it (PgBouncer: RECONNECT), or wait until it closes them."
        )
