from django.db import migrations

# Before an INSERT, when the row is stamped.
ADD_PLACE = """
    CREATE FUNCTION todo_place() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        NEW.position := lpad(to_hex(NEW.version), TG_ARGV[0]::integer, '0');
        RETURN NEW;
    END
    $$
"""


class Migration(migrations.Migration):
    """What places new rows last for those who don't say where. owners.Placed calls it."""

    dependencies = [("todo_project", "0011_stamp_functions")]

    operations = [migrations.RunSQL(ADD_PLACE, reverse_sql="DROP FUNCTION todo_place()")]
