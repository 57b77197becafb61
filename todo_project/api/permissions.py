"""What a token is good for: the scopes of those that aren't good for everything."""

from enum import StrEnum
from typing import Any, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from .callers import Caller
from .errors import InsufficientScope, SignInRequired


class Scope(StrEnum):
    """What a token may be given for. Views say which they need (StrictInputMixin)."""

    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    ACCOUNT_READ = "account:read"


class HasScope(BasePermission):
    """Lets tokens with scopes in where one of them is enough, and all others.

    Raises InsufficientScope, or SignInRequired where no scope would do.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        scopes = cast("Caller", request.auth).scopes
        if scopes is None:
            return True
        needed = view.needed_scope(request.method)
        if needed is None:
            raise SignInRequired()
        if needed not in scopes:
            raise InsufficientScope(needed)
        return True
