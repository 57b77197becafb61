from django.db import migrations

# Names the rule and no value: the message ends in logs.
ADD_FUNCTION = """
    CREATE FUNCTION todo_refuse() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'new row for relation "%" violates "%"', TG_TABLE_NAME, TG_NAME
        USING ERRCODE = 'check_violation',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
    END
    $$
"""
DROP_FUNCTION = "DROP FUNCTION todo_refuse()"


class Migration(migrations.Migration):
    """Lets constraint triggers refuse rows, as a CHECK does, by their own name.

    For rules that rows from before may break: a trigger asks those that write its column, where a
    CHECK, NOT VALID or not, asks every UPDATE of the row, so that a task whose title breaks one
    could not even be completed. The rule is the trigger's condition; this is called where it holds.
    """

    dependencies = [("todo_project", "0002_rate_counter_unlogged")]

    operations = [migrations.RunSQL(ADD_FUNCTION, reverse_sql=DROP_FUNCTION)]
