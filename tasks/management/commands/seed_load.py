"""Many users with many tasks, for load tests. Never for a database that people use."""

import secrets
from argparse import ArgumentTypeError
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, time, timedelta
from random import Random
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model, password_validation
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import IntegrityError, connections, transaction
from django.db.models import Max
from django.utils import timezone
from uuid_utils.compat import uuid7

from tasks.models import (
    DESCRIPTION_MAX_CHARACTERS,
    PRIORITIES,
    TITLE_MAX_CHARACTERS,
    Task,
    TaskList,
)
from todo_project.owners import POSITION_DIGITS

EMAIL = "load-{:06}@example.com"
EMAIL_PATTERN = r"^load-\d{6}@example\.com$"
MAX_USERS = 999_999
MAX_TASKS_PER_USER = 1_000_000
MAX_TASKS = 50_000_000  # some 20 GB
# Tasks in one transaction: enough to make its cost vanish, and little to lose by an interruption.
BATCH_TASKS = 10_000
SPREAD = timedelta(days=365)
COMPLETED_SHARE = 0.4
CHANGED_SHARE = 0.2  # of the open ones
DESCRIBED_SHARE = 0.35
LONG_SHARE = 0.005
PRIORITY_WEIGHTS = (75, 8, 8, 7, 2)  # in the order of PRIORITIES
LABELS_OF_A_PERSON = 8
LABEL_COUNT_WEIGHTS = (60, 25, 10, 5)  # none to three
LISTS_OF_A_PERSON = (3, 6)
LISTED_SHARE = 0.5  # the others are in the inbox
DUE_SHARE = 0.4
# Days from today, or from the completion: at least, at most, mostly. benchmarks/ postpone tasks to
# days after these, so that no start stands in the way.
DUE_DAYS = (-10, 45, 2)
TIMED_SHARE = 1 / 3  # of those that are due
ZONED_SHARE = 1 / 3  # of those with a time
STARTED_SHARE = 0.2  # of those that are due
RECURRING_SHARE = 0.08  # of those that are due and open, which is 2 % of all
FROM_COMPLETION_SHARE = 0.25  # of those
SUBTASK_SHARE = 0.1
PARENTS = 20  # a subtask is of one of the latest of its list

# What the database computes, `due_at` and what makes a series among it, it computes of these.
COLUMN_TYPES = {
    "id": "uuid",
    "user_id": "uuid",
    "title": "text",
    "description": "text",
    "completed_at": "timestamptz",
    "priority": "int2",
    "labels": "text[]",
    "due_on": "date",
    "due_time": "time",
    "time_zone": "text",
    "start_on": "date",
    "list_id": "uuid",
    "parent_id": "uuid",
    "position": "text",
    "recurrence": "text",
    "repeat_from": "int2",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "version": "int8",
}
COPY_TASKS = f"COPY tasks_task ({', '.join(COLUMN_TYPES)}) FROM STDIN (FORMAT BINARY)"
# Their clocks begin so, and nobody follows people who are not there yet: nothing needs the log.
FIRST_VERSION = 1

