from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

from todo_project.postgresql.operations import AddConstraintNotValid

CONSTRAINTS = (
    models.CheckConstraint(condition=models.Q(priority__lt=5), name="tasks_task_priority"),
    models.CheckConstraint(condition=models.Q(labels__len__lte=50), name="tasks_task_labels"),
    models.CheckConstraint(
        condition=models.Q(("due_time", None), ("due_on__isnull", False), _connector="OR"),
        name="tasks_task_due_time",
    ),
    models.CheckConstraint(
        condition=models.Q(
            ("start_on", None),
            ("due_on", None),
            ("start_on__lte", models.F("due_on")),
            _connector="OR",
        ),
        name="tasks_task_start_on",
    ),
)


class Migration(migrations.Migration):
    """Rules of one row. Not atomic, so that no statement locks the table and reads it as well."""

    atomic = False

    dependencies = [("tasks", "0012_day_and_urgency")]

    operations = [
        *(AddConstraintNotValid("task", constraint) for constraint in CONSTRAINTS),
        *(ValidateConstraint("task", constraint.name) for constraint in CONSTRAINTS),
    ]
