"""Everything that the caller has, to take with them."""

from typing import cast

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.authentication import current_identity_id, current_session_id, current_user
from accounts.exports import export_response
from accounts.serializers import ExportSerializer
from accounts.throttles import ExportThrottle
from todo_project.api.callers import Caller
from todo_project.api.views import StrictInputMixin
from todo_project.resources import export


class ExportView(StrictInputMixin):
    throttle_classes = (ExportThrottle,)
    answers_file = frozenset({"get"})

    def check_throttles(self, request: Request) -> None:
        """Who finds no place, and comes again as told, has no try counted for it."""
        if request.method in ExportThrottle.methods:
            export.require_place(_reader(request))
        super().check_throttles(request)

    @extend_schema(operation_id="auth_me_export", responses=ExportSerializer)
    def get(self, request: Request) -> HttpResponseBase:
        """Download everything that you have, what is in your trash included, as one file.

        It is made while you read it, and no snapshot: `since` leads to what was written meanwhile.
        Where it breaks off, the last brace is missing. A further export ends one that is under way.
        """
        user, caller = current_user(request), cast("Caller", request.auth)
        return export_response(
            user,
            caller,
            _reader(request),
            session_id=current_session_id(request),
            identity_id=current_identity_id(request),
        )


def _reader(request: Request) -> str:
    return f"{request.method} {current_user(request).pk}"  # a HEAD reads nothing, and ends nothing
