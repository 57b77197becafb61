"""What the operations of the OpenAPI document share: headers, the envelope, the errors.

For schema.py. `errors.py` itself makes the examples and headers of the errors.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from rest_framework import exceptions

from . import errors
from .notes import Notes

Schema = dict[str, Any]

JSON = "application/json"


def reference(kind: str, name: str) -> Schema:
    """Never with anything beside it: most generators make an empty class of such a pair."""
    return {"$ref": f"#/components/{kind}/{name}"}


def header_references(names: Iterable[str]) -> Schema:
    return {name: reference("headers", name) for name in names if name in HEADERS}


def object_schema(*, optional: Iterable[str] = (), **properties: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _header(description: str, *, is_required: bool = True, **schema: Any) -> Schema:
    return {"description": description, "required": is_required, "schema": schema}


# --- Headers ----------------------------------------------------------------------------------

HEADERS: Mapping[str, Schema] = {
    "X-Request-ID": _header(
        "The one that the request sent, where it was valid, else a new one.",
        type="string",
        pattern="^[A-Za-z0-9._-]{1,64}$",
    ),
    "Location": _header("Path of what was created.", type="string", format="uri-reference"),
    "Link": _header(
        'Path of the next page: `<path>; rel="next"`.', is_required=False, type="string"
    ),
    "Accept-Encoding": _header(
        "Where the body was compressed: how to send it.", is_required=False, type="string"
    ),
    "Accept-Patch": _header(
        "Of a PATCH: what the body may be sent as (RFC 5789).", is_required=False, type="string"
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
RATE_HEADERS = [name for name in HEADERS if name.startswith("RateLimit-")]

# --- Errors -----------------------------------------------------------------------------------


class ErrorResponse(NamedTuple):
    """What an operation may answer with one status."""

    name: str
    meaning: str
    faults: Callable[[], list[exceptions.APIException]]  # as the settings have them


def _unauthorized() -> list[exceptions.APIException]:
    faults = [exceptions.NotAuthenticated(), errors.TokenExpired(), errors.TokenInvalid()]
    return [*faults, errors.InvalidCredentials()] if settings.LOCAL_ACCOUNTS else faults


ERRORS: Mapping[int, ErrorResponse] = {
    400: ErrorResponse(
        "BadRequest",
        "What is sent is wrong or not known: nothing is ignored.",
        lambda: [
            exceptions.ValidationError(
                {"limit": [exceptions.ErrorDetail("A valid integer is required.", "invalid")]}
            ),
            exceptions.ParseError("The body must be a JSON object, such as {}."),
        ],
    ),
    401: ErrorResponse(
        "Unauthorized",
        "A token or the credentials are missing, or not good, or not any more.",
        _unauthorized,
    ),
    403: ErrorResponse(
        "Forbidden",
        "`user_id` is not the caller's, the token is not good for this, or the account has been "
        "deactivated.",
        lambda: [exceptions.PermissionDenied(), errors.InsufficientScope("tasks:write")],
    ),
    404: ErrorResponse(
        "NotFound", "Nothing of the caller's has this id.", lambda: [exceptions.NotFound()]
    ),
    409: ErrorResponse(
        "Conflict",
        "Not possible as things are; the message says what stands against it.",
        lambda: [errors.Conflict("This is your last way to sign in. Add another one before.")],
    ),
    429: ErrorResponse(
        "TooManyRequests",
        "Too many tries in this window of time. Operators choose the limits.",
        lambda: [exceptions.Throttled(wait=30)],
    ),
}

# Every operation may answer these, and hardly ever does: they stand in one response of all, which
# keeps them from taking more room on a page than everything else.
RARE_ERROR = "RareError"
_RARE_ERRORS: Mapping[int, tuple[str, list[exceptions.APIException]]] = {
    406: ("`Accept` rules JSON out.", [exceptions.NotAcceptable()]),
    413: ("The body is too large.", [errors.PayloadTooLarge()]),
    415: (
        "The body is not sent as JSON in UTF-8, or compressed.",
        [exceptions.UnsupportedMediaType("text/plain"), errors.EncodedBody()],
    ),
    500: ("A defect of the server.", [errors.internal_error()]),
    503: (
        "Something that this needs is away, or too much is asked at once; see `Retry-After`.",
        [errors.ServiceUnavailable()],
    ),
}
# Answers a method that no operation has, and so is none of an operation's.
_WRONG_METHOD = exceptions.MethodNotAllowed("GET")


def error_responses() -> Schema:
    """The components that operations refer to."""
    responses = {error.name: _error_response(error) for error in ERRORS.values()}
    return responses | {RARE_ERROR: _rare_error_response()}


def _error_response(error: ErrorResponse) -> Schema:
    answers = [_answer(fault) for fault in error.faults()]
    rate_headers = RATE_HEADERS if error is ERRORS[429] else []
    examples = {_code(answer): {"value": json.loads(answer.content)} for answer in answers}
    headers = header_references(["X-Request-ID", *answers[0].headers, *rate_headers])
    return {
        "description": error.meaning,
        "headers": headers | _of_some(answers) | headers,  # in this order
        "content": _content(examples),
    }


def _rare_error_response() -> Schema:
    meanings = [f"- {status}: {meaning}" for status, (meaning, _) in _RARE_ERRORS.items()]
    answers = [_answer(fault) for _, faults in _RARE_ERRORS.values() for fault in faults]
    examples = {}
    for answer in answers:
        code = _code(answer)
        summary = f"{answer.status_code} {code}"
        examples[code] = {"summary": summary, "value": json.loads(answer.content)}
    return {
        "description": "\n".join(["Rare, and the same for every operation.", "", *meanings]),
        "headers": header_references(["X-Request-ID"]) | _of_some(answers),
        "content": _content(examples),
    }


def _of_some(answers: Iterable[Any]) -> Schema:
    """The headers that not every answer has."""
    return {
        name: HEADERS[name] | {"required": False}
        for answer in answers
        for name in HEADERS
        if name in answer.headers
    }


def _content(examples: Schema) -> Schema:
    return {JSON: {"schema": reference("schemas", "ErrorEnvelope"), "examples": examples}}


def _answer(fault: exceptions.APIException) -> Any:
    request = HttpRequest()
    request.method = "PATCH"  # whose answers have every header that any method's have
    request.notes = Notes("0b7a7e3e-8d0c-4d0a-9a53-1f0c2ad1b8a5")  # type: ignore[attr-defined]
    return errors.error_response(request, fault)


def _code(answer: Any) -> str:
    return str(json.loads(answer.content)["error"]["code"])


def _error_codes() -> list[str]:
    faults = [fault for error in ERRORS.values() for fault in error.faults()]
    faults += [_WRONG_METHOD, *(fault for _, some in _RARE_ERRORS.values() for fault in some)]
    return list(dict.fromkeys(_code(_answer(fault)) for fault in faults))


# --- Schemas ----------------------------------------------------------------------------------


def shared_schemas() -> Schema:
    """The components of every answer."""
    request_id = {"type": "string", "description": "As in X-Request-ID."}
    faults = {"type": "array", "items": reference("schemas", "FieldError")}
    code = reference("schemas", "ErrorCode")
    message = {"type": "string", "description": "For people. It may change."}
    return {
        "Meta": object_schema(request_id=request_id),
        "PageMeta": object_schema(
            request_id=request_id,
            limit={"type": "integer"},
            next_cursor={
                "type": ["string", "null"],
                "description": "The `cursor` of the next page. Null on the last one.",
            },
            total={"type": "integer", "description": "On all pages, where `total=true` was asked."},
            optional=["total"],
        ),
        "ErrorEnvelope": object_schema(
            error=reference("schemas", "ApiError"), meta=reference("schemas", "Meta")
        ),
        "ApiError": object_schema(
            code=code,
            message=message,
            details={
                "type": "object",
                "description": "For VALIDATION_ERROR the faults of each field, and of none of "
                "them in `non_field_errors`. For INSUFFICIENT_SCOPE the `scope` that the token "
                "lacks. Else empty.",
                "properties": {"scope": {"anyOf": [{"type": "string"}, faults]}},
                "additionalProperties": faults,
            },
        ),
        "ErrorCode": {
            "type": "string",
            "description": "Stable: tell errors apart by it. Later versions may have more.",
            "enum": _error_codes(),
        },
        "FieldError": object_schema(code=_field_code(), message=message),
    }


def _field_code() -> Schema:
    known = {
        code: meaning
        for code, meaning in errors.FIELD_CODES.items()
        if settings.LOCAL_ACCOUNTS or not code.startswith("password_")  # of a new one
    }
    meanings = [f"- `{code}`: {meaning}" for code, meaning in known.items()]
    introduction = "What is wrong with the field, for a form to translate. There may be more:"
    return {
        "type": "string",
        "description": "\n".join([introduction, "", *meanings]),
        "examples": list(known),
    }
