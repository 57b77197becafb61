"""What operators may do with whose rows."""

from uuid import UUID

from django.http import HttpRequest

from accounts.models import User


def may_manage(request: HttpRequest, user: User | None) -> bool:
    if user is None or request.user.is_superuser:
        return True
    return not (user.is_staff or user.is_superuser)


def operator_id(request: HttpRequest) -> UUID:
    assert isinstance(request.user, User)  # admin has asked for a sign-in
    return request.user.id
