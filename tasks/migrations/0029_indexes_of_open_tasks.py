from django.db import migrations, models
from django.db.models.expressions import RawSQL

from todo_project.postgresql.operations import AddIndexConcurrently

OPEN = models.Q(("completed_at", None), ("deleted_at", None))


class Migration(migrations.Migration):
    """Indexes of open tasks: by when they are due, and of each list in its order."""

    atomic = False

    dependencies = [("tasks", "0028_moves")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                models.F("user"),
                RawSQL(
                    "coalesce((due_on + coalesce(due_time - time '00:00', "
                    "interval '-1 microsecond')), 'infinity')",
                    (),
                ),
                models.F("id"),
                condition=OPEN,
                name="tasks_task_open_due",
            ),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                fields=["user", "list", "position", "id"],
                condition=OPEN,
                name="tasks_task_open_list",
            ),
        ),
    ]
