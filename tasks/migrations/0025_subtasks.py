from django.db import migrations

# Names the rule and no value, as todo_refuse() does: for functions, which have no such name.
ADD_REFUSE = """
    CREATE FUNCTION tasks_refuse(rule text) RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'row of relation "tasks_task" violates "%"', rule
        USING ERRCODE = 'check_violation', TABLE = 'tasks_task', CONSTRAINT = rule;
    END
    $$
"""

# By both columns, so that the database itself keeps people apart. NOT VALID, which locks the table
# for a moment and doesn't read it; the next migration does.
ADD_KEY = """
    ALTER TABLE tasks_task ADD CONSTRAINT tasks_task_parent_fk
    FOREIGN KEY (user_id, parent_id) REFERENCES tasks_task (user_id, id)
    ON DELETE CASCADE NOT VALID
"""

# After the row is written, and so under the clock, whoever writes: its queries see what others did
# while the writer waited, so that of two moves that would make a circle the second is refused.
# Circles end the walk up by the number of levels, as does whatever is too deep.
ADD_PARENT_FITS = """
    CREATE FUNCTION tasks_task_parent_fits() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        levels_max constant integer := 5;
        parent record;
        levels integer;
        is_circle boolean;
    BEGIN
        SELECT list_id, deleted_at INTO parent FROM tasks_task
         WHERE user_id = NEW.user_id AND id = NEW.parent_id;
        IF NOT FOUND OR parent.deleted_at IS NOT NULL THEN
            PERFORM tasks_refuse('tasks_task_parent_lives');
        END IF;
        IF parent.list_id IS DISTINCT FROM NEW.list_id THEN
            PERFORM tasks_refuse('tasks_task_parent_list');
        END IF;
        WITH RECURSIVE above AS (
            SELECT NEW.parent_id AS id, 2 AS level
            UNION ALL
            SELECT task.parent_id, level + 1
              FROM above JOIN tasks_task AS task ON task.id = above.id
             WHERE task.user_id = NEW.user_id AND task.parent_id IS NOT NULL
               AND level <= levels_max
        )
        SELECT max(level), bool_or(id = NEW.id) INTO levels, is_circle FROM above;
        IF is_circle THEN
            PERFORM tasks_refuse('tasks_task_parent_circle');
        END IF;
        IF TG_OP = 'UPDATE' THEN
            WITH RECURSIVE below AS (
                SELECT NEW.id AS id, levels AS level
                UNION ALL
                SELECT task.id, level + 1
                  FROM below JOIN tasks_task AS task ON task.parent_id = below.id
                 WHERE task.user_id = NEW.user_id AND task.deleted_at IS NULL
                   AND level <= levels_max
            )
            SELECT max(level) INTO levels FROM below;
        END IF;
        IF levels > levels_max THEN
            PERFORM tasks_refuse('tasks_task_parent_depth');
        END IF;
        RETURN NULL;
    END
    $$
"""
ADD_PARENT_FITS_TRIGGER = """
    CREATE CONSTRAINT TRIGGER tasks_task_parent_fits
    AFTER INSERT OR UPDATE OF parent_id, list_id, user_id, deleted_at ON tasks_task
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION tasks_task_parent_fits()
"""

# Subtasks go where their task goes: into another list, into the trash and out of it, all of one
# version. Those that went into the trash with it have its deleted_at, as of lists.
ADD_WITH_SUBTASKS = """
    CREATE FUNCTION tasks_task_with_subtasks() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        WITH taken AS (
            UPDATE tasks_task
               SET deleted_at = NEW.deleted_at, list_id = NEW.list_id, version = NEW.version,
                   updated_at = CASE WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NULL
                                     THEN statement_timestamp() ELSE updated_at END
             WHERE user_id = NEW.user_id AND parent_id = NEW.id
               AND deleted_at IS NOT DISTINCT FROM OLD.deleted_at
               AND (deleted_at IS DISTINCT FROM NEW.deleted_at
                    OR list_id IS DISTINCT FROM NEW.list_id)
            RETURNING user_id, version, id
        )
        INSERT INTO todo_project_change (user_id, version, type, id)
        SELECT user_id, version, 'task', id FROM taken
        ON CONFLICT DO NOTHING; -- once for each transaction
        RETURN NULL;
    END
    $$
"""
ADD_WITH_SUBTASKS_TRIGGER = """
    CREATE TRIGGER tasks_task_with_subtasks
    AFTER UPDATE OF deleted_at, list_id ON tasks_task
    FOR EACH ROW WHEN (
        ROW(OLD.deleted_at, OLD.list_id) IS DISTINCT FROM ROW(NEW.deleted_at, NEW.list_id)
    )
    EXECUTE FUNCTION tasks_task_with_subtasks()
"""

