from django.db import migrations

VALIDATE_KEY = "ALTER TABLE tasks_task VALIDATE CONSTRAINT tasks_task_parent_fk"


class Migration(migrations.Migration):
    """The key of migration 0025, for the rows from before. Others read and write meanwhile."""

    dependencies = [("tasks", "0025_subtasks")]

    operations = [migrations.RunSQL(VALIDATE_KEY, reverse_sql=migrations.RunSQL.noop)]
