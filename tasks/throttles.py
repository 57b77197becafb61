"""Limits of the task routes."""

from rest_framework.request import Request

from todo_project.api.limits import ScopedThrottle


class WriteThrottle(ScopedThrottle):
    """Counts a person's writes; reading is free."""

    scope = "writes"

    def identity(self, request: Request) -> str | None:
        return None if request.method in ("GET", "HEAD", "OPTIONS") else str(request.user.pk)