# A subtask that comes out of the trash by itself is one no more if its task is still there, or
# stands too deep by now; else it comes to where that is. By its name behind tasks_task_to_inbox,
# and behind what stamps. Who comes along with a task or a list is left alone: that is written by a
# trigger, one level deeper.
ADD_TO_PARENT = """
    CREATE FUNCTION tasks_task_to_parent() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        parent record;
        levels integer;
    BEGIN
        SELECT list_id, deleted_at INTO parent FROM tasks_task
         WHERE user_id = NEW.user_id AND id = NEW.parent_id;
        WITH RECURSIVE above AS (
            SELECT NEW.parent_id AS id, 2 AS level
            UNION ALL
            SELECT task.parent_id, level + 1
              FROM above JOIN tasks_task AS task ON task.id = above.id
             WHERE task.user_id = NEW.user_id AND task.parent_id IS NOT NULL AND level < 10
        ), below AS (
            SELECT NEW.id AS id, max(level) AS level FROM above
            UNION ALL
            SELECT task.id, level + 1
              FROM below JOIN tasks_task AS task ON task.parent_id = below.id
             WHERE task.user_id = NEW.user_id AND task.deleted_at = OLD.deleted_at AND level < 10
        )
        SELECT max(level) INTO levels FROM below;
        IF parent.deleted_at IS NULL AND levels <= 5 THEN
            NEW.list_id := parent.list_id;
        ELSE
            NEW.parent_id := NULL;
        END IF;
        RETURN NEW;
    END
    $$
"""
ADD_TO_PARENT_TRIGGER = """
    CREATE TRIGGER tasks_task_to_parent
    BEFORE UPDATE OF deleted_at ON tasks_task
    FOR EACH ROW WHEN (
        OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL AND NEW.parent_id IS NOT NULL
        AND pg_trigger_depth() = 0
    )
    EXECUTE FUNCTION tasks_task_to_parent()
"""


class Migration(migrations.Migration):
    """What keeps tasks and their subtasks together, whoever writes."""

    dependencies = [("tasks", "0024_rules_of_series")]

    operations = [
        migrations.RunSQL(ADD_REFUSE, reverse_sql="DROP FUNCTION tasks_refuse(text)"),
        migrations.RunSQL(
            ADD_KEY, reverse_sql="ALTER TABLE tasks_task DROP CONSTRAINT tasks_task_parent_fk"
        ),
        migrations.RunSQL(ADD_PARENT_FITS, reverse_sql="DROP FUNCTION tasks_task_parent_fits()"),
        migrations.RunSQL(
            ADD_PARENT_FITS_TRIGGER,
            reverse_sql="DROP TRIGGER tasks_task_parent_fits ON tasks_task",
        ),
        migrations.RunSQL(
            ADD_WITH_SUBTASKS, reverse_sql="DROP FUNCTION tasks_task_with_subtasks()"
        ),
        migrations.RunSQL(
            ADD_WITH_SUBTASKS_TRIGGER,
            reverse_sql="DROP TRIGGER tasks_task_with_subtasks ON tasks_task",
        ),
        migrations.RunSQL(ADD_TO_PARENT, reverse_sql="DROP FUNCTION tasks_task_to_parent()"),
        migrations.RunSQL(
            ADD_TO_PARENT_TRIGGER, reverse_sql="DROP TRIGGER tasks_task_to_parent ON tasks_task"
        ),
    ]
