import django.db.models.deletion
import django.db.models.functions.datetime
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

import todo_project.resources.lines
import todo_project.text
from todo_project.owners import OwnerCascade, Stamped


class Migration(migrations.Migration):
    """The table; and that its rows go with their owner, and are stamped whoever writes."""

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("todo_project", "0011_stamp_functions"),
        ("tasks", "0005_tasks_fold"),
    ]

    operations = [
        migrations.CreateModel(
            name="Thing",
            fields=[
                ("version", models.BigIntegerField(db_default=0, editable=False)),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
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
                    "name",
                    models.CharField(max_length=100, validators=[todo_project.text.validate_line]),
                ),
                (
                    "name_folded",
                    models.GeneratedField(
                        db_persist=True,
                        expression=todo_project.resources.lines.Fold("name"),
                        output_field=models.TextField(db_collation="C"),
                    ),
                ),
                ("note", models.TextField(blank=True, null=True)),
                ("starts_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="things",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["user", "id"], name="things_thing_user_id"),
                    models.Index(
                        condition=models.Q(("deleted_at", None)),
                        fields=["user", "-created_at", "-id"],
                        name="things_thing_user_live",
                    ),
                    models.Index(
                        condition=models.Q(("deleted_at__isnull", False)),
                        fields=["user", "-deleted_at", "-id"],
                        name="things_thing_user_trash",
                    ),
                ],
            },
        ),
        OwnerCascade("things_thing"),
        Stamped(
            "things_thing",
            "thing",
            ("name", "note", "starts_at", "created_at", "updated_at"),
        ),
    ]
