"""Teaches the document what a resource's operations are, from the resource itself."""

# mypy: allow-untyped-calls
# drf-spectacular's own methods have no types.

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema

from todo_project.api.components import JSON, Schema, error_name, reference
from todo_project.api.errors import EXAMPLE_ETAG, PreconditionFailed
from todo_project.api.schema import EnvelopeSchema, named, named_choice
from todo_project.text import WORD_MAX_CHARACTERS, WORDS_MAX

from .ordering import ORDERING_KEYS_MAX
from .parameters import IDS_MAX, WordsQueryField
from .resource import RESOURCES

# Actions have REST framework's names; operations, those that read well in generated code.
_NAMES: Mapping[str, str] = {
    "retrieve": "read",
    "update": "replace",
    "partial_update": "update",
    "destroy": "delete",
}


_RESOURCE = "Resource"
# Of the fields that every resource has.
_EXAMPLES: Mapping[str, Any] = {
    "uuid": "019c1389-02a4-7e51-8d33-5b6c7d8e9f00",
    "date-time": "2026-01-31T09:30:00.123456Z",
    "integer": 42,
    "string": EXAMPLE_ETAG,
}
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class OwnedSchema(EnvelopeSchema):
    """An operation of an OwnedViewSet: its id, its words and what it answers."""

    def get_operation_id(self) -> str:
        action = self.view.operation
        return f"{self._resource.segment}_{_NAMES.get(action, action)}"

    def get_response_serializers(self) -> Any:
        row, operation = self._resource.serializer_class, self.view.operation
        conflict = {409: None} if operation in self._resource.conflicting else {}
        match operation:
            case "list":
                return row(many=True)
            case "create":
                return {201: row, **conflict}
            case "update":
                return {200: row, 201: row, 409: None}
            case "destroy":
                return {204: None}
        return {200: row, **conflict}

    def _sentences(self) -> list[str]:
        things = self._resource.segment
        return [
            sentence.replace("{things}", things).replace("{thing}", self._resource.name)
            for sentence in super()._sentences()
        ]

    @property
    def _resource(self) -> Any:
        return self.view.resource  # type: ignore[attr-defined]  # an OwnedViewSet's


class ResourceFieldSchema(OpenApiSerializerFieldExtension):
    """One of the resources' own schemas."""

    target_class = "todo_project.resources.resource.ResourceField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        kinds = [
            auto_schema.resolve_serializer(resource.serializer_class(), "response").ref
            for _, resource in sorted(RESOURCES.items())
        ]
        return named(auto_schema, _RESOURCE, {"oneOf": kinds})


class KindFieldSchema(OpenApiSerializerFieldExtension):
    """One of the resources' names."""

    target_class = "todo_project.resources.resource.KindField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return named(auto_schema, "ResourceType", {"type": "string", "enum": sorted(RESOURCES)})


class OperationNameFieldSchema(OpenApiSerializerFieldExtension):
    """One of the operations' names."""

    target_class = "todo_project.resources.batch_views.OperationNameField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.target.names)}


class OperationsFieldSchema(OpenApiSerializerFieldExtension):
    """A list of operations."""

    target_class = "todo_project.resources.batch_views.OperationsField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        from .batch_views import OperationSerializer

        operation = auto_schema.resolve_serializer(OperationSerializer(), "request")
        return {
            "type": "array",
            "items": operation.ref,
            "minItems": 1,
            "maxItems": settings.BATCH_OPERATIONS_MAX,
        }


class DataFieldSchema(OpenApiSerializerFieldExtension):
    """An object, whose form is that of the operation's own route."""

    target_class = "todo_project.resources.batch_views.DataField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": True}


class OrderingFieldSchema(OpenApiSerializerFieldExtension):
    """A list of names, which code generators type; with names for `-` that they can write."""

    target_class = "todo_project.resources.ordering.OrderingField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        names = list(self.target.keys)
        words = [f"{name[1:]}_DESC" if name.startswith("-") else name for name in names]
        return {
            "type": "array",
            "items": {
                "type": "string",
                "enum": names,
                "x-enum-varnames": [word.upper() for word in words],
            },
            "minItems": 1,
            "maxItems": ORDERING_KEYS_MAX,
            "uniqueItems": True,
        }


class TimeOfDayFieldSchema(OpenApiSerializerFieldExtension):
    """A time without an offset, which the format `time` must have."""

    target_class = "todo_project.api.serializers.TimeOfDayField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"}


class WallClockFieldSchema(OpenApiSerializerFieldExtension):
    """A day, or a minute of it."""

    target_class = "todo_project.resources.parameters.WallClockField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?$"}


class WordsFieldSchema(OpenApiSerializerFieldExtension):
    """A list of words."""

    target_class = "todo_project.resources.parameters.WordsField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        word = {"type": "string", "minLength": 1, "maxLength": WORD_MAX_CHARACTERS}
        least = {"minItems": 1} if isinstance(self.target, WordsQueryField) else {}
        return {"type": "array", "items": word, **least, "maxItems": WORDS_MAX, "uniqueItems": True}


class IdsQueryFieldSchema(OpenApiSerializerFieldExtension):
    """A list of ids."""

    target_class = "todo_project.resources.parameters.IdsQueryField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        row_id = {"type": "string", "format": "uuid"}
        return {"type": "array", "items": row_id, "minItems": 1, "maxItems": IDS_MAX}


class ReferenceQueryFieldSchema(OpenApiSerializerFieldExtension):
    """An id, or a word."""

    target_class = "todo_project.resources.parameters.ReferenceQueryField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        # A pattern, since generators wrap what is `anyOf` two kinds of strings.
        return {"type": "string", "pattern": f"^({self.target.nothing}|{_UUID})$"}


class ColorFieldSchema(OpenApiSerializerFieldExtension):
    """A color. Answers have it in lower case."""

    target_class = "todo_project.resources.fields.Color"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        digits = "0-9a-f" if direction == "response" else "0-9a-fA-F"
        return {"type": "string", "pattern": f"^#[{digits}]{{6}}$"}


class SomeFieldSchema(OpenApiSerializerFieldExtension):
    """A list of a few names."""

    target_class = "todo_project.resources.parameters.SomeField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        choice = named_choice(auto_schema, self.target.field_name, self.target.choices)
        return {"type": "array", "items": choice, "minItems": 1, "uniqueItems": True}


def show_current(result: Schema, **kwargs: Any) -> Schema:
    """Postprocessing hook: what `details.current` holds of a resource that someone else changed."""
    components = result["components"]
    schemas = components["schemas"]
    if _RESOURCE in schemas:
        current = schemas["ErrorDetails"]["properties"]["current"]
        _, faults = current["oneOf"]
        current["oneOf"] = [reference("schemas", _RESOURCE), {"type": "null"}, faults]

        kind = schemas[_RESOURCE]["oneOf"][0]["$ref"].rpartition("/")[2]
        shown = {name: _example(field) for name, field in schemas[kind]["properties"].items()}
        content = components["responses"][error_name(412)]["content"][JSON]
        example = content["examples"][PreconditionFailed.default_code]["value"]
        example["error"]["details"]["current"] = shown
    return result


def _example(field: Schema) -> Any:
    """What stands in a field of a resource."""
    if "examples" in field:
        return field["examples"][0]
    return _EXAMPLES[str(field.get("format") or field["type"])]
