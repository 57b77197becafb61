from datetime import UTC, datetime

import django.db.models.deletion
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

from todo_project.owners import OwnerCascade

ADD_FUNCTION = """
    CREATE FUNCTION accounts_remember_removed_identity() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO accounts_removedidentity (hash, removed_at)
        VALUES (
            encode(sha256(convert_to(OLD.issuer || chr(10) || OLD.subject, 'UTF8')), 'hex'),
            -- A token is not older than it says, and its issuer's clock may be ahead.
            greatest(statement_timestamp(), OLD.valid_after)
        )
        ON CONFLICT (hash) DO UPDATE SET removed_at = excluded.removed_at;
        RETURN NULL;
    END
    $$
"""
DROP_FUNCTION = "DROP FUNCTION accounts_remember_removed_identity()"
ADD_TRIGGER = """
    CREATE TRIGGER accounts_identity_removed
    AFTER DELETE ON accounts_identity
    FOR EACH ROW EXECUTE FUNCTION accounts_remember_removed_identity()
"""
DROP_TRIGGER = "DROP TRIGGER accounts_identity_removed ON accounts_identity"


class Migration(migrations.Migration):
    """People as identity providers know them, and a mark where one was removed."""

    dependencies = [("accounts", "0007_user_email_validated")]

    operations = [
        migrations.CreateModel(
            name="Identity",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="identities",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("issuer", models.CharField(db_collation="C", max_length=255)),
                ("subject", models.CharField(db_collation="C", max_length=255)),
                (
                    "valid_after",
                    models.DateTimeField(
                        db_default=models.Value(datetime(1970, 1, 1, tzinfo=UTC)),
                        editable=False,
                        help_text="Tokens issued until then are refused.",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "verbose_name_plural": "identities",
                "indexes": [models.Index(fields=["user"], name="accounts_identity_user")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("issuer", "subject"), name="accounts_identity_unique"
                    )
                ],
            },
        ),
        OwnerCascade("accounts_identity"),
        migrations.CreateModel(
            name="RemovedIdentity",
            fields=[
                (
                    "hash",
                    models.CharField(max_length=64, primary_key=True, serialize=False),
                ),
                ("removed_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["removed_at"], name="accounts_removed_removed_at")
                ],
            },
        ),
        migrations.RunSQL(ADD_FUNCTION, reverse_sql=DROP_FUNCTION),
        migrations.RunSQL(ADD_TRIGGER, reverse_sql=DROP_TRIGGER),
    ]
