"""Serializers that ignore nothing: unknown input is an error, and types are what they are.

REST framework's own fields take `"true"` for true and 5 for "5"; these do not.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import get_error_detail

from todo_project.text import validate_line


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


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it doesn't know, naming them and those that it does.

    Read-only fields are accepted and have no effect, so that a client may send back what it read.
    """

    unknown_message = "Unknown field. Valid fields: {valid}."

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

    def _unknown_message(self) -> str:
        valid = ", ".join(sorted(self.fields)) or "none"
        return self.unknown_message.format(valid=valid)


class EmptyBody(StrictSerializer):
    """The body of an operation that takes none: absent, or an empty object."""


class QuerySerializer(StrictSerializer):
    """The query parameters of an operation; of one that takes none, where it declares no field."""

    unknown_message = "Unknown query parameter. Valid parameters: {valid}."
