from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

from todo_project.postgresql.operations import AddConstraintNotValid

CONSTRAINTS = (
    models.CheckConstraint(
        condition=models.Q(("recurrence", None), ("due_on__isnull", False), _connector="OR"),
        name="tasks_task_recurrence",
    ),
    models.CheckConstraint(
        condition=models.Q(
            ("recurrence", None),
            models.Q(
                ("occurrence_on__isnull", False),
                ("series_id__isnull", False),
                ("series_start_on__isnull", False),
            ),
            _connector="OR",
        ),
        name="tasks_task_series",
    ),
    models.CheckConstraint(
        condition=models.Q(
            ("completed_on", None), ("completed_at__isnull", False), _connector="OR"
        ),
        name="tasks_task_completed_on",
    ),
    models.CheckConstraint(
        condition=models.Q(("repeat_from__lt", 2)), name="tasks_task_repeat_from"
    ),
)


class Migration(migrations.Migration):
    """Rules of one row. Not atomic, so that no statement locks the table and reads it as well."""

    atomic = False

    dependencies = [("tasks", "0023_keys_of_tasks")]

    operations = [
        *(AddConstraintNotValid("task", constraint) for constraint in CONSTRAINTS),
        *(ValidateConstraint("task", constraint.name) for constraint in CONSTRAINTS),
    ]
