"""Teaches drf-spectacular the conventions: strict input, the envelope, the errors.

For settings.py, which names it. Views declare an operation's id and what it answers when it
succeeds; the rest is read from what they run on (serializers of body and query, authenticators,
path), and `errors.py` itself makes the examples and headers of the errors.
"""

# mypy: allow-untyped-calls
# drf-spectacular's own methods have no types.

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, force_instance
from rest_framework import exceptions, serializers
from uritemplate import variables

from . import errors
from .ordering import ORDERING_KEYS_MAX
from .serializers import QuerySerializer
from .views import StrictInputMixin

Schema = dict[str, Any]

_JSON = "application/json"


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
        """The first fixed segment after /api."""
        return [segment for segment in self.path.split("/")[2:] if "{" not in segment][:1]

    def get_summary(self) -> str:
        return self._sentences()[0].rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]
        return "".join(self._sentences()[1:])

    def _sentences(self) -> list[str]:
        """The first sentence of the handler's docstring, and the others where there are any."""
        return re.split(r"(?<=\.)\s+", super().get_description(), maxsplit=1)

    # --- Requests -----------------------------------------------------------------------------

    def get_request_serializer(self) -> Any:
        return self.view.body_serializers.get(self.view.operation)

    def _get_query_serializer(self) -> QuerySerializer:
        return self.view.query_serializers.get(self.view.operation, QuerySerializer)()

    def _get_parameters(self) -> list[Schema]:
        path = [
            {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS.get(name, _ID)}
            for name in variables(self.path)
        ]
        query = self._get_query_serializer()
        fields = self._map_serializer(query, "request").get("properties", {})
        return path + [
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

    def _get_request_body(self, direction: str = "request") -> Schema | None:
        """The body of any method: drf-spectacular knows none of DELETE."""
        serializer = self.get_request_serializer()
        if serializer is None:
            return None
        schema, is_required = self._get_request_for_media_type(serializer)
        return {
            "description": f"At most {settings.MAX_BODY_BYTES // 1024} KiB, without U+0000.",
            "content": {_JSON: {"schema": schema}},
            "required": is_required,
        }

    def _map_serializer_field(self, field: Any, direction: Any, *args: Any) -> Any:
        schema = super()._map_serializer_field(field, direction, *args)
        if field.field_name in _EXAMPLES:
            schema["examples"] = [_EXAMPLES[field.field_name]]
        if isinstance(field, serializers.ChoiceField):
            del schema["x-spec-enum-id"]
            schema["description"] = field.help_text or ""  # `enum` lists the choices
            if list(field.choices) == ["true", "false"]:
                del schema["enum"]
                schema["type"] = "boolean"
        elif direction == "request" and _refuses_blank(field) and "format" not in schema:
            schema["pattern"] = r"\S"
        return schema

    def _postprocess_serializer_schema(
        self, schema: Schema, serializer: Any, direction: Any
    ) -> Schema:
        """Bodies refuse unknown fields and ignore read-only ones; answers have every field.

        Read-only fields stand under patternProperties: validators know them, and the models that
        code generators make offer nothing that has no effect.
        """
        fields = schema.get("properties", {})
        read_only = [name for name in fields if "readOnly" in fields[name]]
        super()._postprocess_serializer_schema(schema, serializer, direction)
        if direction == "request":
            schema["additionalProperties"] = False
            if read_only:
                schema["patternProperties"] = {f"^({'|'.join(read_only)})$": _READ_ONLY}
        else:
            schema["required"] = list(fields)
            for field in fields.values():
                field.pop("readOnly", None)
        return schema

    # --- Answers ------------------------------------------------------------------------------

    def _get_response_bodies(self, direction: Any = "response") -> Schema:
        declared: Any = self.get_response_serializers()
        if not isinstance(declared, dict):
            declared = {200: declared}
        successes = {str(status): self._success(status, declared[status]) for status in declared}
        return successes | {
            str(status): _reference("responses", _ERRORS[status][0])
            for status in sorted(self._error_statuses(is_creation=201 in declared))
        }

    def _success(self, status: int, serializer: Any) -> Schema:
        headers = ["X-Request-ID"]
        if self.view.operation == "create":
            headers.append("Location")
        if self._is_paged():
            headers.append("Link")
        if self._is_limited():
            headers += _RATE_HEADERS
        success = {"description": HTTPStatus(status).phrase, "headers": _header_references(headers)}
        if serializer is not None:
            success["content"] = {_JSON: {"schema": self._envelope(force_instance(serializer))}}
        return success

    def _envelope(self, serializer: Any) -> Schema:
        """The shape of an answer, as a component with a name of its own."""
        item = self.resolve_serializer(getattr(serializer, "child", serializer), "response")
        data, suffix, meta = item.ref, "Envelope", "Meta"
        if isinstance(serializer, serializers.ListSerializer):
            data = {"type": "array", "items": item.ref}
            suffix, meta = ("Page", "PageMeta") if self._is_paged() else ("List", "Meta")
        envelope = ResolvedComponent(
            name=item.name + suffix,
            type=ResolvedComponent.SCHEMA,
            schema=_object(data=data, meta=_reference("schemas", meta)),
            object=item.name + suffix,
        )
        self.registry.register_on_missing(envelope)
        return envelope.ref

    def _is_paged(self) -> bool:
        return "cursor" in self._get_query_serializer().fields

    def _error_statuses(self, *, is_creation: bool) -> Iterator[int]:
        yield from (400, 406, 413, 415, 500, 503)
        if self.get_auth() or (self._reads_credentials() and not is_creation):
            yield 401
        if self._is_limited():
            yield 429
        names = set(variables(self.path))
        if "user_id" in names:
            yield 403
        if names - {"user_id"}:
            yield 404

    def _reads_credentials(self) -> bool:
        return bool(self._body_fields() & {"password", "refresh"})

    def _is_limited(self) -> bool:
        limits: Any = self.view.throttle_classes
        return any(self.method in limit.methods for limit in limits)

    def _body_fields(self) -> set[str]:
        serializer = self.get_request_serializer()
        return set() if serializer is None else set(serializer().fields)


class AccessTokenScheme(OpenApiAuthenticationExtension):
    """Describes the project's authentication class, which it finds by name."""

    target_class = "accounts.authentication.SessionTokenAuthentication"
    name = "accessToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class OrderingFieldSchema(OpenApiSerializerFieldExtension):
    """A list of names, which code generators type; with names for `-` that they can write."""

    target_class = "todo_project.api.ordering.OrderingField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> Schema:
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


def keep_canonical_paths(endpoints: Iterable[tuple[Any, ...]], **kwargs: Any) -> list[Any]:
    """Preprocessing hook: paths have no trailing slash, and the prefix /users/ is left out."""
    return [
        (path.rstrip("/"), *rest) for path, *rest in endpoints if not path.startswith("/users/")
    ]


def finish_document(result: Schema, **kwargs: Any) -> Schema:
    """Postprocessing hook: adds the components that operations share."""
    components = result["components"]
    components["schemas"] = dict(sorted({**components["schemas"], **_SCHEMAS}.items()))
    components["responses"] = {
        name: _error(meaning, faults) for name, meaning, faults in _ERRORS.values()
    }
    components["headers"] = _HEADERS
    return result


def _error(meaning: str, faults: Iterable[exceptions.APIException]) -> Schema:
    """What the API answers for `faults`, which have one status."""
    request = HttpRequest()
    request.request_id = _REQUEST_ID  # type: ignore[attr-defined]
    answers = [errors.error_response(request, fault) for fault in faults]
    bodies = {body["error"]["code"]: body for body in (json.loads(a.content) for a in answers)}
    schema = {
        **_reference("schemas", "ErrorEnvelope"),
        "properties": {"error": {"properties": {"code": {"enum": list(bodies)}}}},
    }
    examples = {code: {"value": body} for code, body in bodies.items()}
    return {
        "description": meaning,
        "headers": _header_references(
            [
                "X-Request-ID",
                *answers[0].headers,
                *(_RATE_HEADERS if "RATE_LIMITED" in bodies else []),
            ]
        ),
        "content": {_JSON: {"schema": schema, "examples": examples}},
    }


def _refuses_blank(field: Any) -> bool:
    is_text = isinstance(field, serializers.CharField)
    return is_text and field.trim_whitespace and not field.allow_blank


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _header_references(names: Iterable[str]) -> Schema:
    return {name: _reference("headers", name) for name in names if name in _HEADERS}


def _object(*, optional: Iterable[str] = (), **properties: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _header(description: str, *, is_required: bool = True, **schema: Any) -> Schema:
    return {"description": description, "required": is_required, "schema": schema}


_ID: Schema = {"schema": {"type": "string", "format": "uuid"}}
_PATH_PARAMETERS: Mapping[str, Schema] = {
    "user_id": {
        "description": "The caller's own id, or the word `me`.",
        "schema": {"type": "string", "examples": ["me"]},
    }
}
_READ_ONLY = {"description": "Read-only: may be sent back as it was read, and has no effect."}
_REQUEST_ID = "0b7a7e3e-8d0c-4d0a-9a53-1f0c2ad1b8a5"

# By the name of the field, wherever it stands.
_EXAMPLES: Mapping[str, str] = {
    "email": "alice@example.com",
    "name": "Alice",
    "password": "correct horse battery staple",
    "current_password": "correct horse battery staple",
    "new_password": "battery staple correct horse",
    "title": "Buy milk",
    "description": "Two litres",
}

_HEADERS: Mapping[str, Schema] = {
    "X-Request-ID": _header(
        "The one that the request sent, where it was valid, else a new one.",
        type="string",
        pattern="^[A-Za-z0-9._-]{1,64}$",
    ),
    "Location": _header("Path of what was created.", type="string", format="uri-reference"),
    "Link": _header(
        'Path of the next page: `<path>; rel="next"`.', is_required=False, type="string"
    ),
    "WWW-Authenticate": _header("As RFC 6750, section 3, has it.", type="string"),
    "Retry-After": _header("Seconds to wait before the next try.", type="integer", minimum=1),
    "RateLimit-Limit": _header(
        "Tries in one window of time.", is_required=False, type="integer", minimum=1
    ),
    "RateLimit-Remaining": _header(
        "Tries left in this window.", is_required=False, type="integer", minimum=0
    ),
    "RateLimit-Reset": _header(
        "Seconds until the next window.", is_required=False, type="integer", minimum=1
    ),
}
_RATE_HEADERS = [name for name in _HEADERS if name.startswith("RateLimit-")]

_REQUEST_ID_FIELD = {"type": "string", "description": "As in X-Request-ID."}
_SCHEMAS: Mapping[str, Schema] = {
    "Meta": _object(request_id=_REQUEST_ID_FIELD),
    "PageMeta": _object(
        request_id=_REQUEST_ID_FIELD,
        limit={"type": "integer"},
        next_cursor={
            "type": ["string", "null"],
            "description": "The `cursor` of the next page. Null on the last one.",
        },
        total={"type": "integer", "description": "On all pages, where `total=true` was asked."},
        optional=["total"],
    ),
    "ErrorEnvelope": _object(
        error=_reference("schemas", "Error"), meta=_reference("schemas", "Meta")
    ),
    "Error": _object(
        code={"type": "string", "description": "Stable. Tell errors apart by it."},
        message={"type": "string", "description": "For people. It may change."},
        details={
            "type": "object",
            "description": "For VALIDATION_ERROR the faults of each field, and of none of them in "
            "`non_field_errors`. Else empty.",
            "additionalProperties": {"type": "array", "items": _reference("schemas", "FieldError")},
        },
    ),
    "FieldError": _object(code={"type": "string"}, message={"type": "string"}),
}

# By status: name, meaning, and the errors that it may be. 405 answers methods that no operation
# has, so it is none of an operation's.
_ERRORS: Mapping[int, tuple[str, str, list[exceptions.APIException]]] = {
    400: (
        "BadRequest",
        "What is sent is wrong or not known: nothing is ignored.",
        [
            exceptions.ValidationError(
                {"limit": [exceptions.ErrorDetail("A valid integer is required.", "invalid")]}
            ),
            exceptions.ParseError("The body must be a JSON object, such as {}."),
        ],
    ),
    401: (
        "Unauthorized",
        "A token or the credentials are missing, or not good, or not any more.",
        [
            exceptions.NotAuthenticated(),
            errors.TokenExpired(),
            errors.TokenInvalid(),
            errors.InvalidCredentials(),
        ],
    ),
    403: ("Forbidden", "`user_id` is not the caller's.", [exceptions.PermissionDenied()]),
    404: ("NotFound", "Nothing of the caller's has this id.", [exceptions.NotFound()]),
    406: ("NotAcceptable", "`Accept` rules JSON out.", [exceptions.NotAcceptable()]),
    413: ("PayloadTooLarge", "The body is too large.", [errors.PayloadTooLarge()]),
    415: (
        "UnsupportedMediaType",
        "The body is not sent as JSON in UTF-8.",
        [exceptions.UnsupportedMediaType("text/plain")],
    ),
    429: (
        "TooManyRequests",
        "Too many tries in this window of time. Operators choose the limits.",
        [exceptions.Throttled(wait=30)],
    ),
    500: ("InternalError", "A defect of the server.", [errors.internal_error()]),
    503: (
        "ServiceUnavailable",
        "The database is away or too slow; the same request may succeed later.",
        [errors.ServiceUnavailable()],
    ),
}
