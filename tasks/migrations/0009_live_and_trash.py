from django.db import migrations, models

from todo_project.postgresql.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    """An index of what is there, and one of what lies in the trash."""

    atomic = False

    dependencies = [("tasks", "0008_deleted_at")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                fields=["user", "-created_at", "-id"],
                condition=models.Q(("deleted_at", None)),
                name="tasks_task_user_live",
            ),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                fields=["user", "-deleted_at", "-id"],
                condition=models.Q(("deleted_at__isnull", False)),
                name="tasks_task_user_trash",
            ),
        ),
    ]
