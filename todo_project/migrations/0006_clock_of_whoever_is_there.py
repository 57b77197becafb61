from typing import Any

from django.db import IntegrityError, migrations

BATCH_USERS = 1000  # their rows are locked for milliseconds

MAKE_CLOCKS = """
    WITH users AS (
        SELECT id FROM accounts_user
         WHERE %(last)s::uuid IS NULL OR id > %(last)s::uuid
         ORDER BY id LIMIT %(batch)s
    ), made AS (
        INSERT INTO todo_project_clock (user_id) SELECT id FROM users
        ON CONFLICT (user_id) DO NOTHING
    )
    SELECT id FROM users ORDER BY id DESC LIMIT 1
"""


def make_clocks(apps: Any, schema_editor: Any) -> None:
    """Can be run again. A person who is deleted meanwhile is left out by the next try."""
    last = None
    with schema_editor.connection.cursor() as cursor:
        while True:
            try:
                cursor.execute(MAKE_CLOCKS, {"last": last, "batch": BATCH_USERS})
            except IntegrityError:
                continue
            row = cursor.fetchone()
            if row is None:
                return
            (last,) = row


class Migration(migrations.Migration):
    """A clock for each person from before, in batches while people work."""

    atomic = False

    dependencies = [("todo_project", "0005_clock_of_whoever_is_new")]

    operations = [migrations.RunPython(make_clocks, migrations.RunPython.noop)]
