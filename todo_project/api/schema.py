"""Teaches drf-spectacular the conventions: strict input, the envelope, the errors.

For settings.py, which names it. Views declare an operation's id and what it answers when it
succeeds; the rest is read from what they run on (serializers of body and query, authenticators,
path). components.py has what operations share, introduction.md what is said before them.
"""

# mypy: allow-untyped-calls
# drf-spectacular's own methods have no types.

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.template import Context, Engine
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, force_instance, is_patched_serializer
from rest_framework import serializers
from uritemplate import variables

from todo_project.text import NO_LINE

from .components import (
    ERROR_STATUSES,
    HEADERS,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_NONE_MATCH_ANY,
    JSON,
    NOT_MODIFIED,
    RARE_ERROR,
    RATE_HEADERS,
    TIME_ZONE,
    Schema,
    error_name,
    header_references,
    object_schema,
    reference,
    shared_responses,
    shared_schemas,
)
from .parsers import PATCH_PARSERS, StrictJSONParser
from .serializers import LineField, QuerySerializer
from .views import StrictInputMixin


class EnvelopeSchema(AutoSchema):
    """One operation, as the conventions have it."""

    view: StrictInputMixin  # type: ignore[override]

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:  # None: kept out of the document
            operation.setdefault("security", [])
        return operation

    def get_auth(self) -> list[Schema]:
        return [requirement for requirement in super().get_auth() if requirement]

    def get_tags(self) -> list[str]:
        """The first fixed segment after /api; of the routes below `auth`, who needs a token."""
        tag = next(segment for segment in self.path.split("/")[2:] if "{" not in segment)
        return ["account" if tag == "auth" and self.get_auth() else tag]

    def get_summary(self) -> str:
        return self._sentences()[0].rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]
        """What the docstring says after its first sentence, and who may call."""
        return "\n\n".join([*self._sentences()[1:], self._access()])

    def _access(self) -> str:
        """In words: scopes beside a bearer scheme are none to Spectral, which knows OAuth's."""
        if not self.get_auth():
            return "Needs no `Authorization`."
        scope = self.view.needed_scope(self.method)
        if scope is None:
            return "Not for personal tokens."
        return f"A personal token needs the scope `{scope}`."

    def _sentences(self) -> list[str]:
        """The first sentence of the handler's docstring, and the others where there are any."""
        return re.split(r"(?<=\.)\s+", super().get_description(), maxsplit=1)

    # --- Requests -----------------------------------------------------------------------------

    def get_request_serializer(self) -> Any:
        return self.view.body_serializers.get(self.view.operation)

    def _get_query_serializer(self) -> QuerySerializer:
        return self.view.query_serializers.get(self.view.operation, QuerySerializer)()

    def _get_parameters(self) -> list[Schema]:
        known = {**_PATH_PARAMETERS, **self.view.path_parameters}
        path = [
            {"name": name, "in": "path", "required": True, **known.get(name, _ID)}
            for name in variables(self.path)
        ]
        query = self._get_query_serializer()
        fields = self._map_serializer(query, "request").get("properties", {})
        parameters = path + [
            {
                "name": name,
                "in": "query",
                "required": query.fields[name].required,
                "description": schema.pop("description", ""),
                # Several values, separated by commas.
                **({"style": "form", "explode": False} if schema["type"] == "array" else {}),
                "schema": schema,
            }
            for name, schema in fields.items()
        ]
        return parameters + list(self._header_parameters())

    def _header_parameters(self) -> Iterator[Schema]:
        if self._operates_by(self.view.conditional):
            yield IF_MATCH
        if self._may_be_unchanged():
            yield IF_NONE_MATCH
        if self._may_create_by_put():
            yield IF_NONE_MATCH_ANY
        if self._operates_by(self.view.keyed):
            yield IDEMPOTENCY_KEY
        if self._operates_by(self.view.zoned):
            yield TIME_ZONE

    def _operates_by(self, operations: frozenset[str]) -> bool:
        """Whether the operation stands in one of the view's tables."""
        return self.view.operation in operations

    def _may_be_unchanged(self) -> bool:
        return self.method == "GET" and self._operates_by(self.view.has_etag)

    def _may_create_by_put(self) -> bool:
        return self.method == "PUT" and 201 in self._declared_responses()

    def _get_request_body(self, direction: str = "request") -> Schema | None:
        """The body of any method: drf-spectacular knows none of DELETE."""
        serializer = self.get_request_serializer()
        if serializer is None:
            return None
        schema, is_required = self._get_request_for_media_type(serializer)
        description = f"At most {self.view.body_max_bytes // 1024} KiB, without U+0000."
        has_read_only = any(field.read_only for field in serializer().fields.values())
        if self.method in ("PUT", "PATCH") and has_read_only:
            description += " Read-only fields may be sent back as they were read."
        return {
            "description": description,
            "content": {media_type: {"schema": schema} for media_type in self._media_types()},
            "required": is_required,
        }

    def _get_serializer_name(self, serializer: Any, direction: Any, *args: Any) -> str:
        """`TaskUpdate` for what a PATCH takes; `Completion`, where nothing is required anyway."""
        name: str = super()._get_serializer_name(serializer, direction, *args)
        if not is_patched_serializer(serializer, direction):
            return name
        name = name.removeprefix("Patched").removesuffix("Request")
        is_partial = any(field.required for field in serializer.fields.values())
        return f"{name}Update" if is_partial else name

    def _media_types(self) -> list[str]:
        parsers = PATCH_PARSERS if self.method == "PATCH" else [StrictJSONParser]
        return [parser.media_type for parser in parsers]

    def _map_serializer_field(self, field: Any, direction: Any, *args: Any) -> Any:
        schema = super()._map_serializer_field(field, direction, *args)
        examples = getattr(field.parent, "examples", {})
        if field.field_name in examples:
            schema["examples"] = [examples[field.field_name]]
        if isinstance(field, serializers.ChoiceField):
            del schema["x-spec-enum-id"]
            schema["description"] = field.help_text or ""  # `enum` lists the choices
            if list(field.choices) == ["true", "false"]:
                del schema["enum"]
                schema["type"] = "boolean"
            elif not isinstance(field.parent, QuerySerializer):
                del schema["enum"], schema["type"]
                schema["allOf"] = [named_choice(self, str(field.field_name), field.choices)]
        elif direction == "request" and _refuses_blank(field) and "format" not in schema:
            schema["pattern"] = _LINE if isinstance(field, LineField) else r"\S"
        return schema

    def _postprocess_serializer_schema(
        self, schema: Schema, serializer: Any, direction: Any
    ) -> Schema:
        """Bodies refuse unknown fields; answers have every field.

        Read-only fields, which bodies may have and which have no effect there, are left out, so
        that generated code offers none. Nothing says `readOnly` or `writeOnly`: a schema serves one
        direction, and some generators would write two types for it.
        """
        super()._postprocess_serializer_schema(schema, serializer, direction)
        if direction == "request":
            schema["additionalProperties"] = False
        else:
            lacking = getattr(serializer, "may_lack", ())
            schema["required"] = [name for name in schema["properties"] if name not in lacking]
        for field in schema.get("properties", {}).values():
            field.pop("readOnly", None)
            field.pop("writeOnly", None)
        return schema

    # --- Answers ------------------------------------------------------------------------------

    def _get_response_bodies(self, direction: Any = "response") -> Schema:
        """What the operation declares, errors that only it knows included, and what follows."""
        declared = self._declared_responses()
        successes = {
            str(status): self._success(status, serializer)
            for status, serializer in declared.items()
            if status not in ERROR_STATUSES
        }
        if self._may_be_unchanged():
            successes["304"] = reference("responses", NOT_MODIFIED)
        errors = {*self._error_statuses(), *(ERROR_STATUSES & declared.keys())}
        own_errors = {
            str(status): reference("responses", error_name(status)) for status in sorted(errors)
        }
        return successes | own_errors | {"default": reference("responses", RARE_ERROR)}

    def _declared_responses(self) -> dict[int, Any]:
        declared: Any = self.get_response_serializers()
        return declared if isinstance(declared, dict) else {200: declared}

    def _success(self, status: int, serializer: Any) -> Schema:
        headers = ["X-Request-ID"]
        if self.view.operation == "create":
            headers.append("Location")
        if self._operates_by(self.view.has_etag):
            headers.append("ETag")
        if self._operates_by(self.view.keyed):
            headers.append("Idempotent-Replayed")
        if self._is_paged():
            headers.append("Link")
        if self._is_limited():
            headers += RATE_HEADERS
        is_file = self._operates_by(self.view.answers_file)
        if is_file:
            headers.append("Content-Disposition")
        success = {"description": HTTPStatus(status).phrase, "headers": header_references(headers)}
        if serializer is not None:
            body = force_instance(serializer)
            schema = (
                self.resolve_serializer(body, "response").ref if is_file else self._envelope(body)
            )
            success["content"] = {JSON: {"schema": schema}}
        return success

    def _envelope(self, serializer: Any) -> Schema:
        """The shape of an answer, as a component with a name of its own."""
        item = self.resolve_serializer(getattr(serializer, "child", serializer), "response")
        data, suffix, meta = item.ref, "Envelope", reference("schemas", "Meta")
        if isinstance(serializer, serializers.ListSerializer):
            data, suffix = {"type": "array", "items": item.ref}, "List"
            if self._is_paged():
                suffix, meta = "Page", reference("schemas", "PageMeta")
        meta_serializer = self.view.meta_serializers.get(self.view.operation)
        if meta_serializer is not None:
            meta = self.resolve_serializer(meta_serializer(), "response").ref
        return named(self, item.name + suffix, object_schema(data=data, meta=meta))

    def _is_paged(self) -> bool:
        return "cursor" in self._get_query_serializer().fields

    def _error_statuses(self) -> Iterator[int]:
        yield 400
        if self.get_auth():
            yield from (401, 403)
        if self._is_limited():
            yield 429
        if set(variables(self.path)) - {"user_id"}:
            yield 404
        if self._operates_by(self.view.conditional) or self._may_create_by_put():
            yield 412
        if self._operates_by(self.view.keyed):
            yield 422

    def _is_limited(self) -> bool:
        limits: Any = self.view.throttle_classes
        return any(self.method in limit.methods for limit in limits)


