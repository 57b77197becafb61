from django.db import migrations, models

from todo_project.postgresql.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    """An index of the tasks of each list, in their order."""

    atomic = False

    dependencies = [("tasks", "0016_lists_and_their_tasks")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                fields=["user", "list", "position", "id"], name="tasks_task_user_list"
            ),
        ),
    ]
