"""A demo account with a believable list of tasks, to look at the API with."""

import json
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from tasks.models import Task
from todo_project import development

from .seed_load import id_made_at

EMAIL = "demo@example.com"

SIGN_IN = """\
Sign in as {email}:

  ACCESS=$(curl -s {base}/api/auth/token -H 'Content-Type: application/json' \\
    -d '{credentials}' \\
    | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["access"])')

See the open tasks:

  curl -s "{base}/api/me/tasks?is_completed=false" -H "Authorization: Bearer $ACCESS"
"""


class Sample(NamedTuple):
    """A task; the numbers are days before now."""

    created: float
    title: str
    description: str | None = None
    completed: float | None = None
    edited: float | None = None

    def as_task(self, owner: Any, now: datetime) -> Task:
        def ago(days: float) -> datetime:
            return now - timedelta(days=days)

        created_at = ago(self.created)
        last_changes = [days for days in (self.completed, self.edited) if days is not None]
        return Task(
            id=id_made_at(created_at),
            user=owner,
            title=self.title,
            description=self.description,
            completed_at=None if self.completed is None else ago(self.completed),
            created_at=created_at,
            updated_at=ago(min(last_changes, default=self.created)),
        )


SAMPLES = (
    Sample(41.3, "Renew the passport", "Photos are in the drawer. Costs 70 €.", completed=12.4),
    Sample(39.8, "Read “The Pragmatic Programmer”", edited=9.2),
    Sample(36.1, "Cancel the gym membership", "Notice period: one month.", completed=35.9),
    Sample(33.6, "Book flights to Lisbon", "TAP or easyJet; not before 9:00.", completed=28.7),
    Sample(31.2, "Back up the photos", completed=3.1),
    Sample(29.5, "Plan Zoë's birthday 🎂", "- cake\n- balloons\n- ask Jürgen for the projector"),
    Sample(27.9, "Return the library books", completed=26.3),
    Sample(25.4, "Learn the chords of “Blackbird”"),
    Sample(23.7, "Pay the electricity bill", "Invoice 2291-B, 84.10 €.", completed=22.9),
    Sample(21.8, "Fix the dripping tap", 'Needs a 1/2" washer, see the photo.', edited=6.5),
    Sample(20.2, "Migrate the blog to the new host", completed=14.8),
    Sample(18.6, "Write the quarterly report", "Numbers from Priya by Thursday.", completed=16.1),
    Sample(16.3, "Donate old clothes"),
    Sample(14.9, "Call the dentist", "Only mornings: +49 30 901820", completed=14.2),
    Sample(13.1, "Compare health insurances", "Deductible, dental, abroad. Ask Anna first."),
    Sample(11.7, "Order a birthday present", completed=10.5),
    Sample(10.2, "Prepare slides for the team meeting", "10 minutes, three charts.", edited=8.8),
    Sample(8.4, "Water the plants at Mia's", completed=7.9),
    Sample(7.3, "Update the CV"),
    Sample(6.1, "Review Ben's pull request", "The pagination one.", completed=5.6),
    Sample(4.8, "Buy winter tyres", "205/55 R16"),
    Sample(3.5, "Reply to the landlord", edited=1.2),
    Sample(2.2, "Groceries", "Milk, oats, coffee, lemons,\nsomething for Sunday", completed=1.9),
    Sample(1.1, "Try the new ramen place"),
    Sample(0.3, "Sort this list"),
)


class Command(BaseCommand):
    help = (
        f"Makes {EMAIL} with {len(SAMPLES)} tasks of the past weeks and prints how to sign in. "
        "Run again, it leaves what is there: tasks are only added where there are none. The "
        "password follows from SECRET_KEY; one that was changed is set back, which ends sessions."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        password = _password()
        self.stdout.write(f"{_seed(password)}\n")
        self.stdout.write(
            SIGN_IN.format(
                email=EMAIL,
                base=development.server(default_port=settings.PORT),
                credentials=json.dumps({"email": EMAIL, "password": password}),
            )
        )


def _password() -> str:
    """The same in each run, so that nobody is signed out; another in each installation."""
    digest = salted_hmac(__name__, EMAIL, algorithm="sha256").digest()
    return urlsafe_b64encode(digest[:12]).decode()


@transaction.atomic
def _seed(password: str) -> str:
    """Returns what was done, in words."""
    user_model = get_user_model()
    try:
        user = user_model.objects.get_by_natural_key(EMAIL)
    except user_model.DoesNotExist:
        user = user_model.objects.create_user(
            email=EMAIL, password=password, name="Demo", email_verified=True
        )
        done = f"Made {EMAIL}."
    else:
        if not user.is_active:
            raise CommandError(f"{EMAIL} is deactivated. Activate it in admin, and run this again.")
        done = f"{EMAIL} was there."
        if not user.check_password(password):
            user.set_password(password)
            user.save(update_fields=["password"])
            done += " Set its password back, and ended its sessions."
    if Task.objects.owned_by(user.pk).exists():
        return f"{done} Left its tasks as they are."
    now = timezone.now()
    Task.objects.bulk_create(sample.as_task(user, now) for sample in SAMPLES)
    return f"{done} Added {len(SAMPLES)} tasks."
