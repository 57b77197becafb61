"""Takes over the zones of another `tzdata`. For operators."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections, transaction

from tasks.zones import load
from todo_project.clock import lock_clocks
from todo_project.models import Clock

# People in one transaction, who wait to write as long as it looks at their tasks.
BATCH_PEOPLE = 100

RECOMPUTE = """
    UPDATE tasks_task
       SET due_at = tasks_due_at(due_on, due_time, time_zone), updated_at = statement_timestamp()
     WHERE user_id = ANY(%s) AND time_zone IS NOT NULL
       AND due_at IS DISTINCT FROM tasks_due_at(due_on, due_time, time_zone)
"""


class Command(BaseCommand):
    """Loads the zones, and then goes through all tasks, person by person.

    The zones are committed before: whoever writes after their clock was let go meets them.
    """

    help = (
        "Load the time zones of the tzdata that is installed into the database, and change the "
        "due_at of tasks that are due at another instant by them: once after each deploy that "
        "brings another tzdata. Their people's devices fetch them. Safe at any time; run again, "
        "it finds nothing to do."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections["direct"]
        with transaction.atomic(using="direct"):
            offsets = load(connection)
        clocks = Clock.objects.using("direct").order_by("user_id").values_list("user_id", flat=True)
        tasks, later = 0, clocks
        while owners := list(later[:BATCH_PEOPLE]):
            with transaction.atomic(using="direct"), connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")  # the role's is for requests
                lock_clocks(owners, using="direct")
                cursor.execute(RECOMPUTE, [owners])
                tasks += cursor.rowcount
            later = clocks.filter(user__gt=owners[-1])
        self.stdout.write(f"{offsets} offsets of zones changed, and {tasks} tasks by them.")
