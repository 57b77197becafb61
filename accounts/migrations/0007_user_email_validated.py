from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    """Looks through the table for what 0006 asks of each row, without locking anybody out."""

    dependencies = [("accounts", "0006_user_email")]

    operations = [ValidateConstraint(model_name="user", name="accounts_user_email_verified")]
