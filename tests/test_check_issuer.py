"""`manage.py check_issuer`: what an operator is told of keys and tokens."""

import os
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any, TextIO

import pytest
from django.core.management import CommandError, call_command

from accounts.management.commands import check_issuer as command
from tests.client import SECRETS
from tests.issuer import AUDIENCE, Issuer, private_jwk, private_key, public_jwk


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """A pipe that a scheduler holds open, and never writes to."""
    monkeypatch.setattr(command, "STDIN_PATIENCE_SECONDS", 0.01)
    reader, writer = os.pipe()
    with os.fdopen(reader) as pipe:
        yield pipe
    os.close(writer)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, endless: TextIO) -> Callable[..., tuple[str, str]]:
    """Runs the command with a token; returns what it said, and why it failed."""

    def run(token: str | None = None) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", endless if token is None else StringIO(token))
        output, failure = StringIO(), ""
        try:
            call_command("check_issuer", stdout=output)
        except CommandError as error:
            failure = str(error)
        said = output.getvalue()
        assert [secret for secret in SECRETS if secret in said + failure] == []
        assert "ada" not in said + failure
        return said, failure

    return run


def test_without_an_issuer(check: Callable[..., tuple[str, str]]) -> None:
    """[A1]"""
    assert check() == ("", "AUTH_ISSUER is not set: no tokens but the service's own are good.")


def test_keys_are_listed(check: Callable[..., tuple[str, str]], issuer: Issuer) -> None:
    """[A2] Each with what it is good for, or why for nothing; no token is waited for."""
    issuer.keys = [
        issuer.jwk(),
        public_jwk("RS256", private_key("RS256"), kid="rsa"),
        {**public_jwk("RS256", private_key("RS256"), kid="enc"), "use": "enc"},
        {**private_jwk("ES256", private_key("ES256")), "kid": "ec"},
        issuer.jwk(kid="\x1b[2J\u202e"),
        "key",
    ]

    said, failure = check()

    assert failure == ""
    assert said.splitlines() == [
        f"issuer: {issuer.name}",
        f"keys: {issuer.url}",
        "  kid 'key-0', kty 'OKP', alg 'EdDSA': verifies EdDSA",
        "  kid 'rsa', kty 'RSA', alg None: verifies RS256, PS256",
        "  kid 'enc', kty 'RSA', alg None: not used, not for signatures: use 'enc'",
        "  kid 'ec', kty 'EC', alg None: verifies ES256; ITS PRIVATE HALF IS PUBLISHED, replace it",
        r"  kid '\x1b[2J\u202e', kty 'OKP', alg 'EdDSA': verifies EdDSA",
        "  kid None, kty None, alg None: not used, no object",
    ]


def test_no_usable_key_is_a_failure(
    check: Callable[..., tuple[str, str]], issuer: Issuer, settings: Any
) -> None:
    """[A2]"""
    settings.AUTH_ALGORITHMS = ["ES256"]

    said, failure = check()

    assert "alg 'EdDSA': not used, see AUTH_ALGORITHMS" in said
    assert failure == "No key can be used, so no token is good."


@pytest.mark.parametrize(
    ("mode", "fault"),
    [("status", "status 500"), ("html", "not JSON"), ("redirecting", "none is followed")],
)
def test_fault_of_the_issuer_is_told(
    mode: str, fault: str, check: Callable[..., tuple[str, str]], issuer: Issuer
) -> None:
    """[A2] In plain words."""
    issuer.mode = mode

    said, failure = check(issuer.token())

    assert said == f"issuer: {issuer.name}\n"
    assert failure.startswith(issuer.url)
    assert fault in failure


def test_fault_of_discovery_is_told(
    check: Callable[..., tuple[str, str]], issuer: Issuer, settings: Any
) -> None:
    """[A2] And what to do about it."""
    settings.AUTH_JWKS_URL = ""
    issuer.mode = "status"

    _, failure = check()

    assert failure == (
        f"{issuer.name}/.well-known/openid-configuration: status 500. "
        "Better Auth and Neon Auth have no discovery document: set AUTH_JWKS_URL"
    )


