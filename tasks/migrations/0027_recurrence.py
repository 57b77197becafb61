from django.db import migrations

# The day that it is in a zone of the table; none for another. Where clocks go forward the table has
# the time after the gap, and where they go back the time after the second hour: by the greater one
# of both offsets either is the instant of the change.
ADD_DAY_IN = """
    CREATE FUNCTION tasks_day_in(time_zone text, instant timestamptz) RETURNS date
    LANGUAGE sql STABLE
    BEGIN ATOMIC
        SELECT (instant AT TIME ZONE 'UTC' + utc_offset)::date
          FROM (
              SELECT since, utc_offset,
                     since - greatest(utc_offset, lag(utc_offset) OVER (ORDER BY since)) AS begins
                FROM (
                    SELECT since, utc_offset FROM tasks_zoneoffset
                     WHERE zone = time_zone
                       AND since <= instant AT TIME ZONE 'UTC' + interval '2 days'
                     ORDER BY since DESC
                     LIMIT 4
                ) AS latest
          ) AS offsets
         WHERE begins <= instant AT TIME ZONE 'UTC'
         ORDER BY since DESC
         LIMIT 1;
    END
"""

# A new rule begins a series. Its days are reckoned by the application (tasks.recurring), which
# sends them along; by whoever doesn't, when they are needed. By its name it runs before what
# completes.
ADD_SERIES = """
    CREATE FUNCTION tasks_task_series() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        is_new boolean := TG_OP = 'INSERT';
        reckoned date[] := NEW.upcoming;
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            is_new := NEW.recurrence IS DISTINCT FROM OLD.recurrence;
            IF NEW.upcoming IS NOT DISTINCT FROM OLD.upcoming THEN
                reckoned := NULL;
            END IF;
        END IF;
        IF NEW.recurrence IS NULL OR NEW.due_on IS NULL THEN -- the latter is refused by a rule
            NEW.series_id := NULL;
            NEW.series_start_on := NULL;
            NEW.occurrence_on := NULL;
            NEW.upcoming := NULL;
        ELSIF is_new THEN
            IF reckoned IS NOT NULL AND reckoned[1] IS DISTINCT FROM NEW.due_on THEN
                PERFORM tasks_refuse('tasks_task_reckoned');
            END IF;
            NEW.series_id := NEW.id;
            NEW.series_start_on := NEW.due_on;
            NEW.occurrence_on := NEW.due_on;
            NEW.upcoming := coalesce(reckoned, ARRAY[NEW.due_on]);
        ELSIF NEW.repeat_from <> OLD.repeat_from THEN
            NEW.upcoming := ARRAY[NEW.occurrence_on];
        ELSIF NEW.upcoming[1] IS DISTINCT FROM NEW.occurrence_on THEN -- reckoned from another day
            NEW.upcoming := OLD.upcoming;
        END IF;
        RETURN NEW;
    END
    $$
"""
ADD_SERIES_INSERT_TRIGGER = """
    CREATE TRIGGER tasks_task_series_insert BEFORE INSERT ON tasks_task
    FOR EACH ROW WHEN (NEW.recurrence IS NOT NULL AND NEW.series_id IS NULL)
    EXECUTE FUNCTION tasks_task_series()
"""
ADD_SERIES_UPDATE_TRIGGER = """
    CREATE TRIGGER tasks_task_series_update
    BEFORE UPDATE OF recurrence, repeat_from, upcoming ON tasks_task
    FOR EACH ROW WHEN (
        NEW.recurrence IS DISTINCT FROM OLD.recurrence
        OR NEW.recurrence IS NOT NULL
           AND ROW(NEW.repeat_from, NEW.upcoming[1])
               IS DISTINCT FROM ROW(OLD.repeat_from, NEW.occurrence_on)
    )
    EXECUTE FUNCTION tasks_task_series()
"""

