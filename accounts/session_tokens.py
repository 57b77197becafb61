"""Makes and reads the two JWTs of a session, by simplejwt.

Sessions are kept in a table of the project's own: simplejwt's blacklist lets two racing refreshes
both pass, keeps live refresh tokens in clear, and does not notice that one is used twice.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import Token

from todo_project.api.errors import TokenExpired, TokenInvalid
from todo_project.memory import Memory

from .issuers import is_time
from .signing_keys import SigningKeys, signing_keys

_TEXTS = ("token_type", "iss", "aud", "jti", "sub", "sid")
_TIMES = ("iat", "exp")
_TIMES_WHERE_THERE = ("nbf", "auth_time")


class SessionToken(Token):
    """simplejwt's, verified by the keys of the service, the types of its claims looked at."""

    def verify(self) -> None:
        _check_claims(self.payload)
        super().verify()

    def get_token_backend(self) -> SigningKeys:
        return signing_keys()


class AccessToken(SessionToken):
    token_type = "access"  # noqa: S105
    lifetime = settings.ACCESS_TOKEN_LIFETIME


class RefreshToken(SessionToken):
    token_type = "refresh"  # noqa: S105
    lifetime = settings.REFRESH_TOKEN_LIFETIME


def _check_claims(payload: Mapping[str, Any]) -> None:
    """Raises TokenError for a claim of another type than ours, or out of its range.

    A signature says whose they are, and not that anything can be computed with them. Those that
    nobody here reads are ignored: RFC 7519, section 4.
    """
    times = [*_TIMES, *(name for name in _TIMES_WHERE_THERE if name in payload)]
    faults = [name for name in _TEXTS if type(payload.get(name)) is not str]
    faults += [name for name in times if not is_time(payload.get(name))]
    if faults:
        raise TokenError(f"Malformed claims: {', '.join(faults)}")


@dataclass(frozen=True)
class TokenPair:
    """What a client gets when it signs in or refreshes; `refresh_expires_at` is for the session."""

    access: str
    refresh: str
    access_lifetime_seconds: int
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """Whose token it is, of which session, and when that session began."""

    user_id: UUID
    session_id: UUID
    signed_in_at: datetime


# A client sends the same token for many minutes, and to verify it takes some 0.1 ms.
_verified: Memory[bytes, tuple[Claims, float]] = Memory()


def issue_pair(claims: Claims) -> TokenPair:
    """Makes the first tokens of a session, at its sign-in."""
    return next(_pairs(claims, issued_at=claims.signed_in_at, seed=secrets.token_hex()))


def succeeding_pairs(spent: str, claims: Claims, *, issued_at: datetime) -> Iterator[TokenPair]:
    """Makes the tokens that take the place of refresh token `spent`, whose claims are `claims`.

    By the present key, and then by each one that another process may have made them with.

    A function of its arguments, the signing key and the settings: an answer that was lost is made
    again to the byte, and needn't be kept. Without the key nobody can, whatever else they know.
    """
    return _pairs(claims, issued_at=issued_at, seed=spent)


def _pairs(claims: Claims, *, issued_at: datetime, seed: str) -> Iterator[TokenPair]:
    access = _issue(AccessToken(), claims, issued_at, seed)
    refresh = _issue(RefreshToken(), claims, issued_at, seed)
    keys = signing_keys()
    for kid in keys.ids:
        yield TokenPair(
            access=keys.encode(access.payload, kid),
            refresh=keys.encode(refresh.payload, kid),
            access_lifetime_seconds=access["exp"] - access["iat"],
            refresh_expires_at=datetime.fromtimestamp(refresh["exp"], UTC),
        )


def read_access(raw: bytes) -> Claims:
    """Raises TokenExpired for an access token past its time, TokenInvalid for any other fault."""
    known = _verified.get(raw)
    if known is None:
        known = verify_access(raw)
        _verified.remember(raw, known)
    claims, good_until = known
    if good_until <= time.time():  # since it was verified
        raise TokenExpired()
    return claims


def is_known_access(raw: bytes) -> bool:
    """Whether the process remembers it as an access token of the service."""
    return raw in _verified


def verify_access(raw: bytes) -> tuple[Claims, float]:
    """The claims of a good access token, and the Unix time from which on it is refused.

    Raises as read_access.
    """
    try:
        token = AccessToken(raw)  # type: ignore[arg-type]
        return _claims(token), token["exp"] + settings.CLOCK_SKEW.total_seconds()
    except ExpiredTokenError:
        raise (TokenExpired() if _was_access(raw) else TokenInvalid()) from None
    except _FAULTS:
        raise TokenInvalid() from None


def _was_access(raw: bytes) -> bool:
    """Of a token that has expired: its signature was verified before its time was looked at."""
    try:
        token = AccessToken(raw, verify=False)  # type: ignore[arg-type]
        _check_claims(token.payload)
        token.verify_token_type()
    except _FAULTS:
        return False
    return True


def read_refresh(raw: str) -> Claims:
    """Raises TokenInvalid for every fault, the time included."""
    try:
        return _claims(RefreshToken(raw))  # type: ignore[arg-type]
    except _FAULTS:
        raise TokenInvalid("The refresh token is not valid. Sign in again.") from None


# ValueError: no UUID, or no text that can be encoded. RecursionError: PyJWT parses the header,
# before it checks the signature, however deep it is.
_FAULTS = (TokenError, ValueError, RecursionError)


def _issue(token: Token, claims: Claims, issued_at: datetime, seed: str) -> Token:
    """Gives a new token its claims; it never outlives settings.SESSION_LIFETIME."""
    session_ends_at = claims.signed_in_at + settings.SESSION_LIFETIME
    token.set_iat(at_time=issued_at)
    token.set_exp(from_time=issued_at)
    token["exp"] = min(token["exp"], int(session_ends_at.timestamp()))
    # Unique and no secret (RFC 7519, section 4.1.7): the signature is what can't be guessed.
    token["jti"] = sha256(f"{token.token_type} {seed}".encode()).hexdigest()[:32]
    token["sub"] = str(claims.user_id)
    token["sid"] = str(claims.session_id)
    if isinstance(token, RefreshToken):
        # OpenID Connect Core 1.0, section 2: when the person signed in.
        token["auth_time"] = int(claims.signed_in_at.timestamp())
    return token


def _claims(token: Token) -> Claims:
    return Claims(
        user_id=UUID(token["sub"]),
        session_id=UUID(token["sid"]),
        signed_in_at=datetime.fromtimestamp(token.get("auth_time", token["iat"]), UTC),
    )
