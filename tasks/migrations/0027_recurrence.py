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

# A UUIDv7, as the application makes them: PostgreSQL has none before 18. A random one of version 4,
# with the time in milliseconds in its first 48 bits, and the version's two bits more.
ADD_NEW_ID = """
    CREATE FUNCTION tasks_new_id() RETURNS uuid
    LANGUAGE sql VOLATILE AS $$
        SELECT encode(set_bit(set_bit(
                   overlay(uuid_send(gen_random_uuid()) PLACING
                           substring(int8send(floor(
                               extract(epoch FROM clock_timestamp()) * 1000
                           )::bigint) FROM 3) FROM 1 FOR 6),
                   52, 1), 53, 1), 'hex')::uuid
    $$
"""

# A new rule begins a series. Its days are reckoned by the application (tasks.recurring), which
# sends them along and says of what they are: the rule, and the day from which it counts. Days of
# anything else aren't taken; without any they are reckoned when they are needed. By its name it
# runs before what completes.
ADD_SERIES = """
    CREATE FUNCTION tasks_task_series() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        is_new boolean := TG_OP = 'INSERT' OR NEW.recurrence IS DISTINCT FROM OLD.recurrence;
        is_completion boolean := TG_OP = 'UPDATE' AND OLD.completed_at IS NULL
                                 AND NEW.completed_at IS NOT NULL;
    BEGIN
        IF NEW.recurrence IS NULL OR NEW.due_on IS NULL THEN -- the latter is refused by a rule
            NEW.series_id := NULL;
            NEW.series_start_on := NULL;
            NEW.occurrence_on := NULL;
            NEW.upcoming := NULL;
            NEW.upcoming_of := NULL;
            RETURN NEW;
        END IF;
        IF is_new THEN
            NEW.series_id := NEW.id;
            IF EXISTS (
                SELECT FROM tasks_task
                 WHERE user_id = NEW.user_id AND series_id = NEW.id AND id <> NEW.id
            ) THEN -- those of the series that it began before keep that name
                NEW.series_id := tasks_new_id();
            END IF;
            NEW.series_start_on := NEW.due_on;
            NEW.occurrence_on := NEW.due_on;
            IF TG_OP = 'UPDATE' AND OLD.completed_at IS NULL THEN
                NEW.next_task_id := NULL; -- of the other series
            END IF;
        END IF;
        IF NEW.upcoming_of = tasks_days_of(NEW.recurrence, 'from', NEW.series_start_on)
           OR is_completion AND starts_with(NEW.upcoming_of, NEW.recurrence || ' completed ') THEN
            RETURN NEW;
        END IF;
        IF NOT is_new THEN
            NEW.upcoming := OLD.upcoming;
            NEW.upcoming_of := OLD.upcoming_of;
        ELSIF NEW.upcoming_of IS NULL OR TG_OP = 'UPDATE' AND NEW.upcoming_of = OLD.upcoming_of THEN
            NEW.upcoming := NULL;
            NEW.upcoming_of := NULL;
        ELSE
            PERFORM tasks_refuse('tasks_task_reckoned');
        END IF;
        RETURN NEW;
    END
    $$
"""
# What `upcoming` are the days of.
ADD_DAYS_OF = """
    CREATE FUNCTION tasks_days_of(rule text, since text, day date) RETURNS text
    LANGUAGE sql STABLE
    BEGIN ATOMIC
        SELECT rule || ' ' || since || ' ' || to_char(day, 'YYYY-MM-DD');
    END
"""
ADD_SERIES_INSERT_TRIGGER = """
    CREATE TRIGGER tasks_task_series_insert BEFORE INSERT ON tasks_task
    FOR EACH ROW WHEN (NEW.recurrence IS NOT NULL AND NEW.series_id IS NULL)
    EXECUTE FUNCTION tasks_task_series()
"""
ADD_SERIES_UPDATE_TRIGGER = """
    CREATE TRIGGER tasks_task_series_update
    BEFORE UPDATE OF recurrence, upcoming, upcoming_of ON tasks_task
    FOR EACH ROW WHEN (
        ROW(NEW.recurrence, NEW.upcoming, NEW.upcoming_of)
        IS DISTINCT FROM ROW(OLD.recurrence, OLD.upcoming, OLD.upcoming_of)
    )
    EXECUTE FUNCTION tasks_task_series()
"""

