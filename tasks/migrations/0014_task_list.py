import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

import todo_project.resources.lines
import todo_project.text
from todo_project.owners import OwnerCascade, Placed, Stamped

# As that of titles (migration 0003).
ADD_LINE = r"""
    CREATE CONSTRAINT TRIGGER tasks_list_name_line
    AFTER INSERT OR UPDATE OF name ON tasks_list
    FOR EACH ROW WHEN (
        NEW.name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'
        OR NEW.name !~ '[^ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]'
    )
    EXECUTE FUNCTION todo_refuse()
"""

# After the row is written, and so under the clock, whoever writes: it sees what was committed by
# those who held that before.
ADD_MOST = """
    CREATE FUNCTION tasks_list_most() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF 500 < (
            SELECT count(*) FROM tasks_list WHERE user_id = NEW.user_id AND deleted_at IS NULL
        ) THEN
            RAISE EXCEPTION 'new row for relation "%" violates "%"', TG_TABLE_NAME, TG_NAME
            USING ERRCODE = 'check_violation',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
        END IF;
        RETURN NULL;
    END
    $$
"""
ADD_MOST_TRIGGER = """
    CREATE CONSTRAINT TRIGGER tasks_list_most
    AFTER INSERT OR UPDATE OF deleted_at, user_id ON tasks_list
    FOR EACH ROW WHEN (NEW.deleted_at IS NULL)
    EXECUTE FUNCTION tasks_list_most()
"""


class Migration(migrations.Migration):
    """Lists, at most 500 living ones of a person."""

    dependencies = [
        ("todo_project", "0012_place_function"),
        ("tasks", "0013_rules_of_days"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskList",
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
                    models.CharField(
                        max_length=150,
                        validators=[
                            todo_project.text.validate_line,
                            todo_project.text.validate_marks,
                        ],
                    ),
                ),
                (
                    "color",
                    models.CharField(
                        blank=True,
                        max_length=7,
                        null=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^#[0-9a-f]{6}\\Z", "Write it as #1e90ff, in lower case."
                            )
                        ],
                    ),
                ),
                (
                    "position",
                    models.TextField(db_collation="C", db_default="", default="", editable=False),
                ),
                ("archived_at", models.DateTimeField(blank=True, null=True)),
                (
                    "is_archived",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Q(("archived_at__isnull", False)),
                        output_field=models.BooleanField(),
                    ),
                ),
                (
                    "name_folded",
                    models.GeneratedField(
                        db_persist=True,
                        expression=todo_project.resources.lines.Fold("name"),
                        output_field=models.TextField(db_collation="C"),
                    ),
                ),
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
                        related_name="task_lists",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "list",
                "db_table": "tasks_list",
                "indexes": [
                    models.Index(
                        condition=models.Q(("deleted_at", None)),
                        fields=["user", "position", "id"],
                        name="tasks_list_user_live",
                    ),
                    models.Index(
                        condition=models.Q(("deleted_at__isnull", False)),
                        fields=["user", "-deleted_at", "-id"],
                        name="tasks_list_user_trash",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("user", "id"), name="tasks_list_user_id"),
                    models.CheckConstraint(
                        condition=models.Q(("color__regex", "^#[0-9a-f]{6}$")),
                        name="tasks_list_color",
                    ),
                ],
            },
        ),
        OwnerCascade("tasks_list"),
        Stamped(
            "tasks_list",
            "list",
            ("name", "color", "position", "archived_at", "created_at", "updated_at"),
        ),
        Placed("tasks_list"),
        migrations.RunSQL(ADD_LINE, reverse_sql="DROP TRIGGER tasks_list_name_line ON tasks_list"),
        migrations.RunSQL(ADD_MOST, reverse_sql="DROP FUNCTION tasks_list_most()"),
        migrations.RunSQL(
            ADD_MOST_TRIGGER, reverse_sql="DROP TRIGGER tasks_list_most ON tasks_list"
        ),
    ]
