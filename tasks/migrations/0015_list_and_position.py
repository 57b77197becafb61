import django.db.models.deletion
from django.db import migrations, models

from todo_project.owners import Placed, Stamped

BEFORE = (
    *("title", "description", "completed_at", "created_at", "updated_at"),
    *("priority", "labels", "due_on", "due_time", "start_on"),
)


class Migration(migrations.Migration):
    """Which list a task is in, and where. No row is rewritten.

    Tasks from before are in the inbox, and their position is empty: they stand before all others,
    the oldest first, by their id.
    """

    dependencies = [("tasks", "0014_task_list")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="list",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="tasks",
                to="tasks.tasklist",
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="position",
            field=models.TextField(db_collation="C", db_default="", default="", editable=False),
        ),
        Stamped("tasks_task", "task", (*BEFORE, "list_id", "position"), columns_before=BEFORE),
        Placed("tasks_task"),
    ]
