import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

from todo_project.owners import OwnerCascade


class Migration(migrations.Migration):
    """The log of what changed."""

    dependencies = [
        ("todo_project", "0006_clock_of_whoever_is_there"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Change",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "user_id",
                        "version",
                        "type",
                        "id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("version", models.BigIntegerField()),
                ("type", models.TextField(db_collation="C")),
                ("id", models.UUIDField()),
                ("changed_at", models.DateTimeField(db_default=Now())),
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
        ),
        OwnerCascade("todo_project_change"),
    ]
