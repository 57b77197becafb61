"""Serializers that ignore nothing: unknown input is an error, and types are what they are.

REST framework's own fields take `"true"` for true and 5 for "5"; these do not.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError


class StringField(serializers.CharField):
    """A JSON string, and nothing that could be turned into one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class BooleanField(serializers.BooleanField):
    """JSON's true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it doesn't know, naming them and those that it does.

    Read-only fields are accepted and have no effect, so that a client may send back what it read.
    """

    unknown_message = "Unknown field. Valid fields: {valid}."

    def to_internal_value(self, data: Mapping[str, Any]) -> Any:
        faults: dict[str, Any] = {
            name: [ErrorDetail(self._unknown_message(), code="unknown")]
            for name in data
            if name not in self.fields
        }
        try:
            values = super().to_internal_value(data)
        except ValidationError as error:
            assert isinstance(error.detail, dict)
            faults.update(error.detail)
        if faults:
            raise ValidationError(faults)
        return values

    def _unknown_message(self) -> str:
        valid = ", ".join(sorted(self.fields)) or "none"
        return self.unknown_message.format(valid=valid)


class EmptyBody(StrictSerializer):
    """The body of an operation that takes none: absent, or an empty object."""


class QuerySerializer(StrictSerializer):
    """The query parameters of an operation; of one that takes none, where it declares no field.

    None is required, and only those that were sent are validated: a list has many, and most
    requests send one or two.
    """

    unknown_message = "Unknown query parameter. Valid parameters: {valid}."

    def to_internal_value(self, data: Mapping[str, str]) -> Any:
        values = dict(self._defaults)
        faults: dict[str, Any] = {}
        for name, text in data.items():
            if name not in self.fields:
                faults[name] = [ErrorDetail(self._unknown_message(), code="unknown")]
                continue
            try:
                values[name] = self.fields[name].run_validation(text)
            except ValidationError as error:
                faults[name] = error.detail
        if faults:
            raise ValidationError(faults)
        return values

    @cached_property
    def _defaults(self) -> Mapping[str, Any]:
        assert not any(field.required for field in self.fields.values())
        return {
            name: field.default
            for name, field in self.fields.items()
            if field.default is not serializers.empty
        }
