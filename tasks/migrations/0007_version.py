from django.db import migrations, models


class Migration(migrations.Migration):
    """Each task's version. Those from before have 1, as which clocks begin; nothing is rewritten.

    So have those that are written until triggers stamp them (migration 0010): nobody follows yet.
    """

    dependencies = [("tasks", "0006_task_folded")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="version",
            field=models.BigIntegerField(db_default=1, editable=False),
        ),
    ]