# Completing an occurrence makes the next one, by the days that are reckoned, with copies of its
# subtasks; or finds the one that there is for that day, in the trash as well. By its name it runs
# behind what stamps, and so under the clock, and with the row's new version.
ADD_NEXT = """
    CREATE FUNCTION tasks_task_succeed() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        never constant date := '9999-12-31';
        copies_max constant integer := 500;
        today date := coalesce(
            tasks_day_in(NEW.time_zone, statement_timestamp()),
            NEW.completed_on,
            (statement_timestamp() AT TIME ZONE 'UTC')::date
        );
        next_on date;
        moved_by integer;
        copied integer;
        counts_from_completion boolean := NEW.repeat_from = 1;
    BEGIN
        NEW.completed_on := today;
        IF counts_from_completion THEN
            -- reckoned for this completion: the occurrence, today, the next one
            IF NEW.upcoming[2] = today THEN
                next_on := NEW.upcoming[3];
            END IF;
        ELSE
            SELECT min(day) INTO next_on FROM unnest(NEW.upcoming[2:]) AS day WHERE day >= today;
        END IF;
        IF next_on IS NULL THEN
            PERFORM tasks_refuse('tasks_task_reckoned');
        END IF;
        IF counts_from_completion THEN -- holds for this completion alone
            NEW.upcoming := ARRAY[NEW.occurrence_on];
        END IF;
        IF next_on = never THEN
            RETURN NEW;
        END IF;
        moved_by := next_on - NEW.due_on;
        INSERT INTO tasks_task (
            id, user_id, title, description, priority, labels,
            due_on, due_time, time_zone, start_on, list_id, parent_id, position,
            recurrence, repeat_from, series_id, occurrence_on,
            series_start_on, upcoming, version, created_at, updated_at
        ) VALUES (
            gen_random_uuid(), NEW.user_id, NEW.title, NEW.description, NEW.priority, NEW.labels,
            next_on, NEW.due_time, NEW.time_zone, NEW.start_on + moved_by,
            NEW.list_id, NEW.parent_id, NEW.position,
            NEW.recurrence, NEW.repeat_from, NEW.series_id, next_on,
            CASE WHEN counts_from_completion THEN today ELSE NEW.series_start_on END,
            CASE WHEN counts_from_completion THEN ARRAY[next_on]
                 ELSE NEW.upcoming[array_position(NEW.upcoming, next_on):] END,
            NEW.version, statement_timestamp(), statement_timestamp()
        )
        ON CONFLICT (series_id, occurrence_on) WHERE series_id IS NOT NULL DO NOTHING
        RETURNING id INTO NEW.next_task_id;
        IF NOT FOUND THEN
            SELECT id INTO NEW.next_task_id FROM tasks_task
             WHERE series_id = NEW.series_id AND occurrence_on = next_on;
            -- one that was taken back comes again, with what went with it
            WITH revived AS (
                UPDATE tasks_task SET deleted_at = NULL, version = NEW.version
                 WHERE id = NEW.next_task_id AND deleted_at IS NOT NULL
                RETURNING user_id, version, id
            )
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, version, 'task', id FROM revived
            ON CONFLICT DO NOTHING;
            RETURN NEW;
        END IF;
        INSERT INTO todo_project_change (user_id, version, type, id)
        VALUES (NEW.user_id, NEW.version, 'task', NEW.next_task_id);
        -- A subtask that has a next occurrence itself is history. One that recurs keeps its days.
        WITH RECURSIVE below AS (
            SELECT task.*, 1 AS level FROM tasks_task AS task
             WHERE task.user_id = NEW.user_id AND task.parent_id = NEW.id
               AND task.deleted_at IS NULL AND task.next_task_id IS NULL
            UNION ALL
            SELECT task.*, level + 1
              FROM below JOIN tasks_task AS task ON task.parent_id = below.id
             WHERE task.user_id = NEW.user_id AND task.deleted_at IS NULL
               AND task.next_task_id IS NULL AND level < 5
        ), bounded AS (
            SELECT * FROM below LIMIT copies_max + 1
        ), named AS MATERIALIZED (
            SELECT *, gen_random_uuid() AS copy_id FROM bounded
        ), copies AS (
            INSERT INTO tasks_task (
                id, user_id, title, description, priority, labels,
                due_on, due_time, time_zone, start_on, list_id, parent_id, position,
                recurrence, repeat_from, series_id, occurrence_on,
                series_start_on, upcoming, version, created_at, updated_at
            )
            SELECT task.copy_id, task.user_id, task.title, task.description, task.priority,
                   task.labels, task.due_on + shift, task.due_time, task.time_zone,
                   task.start_on + shift, task.list_id, coalesce(parent.copy_id, NEW.next_task_id),
                   task.position, task.recurrence, task.repeat_from,
                   CASE WHEN task.series_id IS NOT NULL THEN task.copy_id END, task.occurrence_on,
                   task.series_start_on, task.upcoming,
                   NEW.version, statement_timestamp(), statement_timestamp()
              FROM named AS task
              LEFT JOIN named AS parent ON parent.id = task.parent_id
             CROSS JOIN LATERAL (
                 SELECT CASE WHEN task.recurrence IS NULL THEN moved_by ELSE 0 END AS shift
             ) AS moved
            RETURNING user_id, version, id
        ), logged AS (
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, version, 'task', id FROM copies
        )
        SELECT count(*) INTO copied FROM copies;
        IF copied > copies_max THEN
            PERFORM tasks_refuse('tasks_task_copies');
        END IF;
        RETURN NEW;
    END
    $$
"""
ADD_NEXT_TRIGGER = """
    CREATE TRIGGER tasks_task_succeed
    BEFORE UPDATE OF completed_at ON tasks_task
    FOR EACH ROW WHEN (
        OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL AND NEW.recurrence IS NOT NULL
        AND NEW.next_task_id IS NULL AND NEW.deleted_at IS NULL
    )
    EXECUTE FUNCTION tasks_task_succeed()
"""

