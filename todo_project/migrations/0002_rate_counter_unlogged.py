from django.db import migrations


class Migration(migrations.Migration):
    """Keeps counting out of the write-ahead log, and leaves room on each page to update in place."""

    dependencies = [("todo_project", "0001_rate_counter")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE todo_project_ratecounter SET UNLOGGED",
            reverse_sql="ALTER TABLE todo_project_ratecounter SET LOGGED",
        ),
        migrations.RunSQL(
            "ALTER TABLE todo_project_ratecounter SET (fillfactor = 50)",
            reverse_sql="ALTER TABLE todo_project_ratecounter RESET (fillfactor)",
        ),
    ]
