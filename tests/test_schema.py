"""The OpenAPI document: complete, enforced by the tests' client, and shown without other hosts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.admindocs.views import simplify_regex
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from jsonschema import Draft202012Validator

from tests.openapi import DOCUMENT, read_document, schema_validator, validate_response

# Pages, probes and the service's own description are no operations of the API.
UNDOCUMENTED = {"/", "/livez", "/readyz", "/api/schema", "/api/docs", "/api/redoc", "/admin"}

EVERYWHERE = {"400", "406", "413", "415", "500", "503"}
OF_CALLER = EVERYWHERE | {"401"}
OF_PATH = OF_CALLER | {"403"}
OF_TASK = OF_PATH | {"404"}
LIMITED = {"429"}
OPERATIONS = {
    "auth_register": ("POST /api/auth/register", {"201"} | EVERYWHERE | LIMITED),
    "auth_token": ("POST /api/auth/token", {"200"} | OF_CALLER | LIMITED),
    "auth_token_refresh": ("POST /api/auth/token/refresh", {"200"} | OF_CALLER | LIMITED),
    "auth_logout_all": ("POST /api/auth/logout-all", {"204"} | OF_CALLER),
    "auth_sessions_list": ("GET /api/auth/sessions", {"200"} | OF_CALLER),
    "auth_sessions_end": (
        "DELETE /api/auth/sessions/{session_id}",
        {"204", "404"} | OF_CALLER,
    ),
    "auth_password_reset": ("POST /api/auth/password/reset", {"202"} | EVERYWHERE | LIMITED),
    "auth_password_reset_confirm": (
        "POST /api/auth/password/reset/confirm",
        {"204"} | EVERYWHERE | LIMITED,
    ),
    "auth_logout": ("POST /api/auth/logout", {"204"} | OF_CALLER),
    "auth_me_read": ("GET /api/auth/me", {"200"} | OF_CALLER),
    "auth_me_update": ("PATCH /api/auth/me", {"200"} | OF_CALLER | LIMITED),
    "auth_me_delete": ("DELETE /api/auth/me", {"204"} | OF_CALLER | LIMITED),
    "auth_me_delete_by_post": ("POST /api/auth/me/delete", {"204"} | OF_CALLER | LIMITED),
    "auth_password_change": ("POST /api/auth/password", {"204"} | OF_CALLER | LIMITED),
    "tasks_list": ("GET /api/{user_id}/tasks", {"200"} | OF_PATH),
    "tasks_create": ("POST /api/{user_id}/tasks", {"201"} | OF_PATH | LIMITED),
    "tasks_read": ("GET /api/{user_id}/tasks/{task_id}", {"200"} | OF_TASK),
    "tasks_replace": ("PUT /api/{user_id}/tasks/{task_id}", {"200"} | OF_TASK | LIMITED),
    "tasks_update": ("PATCH /api/{user_id}/tasks/{task_id}", {"200"} | OF_TASK | LIMITED),
    "tasks_delete": ("DELETE /api/{user_id}/tasks/{task_id}", {"204"} | OF_TASK | LIMITED),
    "tasks_complete": (
        "PATCH /api/{user_id}/tasks/{task_id}/complete",
        {"200"} | OF_TASK | LIMITED,
    ),
}
PUBLIC = {
    "auth_register",
    "auth_token",
    "auth_token_refresh",
    "auth_logout",
    "auth_password_reset",
    "auth_password_reset_confirm",
}


def documented() -> dict[str, tuple[str, dict[str, Any]]]:
    """Each operation of the document, by its id, with its method and path."""
    return {
        operation["operationId"]: (f"{method.upper()} {path}", operation)
        for path, operations in read_document()["paths"].items()
        for method, operation in operations.items()
    }


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every URL pattern's path, as the document spells paths, and its view."""
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        elif isinstance(pattern, URLPattern):
            path = simplify_regex(route).replace("<", "{").replace(">", "}")
            yield path.rstrip("/") or "/", pattern.callback


def methods(view: Any) -> set[str]:
    """Those of a view of REST framework; a plain one may answer any."""
    if hasattr(view, "actions"):
        return {method.upper() for method in view.actions} - {"HEAD"}
    return set(view.cls().allowed_methods) - {"HEAD"} if hasattr(view, "cls") else {"ANY"}


def test_document_is_valid_and_up_to_date(tmp_path: Path) -> None:
    generated = tmp_path / "openapi.yaml"

    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(generated))

    assert DOCUMENT.read_text() == generated.read_text(), "regenerate it: make schema"


def test_routes_and_document_match() -> None:
    """[R2] The prefix /users/ has the same routes, and is kept out of the document."""
    served = {
        f"{method} {path}"
        for path, view in routes(get_resolver())
        if path not in UNDOCUMENTED and not path.startswith("/admin/")
        for method in methods(view)
    }
    paths = {path for path, _ in documented().values()}
    tasks = {path for path in paths if "{user_id}" in path}

    assert served == paths | {path.replace("/api/", "/users/") for path in tasks}


