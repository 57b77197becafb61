"""How a task comes again: its rule as a field, and the days of it that the database is told.

PostgreSQL can't read rules. So a task has its next days beside its rule, in `upcoming`, and in
`upcoming_of` what they are the days of: triggers make the next occurrence by them, whoever
completes this one (migration 0027), in the same statement and round trip. Where they don't reach,
or are those of another rule or day, and where the rule counts from the completion, the triggers
refuse; then the rule is read here, and the work is done again with the days that it wants.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any, ClassVar

from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError

from todo_project.api.callers import Caller
from todo_project.api.serializers import StrictSerializer
from todo_project.resources import writes
from todo_project.resources.fields import Day, Stored, Text
from todo_project.resources.resource import RESOURCES
from todo_project.resources.statement import Work

from .days import ZONES, today
from .models import REPEATS_FROM, Task
from .recurrence import RULE_MAX_CHARACTERS, Rule, RuleError

# So many completions of a series are one round trip each, before one has to read the rule again.
# 4 bytes each.
UPCOMING_MAX = 32
# In `upcoming`: no day comes after those before it.
NEVER = date.max

NOT_RECKONED: Mapping[str, Any] = {"upcoming": None, "upcoming_of": None}

_ZONE_HEADER = "X-Time-Zone"
_DAY = timedelta(days=1)


class Recurrence(Text):
    """A rule of RFC 5545, kept and answered in one spelling."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=RULE_MAX_CHARACTERS, **options)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            return str(Rule.parse(text))
        except RuleError as error:
            raise ValidationError([_fault(error)]) from None


class _Reckoned(Stored):
    """Of the days that are reckoned. Where none are sent they stay."""

    allow_null = True
    read_only = False

    @property
    def changed_sql(self) -> str:
        return f"coalesce({self.sent_sql}, item.{self.column})"

    @property
    def differs_sql(self) -> str:
        return "false"


class Upcoming(_Reckoned):
    """The days of a rule that come next."""

    sql_type = "date[]"


class UpcomingOf(_Reckoned):
    """Which rule's these are, and from which day it counts."""

    sql_type = "text"


class CompletionDay(Day):
    """The day of the completion, while the task is completed: the first that was said."""

    @property
    def changed_sql(self) -> str:
        return f"CASE WHEN %(is_completed)s THEN coalesce(item.{self.column}, {self.sent_sql}) END"

    @property
    def differs_sql(self) -> str:
        return "false"


class SkipSerializer(StrictSerializer):
    """Nothing is to be said."""

    examples: ClassVar = {}


