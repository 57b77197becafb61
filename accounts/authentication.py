"""Tells who calls by the token that came with the request."""

from typing import Any, cast
from uuid import UUID

from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from .callers import PersonalTokenCaller, SessionCaller, TokenUser
from .models import User
from .personal_tokens import PREFIX
from .session_tokens import read_access

_PERSONAL = PREFIX.encode()


class BearerAuthentication(JWTAuthentication):
    """`Authorization: Bearer <token>`; without the header the caller is anonymous.

    `request.auth` is a Caller, and `request.user` their User, by one query; a TokenUser, without
    any, in a view that `defers_caller_check`.

    Raises TokenExpired, TokenInvalid or what the Caller's `refusal` is.
    """

    def __init__(self) -> None:
        """Without the parent's, which looks the user model up, for each request anew."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        header = self.get_header(request)
        scheme, _, raw_token = (header or b"").strip().partition(b" ")
        if scheme.lower() != b"bearer":  # RFC 9110, section 11.1: in any case
            return None
        caller = _caller_of(raw_token.strip())
        note_user(request, caller.user_id)
        if request.parser_context["view"].defers_caller_check:
            return TokenUser(caller.user_id), caller
        return caller.load_user(), caller


def _caller_of(raw_token: bytes) -> SessionCaller | PersonalTokenCaller:
    if raw_token.startswith(_PERSONAL):
        return PersonalTokenCaller.of(raw_token)
    claims = read_access(raw_token)
    return SessionCaller(claims.user_id, claims.session_id)


def current_user(request: Request) -> User:
    """Who calls. For views that require a token."""
    return cast("User", request.user)


def current_session_id(request: Request) -> UUID | None:
    """The id of the caller's session; None for whoever came by another kind of token."""
    return request.auth.session_id if isinstance(request.auth, SessionCaller) else None


def note_user(request: Request, user_id: UUID) -> None:
    """Tells the access log whose request it is."""
    request._request.user_id_for_log = user_id  # type: ignore[attr-defined]
