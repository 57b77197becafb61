import django.db.models.deletion
from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.models import Value
from django.db.models.functions import Cast, Left, Replace

from todo_project.owners import OwnerCascade


class Migration(migrations.Migration):
    """The clock of each person, with room on each page to advance in place."""

    dependencies = [
        ("todo_project", "0003_refuse_function"),
        ("accounts", "0009_personal_token"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Clock",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "epoch",
                    models.TextField(
                        db_default=Left(
                            Replace(Cast(RandomUUID(), models.TextField()), Value("-"), Value("")),
                            16,
                        )
                    ),
                ),
                ("version", models.BigIntegerField(db_default=1)),
                ("purged_version", models.BigIntegerField(db_default=0)),
                ("stamped_by", models.BigIntegerField(null=True)),
            ],
        ),
        OwnerCascade("todo_project_clock"),
        migrations.RunSQL(
            "ALTER TABLE todo_project_clock SET (fillfactor = 50)",
            reverse_sql="ALTER TABLE todo_project_clock RESET (fillfactor)",
        ),
    ]
