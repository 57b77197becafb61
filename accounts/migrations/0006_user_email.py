from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

import accounts.credentials


class Migration(migrations.Migration):
    """Lets people be without an address, and keeps whether mail to it was answered."""

    dependencies = [("accounts", "0005_session_issued_at")]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="email",
            field=models.EmailField(
                blank=True,
                max_length=254,
                null=True,
                validators=[accounts.credentials.validate_mailable],
            ),
        ),
        migrations.AddField(
            model_name="user",
            name="email_verified",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Mail to it was answered.",
                verbose_name="e-mail verified",
            ),
        ),
        migrations.AddField(
            model_name="user",
            name="pending_email",
            field=models.EmailField(blank=True, editable=False, max_length=254, null=True),
        ),
        AddConstraintNotValid(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("email_verified", False), ("email__isnull", False), _connector="OR"
                ),
                name="accounts_user_email_verified",
            ),
        ),
    ]
