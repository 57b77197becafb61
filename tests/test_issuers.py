"""Which tokens of an identity provider are good, and what is read of them."""

import base64
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from accounts import issuers
from accounts.issuers import OutsideClaims, is_jwt, is_outside, read_outside
from accounts.models import User
from tests.conftest import begin_session
from tests.issuer import (
    ALGORITHMS,
    AUDIENCE,
    SHARED_SECRET,
    Issuer,
    b64,
    private_jwk,
    private_key,
    public_jwk,
    sign,
)
from todo_project.api.errors import TokenExpired, TokenInvalid

NOW = int(time.time())
DAY = 86_400


def read(token: str) -> OutsideClaims:
    return read_outside(token.encode())


def reason(token: str, caplog: pytest.LogCaptureFixture) -> str:
    """Why `token` is refused, as the log has it, which has nothing else of it."""
    caplog.clear()
    with caplog.at_level(logging.INFO), pytest.raises(TokenInvalid) as refused:
        read(token)
    (record,) = [line for line in caplog.records if line.name == "accounts.issuers"]
    assert record.getMessage() == "outside token refused"
    written = str({name: value for name, value in record.__dict__.items() if name != "args"})
    assert not any(part in written for part in token.split(".") if len(part) > 8)
    assert str(refused.value.detail) == issuers.MESSAGES[record.reason]  # type: ignore[attr-defined]
    found: str = record.reason  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "Ed25519"])
def test_token_by_each_algorithm_is_read(algorithm: str, issuer: Issuer) -> None:
    """[A1] Its claims become what is needed of them, and no more."""
    issuer.use(algorithm)

    token = issuer.token(iat=NOW, exp=NOW + DAY, scope="everything")

    assert is_outside(token.encode())
    issued_at = datetime.fromtimestamp(NOW, UTC)
    assert read(token) == OutsideClaims(
        issuer=issuer.name,
        subject="ada",
        issued_at=issued_at,
        authenticated_at=issued_at,
        email=None,
        name="",
    )


def test_token_by_a_shared_secret_is_read(
    shared_secret: Callable[..., str], issuer: Issuer
) -> None:
    """[A1] Whatever it calls the secret; nobody is asked for keys."""
    assert read(shared_secret()).subject == "ada"
    assert read(shared_secret({"kid": "any"}, sub="bob")).subject == "bob"
    assert issuer.requests == []


def test_without_an_issuer_no_token_is_outside(other_issuer: Issuer) -> None:
    """[A1]"""
    assert not is_outside(other_issuer.token().encode())
    assert not is_outside(b"")


@pytest.mark.parametrize(
    "raw",
    [
        *("", ".", "..", "...", "a.b.c", "todo_0123456789", "a.bnVsbA.c", "a.W10.c", "a.eyJ9.c"),
        "session.signature",
        f"a.{b64(b'[' * 5000)}.c",
        f"a.{b64(json.dumps({'iss': ['https://app.example.com']}).encode())}.c",
    ],
)
def test_what_names_no_issuer_is_not_outside(raw: str, issuer: Issuer) -> None:
    """[A1] Whatever bytes a header has."""
    assert not is_outside(raw.encode())


def test_own_token_is_not_outside(issuer: Issuer, alice: User) -> None:
    """[A1]"""
    assert not is_outside(begin_session(alice).access.encode())


def test_opaque_token_is_no_jwt(issuer: Issuer) -> None:
    """[A1] Better Auth's sessions have a token and a signature of it."""
    assert is_jwt(issuer.token().encode())
    assert not is_jwt(b"Zp3vWm0c8Qy.HkYp2%2BqvT%3D")


