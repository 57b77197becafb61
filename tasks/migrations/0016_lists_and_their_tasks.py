from django.db import migrations

# By both columns, so that the database itself keeps people apart. NOT VALID, which locks both
# tables for a moment and reads none; migration 0018 reads them.
ADD_KEY = """
    ALTER TABLE tasks_task ADD CONSTRAINT tasks_task_list_fk
    FOREIGN KEY (user_id, list_id) REFERENCES tasks_list (user_id, id) ON DELETE CASCADE NOT VALID
"""

# After the row is written, and so under the clock, whoever writes: it sees a list that was trashed
# while the writer waited. Names the rule and no value, as todo_refuse() does.
ADD_LIVES = """
    CREATE FUNCTION tasks_task_list_lives() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM tasks_list
             WHERE user_id = NEW.user_id AND id = NEW.list_id AND deleted_at IS NOT NULL
        ) THEN
            RAISE EXCEPTION 'new row for relation "%" violates "%"', TG_TABLE_NAME, TG_NAME
            USING ERRCODE = 'check_violation',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
        END IF;
        RETURN NULL;
    END
    $$
"""
ADD_LIVES_TRIGGER = """
    CREATE CONSTRAINT TRIGGER tasks_task_list_lives
    AFTER INSERT OR UPDATE OF list_id, user_id, deleted_at ON tasks_task
    FOR EACH ROW WHEN (NEW.list_id IS NOT NULL AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION tasks_task_list_lives()
"""

# On the way out of the trash, to the inbox if the list is still there. By its name it runs behind
# what stamps, and so under the clock.
ADD_TO_INBOX = """
    CREATE FUNCTION tasks_task_to_inbox() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM tasks_list
             WHERE user_id = NEW.user_id AND id = NEW.list_id AND deleted_at IS NOT NULL
        ) THEN
            NEW.list_id := NULL;
        END IF;
        RETURN NEW;
    END
    $$
"""
ADD_TO_INBOX_TRIGGER = """
    CREATE TRIGGER tasks_task_to_inbox
    BEFORE UPDATE OF deleted_at ON tasks_task
    FOR EACH ROW WHEN (
        OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL AND NEW.list_id IS NOT NULL
    )
    EXECUTE FUNCTION tasks_task_to_inbox()
"""

# A list goes into the trash and comes back with its tasks, all of one version. Those that went with
# it have its deleted_at, to the microsecond: another column would have to be kept in step by
# whoever writes, and a version changes where somebody edits what lies in the trash.
ADD_WITH_TASKS = """
    CREATE FUNCTION tasks_list_with_tasks() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        WITH taken AS (
            UPDATE tasks_task SET deleted_at = NEW.deleted_at, version = NEW.version
             WHERE user_id = NEW.user_id AND list_id = NEW.id
               AND deleted_at IS NOT DISTINCT FROM OLD.deleted_at
            RETURNING user_id, version, id
        )
        INSERT INTO todo_project_change (user_id, version, type, id)
        SELECT user_id, version, 'task', id FROM taken
        ON CONFLICT DO NOTHING; -- once for each transaction
        RETURN NULL;
    END
    $$
"""
ADD_WITH_TASKS_TRIGGER = """
    CREATE TRIGGER tasks_list_with_tasks
    AFTER UPDATE OF deleted_at ON tasks_list
    FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
    EXECUTE FUNCTION tasks_list_with_tasks()
"""

# The foreign key deletes the tasks with their list; but not those that were trashed by themselves,
# which can still be restored. Of a person who goes nothing is kept.
ADD_SPARE = """
    CREATE FUNCTION tasks_list_spare() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM accounts_user WHERE id = OLD.user_id) THEN
            UPDATE tasks_task SET list_id = NULL
             WHERE user_id = OLD.user_id AND list_id = OLD.id
               AND deleted_at IS NOT NULL AND deleted_at IS DISTINCT FROM OLD.deleted_at;
        END IF;
        RETURN OLD;
    END
    $$
"""
ADD_SPARE_TRIGGER = """
    CREATE TRIGGER tasks_list_spare BEFORE DELETE ON tasks_list
    FOR EACH ROW EXECUTE FUNCTION tasks_list_spare()
"""


class Migration(migrations.Migration):
    """What keeps tasks and their lists together, whoever writes."""

    dependencies = [("tasks", "0015_list_and_position")]

    operations = [
        migrations.RunSQL(
            ADD_KEY, reverse_sql="ALTER TABLE tasks_task DROP CONSTRAINT tasks_task_list_fk"
        ),
        migrations.RunSQL(ADD_LIVES, reverse_sql="DROP FUNCTION tasks_task_list_lives()"),
        migrations.RunSQL(
            ADD_LIVES_TRIGGER, reverse_sql="DROP TRIGGER tasks_task_list_lives ON tasks_task"
        ),
        migrations.RunSQL(ADD_TO_INBOX, reverse_sql="DROP FUNCTION tasks_task_to_inbox()"),
        migrations.RunSQL(
            ADD_TO_INBOX_TRIGGER, reverse_sql="DROP TRIGGER tasks_task_to_inbox ON tasks_task"
        ),
        migrations.RunSQL(ADD_WITH_TASKS, reverse_sql="DROP FUNCTION tasks_list_with_tasks()"),
        migrations.RunSQL(
            ADD_WITH_TASKS_TRIGGER, reverse_sql="DROP TRIGGER tasks_list_with_tasks ON tasks_list"
        ),
        migrations.RunSQL(ADD_SPARE, reverse_sql="DROP FUNCTION tasks_list_spare()"),
        migrations.RunSQL(
            ADD_SPARE_TRIGGER, reverse_sql="DROP TRIGGER tasks_list_spare ON tasks_list"
        ),
    ]
