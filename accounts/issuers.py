"""Tokens of the identity provider: verified, and read into what is needed of them.

PyJWT checks the signature. The claims are checked here, because it takes times as texts, and
subjects that no database can keep. What a claim must be is in docs/contract.md, section 11.
"""

import base64
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from time import time
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from jwt import PyJWS
from jwt.algorithms import OKPAlgorithm
from jwt.exceptions import PyJWTError

from todo_project.api.errors import TokenExpired, TokenInvalid
from todo_project.memory import Memory
from todo_project.text import NO_LINE, validate_line, validate_marks

from .credentials import EMAIL_MAX_CHARACTERS, canonical_email, validate_mailable
from .jwks import SAME_ALGORITHMS, FixedKeys, IssuerKeys, Key, KeySet, KeySource
from .models import NAME_MAX_CHARACTERS, SUBJECT_MAX_CHARACTERS

logger = logging.getLogger(__name__)

# RFC 7515, section 3.1, without padding: a token has one spelling.
_JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 8725, section 3.11. Many providers send no `typ` at all.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
# In the payload, where Keycloak says it.
_OTHER_KINDS = frozenset({"id", "refresh", "offline", "logout"})
# Seconds since 1970, up to the year 2242: whatever is computed with one is a date, too.
_SECONDS = range(2**33)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_jws = PyJWS(
    algorithms=["EdDSA", "ES256", "ES384", "RS256", "PS256", "HS256"],
    options={"verify_signature": True, "enforce_minimum_key_length": True},
)
for _name in SAME_ALGORITHMS:
    _jws.register_algorithm(_name, OKPAlgorithm())

# What the client is told, by the reason that the log has. In RFC 6750's characters.
MESSAGES = {
    "malformed": "The token is no signed JWT. Of Better Auth /api/auth/token gives one.",
    "size": f"The token is too large. At most {settings.OUTSIDE_TOKEN_MAX_BYTES} bytes are read.",
    "type": "This kind of token is not meant for APIs. Send an access token.",
    "algorithm": "The token is signed by an algorithm that is not accepted here.",
    "key": "The token is signed by a key that its issuer does not publish.",
    "signature": "The token's signature is wrong.",
    "issuer": "The token is of an issuer that is not accepted here.",
    "audience": "The token is meant for another service.",
    "claims": "The token lacks a claim, or a value of one, that is required here.",
    "bound": "The token is bound to a key (cnf) and can't be taken from a bearer.",
    "subject": "The token does not say whose it is (sub) in a way that can be kept.",
    "times": "The token's times must be whole seconds: exp and iat, and nbf and auth_time if any.",
    "early": "The token is not good yet.",
    "lifetime": "The token is good for too long.",
}


@dataclass(frozen=True, slots=True)
class OutsideClaims:
    """Of a good token. `issuer` and `subject` together are one person's."""

    issuer: str
    subject: str
    issued_at: datetime
    authenticated_at: datetime  # when the person signed in, else `issued_at`
    email: str | None  # where the issuer says that it is verified, in canonical form
    name: str


class RefusedError(Exception):
    """Why a token is not good, with what an operator wants to know and the log must not have."""

    def __init__(self, reason: str, *, expected: object = "", got: object = "") -> None:
        super().__init__(reason)
        self.reason, self.expected, self.got = reason, expected, got


@dataclass(frozen=True, slots=True)
class Verified:
    """A token whose signature and claims are good, until its time is over."""

    claims: OutsideClaims
    good_until: float  # Unix time
    keys: KeySet  # that verified it; it falls with them


_sources: dict[str, KeySource] = {}
# By SHA-256: a client sends the same token for many minutes, and to verify it takes some 0.3 ms.
_verified: Memory[bytes, Verified] = Memory()


def is_outside(raw: bytes) -> bool:
    """Whether a token says that it is the identity provider's; read_outside finds out."""
    issuer = settings.AUTH_ISSUER
    if not issuer:
        return False
    return sha256(raw).digest() in _verified or unverified_issuer(raw) == issuer


def is_jwt(raw: bytes) -> bool:
    """Whether it has a JWT's form, which an opaque token (Better Auth's sessions) doesn't."""
    return _JWT.fullmatch(raw) is not None


