"""From an exception, whatever it is, to the answer that a client gets."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    PermissionDenied as DjangoPermissionDenied,
)
from django.core.exceptions import (
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from rest_framework import exceptions, status
from rest_framework.response import Response

from todo_project.api.envelope import encode, error_body
from todo_project.api.notes import notes_of
from todo_project.api.parsers import PATCH_PARSERS

from .database_faults import is_connection_lost, is_database_fault, log_database_fault
from .kinds import (
    Defect,
    InsufficientScope,
    PayloadTooLarge,
    ServiceUnavailable,
    SignInTooOld,
    TokenExpired,
    TokenInvalid,
    kind_of,
)


def internal_error() -> exceptions.APIException:
    """A 500 that says nothing of its cause."""
    return Defect()


def as_api_exception(exception: Exception) -> exceptions.APIException | None:
    """What `own_error` gives; tells the operator where the database failed."""
    if isinstance(exception, DatabaseError) and is_database_fault(exception):
        log_database_fault(exception)
    return own_error(exception)


def own_error(exception: Exception) -> exceptions.APIException | None:
    """The API's own error for `exception`; None where it is a defect of the server."""
    match exception:
        case exceptions.APIException():
            return exception
        case Http404():
            return exceptions.NotFound()
        case DjangoPermissionDenied():
            return exceptions.PermissionDenied()
        case RequestDataTooBig():
            return PayloadTooLarge()
        case UnreadablePostError():
            return exceptions.ParseError("The body ended before it was complete. Send it whole.")
        case SuspiciousOperation():
            return exceptions.ValidationError("The request is malformed.")
        case DatabaseError() if is_database_fault(exception):
            return ServiceUnavailable()
    return None


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's EXCEPTION_HANDLER. None leaves a defect to RequestMiddleware."""
    error = as_api_exception(exception)
    if error is None:
        return None
    if is_connection_lost(exception):
        notes_of(context["request"]).is_connection_lost = True
    return Response(
        error_body(context["request"], error_object(error)),
        status=error.status_code,
        headers=_headers(
            error, context["request"].method, allowed_methods=context["view"].allowed_methods
        ),
    )


def error_response(request: HttpRequest, error: exceptions.APIException) -> HttpResponse:
    """The same answer outside of REST framework: for middleware and unknown URLs."""
    return HttpResponse(
        encode(error_body(request, error_object(error))),
        status=error.status_code,
        content_type="application/json",
        headers=_headers(error, request.method, allowed_methods=[]),
    )


def error_object(error: exceptions.APIException) -> dict[str, Any]:
    """`error` as answers hold it: code, message and details."""
    kind = kind_of(error)
    is_foreign = type(error) is not kind
    message = (is_foreign and str(kind.default_detail)) or str(error.detail)
    details = getattr(error, "details", {})
    if isinstance(error, exceptions.ValidationError):
        details = _validation_details(error)
    return {"code": kind.default_code, "message": message, "details": details}


def _validation_details(error: exceptions.ValidationError) -> dict[str, list[dict[str, str]]]:
    full: Any = error.get_full_details()
    fields = full if isinstance(full, dict) else {"non_field_errors": full}
    return {
        field: [{"code": str(fault["code"]), "message": str(fault["message"])} for fault in faults]
        for field, faults in fields.items()
    }


def _headers(
    error: exceptions.APIException, method: str | None, *, allowed_methods: list[str]
) -> dict[str, str]:
    headers: dict[str, str] = {**getattr(error, "headers", {})}
    if error.status_code == status.HTTP_401_UNAUTHORIZED or isinstance(error, InsufficientScope):
        headers["WWW-Authenticate"] = _challenge(error)
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods)
    if error.status_code == status.HTTP_415_UNSUPPORTED_MEDIA_TYPE and method == "PATCH":
        # RFC 5789, section 2.2
        headers["Accept-Patch"] = ", ".join(parser.media_type for parser in PATCH_PARSERS)
    wait = getattr(error, "wait", None)
    if wait is not None:
        headers["Retry-After"] = str(int(wait))
    return headers


def _challenge(error: exceptions.APIException) -> str:
    # RFC 6750, section 3.1: no error code where the request carried no token.
    challenge = 'Bearer realm="api"'
    if isinstance(error, SignInTooOld):  # RFC 9470, section 3
        challenge += (
            f', error="insufficient_user_authentication", error_description="{error.detail}"'
            f', max_age="{settings.RECENT_SIGN_IN.total_seconds():.0f}"'
        )
    elif isinstance(error, TokenInvalid | TokenExpired):
        challenge += f', error="invalid_token", error_description="{error.detail}"'
    if isinstance(error, InsufficientScope):
        challenge += f', error="insufficient_scope", scope="{error.scope}"'
    return challenge
