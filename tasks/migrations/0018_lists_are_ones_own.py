from django.db import migrations

VALIDATE_KEY = "ALTER TABLE tasks_task VALIDATE CONSTRAINT tasks_task_list_fk"


class Migration(migrations.Migration):
    """The key of migration 0016, for the rows from before. Others read and write meanwhile."""

    dependencies = [("tasks", "0017_index_of_lists")]

    operations = [migrations.RunSQL(VALIDATE_KEY, reverse_sql=migrations.RunSQL.noop)]
