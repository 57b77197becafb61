from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations

from todo_project.postgresql.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    """Finds old changes."""

    atomic = False

    dependencies = [("todo_project", "0007_change")]

    operations = [
        AddIndexConcurrently(
            model_name="change",
            index=BrinIndex(fields=["changed_at"], name="todo_change_changed_at"),
        ),
    ]
