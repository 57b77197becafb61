from django.db import migrations, models


class Migration(migrations.Migration):
    """Since when a task lies in the trash."""

    dependencies = [("tasks", "0007_version")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="deleted_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
