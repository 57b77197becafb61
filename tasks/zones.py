"""The application's zones for the database, which finds when tasks are due whoever writes them.

`tasks_zoneoffset` has of each zone since which local time which offset holds. It has no model:
tests empty the tables of models, and nothing but `tasks_due_at()` reads it.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from .days import offsets

_DELETE = """
    DELETE FROM tasks_zoneoffset AS kept
     USING unnest(%s::text[], %s::timestamp[]) AS gone (zone, since)
     WHERE kept.zone = gone.zone AND kept.since = gone.since
"""


def load(connection: BaseDatabaseWrapper) -> int:
    """Makes the table what `tzdata` says, and leaves rows that it has. Returns how many changed.

    In a transaction. One at a time: another waits for its end.
    """
    wanted = set(offsets())
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE tasks_zoneoffset IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("SELECT zone, since, utc_offset FROM tasks_zoneoffset")
        kept = set(cursor.fetchall())
        gone = sorted(kept - wanted)
        new = sorted(wanted - kept)
        cursor.execute(_DELETE, [[zone for zone, *_ in gone], [since for _, since, _ in gone]])
        with cursor.copy("COPY tasks_zoneoffset (zone, since, utc_offset) FROM STDIN") as rows:
            for row in new:
                rows.write_row(row)
    return len(gone) + len(new)
