"""The routes' spellings, methods and headers, the health of the process, and the access log."""

import gc
import json
import logging
import re
from copy import deepcopy
from logging.config import DictConfigurator
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client, RequestFactory
from django.test.client import ClientHandler

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from todo_project import health
from todo_project.environment import Environment
from todo_project.logs import RequestFilter


@pytest.mark.parametrize("prefix", ["/api/me", "/api/{id}", "/users/me", "/users/{id}"])
@pytest.mark.parametrize("slash", ["", "/"], ids=["no slash", "slash"])
def test_both_prefixes_and_slashes_answer_the_same(
    prefix: str, slash: str, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[R1] [R2] [R3] No redirect."""
    base = prefix.format(id=alice.pk) + "/tasks"

    assert len(data_of(alice_client.get(base + slash))) == 1
    created = alice_client.post(base + slash, {"title": "x"})
    assert created["Location"].startswith(f"/api/{alice.pk}/tasks/")
    one = f"{base}/{task.pk}"
    assert data_of(alice_client.get(one + slash))["id"] == str(task.pk)
    assert data_of(alice_client.put(one + slash, {"title": "y"}))["title"] == "y"
    assert data_of(alice_client.patch(one + slash, {"title": "z"}))["title"] == "z"
    assert data_of(alice_client.patch(f"{one}/complete{slash}"))["is_completed"] is True
    assert alice_client.delete(one + slash).status_code == 204


@pytest.mark.parametrize("slash", ["", "/"], ids=["no slash", "slash"])
def test_auth_routes_answer_with_and_without_slash(
    slash: str, alice: User, client: ApiClient, alice_client: ApiClient
) -> None:
    """[R3]"""
    credentials = {"email": "ada@example.com", "password": PASSWORD}
    assert client.post(f"/api/auth/register{slash}", credentials).status_code == 201
    pair = data_of(client.post(f"/api/auth/token{slash}", credentials))
    pair = data_of(client.post(f"/api/auth/token/refresh{slash}", {"refresh": pair["refresh"]}))
    logout = client.post(f"/api/auth/logout{slash}", {"refresh": pair["refresh"]})
    assert logout.status_code == 204
    assert alice_client.get(f"/api/auth/me{slash}").status_code == 200
    assert_error(alice_client.post(f"/api/auth/password{slash}", {}), 400, "VALIDATION_ERROR")


REDIRECT_OF_SWAGGER = "/static/drf_spectacular_sidecar/swagger-ui-dist/oauth2-redirect.html"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 302),
        ("GET", "/api/docs", 200),
        ("GET", "/api/docs/", 200),
        ("GET", "/api/redoc", 200),
        ("GET", REDIRECT_OF_SWAGGER, 200),
        ("GET", "/admin", 302),
        ("GET", "/admin/", 302),
        ("GET", "/admin/login/", 200),
        ("POST", "/admin/login/", 403),  # without the token against forgery
        ("GET", "/admin/nothing/", 302),
    ],
)
def test_page_can_not_be_framed(method: str, path: str, status: int, db: None) -> None:
    """Clickjacking: Swagger keeps a token, and whoever frames it may have its buttons pressed."""
    response = Client(enforce_csrf_checks=True).generic(method, path)
    response.getvalue()  # to its end, which closes the file

    assert response.status_code == status
    assert response["Content-Type"].startswith("text/html")
    assert response["X-Frame-Options"] == "DENY"
    assert response["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_json_needs_no_protection_against_frames(alice_client: ApiClient, task: Task) -> None:
    """nosniff keeps it from being taken for a page, and each header costs something."""
    got = alice_client.get(f"/api/me/tasks/{task.pk}")
    gone = alice_client.delete(f"/api/me/tasks/{task.pk}")

    assert got["X-Content-Type-Options"] == "nosniff"
    for response in (got, gone):
        assert "X-Frame-Options" not in response
        assert "Content-Security-Policy" not in response


@pytest.mark.parametrize("path", ["/api/me/tasks", "/api/me/tasks/{id}", "/api/auth/me", "/livez"])
def test_head_answers_as_get(path: str, alice_client: ApiClient, task: Task) -> None:
    path = path.format(id=task.pk)
    got = alice_client.get(path, x_request_id="same")

    response = alice_client.call("HEAD", path, x_request_id="same")

    assert response.status_code == 200
    assert response.content == b""
    assert dict(response.headers) == dict(got.headers)


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/api/schema", "image/png"), ("/api/docs", "image/png"), ("/api/redoc", "application/json")],
)
def test_pages_say_what_they_cannot_answer(path: str, accept: str, client: ApiClient) -> None:
    """[B3]"""
    assert_error(client.get(path, accept=accept), 406, "NOT_ACCEPTABLE")


def test_options_is_for_preflight(alice_client: ApiClient) -> None:
    assert_error(alice_client.call("OPTIONS", "/api/me/tasks"), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_root_has_no_other_methods(method: str, client: ApiClient) -> None:
    response = client.call(method, "/")

    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in response["Allow"]


def test_root_sends_a_browser_to_the_docs(client: ApiClient) -> None:
    response = client.get("/", accept="text/html")

    assert (response.status_code, response["Location"]) == (302, "/api/docs")


@pytest.mark.parametrize("host", ["localhost", "10.0.0.7:8000", "no such host", ""])
def test_livez_needs_neither_host_nor_database(
    host: str, client: ApiClient, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        response = client.get("/livez", host=host)

    assert data_of(response) == {"status": "ok"}


def test_readyz(client: ApiClient, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    assert data_of(client.get("/readyz", host="10.0.0.7")) == {"status": "ok"}


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("default_transaction_read_only", "on", "Transactions are read-only. ALTER ROLE ... SET"),
        ("default_transaction_isolation", "serializable", "Transactions are serializable"),
        ("DateStyle", "German, DMY", "DateStyle is German, DMY"),
        (
            "search_path",
            "pg_catalog",
            "The role doesn't see accounts_identity, accounts_personaltoken",
        ),
        ("role", "pg_read_all_data", "The role may not DELETE on accounts_identity, INSERT on"),
    ],
)
def test_readyz_asks_what_requests_count_on(
    setting: str,
    value: str,
    reason: str,
    client: ApiClient,
    caplog: pytest.LogCaptureFixture,
    django_assert_num_queries: Any,
) -> None:
    """[C1] By one query; and it says what to do."""
    assert client.get("/readyz").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, true)", [setting, value])

    with django_assert_num_queries(1):
        response = client.get("/readyz")

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert reason in json.loads(response.content)["error"]["message"]
    assert "the database can't be used as it is" in caplog.messages


def test_readyz_misses_migrations(
    client: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "_applied", False)
    (last,) = MigrationLoader(connection).graph.leaf_nodes("tasks")
    MigrationRecorder(connection).record_unapplied(*last)

    response = client.get("/readyz")

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert "Retry-After" in response
    assert "migrations are missing" in caplog.messages


def test_readyz_fails_while_draining(
    client: ApiClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    drain_file = tmp_path / "drain"
    monkeypatch.setenv(health.DRAIN_FILE_VARIABLE, str(drain_file))
    assert client.get("/readyz").status_code == 200

    drain_file.touch()

    assert_error(client.get("/readyz"), 503, "SERVICE_UNAVAILABLE")
    assert client.get("/livez").status_code == 200


@pytest.mark.parametrize("sent", ["a", "A.b_c-9", "x" * 64])
def test_request_id_is_the_callers(sent: str, client: ApiClient) -> None:
    """[H1]"""
    response = client.get("/livez", x_request_id=sent)

    assert response["X-Request-ID"] == sent
    assert json.loads(response.content)["meta"]["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "é", "a\nb", "<script>", "a,b"])
def test_request_id_is_made_where_the_callers_is_unfit(sent: str, client: ApiClient) -> None:
    """[H1]"""
    response = client.get("/livez", x_request_id=sent)

    assert UUID(response["X-Request-ID"]).version == 4
    assert response["X-Request-ID"] != client.get("/livez")["X-Request-ID"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/me/tasks", 200),
        ("/api/me/tasks/x", 404),
        ("/api/x/tasks", 403),
        ("/api/me/tasks?x=1", 400),
        ("/nope", 404),
        ("/livez", 200),
        ("/api/docs", 200),
        ("/", 302),
    ],
)
def test_headers_of_every_answer(path: str, status: int, alice_client: ApiClient) -> None:
    """[H1]"""
    response = alice_client.get(path)

    assert response.status_code == status
    assert response["X-Request-ID"]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cache-Control"] == "private, no-cache"
    assert "Strict-Transport-Security" not in response
    assert "Set-Cookie" not in response


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/auth/me"),
        ("POST", "/api/auth/token"),
        ("POST", "/api/auth/register"),
        ("DELETE", "/api/auth/token"),
        ("GET", "/api/auth/nope"),
    ],
)
def test_auth_answers_are_never_stored(method: str, path: str, alice_client: ApiClient) -> None:
    assert alice_client.call(method, path)["Cache-Control"] == "no-store"


def test_tls_is_asked_for_and_kept(settings: Any, client: ApiClient) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 3600
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    plain = client.get("/api/me/tasks")
    secure = client.get("/api/me/tasks", x_forwarded_proto="https")

    assert (plain.status_code, plain["Location"]) == (301, "https://testserver/api/me/tasks")
    assert secure.status_code == 401
    assert secure["Strict-Transport-Security"] == "max-age=3600"


@pytest.mark.parametrize("origin", [None, "https://app.example.com", "https://evil.example"])
@pytest.mark.parametrize(
    ("path", "vary"),
    [
        ("/api/me/tasks", "Authorization, origin"),  # it has a tag
        ("/users/me/tasks", "Authorization, origin"),
        ("/api/me/tasks?x=1", "origin"),
        ("/api/nope", "origin"),
        ("/livez", None),
    ],
)
def test_caches_keep_answers_to_other_sites_apart(
    path: str, vary: str | None, origin: str | None, settings: Any, alice_client: ApiClient
) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]
    headers = {} if origin is None else {"origin": origin}

    assert alice_client.get(path, **headers).get("Vary") == vary


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://app.example.com", True), ("https://evil.example", False)]
)
def test_cors_is_an_allow_list(
    origin: str, allowed: bool, settings: Any, alice_client: ApiClient
) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]

    preflight = alice_client.call(
        "OPTIONS",
        "/api/me/tasks",
        origin=origin,
        access_control_request_method="PATCH",
        access_control_request_headers="authorization, content-type",
    )
    response = alice_client.get("/api/me/tasks", origin=origin)

    assert preflight.status_code == 200
    assert preflight.content == b""
    for answer in (preflight, response):
        assert answer.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    if allowed:
        assert "PATCH" in preflight["Access-Control-Allow-Methods"]
        assert preflight["Access-Control-Allow-Headers"].split(", ") == [
            "accept",
            "authorization",
            "content-type",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "x-request-id",
            "x-time-zone",
            "baggage",
            "sentry-trace",
            "traceparent",
            "tracestate",
        ]
        assert response["Access-Control-Expose-Headers"].split(", ") == [
            "X-Request-ID",
            "Location",
            "Link",
            "Retry-After",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
            "ETag",
            "Idempotent-Replayed",
        ]
    assert "Access-Control-Allow-Credentials" not in response


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1:5173", True),
        ("https://localhost:8443", True),
        ("http://localhost", True),
        ("http://localhost.evil.example", False),
        ("http://localhost:3000.evil.example", False),
        ("http://evil.example:3000", False),
        ("http://evil.example/http://localhost:3000", False),
        ("null", False),
    ],
)
def test_clients_in_development_may_call(
    origin: str, allowed: bool, settings: Any, alice_client: ApiClient
) -> None:
    """[C1] From any port of this machine. The tests' settings are those of DEBUG."""
    preflight = alice_client.call(
        "OPTIONS", "/api/me/tasks", origin=origin, access_control_request_method="DELETE"
    )
    response = alice_client.get("/api/me/tasks", origin=origin)

    for answer in (preflight, response):
        assert answer.get("Access-Control-Allow-Origin") == (origin if allowed else None)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://[::1]:3000",
        "https://xn--mnchen-3ya.example:8443",
        "capacitor://localhost",
        "ionic://localhost",
        "app://obsidian.md",
        "tauri://localhost",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://0f1c2d3e-0000-4000-8000-000000000000",
        "file://",
    ],
)
def test_origin_that_the_settings_take_may_call(
    origin: str, settings: Any, alice_client: ApiClient
) -> None:
    """[C1] App shells among them, whose origins have schemes of their own."""
    env = Environment({"ORIGINS": f"https://first.example,{origin}"})
    settings.CORS_ALLOWED_ORIGINS = env.cors_origins("ORIGINS")
    env.refuse_faults()

    response = alice_client.get("/api/me/tasks", origin=origin)

    assert response["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("api.example.com", "api.example.com:8403"),
        ("API.example.com", "api.EXAMPLE.com"),
        ("api.example.com", "api.example.com."),
        (".example.com", "a.b.example.com"),
        (".example.com", "example.com"),
        ("[2001:db8::1]", "[2001:db8::1]:8000"),
        ("192.0.2.1", "192.0.2.1"),
        ("*", "anything.example"),
    ],
)
def test_host_that_the_settings_take_is_answered(
    entry: str, host: str, settings: Any, alice_client: ApiClient
) -> None:
    """[C1]"""
    env = Environment({"HOSTS": f"first.example,{entry}"})
    settings.ALLOWED_HOSTS = env.hosts("HOSTS")
    env.refuse_faults()

    assert alice_client.get("/api/me/tasks", host=host).status_code == 200


