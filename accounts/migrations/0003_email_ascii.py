from typing import Any

import idna
from django.db import IntegrityError, migrations, transaction

# Not ASCII: more octets than characters. A scan of the table, which locks nothing.
FIND = "SELECT id, email FROM accounts_user WHERE octet_length(email) > length(email) ORDER BY id"
WRITE = "UPDATE accounts_user SET email = %s WHERE id = %s AND email = %s"


def write_domains_in_ascii(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(FIND)
        for user_id, email in cursor.fetchall():
            local_part, _, domain = email.rpartition("@")
            try:
                domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
                with transaction.atomic(using=schema_editor.connection.alias):
                    cursor.execute(WRITE, [f"{local_part}@{domain}", user_id, email])
            except (idna.IDNAError, IntegrityError):
                continue


class Migration(migrations.Migration):
    """Brings addresses into the form in which they are kept and looked up: domains in ASCII.

    Left as they are: those whose domain has no such form, and those that would be another
    account's, which has that form already and is the one that signs in. An operator settles it, who
    finds both in admin by what stands before the @.
    On the way back nothing is undone: ASCII was right before, too.
    """

    dependencies = [("accounts", "0002_session_user_cascade")]

    operations = [
        migrations.RunPython(write_domains_in_ascii, migrations.RunPython.noop, elidable=True)
    ]
