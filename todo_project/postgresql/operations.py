"""Operations for migrations that aren't atomic: killed at any moment, each can be run again.

For migrations. What needs no `atomic = False` needs nothing of this: an atomic migration is there
whole or not at all. A constraint for a table that is in use takes two of these, one that adds it
NOT VALID and one that validates it.
https://docs.djangoproject.com/en/5.2/ref/contrib/postgres/operations/#concurrent-index-operations
"""

from django.contrib.postgres import operations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddConstraint
from django.db.migrations.state import ProjectState
from django.db.models import UniqueConstraint


class AddIndexConcurrently(operations.AddIndexConcurrently):
    """Django's, which finds in its way what it made itself before it was killed.

    That is an invalid index, or a valid one without the record of its migration; either is dropped.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self.database_backwards(app_label, schema_editor, to_state, from_state)
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddConstraintNotValid(operations.AddConstraintNotValid):
    """Django's, which finds in its way what it made itself before it was killed."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self.database_backwards(app_label, schema_editor, to_state, from_state)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        table, name = (
            schema_editor.quote_name(each) for each in (model._meta.db_table, self.constraint.name)
        )
        schema_editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")


class RemoveIndexConcurrently(operations.RemoveIndexConcurrently):
    """Django's, which can be run again already but for the way back."""

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self.database_forwards(app_label, schema_editor, to_state, from_state)
        super().database_backwards(app_label, schema_editor, from_state, to_state)


class AddUniqueConcurrently(operations.NotInTransactionMixin, AddConstraint):
    """Adds a UniqueConstraint of fields while others write.

    By an index made concurrently, which a foreign key may refer to as well. To PostgreSQL it is no
    constraint; nor is one with a condition, however it is made.
    """

    constraint: UniqueConstraint

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._ensure_not_in_transaction(schema_editor)
        self.database_backwards(app_label, schema_editor, to_state, from_state)
        model = to_state.apps.get_model(app_label, self.model_name)
        constraint, quote = self.constraint, schema_editor.quote_name
        columns = ", ".join(quote(model._meta.get_field(name).column) for name in constraint.fields)
        condition = constraint._get_condition_sql(model, schema_editor)  # type: ignore[attr-defined]  # noqa: SLF001
        table, name = quote(model._meta.db_table), quote(constraint.name)
        where = f"WHERE {condition}" if condition else ""
        schema_editor.execute(
            f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({columns}) {where}"
        )

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._ensure_not_in_transaction(schema_editor)
        name = schema_editor.quote_name(self.constraint.name)
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
