"""Limits of what belongs to a person."""

from rest_framework.request import Request

from todo_project.api.limits import ScopedThrottle


class WriteThrottle(ScopedThrottle):
    """Counts a person's writes; reading is free."""

    scope = "writes"

    def identity(self, request: Request) -> str:
        return str(request.user.pk)
