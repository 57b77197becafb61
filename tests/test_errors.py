"""One shape for every error from every source [B3], in the contract's order [E1]."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from psycopg import errors as psycopg_errors

from tasks.models import Task
from tests.client import ApiClient, assert_error
from todo_project import urls
from todo_project.api.views import ORDER

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
    monkeypatch.setattr("tasks.queries.fetch_page", lambda *args: 1 / 0)

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
