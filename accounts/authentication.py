"""Tells who calls by the token that came with the request."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db.models import Value
from django.db.models.functions import Greatest, Now
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from todo_project.api.errors import TokenInvalid
from todo_project.api.notes import notes_of

from .callers import IssuerCaller, PersonalTokenCaller, SessionCaller, TokenUser, load_user
from .issuers import is_jwt, is_outside, read_outside
from .models import Identity, User
from .personal_tokens import PREFIX
from .session_tokens import is_known_access, read_access

# Some providers give the front end an opaque token beside it, which only they can read.
_NO_JWT = (
    "The token is no JWT. Send the one that the identity provider makes for APIs; Better Auth does "
    "at /api/auth/token."
)
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
        return load_user(caller), caller


def _caller_of(raw_token: bytes) -> SessionCaller | IssuerCaller | PersonalTokenCaller:
    """The bearer of a token, of whatever kind it says it is: a fault in it is never looked over.

    Raises TokenExpired, TokenInvalid, IssuerUnavailable, or what IssuerCaller.of does.
    """
    if raw_token.startswith(_PERSONAL):
        return PersonalTokenCaller.of(raw_token)
    if not is_known_access(raw_token) and is_outside(raw_token):
        return IssuerCaller.of(read_outside(raw_token))
    try:
        claims = read_access(raw_token)
    except TokenInvalid:
        if settings.AUTH_ISSUER and not is_jwt(raw_token):
            raise TokenInvalid(_NO_JWT) from None
        raise
    return SessionCaller(claims.user_id, claims.session_id)


def current_user(request: Request) -> User:
    """Who calls. For views that require a token."""
    return cast("User", request.user)


def current_session_id(request: Request) -> UUID | None:
    """The id of the caller's session; None for whoever came by another kind of token."""
    return request.auth.session_id if isinstance(request.auth, SessionCaller) else None


def current_identity_id(request: Request) -> UUID | None:
    """The id of the identity that the caller came by; None for another kind of token."""
    return request.auth.identity_id if isinstance(request.auth, IssuerCaller) else None


def signed_in_outside_at(request: Request) -> datetime | None:
    """When the caller signed in at the identity provider; None where they didn't come from it."""
    caller: object = request.auth
    return caller.claims.authenticated_at if isinstance(caller, IssuerCaller) else None


def refuse_present_token(request: Request) -> None:
    """Lets the caller's identity, if that is how they came, refuse the token that they came by.

    And older ones. The provider's clock may be ahead: a token is not older than what it says.
    """
    caller: object = request.auth
    if isinstance(caller, IssuerCaller):
        identity = Identity.objects.filter(pk=caller.identity_id)
        identity.update(valid_after=Greatest("valid_after", Now(), Value(caller.claims.issued_at)))


def note_user(request: Request, user_id: UUID) -> None:
    """Tells the access log whose request it is."""
    notes_of(request).user_id = user_id
