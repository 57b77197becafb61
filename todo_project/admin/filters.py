"""Filters of admin's lists."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR
from django.db.models import Q, QuerySet
from django.http import HttpRequest


class ChoiceFilter(admin.SimpleListFilter):
    """Conditions to choose from. What isn't one of them filters nothing."""

    parameter_name: str
    # Whether it is slow among a million rows: no index serves it.
    reads_rows = True

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        """By the value in the URL, what the operator reads and what it means."""
        raise NotImplementedError

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [(value, text) for value, (text, _) in self.conditions().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        _, condition = self.conditions().get(self.value() or "", ("", Q()))
        return queryset.filter(condition)

    @classmethod
    def bounds(cls, request: HttpRequest) -> Q:
        """What it leaves of the primary key, and with that of what others have to read."""
        return Q()


class DayFilter(ChoiceFilter):
    """Today, some days, or one day that the operator enters; days are those of UTC."""

    template = "admin/day_filter.html"

    @classmethod
    def condition(cls, first: datetime, end: datetime | None) -> Q:
        """What it means to be of a span of time, which has no end or ends before the second."""
        raise NotImplementedError

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        texts = {"today": "Today", "week": "In seven days", "month": "In 30 days"}
        if day := self.day():
            texts[day] = day
        spans = {value: days(value) for value in texts}
        return {
            value: (texts[value], self.condition(*span)) for value, span in spans.items() if span
        }

    def day(self) -> str:
        """The one that was entered."""
        value = str(self.value() or "")
        return value if read_day(value) else ""

    def others(self) -> dict[str, str]:
        """What the form for a day has to carry along: the search and the other filters."""
        dropped = (self.parameter_name, PAGE_VAR)
        return {name: str(value) for name, value in self.request.GET.items() if name not in dropped}


class CreatedFilter(DayFilter):
    """By the time that is in the ids, of which the primary key is in order.

    So it doesn't find what a client named by an id of another kind.
    """

    title = "day of creation (UTC)"
    parameter_name = "created"
    reads_rows = False

    @classmethod
    def condition(cls, first: datetime, end: datetime | None) -> Q:
        is_made = Q(pk__gte=first_id(first))
        return is_made & Q(pk__lt=first_id(end)) if end else is_made

    @classmethod
    def bounds(cls, request: HttpRequest) -> Q:
        span = days(request.GET.get(cls.parameter_name, ""))
        return cls.condition(*span) if span else Q()


def days(value: str) -> tuple[datetime, datetime | None] | None:
    """The span of time that a value of DayFilter means."""
    if day := read_day(value):
        return midnight(day), midnight(day + timedelta(days=1))
    last = {"today": 1, "week": 7, "month": 30}.get(value)
    today = datetime.now(UTC).date()
    return (midnight(today - timedelta(days=last - 1)), None) if last else None


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def read_day(text: str) -> date | None:
    """The day that `text` is, as YYYY-MM-DD; None where it is none, or one that ids don't have."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1970 <= day.year < 9999 else None


def first_id(moment: datetime) -> UUID:
    """Not above any UUIDv7 of that time or later, and above those of before (RFC 9562, 5.7)."""
    return UUID(int=round(moment.timestamp() * 1_000) << 80)
