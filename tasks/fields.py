"""What a task is to clients: its fields, each once. Statements, filters and orders follow."""

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any, ClassVar

from rest_framework.exceptions import ErrorDetail

from todo_project.api.serializers import BooleanField, DayField, StrictSerializer
from todo_project.resources.fields import (
    Choice,
    Day,
    Filter,
    Identifier,
    Instant,
    Line,
    Number,
    Position,
    Reference,
    Since,
    Tag,
    Text,
    TimeOfDay,
    Words,
)
from todo_project.resources.ordering import SortKey
from todo_project.resources.parameters import FlagField, WallClockField
from todo_project.resources.resource import Command, Resource
from todo_project.text import validate_marks

from .days import ZONES
from .models import DESCRIPTION_MAX_CHARACTERS, PRIORITIES, TITLE_MAX_CHARACTERS, Task


class Zone(Text):
    """A zone of the application's database, letter for letter."""

    default_error_messages: ClassVar = {
        "time_zone": "Not a time zone. Take a name of the IANA's, such as Europe/Berlin, or UTC."
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if name not in ZONES:
            self.fail("time_zone")
        return name


class TaskSerializer(StrictSerializer):
    """A task."""

    examples: ClassVar = {
        "title": "Buy milk",
        "description": "Two litres",
        "is_completed": False,
        "completed_at": None,
        "priority": "high",
        "labels": ["errands"],
        "due_on": "2036-12-31",
        "due_time": "18:30",
        "time_zone": "Europe/Berlin",
        "due_at": "2036-12-31T17:30:00.000000Z",
        "start_on": None,
        "list_id": None,
        "position": "00000000002a",
    }

    id = Identifier(read_only=True)
    user_id = Identifier(read_only=True, help_text="The owner.")
    title = Line(
        max_length=TITLE_MAX_CHARACTERS,
        sorts=True,
        help_text="One line, with something to see. White space around it is trimmed, and does not "
        "count.",
    )
    description = Text(
        max_length=DESCRIPTION_MAX_CHARACTERS,
        allow_null=True,
        allow_blank=True,
        trim_whitespace=False,
        required=False,
        validators=[validate_marks],
    )
    is_completed = Since(
        of="completed_at", required=False, filter_help="Completed tasks only, or open ones."
    )
    completed_at = Instant(
        read_only=True,
        allow_null=True,
        sorts=True,
        help_text="When the task was completed, while it is.",
    )
    priority = Choice(
        PRIORITIES,
        sorts=True,
        required=False,
        filter_help="One of these, separated by commas.",
        help_text="Lists sort it by urgency.",
    )
    labels = Words(required=False, help_text="In the order that you give them. None has a comma.")
    due_on = Day(
        allow_null=True,
        required=False,
        help_text="The day in your own calendar, wherever you are.",
    )
    due_time = TimeOfDay(
        allow_null=True,
        required=False,
        help_text="On the clock of wherever you are. Needs `due_on`; null: any time that day.",
    )
    time_zone = Zone(
        allow_null=True,
        required=False,
        help_text="Where that clock hangs: `Area/Place` as the IANA has it, or `UTC`. Needs "
        "`due_time`; null: wherever you are.",
    )
    due_at = Instant(
        read_only=True,
        allow_null=True,
        is_filter=False,  # those of the same names go by the clock on the wall
        help_text="The instant, where there is a `time_zone`. A time that clocks skip counts by "
        "the offset before; one that comes twice is the first. Moves where a zone's law does.",
    )
    start_on = Day(
        allow_null=True,
        required=False,
        sorts=True,
        help_text="Not to be begun before. Not after `due_on`.",
    )
    list_id = Reference(
        nothing="inbox",
        filter_help="Those of one list; or `inbox`: those of none.",
        help_text="One of your lists, or null: the inbox.",
    )
    position = Position(
        help_text="The manual order, by code point. What is new comes last. To change `list_id` "
        "leaves it."
    )
    created_at = Instant(read_only=True, sorts=True)
    updated_at = Instant(read_only=True, sorts=True)
    version = Number(
        read_only=True, help_text="The owner's clock when the task last changed. Only grows."
    )
    etag = Tag(read_only=True, help_text="The entity tag, as in the header `ETag`. For If-Match.")


class CompletionSerializer(StrictSerializer):
    """Whether the task shall be completed. Set, never toggled, so that it can be repeated."""

    examples: ClassVar = {"is_completed": True}

    is_completed = BooleanField(required=False, help_text="Left out: true.")


# A day without a time stands before all times of that day.
DUE = "(due_on + coalesce(due_time - time '00:00', interval '-1 microsecond'))"


def _due(row: Mapping[str, Any]) -> str | None:
    """The same of an answer."""
    if row["due_on"] is None:
        return None
    day = datetime.fromisoformat(row["due_on"])
    if row["due_time"] is None:
        return (day - timedelta(microseconds=1)).isoformat()
    return datetime.combine(day, time.fromisoformat(row["due_time"])).isoformat()


_NO_LIST = (
    "list_id",
    ErrorDetail("None of your lists, or it is in the trash.", code="absent"),
)


def completion(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The change that completes a task, or reopens it where `data` says so."""
    return {"is_completed": True, **data}


# LineField lets a title pass where the database's tables of Unicode differ from Python's.
TASK = Resource(
    model=Task,
    serializer_class=TaskSerializer,
    name="task",
    segment="tasks",
    searched=("title", "description"),
    more_keys=(
        SortKey(
            field="due",
            column=DUE,
            value_sql="{}::timestamp",
            parse=datetime.fromisoformat,
            read=_due,
            nullable=True,
        ),
    ),
    more_filters={
        "has_due": Filter(
            FlagField(required=False, help_text="Those with a day, or those without."),
            "(due_on IS NOT NULL) = %(has_due)s",
        ),
        "due_after": Filter(
            WallClockField(required=False, help_text="A day or a minute of one. Inclusive."),
            f"{DUE} >= %(due_after)s::timestamp - interval '1 microsecond'",
        ),
        "due_before": Filter(
            WallClockField(required=False, help_text="A day or a minute of one. Exclusive."),
            f"{DUE} < %(due_before)s::timestamp - interval '1 microsecond'",
        ),
        "startable_on": Filter(
            DayField(required=False, help_text="Those that may be begun on this day."),
            "(start_on IS NULL OR start_on <= %(startable_on)s::date)",
        ),
    },
    commands={"complete": Command(CompletionSerializer, completion)},
    faults={
        "tasks_task_list_fk": _NO_LIST,
        "tasks_task_list_lives": _NO_LIST,
        "tasks_task_title_visible": (
            "title",
            ErrorDetail("The title has nothing to see.", code="blank"),
        ),
        "tasks_task_title_line": (
            "title",
            ErrorDetail("The title is no line.", code="control_characters"),
        ),
        "tasks_task_due_time": (
            "due_time",
            ErrorDetail("It needs a day: set due_on, or this to null as well.", code="invalid"),
        ),
        "tasks_task_time_zone": (
            "time_zone",
            ErrorDetail("It needs a time: set due_time, or this to null as well.", code="invalid"),
        ),
        "tasks_task_start_on": (
            "start_on",
            ErrorDetail("It is after due_on. Set both, or one of them to null.", code="invalid"),
        ),
    },
)
