import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from todo_project.owners import OwnerCascade


class Migration(migrations.Migration):
    """What was deleted for good."""

    dependencies = [
        ("todo_project", "0008_change_changed_at"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Purged",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "user_id",
                        "type",
                        "id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("type", models.TextField(db_collation="C")),
                ("id", models.UUIDField()),
                ("version", models.BigIntegerField()),
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
            options={"verbose_name_plural": "purged"},
        ),
        OwnerCascade("todo_project_purged"),
    ]