@pytest.fixture
def access_lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="todo.access")
    return lambda: [record for record in caplog.records if record.name == "todo.access"]


def test_access_log_has_a_line_for_each_request(
    alice: User, alice_client: ApiClient, client: ApiClient, task: Task, access_lines: Any
) -> None:
    responses = [
        alice_client.get(f"/users/{alice.pk}/tasks/{task.pk}/?x=1", x_request_id="id-1"),
        client.get("/api/me/tasks"),
        client.get("/nope"),
        client.get("/api/me/tasks", host="evil.example"),
    ]

    lines = access_lines()
    assert [line.status for line in lines] == [400, 401, 404, 400]
    assert [line.request_id for line in lines] == [r["X-Request-ID"] for r in responses]
    assert [line.route for line in lines] == [
        "/users/<user_id>/tasks/<task_id>",
        "/api/<user_id>/tasks",
        None,
        None,
    ]
    assert [line.user_id for line in lines] == [str(alice.pk), None, None, None]
    assert all(line.method == "GET" and line.duration_ms > 0 for line in lines)


def test_sign_in_and_refresh_tell_whose_they_are(
    alice: User, client: ApiClient, access_lines: Any
) -> None:
    credentials = {"email": alice.email, "password": PASSWORD}
    pair = data_of(client.post("/api/auth/token", credentials))
    client.post("/api/auth/token/refresh", {"refresh": pair["refresh"]})
    client.post("/api/auth/token", {**credentials, "password": "a wrong one"})

    assert [line.user_id for line in access_lines()] == [str(alice.pk), str(alice.pk), None]


