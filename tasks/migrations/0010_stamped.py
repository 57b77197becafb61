from django.db import migrations, models

from todo_project.owners import Stamped


class Migration(migrations.Migration):
    """Stamps each task that is written, whoever writes. Together, so that none has version 0."""

    dependencies = [
        ("todo_project", "0011_stamp_functions"),
        ("tasks", "0009_live_and_trash"),
    ]

    operations = [
        migrations.AlterField(
            model_name="task",
            name="version",
            field=models.BigIntegerField(db_default=0, editable=False),
        ),
        Stamped(
            "tasks_task",
            "task",
            ("title", "description", "completed_at", "created_at", "updated_at"),
        ),
    ]