def read_outside(raw: bytes) -> OutsideClaims:
    """The claims of a token of the identity provider.

    Raises TokenExpired for a good one past its time, TokenInvalid for any other fault, and
    IssuerUnavailable where no key is known. Asks the issuer where a key isn't known.
    """
    source = key_source()
    digest = sha256(raw).digest()
    verified = _verified.get(digest)
    if verified is None or verified.keys is not source.current():
        try:
            verified = verify(raw, source)
        except RefusedError as refusal:
            logger.info("outside token refused", extra={"reason": refusal.reason})
            raise TokenInvalid(MESSAGES[refusal.reason]) from None
        _verified.remember(digest, verified)
    if verified.good_until <= time():
        logger.info("outside token refused", extra={"reason": "expired"})
        raise TokenExpired("The access token has expired. Get a new one where you got it.")
    return verified.claims


def key_source() -> KeySource:
    """Where the issuer's keys come from; one for the whole process, made at the first need."""
    issuer = settings.AUTH_ISSUER
    source = _sources.get(issuer)
    if source is None:
        source = _sources.setdefault(issuer, _new_source(issuer))
    return source


def _new_source(issuer: str) -> KeySource:
    if not settings.AUTH_SHARED_SECRET:
        return IssuerKeys(issuer, settings.AUTH_JWKS_URL)
    secret = Key(None, ("HS256",), settings.AUTH_SHARED_SECRET.encode())
    return FixedKeys(KeySet((secret,)))


def unverified_issuer(raw: bytes) -> object:
    """What a token says that its issuer is; None where it can't be read. It only chooses."""
    segments = raw.split(b".", 2)
    if len(segments) < 3:
        return None
    try:
        payload = orjson.loads(base64.urlsafe_b64decode(segments[1] + b"=="))
    except ValueError:
        return None
    return payload.get("iss") if isinstance(payload, dict) else None


def verify(raw: bytes, source: KeySource) -> Verified:
    """Raises RefusedError, or IssuerUnavailable. Whether its time is over is left to the caller."""
    algorithm, kid = _read_header(raw)
    key, keys = _find_key(source, SAME_ALGORITHMS.get(algorithm, algorithm), kid)
    try:
        decoded = _jws.decode_complete(raw, key=key.verifier, algorithms=[algorithm])
    except PyJWTError:
        raise RefusedError("signature") from None
    payload = _read_payload(decoded["payload"])
    _check_claims(payload)
    good_until = _check_times(payload)
    claims = _read_claims(payload)
    if "act" in payload:  # RFC 8693, section 4.1: somebody else acts for the person
        actor = payload["act"].get("sub") if isinstance(payload["act"], dict) else None
        logger.info(
            "outside token of an actor", extra={"actor": actor if _is_subject(actor) else None}
        )
    return Verified(claims, good_until, keys)


def _read_header(raw: bytes) -> tuple[str, str | None]:
    """Algorithm and `kid`. What else a header may say of keys (jku, jwk, x5u) is not read."""
    if len(raw) > settings.OUTSIDE_TOKEN_MAX_BYTES:
        raise RefusedError("size", expected=settings.OUTSIDE_TOKEN_MAX_BYTES, got=len(raw))
    if not is_jwt(raw):
        raise RefusedError("malformed", expected="three parts in base64url, without padding")
    try:
        header = _jws.get_unverified_header(raw)
    except PyJWTError:
        raise RefusedError("malformed", expected="a header that is a JSON object") from None
    if "crit" in header:  # RFC 7515, section 4.1.11: none is understood here
        raise RefusedError("malformed", expected="a header without crit")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise RefusedError("type", expected="typ JWT or at+jwt, or none", got=kind)
    algorithm = header.get("alg")
    accepted = settings.AUTH_ALGORITHMS
    if not isinstance(algorithm, str) or SAME_ALGORITHMS.get(algorithm, algorithm) not in accepted:
        raise RefusedError("algorithm", expected=accepted, got=algorithm)
    return algorithm, header.get("kid")


def _find_key(source: KeySource, algorithm: str, kid: str | None) -> tuple[Key, KeySet]:
    """The one key that may have made the token. Which of several did isn't tried out."""
    keys = source.asked_for(algorithm, kid)
    fitting = keys.fitting(algorithm, kid)
    if len(fitting) != 1:
        kids = [key.kid for key in keys.keys if algorithm in key.algorithms]
        raise RefusedError("key", expected=f"the kid of one {algorithm} key, of {kids}", got=kid)
    return fitting[0], keys


