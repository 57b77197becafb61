"""The query parameters of the list, and what they accept. queries.py says what they select."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.conf import settings
from rest_framework import serializers

from todo_project.api.pagination import Ordering
from todo_project.api.serializers import QuerySerializer, StringField

SEARCH_MAX_CHARACTERS = 200
CURSOR_MAX_CHARACTERS = 4096

ORDERINGS: Mapping[str, Ordering] = {
    "created_at": Ordering(field="created_at", descending=False),
    "-created_at": Ordering(field="created_at", descending=True),
    "updated_at": Ordering(field="updated_at", descending=False),
    "-updated_at": Ordering(field="updated_at", descending=True),
    "completed_at": Ordering(field="completed_at", descending=False, nullable=True),
    "-completed_at": Ordering(field="completed_at", descending=True, nullable=True),
    # By code point, whatever the collation of the database.
    "title": Ordering(field="title", descending=False, collation="C"),
    "-title": Ordering(field="title", descending=True, collation="C"),
}
DEFAULT_ORDERING = "-created_at"


class FlagField(serializers.ChoiceField):
    """`true` or `false`, as a query parameter."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=["true", "false"], **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return bool(super().to_internal_value(data) == "true")


class PageSizeField(serializers.IntegerField):
    """A number in decimal digits, without sign or leading zeros."""

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"[1-9][0-9]{0,8}|0", data):
            self.fail("invalid")
        return int(data)


class TimeField(serializers.DateTimeField):
    """A date-time of RFC 3339 with its offset, in UTC and microseconds."""

    default_error_messages: ClassVar = {
        "rfc3339": (
            "Not a date-time of RFC 3339 with an offset, such as 2026-01-31T09:30:00Z or "
            "2026-01-31T10:30:00+01:00 (in a URL, write the + as %2B)."
        )
    }
    _RFC3339 = re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}"
        r"(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
    )

    def to_internal_value(self, value: Any) -> datetime:
        if not self._RFC3339.fullmatch(value):
            self.fail("rfc3339")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):  # no such day; or outside of the years 1 to 9999
            self.fail("rfc3339")


class TaskListQuery(QuerySerializer):
    """The query parameters of a list of tasks."""

    limit = PageSizeField(
        min_value=1,
        max_value=settings.PAGE_SIZE_MAX,
        default=settings.PAGE_SIZE_DEFAULT,
        help_text="How many tasks a page holds at most.",
    )
    cursor = StringField(
        required=False,
        max_length=CURSOR_MAX_CHARACTERS,
        help_text="`meta.next_cursor` of the page before, as it came. Opaque.",
    )
    total = FlagField(
        default=False, help_text="`true`: count all matching tasks into `meta.total`. Costs time."
    )
    ordering = serializers.ChoiceField(
        choices=list(ORDERINGS),
        default=DEFAULT_ORDERING,
        help_text="`-` sorts downwards. Ties are broken by id; tasks without a value come last.",
    )
    is_completed = FlagField(required=False, help_text="Completed tasks only, or open ones.")
    search = StringField(
        required=False,
        trim_whitespace=False,
        max_length=SEARCH_MAX_CHARACTERS,
        help_text="Stands in title or description, in any case. `%` and `_` mean themselves.",
    )
    created_after = TimeField(required=False, help_text="Inclusive.")
    created_before = TimeField(required=False, help_text="Exclusive.")
    updated_after = TimeField(required=False, help_text="Inclusive.")
    updated_before = TimeField(required=False, help_text="Exclusive.")
    completed_after = TimeField(required=False, help_text="Inclusive.")
    completed_before = TimeField(required=False, help_text="Exclusive.")


def page_binding(query: Mapping[str, Any], owner_id: object) -> dict[str, str]:
    """What a cursor must not be used without: the owner, the filters and the order."""
    page_only = ("limit", "total", "cursor")
    return {
        "owner": str(owner_id),
        **{name: str(value) for name, value in query.items() if name not in page_only},
    }