# Days are those of the years 1 to 9999, as clients have them.
ADD_SHIFTED = """
    CREATE FUNCTION tasks_shifted(day date, days integer) RETURNS date
    LANGUAGE sql IMMUTABLE
    BEGIN ATOMIC
        SELECT CASE WHEN days < date '0001-01-01' - day THEN date '0001-01-01'
                    WHEN days > date '9999-12-31' - day THEN date '9999-12-31'
                    ELSE day + days END;
    END
"""

# Completing an occurrence makes the next one, by the days that are reckoned, with copies of its
# subtasks; or finds the one that there is for that day. By its name it runs behind what stamps, and
# so under the clock, and with the row's new version.
ADD_NEXT = """
    CREATE FUNCTION tasks_task_succeed() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        never constant date := '9999-12-31';
        copies_max constant integer := 100;
        bytes_max constant integer := 1048576;
        today date := coalesce(
            tasks_day_in(NEW.time_zone, statement_timestamp()),
            NEW.completed_on,
            (statement_timestamp() AT TIME ZONE 'UTC')::date
        );
        counts_from_completion boolean := NEW.repeat_from = 1;
        next_on date;
        moved_by integer;
        copied record;
    BEGIN
        NEW.completed_on := today;
        IF NOT counts_from_completion THEN
            IF NEW.upcoming_of = tasks_days_of(NEW.recurrence, 'from', NEW.series_start_on) THEN
                SELECT min(day) INTO next_on FROM unnest(NEW.upcoming) AS day
                 WHERE day >= today AND day > NEW.occurrence_on;
            END IF;
        ELSIF NEW.upcoming_of = tasks_days_of(NEW.recurrence, 'completed', today) THEN
            next_on := NEW.upcoming[1];
        END IF;
        IF next_on IS NULL THEN
            PERFORM tasks_refuse('tasks_task_reckoned');
        END IF;
        IF next_on <> never THEN
            moved_by := next_on - NEW.due_on;
            INSERT INTO tasks_task (
                id, user_id, title, description, priority, labels,
                due_on, due_time, time_zone, start_on, list_id, parent_id, position,
                recurrence, repeat_from, series_id, occurrence_on,
                series_start_on, upcoming, upcoming_of, version, created_at, updated_at
            ) VALUES (
                tasks_new_id(), NEW.user_id, NEW.title, NEW.description, NEW.priority, NEW.labels,
                next_on, NEW.due_time, NEW.time_zone, tasks_shifted(NEW.start_on, moved_by),
                NEW.list_id, NEW.parent_id, NEW.position,
                NEW.recurrence, NEW.repeat_from, NEW.series_id, next_on,
                CASE WHEN counts_from_completion THEN today ELSE NEW.series_start_on END,
                CASE WHEN NOT counts_from_completion
                     THEN NEW.upcoming[array_position(NEW.upcoming, next_on) + 1:] END,
                CASE WHEN NOT counts_from_completion THEN NEW.upcoming_of END,
                NEW.version, statement_timestamp(), statement_timestamp()
            )
            ON CONFLICT (user_id, series_id, occurrence_on)
                  WHERE series_id IS NOT NULL AND deleted_at IS NULL DO NOTHING
            RETURNING id INTO NEW.next_task_id;
        END IF;
        -- What was sent for this completion may leave out days, and is of no other use.
        NEW.upcoming := CASE WHEN NEW.recurrence = OLD.recurrence THEN OLD.upcoming END;
        NEW.upcoming_of := CASE WHEN NEW.recurrence = OLD.recurrence THEN OLD.upcoming_of END;
        IF next_on = never THEN
            RETURN NEW;
        END IF;
        IF NEW.next_task_id IS NULL THEN
            SELECT id INTO NEW.next_task_id FROM tasks_task
             WHERE user_id = NEW.user_id AND series_id = NEW.series_id
               AND occurrence_on = next_on AND deleted_at IS NULL;
            RETURN NEW;
        END IF;
        INSERT INTO todo_project_change (user_id, version, type, id)
        VALUES (NEW.user_id, NEW.version, 'task', NEW.next_task_id)
        ON CONFLICT DO NOTHING;
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
        ), named AS MATERIALIZED (
            SELECT *, tasks_new_id() AS copy_id,
                   recurrence IS NOT NULL AND completed_at IS NULL AS recurs
              FROM below LIMIT copies_max + 1
        ), copies AS (
            INSERT INTO tasks_task (
                id, user_id, title, description, priority, labels,
                due_on, due_time, time_zone, start_on, list_id, parent_id, position,
                recurrence, repeat_from, series_id, occurrence_on,
                series_start_on, upcoming, upcoming_of, version, created_at, updated_at
            )
            SELECT task.copy_id, task.user_id, task.title, task.description, task.priority,
                   task.labels, tasks_shifted(task.due_on, shift), task.due_time, task.time_zone,
                   tasks_shifted(task.start_on, shift), NEW.list_id,
                   coalesce(parent.copy_id, NEW.next_task_id), task.position,
                   CASE WHEN task.recurs THEN task.recurrence END, task.repeat_from,
                   CASE WHEN task.recurs THEN task.copy_id END,
                   CASE WHEN task.recurs THEN task.occurrence_on END,
                   CASE WHEN task.recurs THEN task.series_start_on END,
                   CASE WHEN task.recurs THEN task.upcoming END,
                   CASE WHEN task.recurs THEN task.upcoming_of END,
                   NEW.version, statement_timestamp(), statement_timestamp()
              FROM named AS task
              LEFT JOIN named AS parent ON parent.id = task.parent_id
             CROSS JOIN LATERAL (
                 SELECT CASE WHEN task.recurs THEN 0 ELSE moved_by END AS shift
             ) AS moved
            RETURNING user_id, version, id, octet_length(description) AS bytes
        ), logged AS (
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, version, 'task', id FROM copies
            ON CONFLICT DO NOTHING
        )
        SELECT count(*) AS rows, coalesce(sum(bytes), 0) AS bytes INTO copied FROM copies;
        IF copied.rows > copies_max OR copied.bytes > bytes_max THEN
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
# By way of the trash, so that its last change is told and stamped as this one; then for good, since
# another completion makes another one, of what the task is by then.
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
            DELETE FROM tasks_task WHERE id = made.id;
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


# What comes out of the trash to a series that has another task for its day by now goes on by itself.
ADD_TO_SERIES = """
    CREATE FUNCTION tasks_task_to_series() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM tasks_task
             WHERE user_id = NEW.user_id AND series_id = NEW.series_id
               AND occurrence_on = NEW.occurrence_on AND deleted_at IS NULL
        ) THEN
            NEW.series_id := tasks_new_id();
        END IF;
        RETURN NEW;
    END
    $$
