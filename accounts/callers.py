"""Who calls, by the kind of their token: each knows the SQL that tells whether it still counts.

todo_project.api.callers says what these are for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from rest_framework.exceptions import APIException

from todo_project.api.callers import Caller
from todo_project.api.errors import SessionEnded

from .identities import person_of, why_not
from .issuers import OutsideClaims
from .models import EPOCH, Identity, Session, User


@dataclass(frozen=True, slots=True)
class TokenUser:
    """A user of whom only the id is known: `request.user` in views that `defers_caller_check`."""

    pk: UUID
    is_authenticated: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SessionCaller:
    """The bearer of an access token of a session here."""

    user_id: UUID
    session_id: UUID
    subject: ClassVar[None] = None
    scopes: ClassVar[None] = None

    @property
    def live_sql(self) -> str:
        return _session_sql()

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"user_id": self.user_id, "credential_id": self.session_id}

    def refusal(self) -> APIException:
        return SessionEnded()

    def check(self) -> None:
        _check(self)

    def load_user(self) -> User:
        """The user, by one query. Raises `refusal`."""
        session = Session.objects.of_token(self.session_id, self.user_id)
        found = session.select_related("user").first()
        if found is None:
            raise self.refusal()
        user: User = found.user
        return user


@dataclass(frozen=True, slots=True)
class IssuerCaller:
    """The bearer of a token of the identity provider."""

    user_id: UUID
    identity_id: UUID
    claims: OutsideClaims
    scopes: ClassVar[None] = None

    @classmethod
    def of(cls, claims: OutsideClaims) -> "IssuerCaller":
        """The caller of a token that was verified. Makes their account at the first.

        Raises what identities.person_of does.
        """
        known = person_of(claims)
        return cls(known.user_id, known.identity_id, claims)

    @property
    def subject(self) -> str:
        return self.claims.subject

    @property
    def live_sql(self) -> str:
        return _identity_sql()

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {
            "user_id": self.user_id,
            "credential_id": self.identity_id,
            "issued_at": self.claims.issued_at,
        }

    def refusal(self) -> APIException:
        return why_not(self.claims)

    def check(self) -> None:
        _check(self)

    def load_user(self) -> User:
        """The user, by one query. Raises `refusal`."""
        identities = Identity.objects.of_token(
            self.identity_id, self.user_id, self.claims.issued_at
        )
        found = identities.select_related("user").first()
        if found is None:
            raise self.refusal()
        user: User = found.user
        return user


def _check(caller: Caller) -> None:
    with connection.cursor() as cursor:
        cursor.execute(caller.live_sql, caller.parameters)
        if cursor.fetchone() is None:
            raise caller.refusal()


@cache
def _session_sql() -> str:
    credential_id, user_id = UUID(int=1), UUID(int=2)
    return _named(
        Session.objects.of_token(credential_id, user_id).values("user_id"),
        {credential_id: "%(credential_id)s", user_id: "%(user_id)s"},
    )


@cache
def _identity_sql() -> str:
    credential_id, user_id = UUID(int=1), UUID(int=2)
    return _named(
        Identity.objects.of_token(credential_id, user_id, EPOCH).values("user_id"),
        {
            credential_id: "%(credential_id)s",
            user_id: "%(user_id)s",
            EPOCH: "%(issued_at)s",
        },
    )


def _named(queryset: QuerySet[Any, Any], names: Mapping[Any, str]) -> str:
    """The SQL of a queryset, with names in the place of its parameters.

    Compiled from the queryset, so that both always mean the same.
    """
    sql, parameters = queryset.query.sql_with_params()
    return sql % tuple(names[parameter] for parameter in parameters)
