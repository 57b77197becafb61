"""What a task is to clients: its fields, each once. Statements, filters and orders follow."""

from collections.abc import Mapping
from datetime import datetime
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
from todo_project.resources.resource import Command, IndexHint, Resource
from todo_project.text import validate_marks

from .days import ZONES
from .models import (
    DESCRIPTION_MAX_CHARACTERS,
    DUE,
    OPEN,
    PRIORITIES,
    REPEATS_FROM,
    TASK_LEVELS_MAX,
    TITLE_MAX_CHARACTERS,
    Task,
)
from .moving import MoveSerializer, moving, place, renumber
from .recurring import (
    NOT_RECKONED,
    CompletionDay,
    Recurrence,
    SkipSerializer,
    Upcoming,
    UpcomingOf,
    derive,
    reckon,
    skipping,
)


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
        "parent_id": None,
        "position": "00000000002a",
        "recurrence": "FREQ=WEEKLY;BYDAY=WE",
        "repeat_from": "due",
        "series_id": "0192d7a4-7b1e-7c3a-9f54-5a1d2f6b8c90",
        "next_task_id": None,
        "occurrence_on": "2036-12-31",
        "series_start_on": "2036-12-03",
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
    parent_id = Reference(
        nothing="none",
        filter_help="The subtasks of one task; or `none`: those that are none.",
        help_text="The task of which it is a part, in the same list, or null. At most "
        f"{TASK_LEVELS_MAX} levels.",
    )
    position = Position(
        help_text="The manual order among its siblings, by code point. What is new comes last; "
        "`move` sets it."
    )
    recurrence = Recurrence(
        allow_null=True,
        required=False,
        help_text="How it comes again: an RRULE of RFC 5545 without the name. Needs `due_on`. "
        "Another one begins a new series.",
    )
    repeat_from = Choice(
        REPEATS_FROM,
        required=False,
        help_text="Whether the rule counts on from the day on which it was due, or from the one "
        "on which it was completed.",
    )
    series_id = Identifier(
        read_only=True, allow_null=True, help_text="The first task of its series."
    )
    next_task_id = Identifier(
        read_only=True,
        allow_null=True,
        help_text="The occurrence after this one, which its completion made.",
    )
    occurrence_on = Day(
        read_only=True,
        allow_null=True,
        help_text="Which day of the rule this occurrence is. Stays when `due_on` is moved.",
    )
    series_start_on = Day(
        read_only=True, allow_null=True, help_text="The day from which the rule counts."
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


def _due(row: Mapping[str, Any]) -> str | None:
    """The same of an answer: its day, with the time where it has one."""
    day, time = row["due_on"], row["due_time"]
    return day if day is None or time is None else f"{day}T{time}"


_DUE_KEY = SortKey(
    field="due",
    column=DUE,
    # By PostgreSQL, as DUE has it: before the first day Python has no time.
    value_sql="({0}::text::timestamp"
    " - CASE length({0}::text) WHEN 10 THEN interval '1 microsecond' ELSE interval '0' END)",
    parse=datetime.fromisoformat,
    read=_due,
    nullable=True,
)


def _hint(query: Mapping[str, Any]) -> IndexHint:
    """For the indexes of open tasks, and of one list.

    The plan for any values, which prepared statements get, expects few open tasks of anybody, and
    would sort all of them for any order if it could. So it can only where one of the indexes has
    the order, or has less to read.
    """
    first = query["ordering"].keys[0].field
    narrows = not query.keys().isdisjoint({"list_id", "due_after", "due_before"})
    is_served = query.get("is_completed") is False and (first in ("due", "position") or narrows)
    is_inbox = query.get("list_id", ...) is None
    return IndexHint(
        condition=OPEN if is_served else "",
        # Of `list_id = …` the planner knows by itself that there is but one, and not of a null.
        leading="list_id" if is_inbox and first == "position" else "",
    )


_NO_LIST = (
    "list_id",
    ErrorDetail("None of your lists, or it is in the trash.", code="absent"),
)

_NO_PARENT = (
    "parent_id",
    ErrorDetail("None of your tasks, or it is in the trash.", code="absent"),
)
_NO_NEIGHBOUR = ErrorDetail("None of your other tasks, or it is in the trash.", code="absent")
_BUSY = "The task is being changed by somebody else. Try again."
_OTHER_PLACE = ErrorDetail("It is in another list, or below another task.", code="invalid")


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
    more_keys=(_DUE_KEY,),
    hint=_hint,
    more_filters={
        "has_due": Filter(
            FlagField(required=False, help_text="Those with a day, or those without."),
            "(due_on IS NOT NULL) = %(has_due)s",
        ),
        "due_after": Filter(
            WallClockField(required=False, help_text="A day or a minute of one. Inclusive."),
            f"{_DUE_KEY.sorted_sql} >= %(due_after)s::timestamp - interval '1 microsecond'"
            f" AND {_DUE_KEY.sorted_sql} < 'infinity'",
        ),
        "due_before": Filter(
            WallClockField(required=False, help_text="A day or a minute of one. Exclusive."),
            f"{_DUE_KEY.sorted_sql} < %(due_before)s::timestamp - interval '1 microsecond'",
        ),
        "startable_on": Filter(
            DayField(required=False, help_text="Those that may be begun on this day."),
            "(start_on IS NULL OR start_on <= %(startable_on)s::date)",
        ),
        "is_recurring": Filter(
            FlagField(required=False, help_text="Those with a `recurrence`, or those without."),
            "(recurrence IS NOT NULL) = %(is_recurring)s",
        ),
    },
    commands={
        "complete": Command(CompletionSerializer, completion),
        "move": Command(MoveSerializer, place, lambda _: moving()),
        "skip": Command(SkipSerializer, lambda _: NOT_RECKONED, lambda _: skipping()),
    },
    imported=(
        *("created_at", "completed_at"),
        *("series_id", "next_task_id", "occurrence_on", "series_start_on"),
    ),
    inner={
        "completed_on": CompletionDay(allow_null=True),
        "upcoming": Upcoming(),
        "upcoming_of": UpcomingOf(),
    },
    derive=derive,
    remedies={"tasks_task_reckoned": reckon, "tasks_task_room": renumber},
    conflicting={"partial_update", "complete", "move", "skip"},
    conflicts={
        "tasks_task_reckoned": _BUSY,
        "tasks_task_room": _BUSY,
        "tasks_task_recurs": "The task is completed, or doesn't recur: there is nothing to skip.",
        "tasks_task_last": "This is the last day of the rule. Complete the task, or delete it.",
        "tasks_task_occurrence": "The series has a task for that day already.",
        "tasks_task_copies": "The task has more than 100 subtasks, or more than 1 MiB of text "
        "in them, which the next one would have as well. Take some of them away, or its rule.",
    },
    faults={
        "tasks_task_list_fk": _NO_LIST,
        "tasks_task_list_lives": _NO_LIST,
        "tasks_task_parent_fk": _NO_PARENT,
        "tasks_task_parent_lives": _NO_PARENT,
        "tasks_task_parent_list": (
            "parent_id",
            ErrorDetail(
                "It is in another list. Send list_id too, or this as null.", code="invalid"
            ),
        ),
        "tasks_task_parent_circle": (
            "parent_id",
            ErrorDetail("It is the task itself, or below it.", code="circle"),
        ),
        "tasks_task_parent_depth": (
            "parent_id",
            ErrorDetail(f"That would make more than {TASK_LEVELS_MAX} levels.", code="depth"),
        ),
        "tasks_task_before": ("before", _NO_NEIGHBOUR),
        "tasks_task_after": ("after", _NO_NEIGHBOUR),
        "tasks_task_before_there": ("before", _OTHER_PLACE),
        "tasks_task_after_there": ("after", _OTHER_PLACE),
        "tasks_task_recurrence": (
            "recurrence",
            ErrorDetail("It needs a day: set due_on, or this to null as well.", code="invalid"),
        ),
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