VERBS = (
    "Answer", "Archive", "Book", "Call", "Cancel", "Check", "Clean", "Compare", "Draft", "File",
    "Finish", "Fix", "Order", "Pay", "Plan", "Prepare", "Print", "Renew", "Review", "Send",
)  # fmt: skip
THINGS = (
    "the invoice", "train tickets", "the café's offer", "a dentist appointment", "the slides",
    "the garage door", "two job applications", "the tax return", "winter tyres", "the budget",
    "Grandma's birthday", "a new keyboard", "the rental contract", "meeting notes", "the backup",
    "the passport", "vaccinations", "the kitchen shelf", "holiday photos", "the gym membership",
)  # fmt: skip
CIRCUMSTANCES = (
    "", "", "", " before Friday", " (urgent!)", " for Jürgen", " with Zoë", " again", " (2nd try)",
    " as agreed on the phone", " 📦", " and tell the others, who have been waiting since spring",
)  # fmt: skip
SENTENCES = (
    "Ask first.",
    "The number is on the back of the letter.",
    "Last time it took three weeks, so don't wait for the reminder.",
    "Costs 12.50 € a month; 100% refund within 14 days.",
    "Only mornings.",
    "See the mail of last Tuesday and the two attachments, of which the second is the valid one.",
    "- receipt\n- customer number\n- copy of the contract",
    "If nobody answers, try the other office: https://example.com/contact?from=letter&lang=en",
)
LABELS = (
    "work", "home", "errands", "calls", "waiting", "someday", "health", "money", "family", "car",
    "garden", "café", "books", "travel", "computer", "letters",
)  # fmt: skip
LISTS = (
    ("Work", "#1e90ff"), ("Home", "#2e8b57"), ("Garden", None), ("Shopping", "#ffa500"),
    ("Trip to Lisbon", "#dc143c"), ("Books to read", None), ("Zoë's birthday 🎂", "#ff69b4"),
    ("The new flat", None), ("Club", "#6a5acd"), ("Someday", None),
)  # fmt: skip
RULES = (
    "FREQ=DAILY", "FREQ=WEEKLY", "FREQ=WEEKLY", "FREQ=WEEKLY;INTERVAL=2", "FREQ=WEEKLY;BYDAY=MO,TH",
    "FREQ=MONTHLY", "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=YEARLY",
)  # fmt: skip
# Those of most people twice.
TIME_ZONES = (
    "Europe/Berlin", "Europe/Berlin", "America/New_York", "America/New_York", "Europe/London",
    "America/Sao_Paulo", "Asia/Kolkata", "Australia/Sydney", "UTC",
)  # fmt: skip


class Person(NamedTuple):
    """A user, and what their tasks are made of."""

    user: Any
    lists: Sequence[TaskList]
    labels: Sequence[str]
    time_zone: str


