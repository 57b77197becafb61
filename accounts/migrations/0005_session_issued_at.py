from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """Keeps what it takes to make the tokens of a session's last refresh again.

    One default for all rows there are (PostgreSQL writes none of them); it fits none of their
    tokens, which is noticed. Processes of the release before may go on inserting.
    """

    dependencies = [("accounts", "0004_name_line")]

    operations = [
        migrations.AddField(
            "session", "issued_at", models.DateTimeField(db_default=Now(), editable=False)
        )
    ]
