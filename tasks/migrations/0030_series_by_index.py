from importlib import import_module

from django.db import migrations

_recurrence = import_module("tasks.migrations.0027_recurrence")

# Whether a series has an id already was asked of living and trashed tasks at once, which no index
# has: so a new rule read all tasks of its owner. Asked of either, it reads those of the series, and
# what lies in the trash.
_ASKED_OF_ALL = """
            IF EXISTS (
                SELECT FROM tasks_task
                 WHERE user_id = NEW.user_id AND series_id = NEW.id AND id <> NEW.id
            ) THEN"""
_ASKED_OF_EITHER = """
            IF EXISTS (
                SELECT FROM tasks_task
                 WHERE user_id = NEW.user_id AND series_id = NEW.id AND id <> NEW.id
                   AND deleted_at IS NULL
            ) OR EXISTS (
                SELECT FROM tasks_task
                 WHERE user_id = NEW.user_id AND series_id = NEW.id AND id <> NEW.id
                   AND deleted_at IS NOT NULL
            ) THEN"""
_BEFORE = _recurrence.ADD_SERIES.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
_NOW = _BEFORE.replace(_ASKED_OF_ALL, _ASKED_OF_EITHER)
assert _NOW != _BEFORE


class Migration(migrations.Migration):
    """Finds a series by its index when a rule begins another."""

    dependencies = [("tasks", "0029_indexes_of_open_tasks")]

    operations = [migrations.RunSQL(_NOW, reverse_sql=_BEFORE)]
