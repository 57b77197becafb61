"""The query parameters of the list, and what they accept. queries.py says what they select."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from rest_framework import serializers

from todo_project.api.ordering import OrderingField, SortKey
from todo_project.api.serializers import ChoiceField, QuerySerializer, StringField, TimeField
from todo_project.text import is_visible

SEARCH_MAX_CHARACTERS = 200
CURSOR_MAX_CHARACTERS = 4096


def _time(field: str, *, nullable: bool = False) -> SortKey:
    return SortKey(
        field=field,
        column=field,
        value_sql="{}::timestamptz",
        parse=datetime.fromisoformat,
        nullable=nullable,
    )


SORT_KEYS = (
    _time("created_at"),
    _time("updated_at"),
    _time("completed_at", nullable=True),
    # Folded once, and not for each row.
    SortKey(field="title", column="title_folded", value_sql="(SELECT tasks_fold({}))"),
)
DEFAULT_ORDERING = "-created_at"


class FlagField(ChoiceField):
    """`true` or `false`, as a query parameter."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(["true", "false"], **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return bool(super().to_internal_value(data) == "true")


class PageSizeField(serializers.IntegerField):
    """A number in decimal digits, without sign or leading zeros."""

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"[1-9][0-9]{0,8}|0", data):
            self.fail("invalid")
        return int(data)


class SearchField(StringField):
    """Words to search for: one at least that can be seen, since nothing else is compared."""

    default_error_messages: ClassVar = {"blank": "This parameter has no word to search for."}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not is_visible(text):
            self.fail("blank")
        return text


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
    ordering = OrderingField(
        SORT_KEYS,
        default=DEFAULT_ORDERING,
        help_text="Up to three different keys, separated by commas. `-` sorts downwards. Tasks "
        "without a value come last; ties are broken by id, in the direction of the last key. "
        "Titles are compared as for `search`.",
    )
    is_completed = FlagField(required=False, help_text="Completed tasks only, or open ones.")
    search = SearchField(
        required=False,
        max_length=SEARCH_MAX_CHARACTERS,
        help_text="Words, separated by white space. Each stands somewhere in title or description, "
        "in any order, whatever its case and accents. `%` and `_` mean themselves.",
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
