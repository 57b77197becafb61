"""Everything that a person has as a file: for themselves, and for operators whom they asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from rest_framework.exceptions import APIException, PermissionDenied

from todo_project.api.callers import Caller
from todo_project.api.streaming import StreamedResponse
from todo_project.resources import export

from .models import User
from .serializers import (
    IdentitySerializer,
    PersonalTokenSerializer,
    SessionSerializer,
    UserSerializer,
)


@dataclass(frozen=True, slots=True)
class ReadingOperator:
    """An operator, in the place of the person whose data they read: while they are one."""

    user_id: UUID  # the person's
    operator_id: UUID
    subject: ClassVar[None] = None
    scopes: ClassVar[None] = None
    live_sql: ClassVar[str] = """
        SELECT person.id AS user_id
          FROM accounts_user AS person JOIN accounts_user AS operator
            ON operator.id = %(operator_id)s AND operator.is_active AND operator.is_staff
         WHERE person.id = %(user_id)s
    """

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"user_id": self.user_id, "operator_id": self.operator_id}

    def note_use(self) -> None:
        """Nothing: the admin log has it."""

    def refusal(self) -> APIException:
        return PermissionDenied()

    def check(self) -> None:
        """Nothing: admin has let them in."""


def export_response(
    user: User,
    caller: Caller,
    reader: str,
    *,
    session_id: UUID | None = None,
    identity_id: UUID | None = None,
) -> StreamedResponse:
    """The file. Four statements, and one for each page. Raises ExportBusy.

    `session_id` and `identity_id` are those that the request came by.
    """
    opening = export.begin(caller)  # first, because it has to be older than the pages
    context = {"current_session_id": session_id, "current_identity_id": identity_id}
    sessions, tokens, identities = (
        credentials.order_by("-created_at", "-id")
        for credentials in (user.sessions.live(), user.personal_tokens.live(), user.identities)
    )
    account = {
        "account": UserSerializer(user).data,
        "sessions": SessionSerializer(sessions, many=True, context=context).data,
        "tokens": PersonalTokenSerializer(tokens, many=True).data,
        "identities": IdentitySerializer(identities, many=True, context=context).data,
    }
    return export.file_response(caller, reader, {**opening, **account})