class Command(BaseCommand):
    help = (
        "Adds users load-000001@example.com, load-000002@example.com ..., all with the same "
        "password, and some lists and tasks of the past year for each. Run again, it adds further "
        "users. Each batch of users is complete or absent, so that an interrupted run leaves "
        "nothing broken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--users",
            type=_number(MAX_USERS),
            default=100,
            metavar="N",
            help=f"How many users to add: 1 to {MAX_USERS:,} (default: 100).",
        )
        parser.add_argument(
            "--tasks-per-user",
            type=_number(MAX_TASKS_PER_USER),
            default=100,
            metavar="M",
            help=f"How many tasks each gets: 1 to {MAX_TASKS_PER_USER:,} (default: 100).",
        )
        parser.add_argument(
            "--password", help="The password of all these users (default: a random one, printed)."
        )
        parser.add_argument("--force", action="store_true", help="Run although DEBUG is off.")

    def handle(
        self,
        *args: Any,
        users: int,
        tasks_per_user: int,
        password: str | None,
        force: bool,
        **options: Any,
    ) -> None:
        if not settings.DEBUG and not force:
            raise CommandError("DEBUG is off, so people may use this database. Or use --force.")
        if users * tasks_per_user > MAX_TASKS:
            raise CommandError(f"That would be more than {MAX_TASKS:,} tasks.")
        password = _checked(password) if password else secrets.token_urlsafe(12)
        # First, because an interrupted run leaves users who have it.
        self.stdout.write(f"The password of all these users: {password}")
        self.stdout.write(self._add(users, tasks_per_user, make_password(password)))

    def _add(self, users: int, tasks_per_user: int, password_hash: str) -> str:
        """Adds everybody, batch by batch; returns what was added, in words."""
        first = _highest_number() + 1
        end = first + users
        if end - 1 > MAX_USERS:
            raise CommandError(f"{users:,} more users don't fit: {first - 1:,} are there already.")
        batch_users = max(1, BATCH_TASKS // tasks_per_user)
        # Seeded: the same run on an equal database gives the same texts.
        random = Random(first)
        progress = Progress(users * tasks_per_user, self.stdout)
        added = 0
        try:
            for start in range(first, end, batch_users):
                numbers = range(start, min(start + batch_users, end))
                _add_batch(numbers, tasks_per_user, password_hash, random)
                added += len(numbers)
                progress.show(added * tasks_per_user)
            _analyze()
        except KeyboardInterrupt:
            progress.leave()
            kept = _summary(first, added, tasks_per_user)
            raise CommandError(f"Interrupted. {kept}", returncode=130) from None
        except IntegrityError as error:
            progress.leave()
            kept = _summary(first, added, tasks_per_user)
            raise CommandError(f"{kept} Then an address was taken: run it again.") from error
        return _summary(first, added, tasks_per_user)


class Progress:
    """A bar on a terminal; elsewhere a line for each tenth."""

    WIDTH = 40

    def __init__(self, total: int, stdout: OutputWrapper) -> None:
        self.total = total
        self.stdout = stdout
        self.started = monotonic()
        self.tenths_told = 0

    def show(self, done: int) -> None:
        seconds = monotonic() - self.started
        seconds_left = seconds * (self.total - done) / done
        told = f"{done:,} of {self.total:,} tasks, {seconds:.0f} s, {seconds_left:.0f} s to go"
        if self.stdout.isatty():
            bar = "#" * (self.WIDTH * done // self.total)
            self.stdout.write(f"\r[{bar:<{self.WIDTH}}] {told}\x1b[K", ending="")
            self.stdout.flush()
            if done == self.total:
                self.leave()
        elif 10 * done // self.total > self.tenths_told:
            self.tenths_told = 10 * done // self.total
            self.stdout.write(told)

    def leave(self) -> None:
        """Lets what is printed next begin on a line of its own."""
        if self.stdout.isatty():
            self.stdout.write()


def _add_batch(numbers: range, tasks_per_user: int, password_hash: str, random: Random) -> None:
    """Adds the users of these numbers with their lists and tasks, or nothing."""
    people = [_person(number, password_hash, random) for number in numbers]
    lists = [one for person in people for one in person.lists]
    with _patient_transaction() as cursor:
        get_user_model().objects.using("direct").bulk_create(person.user for person in people)
        TaskList.objects.using("direct").bulk_create(lists)
        with cursor.copy(COPY_TASKS) as copy:
            copy.set_types(COLUMN_TYPES.values())
            for person in people:
                for row in _task_rows(person, tasks_per_user, random):
                    copy.write_row([row[column] for column in COLUMN_TYPES])


def _person(number: int, password_hash: str, random: Random) -> Person:
    user = _user(number, password_hash, random)
    lists = random.sample(LISTS, random.randint(*LISTS_OF_A_PERSON))
    return Person(
        user=user,
        lists=[_list(user, place, name, color) for place, (name, color) in enumerate(lists)],
        labels=random.sample(LABELS, LABELS_OF_A_PERSON),
        time_zone=random.choice(TIME_ZONES),
    )


def _user(number: int, password_hash: str, random: Random) -> Any:
    created_at = timezone.now() - random.random() * SPREAD
    return get_user_model()(
        id=id_made_at(created_at),
        email=EMAIL.format(number),
        name=f"Load {number}",
        password=password_hash,
        created_at=created_at,
    )


def _list(user: Any, place: int, name: str, color: str | None) -> TaskList:
    """One of the lists that `user` made when they signed up."""
    return TaskList(
        id=id_made_at(user.created_at),
        user=user,
        name=name,
        color=color,
        position=_position(place),
        created_at=user.created_at,
        updated_at=user.created_at,
        version=FIRST_VERSION,
    )


def _task_rows(person: Person, count: int, random: Random) -> Iterator[dict[str, Any]]:
    """`count` tasks of `person`, from the sign-up to this day, in the order of their creation."""
    now = timezone.now()
    signed_up_at = person.user.created_at
    age = now - signed_up_at
    # The latest open tasks of each list that are no subtasks.
    parents: dict[UUID | None, deque[UUID]] = defaultdict(lambda: deque(maxlen=PARENTS))
    for place, share in enumerate(sorted(random.random() for _ in range(count))):
        created_at = signed_up_at + share * age
        changed_at = created_at + random.random() * (now - created_at)
        is_completed = random.random() < COMPLETED_SHARE
        is_changed = is_completed or random.random() < CHANGED_SHARE
        task_id = id_made_at(created_at)
        list_id = random.choice(person.lists).pk if random.random() < LISTED_SHARE else None
        parent_id = None
        if random.random() < SUBTASK_SHARE and parents[list_id]:
            parent_id = random.choice(parents[list_id])
        elif not is_completed:
            parents[list_id].append(task_id)
        due_on = due_time = start_on = recurrence = None
        if random.random() < DUE_SHARE:
            around = changed_at if is_completed else now
            due_on = around.date() + timedelta(days=round(random.triangular(*DUE_DAYS)))
            if random.random() < TIMED_SHARE:
                due_time = time(random.randint(7, 21), random.choice((0, 15, 30, 45)))
            if random.random() < STARTED_SHARE:
                start_on = due_on - timedelta(days=random.randint(0, 14))
            if not is_completed and random.random() < RECURRING_SHARE:
                recurrence = random.choice(RULES)
        label_count = random.choices(range(len(LABEL_COUNT_WEIGHTS)), LABEL_COUNT_WEIGHTS)[0]
        yield {
            "id": task_id,
            "user_id": person.user.pk,
            "title": _title(random),
            "description": _description(random) if random.random() < DESCRIBED_SHARE else None,
            "completed_at": changed_at if is_completed else None,
            "priority": random.choices(range(len(PRIORITIES)), PRIORITY_WEIGHTS)[0],
            "labels": random.sample(person.labels, label_count),
            "due_on": due_on,
            "due_time": due_time,
            "time_zone": person.time_zone if due_time and random.random() < ZONED_SHARE else None,
            "start_on": start_on,
            "list_id": list_id,
            "parent_id": parent_id,
            "position": _position(place),
            "recurrence": recurrence,
            "repeat_from": int(recurrence is not None and random.random() < FROM_COMPLETION_SHARE),
            "created_at": created_at,
            "updated_at": changed_at if is_changed else created_at,
            "version": FIRST_VERSION,
        }


def _position(place: int) -> str:
    """Of what was made first to last, as the service places what one statement adds."""
    return f"{FIRST_VERSION:0{POSITION_DIGITS}x}{place:05x}"


def id_made_at(moment: datetime) -> UUID:
    """A UUIDv7 as it would have been made then, to the millisecond."""
    return uuid7(nanoseconds=round(moment.timestamp() * 1_000_000) * 1_000)


def _title(random: Random) -> str:
    title = f"{random.choice(VERBS)} {random.choice(THINGS)}{random.choice(CIRCUMSTANCES)}"
    if random.random() < LONG_SHARE:
        title = (title + ", " + title.lower() * 10)[:TITLE_MAX_CHARACTERS].strip()
    return title


def _description(random: Random) -> str:
    sentences = random.choices(SENTENCES, k=random.randint(1, 6))
    if random.random() < LONG_SHARE:
        sentences *= random.randint(10, 100)
    return random.choice((" ", "\n")).join(sentences)[:DESCRIPTION_MAX_CHARACTERS]


def _highest_number() -> int:
    """The last number that a user has, or 0."""
    users = get_user_model().objects.using("direct").filter(email__regex=EMAIL_PATTERN)
    with _patient_transaction():
        highest = users.aggregate(email=Max("email"))["email"]
    return int(highest[5:11]) if highest else 0


def _analyze() -> None:
    """So that the planner knows of the new rows at once, and not when autovacuum comes by."""
    tables = [model._meta.db_table for model in (get_user_model(), TaskList, Task)]
    with _patient_transaction() as cursor:
        cursor.execute(f"ANALYZE {', '.join(tables)}")


@contextmanager
def _patient_transaction() -> Iterator[Any]:
    """A transaction on the direct connection, without the role's limit on a statement's time."""
    with transaction.atomic(using="direct"), connections["direct"].cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        yield cursor


def _summary(first: int, users: int, tasks_per_user: int) -> str:
    if not users:
        return "Nothing was added."
    addresses = f"{EMAIL.format(first)} to {EMAIL.format(first + users - 1)}"
    return f"Users added: {users:,}, {addresses}. Tasks added: {users * tasks_per_user:,}."


def _checked(password: str) -> str:
    try:
        password_validation.validate_password(password)
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from None
    return password


def _number(maximum: int) -> Callable[[str], int]:
    """A converter for argparse: digits alone, from 1 to `maximum`."""

    def convert(text: str) -> int:
        if not text.isdecimal() or not text.isascii() or not 1 <= int(text) <= maximum:
            raise ArgumentTypeError(f"{text!r} is not valid; valid: 1 to {maximum:,}")
        return int(text)

    return convert
