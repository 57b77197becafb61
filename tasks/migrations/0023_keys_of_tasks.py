from django.db import migrations, models

from todo_project.postgresql.operations import (
    AddIndexConcurrently,
    AddUniqueConcurrently,
    RemoveIndexConcurrently,
)


class Migration(migrations.Migration):
    """What parents and occurrences are found by. The first key is the index of before as well."""

    atomic = False

    dependencies = [("tasks", "0022_parent_and_series")]

    operations = [
        AddUniqueConcurrently(
            model_name="task",
            constraint=models.UniqueConstraint(fields=("user", "id"), name="tasks_task_own"),
        ),
        RemoveIndexConcurrently(model_name="task", name="tasks_task_user_id"),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("parent__isnull", False)),
                fields=["user", "parent", "position", "id"],
                name="tasks_task_user_parent",
            ),
        ),
        AddUniqueConcurrently(
            model_name="task",
            constraint=models.UniqueConstraint(
                condition=models.Q(("deleted_at", None), ("series_id__isnull", False)),
                fields=("user", "series_id", "occurrence_on"),
                name="tasks_task_occurrence",
            ),
        ),
    ]
