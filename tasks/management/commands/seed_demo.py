"""A demo account with a believable life in tasks, to look at the API with."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from tasks.models import PRIORITIES, Task, TaskList
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
    """A task; `due` and `start` are days from today, the other numbers days before now."""

    created: float
    title: str
    description: str | None = None
    completed: float | None = None
    edited: float | None = None
    priority: str = "none"
    labels: tuple[str, ...] = ()
    due: int | None = None
    at: time | None = None
    zone: str | None = None
    start: int | None = None
    of: str | None = None  # the title of the task of which it is a part

    def as_task(self, owner: Any, now: datetime, **fields: Any) -> Task:
        def ago(days: float) -> datetime:
            return now - timedelta(days=days)

        def day(days: int | None) -> date | None:
            return None if days is None else now.date() + timedelta(days=days)

        created_at = ago(self.created)
        last_changes = [days for days in (self.completed, self.edited) if days is not None]
        return Task(
            id=id_made_at(created_at),
            user=owner,
            title=self.title,
            description=self.description,
            completed_at=None if self.completed is None else ago(self.completed),
            priority=PRIORITIES.index(self.priority),
            labels=[*self.labels],
            due_on=day(self.due),
            due_time=self.at,
            time_zone=self.zone,
            start_on=day(self.start),
            created_at=created_at,
            updated_at=ago(min(last_changes, default=self.created)),
            **fields,
        )


BERLIN, LISBON = "Europe/Berlin", "Europe/Lisbon"
PARTY = "Plan Zoë's birthday 🎂"
REPORT = "Write the quarterly report"

# By the list in which they are; under None is the inbox.
SAMPLES: Mapping[str | None, Sequence[Sample]] = {
    "Home": (
        Sample(41.3, "Renew the passport", "Photos are in the drawer. Costs 70 €.", completed=12.4),
        Sample(36.1, "Cancel the gym membership", "Notice period: one month.", completed=35.9),
        Sample(31.2, "Back up the photos", completed=3.1, labels=("computer",)),
        Sample(
            29.5, PARTY, "Sixteen people, if all come.", priority="high", labels=("family",), due=9
        ),
        Sample(28.9, "Ask Jürgen for the projector", completed=20.6, labels=("calls",), of=PARTY),
        Sample(28.8, "Order the cake", "Lemon, no nuts.", due=4, of=PARTY, labels=("errands",)),
        Sample(28.7, "Balloons", of=PARTY, labels=("errands",)),
        Sample(
            23.7,
            "Pay the electricity bill",
            "Invoice 2291-B, 84.10 €.",
            completed=22.9,
            labels=("money",),
            due=-20,
        ),
        Sample(
            21.8, "Fix the dripping tap", 'Needs a 1/2" washer, see the photo.', edited=6.5, due=-2
        ),
        Sample(
            13.1,
            "Compare health insurances",
            "Deductible, dental, abroad. Ask Anna first.",
            priority="low",
            labels=("money",),
            start=3,
            due=24,
        ),
        Sample(8.4, "Water the plants at Mia's", completed=7.9, labels=("errands",)),
        Sample(
            4.8,
            "Buy winter tyres",
            "205/55 R16",
            priority="medium",
            labels=("car", "errands"),
            due=6,
        ),
        Sample(3.5, "Reply to the landlord", edited=1.2, priority="urgent", due=-1),
    ),
    "Work": (
        Sample(20.2, "Migrate the blog to the new host", completed=14.8, labels=("computer",)),
        Sample(18.6, REPORT, "Numbers from Priya by Thursday.", priority="high", due=2),
        Sample(18.5, "Collect the numbers", completed=16.1, of=REPORT),
        Sample(18.4, "Draw the charts", edited=5.9, labels=("computer",), due=1, of=REPORT),
        Sample(
            10.2,
            "Prepare slides for the team meeting",
            "10 minutes, three charts.",
            edited=8.8,
            priority="high",
            due=0,
            at=time(17),
        ),
        Sample(6.1, "Review Ben's pull request", "The pagination one.", completed=5.6),
        Sample(
            1.6,
            "Call with the team in Lisbon",
            priority="medium",
            labels=("calls",),
            due=0,
            at=time(15, 30),
            zone=LISBON,
        ),
    ),
    "Trip to Lisbon": (
        Sample(33.6, "Book flights", "TAP or easyJet; not before 9:00.", completed=28.7),
        Sample(15.8, "Reserve a table for Saturday", labels=("calls",), due=12, at=time(20)),
        Sample(
            15.7,
            "Check in online",
            "Opens 36 hours before.",
            labels=("computer",),
            start=10,
            due=11,
            at=time(9, 40),
            zone=BERLIN,
        ),
    ),
    None: (
        Sample(39.8, "Read “The Pragmatic Programmer”", edited=9.2, priority="low"),
        Sample(25.4, "Learn the chords of “Blackbird”", labels=("someday",)),
        Sample(
            14.9,
            "Call the dentist",
            "Only mornings: +49 30 901820",
            labels=("calls", "health"),
            due=1,
            at=time(8, 30),
            zone=BERLIN,
        ),
        Sample(11.7, "Order a birthday present", completed=10.5, labels=("family",)),
        Sample(7.3, "Update the CV", priority="low", labels=("someday",)),
        Sample(
            2.2, "Groceries", "Milk, oats, coffee, lemons,\nsomething for Sunday", completed=1.9
        ),
        Sample(1.1, "Try the new ramen place"),
        Sample(0.3, "Sort the inbox", due=0),
    ),
}
COLORS = {"Home": "#2e8b57", "Work": "#1e90ff", "Trip to Lisbon": "#ffa500"}

# Weeks ago, of which the first and the second were done.
ROUTINE_LIST = "Home"
ROUTINE_RULE = "FREQ=WEEKLY"
ROUTINE = (
    Sample(15.4, "Take the bins out", completed=13.2, labels=("chores",), due=-13),
    Sample(13.2, "Take the bins out", completed=6.1, labels=("chores",), due=-6),
    Sample(6.1, "Take the bins out", labels=("chores",), due=1),
)
TASKS = sum(map(len, SAMPLES.values())) + len(ROUTINE)


class Command(BaseCommand):
    help = (
        f"Makes {EMAIL} with {TASKS} tasks of the past weeks and prints how to sign in. "
        "Run again, it leaves what is there: tasks are only added where there are none. The "
        "password follows from SECRET_KEY; one that was changed is set back, which ends sessions."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        password = _password()
        self.stdout.write(f"{_seed(password)}\n")
        self.stdout.write(
            SIGN_IN.format(
                email=EMAIL,
                base=development.server(default_port=settings.PORT) + settings.PATH_PREFIX,
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
    lists: dict[str | None, TaskList] = {
        name: _list(user, name, color) for name, color in COLORS.items()
    }
    tasks = [task for name in SAMPLES for task in _tasks(user, lists.get(name), SAMPLES[name], now)]
    Task.objects.bulk_create([*tasks, *_routine(user, lists[ROUTINE_LIST], now)])
    return f"{done} Added {TASKS} tasks."


def _list(user: Any, name: str, color: str) -> TaskList:
    """The list of this name that is there from before, or a new one."""
    found = TaskList.objects.filter(user=user, name=name, deleted_at=None).first()
    return found or TaskList.objects.create(user=user, name=name, color=color)


def _tasks(
    user: Any, task_list: TaskList | None, samples: Sequence[Sample], now: datetime
) -> Iterable[Task]:
    made: dict[str | None, Task] = {}
    for sample in samples:
        parent = made.get(sample.of)
        made[sample.title] = sample.as_task(user, now, list=task_list, parent=parent)
    return made.values()


def _routine(user: Any, task_list: TaskList, now: datetime) -> Sequence[Task]:
    """As completing one after the other has made them."""
    tasks = [
        sample.as_task(user, now, list=task_list, recurrence=ROUTINE_RULE) for sample in ROUTINE
    ]
    for task, following in zip(tasks, [*tasks[1:], None], strict=True):
        assert task.due_on
        task.series_id = tasks[0].pk
        task.series_start_on = tasks[0].due_on
        task.occurrence_on = task.due_on
        task.upcoming = [task.due_on]
        task.completed_on = task.completed_at and task.completed_at.date()
        task.next_task_id = following.pk if following else None
    return tasks
