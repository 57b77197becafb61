from importlib import import_module

from django.db import migrations

_recurrence = import_module("tasks.migrations.0027_recurrence")

# Of an occurrence on the last day of the calendar the end of its series, which is told by that day,
# comes no later than itself: so its days seemed not to be reckoned, however often they were.
_LATER = "day > NEW.occurrence_on;"
_LATER_OR_NEVER = "(day > NEW.occurrence_on OR day = never);"
_BEFORE = _recurrence.ADD_NEXT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
_NOW = _BEFORE.replace(_LATER, _LATER_OR_NEVER)
assert _NOW != _BEFORE


class Migration(migrations.Migration):
    """Lets an occurrence on the last day of the calendar be completed."""

    dependencies = [("tasks", "0030_series_by_index")]

    operations = [migrations.RunSQL(_NOW, reverse_sql=_BEFORE)]
