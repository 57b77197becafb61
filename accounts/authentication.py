"""Who calls: an access token, checked against its session on every request."""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, cast
from uuid import UUID

from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from todo_project.api.errors import SessionEnded

from .models import Session, User
from .tokens import read_access


@dataclass(frozen=True, slots=True)
class Person:
    """A user of whom only the id is known, which is what an access token says.

    `request.user` where there is a Bearer.
    """

    pk: UUID
    is_authenticated: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever bears a good access token, before it was looked up whether its session has ended.

    A todo_project.api.callers.Caller.
    """

    user_id: UUID
    session_id: UUID

    @property
    def live_sql(self) -> str:
        return _live_sql()

    def check(self) -> None:
        if not Session.objects.of_token(self.session_id, self.user_id).exists():
            raise SessionEnded()


@cache
def _live_sql() -> str:
    # Compiled once from the queryset, so that both always mean the same.
    names = {UUID(int=1): "%(session_id)s", UUID(int=2): "%(user_id)s"}
    sessions = Session.objects.of_token(*names).values("user_id")
    sql, parameters = sessions.query.sql_with_params()
    return sql % tuple(names[parameter] for parameter in parameters)


class SessionTokenAuthentication(JWTAuthentication):
    """`Authorization: Bearer <access token>`; without the header the caller is anonymous.

    `request.user` is the user and `request.auth` the session, by one query. A view that
    `defers_session_check` gets a Person and a Bearer instead, without any query.

    Raises TokenExpired, TokenInvalid or SessionEnded.
    """

    def __init__(self) -> None:
        """Without the parent's, which looks the user model up, for each request anew."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        header = self.get_header(request)
        scheme, _, raw_token = (header or b"").strip().partition(b" ")
        if scheme.lower() != b"bearer":  # RFC 9110, section 11.1: in any case
            return None
        claims = read_access(raw_token.strip())
        note_user(request, claims.user_id)
        if request.parser_context["view"].defers_session_check:
            return Person(claims.user_id), Bearer(claims.user_id, claims.session_id)
        sessions = Session.objects.of_token(claims.session_id, claims.user_id)
        session = sessions.select_related("user").first()
        if session is None:
            raise SessionEnded()
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