def test_access_log_is_json_and_tells_no_secrets(
    alice: User, client: ApiClient, access_lines: Any
) -> None:
    credentials = {"email": alice.email, "password": PASSWORD}
    pair = data_of(client.post("/api/auth/token", credentials))
    ApiClient(pair["access"]).get("/api/me/tasks", query={"search": "diagnosis"})
    client.post("/api/auth/token/refresh", {"refresh": pair["refresh"]})

    written = _written(access_lines())

    assert [json.loads(line).keys() for line in written] == [
        {
            "time",
            "level",
            "logger",
            "message",
            "request_id",
            "method",
            "route",
            "status",
            "duration_ms",
            "user_id",
        }
    ] * 3
    for secret in (PASSWORD, pair["access"], pair["refresh"], "diagnosis", alice.email):
        assert secret not in "".join(written)


def _written(records: list[logging.LogRecord], formatter: str = "json") -> list[str]:
    """The lines as the service writes them: in production, or in development."""
    formatters: Any = deepcopy(settings.LOGGING["formatters"])
    written_by = DictConfigurator({}).configure_formatter(formatters[formatter])
    is_kept = RequestFilter().filter
    return [written_by.format(record) for record in records if is_kept(record)]


def test_development_log_can_be_read(
    alice: User, client: ApiClient, settings: Any, access_lines: Any
) -> None:
    """A line for each request, with path and query, and still without a secret."""
    settings.DEBUG = True
    pair = data_of(client.post("/api/auth/token", {"email": alice.email, "password": PASSWORD}))
    ApiClient(pair["access"]).get("/users/me/tasks/", query={"search": "caf\u00e9\n", "limit": 2})
    client.post("/api/auth/logout", {"refresh": pair["refresh"]})
    client.post("/api/auth/password/reset/confirm", {"token": "x" * 30, "new_password": PASSWORD})
    Client().get("/static/admin/css/base.css").close()
    Client().get("/static/nope.css").close()

    written = [re.sub(r"\d+ ms$", "8 ms", line) for line in _written(access_lines(), "development")]

    assert written == [
        "POST /api/auth/token 200 8 ms",
        "GET /users/me/tasks/?search=caf%C3%A9%0A&limit=2 200 8 ms",
        "POST /api/auth/logout 204 8 ms",
        "POST /api/auth/password/reset/confirm 400 8 ms",
        "GET /static/nope.css 404 8 ms",
    ]


