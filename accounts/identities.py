"""From the subject of a provider's token to a person here. For callers, views and commands.

Never by e-mail address: whoever has an address at a provider need not be who has the account of
that address here, nor the other way round.
"""

from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, connection
from rest_framework.exceptions import APIException
from uuid_utils.compat import uuid7

from todo_project.api.errors import (
    AccountDeactivated,
    AccountMissing,
    CallerMoved,
    SignedOut,
)
from todo_project.memory import Memory

from .issuers import OutsideClaims
from .models import RemovedIdentity

RACES_MAX = 3  # of first requests, in each of which another one was quicker


class Known(NamedTuple):
    """Whose identity it is."""

    identity_id: UUID
    user_id: UUID


# What a process has seen last of (issuer, subject). A hint: the statement that does the work looks
# up whether it still holds.
_hints: Memory[tuple[str, str], Known] = Memory()


def person_of(claims: OutsideClaims) -> Known:
    """Whose token it is; makes the account of somebody who comes for the first time.

    No query where the process has seen them before, else one, as a rule. Whether the account is
    active and the token recent enough is for the statement to look up that does the work.

    Raises AccountMissing (403) where settings.AUTH_CREATES_ACCOUNTS is off, and SignedOut (401)
    where the token is older than the removal of its identity.
    """
    known = _hints.get((claims.issuer, claims.subject))
    if known is None:
        known = _find_or_make(claims)
        remember(claims, known)
    return known


def remember(claims: OutsideClaims, known: Known) -> None:
    _hints.remember((claims.issuer, claims.subject), known)


def forget(claims: OutsideClaims) -> None:
    _hints.forget((claims.issuer, claims.subject))


def is_removed(claims: OutsideClaims) -> bool:
    """Whether the token is older than the removal of its identity. One query."""
    digest = identity_hash(claims.issuer, claims.subject)
    removed = RemovedIdentity.objects.filter(pk=digest, removed_at__gte=claims.issued_at)
    return removed.exists()


def identity_hash(issuer: str, subject: str) -> str:
    """What a RemovedIdentity keeps. A trigger computes the same."""
    return sha256(f"{issuer}\n{subject}".encode()).hexdigest()


# The identity first, and its person from what was really inserted: of racing requests one makes
# both, and no account is left over. Always one row.
_FIND_OR_MAKE = """
    WITH known AS (
        SELECT id, user_id FROM accounts_identity
         WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text
    ), removed AS (
        SELECT FROM accounts_removedidentity
         WHERE hash = %(hash)s::text AND removed_at >= %(issued_at)s
    ), made AS (
        INSERT INTO accounts_identity (id, user_id, issuer, subject)
        SELECT %(identity_id)s, %(user_id)s, %(issuer)s::text, %(subject)s::text
         WHERE %(creates)s AND NOT EXISTS (SELECT FROM known) AND NOT EXISTS (SELECT FROM removed)
        ON CONFLICT (issuer, subject) DO NOTHING
        RETURNING id, user_id
    ), person AS (
        INSERT INTO accounts_user (
            id, email, email_verified, name, password, is_active, is_staff, is_superuser
        )
        SELECT made.user_id, free.email, free.email IS NOT NULL, %(name)s::text, %(password)s::text,
               true, false, false
          FROM made
          LEFT JOIN (
              SELECT %(email)s::text AS email
               WHERE NOT EXISTS (SELECT FROM accounts_user WHERE lower(email) = %(email)s::text)
          ) AS free ON true
    )
    SELECT found.id, found.user_id, EXISTS (SELECT FROM removed)
      FROM (SELECT) AS once
      LEFT JOIN (SELECT * FROM known UNION ALL SELECT * FROM made) AS found ON true
"""


def _find_or_make(claims: OutsideClaims) -> Known:
    email = claims.email
    for _ in range(RACES_MAX):
        try:
            found, is_removed = _try_to_find_or_make(claims, email)
        except IntegrityError:  # somebody else took the address meanwhile
            email = None
            continue
        if found is not None:
            return found
        if is_removed:
            raise SignedOut()
        if not settings.AUTH_CREATES_ACCOUNTS:
            raise AccountMissing()
    raise CallerMoved()


def _try_to_find_or_make(claims: OutsideClaims, email: str | None) -> tuple[Known | None, bool]:
    parameters = {
        **_parameters(claims),
        "creates": settings.AUTH_CREATES_ACCOUNTS,
        "identity_id": uuid7(),
        "user_id": uuid7(),
        "email": email,
        "name": claims.name,
        "password": make_password(None),
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIND_OR_MAKE, parameters)
        identity_id, user_id, is_removed = cursor.fetchone()
    return (None if identity_id is None else Known(identity_id, user_id)), is_removed


def _parameters(claims: OutsideClaims) -> dict[str, Any]:
    return {
        "issuer": claims.issuer,
        "subject": claims.subject,
        "hash": identity_hash(claims.issuer, claims.subject),
        "issued_at": claims.issued_at,
    }


_WHY_NOT = """
    SELECT identity.id, person.is_active,
           identity.valid_after < %(issued_at)s,
           EXISTS (
               SELECT FROM accounts_removedidentity
                WHERE hash = %(hash)s::text AND removed_at >= %(issued_at)s
           )
      FROM (SELECT) AS once
      LEFT JOIN (
          accounts_identity AS identity JOIN accounts_user AS person ON person.id = identity.user_id
      ) ON identity.issuer = %(issuer)s::text AND identity.subject = %(subject)s::text
"""


def why_not(claims: OutsideClaims) -> APIException:
    """Why a good token's identity gave no row in the statement that looked it up. One query.

    What the process remembered of it is dropped.
    """
    forget(claims)
    parameters = _parameters(claims)
    with connection.cursor() as cursor:
        cursor.execute(_WHY_NOT, parameters)
        identity_id, is_active, is_recent, is_removed = cursor.fetchone()
    if identity_id is None:
        return SignedOut() if is_removed else CallerMoved()
    if not is_active:
        return AccountDeactivated()
    return CallerMoved() if is_recent else SignedOut()
