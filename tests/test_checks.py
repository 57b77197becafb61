"""Each system check of the service fires where it should, and only there."""

from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.db import connection

POOLED = {"HOST": "ep-x-pooler.eu.aws.neon.tech", "OPTIONS": {"sslmode": "verify-full"}}
DIRECT = {"HOST": "ep-x.eu.aws.neon.tech", "OPTIONS": {"sslmode": "verify-full"}}
SOCKET = {"HOST": "/run/postgresql", "OPTIONS": {}}


@pytest.fixture(autouse=True)
def wise_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EMAIL_IS_CONFIGURED", True)
    monkeypatch.setattr(settings, "DEFAULT_FROM_EMAIL", "Todo <todo@example.com>")
    monkeypatch.setattr(settings, "PASSWORD_RESET_URL", "https://app.example.com/{token}")
    monkeypatch.setattr(settings, "EMAIL_CONFIRMATION_URL", "https://app.example.com/{token}")


def _ids(*databases: str) -> list[str]:
    found = [
        str(message.id)
        for message in run_checks(include_deployment_checks=True, databases=databases or None)
    ]
    return sorted(name for name in found if name.startswith("todo."))


@pytest.mark.parametrize(
    ("databases", "ids"),
    [
        pytest.param({"default": POOLED, "direct": DIRECT}, [], id="Neon as it should be"),
        pytest.param({"default": SOCKET, "direct": SOCKET}, [], id="Unix socket"),
        pytest.param({"default": POOLED, "direct": POOLED}, ["todo.W001"], id="no direct one"),
        pytest.param(
            {"default": {**POOLED, "OPTIONS": {"sslmode": "require"}}, "direct": DIRECT},
            ["todo.W002"],
            id="not verified",
        ),
        pytest.param(
            {"default": POOLED, "direct": {**DIRECT, "OPTIONS": {}}},
            ["todo.W002"],
            id="direct one not verified",
        ),
    ],
)
def test_databases(
    databases: dict[str, Any], ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DATABASES", databases)

    assert _ids() == ids


@pytest.mark.parametrize(
    ("name", "value", "ids"),
    [
        ("ALLOWED_HOSTS", ["*"], ["todo.W003"]),
        ("ALLOWED_HOSTS", ["api.example.com"], []),
        ("SECURE_SSL", True, ["todo.W004"]),
        ("PASSWORD_RESET_URL", "", ["todo.W006"]),
        ("EMAIL_IS_CONFIGURED", False, ["todo.W007"]),
        ("DEFAULT_FROM_EMAIL", "Todo <todo@localhost>", ["todo.W008"]),
        ("DEFAULT_FROM_EMAIL", "todo@localhost", ["todo.W008"]),
        ("DEFAULT_FROM_EMAIL", "todo@localhost.example.com", []),
        ("PASSWORD_RESET_URL", "http://app.example.com/{token}", ["todo.W009"]),
        ("PASSWORD_RESET_URL", "http://localhost.example.com/{token}", ["todo.W009"]),
        ("PASSWORD_RESET_URL", "http://localhost:3000/{token}", []),
        ("PASSWORD_RESET_URL", "http://[::1]/{token}", []),
        ("AUTH_SHARED_SECRET", "s" * 32, ["todo.W011"]),
        ("EMAIL_CONFIRMATION_URL", "", ["todo.W013"]),
        ("EMAIL_CONFIRMATION_URL", "http://app.example.com/{token}", ["todo.W009"]),
        ("EMAIL_CONFIRMATION_URL", "http://localhost:3000/{token}", []),
    ],
)
def test_web(name: str, value: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, name, value)

    assert _ids() == ids


@pytest.mark.parametrize(
    ("audience", "claims", "ids"),
    [
        (["todo"], {}, []),
        (["todo"], {"banned": [False, None]}, []),
        ([], {"azp": ["app"]}, []),
        ([], {"client_id": ["app"], "token_use": ["access"]}, []),
        ([], {"appid": ["app"]}, []),
        ([], {"azp": ["app", None]}, ["todo.W014"]),
        ([], {"role": ["authenticated"]}, ["todo.W014"]),
        ([], {"azp": ["app", None], "role": ["authenticated"]}, ["todo.W014"]),
    ],
)
def test_tokens_of_a_provider_are_bound(
    audience: list[str], claims: dict[str, Any], ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A1]"""
    monkeypatch.setattr(settings, "AUTH_ISSUER", "https://app.example.com")
    monkeypatch.setattr(settings, "AUTH_AUDIENCE", audience)
    monkeypatch.setattr(settings, "AUTH_REQUIRED_CLAIMS", claims)

    assert _ids() == ids


def test_mail_that_is_never_sent_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PASSWORD_RESET_URL", "")
    monkeypatch.setattr(settings, "EMAIL_CONFIRMATION_URL", "")
    monkeypatch.setattr(settings, "EMAIL_IS_CONFIGURED", False)
    monkeypatch.setattr(settings, "DEFAULT_FROM_EMAIL", "Todo <todo@localhost>")

    assert _ids() == ["todo.W006", "todo.W013"]


@pytest.mark.parametrize(
    ("missing", "warning"),
    [("PASSWORD_RESET_URL", "todo.W006"), ("EMAIL_CONFIRMATION_URL", "todo.W013")],
)
def test_either_link_needs_a_mail_server(
    missing: str, warning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, missing, "")
    monkeypatch.setattr(settings, "EMAIL_IS_CONFIGURED", False)

    assert _ids() == sorted(["todo.W007", warning])


def test_trusted_proxy_ends_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SECURE_SSL", True)
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", 1)

    assert _ids() == []


@pytest.mark.parametrize(
    ("timeouts", "databases", "is_embedded", "ids"),
    [
        pytest.param(settings.ROLE_TIMEOUTS, ["direct"], False, [], id="as the command sets them"),
        pytest.param({}, ["direct"], False, ["todo.W005"], id="migrate, none"),
        pytest.param({}, ["default"], False, ["todo.W005"], id="check --database, none"),
        pytest.param({}, [], False, [], id="no database is to be asked"),
        pytest.param({}, ["direct"], True, [], id="embedded, none"),
        pytest.param(
            {**settings.ROLE_TIMEOUTS, "lock_timeout": "1min"},
            ["default"],
            False,
            ["todo.W005"],
            id="longer than a request may take",
        ),
    ],
)
@pytest.mark.django_db
def test_role_timeouts(
    timeouts: dict[str, str],
    databases: list[str],
    is_embedded: bool,
    ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "EMBEDDED_POSTGRES", is_embedded)
    with connection.cursor() as cursor:
        for name in settings.ROLE_TIMEOUTS:
            cursor.execute("SELECT set_config(%s, %s, true)", [name, timeouts.get(name, "0")])

        assert _ids(*databases) == ids


@pytest.mark.parametrize(
    ("statements", "ids"),
    [
        pytest.param([], [], id="no such schema"),
        pytest.param(["CREATE SCHEMA neon_auth"], ["todo.W012"], id="owner"),
        pytest.param(
            ["CREATE ROLE other", "CREATE SCHEMA neon_auth", "SET LOCAL ROLE other"],
            [],
            id="somebody else's",
        ),
        pytest.param(
            [
                *("CREATE ROLE other", "CREATE SCHEMA neon_auth"),
                *("GRANT USAGE ON SCHEMA neon_auth TO other", "SET LOCAL ROLE other"),
            ],
            ["todo.W012"],
            id="granted",
        ),
    ],
)
@pytest.mark.django_db
def test_rights_on_neon_auth(
    statements: list[str], ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A1] Session tokens and signing keys lie there."""
    monkeypatch.setattr(settings, "EMBEDDED_POSTGRES", False)
    monkeypatch.setattr("todo_project.checks.unmet_conditions", lambda **_: [])
    with connection.cursor() as cursor:
        for name, value in settings.ROLE_TIMEOUTS.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])
        for statement in statements:
            cursor.execute(statement)

        assert _ids("default") == ids
