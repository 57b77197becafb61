from typing import Any

from django.db import migrations

from tasks.zones import load

ADD_TABLE = """
    CREATE TABLE tasks_zoneoffset (
        zone text COLLATE "C",
        since timestamp,
        utc_offset interval NOT NULL,
        PRIMARY KEY (zone, since)
    )
"""

# As tasks.days.due_at() has it, by the same zones, and not by PostgreSQL's own. Outside of the years
# 1 to 9999 there is no such instant for clients.
ADD_DUE_AT = """
    CREATE FUNCTION tasks_due_at(due_on date, due_time time, time_zone text) RETURNS timestamptz
    LANGUAGE sql STABLE
    BEGIN ATOMIC
        SELECT instant AT TIME ZONE 'UTC'
          FROM (
              SELECT due_on + due_time - utc_offset AS instant
                FROM tasks_zoneoffset
               WHERE zone = time_zone AND since <= due_on + due_time
               ORDER BY since DESC
               LIMIT 1
          ) AS found
         WHERE instant >= '0001-01-01' AND instant < '10000-01-01';
    END
"""


def _add_table(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute(ADD_TABLE)
    load(schema_editor.connection)


def _drop_table(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP TABLE tasks_zoneoffset")


class Migration(migrations.Migration):
    """The application's zones, for the database. Filled before tasks are locked for what needs it."""

    dependencies = [("tasks", "0018_lists_are_ones_own")]

    operations = [
        migrations.RunPython(_add_table, _drop_table),
        migrations.RunSQL(ADD_DUE_AT, reverse_sql="DROP FUNCTION tasks_due_at(date, time, text)"),
    ]
