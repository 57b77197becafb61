"""Limits of what belongs to a person."""

from rest_framework.request import Request

from todo_project.api.limits import ScopedThrottle


class WriteThrottle(ScopedThrottle):
    """Counts a person's writes; reading is free."""

    scope = "writes"

    def identity(self, request: Request) -> str:
        return str(request.user.pk)


class ImportThrottle(WriteThrottle):
    """Counts the files that a person imports, and none of the writes that come of them."""

    scope = "imports"
