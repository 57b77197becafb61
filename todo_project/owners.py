"""What every table has whose rows belong to a person. For the models and migrations of the apps."""

from typing import Any

from django.conf import settings
from django.db import migrations, models


def owner_key(related_name: str, **options: Any) -> "models.ForeignKey[Any, Any]":
    """The owner's key, whose constraint OwnerCascade adds: Django 5.2 can't declare it.

    The database itself cascades: what is inserted while its owner is being deleted goes too, and
    100,000 rows need not be loaded to be deleted.
    """
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,  # each model has an index of its own that begins with the owner
        related_name=related_name,
        **options,
    )


class OwnerCascade(migrations.RunSQL):
    """Lets the database delete the rows of `table` with their owner. For a table that is new."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"ALTER TABLE {table} ADD CONSTRAINT {table}_user_fk "
            "FOREIGN KEY (user_id) REFERENCES accounts_user (id) ON DELETE CASCADE",
            reverse_sql=f"ALTER TABLE {table} DROP CONSTRAINT {table}_user_fk",
        )