# Each row makes a token that differs from a good one in what its id says.
ATTACKS: list[tuple[str, str, Callable[[Issuer], str]]] = [
    ("none", "algorithm", lambda i: i.token(header={"alg": "none"})),
    (
        "none, without a signature",
        "malformed",
        lambda i: sign({"alg": "none"}, i.claims(), None),
    ),
    ("None", "algorithm", lambda i: i.token(header={"alg": "None"})),
    ("alg missing", "algorithm", lambda i: i.token(header={"alg": ...})),
    ("alg a list", "algorithm", lambda i: i.token(header={"alg": ["EdDSA"]})),
    ("alg null", "algorithm", lambda i: i.token(header={"alg": None})),
    (
        "HS256 by the public key, raw",
        "algorithm",
        lambda i: sign(
            {"alg": "HS256", "kid": i.kid},
            i.claims(),
            i.private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        ),
    ),
    (
        "HS256 by the published member",
        "algorithm",
        lambda i: sign({"alg": "HS256", "kid": i.kid}, i.claims(), i.keys[0]["x"].encode()),
    ),
    (
        "HS256 by nothing",
        "algorithm",
        lambda i: sign({"alg": "HS256", "kid": i.kid}, i.claims(), b""),
    ),
    ("alg of another type", "key", lambda i: i.token(header={"alg": "RS256"})),
    ("alg that isn't accepted", "algorithm", lambda i: i.token(header={"alg": "ES512"})),
    ("another key, same kid", "signature", lambda i: i.token(key=private_key("EdDSA", 9))),
    ("kid unknown", "key", lambda i: i.token(header={"kid": "key-9"})),
    ("kid empty", "key", lambda i: i.token(header={"kid": ""})),
    ("kid a path", "key", lambda i: i.token(header={"kid": "../../../../dev/null"})),
    ("kid an URL", "key", lambda i: i.token(header={"kid": "http://127.0.0.1:1/jwks"})),
    ("kid SQL", "key", lambda i: i.token(header={"kid": "' UNION SELECT 'key' --"})),
    ("kid NUL", "key", lambda i: i.token(header={"kid": "key-0\x00"})),
    ("kid a number", "malformed", lambda i: i.token(header={"kid": 0})),
    ("kid null", "malformed", lambda i: i.token(header={"kid": None})),
    (
        "jku",
        "signature",
        lambda i: i.token(key=private_key("EdDSA", 9), header={"jku": f"{i.name}/attack"}),
    ),
    (
        "x5u",
        "signature",
        lambda i: i.token(key=private_key("EdDSA", 9), header={"x5u": f"{i.name}/attack"}),
    ),
    (
        "jwk",
        "signature",
        lambda i: i.token(
            key=private_key("EdDSA", 9),
            header={"jwk": public_jwk("EdDSA", private_key("EdDSA", 9), kid=i.kid)},
        ),
    ),
    (
        "x5c",
        "signature",
        lambda i: i.token(key=private_key("EdDSA", 9), header={"x5c": ["MIIB"]}),
    ),
    ("crit", "malformed", lambda i: i.token(header={"crit": ["exp"], "exp": 1})),
    ("crit b64", "malformed", lambda i: i.token(header={"crit": ["b64"], "b64": True})),
    ("crit empty", "malformed", lambda i: i.token(header={"crit": []})),
    ("b64 false", "malformed", lambda i: i.token(header={"b64": False})),
    (
        "typ of a session cookie",
        "type",
        lambda i: i.token(header={"typ": "better-auth.session-cache+jwt"}),
    ),
    ("typ of a sign-out", "type", lambda i: i.token(header={"typ": "logout+jwt"})),
    ("typ of an event", "type", lambda i: i.token(header={"typ": "secevent+jwt"})),
    ("typ of a proof", "type", lambda i: i.token(header={"typ": "dpop+jwt"})),
    ("typ empty", "type", lambda i: i.token(header={"typ": ""})),
    ("typ null", "type", lambda i: i.token(header={"typ": None})),
    ("typ a number", "type", lambda i: i.token(header={"typ": 1})),
    *(
        (f"payload typ {kind}", "type", lambda i, kind=kind: i.token(typ=kind))
        for kind in ("ID", "Refresh", "Offline", "Logout", "id")
    ),
    ("event in the payload", "type", lambda i: i.token(events={"backchannel-logout": {}})),
    ("cnf", "bound", lambda i: i.token(cnf={"jkt": "0ZcOCORZNYy"})),
    ("iss missing", "issuer", lambda i: i.token(iss=...)),
    ("iss with a slash", "issuer", lambda i: i.token(iss=f"{i.name}/")),
    ("iss of a preview", "issuer", lambda i: i.token(iss="https://ep-preview.example.com")),
    ("iss the service's own", "issuer", lambda i: i.token(iss="todo-api")),
    ("iss a list", "issuer", lambda i: i.token(iss=[i.name])),
    ("aud missing", "audience", lambda i: i.token(aud=...)),
    ("aud another", "audience", lambda i: i.token(aud="https://other.example.com")),
    ("aud with a slash", "audience", lambda i: i.token(aud=f"{AUDIENCE}/")),
    ("aud in capitals", "audience", lambda i: i.token(aud=AUDIENCE.upper())),
    ("aud empty", "audience", lambda i: i.token(aud=[])),
    ("aud null", "audience", lambda i: i.token(aud=None)),
    ("aud others", "audience", lambda i: i.token(aud=["a", "b"])),
    ("aud ours and a number", "audience", lambda i: i.token(aud=[AUDIENCE, 1])),
    ("aud ours in a list", "audience", lambda i: i.token(aud=[[AUDIENCE]])),
    ("aud an object", "audience", lambda i: i.token(aud={AUDIENCE: True})),
    ("sub missing", "subject", lambda i: i.token(sub=...)),
    ("sub null", "subject", lambda i: i.token(sub=None)),
    ("sub a number", "subject", lambda i: i.token(sub=7)),
    ("sub a list", "subject", lambda i: i.token(sub=["ada"])),
    ("sub empty", "subject", lambda i: i.token(sub="")),
    ("sub of 256 characters", "subject", lambda i: i.token(sub="a" * 256)),
    ("sub with NUL", "subject", lambda i: i.token(sub="ada\x00")),
    ("sub with a line break", "subject", lambda i: i.token(sub="ada\n")),
    ("sub with C1", "subject", lambda i: i.token(sub="ada\x9b")),
    ("sub with a surrogate", "malformed", lambda i: i.token(sub="ada\ud800")),
    ("exp missing", "times", lambda i: i.token(exp=...)),
    ("exp null", "times", lambda i: i.token(exp=None)),
    ("exp a text", "times", lambda i: i.token(exp=str(NOW + DAY))),
    ("exp a float", "times", lambda i: i.token(exp=NOW + DAY + 0.5)),
    ("exp a whole float", "times", lambda i: i.token(exp=float(NOW + DAY))),
    ("exp true", "times", lambda i: i.token(exp=True)),
    ("exp negative", "times", lambda i: i.token(exp=-1)),
    ("exp of 300 digits", "times", lambda i: i.token(exp=10**300)),
    ("exp beyond 64 bits", "times", lambda i: i.token(exp=2**64)),
    ("exp beyond dates", "times", lambda i: i.token(exp=2**40)),
    ("exp in a year", "lifetime", lambda i: i.token(exp=NOW + 365 * DAY)),
    (
        "exp in ten days, of a token of 60",
        "lifetime",
        lambda i: i.token(iat=NOW - 50 * DAY, exp=NOW + 10 * DAY),
    ),
    ("nbf ahead", "early", lambda i: i.token(nbf=NOW + DAY)),
    ("nbf a text", "times", lambda i: i.token(nbf=str(NOW))),
    ("nbf a float", "times", lambda i: i.token(nbf=float(NOW))),
    ("iat missing", "times", lambda i: i.token(iat=...)),
    ("iat null", "times", lambda i: i.token(iat=None)),
    ("iat a whole float", "times", lambda i: i.token(iat=float(NOW))),
    ("iat ahead", "early", lambda i: i.token(iat=NOW + DAY)),
    ("iat a text", "times", lambda i: i.token(iat=str(NOW))),
    ("iat false", "times", lambda i: i.token(iat=False)),
    ("auth_time ahead", "early", lambda i: i.token(auth_time=NOW + DAY)),
    ("auth_time a text", "times", lambda i: i.token(auth_time=str(NOW))),
    ("size", "size", lambda i: i.token(groups=["a" * 36] * 200)),
    ("padding", "malformed", lambda i: f"{i.token()}=="),
    ("blank", "malformed", lambda i: f"{i.token()} "),
    ("standard alphabet", "malformed", lambda i: f"{i.token()[:-2]}+/"),
    ("two parts", "malformed", lambda i: i.token().rpartition(".")[0]),
    ("five parts", "malformed", lambda i: f"{i.token()}.a.b"),
    ("signature missing", "malformed", lambda i: f"{i.token().rpartition('.')[0]}."),
    ("payload no object", "malformed", lambda i: sign(_header(i), [], i.private_key)),
    ("payload no JSON", "malformed", lambda i: sign(_header(i), b"{", i.private_key)),
    (
        "payload in UTF-16",
        "malformed",
        lambda i: sign(_header(i), json.dumps(i.claims()).encode("utf-16"), i.private_key),
    ),
    ("payload too deep", "malformed", lambda i: sign(_header(i), b"[" * 5000, i.private_key)),
    (
        "header no object",
        "malformed",
        lambda i: sign([], i.claims(), i.private_key, algorithm="EdDSA"),
    ),
    (
        "header too deep",
        "malformed",
        lambda i: sign(b"[" * 5000, i.claims(), i.private_key, algorithm="EdDSA"),
    ),
]


