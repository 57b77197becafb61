"""Checks answers against the committed OpenAPI document; the client of the tests does it to each.

Stricter than the document where that leaves room for growth: an answer holds no property and no
code that is not documented, an error only the codes of its status, and times and UUIDs stand in the
one form that the contract promises.
"""

import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from django.http.response import HttpResponseBase
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

DOCUMENT = Path(__file__).resolve().parent.parent / "openapi.yaml"
Node = dict[str, Any]

_JSON = "application/json"
_URI = "urn:openapi"
_ERROR_POINTER = "/components/schemas/ErrorEnvelope"

FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time")
def _is_time(value: object) -> bool:
    """In UTC, with microseconds and `Z`."""
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    return not isinstance(value, str) or re.fullmatch(form, value, re.ASCII) is not None


@FORMATS.checks("uuid")
def _is_uuid(value: object) -> bool:
    form = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return not isinstance(value, str) or re.fullmatch(form, value) is not None


@FORMATS.checks("uri-reference")
def _is_path(value: object) -> bool:
    """Path-absolute, as the contract has `Location`."""
    return not isinstance(value, str) or re.match(r"/(?!/)", value) is not None


def validate_response(method: str, path: str, response: HttpResponseBase) -> None:
    """Raises AssertionError where the document does not allow `response` to `method` on `path`.

    `path` may be under either prefix, with or without trailing slash and query. What is no
    operation (admin, assets, unknown URLs, wrong methods) must at least answer errors in shape.
    """
    exchange = f"{method} {path} answered {response.status_code}"
    template = _template(urlsplit(path).path)
    method_key = "get" if method == "HEAD" else method.lower()
    operation = read_document()["paths"].get(template, {}).get(method_key)
    if template is None or operation is None:
        is_refusal = response.status_code >= 400 or method == "OPTIONS"
        assert template is None or is_refusal, f"{exchange}, but documented is no such method"
        if response.status_code >= 400 and response.get("Content-Type") == _JSON:
            _validate_body(exchange, method, response, _ERROR_POINTER)
        return

    if response.status_code == 301 and response["Location"].startswith("https://"):
        return  # to TLS, before any route is reached

    statuses = operation["responses"]
    status = str(response.status_code)
    key = status if status in statuses else "default"
    pointer = f"/paths/{_escape(template)}/{method_key}/responses/{key}"
    pointer, definition = _resolve(pointer, statuses[key])
    codes = _error_codes(definition, status)
    is_documented = key == status or codes
    assert is_documented, f"{exchange}, but documented are {', '.join(statuses)}"
    _validate_headers(exchange, response, definition.get("headers", {}), pointer)
    is_later = response.status_code in (429, 503)
    assert "Retry-After" in response or not is_later, f"{exchange} without Retry-After"
    if _JSON in definition.get("content", {}):
        content_type = response.get("Content-Type")
        assert content_type == _JSON, f"{exchange} as {content_type}, but documented is {_JSON}"
        body_pointer = f"{pointer}/content/{_escape(_JSON)}/schema"
        _validate_body(exchange, method, response, body_pointer, codes)
    else:
        body = _body(response)
        assert not body, f"{exchange} with a body, but documented is none: {body[:500]!r}"


def read_document() -> Node:
    return _others[-1] if _others else _committed()


# Documents that take the place of the committed one for a while: the last one does.
_others: list[Node] = []


@contextmanager
def documented_by(document: Node) -> Iterator[None]:
    """Checks answers against another document, which has routes that the service has not."""
    _others.append(document)
    _forget()
    yield
    _others.pop()
    _forget()


def _forget() -> None:
    for cached in (_registry, _patterns, schema_validator):
        cached.cache_clear()


@cache
def _committed() -> Node:
    document: Node = yaml.load(DOCUMENT.read_text(), Loader=yaml.CSafeLoader)
    return document


@cache
def schema_validator(pointer: str) -> Draft202012Validator:
    """For the schema at `pointer` (RFC 6901) in the document."""
    reference = {"$ref": f"{_URI}#{pointer}"}
    return Draft202012Validator(reference, registry=_registry(), format_checker=FORMATS)


