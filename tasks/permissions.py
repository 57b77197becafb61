"""Whose path it is."""

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class IsPathOwner(BasePermission):
    """Lets callers into the path of their own id, or `me`; nobody else, operators included."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return view.kwargs["user_id"] in ("me", str(request.user.pk))
