"""Serializers that ignore nothing: unknown input is an error, and types are what they are.

REST framework's own fields take `"true"` for true and 5 for "5"; these do not.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from functools import cached_property
from typing import Any, ClassVar

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import get_error_detail

from todo_project.text import WORD_MAX_CHARACTERS, read_word, validate_line


class StringField(serializers.CharField):
    """A JSON string, and nothing that could be turned into one."""

    default_error_messages: ClassVar = {
        "invalid": "Must be a string, in quotes.",
        "null": "Must be a string, not null.",
        "blank": "Must have a visible character.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class LineField(StringField):
    """A line that people see, such as a title or a name."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        validate_line(text)
        return text


class WordField(LineField):
    """A line without a comma, such as a label; as NFC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=WORD_MAX_CHARACTERS, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return read_word(super().to_internal_value(data))


class BooleanField(serializers.BooleanField):
    """JSON's true or false."""

    default_error_messages: ClassVar = {
        "invalid": "Must be true or false, without quotes.",
        "null": "Must be true or false, not null.",
    }

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ChoiceField(serializers.ChoiceField):
    """One of some texts; whoever sends another is told which."""

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        super().__init__(choices, **kwargs)
        self.error_messages["invalid_choice"] = f"Not a valid choice. Valid: {', '.join(choices)}."


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
        if not isinstance(value, str) or not self._RFC3339.fullmatch(value):
            self.fail("rfc3339")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):  # no such day; or outside of the years 1 to 9999
            self.fail("rfc3339")


class DayField(serializers.DateField):
    """A day as RFC 3339 writes a full-date: `2026-01-31`."""

    default_error_messages: ClassVar = {"day": "Not a day, such as 2026-01-31."}
    _DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

    def to_internal_value(self, value: Any) -> date:
        if not isinstance(value, str) or not self._DAY.fullmatch(value):
            self.fail("day")
        try:
            return date.fromisoformat(value)
        except ValueError:  # no such day
            self.fail("day")


class TimeOfDayField(serializers.TimeField):
    """A time on the clock: `09:30`, or with seconds, `09:30:15`."""

    default_error_messages: ClassVar = {"time": "Not a time of day, such as 09:30 or 09:30:15."}
    _TIME = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")

    def to_internal_value(self, value: Any) -> time:
        if not isinstance(value, str) or not self._TIME.fullmatch(value):
            self.fail("time")
        try:
            return time.fromisoformat(value)
        except ValueError:  # no such time
            self.fail("time")


class ChoicesField(serializers.Field[list[str], Any, list[str], Any]):
    """Some of a few texts, each once, and one at least."""

    default_error_messages: ClassVar = {
        "invalid": "Must be a list of strings.",
        "empty": "Name at least one. Valid: {names}.",
        "invalid_choice": "{value} is not a valid choice. Valid: {names}.",
        "repeated": "{value} stands here more than once.",
    }

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choices = [str(choice) for choice in choices]

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or not all(isinstance(value, str) for value in data):
            self.fail("invalid")
        if not data:
            self.fail("empty", names=self._names)
        for value in data:
            if value not in self.choices:
                self.fail("invalid_choice", value=value, names=self._names)
            if data.count(value) > 1:
                self.fail("repeated", value=value)
        return data

    def to_representation(self, value: list[str]) -> list[str]:
        return value

    @property
    def _names(self) -> str:
        return ", ".join(self.choices)


class ApiErrorField(serializers.Field[Any, Any, Any, Any]):
    """An error within an answer: of one of several things that were asked for."""


class FieldErrorsField(serializers.Field[Any, Any, Any, Any]):
    """The faults of each field, within an answer; empty where there are none."""


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it doesn't know, naming them and those that it does.

    Read-only fields are accepted and have no effect, so that a client may send back what it read.
    """

    # By field, for the OpenAPI document. Together they are the first steps of the README, so that
    # whoever came by the one can go on with the other.
    examples: ClassVar[Mapping[str, Any]] = {}

    unknown_message = "Unknown field. Valid fields: {valid}."

    # Those that an answer may be without; else it has all of them.
    may_lack: ClassVar[frozenset[str]] = frozenset()

    def to_internal_value(self, data: Mapping[str, Any]) -> Any:
        """Validates the fields that were sent, and no others: a list has many, a request few.

        A `source` with dots is not followed.
        """
        values = {} if self.partial else {f.source: f.get_default() for f in self._defaulted}
        faults: dict[str, Any] = {}
        for name, sent in data.items():
            field = self.fields.get(name)
            if field is None:
                faults[name] = [ErrorDetail(self._unknown_message(), code="unknown")]
            elif not field.read_only:
                try:
                    value = field.run_validation(sent)
                    validate = getattr(self, f"validate_{name}", None)
                    values[field.source] = value if validate is None else validate(value)
                except ValidationError as error:
                    faults[name] = error.detail
                except DjangoValidationError as error:
                    faults[name] = get_error_detail(error)
        if not self.partial:
            for name in self._required:
                if name not in data:
                    message = str(self.fields[name].error_messages["required"])
                    faults[name] = [ErrorDetail(message, code="required")]
        if faults:
            raise ValidationError(faults)
        return values

    @cached_property
    def _required(self) -> tuple[str, ...]:
        return tuple(name for name, field in self.fields.items() if field.required)

    @cached_property
    def _defaulted(self) -> tuple[serializers.Field[Any, Any, Any, Any], ...]:
        return tuple(
            field
            for field in self.fields.values()
            if field.default is not serializers.empty and not field.read_only
        )

    def run_validators(self, value: Any) -> None:
        """As fields do: serializers first look for read-only ones that have a default, in all."""
        super(serializers.Serializer, self).run_validators(value)

    def _unknown_message(self) -> str:
        valid = ", ".join(sorted(self.fields)) or "none"
        return self.unknown_message.format(valid=valid)


class EmptyBody(StrictSerializer):
    """The body of an operation that takes none: absent, or an empty object."""


class QuerySerializer(StrictSerializer):
    """The query parameters of an operation; of one that takes none, where it declares no field."""

    unknown_message = "Unknown query parameter. Valid parameters: {valid}."
