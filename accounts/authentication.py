"""Who calls: an access token, checked against its session on every request."""

from typing import cast
from uuid import UUID

from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from todo_project.api.errors import TokenInvalid

from .models import Session, User
from .tokens import read_access


class SessionTokenAuthentication(JWTAuthentication):
    """`Authorization: Bearer <access token>`; `request.user` and, as `request.auth`, its session.

    One query. Raises TokenExpired or TokenInvalid; without the header the caller is anonymous.
    """

    def authenticate(self, request: Request) -> tuple[User, Session] | None:  # type: ignore[override]
        header = self.get_header(request)
        scheme, _, raw_token = (header or b"").strip().partition(b" ")
        if scheme.lower() != b"bearer":  # RFC 9110, section 11.1: in any case
            return None
        claims = read_access(raw_token.strip())
        session = Session.objects.authenticate(claims.session_id, claims.user_id)
        if session is None:
            raise TokenInvalid("The session has ended. Sign in again.")
        note_user(request, session.user_id)
        return session.user, session


def caller(request: Request) -> User:
    """Whose access token came with the request. For views that require one."""
    return cast("User", request.user)


def current_session(request: Request) -> Session:
    """The session of the access token. For views that require one."""
    return cast("Session", request.auth)


def note_user(request: Request, user_id: UUID) -> None:
    """Tells the access log whose request it is."""
    request._request.user_id_for_log = user_id  # type: ignore[attr-defined]
