"""Teaches drf-spectacular the conventions: strict input, the envelope, the errors.

settings.py names it; nothing imports it. Views declare an operation's id and what it answers when
it succeeds; the rest is read from what the view runs on (`body_serializers`, `query_serializers`,
authenticators, path), and the errors' examples and headers are made by `errors.py` itself.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, force_instance
from rest_framework import exceptions, serializers
from uritemplate import variables

from . import errors

Schema = dict[str, Any]

_JSON = "application/json"


class EnvelopeSchema(AutoSchema):  # type: ignore[misc]
    """One operation, as the conventions have it."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema | None:
        operation: Schema | None = super().get_operation(*args, **kwargs)
        if operation is not None:
            operation.setdefault("security", [])
        return operation

    def get_auth(self) -> list[Schema]:
        return [requirement for requirement in super().get_auth() if requirement]

    def get_tags(self) -> list[str]:
        """The first fixed segment after /api."""
        return [segment for segment in self.path.split("/")[2:] if "{" not in segment][:1]

    def get_summary(self) -> str:
        return self._sentences()[0].rstrip(".")

    def get_description(self) -> str:
        return "".join(self._sentences()[1:])

    def _sentences(self) -> list[str]:
        """The first sentence of the docstring, and the others where there are any."""
        return re.split(r"(?<=\.)\s+", super().get_description(), maxsplit=1)

    # --- Requests -----------------------------------------------------------------------------

    def get_request_serializer(self) -> Any:
        return self.view.body_serializers.get(self.view.operation)

    def get_override_parameters(self) -> list[Any]:
        query = self.view.query_serializers.get(self.view.operation)
        return [] if query is None else [query]

    def _resolve_path_parameters(self, variables: Iterable[str]) -> list[Schema]:
        return [
            {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS.get(name, _ID)}
            for name in variables
        ]

    def _get_request_body(self, direction: str = "request") -> Schema | None:
        """drf-spectacular knows no DELETE with a body; deleting an account takes the password."""
        serializer = self.get_request_serializer()
        if serializer is None:
            return None
        schema, is_required = self._get_request_for_media_type(serializer)
        return {
            "description": f"At most {settings.MAX_BODY_BYTES // 1024} KiB.",
            "content": {_JSON: {"schema": schema}},
            "required": is_required,
        }

    def _map_serializer_field(self, field: Any, direction: str, *args: Any) -> Any:
        schema = super()._map_serializer_field(field, direction, *args)
        if isinstance(field, serializers.ChoiceField):
            del schema["x-spec-enum-id"]
            schema["description"] = field.help_text  # without the choices, which `enum` lists
            if list(field.choices) == ["true", "false"]:
                del schema["enum"]
                schema["type"] = "boolean"
        if direction == "request" and _is_trimmed(field) and "format" not in schema:
            schema["pattern"] = r"\S"  # blank is what has no visible character
        return schema

    def _postprocess_serializer_schema(
        self, schema: Schema, serializer: Any, direction: str
    ) -> Schema:
        """Requests refuse unknown fields and ignore read-only ones; answers have every field.

        Read-only fields stand under patternProperties: validators know them, and the models that
        code generators make offer nothing that has no effect.
        """
        read_only = [name for name, field in schema["properties"].items() if "readOnly" in field]
        super()._postprocess_serializer_schema(schema, serializer, direction)
        if direction == "request":
            schema["additionalProperties"] = False
            if read_only:
                schema["patternProperties"] = {f"^({'|'.join(read_only)})$": _READ_ONLY}
        else:
            schema["required"] = list(schema["properties"])
            for field in schema["properties"].values():
                field.pop("readOnly", None)
        return schema

    # --- Answers ------------------------------------------------------------------------------

    def _get_response_bodies(self, direction: str = "response") -> Schema:
        declared = self.get_response_serializers()
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
        return dict(envelope.ref)

    def _is_paged(self) -> bool:
        query = self.view.query_serializers.get(self.view.operation)
        return query is not None and "cursor" in query().fields

    def _error_statuses(self, *, is_creation: bool) -> Iterator[int]:
        yield from (400, 406, 413, 415, 500, 503)
        if self.get_auth() or (self._reads_secrets() and not is_creation):
            yield 401
        names = variables(self.path)
        if "user_id" in names:
            yield 403
        if set(names) - {"user_id"}:
            yield 404

    def _reads_secrets(self) -> bool:
        """Whether the body carries credentials, which are checked; a creation sets new ones."""
        serializer = self.get_request_serializer()
        return serializer is not None and not {"password", "refresh"}.isdisjoint(serializer().fields)


class AccessTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[misc]
    """Describes the project's authentication class."""

    target_class = "accounts.authentication.SessionTokenAuthentication"
    name = "accessToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "`access` of POST /api/auth/token, or of POST /api/auth/token/refresh.",
        }


def keep_canonical_paths(endpoints: Iterable[tuple[Any, ...]], **kwargs: Any) -> list[Any]:
    """Preprocessing hook: paths have no trailing slash, and the prefix /users/ is left out."""
    return [
        (path.rstrip("/"), *rest) for path, *rest in endpoints if not path.startswith("/users/")
    ]


def finish_document(result: Schema, **kwargs: Any) -> Schema:
    """Postprocessing hook: adds the components that operations share, and the examples."""
    components = result["components"]
    components["schemas"] = dict(sorted((components["schemas"] | _SCHEMAS).items()))
    for name, example in _EXAMPLES.items():
        components["schemas"][name]["examples"] = [example]
    components["responses"] = {
        name: _error(description, faults) for name, description, faults in _ERRORS.values()
    }
    components["headers"] = _HEADERS
    return result


def _error(description: str, faults: Iterable[exceptions.APIException]) -> Schema:
    """The component of an error's answer, from what `errors.py` answers for each of `faults`."""
    request = HttpRequest()
    request.request_id = _REQUEST_ID  # type: ignore[attr-defined]
    answers = [errors.error_response(request, fault) for fault in faults]
    bodies = [json.loads(answer.content) for answer in answers]
    codes = [body["error"]["code"] for body in bodies]
    return {
        "description": description,
        "headers": _header_references(["X-Request-ID", *answers[0].headers]),
        "content": {
            _JSON: {
                "schema": {
                    **_reference("schemas", "ErrorEnvelope"),
                    "properties": {"error": {"properties": {"code": {"enum": codes}}}},
                },
                "examples": {
                    code: {"value": body} for code, body in zip(codes, bodies, strict=True)
                },
            }
        },
    }


def _is_trimmed(field: Any) -> bool:
    return (
        isinstance(field, serializers.CharField)
        and field.trim_whitespace
        and not field.allow_blank
    )


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _header_references(names: Iterable[str]) -> Schema:
    return {name: _reference("headers", name) for name in names if name in _HEADERS}


