"""One shape for every error from every source [B3], in the contract's order [E1]."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from psycopg import errors as psycopg_errors
from rest_framework.exceptions import APIException, NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from tasks.models import Task
from tests.client import ApiClient, assert_error
from todo_project import urls
from todo_project.api import errors
from todo_project.api.errors import (
    ApiException,
    BatchFailed,
    Gone,
    KeyReused,
    PreconditionFailed,
    error_object,
)
from todo_project.api.views import ORDER, StrictInputMixin

LIST = "/api/me/tasks"


@pytest.fixture(params=[False, True], ids=["DEBUG off", "DEBUG on"])
def debug(request: pytest.FixtureRequest, settings: Any) -> bool:
    settings.DEBUG = request.param
    return bool(request.param)


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/",
        "/api/me",
        "/api/me/tasks/1/2/3",
        "/api/me/tasks//",
        "/api//tasks",
        "/api/auth",
        "/api/auth/nope",
        "/users",
        "/users/me",
        "/API/me/tasks",
        "/livez/x",
        "/%00",
        "/%FF",
        "/api/me/tasks%0A",
        "/" + "x" * 8000,
        "/.env",
        "//evil.example.com/..",
    ],
    ids=lambda path: path[:30],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_unknown_url(method: str, path: str, debug: bool, client: ApiClient) -> None:
    """[B3] No token is needed to learn that a route doesn't exist."""
    assert_error(client.call(method, path), 404, "NOT_FOUND")


def test_wrong_method(debug: bool, alice_client: ApiClient) -> None:
    """[B3]"""
    response = alice_client.delete(LIST)

    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response["Allow"] == "GET, POST, HEAD"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", LIST, 200), ("GET", "/api/auth/me", 200), ("GET", f"{LIST}/x", 404)],
    ids=["list", "account", "absent"],
)
def test_methods_are_told_with_405_alone(
    method: str, path: str, status: int, alice_client: ApiClient
) -> None:
    response = alice_client.call(method, path)

    assert response.status_code == status
    assert "Allow" not in response


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/api/docs", "/api/schema", "/api/redoc", "/api/contract"],
)
def test_wrong_method_of_a_page(path: str, debug: bool, client: ApiClient) -> None:
    """[B3]"""
    response = client.post(path)

    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in response["Allow"]


def test_bad_host(debug: bool, client: ApiClient) -> None:
    """[B3]"""
    assert_error(client.get(LIST, host="evil.example.com"), 400, "VALIDATION_ERROR")


def test_large_body(debug: bool, alice_client: ApiClient) -> None:
    """[B3]"""
    assert_error(alice_client.post(LIST, b" " * 300_000), 413, "PAYLOAD_TOO_LARGE")


def _crash(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the password is hunter2")


class CrashingUrls:
    urlpatterns = [path("crash", _crash), *urls.urlpatterns]


@override_settings(ROOT_URLCONF=CrashingUrls)
def test_crash(debug: bool, client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """[B3] No detail leaves the server; its log has them."""
    response = client.get("/crash")

    assert_error(response, 500, "INTERNAL_ERROR")
    assert b"hunter2" not in response.content
    assert "hunter2" in caplog.text


def test_crash_in_a_view(
    debug: bool, alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[B3]"""
    monkeypatch.setattr("todo_project.resources.reads.fetch_page", lambda *args: 1 / 0)

    assert_error(alice_client.get(LIST), 500, "INTERNAL_ERROR")


def test_crash_in_middleware(
    debug: bool, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[B3]"""
    monkeypatch.setattr(
        "django.middleware.security.SecurityMiddleware.process_request", lambda *args: 1 / 0
    )

    assert_error(client.get(LIST), 500, "INTERNAL_ERROR")


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(OperationalError("gone"), id="connection lost"),
        pytest.param(InterfaceError("closed"), id="connection closed"),
        pytest.param(
            _caused(InternalError("x"), psycopg_errors.ReadOnlySqlTransaction()), id="read-only"
        ),
        pytest.param(
            _caused(InternalError("x"), psycopg_errors.IdleInTransactionSessionTimeout()),
            id="idle in transaction",
        ),
    ],
)
def test_database_fault(
    fault: Exception, debug: bool, alice_client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """[B3] The log says why, whichever route it was."""

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise fault

    with connection.execute_wrapper(fail):
        response = alice_client.get(LIST)
        ready = alice_client.get("/readyz")

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert int(response["Retry-After"]) > 0
    assert_error(ready, 503, "SERVICE_UNAVAILABLE")
    logged = {record.request_id for record in caplog.records if record.msg == "database fault"}  # type: ignore[attr-defined]
    assert logged == {response["X-Request-ID"], ready["X-Request-ID"]}


def test_other_database_error_is_a_defect(alice_client: ApiClient) -> None:
    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise InternalError("a bug")

    with connection.execute_wrapper(fail):
        assert_error(alice_client.get(LIST), 500, "INTERNAL_ERROR")


LARGE = b" " * 300_000
ABSENT = "/api/me/tasks/0198f000-0000-7000-8000-000000000000"
FOREIGN = "/api/0198f000-0000-7000-8000-000000000000/tasks"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "signed_in", "status"),
    [
        # Each row breaks every later rule too.
        ("PUT", "/nope?x=1", LARGE, {"accept": "a/b", "content_type": "a/b"}, False, 404),
        ("PUT", f"{FOREIGN}?x=1", LARGE, {"accept": "a/b", "content_type": "a/b"}, False, 406),
        ("PUT", f"{FOREIGN}?x=1", LARGE, {"content_type": "a/b"}, False, 401),
        ("PUT", f"{FOREIGN}?x=1", LARGE, {"content_type": "a/b"}, True, 403),
        ("PUT", f"{LIST}?x=1", LARGE, {"content_type": "a/b"}, True, 405),
        ("PUT", f"{ABSENT}?x=1", LARGE, {"content_type": "a/b"}, True, 404),
        ("PUT", "{task}?x=1", LARGE, {"content_type": "a/b"}, True, 413),
        ("PUT", "{task}?x=1", b"{", {"content_type": "a/b"}, True, 415),
        ("PUT", "{task}?x=1", b"{", {}, True, 400),
        ("GET", f"{ABSENT}?x=1", b"", {}, True, 404),
        ("DELETE", f"{ABSENT}?x=1", b"{", {}, True, 404),
        ("PATCH", f"{ABSENT}/complete", b"[", {}, True, 404),
    ],
    ids=[
        "route",
        "406",
        "401",
        "403",
        "405",
        "task",
        "413",
        "415",
        "400",
        "task of a read",
        "task of a deletion",
        "task of a completion",
    ],
)
def test_order_of_errors(
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, Any],
    signed_in: bool,
    status: int,
    client: ApiClient,
    alice_client: ApiClient,
    task: Task,
) -> None:
    """[E1]"""
    caller = alice_client if signed_in else client

    response = caller.call(method, path.replace("{task}", f"{LIST}/{task.pk}"), body, **headers)

    assert response.status_code == status
    assert json.loads(response.content).keys() == {"error", "meta"}


