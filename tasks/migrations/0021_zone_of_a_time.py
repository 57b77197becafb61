from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

from todo_project.postgresql.operations import AddConstraintNotValid

CONSTRAINT = models.CheckConstraint(
    condition=models.Q(("time_zone", None), ("due_time__isnull", False), _connector="OR"),
    name="tasks_task_time_zone",
)


class Migration(migrations.Migration):
    """A rule of one row. Not atomic, so that no statement locks the table and reads it as well."""

    atomic = False

    dependencies = [("tasks", "0020_time_zone")]

    operations = [
        AddConstraintNotValid("task", CONSTRAINT),
        ValidateConstraint("task", CONSTRAINT.name),
    ]