def test_development_log_tells_all_of_other_messages() -> None:
    defect = logging.makeLogRecord(
        {
            "name": "todo",
            "levelname": "ERROR",
            "msg": "defect of %s",
            "args": ("it",),
            "exc_info": (ValueError, ValueError("why"), None),
            "reason": "a reason",
        }
    )

    assert _written([defect], "development") == [
        "ERROR todo: defect of it reason=a reason\nValueError: why"
    ]


def test_errors_of_the_server_are_traced_and_quote_no_search(
    alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("todo_project.resources.reads.fetch_page", lambda *args: 1 / 0)
    crash = alice_client.get("/api/me/tasks?search=diagnosis")
    monkeypatch.setattr(
        "django.middleware.security.SecurityMiddleware.process_request", lambda *args: 1 / 0
    )
    outer_crash = alice_client.get("/api/me/tasks?search=diagnosis")

    errors = [r for r in caplog.records if r.levelname == "ERROR"]
    written = _written(errors)

    assert [json.loads(line)["logger"] for line in written] == [
        "todo_project.middleware.requests",
        "django.request",
    ]
    assert all("ZeroDivisionError" in line for line in written)
    assert "diagnosis" not in "".join(written)
    assert [json.loads(line)["request_id"] for line in written] == [
        crash["X-Request-ID"],
        outer_crash["X-Request-ID"],
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("GET", "/me/tasks", None, 200, id="list"),
        pytest.param("GET", "/me/tasks?limit=1&search=x", None, 200, id="filtered list"),
        pytest.param("POST", "/me/tasks", {"title": "x"}, 201, id="create"),
        pytest.param("GET", "/me/tasks/{task}", None, 200, id="read"),
        pytest.param("PUT", "/me/tasks/{task}", {"title": "y"}, 200, id="replace"),
        pytest.param("PATCH", "/me/tasks/{task}", {"title": "z"}, 200, id="change"),
        pytest.param("PATCH", "/me/tasks/{task}/complete", {}, 200, id="complete"),
        pytest.param("DELETE", "/me/tasks/{task}", None, 204, id="delete"),
        pytest.param("GET", "/me/tasks?x=1", None, 400, id="bad query"),
        pytest.param("POST", "/me/tasks", {}, 400, id="bad body"),
        pytest.param("GET", "/other/tasks", None, 403, id="foreign path"),
        pytest.param("GET", "/me/tasks/x", None, 404, id="no such task"),
        pytest.param("POST", "/me/tasks/{task}", {}, 405, id="wrong method"),
    ],
)
def test_request_leaves_nothing_for_the_garbage_collector(
    method: str, path: str, body: Any, status: int, alice: User
) -> None:
    """What it leaves stays in memory with the whole answer, and costs time to be found."""
    handler = ClientHandler()
    first, second = (Task.objects.create(user=alice, title=title) for title in "ab")
    token = begin_session(alice).access

    def answer(task: Task) -> int:
        request = RequestFactory().generic(
            method,
            "/api" + path.format(task=task.pk),
            b"" if body is None else json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"},
        )
        return int(handler(request.environ).status_code)

    assert answer(first) == status
    gc.collect()
    gc.disable()
    try:
        assert answer(second) == status
        assert gc.collect() == 0
    finally:
        gc.enable()
