from django.db import migrations

# A text between two others, by code point: `low` may be empty, both are of hexadecimal digits, and
# it never ends with 0, so that there is room before it. None where there is no text between them.
# The middle of a gap takes a digit more every fourth time that the gap is halved.
ADD_BETWEEN = """
    CREATE FUNCTION tasks_position_between(low text, high text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE AS $$
    DECLARE
        digits constant text := '0123456789abcdef';
        found text := '';
        at integer := 1;
        is_below boolean := false; -- what is found is less than `high` already, whatever follows
        lower_digit integer;
        upper_digit integer;
    BEGIN
        LOOP
            IF NOT is_below AND at > length(high) THEN
                RETURN NULL;
            END IF;
            lower_digit := greatest(strpos(digits, nullif(substr(low, at, 1), '')) - 1, 0);
            upper_digit := CASE WHEN is_below THEN 16
                                ELSE strpos(digits, substr(high, at, 1)) - 1 END;
            IF upper_digit - lower_digit > 1 THEN
                RETURN found || substr(digits, (lower_digit + upper_digit) / 2 + 1, 1);
            END IF;
            IF upper_digit < lower_digit THEN
                RETURN NULL;
            END IF;
            found := found || substr(digits, lower_digit + 1, 1);
            is_below := is_below OR upper_digit > lower_digit;
            at := at + 1;
        END LOOP;
    END
    $$
"""

# Where a task comes to be that is moved. Its queries see what others did while the writer waited
# for the clock. Without a neighbour it comes last; where it is already, it stays. Siblings are asked
# for by what their index begins with, which a condition of all cases would not use; and sorted by it,
# for the planner doesn't see that a column that IS NULL has one value alone.
ADD_GOAL = """
    CREATE FUNCTION tasks_goal(
        owner uuid, task_id uuid, clock_version bigint,
        names_list boolean, new_list_id uuid, names_parent boolean, new_parent_id uuid,
        neighbour_id uuid, is_before boolean, is_admitted boolean
    ) RETURNS TABLE (list_id uuid, parent_id uuid, place text)
    LANGUAGE plpgsql AS $$
    DECLARE
        position_max constant integer := 64;
        task record;
        neighbour record;
        next_one record;
        siblings text;
        key text;
        sql text := 'SELECT id, position FROM tasks_task
                      WHERE user_id = $1 AND deleted_at IS NULL AND %s AND %s
                        AND NOT (position = $4 AND completed_at IS NOT NULL)
                      ORDER BY %s %4$s, position %4$s, id %4$s LIMIT 1';
    BEGIN
        SELECT moved.list_id, moved.parent_id, moved.position INTO task FROM tasks_task AS moved
         WHERE moved.user_id = owner AND moved.id = task_id AND moved.deleted_at IS NULL;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        IF neighbour_id IS NOT NULL THEN
            SELECT beside.list_id, beside.parent_id, beside.position INTO neighbour
              FROM tasks_task AS beside
             WHERE beside.user_id = owner AND beside.id = neighbour_id
               AND beside.id <> task_id AND beside.deleted_at IS NULL;
            IF NOT FOUND THEN
                PERFORM tasks_refuse(CASE WHEN is_before THEN 'tasks_task_before'
                                          ELSE 'tasks_task_after' END);
            END IF;
            list_id := neighbour.list_id;
            parent_id := neighbour.parent_id;
            IF names_list AND list_id IS DISTINCT FROM new_list_id
               OR names_parent AND parent_id IS DISTINCT FROM new_parent_id THEN
                PERFORM tasks_refuse(CASE WHEN is_before THEN 'tasks_task_before_there'
                                          ELSE 'tasks_task_after_there' END);
            END IF;
        ELSIF names_parent AND new_parent_id IS NOT NULL THEN
            parent_id := new_parent_id;
            SELECT above.list_id INTO list_id FROM tasks_task AS above
             WHERE above.user_id = owner AND above.id = new_parent_id
               AND above.deleted_at IS NULL;
            IF NOT FOUND THEN
                PERFORM tasks_refuse('tasks_task_parent_lives');
            END IF;
            IF names_list AND list_id IS DISTINCT FROM new_list_id THEN
                PERFORM tasks_refuse('tasks_task_parent_list');
            END IF;
        ELSE
            list_id := CASE WHEN names_list THEN new_list_id ELSE task.list_id END;
            parent_id := CASE WHEN NOT names_list AND NOT names_parent THEN task.parent_id END;
        END IF;
        siblings := CASE WHEN parent_id IS NOT NULL THEN 'parent_id = $3'
                         WHEN list_id IS NULL THEN 'parent_id IS NULL AND list_id IS NULL'
                         ELSE 'parent_id IS NULL AND list_id = $2' END;
        key := CASE WHEN parent_id IS NOT NULL THEN 'parent_id' ELSE 'list_id' END;
        IF neighbour_id IS NULL THEN
            EXECUTE format(sql, siblings, 'true', key, 'DESC') INTO next_one
              USING owner, list_id, parent_id, '';
        ELSIF is_before THEN
            EXECUTE format(sql, siblings, '(position, id) < ($4, $5)', key, 'DESC') INTO next_one
              USING owner, list_id, parent_id, neighbour.position, neighbour_id;
        ELSE
            EXECUTE format(sql, siblings, '(position, id) > ($4, $5)', key, 'ASC') INTO next_one
              USING owner, list_id, parent_id, neighbour.position, neighbour_id;
        END IF;
        IF next_one.id = task_id THEN -- it is there already
            place := task.position;
            RETURN NEXT;
            RETURN;
        ELSIF neighbour_id IS NULL OR next_one.id IS NULL AND NOT is_before THEN
            place := lpad(to_hex(clock_version), 12, '0');
        ELSIF is_before THEN
            place := tasks_position_between(coalesce(next_one.position, ''), neighbour.position);
        ELSE
            place := tasks_position_between(neighbour.position, next_one.position);
        END IF;
        IF is_admitted AND (place IS NULL OR length(place) > position_max) THEN
            PERFORM tasks_refuse('tasks_task_room');
        END IF;
        RETURN NEXT;
    END
    $$
"""


# The next day of a task that is skipped.
ADD_SKIPPED_TO = """
    CREATE FUNCTION tasks_skipped_to(recurrence text, completed_at timestamptz, upcoming date[])
    RETURNS date
    LANGUAGE plpgsql AS $$
    BEGIN
        IF recurrence IS NULL OR completed_at IS NOT NULL THEN
            PERFORM tasks_refuse('tasks_task_recurs');
        END IF;
        IF upcoming[1] IS NULL THEN
            PERFORM tasks_refuse('tasks_task_reckoned');
        END IF;
        IF upcoming[1] = '9999-12-31' THEN
            PERFORM tasks_refuse('tasks_task_last');
        END IF;
        RETURN upcoming[1];
    END
    $$
"""


class Migration(migrations.Migration):
    """Finds where a task comes to be that is moved, and when one is due that is skipped."""

    dependencies = [("tasks", "0027_recurrence")]

    operations = [
        migrations.RunSQL(
            ADD_SKIPPED_TO,
            reverse_sql="DROP FUNCTION tasks_skipped_to(text, timestamptz, date[])",
        ),
        migrations.RunSQL(
            ADD_BETWEEN, reverse_sql="DROP FUNCTION tasks_position_between(text, text)"
        ),
        migrations.RunSQL(
            ADD_GOAL,
            reverse_sql="DROP FUNCTION tasks_goal("
            "uuid, uuid, bigint, boolean, uuid, boolean, uuid, uuid, boolean, boolean)",
        ),
    ]
