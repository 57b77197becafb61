"""Who calls, by the kind of their token: each knows the SQL that tells whether it still counts.

todo_project.api.callers says what these are for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from rest_framework.exceptions import APIException

from todo_project.api.callers import Caller
from todo_project.api.errors import SessionEnded, TokenExpired, TokenInvalid

from .identities import person_of, why_not
from .issuers import OutsideClaims
from .models import EPOCH, Identity, PersonalToken, Session, User
from .personal_tokens import KnownToken, forget, recognize

# What stands for the parameters of a queryset until it is compiled.
_CREDENTIAL_ID, _USER_ID = UUID(int=1), UUID(int=2)


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

    def note_use(self) -> None:
        """Nothing: a session's last use is its last refresh, so that reading writes nothing."""

    def refusal(self) -> APIException:
        return SessionEnded()

    def check(self) -> None:
        _check(self)


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

    def note_use(self) -> None:
        """Nothing: the provider knows when its people were there."""

    def refusal(self) -> APIException:
        return why_not(self.claims)

    def check(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class PersonalTokenCaller:
    """The bearer of a personal token.

    `notes_use_on` is the day of the request, where the process doesn't know that it is on record.
    Then the statement that asks whether the token lives writes it there.
    """

    token: KnownToken
    notes_use_on: date | None
    subject: ClassVar[None] = None

    @classmethod
    def of(cls, raw_token: bytes) -> "PersonalTokenCaller":
        """Raises TokenInvalid. One query where the process meets the token for the first time."""
        token = recognize(raw_token)
        today = datetime.now(UTC).date()
        return cls(token, notes_use_on=None if token.noted_on == today else today)

    @property
    def user_id(self) -> UUID:
        return self.token.user_id

    @property
    def scopes(self) -> frozenset[str]:
        return self.token.scopes

    @property
    def live_sql(self) -> str:
        return _personal_token_sql(notes_use=self.notes_use_on is not None)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"user_id": self.token.user_id, "credential_id": self.token.id}

    def note_use(self) -> None:
        if self.notes_use_on is not None:
            self.token.noted_on = self.notes_use_on

    def refusal(self) -> APIException:
        """Without a query. The process forgets the token."""
        forget(self.token)
        expires_at = self.token.expires_at
        if expires_at is not None and expires_at <= datetime.now(UTC):
            return TokenExpired("The personal token has expired. Make another.")
        return TokenInvalid("The personal token was ended. Make another.")

    def check(self) -> None:
        _check(self)


def load_user(caller: Caller) -> User:
    """The user of a caller, by one query. Raises the caller's refusal."""
    sql = f"""
        WITH caller AS ({caller.live_sql})
        SELECT accounts_user.* FROM caller JOIN accounts_user ON accounts_user.id = caller.user_id
    """  # noqa: S608  # made of constants
    for user in User.objects.raw(sql, caller.parameters):
        caller.note_use()
        return user
    raise caller.refusal()


def _check(caller: Caller) -> None:
    with connection.cursor() as cursor:
        cursor.execute(caller.live_sql, caller.parameters)
        if cursor.fetchone() is None:
            raise caller.refusal()
    caller.note_use()


@cache
def _session_sql() -> str:
    return _named(Session.objects.of_token(_CREDENTIAL_ID, _USER_ID))


@cache
def _identity_sql() -> str:
    return _named(Identity.objects.of_token(_CREDENTIAL_ID, _USER_ID, EPOCH))


@cache
def _personal_token_sql(*, notes_use: bool) -> str:
    live_sql = _named(PersonalToken.objects.of_token(_CREDENTIAL_ID, _USER_ID))
    if not notes_use:
        return live_sql
    # The user is locked first, as by whoever deletes them: the work may need that lock, too, and
    # who takes two in another order than others may wait for ever.
    return f"""
        UPDATE accounts_personaltoken SET last_used_on = CURRENT_DATE
         WHERE id = %(credential_id)s AND user_id = ({live_sql} FOR KEY SHARE OF accounts_user)
         RETURNING user_id
    """  # noqa: S608  # made of constants


_NAMES: Mapping[Any, str] = {
    _CREDENTIAL_ID: "%(credential_id)s",
    _USER_ID: "%(user_id)s",
    EPOCH: "%(issued_at)s",
}


def _named(credentials: QuerySet[Any, Any]) -> str:
    """The SQL that gives the `user_id` of a credential, with names in the place of parameters.

    Compiled from the queryset, so that both always mean the same.
    """
    sql, parameters = credentials.values("user_id").query.sql_with_params()
    return sql % tuple(_NAMES[parameter] for parameter in parameters)
