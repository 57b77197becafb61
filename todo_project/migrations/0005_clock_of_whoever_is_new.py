from django.db import migrations

ADD_FUNCTION = """
    CREATE FUNCTION todo_make_clocks() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO todo_project_clock (user_id) SELECT id FROM made;
        RETURN NULL;
    END
    $$
"""
DROP_FUNCTION = "DROP FUNCTION todo_make_clocks()"
ADD_TRIGGER = """
    CREATE TRIGGER accounts_user_clock AFTER INSERT ON accounts_user
    REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION todo_make_clocks()
"""
DROP_TRIGGER = "DROP TRIGGER accounts_user_clock ON accounts_user"


class Migration(migrations.Migration):
    """A clock for whoever comes, however they are inserted."""

    dependencies = [("todo_project", "0004_clock")]

    operations = [
        migrations.RunSQL(ADD_FUNCTION, reverse_sql=DROP_FUNCTION),
        migrations.RunSQL(ADD_TRIGGER, reverse_sql=DROP_TRIGGER),
    ]