def named(auto_schema: AutoSchema, name: str, schema: Schema) -> Schema:
    """Makes `schema` a component, once for all who have it, and refers to it."""
    component = ResolvedComponent(
        name=name, type=ResolvedComponent.SCHEMA, schema=schema, object=name
    )
    registry = auto_schema.registry
    registry.register_on_missing(component)
    if registry[component].schema != schema:
        raise ValueError(f"Two schemas have the name {name}.")
    return reference("schemas", name)


def named_choice(auto_schema: AutoSchema, name: str, choices: Iterable[str]) -> Schema:
    """One of some texts, by a type that is the same wherever a field has this name.

    With other names for those that code generators could not write.
    """
    choices = list(choices)
    schema: Schema = {"type": "string", "enum": choices}
    if not all(choice.isidentifier() for choice in choices):
        schema["x-enum-varnames"] = [re.sub(r"\W", "_", choice).upper() for choice in choices]
    return named(auto_schema, name.title().replace("_", ""), schema)


class ApiErrorFieldSchema(OpenApiSerializerFieldExtension):
    """An error, as it stands in the answer of a request that failed."""

    target_class = "todo_project.api.serializers.ApiErrorField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> Schema:
        return reference("schemas", "ApiError")


class FieldErrorsFieldSchema(OpenApiSerializerFieldExtension):
    """The faults of fields, as they stand in the details of an error."""

    target_class = "todo_project.api.serializers.FieldErrorsField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> Schema:
        faults = {"type": "array", "items": reference("schemas", "FieldError")}
        return {"type": "object", "additionalProperties": faults}


