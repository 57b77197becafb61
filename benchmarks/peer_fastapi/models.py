"""The table of tasks, and what goes in and out."""

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, Self, get_args
from unicodedata import normalize
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StrictBool,
    StringConstraints,
    computed_field,
    model_validator,
)
from sqlalchemy import Computed, DateTime, FetchedValue, SmallInteger, Text, TypeDecorator, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel
from uuid_utils.compat import uuid7

# One line: no control characters, and no separators of lines.
LINE = "^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
LABEL = "^[^,\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
TIME_ZONES = frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def in_form(form: str) -> BeforeValidator:
    """Texts of this form alone, where pydantic takes numbers and fractions of seconds too."""
    matches = re.compile(form).fullmatch

    def check(value: Any) -> Any:
        if not isinstance(value, str) or not matches(value):
            raise ValueError(f"has to match {form}")
        return value

    return BeforeValidator(check)


def composed(value: Any) -> Any:
    return normalize("NFC", value) if isinstance(value, str) else value


def distinct(labels: list[str]) -> list[str]:
    if len(set(labels)) < len(labels):
        raise ValueError("has a label twice")
    return labels


def known_time_zone(name: str) -> str:
    if name not in TIME_ZONES:
        raise ValueError("is no time zone")
    return name


def on_the_clock(value: time) -> str:
    """Without seconds, where there are none."""
    return value.isoformat("seconds").removesuffix(":00")


Title = Annotated[
    str,
    StringConstraints(
        strict=True, strip_whitespace=True, min_length=1, max_length=255, pattern=LINE
    ),
]
Description = Annotated[str, StringConstraints(strict=True, max_length=20_000)]
Priority = Literal["none", "low", "medium", "high", "urgent"]
RepeatFrom = Literal["due", "completion"]
# Its form alone: what it says is nothing that a load asks for.
Recurrence = Annotated[
    str,
    StringConstraints(strict=True, max_length=500, pattern="^FREQ=[A-Z]+(;[A-Z]+=[A-Z0-9,+-]+)*$"),
]
Label = Annotated[
    str,
    StringConstraints(
        strict=True, strip_whitespace=True, min_length=1, max_length=50, pattern=LABEL
    ),
    BeforeValidator(composed),
]
Labels = Annotated[list[Label], Field(max_length=50), AfterValidator(distinct)]
Day = Annotated[date, in_form("[0-9]{4}-[0-9]{2}-[0-9]{2}")]
TimeOfDay = Annotated[time, in_form("[0-9]{2}:[0-9]{2}(:[0-9]{2})?")]
TimeZone = Annotated[str, StringConstraints(strict=True), AfterValidator(known_time_zone)]


class Rank(TypeDecorator[str]):
    """One of some names, kept as its rank."""

    impl = SmallInteger
    cache_ok = True

    def __init__(self, names: Any) -> None:
        super().__init__()
        self.names = get_args(names)

    def process_bind_param(self, value: str | None, dialect: Any) -> int | None:
        return None if value is None else self.names.index(value)

    def process_result_value(self, value: int | None, dialect: Any) -> str | None:
        return None if value is None else self.names[value]


class Task(SQLModel, table=True):
    __tablename__ = "tasks_task"
    # What the database fills in comes back with the write itself, by RETURNING.
    __mapper_args__ = {"eager_defaults": True}

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    user_id: UUID
    title: str = Field(max_length=255)
    description: str | None = None
    is_completed: bool | None = Field(
        default=None, sa_column_args=[Computed("completed_at IS NOT NULL", persisted=True)]
    )
    completed_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    priority: str = Field(default="none", sa_type=Rank(Priority))
    labels: list[str] = Field(default_factory=list, sa_type=ARRAY(Text))
    due_on: date | None = None
    due_time: time | None = None
    time_zone: str | None = None
    due_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    start_on: date | None = None
    list_id: UUID | None = None
    parent_id: UUID | None = None
    # A trigger of the table places what is new.
    position: str | None = Field(default=None, sa_column_kwargs={"server_default": FetchedValue()})
    recurrence: str | None = None
    repeat_from: str = Field(default="due", sa_type=Rank(RepeatFrom))
    series_id: UUID | None = None
    next_task_id: UUID | None = None
    occurrence_on: date | None = None
    series_start_on: date | None = None
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now()},
    )
    updated_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "onupdate": func.now()},
    )
    # One of the row's own, so that the triggers that stamp have nothing to do.
    version: int = 1
    deleted_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class TaskUpdate(BaseModel):
    """What may be sent. A field that is left out keeps its value."""

    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    description: Description | None = None
    is_completed: StrictBool = False
    priority: Priority = "none"
    labels: Labels = []
    due_on: Day | None = None
    due_time: TimeOfDay | None = None
    time_zone: TimeZone | None = None
    start_on: Day | None = None
    list_id: UUID | None = None
    parent_id: UUID | None = None
    recurrence: Recurrence | None = None
    repeat_from: RepeatFrom = "due"


class TaskReplace(TaskUpdate):
    title: Title


class TaskCreate(TaskReplace):
    @model_validator(mode="after")
    def fit_each_other(self) -> Self:
        require_fitting_days(self)
        return self


def require_fitting_days(task: Task | TaskCreate) -> None:
    """Raises ValueError for fields that don't fit each other."""
    if task.due_time is not None and task.due_on is None:
        raise ValueError("due_time needs due_on")
    if task.time_zone is not None and task.due_time is None:
        raise ValueError("time_zone needs due_time")
    if task.recurrence is not None and task.due_on is None:
        raise ValueError("recurrence needs due_on")
    if task.start_on is not None and task.due_on is not None and task.start_on > task.due_on:
        raise ValueError("start_on is after due_on")


def due_at(on: date | None, at: time | None, time_zone: str | None) -> datetime | None:
    """The instant, where a zone says which.

    `fold` is 0: a time that clocks skip counts by the offset before, one that comes twice is the
    first.
    """
    if on is None or at is None or time_zone is None:
        return None
    try:
        return datetime.combine(on, at, ZoneInfo(time_zone)).astimezone(UTC)
    except OverflowError:
        return None


class Completion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    is_completed: StrictBool = True


class TaskRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: UUID
    title: str
    description: str | None
    is_completed: bool
    completed_at: datetime | None
    priority: Priority
    labels: list[str]
    due_on: date | None
    due_time: Annotated[time, PlainSerializer(on_the_clock, return_type=str)] | None
    time_zone: str | None
    due_at: datetime | None
    start_on: date | None
    list_id: UUID | None
    parent_id: UUID | None
    position: str
    recurrence: str | None
    repeat_from: RepeatFrom
    series_id: UUID | None
    next_task_id: UUID | None
    occurrence_on: date | None
    series_start_on: date | None
    created_at: datetime
    updated_at: datetime
    version: int

    @computed_field
    @property
    def etag(self) -> str:
        return f'"{self.version}"'


class Meta(BaseModel):
    request_id: str


class PageMeta(Meta):
    limit: int
    next_cursor: str | None


class TaskAnswer(BaseModel):
    data: TaskRead
    meta: Meta


class PageAnswer(BaseModel):
    data: list[TaskRead]
    meta: PageMeta
