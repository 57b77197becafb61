"""What requests count on in the database, beside that it answers. For health.py and checks.py.

Only the database knows what its role may do, and which settings it has. Some are met where a
connection begins (settings.py: time zone, date style, encoding), and some make no difference to
what is sent here (IntervalStyle, bytea_output, standard_conforming_strings). These can't be met at
no cost: what a session sets sticks to a pooler's connection, and startup options are refused there.
"""

from django.apps import apps
from django.db import connection

_OWN_APPS = ("accounts", "tasks", "todo_project")

# One round trip, and none of it reads a table of the service.
_SQL = """
    SELECT pg_is_in_recovery(),
           current_setting('default_transaction_read_only'),
           current_setting('default_transaction_isolation'),
           current_setting('DateStyle'),
           current_setting('server_encoding'),
           ARRAY(SELECT name FROM unnest(%(tables)s::text[]) AS name
                  WHERE to_regclass(name) IS NULL ORDER BY name),
           ARRAY(SELECT privilege || ' on ' || name
                   FROM unnest(%(tables)s::text[]) AS name,
                        unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS privilege
                  WHERE NOT has_table_privilege(to_regclass(name), privilege)
                  ORDER BY name, privilege)
"""


def unmet_conditions(*, is_migrated: bool = True) -> list[str]:
    """Why requests would fail, each with its cure. Before the first migration tables are missing.

    One query. Raises what Django's cursors raise.
    """
    tables = [
        model._meta.db_table for model in apps.get_models() if model._meta.app_label in _OWN_APPS
    ]
    with connection.cursor() as cursor:
        cursor.execute(_SQL, {"tables": tables})
        is_standby, read_only, isolation, date_style, encoding, missing, denied = cursor.fetchone()
    unmet = []
    if is_standby:
        unmet.append("The database is a standby, which writes nothing. Name its primary.")
    if read_only != "off":
        unmet.append(f"Transactions are read-only. {_cure('default_transaction_read_only = off')}")
    if isolation != "read committed":
        cure = _cure("default_transaction_isolation = 'read committed'")
        unmet.append(f"Transactions are {isolation}, and writes at the same time fail. {cure}")
    if not date_style.startswith("ISO"):
        unmet.append(
            f"DateStyle is {date_style}, and times can't be read. {_cure('DateStyle = ISO')}"
        )
    if encoding != "UTF8":
        unmet.append(f"The database's encoding is {encoding}. Make one with ENCODING 'UTF8'.")
    if missing and is_migrated:
        cure = _cure("search_path = the schema of the tables")
        unmet.append(f"The role doesn't see {', '.join(missing)}. {cure}")
    if denied:
        unmet.append(f"The role may not {', '.join(denied)}. GRANT it.")
    return unmet


def _cure(setting: str) -> str:
    return f"ALTER ROLE ... SET {setting}."