def _read_payload(raw: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(raw)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise RefusedError("malformed", expected="claims in a JSON object")
    return payload


def _check_claims(payload: Mapping[str, Any]) -> None:
    """Raises RefusedError where it isn't the issuer's, for this service, and of a person."""
    kind = payload.get("typ")
    if (isinstance(kind, str) and kind.lower() in _OTHER_KINDS) or "events" in payload:
        # RFC 8417, section 2.2: an event (such as a sign-out), and no token to come with.
        raise RefusedError("type", expected="an access token", got=kind or "events")
    if payload.get("iss") != settings.AUTH_ISSUER:
        raise RefusedError("issuer", expected=settings.AUTH_ISSUER, got=payload.get("iss"))
    if settings.AUTH_AUDIENCE:
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not all(isinstance(name, str) for name in audiences) or not (
            set(settings.AUTH_AUDIENCE) & set(audiences)
        ):
            raise RefusedError("audience", expected=settings.AUTH_AUDIENCE, got=audience)
    for claim, allowed in settings.AUTH_REQUIRED_CLAIMS.items():
        # By type, too: true is 1 for Python. null stands for a claim that isn't there as well.
        value = payload.get(claim)
        if not any(type(value) is type(other) and value == other for other in allowed):
            got = "another value" if claim in payload else "no such claim"
            raise RefusedError("claims", expected=f"{claim} among {allowed}", got=got)
    if "cnf" in payload:  # RFC 9449, section 6
        raise RefusedError("bound", expected="no cnf")
    if not _is_subject(payload.get("sub")):
        raise RefusedError(
            "subject", expected=f"a text of 1 to {SUBJECT_MAX_CHARACTERS} characters, no controls"
        )


def _is_subject(value: object) -> bool:
    # Lone surrogates are no JSON for orjson.
    return (
        isinstance(value, str)
        and 1 <= len(value) <= SUBJECT_MAX_CHARACTERS
        and not _CONTROLS.search(value)
    )


def is_time(value: object) -> bool:
    """Whether a claim is a time here, of this issuer's or the service's own tokens."""
    return type(value) is int and value in _SECONDS  # True is an int, too


def _check_times(payload: Mapping[str, Any]) -> float:
    """Until when the token is good. Raises RefusedError."""
    # null is how some libraries write a claim that isn't there. `iat` is needed: without it nobody
    # could tell whether the token is older than a removal.
    past = ["iat", *(name for name in ("nbf", "auth_time") if payload.get(name) is not None)]
    for name in ("exp", *past):
        value = payload.get(name)
        if not is_time(value):
            raise RefusedError("times", expected=f"{name} in whole seconds since 1970", got=value)
    now, skew = time(), settings.CLOCK_SKEW.total_seconds()
    for name in past:
        if payload[name] > now + skew:
            raise RefusedError(
                "early", expected=f"{name} until {now:.0f}, with {skew:.0f} s of skew"
            )
    lifetime, limit = payload["exp"] - payload["iat"], settings.OUTSIDE_TOKEN_MAX_LIFETIME
    if lifetime > limit.total_seconds():
        raise RefusedError("lifetime", expected=f"at most {limit.days} days", got=f"{lifetime} s")
    good_until: float = payload["exp"] + skew
    return good_until


def _read_claims(payload: Mapping[str, Any]) -> OutsideClaims:
    issued_at, authenticated_at = payload["iat"], payload.get("auth_time")
    if authenticated_at is None:
        authenticated_at = issued_at
    return OutsideClaims(
        issuer=payload["iss"],
        subject=payload["sub"],
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        authenticated_at=datetime.fromtimestamp(authenticated_at, UTC),
        email=_verified_email(payload),
        name=_line(payload.get("name")),
    )


def _verified_email(payload: Mapping[str, Any]) -> str | None:
    """The address, where the issuer says that it is verified, and mail can be sent there."""
    email = payload.get("email")
    said = [payload[name] for name in ("email_verified", "emailVerified") if name in payload]
    if not isinstance(email, str) or not said or any(value is not True for value in said):
        return None
    email = canonical_email(email.strip())
    try:
        validate_email(email)
        validate_mailable(email)
    except ValidationError:
        return None
    return email if len(email) <= EMAIL_MAX_CHARACTERS else None


def _line(name: object) -> str:
    """As much of a name as the account's may be; empty where nothing of it can be seen."""
    if not isinstance(name, str):
        return ""
    words = re.sub(f"[{NO_LINE}]", " ", name).split()
    line = " ".join(words)[:NAME_MAX_CHARACTERS].strip()
    try:
        validate_line(line)
        validate_marks(line)
    except ValidationError:
        return ""
    return line
