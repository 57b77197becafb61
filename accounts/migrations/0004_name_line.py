from django.db import migrations, models

import todo_project.text

# As tasks_task_title_line, of tasks.0003.
ADD_TRIGGER = r"""
    CREATE CONSTRAINT TRIGGER accounts_user_name_line
    AFTER INSERT OR UPDATE OF name ON accounts_user
    FOR EACH ROW WHEN (
        NEW.name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'
        OR (NEW.name <> '' AND NEW.name !~ '[^ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]')
    )
    EXECUTE FUNCTION todo_refuse()
"""
DROP_TRIGGER = "DROP TRIGGER accounts_user_name_line ON accounts_user"


class Migration(migrations.Migration):
    """Lets names be written that are one line. Those from before stay, until they are written."""

    dependencies = [
        ("todo_project", "0003_refuse_function"),
        ("accounts", "0003_email_ascii"),
    ]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="name",
            field=models.CharField(
                blank=True, max_length=150, validators=[todo_project.text.validate_line]
            ),
        ),
        migrations.RunSQL(ADD_TRIGGER, reverse_sql=DROP_TRIGGER),
    ]
