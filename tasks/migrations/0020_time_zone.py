from django.db import migrations, models

from todo_project.owners import Stamped

BEFORE = (
    *("title", "description", "completed_at", "created_at", "updated_at"),
    *("priority", "labels", "due_on", "due_time", "start_on", "list_id", "position"),
)

# Behind what stamps, by the triggers' names, and so under the clock: `load_time_zones` locks it
# before it looks at a person's tasks, and either finds what was written by the zones of before, or
# the write meets those of now.
ADD_SET_DUE_AT = """
    CREATE FUNCTION tasks_task_set_due_at() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        NEW.due_at := tasks_due_at(NEW.due_on, NEW.due_time, NEW.time_zone);
        RETURN NEW;
    END
    $$
"""
ADD_INSERT_TRIGGER = """
    CREATE TRIGGER tasks_task_zone_insert BEFORE INSERT ON tasks_task
    FOR EACH ROW WHEN (NEW.time_zone IS NOT NULL OR NEW.due_at IS NOT NULL)
    EXECUTE FUNCTION tasks_task_set_due_at()
"""
ADD_UPDATE_TRIGGER = """
    CREATE TRIGGER tasks_task_zone_update
    BEFORE UPDATE OF due_on, due_time, time_zone, due_at ON tasks_task
    FOR EACH ROW WHEN (
        ROW(NEW.due_on, NEW.due_time, NEW.time_zone, NEW.due_at)
        IS DISTINCT FROM ROW(OLD.due_on, OLD.due_time, OLD.time_zone, OLD.due_at)
    )
    EXECUTE FUNCTION tasks_task_set_due_at()
"""


class Migration(migrations.Migration):
    """In which zone a task is due, and when that is, for whoever writes. No row is rewritten."""

    dependencies = [("tasks", "0019_zones")]

    operations = [
        migrations.AddField(
            model_name="task", name="time_zone", field=models.TextField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="task",
            name="due_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        Stamped("tasks_task", "task", (*BEFORE, "time_zone", "due_at"), columns_before=BEFORE),
        migrations.RunSQL(ADD_SET_DUE_AT, reverse_sql="DROP FUNCTION tasks_task_set_due_at()"),
        migrations.RunSQL(
            ADD_INSERT_TRIGGER, reverse_sql="DROP TRIGGER tasks_task_zone_insert ON tasks_task"
        ),
        migrations.RunSQL(
            ADD_UPDATE_TRIGGER, reverse_sql="DROP TRIGGER tasks_task_zone_update ON tasks_task"
        ),
    ]
