from django.db import migrations, models

import tasks.models

ADD_COLUMNS = """
    ALTER TABLE tasks_task
    ADD COLUMN title_folded text COLLATE "C"
        GENERATED ALWAYS AS (tasks_fold(title)) STORED,
    ADD COLUMN description_folded text COLLATE "C"
        GENERATED ALWAYS AS (tasks_fold(description)) STORED
"""
# Nothing is lost with them.
DROP_COLUMNS = "ALTER TABLE tasks_task DROP title_folded, DROP description_folded"


class Migration(migrations.Migration):
    """The folded texts, in one statement so that the table is rewritten once.

    Nobody reads or writes tasks meanwhile: see docs/adr/0011-search.md for how long, and why.
    """

    dependencies = [("tasks", "0005_tasks_fold")]

    operations = [
        migrations.RunSQL(
            ADD_COLUMNS,
            reverse_sql=DROP_COLUMNS,
            state_operations=[
                migrations.AddField(
                    model_name="task",
                    name=f"{text}_folded",
                    field=models.GeneratedField(
                        db_persist=True,
                        expression=tasks.models.Fold(text),
                        output_field=models.TextField(db_collation="C"),
                    ),
                )
                for text in ("title", "description")
            ],
        )
    ]