def test_operations_are_those_of_the_contract() -> None:
    assert {name: path for name, (path, _) in documented().items()} == {
        name: path for name, (path, _) in OPERATIONS.items()
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_documented_whole(name: str) -> None:
    _, statuses = OPERATIONS[name]

    _, operation = documented()[name]

    assert set(operation["responses"]) == statuses
    assert operation["security"] == ([] if name in PUBLIC else [{"accessToken": []}])
    assert operation["tags"] == [name.partition("_")[0]]
    assert operation["summary"]


@pytest.mark.parametrize("name", read_document()["components"]["schemas"])
def test_schema_is_valid(name: str) -> None:
    Draft202012Validator.check_schema(read_document()["components"]["schemas"][name])


def field_examples() -> Iterator[Any]:
    for name, schema in read_document()["components"]["schemas"].items():
        for field, definition in schema["properties"].items():
            pointer = f"/components/schemas/{name}/properties/{field}"
            for example in definition.get("examples", []):
                yield pytest.param(pointer, example, id=f"{name}-{field}")


def error_examples() -> Iterator[Any]:
    for name, response in read_document()["components"]["responses"].items():
        pointer = f"/components/responses/{name}/content/application~1json/schema"
        for code, example in response["content"]["application/json"]["examples"].items():
            yield pytest.param(pointer, example["value"], id=code)


@pytest.mark.parametrize(("pointer", "example"), [*field_examples(), *error_examples()])
def test_example_is_valid(pointer: str, example: object) -> None:
    schema_validator(pointer).validate(example)


TASK: dict[str, Any] = {
    "id": "019c1389-02a4-7e51-8d33-5b6c7d8e9f00",
    "user_id": "019c1388-5d7b-7c3e-9b0a-4c1d2e3f4a5b",
    "title": "Buy milk",
    "description": None,
    "is_completed": False,
    "completed_at": None,
    "created_at": "2026-01-31T09:30:00.123456Z",
    "updated_at": "2026-01-31T09:30:00.123456Z",
}


@pytest.mark.parametrize(
    ("request_body", "is_valid"),
    [
        pytest.param({"title": "x"}, True, id="title alone"),
        pytest.param(TASK, True, id="as it was read"),
        pytest.param({**TASK, "colour": "red"}, False, id="unknown field"),
        pytest.param({}, False, id="without title"),
        pytest.param({"title": " \t\n"}, False, id="blank title"),
        pytest.param({"title": "x" * 256}, False, id="long title"),
        pytest.param({"title": None}, False, id="null title"),
        pytest.param({"title": "x", "description": "x" * 10_001}, False, id="long description"),
        pytest.param({"title": "x", "is_completed": None}, False, id="null is_completed"),
    ],
)
def test_document_says_what_a_task_may_be(request_body: object, is_valid: bool) -> None:
    """[T1] [B4]"""
    validator = schema_validator("/components/schemas/TaskRequest")

    assert validator.is_valid(request_body) is is_valid


@pytest.mark.parametrize(
    ("request_body", "is_valid"),
    [({}, True), ({"title": "x"}, True), ({"title": ""}, False), ({"colour": "red"}, False)],
)
def test_document_requires_no_field_of_a_patch(request_body: object, is_valid: bool) -> None:
    validator = schema_validator("/components/schemas/PatchedTaskRequest")

    assert validator.is_valid(request_body) is is_valid


HEADERS = {"X-Request-ID": "x", "Content-Type": "application/json"}
META = {"request_id": "x"}
TASKS = {"data": [TASK], "meta": {**META, "limit": 50, "next_cursor": None}}


def answer(body: object, status: int = 200, **headers: str | None) -> HttpResponse:
    """As the service would make it; a header that is None is left out."""
    changes = {name.replace("_", "-"): value for name, value in headers.items()}
    present = {name: value for name, value in (HEADERS | changes).items() if value is not None}
    return HttpResponse(json.dumps(body), status=status, headers=present)


def error(code: str, **details: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": "x", "details": details}, "meta": META}


@pytest.mark.parametrize(
    ("method", "path", "response"),
    [
        pytest.param("GET", "/api/me/tasks", answer(TASKS), id="page"),
        pytest.param("GET", "/users/me/tasks/?limit=1", answer(TASKS), id="other prefix and slash"),
        pytest.param("HEAD", "/api/me/tasks", HttpResponse(headers=HEADERS), id="head"),
        pytest.param("GET", "/api/me/tasks", answer(error("PARSE_ERROR"), 400), id="error"),
        pytest.param("POST", "/api/me/tasks/x", answer(error("ANY"), 405), id="no operation"),
        pytest.param("GET", "/users/auth/me", answer(error("NOT_FOUND"), 404), id="no route"),
        pytest.param("GET", "/admin/", HttpResponse("<html>", status=404), id="no API"),
    ],
)
def test_validator_accepts(method: str, path: str, response: HttpResponse) -> None:
    validate_response(method, path, response)


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        pytest.param(answer(TASKS, 202), "documented are 200, 400", id="status"),
        pytest.param(answer(TASKS, X_Request_ID=None), "without X-Request-ID", id="no header"),
        pytest.param(answer(TASKS, X_Request_ID="a b"), "X-Request-ID, but", id="header"),
        pytest.param(answer(TASKS, Content_Type="text/html"), "as text/html", id="type"),
        pytest.param(HttpResponse("<html>", headers=HEADERS), "not in JSON", id="no JSON"),
        pytest.param(answer({**TASKS, "debug": 1}), "'debug'", id="unknown property"),
        pytest.param(answer({"data": []}), "'meta' is a required property", id="no meta"),
        pytest.param(
            answer({**TASKS, "data": [{**TASK, "created_at": "2026-01-31T09:30:00Z"}]}),
            r"\$.data\[0\].created_at",
            id="time without microseconds",
        ),
        pytest.param(
            answer({**TASKS, "data": [{**TASK, "id": TASK["id"].upper()}]}),
            r"\$.data\[0\].id",
            id="UUID in capitals",
        ),
        pytest.param(answer(error("NOT_FOUND"), 400), r"\$.error.code", id="code"),
        pytest.param(answer(error("PARSE_ERROR", x="x"), 400), r"details.x", id="details"),
        pytest.param(answer(error("TOKEN_INVALID"), 401), "WWW-Authenticate", id="no challenge"),
        pytest.param(
            answer(error("SERVICE_UNAVAILABLE"), 503, Retry_After="soon"), "Retry", id="no seconds"
        ),
    ],
)
def test_validator_refuses(response: HttpResponse, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        validate_response("GET", "/api/me/tasks", response)


@pytest.mark.parametrize(
    ("method", "path", "response", "complaint"),
    [
        ("GET", "/users/me/tasks/?limit=1", answer(TASKS, 202), "documented are 200, 400"),
        ("POST", "/api/me/tasks/x", answer(TASKS), "no such method"),
        ("HEAD", "/api/me/tasks", answer(TASKS), "with a body"),
        ("DELETE", "/api/auth/me", answer({}, 204), "with a body"),
        ("POST", "/api/me/tasks", answer({}, 201, Location="http://x/"), "Location"),
        ("GET", "/nowhere", answer({}, 404), "'error' is a required property"),
    ],
    ids=[
        "other path",
        "unknown operation",
        "HEAD with a body",
        "204 with a body",
        "host",
        "error out of shape",
    ],
)
def test_validator_refuses_elsewhere(
    method: str, path: str, response: HttpResponse, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        validate_response(method, path, response)


@pytest.mark.parametrize("path", ["/api/schema", "/api/schema/"])
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/vnd.oai.openapi; charset=utf-8"),
        ("application/yaml", "application/yaml; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
    ],
)
def test_schema_is_served_as_asked(accept: str, content_type: str, path: str) -> None:
    """Without the database: pytest-django would refuse it."""
    response = Client().get(path, headers={"accept": accept})

    assert response.status_code == 200
    assert response["Content-Type"] == content_type
    load = json.loads if content_type.endswith("json") else yaml.safe_load
    assert load(response.content) == read_document()


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs", "/api/redoc"])
@pytest.mark.parametrize("slash", ["", "/"], ids=["no slash", "slash"])
def test_head_of_a_page_answers_as_get(path: str, slash: str) -> None:
    response = Client().head(path + slash)

    assert response.status_code == 200
    assert response.content == b""
    assert response["Content-Type"] == Client().get(path + slash)["Content-Type"]


def fetch(address: str) -> int:
    response = Client().get(address)
    assert response.getvalue()  # to its end, which closes the file
    return response.status_code


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("/api/docs", {".css", ".js", ".png", "schema"}),
        ("/api/redoc", {".js", "schema"}),
    ],
)
def test_docs_need_no_other_host(path: str, kinds: set[str]) -> None:
    html = Client().get(path).content.decode()
    assert re.findall(r"""["'(=\s](?:https?:)?//[\w.]+""", html) == []

    addresses = re.findall(r"""(?:(?:src|href|spec-url)=|\burl: )["']([^"']+)["']""", html)
    statuses = {address: fetch(address) for address in addresses}

    assert {re.search(r"\.?\w+$", address)[0] for address in addresses} == kinds  # type: ignore[index]
    assert statuses == dict.fromkeys(addresses, 200)