"""
ADD_TO_SERIES_TRIGGER = """
    CREATE TRIGGER tasks_task_to_series
    BEFORE UPDATE OF deleted_at ON tasks_task
    FOR EACH ROW WHEN (
        OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL AND NEW.series_id IS NOT NULL
    )
    EXECUTE FUNCTION tasks_task_to_series()
"""


def _trigger(name: str, sql: str) -> migrations.RunSQL:
    return migrations.RunSQL(sql, reverse_sql=f"DROP TRIGGER {name} ON tasks_task")


class Migration(migrations.Migration):
    """What keeps a series together, whoever writes."""

    dependencies = [("tasks", "0026_subtasks_are_ones_own")]

    operations = [
        migrations.RunSQL(ADD_DAY_IN, reverse_sql="DROP FUNCTION tasks_day_in(text, timestamptz)"),
        migrations.RunSQL(ADD_NEW_ID, reverse_sql="DROP FUNCTION tasks_new_id()"),
        migrations.RunSQL(ADD_DAYS_OF, reverse_sql="DROP FUNCTION tasks_days_of(text, text, date)"),
        migrations.RunSQL(ADD_SHIFTED, reverse_sql="DROP FUNCTION tasks_shifted(date, integer)"),
        migrations.RunSQL(ADD_SERIES, reverse_sql="DROP FUNCTION tasks_task_series()"),
        _trigger("tasks_task_series_insert", ADD_SERIES_INSERT_TRIGGER),
        _trigger("tasks_task_series_update", ADD_SERIES_UPDATE_TRIGGER),
        migrations.RunSQL(ADD_NEXT, reverse_sql="DROP FUNCTION tasks_task_succeed()"),
        _trigger("tasks_task_succeed", ADD_NEXT_TRIGGER),
        migrations.RunSQL(ADD_TAKE_BACK, reverse_sql="DROP FUNCTION tasks_task_take_back()"),
        _trigger("tasks_task_take_back", ADD_TAKE_BACK_TRIGGER),
        migrations.RunSQL(ADD_TO_SERIES, reverse_sql="DROP FUNCTION tasks_task_to_series()"),
        _trigger("tasks_task_to_series", ADD_TO_SERIES_TRIGGER),
    ]
