from django.db import migrations

from todo_project.postgresql.operations import RemoveIndexConcurrently


class Migration(migrations.Migration):
    """The index of what is there and of the trash together. Migration 0009 has made two of it."""

    atomic = False

    dependencies = [("tasks", "0010_stamped")]

    operations = [
        RemoveIndexConcurrently(model_name="task", name="tasks_task_user_created"),
    ]