def _header(issuer: Issuer) -> dict[str, Any]:
    return {"alg": issuer.algorithm, "kid": issuer.kid}


@pytest.mark.parametrize(
    ("expected", "make"),
    [pytest.param(reason, make, id=name) for name, reason, make in ATTACKS],
)
def test_attack_is_refused(
    expected: str,
    make: Callable[[Issuer], str],
    issuer: Issuer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[A1] The log has the reason, and the next good token is good."""
    token = make(issuer)

    assert reason(token, caplog) == expected
    issuers._sources.clear()  # else a key's name is asked for once in 30 seconds
    assert reason(token, caplog) == expected  # nothing was remembered of it
    assert read(issuer.token()).subject == "ada"
    assert set(issuer.requests) == {"/jwks"}


@pytest.mark.parametrize(
    ("algorithm", "header"),
    [("ES256", "ES384"), ("ES384", "ES256"), ("ES256", "EdDSA"), ("RS256", "ES256")],
)
def test_key_of_another_type_is_refused(
    algorithm: str, header: str, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] The `alg` of a header chooses among the keys, and makes none into another."""
    issuer.use(algorithm)

    assert reason(issuer.token(header={"alg": header}), caplog) == "key"


@pytest.mark.parametrize(("said", "used"), [("RS256", "PS256"), ("PS256", "RS256")])
def test_key_keeps_its_algorithm(
    said: str, used: str, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] RFC 8725, section 3.1."""
    issuer.use(said)
    token = sign({"alg": used, "kid": issuer.kid}, issuer.claims(), issuer.private_key)

    assert reason(token, caplog) == "key"

    issuer.keys = [issuer.jwk(alg=None)]  # one that says nothing has both
    issuers._sources.clear()
    assert read(token).subject == "ada"


def test_shared_secret_makes_no_other_token_good(
    shared_secret: Callable[..., str], issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] Neither a key's, nor what else a provider signs with its secret."""
    assert reason(issuer.token(), caplog) == "algorithm"
    wrong = sign({"alg": "HS256"}, issuer.claims(), b"another secret of at least 32 bytes")
    assert reason(wrong, caplog) == "signature"
    verification = {"email": "ada@example.com", "iat": NOW, "exp": NOW + DAY}
    mailed = sign({"alg": "HS256"}, verification, SHARED_SECRET.encode())
    assert not is_outside(mailed.encode())
    assert reason(mailed, caplog) == "issuer"
    assert reason(shared_secret(sub=...), caplog) == "subject"
    assert reason(shared_secret(exp=...), caplog) == "times"
    assert reason(shared_secret(aud=...), caplog) == "audience"


def test_own_refresh_token_is_refused(
    issuer: Issuer, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] It is not the issuer's, and not signed by its keys."""
    refresh = begin_session(alice).refresh

    assert not is_outside(refresh.encode())
    assert reason(refresh, caplog) == "algorithm"


def test_two_keys_of_one_name(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """[A1] Of another type they aren't mistaken; two that both fit are refused."""
    kid = issuer.kid
    others = [
        public_jwk("ES256", private_key("ES256"), kid=kid, alg="ES256"),
        public_jwk("RS256", private_key("RS256"), kid=kid, alg="RS256"),
        public_jwk("PS256", private_key("PS256"), kid=kid, alg="PS256"),
    ]
    issuer.keys = [*others, issuer.jwk()]

    for algorithm in ("EdDSA", "ES256", "RS256", "PS256"):
        token = sign(
            {"alg": algorithm, "kid": kid}, issuer.claims(sub=algorithm), private_key(algorithm)
        )
        assert read(token).subject == algorithm

    twin = public_jwk("EdDSA", private_key("EdDSA", 9), kid=kid, alg="EdDSA")
    issuer.keys = [twin, issuer.jwk()]
    issuers._sources.clear()
    assert reason(issuer.token(), caplog) == "key"
    assert reason(issuer.token(key=private_key("EdDSA", 9)), caplog) == "key"


def test_token_without_a_kid(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """[A1] Where one key alone can have made it."""
    other = public_jwk("ES256", private_key("ES256"), kid="other", alg="ES256")
    token = issuer.token(header={"kid": ...})
    issuer.keys = [issuer.jwk(kid=None), other]

    assert read(token).subject == "ada"

    issuer.keys = [issuer.jwk(), public_jwk("EdDSA", private_key("EdDSA", 9), kid="other")]
    issuers._sources.clear()
    assert reason(token, caplog) == "key"


def test_key_without_a_kid(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """[A1] Whatever the token calls it, where it alone can have made it."""
    token = issuer.token(header={"kid": "any"})
    issuer.keys = [issuer.jwk(kid=None), public_jwk("ES256", private_key("ES256"), kid="other")]

    assert read(token).subject == "ada"
    assert issuer.requests == ["/jwks"]

    for kid in (None, "other"):
        twin = public_jwk("EdDSA", private_key("EdDSA", 9), kid=kid)
        issuer.keys = [issuer.jwk(kid=None), twin]
        issuers._sources.clear()
        assert reason(token, caplog) == "key"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", ...])
def test_types_of_access_tokens(kind: Any, issuer: Issuer) -> None:
    """[A1]"""
    assert read(issuer.token(header={"typ": kind})).subject == "ada"


def test_token_of_the_largest_size_is_read(
    issuer: Issuer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] 8 KiB, to the byte."""
    assert settings.OUTSIDE_TOKEN_MAX_BYTES == 8192
    token = issuer.token(groups=["a" * 36] * 10)

    settings.OUTSIDE_TOKEN_MAX_BYTES = len(token)
    assert read(token).subject == "ada"
    settings.OUTSIDE_TOKEN_MAX_BYTES = len(token) - 1
    assert reason(token, caplog) == "size"


@pytest.mark.parametrize(
    "subject",
    [
        *("a", "a" * 255, "ü" * 255, "auth0|5f7c8ec7c33c6c004bbafe82", "google-oauth2|1134"),
        *("samlp|acme|a/b@example.com", "me", "ADA", "ada ", "..", "😀"),
    ],
)
def test_subject_is_kept_to_the_byte(subject: str, issuer: Issuer) -> None:
    """[A1] No other spelling is the same person."""
    assert read(issuer.token(sub=subject)).subject == subject


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["userinfo", AUDIENCE], "second"])
def test_audience_is_one_of_several(audience: Any, issuer: Issuer, settings: Any) -> None:
    """[A1]"""
    settings.AUTH_AUDIENCE = [AUDIENCE, "second"]

    assert read(issuer.token(aud=audience)).subject == "ada"


@pytest.mark.parametrize(
    ("required", "claims", "is_good"),
    [
        ({"azp": ["app"]}, {"azp": "app"}, True),
        ({"azp": ["app"]}, {"azp": "other"}, False),
        ({"azp": ["app"]}, {"azp": ["app"]}, False),
        ({"azp": ["app"]}, {"azp": None}, False),
        ({"azp": ["app"]}, {}, False),
        ({"azp": ["app", "page"]}, {"azp": "page"}, True),
        ({"azp": ["app"], "v": [2]}, {"azp": "app", "v": 2}, True),
        ({"azp": ["app"], "v": [2]}, {"azp": "app"}, False),
        ({"v": [1]}, {"v": True}, False),
        ({"v": [1]}, {"v": 1.0}, False),
        ({"v": [True]}, {"v": 1}, False),
        ({"v": [True]}, {"v": "true"}, False),
        ({"v": [0]}, {"v": False}, False),
        ({"banned": [False, None]}, {"banned": False}, True),
        ({"banned": [False, None]}, {"banned": None}, True),
        ({"banned": [False, None]}, {}, True),
        ({"banned": [False, None]}, {"banned": True}, False),
        ({"banned": [False, None]}, {"banned": 0}, False),
        ({"banned": [False]}, {}, False),
    ],
)
def test_required_claims(
    required: dict[str, Any],
    claims: dict[str, Any],
    is_good: bool,
    issuer: Issuer,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[A1] Compared with their type; null stands for a claim that isn't there, too."""
    settings.AUTH_REQUIRED_CLAIMS = required
    settings.AUTH_AUDIENCE = []
    token = issuer.token(aud=..., **claims)

    if is_good:
        assert read(token).subject == "ada"
    else:
        assert reason(token, caplog) == "claims"


AUTH0 = {"iss": "https://t.auth0.example/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82"}
CLERK = {"iss": "https://clerk.example.com", "sub": "user_2abc", "sid": "sess_2abc", "v": 2}
SUPABASE = {
    "iss": "https://p.supabase.example/auth/v1",
    "sub": "3f2b9a3e-9e0a-4a54-8c39-2b7a1c9d0e11",
    "aud": "authenticated",
    "role": "authenticated",
    "is_anonymous": False,
    "email": "ada@example.com",
    "user_metadata": {"email_verified": True},
}
KEYCLOAK = {
    "iss": "https://h.example/realms/r",
    "sub": "f:1:ada",
    "aud": ["todo", "account"],
    "typ": "Bearer",
    "azp": "web",
}
COGNITO = {"iss": "https://cognito-idp.r.example/POOL", "sub": "aaaa", "client_id": "app"}
ENTRA = {"iss": "https://login.example.com/t/v2.0", "sub": "AAAA", "aud": "api", "ver": "2.0"}
NEON = {
    "iss": "https://ep-x.neon.example",
    "aud": "https://ep-x.neon.example",
    "sub": "3f2b9a3e-9e0a-4a54-8c39-2b7a1c9d0e11",
    "banned": False,
    "role": "authenticated",
}
BETTER_AUTH = {
    "iss": "https://app.example.com",
    "aud": "https://app.example.com",
    "sub": "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6",
    "id": "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6",
}
WORKOS = {"iss": "https://api.workos.example", "sub": "user_01H", "sid": "session_01H"}
FIREBASE = {"iss": "https://securetoken.example/p", "aud": "p", "sub": "abc", "firebase": {}}

# Its name, the settings, the algorithm, the header's `typ`, a good access token, and others of the
# same provider under the same keys.
PROVIDERS: list[tuple[str, dict[str, Any], str, Any, dict[str, Any], dict[str, dict[str, Any]]]] = [
    (
        "Auth0",
        {"AUTH_AUDIENCE": ["https://api.example.com"]},
        "RS256",
        "at+jwt",
        {
            **AUTH0,
            "aud": ["https://api.example.com", "https://t.auth0.example/userinfo"],
            "azp": "web",
            "scope": "openid",
        },
        {
            "audience": {**AUTH0, "aud": "web", "nonce": "n"},  # its ID token
            "issuer": {**AUTH0, "iss": "https://t.auth0.example", "aud": "https://api.example.com"},
        },
    ),
    (
        "Clerk",
        {"AUTH_REQUIRED_CLAIMS": {"azp": ["https://app.example.com"], "sts": [None, "active"]}},
        "RS256",
        "JWT",
        {**CLERK, "azp": "https://app.example.com", "fva": [1, -1]},
        {
            "claims": {**CLERK, "azp": "https://other.example.com"},
            "claims ": CLERK,
            "claims  ": {**CLERK, "azp": "https://app.example.com", "sts": "pending"},
        },
    ),
    (
        "Supabase",
        {
            "AUTH_AUDIENCE": ["authenticated"],
            "AUTH_REQUIRED_CLAIMS": {"role": ["authenticated"], "is_anonymous": [False]},
        },
        "ES256",
        "JWT",
        SUPABASE,
        {
            "claims": {**SUPABASE, "is_anonymous": True},
            "issuer": {"iss": "supabase", "role": "anon", "ref": "p"},
            "audience": {**SUPABASE, "aud": "anon"},
        },
    ),
    (
        "Keycloak",
        {"AUTH_AUDIENCE": ["todo"]},
        "RS256",
        "JWT",
        KEYCLOAK,
        {
            "type": {**KEYCLOAK, "typ": "ID"},
            "type ": {**KEYCLOAK, "typ": "Refresh"},
            "type  ": {**KEYCLOAK, "typ": "Logout", "events": {}},
            "audience": {**KEYCLOAK, "aud": "account"},
            "issuer": {**KEYCLOAK, "iss": "https://h.example/realms/other"},
        },
    ),
    (
        "Cognito",
        {"AUTH_REQUIRED_CLAIMS": {"client_id": ["app"], "token_use": ["access"]}},
        "RS256",
        ...,
        {**COGNITO, "token_use": "access", "username": "ada"},
        {
            "claims": {**COGNITO, "token_use": "id", "aud": "app"},
            "claims ": {**COGNITO, "token_use": "access", "client_id": "other"},
        },
    ),
    (
        "Entra",
        {"AUTH_AUDIENCE": ["api"], "AUTH_REQUIRED_CLAIMS": {"ver": ["2.0"]}},
        "RS256",
        "JWT",
        {**ENTRA, "oid": "o", "tid": "t", "scp": "tasks", "preferred_username": "ada@example.com"},
        {
            "audience": {**ENTRA, "aud": "00000003-0000-0000-c000-000000000000"},  # Graph's
            "issuer": {**ENTRA, "iss": "https://sts.example.com/t/", "ver": "1.0"},
            "issuer ": {**ENTRA, "iss": "https://login.example.com/other/v2.0"},
        },
    ),
    (
        "Neon Auth",
        {
            "AUTH_AUDIENCE": ["https://ep-x.neon.example"],
            "AUTH_REQUIRED_CLAIMS": {"banned": [False, None]},
        },
        "EdDSA",
        ...,
        NEON,
        {
            "issuer": {
                **NEON,
                "iss": "https://ep-preview.neon.example",
                "aud": "https://ep-preview.neon.example",
            },
            "claims": {**NEON, "banned": True},
        },
    ),
    (
        "Better Auth",
        {"AUTH_AUDIENCE": ["https://app.example.com"]},
        "EdDSA",
        ...,
        BETTER_AUTH,
        {
            "audience": {**BETTER_AUTH, "aud": "better-auth:session-cache"},
            "bound": {**BETTER_AUTH, "cnf": {"jkt": "x"}},
        },
    ),
    (
        "WorkOS",
        {"AUTH_REQUIRED_CLAIMS": {"client_id": ["client_01H"]}},
        "RS256",
        ...,
        {**WORKOS, "client_id": "client_01H", "permissions": ["tasks"]},
        {"claims": WORKOS},
    ),
    (
        "Firebase",
        {"AUTH_AUDIENCE": ["p"]},
        "RS256",
        "JWT",
        {**FIREBASE, "user_id": "abc", "auth_time": NOW - 5},
        {"audience": {**FIREBASE, "aud": "q"}},
    ),
]


@pytest.fixture
def as_provider(issuer: Issuer, settings: Any) -> Callable[..., None]:
    def become(name: str, policy: dict[str, Any], algorithm: str) -> None:
        issuer.use(algorithm)
        settings.AUTH_ISSUER = name
        settings.AUTH_AUDIENCE = policy.get("AUTH_AUDIENCE", [])
        settings.AUTH_REQUIRED_CLAIMS = policy.get("AUTH_REQUIRED_CLAIMS", {})

    return become


@pytest.mark.parametrize(
    ("policy", "algorithm", "kind", "claims"),
    [pytest.param(*row[1:5], id=row[0]) for row in PROVIDERS],
)
def test_access_token_of_each_provider_is_read(
    policy: dict[str, Any],
    algorithm: str,
    kind: Any,
    claims: dict[str, Any],
    issuer: Issuer,
    as_provider: Callable[..., None],
) -> None:
    """[A1] In the form of their documentation; no address where it isn't said to be verified."""
    as_provider(claims["iss"], policy, algorithm)
    token = issuer.token(**{"aud": ..., **claims}, header={"typ": kind})

    assert is_outside(token.encode())
    read_claims = read(token)
    assert (read_claims.issuer, read_claims.subject) == (claims["iss"], claims["sub"])
    assert read_claims.email is None


@pytest.mark.parametrize(
    ("policy", "algorithm", "kind", "issuer_name", "expected", "claims"),
    [
        pytest.param(*row[1:4], row[4]["iss"], expected, claims, id=f"{row[0]}: {expected}")
        for row in PROVIDERS
        for expected, claims in row[5].items()
    ],
)
def test_other_token_of_each_provider_is_refused(
    policy: dict[str, Any],
    algorithm: str,
    kind: Any,
    issuer_name: str,
    expected: str,
    claims: dict[str, Any],
    issuer: Issuer,
    as_provider: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[A1] Under the same keys: ID, refresh and sign-out tokens, other audiences, previews."""
    as_provider(issuer_name, policy, algorithm)
    token = issuer.token(**{"aud": ..., "sub": ..., **claims}, header={"typ": kind})

    assert reason(token, caplog) == expected.strip()


@pytest.mark.parametrize(
    ("claims", "email"),
    [
        ({"email": "ada@example.com", "email_verified": True}, "ada@example.com"),
        ({"email": "ada@example.com", "emailVerified": True}, "ada@example.com"),
        ({"email": " Ada@EXAMPLE.com", "email_verified": True}, "ada@example.com"),
        ({"email": "ada@bücher.example", "email_verified": True}, "ada@xn--bcher-kva.example"),
        ({"email": "ada@example.com"}, None),
        ({"email": "ada@example.com", "email_verified": False}, None),
        ({"email": "ada@example.com", "email_verified": "true"}, None),
        ({"email": "ada@example.com", "email_verified": 1}, None),
        ({"email": "ada@example.com", "email_verified": None}, None),
        ({"email": "ada@example.com", "email_verified": [True]}, None),
        ({"email": "ada@example.com", "email_verified": True, "emailVerified": False}, None),
        ({"email": "ada@example.com", "user_metadata": {"email_verified": True}}, None),
        ({"email": ["ada@example.com"], "email_verified": True}, None),
        ({"email": "ada", "email_verified": True}, None),
        ({"email": "ädä@example.com", "email_verified": True}, None),
        ({"email": f"{'a' * 65}@example.com", "email_verified": True}, None),
        ({"email": f"a@{'b.' * 130}example", "email_verified": True}, None),
        ({"email": "ada@example.com\x00", "email_verified": True}, None),
        ({"email": "", "email_verified": True}, None),
        ({"email_verified": True}, None),
    ],
)
def test_address_is_read_where_it_is_verified(
    claims: dict[str, Any], email: str | None, issuer: Issuer
) -> None:
    """[A3] By the boolean alone, and where mail can be sent there."""
    assert read(issuer.token(**claims)).email == email


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        (" Ada\n\tLovelace\x00 ", "Ada Lovelace"),
        ("a" * 151, "a" * 150),
        ("a" * 149 + " b", "a" * 149),
        ("a" + "\u0301" * 31, ""),
        ("\u200b", ""),
        ("", ""),
        (None, ""),
        (["Ada"], ""),
        (7, ""),
    ],
)
def test_name_becomes_a_line(name: Any, expected: str, issuer: Issuer) -> None:
    """[A3] [T5] Or nothing: no name makes a good token bad."""
    assert read(issuer.token(name=name)).name == expected


def test_times_of_a_token(issuer: Issuer) -> None:
    """[A1] When it was issued, and when the person signed in."""
    claims = read(issuer.token(iat=NOW - 60, auth_time=NOW - 600))
    assert claims.issued_at == datetime.fromtimestamp(NOW - 60, UTC)
    assert claims.authenticated_at == datetime.fromtimestamp(NOW - 600, UTC)

    claims = read(issuer.token(auth_time=0))
    assert claims.authenticated_at == datetime.fromtimestamp(0, UTC)


@pytest.mark.parametrize("claim", ["nbf", "auth_time"])
def test_null_is_a_time_that_is_not_there(claim: str, issuer: Issuer) -> None:
    """[A1] As libraries write it that leave nothing out."""
    claims = read(issuer.token(iat=NOW - 60, **{claim: None}))

    assert claims.authenticated_at == datetime.fromtimestamp(NOW - 60, UTC)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock that tokens are compared with."""

    def set_clock(now: float) -> None:
        monkeypatch.setattr(issuers, "time", lambda: float(now))

    return set_clock


def test_skew_is_the_same_at_each_sight(issuer: Issuer, at: Callable[[float], None]) -> None:
    """[A1] 60 seconds, whether a token is remembered or not."""
    token = issuer.token(iat=NOW, exp=NOW + 100)

    for is_remembered in (True, False):
        at(NOW)
        read(token)
        at(NOW + 159)
        if not is_remembered:
            issuers._verified.clear()
        assert read(token).subject == "ada"
        at(NOW + 160)
        if not is_remembered:
            issuers._verified.clear()
        with pytest.raises(TokenExpired):
            read(token)


@pytest.mark.parametrize("claim", ["nbf", "iat", "auth_time"])
def test_skew_of_what_is_to_be_past(
    claim: str, issuer: Issuer, at: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """[A1]"""
    token = issuer.token(**{"iat": NOW - 100, "exp": NOW + 100, claim: NOW})

    at(NOW - 61)
    assert reason(token, caplog) == "early"
    at(NOW - 60)
    assert read(token).subject == "ada"


def test_longest_life(
    issuer: Issuer, at: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] 30 days: so long it is remembered whose account was deleted."""
    at(NOW)

    assert read(issuer.token(iat=NOW, exp=NOW + 30 * DAY)).subject == "ada"
    assert reason(issuer.token(iat=NOW, exp=NOW + 30 * DAY + 1), caplog) == "lifetime"
    assert read(issuer.token(iat=NOW + 59, exp=NOW + 30 * DAY + 59)).subject == "ada"


@pytest.mark.parametrize(
    "claims", [{"aud": "other"}, {"sub": ""}, {"iss": "other"}, {"cnf": {}}, {"typ": "ID"}]
)
def test_only_what_was_good_expires(
    claims: dict[str, Any], issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] A client refreshes what has expired; another token is not worth it."""
    times = {"iat": NOW - 1000, "exp": NOW - 100}

    with pytest.raises(TokenExpired) as expired:
        read(issuer.token(**times))
    assert "refresh token" not in str(expired.value.detail)
    assert [r.reason for r in caplog.records if hasattr(r, "reason")] == ["expired"]
    assert reason(issuer.token(**times, **claims), caplog) != "expired"


def test_token_is_verified_once(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[A1] As the service's own are."""
    token = issuer.token()
    first = read(token)
    monkeypatch.setattr(issuers, "verify", None)

    assert read(token) is first
    assert is_outside(token.encode())


def test_only_so_many_tokens_are_remembered(issuer: Issuer, settings: Any) -> None:
    """[A1] The first is forgotten first."""
    settings.ACCESS_TOKENS_REMEMBERED = 3
    for number in range(5):
        read(issuer.token(sub=f"person-{number}"))

    remembered = [verified.claims.subject for verified in issuers._verified.values()]
    assert remembered == ["person-2", "person-3", "person-4"]


@pytest.mark.parametrize(
    ("act", "actor"),
    [
        ({"sub": "admin"}, "admin"),
        ({"sub": "admin\nINFO forged"}, None),
        ({}, None),
        ("admin", None),
    ],
)
def test_actor_is_logged(
    act: Any, actor: str | None, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """[A1] Who acts for the person, once for each token."""
    token = issuer.token(act=act)
    with caplog.at_level(logging.INFO):
        read(token)
        read(token)

    (record,) = [r for r in caplog.records if r.getMessage() == "outside token of an actor"]
    assert record.actor == actor  # type: ignore[attr-defined]


def test_private_key_that_was_published_verifies(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """[A2] By its public half; the operator is told."""
    jwk = {**private_jwk("EdDSA", issuer.private_key), "kid": issuer.kid}
    assert "d" in jwk
    issuer.keys = [jwk]

    assert read(issuer.token()).subject == "ada"
    assert "the issuer publishes a private key" in caplog.text
    assert jwk["d"] not in caplog.text


def test_one_token_has_one_spelling(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """[A1] The bits that base64 leaves over are zero."""
    token = issuer.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    other = token[:-1] + alphabet[last + 1]

    assert base64.urlsafe_b64decode(other.split(".")[2] + "==") == base64.urlsafe_b64decode(
        token.split(".")[2] + "=="
    )
    assert reason(other, caplog) == "malformed"