def test_order_of_errors_is_the_contracts() -> None:
    """[E1]"""
    contract = Path(__file__).parent.parent.joinpath("docs", "contract.md").read_text()
    (sentence,) = re.findall(
        r"Order where several apply \[E1\]: 404 of the route, (.+?)\. ", contract
    )

    promised = [status.partition(" of ")[0] for status in sentence.split(", ")]

    assert promised == [str(status) for status in ORDER]


# --- Errors that a view raises ------------------------------------------------------------------


class RefusingView(StrictInputMixin):
    """A view of the tests', which raises what a test gives it."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    error: ClassVar[APIException]

    def get(self, request: Request) -> HttpResponse:
        raise self.error


class RefusingUrls:
    urlpatterns = [path("refuse", RefusingView.as_view()), *urls.urlpatterns]


# As the database writes it.
CURRENT = """{"id":"019c1389-02a4-7e51-8d33-5b6c7d8e9f00",\
"user_id":"019c1389-02a4-7e51-8d33-5b6c7d8e9f01","name":"Milch \u00fc","color":null,\
"position":"00000000002a","is_archived":false,"created_at":"2026-11-27T09:00:00.000000Z",\
"updated_at":"2026-11-27T09:00:00.000000Z","version":2,"etag":"0.2"}"""
ETAG = '"5f1c0a9be2d34c77-3fa09c-42"'
FAILED = [{"index": 3, "status": 404, "error": error_object(NotFound())}]


@pytest.mark.parametrize(
    ("error", "status", "code", "details", "etag"),
    [
        pytest.param(Gone(), 410, "GONE", {}, None, id="410"),
        pytest.param(
            PreconditionFailed(CURRENT, ETAG),
            *(412, "PRECONDITION_FAILED", {"current": json.loads(CURRENT)}, ETAG),
            id="412",
        ),
        pytest.param(
            PreconditionFailed(None, None),
            *(412, "PRECONDITION_FAILED", {"current": None}, None),
            id="412 with nothing to show",
        ),
        pytest.param(KeyReused(), 422, "IDEMPOTENCY_KEY_REUSED", {}, None, id="422"),
        pytest.param(
            BatchFailed(FAILED), 409, "CONFLICT", {"operations": FAILED}, None, id="batch"
        ),
    ],
)
@override_settings(ROOT_URLCONF=RefusingUrls)
def test_error_carries_its_details(
    error: APIException,
    status: int,
    code: str,
    details: dict[str, Any],
    etag: str | None,
    client: ApiClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[B2] [V2] And what the client needs for its next try."""
    monkeypatch.setattr(RefusingView, "error", error, raising=False)

    response = client.get("/refuse")

    assert assert_error(response, status, code) == details
    assert response.get("ETag") == etag


def test_error_of_an_operation_is_that_of_an_answer(alice_client: ApiClient) -> None:
    """[B2] [B6]"""
    answered = json.loads(alice_client.get(ABSENT).content)["error"]

    assert error_object(NotFound()) == answered


# --- The classes of errors ----------------------------------------------------------------------


# A line of the docstring's tree: where it begins, a class, and its status and code.
LINE_OF_TREE = re.compile(r"    ([│├└─ ]*)(\w+)(?: +(\d{3}))?(?: +([A-Z_]{4,}))?(?: .*)?")


def tree_of_errors() -> Iterator[tuple[str, ...]]:
    """The class, its base, its status and its code, as the docstring has them."""
    above: list[str] = []
    for match in map(LINE_OF_TREE.fullmatch, str(errors.__doc__).splitlines()[2:]):
        if match is None:
            return
        indent, name, *own = match.groups(default="")
        above[len(indent) // 4 :] = [name]
        yield name, *above[-2:-1], *own


def classes_of_errors(kind: type[ApiException]) -> Iterator[type[ApiException]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from classes_of_errors(subclass)


def test_tree_of_errors_shows_the_classes() -> None:
    shown = list(tree_of_errors())[1:]

    assert sorted(shown) == sorted(
        (
            kind.__name__,
            str(kind.__base__ and kind.__base__.__name__),
            str(vars(kind).get("status_code", "")),
            str(vars(kind).get("default_code", "")),
        )
        for kind in classes_of_errors(ApiException)
    )
