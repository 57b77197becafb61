"""Whose path it is."""

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class IsPathOwner(BasePermission):
    """Lets callers into the path of their own id, or `me`; nobody else, operators included."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        user_id: str = view.kwargs["user_id"]
        return user_id == "me" or user_id.lower() == str(request.user.pk)
