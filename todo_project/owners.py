"""What every table has whose rows belong to a person. For the models and migrations of the apps."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import migrations, models

# Those that each versioned table has, and whose change is one of the row.
_COMMON_COLUMNS = ("id", "user_id", "deleted_at")

# Of a new row's position: 2^48 versions, which is room for 65,536 of the steps of `new_epochs`.
POSITION_DIGITS = 12


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


class Versioned(models.Model):
    """Something of a person's that their devices follow. Its table needs Stamped.

    `version` is what the person's clock stood at when the row changed last. 0 says that whoever
    writes it leaves the stamping to the database. `save()` leaves it stale on the instance.
    """

    version = models.BigIntegerField(db_default=0, editable=False)
    # Since when it lies in the trash.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def validate_constraints(self, exclude: Any = None) -> None:
        """The database does, where the row is written. Django's would be a query for each."""


class Stamped(migrations.RunSQL):
    """Lets the database stamp the rows of `table` for whoever writes them without doing so.

    That is admin, commands, imports and SQL by hand. Who stamps by themselves sets a version that
    is higher than the row's, and costs the triggers nothing; but deletes without stamping.
    `type_name` is what the log of changes calls the rows, `columns` are those whose change is one
    of the row, beside its id, owner and trash: all but generated ones, which a trigger can't
    compare. With another column the operation comes again, in the migration that adds it;
    `columns_before` are those to go back to.
    """

    def __init__(
        self,
        table: str,
        type_name: str,
        columns: Sequence[str],
        *,
        columns_before: Sequence[str] = (),
    ) -> None:
        self.table = table
        self.type_name = type_name
        undo = (
            self._triggers(columns_before)
            if columns_before
            else tuple(f"DROP TRIGGER {name} ON {table}" for name in self._names())
        )
        super().__init__(self._triggers(columns), reverse_sql=undo)

    def _names(self) -> list[str]:
        """In the order in which those of an update run: PostgreSQL's, by name."""
        return [f"{self.table}_stamp_{what}" for what in ("delete", "insert", "keep", "update")]

    def _triggers(self, columns: Sequence[str]) -> tuple[str, ...]:
        delete, insert, keep, update = self._names()
        compared = (*_COMMON_COLUMNS, *columns)
        new = ", ".join(f"NEW.{column}" for column in compared)
        old = ", ".join(f"OLD.{column}" for column in compared)
        return (
            f"""
            CREATE OR REPLACE TRIGGER {insert} BEFORE INSERT ON {self.table}
            FOR EACH ROW WHEN (NEW.version = 0)
            EXECUTE FUNCTION todo_stamp('{self.type_name}')
            """,
            f"""
            CREATE OR REPLACE TRIGGER {keep} BEFORE UPDATE ON {self.table}
            FOR EACH ROW WHEN (NEW.version < OLD.version)
            EXECUTE FUNCTION todo_keep_version()
            """,
            f"""
            CREATE OR REPLACE TRIGGER {update} BEFORE UPDATE ON {self.table}
            FOR EACH ROW WHEN (
                NEW.version = OLD.version AND ROW({new}) IS DISTINCT FROM ROW({old})
            )
            EXECUTE FUNCTION todo_stamp('{self.type_name}')
            """,
            f"""
            CREATE OR REPLACE TRIGGER {delete} AFTER DELETE ON {self.table}
            REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION todo_stamp_deleted('{self.type_name}')
            """,
        )


def position_field() -> "models.TextField[str, str]":
    """Where a row stands among its owner's others, by code point. Its table needs Placed."""
    return models.TextField(db_collation="C", db_default="", default="", editable=False)


class Placed(migrations.RunSQL):
    """Lets the database place a new row of `table` last, for whoever writes it without a position.

    By the version, so that it comes behind what stamps: triggers run in the order of their names.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        name = f"{table}_to_end"
        super().__init__(
            f"""
            CREATE OR REPLACE TRIGGER {name} BEFORE INSERT ON {table}
            FOR EACH ROW WHEN (NEW.position = '')
            EXECUTE FUNCTION todo_place('{POSITION_DIGITS}')
            """,
            reverse_sql=f"DROP TRIGGER {name} ON {table}",
        )
