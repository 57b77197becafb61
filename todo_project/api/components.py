"""What the operations of the OpenAPI document share: headers, the envelope, the errors.

For schema.py. What it says of an error is what the error's class says (errors/kinds.py), and the
examples and headers of errors are answers of theirs.
"""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from .errors import CODES, EXAMPLE_ETAG, FIELD_CODES, ApiException, error_response
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
    "ETag": _header(
        "Of what is answered, opaque; for `If-Match` and `If-None-Match`.", type="string"
    ),
    "Content-Disposition": _header("That it is a file, and its name (RFC 6266).", type="string"),
    "Idempotent-Replayed": _header(
        "`true` where the `Idempotency-Key` came before, and its answer is given again.",
        is_required=False,
        type="string",
    ),
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


def _header_parameter(name: str, description: str, **schema: Any) -> Schema:
    """Its example stands in the description: pages would send any other unasked."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


IF_MATCH = _header_parameter(
    "If-Match",
    "Only while the resource has this `ETag`, or one of several, such as "
    f"`{EXAMPLE_ETAG}`; else 412. Without it the write is done whatever is there.",
)
IF_NONE_MATCH = _header_parameter(
    "If-None-Match",
    f"The `ETag` of what you have, such as `{EXAMPLE_ETAG}`: 304 while nothing has changed.",
)
IF_NONE_MATCH_ANY = _header_parameter(
    "If-None-Match",
    "`*`: create it under this id, which you have chosen; 412 where there is one already.",
    pattern=r"^\*$",
)
IDEMPOTENCY_KEY = _header_parameter(
    "Idempotency-Key",
    "Any new text of 1 to 255 visible ASCII characters, such as "
    "`9b2c1f0e-5d41-4c0a-8f37-2f6f3f1d2a10`. A repeat of the request with the same key changes "
    "nothing, and gets the first one's answer.",
    # Bare, or quoted as structured fields have strings (RFC 9651).
    pattern=r'^([!#-~]{1,255}|"[!#-\[\]-~]{1,255}")$',
)

TIME_ZONE = _header_parameter(
    "X-Time-Zone",
    "Where you are, such as `Europe/Berlin`: what a completion by you goes by, for which day it "
    "is. UTC where it is left out; a task's own `time_zone` comes first.",
    pattern=r"^([A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+|UTC)$",
)

# --- Errors -----------------------------------------------------------------------------------

# Every operation may answer these, and hardly ever does: they stand in one response of all, which
# keeps them from taking more room on a page than everything else.
_RARE_STATUSES = (406, 413, 415, 500, 503)
# Answers a method that no operation has, and so is none of an operation's.
_WRONG_METHOD = 405

# What an operation may answer, and declares.
ERROR_STATUSES = frozenset(
    kind.status_code
    for kind in CODES.values()
    if kind.status_code not in (*_RARE_STATUSES, _WRONG_METHOD)
)


def error_name(status: int) -> str:
    """The component that describes the errors of a status."""
    if status == 422:
        return "UnprocessableContent"  # so since RFC 9110, and in Python from 3.13 on
    return HTTPStatus(status).phrase.replace(" ", "")


RARE_ERROR = "RareError"
NOT_MODIFIED = "NotModified"


def shared_responses() -> Schema:
    """The components that operations refer to."""
    errors = {error_name(status): _error_response(status) for status in sorted(ERROR_STATUSES)}
    not_modified = {
        "description": "Nothing has changed. Without a body.",
        "headers": header_references(["X-Request-ID", "ETag"]),
    }
    return {NOT_MODIFIED: not_modified, **errors, RARE_ERROR: _rare_error_response()}


def _kinds(status: int) -> list[type[ApiException]]:
    return [kind for kind in CODES.values() if kind.status_code == status and kind.is_possible()]


def _error_response(status: int) -> Schema:
    kinds = _kinds(status)
    answers = [_answer(kind) for kind in kinds]
    meanings = [f"- `{kind.default_code}`: {kind.meaning}" for kind in kinds]
    rate_headers = RATE_HEADERS if status == 429 else []
    examples = {_code(answer): {"value": json.loads(answer.content)} for answer in answers}
    headers = header_references(["X-Request-ID", *answers[0].headers, *rate_headers])
    if status == 412:  # where there is nothing to show there is no tag either
        headers |= _of_some(answers)
    return {
        "description": kinds[0].meaning if len(kinds) == 1 else "\n".join(meanings),
        "headers": headers | _of_some(answers) | headers,  # in this order
        "content": _content(examples),
    }


def _rare_error_response() -> Schema:
    kinds = [kind for status in _RARE_STATUSES for kind in _kinds(status)]
    meanings = [f"- {kind.status_code}: {kind.meaning}" for kind in kinds]
    answers = [_answer(kind) for kind in kinds]
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
        if HEADERS[name]["required"]
        else reference("headers", name)
        for answer in answers
        for name in HEADERS
        if name in answer.headers
    }


def _content(examples: Schema) -> Schema:
    return {JSON: {"schema": reference("schemas", "ErrorEnvelope"), "examples": examples}}


def _answer(kind: type[ApiException]) -> Any:
    request = HttpRequest()
    request.method = "PATCH"  # whose answers have every header that any method's have
    request.notes = Notes("0b7a7e3e-8d0c-4d0a-9a53-1f0c2ad1b8a5")  # type: ignore[attr-defined]
    return error_response(request, kind.example())


def _code(answer: Any) -> str:
    return str(json.loads(answer.content)["error"]["code"])


def _error_codes() -> list[str]:
    return [code for code, kind in CODES.items() if kind.is_possible()]


# --- Schemas ----------------------------------------------------------------------------------


def shared_schemas() -> Schema:
    """The components of every answer."""
    request_id = {"type": "string", "description": "As in X-Request-ID."}
    faults = {"type": "array", "items": reference("schemas", "FieldError")}
    failed = [reference("schemas", name) for name in ("FailedOperation", "FieldError")]
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
            details=reference("schemas", "ErrorDetails"),
        ),
        "ErrorDetails": {
            "type": "object",
            "description": "For VALIDATION_ERROR the faults of each field, and of none of "
            "them in `non_field_errors`. For INSUFFICIENT_SCOPE the `scope` that the token "
            "lacks. For PRECONDITION_FAILED the resource as it is, in `current`, and "
            "`deleted`, true, where that is in the trash. For CONFLICT of a batch the "
            "`operations` that failed. Else empty.",
            "properties": {
                # Or what is wrong with a field of that name, which somebody may send.
                "scope": {"oneOf": [{"type": "string"}, faults]},
                "current": {"oneOf": [{"type": ["object", "null"]}, faults]},
                "deleted": {"oneOf": [{"type": "boolean"}, faults]},
                "operations": {"type": "array", "items": {"oneOf": failed}},
            },
            "additionalProperties": faults,
        },
        "FailedOperation": object_schema(
            index={"type": "integer", "minimum": 0, "description": "Its place in the batch."},
            status={"type": "integer", "description": "As its own route would answer."},
            error=reference("schemas", "ApiError"),
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
        for code, meaning in FIELD_CODES.items()
        if settings.LOCAL_ACCOUNTS or not code.startswith("password_")  # of a new one
    }
    meanings = [f"- `{code}`: {meaning}" for code, meaning in known.items()]
    introduction = "What is wrong with the field, for a form to translate. There may be more:"
    return {
        "type": "string",
        "description": "\n".join([introduction, "", *meanings]),
        "examples": list(known),
    }