# Reopening takes the next occurrence back, while nobody has touched it or what it was made with.
# Into the trash: from there another completion brings it back.
ADD_TAKE_BACK = """
    CREATE FUNCTION tasks_task_take_back() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        made record;
        is_touched boolean;
    BEGIN
        NEW.completed_on := NULL;
        IF NEW.next_task_id IS NULL THEN
            RETURN NEW;
        END IF;
        SELECT id, created_at INTO made FROM tasks_task
         WHERE user_id = NEW.user_id AND id = NEW.next_task_id AND deleted_at IS NULL;
        IF NOT FOUND THEN
            NEW.next_task_id := NULL;
            RETURN NEW;
        END IF;
        WITH RECURSIVE family AS (
            SELECT id, created_at, updated_at, completed_at, deleted_at
              FROM tasks_task WHERE id = made.id
            UNION ALL
            SELECT task.id, task.created_at, task.updated_at, task.completed_at, task.deleted_at
              FROM family JOIN tasks_task AS task ON task.parent_id = family.id
             WHERE task.user_id = NEW.user_id
        )
        SELECT bool_or(
                   updated_at <> made.created_at OR created_at <> made.created_at
                   OR completed_at IS NOT NULL OR deleted_at IS NOT NULL
               ) INTO is_touched
          FROM family;
        IF NOT is_touched THEN
            WITH taken AS (
                UPDATE tasks_task SET deleted_at = statement_timestamp(), version = NEW.version
                 WHERE id = made.id
                RETURNING user_id, version, id
            )
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, version, 'task', id FROM taken
            ON CONFLICT DO NOTHING;
            NEW.next_task_id := NULL;
        END IF;
        RETURN NEW;
    END
    $$
"""
ADD_TAKE_BACK_TRIGGER = """
    CREATE TRIGGER tasks_task_take_back
    BEFORE UPDATE OF completed_at ON tasks_task
    FOR EACH ROW WHEN (
        OLD.completed_at IS NOT NULL AND NEW.completed_at IS NULL
        AND (OLD.next_task_id IS NOT NULL OR NEW.completed_on IS NOT NULL)
        AND NEW.deleted_at IS NULL
    )
    EXECUTE FUNCTION tasks_task_take_back()
"""


def _trigger(name: str, sql: str) -> migrations.RunSQL:
    return migrations.RunSQL(sql, reverse_sql=f"DROP TRIGGER {name} ON tasks_task")


class Migration(migrations.Migration):
    """What keeps a series together, whoever writes."""

    dependencies = [("tasks", "0026_subtasks_are_ones_own")]

    operations = [
        migrations.RunSQL(ADD_DAY_IN, reverse_sql="DROP FUNCTION tasks_day_in(text, timestamptz)"),
        migrations.RunSQL(ADD_SERIES, reverse_sql="DROP FUNCTION tasks_task_series()"),
        _trigger("tasks_task_series_insert", ADD_SERIES_INSERT_TRIGGER),
        _trigger("tasks_task_series_update", ADD_SERIES_UPDATE_TRIGGER),
        migrations.RunSQL(ADD_NEXT, reverse_sql="DROP FUNCTION tasks_task_succeed()"),
        _trigger("tasks_task_succeed", ADD_NEXT_TRIGGER),
        migrations.RunSQL(ADD_TAKE_BACK, reverse_sql="DROP FUNCTION tasks_task_take_back()"),
        _trigger("tasks_task_take_back", ADD_TAKE_BACK_TRIGGER),
    ]
