"""What the views of everything that belongs to a person have in common."""

from typing import cast

from django.http import HttpResponse
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import IsAuthenticated

from todo_project.api.callers import Caller
from todo_project.api.limits import Counter
from todo_project.api.permissions import HasScope, Scope
from todo_project.api.views import StrictInputMixin

from .pages import CursorCodec, Position
from .permissions import IsPathOwner
from .throttles import WriteThrottle


class OwnedView(StrictInputMixin):
    """A route below a person's path. It sees nothing but the caller's.

    Its statements look the caller up, and count what writes.
    """

    permission_classes = (IsAuthenticated, IsPathOwner, HasScope)
    read_scope = Scope.TASKS_READ
    write_scope = Scope.TASKS_WRITE
    throttle_classes = (WriteThrottle,)
    defers_caller_check = True

    @property
    def caller(self) -> Caller:
        return cast("Caller", self.request.auth)

    @property
    def counter(self) -> Counter | None:
        """What counts the request, if it writes; None where the limit is off."""
        return WriteThrottle().counter(self.request)

    @property
    def own_path(self) -> str:
        """Where what is the caller's begins, for Location and Link."""
        return f"/api/{self.caller.user_id}"

    def position(self, cursors: CursorCodec) -> Position | None:
        """Where the page begins; None for the first. Raises ValidationError."""
        return cursors.decode(self.query["cursor"]) if "cursor" in self.query else None


def not_modified(tag: str) -> HttpResponse:
    """304: what the client has is what there is."""
    response = HttpResponse(status=304, headers=tag_headers(tag))
    del response["Content-Type"]
    return response


def tag_headers(tag: str) -> dict[str, str]:
    """One browser may be two people's, one after the other."""
    return {"ETag": tag, "Vary": "Authorization"}


def refuse_header(name: str, message: str) -> ValidationError:
    return ValidationError({name: [ErrorDetail(message, code="not_supported")]})
