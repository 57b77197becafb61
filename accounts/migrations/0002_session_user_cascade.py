from django.conf import settings
from django.db import migrations

ADD_CASCADE = """
    ALTER TABLE accounts_session
    ADD CONSTRAINT accounts_session_user_fk
    FOREIGN KEY (user_id) REFERENCES accounts_user (id) ON DELETE CASCADE
"""
DROP_CASCADE = "ALTER TABLE accounts_session DROP CONSTRAINT accounts_session_user_fk"


class Migration(migrations.Migration):
    """Lets the database delete sessions with their user, which Django 5.2 can't declare."""

    dependencies = [
        ("accounts", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [migrations.RunSQL(ADD_CASCADE, reverse_sql=DROP_CASCADE)]
