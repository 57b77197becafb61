"""Whose path it is."""

from typing import cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from todo_project.api.callers import Caller


class IsPathOwner(BasePermission):
    """Lets callers into the path of their own id, or `me`; nobody else, operators included.

    Those of an identity provider also into that of their token's `sub`. The path is only compared
    with what the caller is called, and never looked up: a `sub` that equals another person's id
    leads nowhere else.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        user_id: str = view.kwargs["user_id"]
        caller = cast("Caller", request.auth)
        return user_id in ("me", caller.subject) or user_id.lower() == str(caller.user_id)
