import django.db.models.deletion
import uuid_utils.compat
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models
from django.db.models.functions import Now

import todo_project.text
from todo_project.owners import OwnerCascade


class Migration(migrations.Migration):
    """Tokens that people make for scripts."""

    dependencies = [("accounts", "0008_identity")]

    operations = [
        migrations.CreateModel(
            name="PersonalToken",
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
                        related_name="personal_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "name",
                    models.CharField(max_length=150, validators=[todo_project.text.validate_line]),
                ),
                ("hash", models.CharField(max_length=64)),
                ("scopes", ArrayField(base_field=models.CharField(max_length=32), size=None)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_on", models.DateField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["user", "-created_at"], name="accounts_ptoken_user_created"
                    ),
                    models.Index(fields=["expires_at"], name="accounts_ptoken_expires"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("hash",), name="accounts_ptoken_hash")
                ],
            },
        ),
        OwnerCascade("accounts_personaltoken"),
    ]
