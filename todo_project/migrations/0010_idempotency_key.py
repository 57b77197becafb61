import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

from todo_project.owners import OwnerCascade


class Migration(migrations.Migration):
    """The answers of writes that were named by a key."""

    dependencies = [
        ("todo_project", "0009_purged"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "user_id",
                        "key",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("key", models.TextField()),
                ("fingerprint", models.UUIDField()),
                ("status", models.SmallIntegerField()),
                ("body", models.TextField(null=True)),
                ("location", models.TextField(null=True)),
                ("etag", models.TextField(null=True)),
                ("created_at", models.DateTimeField(db_default=Now())),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["created_at"], name="todo_idempotency_created_at")
                ],
            },
        ),
        OwnerCascade("todo_project_idempotencykey"),
    ]
