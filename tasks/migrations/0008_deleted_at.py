from django.db import migrations, models


class Migration(migrations.Migration):
    """Since when a task lies in the trash."""

    dependencies = [("tasks", "0007_version")]

    # Who goes back doesn't bring back what was deleted.
    operations = [
        migrations.AddField(
            model_name="task",
            name="deleted_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.RunSQL(
            migrations.RunSQL.noop,
            reverse_sql="DELETE FROM tasks_task WHERE deleted_at IS NOT NULL",
        ),
    ]