def derive(values: Mapping[str, Any], headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """What follows from a rule that is written, and from a completion. Raises ValidationError."""
    derived: dict[str, Any] = {}
    zone = _zone_of_caller(headers)
    if "is_completed" in values:
        day = today(zone, datetime.now(UTC)).isoformat() if values["is_completed"] else None
        derived["completed_on"] = day
        derived |= NOT_RECKONED
    if (text := values.get("recurrence")) is not None:
        # What is imported may be a later occurrence of its series, which goes on after that.
        start = values.get("series_start_on", values.get("due_on"))
        occurrence = values.get("occurrence_on", start)
        # The days of nothing are what the table refuses, and the row is read.
        derived |= (
            {"upcoming": None, "upcoming_of": ""}
            if start is None or occurrence is None
            else _begun(text, start, occurrence)
        )
    return derived


def reckon(caller: Caller, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The days that a work on a task wants, which the table refused for the lack of them.

    Takes a query, and another one where the rule counts from the completion. Raises
    ValidationError where a new rule has no days, or SQL wrote one that is none, and NotFound where
    there is no such task any more.
    """
    task = Task.objects.owned_by(caller.user_id).filter(pk=parameters["id"]).first()
    if task is None:
        raise NotFound()
    try:
        return reckoned(task, parameters)
    except RuleError as error:
        raise ValidationError({"recurrence": [_fault(error)]}) from None


def reckoned(task: Task, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same of a task that was read. `changes` are by the fields' names, as clients write them.

    Without `is_completed` among them it is about the day after this occurrence. Raises RuleError.
    """
    text = changes.get("recurrence", task.recurrence)
    start, occurrence = task.series_start_on, task.occurrence_on
    if text != task.recurrence:  # a series begins
        start = occurrence = changes.get("due_on", task.due_on)
    if text is None or start is None or occurrence is None:
        return NOT_RECKONED
    is_new = text != task.recurrence
    rule = _read(text, start, is_new=is_new)
    is_completion = bool(changes.get("is_completed"))
    repeat_from = changes.get("repeat_from", REPEATS_FROM[task.repeat_from])
    if not is_completion:
        return _reckoned(text, "from", start, _days_after(rule, start, occurrence))
    zone = changes.get("time_zone", task.time_zone)
    day = today(zone, datetime.now(UTC))
    if zone is None and "completed_on" in changes:
        day = date.fromisoformat(changes["completed_on"])
    if repeat_from == "completion":
        taken = {occurrence} if is_new else _days_of_series(task)
        days = _following(rule, day, taken)
        return {"completed_on": day.isoformat(), **_reckoned(text, "completed", day, days)}
    days = _days_after(rule, start, max(occurrence, day - _DAY))
    return {"completed_on": day.isoformat(), **_reckoned(text, "from", start, days)}


@cache
def skipping() -> Work:
    """Moves an occurrence to the next day of its rule. By `upcoming`, where it is reckoned anew."""
    resource = RESOURCES["task"]
    of = "tasks_days_of(item.recurrence, 'from', item.series_start_on)"
    return writes.of_one_row(
        resource,
        "skip",
        lambda sources, found: (
            f"""
            UPDATE {resource.table} AS item
               SET (occurrence_on, due_on, start_on, upcoming, upcoming_of) = (
                       SELECT day, day, tasks_shifted(item.start_on, day - item.due_on),
                              known.upcoming[2:], {of}
                         FROM (
                             SELECT CASE WHEN %(upcoming_of)s = {of} THEN %(upcoming)s::date[]
                                         WHEN item.upcoming_of = {of} THEN item.upcoming
                                    END AS upcoming
                         ) AS known
                        CROSS JOIN LATERAL tasks_skipped_to(
                            item.recurrence, item.completed_at, known.upcoming
                        ) AS day
                   ),
                   version = clock.version, updated_at = statement_timestamp()
              FROM {sources} WHERE {found}
            RETURNING {writes.returned(resource)}
        """
        ),
    )


def _zone_of_caller(headers: Mapping[str, Any]) -> str | None:
    """Where whoever sends the request says to be. Raises ValidationError."""
    zone = headers.get("HTTP_X_TIME_ZONE")
    if zone is not None and zone not in ZONES:
        message = "Not a time zone. Send a name of the IANA's, such as Europe/Berlin, or UTC."
        raise ValidationError({_ZONE_HEADER: [ErrorDetail(message, code="time_zone")]})
    return None if zone is None else str(zone)


def _begun(text: str, start: date, occurrence: date) -> Mapping[str, Any]:
    """The first days after the first occurrence that is made. Raises ValidationError."""
    try:
        rule = _read(text, start, is_new=True)
    except RuleError as error:
        raise ValidationError({"recurrence": [_fault(error)]}) from None
    return _reckoned(text, "from", start, _days_after(rule, start, occurrence))


def _read(text: str, start: date, *, is_new: bool) -> Rule:
    """The rule; a new one has days. Raises RuleError."""
    rule = Rule.parse(text)
    if is_new:
        rule.validate(start)
    return rule


def _days_after(rule: Rule, start: date, day: date) -> Iterator[date]:
    """The days of a series that come after `day`: none where no day does."""
    return iter(()) if day == date.max else rule.days(start, day + _DAY)


def _reckoned(text: str, since: str, day: date, days: Iterator[date]) -> Mapping[str, Any]:
    """The parameters of a work: the days, and what they are of, as tasks_days_of() says it.

    As texts, of which a null is no other type: statements have one form for both.
    """
    following = list(islice(days, UPCOMING_MAX))
    end = [NEVER] if len(following) < UPCOMING_MAX else []
    listed = ",".join(each.isoformat() for each in [*following, *end])
    return {"upcoming": f"{{{listed}}}", "upcoming_of": f"{text} {since} {day.isoformat()}"}


def _days_of_series(task: Task) -> Collection[date | None]:
    series = Task.objects.owned_by(task.user_id).filter(series_id=task.series_id, deleted_at=None)
    return set(series.values_list("occurrence_on", flat=True))


def _following(rule: Rule, day: date, taken: Collection[date | None]) -> Iterator[date]:
    """The next day after a completion on `day`, from which the rule counts.

    None that is `taken` by the series: what is completed before it is due may stand there itself.
    COUNT is of these, for the days aren't known before they are completed.
    """
    if rule.count is not None and len(taken) >= rule.count:
        return iter(())
    days = _days_after(replace(rule, count=None), day, day)
    return islice((each for each in days if each not in taken), 1)


def _fault(error: RuleError) -> ErrorDetail:
    return ErrorDetail(str(error), code="rule")
