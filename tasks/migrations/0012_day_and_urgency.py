import django.contrib.postgres.fields
from django.db import migrations, models

from todo_project.owners import Stamped

BEFORE = ("title", "description", "completed_at", "created_at", "updated_at")
COLUMNS = ("priority", "labels", "due_on", "due_time", "start_on")


class Migration(migrations.Migration):
    """What tasks are due, begun and sorted by. No row is rewritten: all have a value by default."""

    dependencies = [("tasks", "0011_no_index_of_both")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="priority",
            field=models.PositiveSmallIntegerField(
                choices=[(0, "none"), (1, "low"), (2, "medium"), (3, "high"), (4, "urgent")],
                db_default=0,
                default=0,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="labels",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.TextField(),
                blank=True,
                db_default=[],
                default=list,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="task", name="due_on", field=models.DateField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="task", name="due_time", field=models.TimeField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="task",
            name="start_on",
            field=models.DateField(blank=True, help_text="Not to be begun before.", null=True),
        ),
        Stamped("tasks_task", "task", (*BEFORE, *COLUMNS), columns_before=BEFORE),
    ]
