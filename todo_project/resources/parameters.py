"""Query parameters of lists, whatever they are of, and what they accept."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from todo_project.api.serializers import ChoiceField, QuerySerializer, StringField
from todo_project.api.views import read_uuid
from todo_project.text import WORD_MAX_CHARACTERS, WORDS_MAX, is_visible, read_word

SEARCH_MAX_CHARACTERS = 200
CURSOR_MAX_CHARACTERS = 4096


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


class SomeField(serializers.Field[Any, Any, Any, Any]):
    """Some of a few texts, separated by commas, each once."""

    default_error_messages: ClassVar = {
        "invalid_choice": "{value} is not a valid choice. Valid: {names}, with commas between.",
        "repeated": "{value} stands here more than once.",
    }

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choices = list(choices)

    def to_internal_value(self, data: str) -> list[str]:
        values = data.split(",")
        for value in values:
            if value not in self.choices:
                self.fail("invalid_choice", value=value, names=", ".join(self.choices))
            if values.count(value) > 1:
                self.fail("repeated", value=value)
        return values

    def to_representation(self, value: Any) -> Any:
        return value


class WordsField(serializers.Field[Any, Any, Any, Any]):
    """Some words, each a line of its own, in their order; as NFC, in which none stands twice."""

    default_error_messages: ClassVar = {
        "invalid": "Must be a list of strings.",
        "max_length": f"At most {WORDS_MAX}, of at most {WORD_MAX_CHARACTERS} characters each.",
        "repeated": "{value} stands here more than once.",
    }

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or not all(isinstance(word, str) for word in data):
            self.fail("invalid")
        if len(data) > WORDS_MAX:
            self.fail("max_length")
        words = [read_word(word) for word in data]
        for word in words:
            if words.count(word) > 1:
                self.fail("repeated", value=word)
        return words

    def to_representation(self, value: Any) -> Any:
        return value


class WordsQueryField(WordsField):
    """The same as a query parameter, separated by commas."""

    def to_internal_value(self, data: Any) -> list[str]:
        return super().to_internal_value(data.split(","))


IDS_MAX = 100


class IdsQueryField(serializers.Field[Any, Any, Any, Any]):
    """Some ids, separated by commas."""

    default_error_messages: ClassVar = {
        "invalid": f"UUIDs, separated by commas, at most {IDS_MAX}.",
    }

    def to_internal_value(self, data: str) -> list[UUID]:
        ids = [read_uuid(text) for text in data.split(",")]
        found = [row_id for row_id in ids if row_id is not None]
        if len(found) < len(ids) or len(ids) > IDS_MAX:
            self.fail("invalid")
        return found

    def to_representation(self, value: Any) -> Any:
        return value


class ReferenceQueryField(serializers.Field[Any, Any, Any, Any]):
    """An id; or the word that asks for what has none, which is read as None."""

    default_error_messages: ClassVar = {"invalid": "Neither a UUID with hyphens nor `{nothing}`."}

    def __init__(self, *, nothing: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nothing = nothing

    def to_internal_value(self, data: str) -> UUID | None:
        if data == self.nothing:
            return None
        row_id = read_uuid(data)
        if row_id is None:
            self.fail("invalid", nothing=self.nothing)
        return row_id

    def to_representation(self, value: Any) -> Any:
        return value


class WallClockField(serializers.Field[Any, Any, Any, Any]):
    """A day, or a minute of it, on the wall of wherever the person is."""

    default_error_messages: ClassVar = {
        "wall_clock": "Not a day, such as 2026-01-31, nor a minute of one, as 2026-01-31T09:30."
    }
    _TEXT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?")

    def to_internal_value(self, data: str) -> datetime:
        if not self._TEXT.fullmatch(data):
            self.fail("wall_clock")
        try:
            return datetime.fromisoformat(data)
        except ValueError:  # no such day, or time
            self.fail("wall_clock")

    def to_representation(self, value: Any) -> Any:
        return value


_NIL, _MAX = UUID(int=0), UUID(int=2**128 - 1)


def chosen_id(text: str) -> UUID:
    """The id that a client chose for what it creates. Raises ValidationError for what is none."""
    row_id = read_uuid(text)
    if row_id is None or row_id in (_NIL, _MAX):
        message = "It must be a UUID with hyphens, neither nil nor max."
        raise serializers.ValidationError({"id": [ErrorDetail(message, code="invalid")]})
    return row_id


def page_size(default: int) -> PageSizeField:
    return PageSizeField(
        min_value=1,
        max_value=settings.PAGE_SIZE_MAX,
        default=default,
        help_text="How many a page holds at most.",
    )


class PageQuery(QuerySerializer):
    """The query parameters of everything that has pages."""

    limit = page_size(settings.PAGE_SIZE_DEFAULT)
    cursor = StringField(
        required=False,
        max_length=CURSOR_MAX_CHARACTERS,
        help_text="`meta.next_cursor` of the page before, as it came. Opaque.",
    )


class ListQuery(PageQuery):
    """The query parameters of lists. Resource adds the orders and the filters."""

    total = FlagField(
        default=False, help_text="`true`: count all that match into `meta.total`. Costs time."
    )


def page_binding(query: Mapping[str, Any], owner_id: object, **kinds: str) -> dict[str, str]:
    """What a cursor must not be used without: the owner, the filters and the order."""
    page_only = ("limit", "total", "cursor")
    return {
        "owner": str(owner_id),
        **kinds,
        **{name: str(value) for name, value in query.items() if name not in page_only},
    }
