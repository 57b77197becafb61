from django.db import migrations

# One step for all that a transaction writes of a person's: one each would update the clock's row
# 10,000 times for 10,000 tasks, each time more slowly. By age(xmin) the row was written since this
# transaction began: a restored one may name a transaction of another server by the same number.
ADD_ADVANCE = """
    CREATE FUNCTION todo_advance(owner uuid) RETURNS bigint
    LANGUAGE plpgsql AS $$
    DECLARE
        this_transaction bigint := pg_current_xact_id()::text::bigint;
        reached bigint;
    BEGIN
        SELECT version INTO reached FROM todo_project_clock
         WHERE user_id = owner AND stamped_by = this_transaction AND age(xmin) <= 0;
        IF NOT FOUND THEN
            UPDATE todo_project_clock SET version = version + 1, stamped_by = this_transaction
             WHERE user_id = owner
            RETURNING version INTO reached;
        END IF;
        RETURN reached;
    END
    $$
"""

# Before an INSERT or UPDATE of a row.
ADD_STAMP = """
    CREATE FUNCTION todo_stamp() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        stamped bigint := todo_advance(NEW.user_id);
    BEGIN
        -- Without a clock a person is being made by this very statement, and theirs begins at 1;
        -- or there is none, and the foreign key refuses the row.
        IF stamped IS NULL THEN
            NEW.version := 1;
            RETURN NEW;
        END IF;
        NEW.version := stamped;
        INSERT INTO todo_project_change (user_id, version, type, id)
        VALUES (NEW.user_id, stamped, TG_ARGV[0], NEW.id)
        ON CONFLICT DO NOTHING; -- once for each transaction
        IF TG_OP = 'INSERT' THEN
            DELETE FROM todo_project_purged
             WHERE user_id = NEW.user_id AND type = TG_ARGV[0] AND id = NEW.id;
        ELSIF (NEW.user_id, NEW.id) <> (OLD.user_id, OLD.id) THEN
            stamped := todo_advance(OLD.user_id);
            INSERT INTO todo_project_change (user_id, version, type, id)
            VALUES (OLD.user_id, stamped, TG_ARGV[0], OLD.id)
            ON CONFLICT DO NOTHING;
            INSERT INTO todo_project_purged (user_id, type, id, version)
            VALUES (OLD.user_id, TG_ARGV[0], OLD.id, stamped)
            ON CONFLICT (user_id, type, id) DO UPDATE SET version = excluded.version;
        END IF;
        RETURN NEW;
    END
    $$
"""

# Before an UPDATE by somebody who read the row before its last change, such as Django's save().
ADD_KEEP_VERSION = """
    CREATE FUNCTION todo_keep_version() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        NEW.version := OLD.version;
        RETURN NEW;
    END
    $$
"""

# After a DELETE. People who go themselves are gone already when their rows do. What lay in the
# trash has been told of as deleted, by its last change.
ADD_STAMP_DELETED = """
    CREATE FUNCTION todo_stamp_deleted() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        WITH stamped AS MATERIALIZED (
            SELECT user_id, todo_advance(user_id) AS version
              FROM (
                  SELECT DISTINCT gone.user_id
                    FROM gone JOIN accounts_user AS person ON person.id = gone.user_id
                   WHERE gone.deleted_at IS NULL
                   ORDER BY gone.user_id
              ) AS people
        ), logged AS (
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, stamped.version, TG_ARGV[0], gone.id
              FROM gone JOIN stamped USING (user_id)
             WHERE gone.deleted_at IS NULL
            ON CONFLICT DO NOTHING
        )
        INSERT INTO todo_project_purged (user_id, type, id, version)
        SELECT gone.user_id, TG_ARGV[0], gone.id,
               CASE WHEN gone.deleted_at IS NULL THEN stamped.version ELSE gone.version END
          FROM gone
          JOIN accounts_user AS person ON person.id = gone.user_id
          LEFT JOIN stamped ON stamped.user_id = gone.user_id
        ON CONFLICT (user_id, type, id) DO UPDATE SET version = excluded.version;
        RETURN NULL;
    END
    $$
"""


class Migration(migrations.Migration):
    """What stamps rows for those who write them without stamping. owners.Stamped calls it."""

    dependencies = [("todo_project", "0010_idempotency_key")]

    operations = [
        migrations.RunSQL(ADD_ADVANCE, reverse_sql="DROP FUNCTION todo_advance(uuid)"),
        migrations.RunSQL(ADD_STAMP, reverse_sql="DROP FUNCTION todo_stamp()"),
        migrations.RunSQL(ADD_KEEP_VERSION, reverse_sql="DROP FUNCTION todo_keep_version()"),
        migrations.RunSQL(ADD_STAMP_DELETED, reverse_sql="DROP FUNCTION todo_stamp_deleted()"),
    ]
