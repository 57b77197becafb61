import django.contrib.postgres.operations
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

import todo_project.text

NAME = "tasks_task_description_length"
REPLACE = f"""
    ALTER TABLE tasks_task
    DROP CONSTRAINT {NAME},
    ADD CONSTRAINT {NAME} CHECK (length(description) <= 20000) NOT VALID
"""


class Migration(migrations.Migration):
    """Lets descriptions have 20,000 characters.

    Not atomic, so that the table is locked for the first statement alone, which reads no row. Both
    can be repeated where a migrate was killed between them. Nothing is undone on the way back: the
    version before asks for 10,000 by itself, and could else not even complete a task with more.
    """

    atomic = False

    dependencies = [("tasks", "0003_title_line")]

    operations = [
        migrations.RunSQL(
            REPLACE,
            reverse_sql=migrations.RunSQL.noop,
            state_operations=[
                migrations.RemoveConstraint(model_name="task", name=NAME),
                migrations.AddConstraint(
                    model_name="task",
                    constraint=models.CheckConstraint(
                        condition=django.db.models.lookups.LessThanOrEqual(
                            django.db.models.functions.text.Length("description"), 20000
                        ),
                        name=NAME,
                    ),
                ),
                migrations.AlterField(
                    model_name="task",
                    name="description",
                    field=models.TextField(
                        null=True, blank=True, validators=[todo_project.text.validate_marks]
                    ),
                ),
            ],
        ),
        django.contrib.postgres.operations.ValidateConstraint(model_name="task", name=NAME),
    ]