def _object(*, optional: Iterable[str] = (), **properties: Any) -> Schema:
    """An object with these properties, all required but those in `optional`."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


_REQUEST_ID = "0b7a7e3e-8d0c-4d0a-9a53-1f0c2ad1b8a5"
_ID: Schema = {"schema": {"type": "string", "format": "uuid"}}
_PATH_PARAMETERS: Mapping[str, Schema] = {
    "user_id": {
        "description": "The caller's own id, or the word `me`.",
        "schema": {"type": "string", "examples": ["me"]},
    }
}
_READ_ONLY = {"description": "Read-only: may be sent back as it was read, and has no effect."}

_HEADERS: Mapping[str, Schema] = {
    "X-Request-ID": {
        "description": "The request's own id where it sent a valid one, else a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Location": {
        "description": "The path of what was created.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Link": {
        "description": 'The path of the next page, as `<path>; rel="next"`; not on the last page.',
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`, with `error` where a token was sent (RFC 6750, section 3).",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}

_REQUEST_ID_SCHEMA = {
    "type": "string",
    "description": "Also in the header X-Request-ID. Name it when you report a fault.",
    "examples": [_REQUEST_ID],
}
_SCHEMAS: Mapping[str, Schema] = {
    "Meta": _object(request_id=_REQUEST_ID_SCHEMA),
    "PageMeta": _object(
        request_id=_REQUEST_ID_SCHEMA,
        limit={"type": "integer", "minimum": 1, "maximum": settings.PAGE_SIZE_MAX},
        next_cursor={
            "type": ["string", "null"],
            "description": "Send it as `cursor` to get the next page. Null on the last one.",
        },
        total={
            "type": "integer",
            "minimum": 0,
            "description": "How many match on all pages. Only where `total=true` was asked.",
        },
        optional=["total"],
    ),
    "ErrorEnvelope": _object(error=_reference("schemas", "Error"), meta=_reference("schemas", "Meta")),
    "Error": _object(
        code={"type": "string", "description": "Tell errors apart by it: it does not change."},
        message={"type": "string", "description": "For people. It may change."},
        details={
            "type": "object",
            "description": "Maps each field that is wrong to its faults, and `non_field_errors` to "
            "those of none. Empty where `code` is not VALIDATION_ERROR.",
            "additionalProperties": {
                "type": "array",
                "items": _reference("schemas", "FieldError"),
                "minItems": 1,
            },
        },
    ),
    "FieldError": _object(code={"type": "string"}, message={"type": "string"}),
}

# By status: the component's name, when it is answered, and the errors it may be. 405 is missing,
# because it is the answer to methods that are no operations.
_ERRORS: Mapping[int, tuple[str, str, list[exceptions.APIException]]] = {
    400: (
        "BadRequest",
        "The body, a query parameter or the Host is wrong. What is unknown is refused, not ignored.",
        [
            exceptions.ValidationError(
                {"limit": [exceptions.ErrorDetail("A valid integer is required.", "invalid")]}
            ),
            exceptions.ParseError("The body must be a JSON object, such as {}."),
        ],
    ),
    401: (
        "Unauthorized",
        "The credentials or the token are missing, or not or no longer good.",
        [
            exceptions.NotAuthenticated(),
            errors.TokenExpired(),
            errors.TokenInvalid(),
            errors.InvalidCredentials(),
        ],
    ),
    403: ("Forbidden", "`user_id` is not the caller's.", [exceptions.PermissionDenied()]),
    404: ("NotFound", "The caller has nothing with this id.", [exceptions.NotFound()]),
    406: ("NotAcceptable", "Accept leaves JSON out.", [exceptions.NotAcceptable()]),
    413: ("PayloadTooLarge", "The body is too large.", [errors.PayloadTooLarge()]),
    415: (
        "UnsupportedMediaType",
        "The body is sent as something other than JSON in UTF-8.",
        [exceptions.UnsupportedMediaType("text/plain")],
    ),
    500: ("InternalError", "A defect of the server.", [errors.internal_error()]),
    503: (
        "ServiceUnavailable",
        "The database is away or too slow. The same request may succeed later.",
        [errors.ServiceUnavailable()],
    ),
}

_EXAMPLE_TIME = "2026-01-31T09:30:00.123456Z"
_EXAMPLES: Mapping[str, Schema] = {
    "RegistrationRequest": {
        "email": "alice@example.com",
        "password": "correct horse battery staple",
        "name": "Alice",
    },
    "CredentialsRequest": {
        "email": "alice@example.com",
        "password": "correct horse battery staple",
    },
    "TokenPair": {
        "access": "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoiYWNjZXNzIn0.c2lnbmF0dXJl",
        "refresh": "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl",
        "expires_in": 900,
    },
    "User": {
        "id": "019c1388-5d7b-7c3e-9b0a-4c1d2e3f4a5b",
        "email": "alice@example.com",
        "name": "Alice",
        "created_at": _EXAMPLE_TIME,
    },
    "PatchedProfileRequest": {"name": "Alice Liddell"},
    "TaskRequest": {"title": "Buy milk", "description": "Two litres"},
    "PatchedTaskRequest": {"title": "Buy oat milk"},
    "PatchedCompletionRequest": {"is_completed": True},
    "Task": {
        "id": "019c1389-02a4-7e51-8d33-5b6c7d8e9f00",
        "user_id": "019c1388-5d7b-7c3e-9b0a-4c1d2e3f4a5b",
        "title": "Buy milk",
        "description": "Two litres",
        "is_completed": False,
        "completed_at": None,
        "created_at": _EXAMPLE_TIME,
        "updated_at": _EXAMPLE_TIME,
    },
}
