"""What the views of everything that belongs to a person have in common."""

from collections.abc import Mapping
from typing import Any, cast

import orjson
from django.http import HttpResponse
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated

from todo_project import metrics
from todo_project.api.callers import Caller
from todo_project.api.envelope import empty_response, json_response
from todo_project.api.errors import KeyReused
from todo_project.api.limits import Counter, admit
from todo_project.api.permissions import HasScope, Scope
from todo_project.api.views import StrictInputMixin

from .pages import PATH_PREFIX, CursorCodec, Position
from .permissions import IsPathOwner
from .statement import Work
from .throttles import WriteThrottle
from .writes import Terms, Written, perform


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
        """Where what is the caller's begins, for Location and Link; PATH_PREFIX comes before it."""
        return f"/api/{self.caller.user_id}"

    def position(self, cursors: CursorCodec) -> Position | None:
        """Where the page begins; None for the first. Raises ValidationError."""
        return cursors.decode(self.query["cursor"]) if "cursor" in self.query else None

    def write(self, work: Work, parameters: Mapping[str, Any], terms: Terms) -> Written:
        """Does a work. Raises what stands against it, by the rank that it has [E1]."""
        written = perform(self.caller, self.counter, work, parameters, terms)
        self.is_settled = True
        if written.usage is not None:
            admit(self.request, written.usage)
        if written.is_gone:
            raise self.caller.refusal()
        if written.replay is not None:
            assert terms.key is not None
            if written.replay.fingerprint != terms.key.fingerprint:
                self.require_object()
                raise KeyReused()
            return written
        if written.json is None:
            raise self.nothing_written(written, terms)
        return written

    def nothing_written(self, written: Written, terms: Terms) -> Exception:
        """Why a work that was let through wrote nothing."""
        return NotFound()

    def replayed(self, written: Written) -> HttpResponse | None:
        """The answer that the key stands for already."""
        replay = written.replay
        if replay is None:
            return None
        metrics.REPLAYS.add()
        headers = {"Idempotent-Replayed": "true"}
        if replay.body is None:
            response = empty_response()
            response.headers.setdefault("Idempotent-Replayed", "true")
            return response
        if replay.etag is not None:
            headers |= tag_headers(replay.etag)
        if replay.location is not None:
            headers["Location"] = f"{PATH_PREFIX}{replay.location}"
        return json_response(
            self.request, orjson.Fragment(replay.body), status=replay.status, headers=headers
        )


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