@cache
def _registry() -> Registry[Any]:
    closed = copy.deepcopy(read_document())
    for schema in nodes(closed["components"]["schemas"]):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    resource = DRAFT202012.create_resource(closed)
    registry: Registry[Any] = Registry().with_resource(_URI, resource)
    return registry


def _template(path: str) -> str | None:
    """The documented path that `path` is an instance of, if any."""
    path = path.removesuffix("/")
    if path.startswith("/users/"):
        templates = [template for template in _patterns() if template.startswith("/api/{user_id}/")]
        path = "/api/" + path.removeprefix("/users/")
    else:
        templates = list(_patterns())
    matching = [template for template in templates if _patterns()[template].fullmatch(path)]
    return min(matching, key=lambda template: template.count("{"), default=None)


@cache
def _patterns() -> Mapping[str, re.Pattern[str]]:
    return {
        template: re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)))
        for template in read_document()["paths"]
    }


def _resolve(pointer: str, node: Node) -> tuple[str, Node]:
    """Follows a reference to a component, where `node` is one."""
    if "$ref" not in node:
        return pointer, node
    _, _, kind, name = node["$ref"].split("/")
    return f"/components/{kind}/{name}", read_document()["components"][kind][name]


def _error_codes(definition: Node, status: str) -> set[str]:
    """Those that an answer of this status may have: a default response says which is whose."""
    examples = definition.get("content", {}).get(_JSON, {}).get("examples", {})
    return {
        code
        for code, example in examples.items()
        if example.get("summary", status).startswith(status)
    }


def _validate_headers(
    exchange: str, response: HttpResponseBase, headers: Node, response_pointer: str
) -> None:
    for name, header in headers.items():
        pointer, definition = _resolve(f"{response_pointer}/headers/{name}", header)
        value: Any = response.get(name)
        assert value is not None or not definition["required"], f"{exchange} without {name}"
        if value is not None:
            is_number = definition["schema"]["type"] == "integer" and value.isdecimal()
            _validate(
                f"{exchange}, {name}", int(value) if is_number else value, f"{pointer}/schema"
            )


def _validate_body(
    exchange: str,
    method: str,
    response: HttpResponseBase,
    pointer: str,
    codes: Collection[str] = (),
) -> None:
    body = _body(response)
    if method == "HEAD":
        assert not body, f"{exchange} with a body"
        return
    try:
        value = json.loads(body)
    except ValueError:
        raise AssertionError(f"{exchange}, but not in JSON: {body[:500]!r}") from None
    _validate(exchange, value, pointer)
    if "error" in value:
        _validate_codes(exchange, value["error"], codes)


def _validate_codes(exchange: str, error: Node, codes: Collection[str]) -> None:
    """`codes` are those that the error may have; without any it may have all."""
    code = error["code"]
    assert not codes or code in codes, f"{exchange} with {code}, but $.error.code is one of {codes}"
    known = field_codes()
    lists = [value for value in error["details"].values() if isinstance(value, list)]
    entries = [entry for value in lists for entry in value]
    for operation in (entry for entry in entries if "error" in entry):
        _validate_codes(exchange, operation["error"], ())
    faults = {entry["code"] for entry in entries if "error" not in entry}
    assert faults <= known, f"{exchange}, but no documented field code is {faults - known}"


def field_codes() -> set[str]:
    return set(
        read_document()["components"]["schemas"]["FieldError"]["properties"]["code"]["examples"]
    )


def _validate(exchange: str, value: object, pointer: str) -> None:
    errors = schema_validator(pointer).iter_errors(value)
    faults = "".join(f"\n  {error.json_path}: {error.message}" for error in errors)
    assert not faults, f"{exchange}, but not as documented at {pointer}:{faults}"


def _body(response: HttpResponseBase) -> bytes:
    content: bytes = getattr(response, "content", b"")
    return content


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def nodes(node: object) -> Iterator[Node]:
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from nodes(child)
