import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

from todo_project.owners import Stamped

BEFORE = (
    *("title", "description", "completed_at", "created_at", "updated_at"),
    *("priority", "labels", "due_on", "due_time", "start_on", "list_id", "position"),
    *("time_zone", "due_at"),
)
COLUMNS = (
    *("parent_id", "recurrence", "repeat_from"),
    *("series_id", "next_task_id", "occurrence_on", "series_start_on"),
)


class Migration(migrations.Migration):
    """What a task is a part of, and how it comes again. No row is rewritten."""

    dependencies = [("tasks", "0021_zone_of_a_time")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="subtasks",
                to="tasks.task",
            ),
        ),
        migrations.AddField(
            model_name="task", name="recurrence", field=models.TextField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="task",
            name="repeat_from",
            field=models.PositiveSmallIntegerField(
                choices=[(0, "due"), (1, "completion")], db_default=0, default=0
            ),
        ),
        *(
            migrations.AddField(
                model_name="task", name=name, field=models.UUIDField(editable=False, null=True)
            )
            for name in ("series_id", "next_task_id")
        ),
        *(
            migrations.AddField(
                model_name="task", name=name, field=models.DateField(editable=False, null=True)
            )
            for name in ("occurrence_on", "series_start_on", "completed_on")
        ),
        migrations.AddField(
            model_name="task",
            name="upcoming",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.DateField(), blank=True, editable=False, null=True, size=None
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="upcoming_of",
            field=models.TextField(blank=True, editable=False, null=True),
        ),
        Stamped("tasks_task", "task", (*BEFORE, *COLUMNS), columns_before=BEFORE),
    ]