class ChoicesFieldSchema(OpenApiSerializerFieldExtension):
    """A set of names."""

    target_class = "todo_project.api.serializers.ChoicesField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> Schema:
        name = self.target.field_name.removesuffix("s")
        choice = named_choice(auto_schema, name, self.target.choices)
        return {"type": "array", "items": choice, "minItems": 1, "uniqueItems": True}


def keep_canonical_paths(endpoints: Iterable[tuple[Any, ...]], **kwargs: Any) -> list[Any]:
    """Preprocessing hook: paths have no trailing slash, and the prefix /users/ is left out.

    Paths stand as the routes do and methods in the order of use: drf-spectacular's own is none.
    """
    canonical = [
        (path.rstrip("/"), *rest) for path, *rest in endpoints if not path.startswith("/users/")
    ]
    paths = [path for path, *_ in canonical]
    return sorted(canonical, key=lambda e: (paths.index(e[0]), _METHODS.index(e[2])))


def finish_document(result: Schema, **kwargs: Any) -> Schema:
    """Postprocessing hook: adds the introduction, and the components that operations share.

    Tags that no operation has are taken out: LOCAL_ACCOUNTS decides which operations there are.
    """
    result["info"]["description"] = _introduction()
    operations = [operation for path in result["paths"].values() for operation in path.values()]
    used = {tag for operation in operations for tag in operation["tags"]}
    result["tags"] = [tag for tag in result["tags"] if tag["name"] in used]
    components = result["components"]
    components["schemas"] = dict(sorted({**components["schemas"], **shared_schemas()}.items()))
    components["responses"] = shared_responses()
    components["headers"] = HEADERS
    return result


def _introduction() -> str:
    facts = {
        "path_prefix": settings.PATH_PREFIX,
        "local_accounts": settings.LOCAL_ACCOUNTS,
        "page_size_default": settings.PAGE_SIZE_DEFAULT,
        "page_size_max": settings.PAGE_SIZE_MAX,
        "max_body_kib": settings.MAX_BODY_BYTES // 1024,
        "access_minutes": settings.ACCESS_TOKEN_LIFETIME // timedelta(minutes=1),
        "refresh_days": settings.REFRESH_TOKEN_LIFETIME.days,
        "session_days": settings.SESSION_LIFETIME.days,
    }
    template = Engine(autoescape=False).from_string(_INTRODUCTION.read_text())
    # Stripped it is a plain string, which YAML has in a block that people can read.
    return template.render(Context(facts)).strip()


def _refuses_blank(field: Any) -> bool:
    is_text = isinstance(field, serializers.CharField)
    return is_text and field.trim_whitespace and not field.allow_blank


_INTRODUCTION = Path(__file__).with_name("introduction.md")

_METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE")

_ID: Schema = {"schema": {"type": "string", "format": "uuid"}}
_PATH_PARAMETERS: Mapping[str, Schema] = {
    "user_id": {
        "description": "The caller's own id, or the word `me`.",
        "example": "me",  # and no default: openapi-python-client writes no valid code of one
        "schema": {"type": "string"},
    }
}

# A text that is a line once the white space around it is trimmed.
_LINE = rf"^\s*[^{NO_LINE}]*[^\s{NO_LINE}][^{NO_LINE}]*\s*$"