@pytest.mark.parametrize("form", ["{}", "{}\n", "Bearer {}"])
def test_good_token(form: str, check: Callable[..., tuple[str, str]], issuer: Issuer) -> None:
    """[A1]"""
    token = issuer.token(email="ada@example.com", email_verified=True)

    said, failure = check(form.format(token))

    assert failure == ""
    assert "token: good until " in said
    assert "verified e-mail address: one" in said
    assert issuer.requests == ["/jwks"]


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        pytest.param(
            {"iss": "https://app.example.com/"},
            ["refused (issuer).", "expected: http://127.0.0.1:", "got: 'https://app.example.com/'"],
            id="issuer",
        ),
        pytest.param({"iss": ...}, ["refused (issuer).", "got: None"], id="no issuer"),
        pytest.param(
            {"aud": ["web", "account"]},
            ["refused (audience).", f"expected: ['{AUDIENCE}']", "got: ['web', 'account']"],
            id="audience",
        ),
        pytest.param(
            {"azp": "ada@example.com"},
            ["refused (claims).", "expected: azp among ['app']", "got: 'another value'"],
            id="claim",
        ),
        pytest.param(
            {"azp": ...},
            ["refused (claims).", "expected: azp among ['app']", "got: 'no such claim'"],
            id="no claim",
        ),
        pytest.param({"sub": "ada\n"}, ["refused (subject).", "no controls"], id="subject"),
        pytest.param({"exp": "soon"}, ["refused (times).", "got: 'soon'"], id="time"),
        pytest.param({"iat": 1, "exp": 2}, ["good until 1970-01-01 00:01:02 UTC"], id="expired"),
        pytest.param(
            {"header": {"kid": "key-7"}},
            ["refused (key).", "expected: the kid of one EdDSA key, of ['key-0']", "got: 'key-7'"],
            id="kid",
        ),
        pytest.param(
            {"header": {"alg": "HS256"}},
            ["refused (algorithm).", "expected: ['EdDSA', 'ES256'", "got: 'HS256'"],
            id="algorithm",
        ),
        pytest.param(
            {"header": {"typ": "better-auth.session-cache+jwt"}},
            ["refused (type).", "expected: typ JWT", "got: 'better-auth.session-cache+jwt'"],
            id="cookie",
        ),
        pytest.param({"key": private_key("EdDSA", 9)}, ["refused (signature)."], id="signature"),
    ],
)
def test_bad_token(
    claims: dict[str, Any],
    told: list[str],
    check: Callable[..., tuple[str, str]],
    issuer: Issuer,
    settings: Any,
) -> None:
    """[A1] Which check it fails, what was expected and what came."""
    settings.AUTH_REQUIRED_CLAIMS = {"azp": ["app"]}

    _, failure = check(issuer.token(**{"azp": "app", **claims}))

    assert all(part in failure for part in told), failure


@pytest.mark.parametrize("stdin", [None, StringIO(" \n")], ids=["closed", "empty"])
def test_no_token_on_standard_input(
    stdin: StringIO | None, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A1] The keys alone are looked at."""
    monkeypatch.setattr(sys, "stdin", stdin)
    output = StringIO()

    call_command("check_issuer", stdout=output)

    assert "token" not in output.getvalue()


def test_opaque_token(check: Callable[..., tuple[str, str]], issuer: Issuer) -> None:
    """[A1] Better Auth's session token."""
    _, failure = check("Zp3vWm0c8Qy.HkYp2%2BqvT%3D")

    assert "refused (malformed)" in failure
    assert "/api/auth/token" in failure


def test_shared_secret(
    check: Callable[..., tuple[str, str]], shared_secret: Callable[..., str], issuer: Issuer
) -> None:
    """[A1]"""
    said, failure = check(shared_secret())

    assert failure == ""
    assert "keys: none; tokens are signed with AUTH_SHARED_SECRET, by HS256" in said
    assert "token: good until " in said
    assert issuer.requests == []
