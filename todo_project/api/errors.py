"""Every error that the API answers with, from whatever source, in one shape.

    APIException (DRF)
    ├── ValidationError      400 VALIDATION_ERROR     a field or query parameter is wrong
    ├── ParseError           400 PARSE_ERROR          the body is not a JSON object
    ├── NotAuthenticated     401 NOT_AUTHENTICATED    no credentials
    ├── Unauthorized
    │   ├── TokenExpired       401 TOKEN_EXPIRED        an access token past its time
    │   ├── TokenInvalid       401 TOKEN_INVALID        any other fault of a token
    │   │   ├── SessionEnded
    │   │   ├── SignedOut
    │   │   └── SignInTooOld
    │   └── InvalidCredentials 401 INVALID_CREDENTIALS  wrong e-mail or password
    ├── PermissionDenied     403 PERMISSION_DENIED    not the caller's path
    │   ├── AccountDeactivated                        of a good token of the identity provider
    │   ├── AccountMissing                            and none is made
    │   └── SignInRequired                            not with a token that has scopes
    ├── InsufficientScope    403 INSUFFICIENT_SCOPE   not with the scopes that the token has
    ├── NotFound             404 NOT_FOUND
    ├── MethodNotAllowed     405 METHOD_NOT_ALLOWED
    ├── NotAcceptable        406 NOT_ACCEPTABLE
    ├── Conflict             409 CONFLICT             not as things are
    ├── PayloadTooLarge      413 PAYLOAD_TOO_LARGE
    ├── UnsupportedMediaType 415 UNSUPPORTED_MEDIA_TYPE
    ├── EncodedBody          415 UNSUPPORTED_MEDIA_TYPE
    ├── Throttled            429 RATE_LIMITED
    └── ServiceUnavailable   503 SERVICE_UNAVAILABLE  the database is away or too slow
        ├── HashingBusy                               too many passwords are being hashed
        ├── IssuerUnavailable                         no key of the identity provider is known
        └── CallerMoved                               an identity became another account's
    anything else            500 INTERNAL_ERROR       a defect; nothing of it leaves the server

Views raise; `exception_handler` answers inside of REST framework, `error_response` outside of it.
"""

import logging
import time
import traceback
from collections.abc import Mapping
from typing import Any

import psycopg
from django.conf import settings
from django.core.exceptions import (
    PermissionDenied as DjangoPermissionDenied,
)
from django.core.exceptions import (
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import Error as DatabaseError
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from rest_framework import exceptions, status
from rest_framework.response import Response

from .envelope import encode, error_body
from .parsers import PATCH_PARSERS

logger = logging.getLogger(__name__)

# Seconds after which a client should try again while the database is away: Neon wakes in less.
RETRY_AFTER_SECONDS = 2

# Read-only server and idle-in-transaction timeout: psycopg raises InternalError for these two.
# Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SHUTDOWN_SQLSTATES = frozenset({"57P01", "57P02", "57P03"})
_TRANSIENT_INTERNAL_SQLSTATES = frozenset({"25006", "25P03"})

# In an outage every request fails for the same reason, and a traceback has some kilobytes.
TRACEBACK_INTERVAL_SECONDS = 1.0
_traced_at = -TRACEBACK_INTERVAL_SECONDS

_UNSUPPORTED_BODY = "Send the body as application/json in UTF-8, and not compressed."


class Unauthorized(exceptions.APIException):
    """401, on public routes too: there REST framework turns its own exception into 403."""

    status_code = status.HTTP_401_UNAUTHORIZED


class TokenInvalid(Unauthorized):
    """A token that is not, or no longer, good for this."""

    default_code = "TOKEN_INVALID"
    default_detail = "The token is not valid. Sign in again."


class SessionEnded(TokenInvalid):
    """A good token, whose session has ended: by its owner, an operator, or the owner's deletion."""

    default_detail = "The session has ended. Sign in again."


class SignedOut(TokenInvalid):
    """A good token of the identity provider, from before its owner signed out everywhere here.

    Or from before the account was deleted, or this way into it taken away.
    """

    default_detail = "The token is from before you signed out here. Sign in again."


class SignInTooOld(TokenInvalid):
    """A good token, of a sign-in that is too long ago for what is asked for."""

    default_detail = "Sign in again at your identity provider, and try within five minutes."


class TokenExpired(Unauthorized):
    """An access token past its time."""

    default_code = "TOKEN_EXPIRED"

    def __init__(self, detail: str | None = None) -> None:
        """Without local accounts no refresh token is good, of a session from before either."""
        cure = "Use the refresh token to get a new one."
        if not settings.LOCAL_ACCOUNTS:
            cure = "Sign in at your identity provider."
        super().__init__(detail or f"The access token has expired. {cure}")


class InvalidCredentials(Unauthorized):
    """Unknown address, wrong password and inactive account alike."""

    default_code = "INVALID_CREDENTIALS"
    default_detail = "The e-mail address or the password is wrong."


class AccountDeactivated(exceptions.PermissionDenied):
    """A good token of the identity provider, of somebody whom an operator shut out.

    Not a 401, upon which front ends would fetch a new token, and try for ever.
    """

    default_code = "PERMISSION_DENIED"
    default_detail = "This account has been deactivated."


class AccountMissing(exceptions.PermissionDenied):
    """A good token of the identity provider, of somebody unknown (AUTH_CREATES_ACCOUNTS=false)."""

    default_code = "PERMISSION_DENIED"
    default_detail = "There is no account for you here, and none is made."


class SignInRequired(exceptions.PermissionDenied):
    """A token with scopes, where none of them is enough: the person has to come."""

    default_code = "PERMISSION_DENIED"
    default_detail = "A personal token is no good for this. Sign in, and send an access token."


class InsufficientScope(exceptions.APIException):
    """A good token, but not for this."""

    status_code = status.HTTP_403_FORBIDDEN
    default_code = "INSUFFICIENT_SCOPE"

    def __init__(self, scope: str) -> None:
        super().__init__(f"The token lacks the scope {scope}. Make one that has it.")
        self.scope = scope
        self.details = {"scope": scope}


class Conflict(exceptions.APIException):
    """What is asked for is not possible as things are; the message says what stands against it."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "CONFLICT"


class PayloadTooLarge(exceptions.APIException):
    """A body over settings.MAX_BODY_BYTES."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "PAYLOAD_TOO_LARGE"
    default_detail = f"The body is too large. At most {settings.MAX_BODY_BYTES} bytes are read."


class EncodedBody(exceptions.APIException):
    """A body with a Content-Encoding."""

    status_code = status.HTTP_415_UNSUPPORTED_MEDIA_TYPE
    default_code = "UNSUPPORTED_MEDIA_TYPE"
    default_detail = _UNSUPPORTED_BODY


class ServiceUnavailable(exceptions.APIException):
    """The database is away, asleep too long, restarting or too slow."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "SERVICE_UNAVAILABLE"
    default_detail = "The service is not available at the moment. Try again in a few seconds."
    wait = RETRY_AFTER_SECONDS


class HashingBusy(ServiceUnavailable):
    """As many passwords are being hashed in this process as may be at once."""

    default_detail = "Too many people sign in at once. Try again after the seconds in Retry-After."
    wait = 1  # a hash takes some 40 ms, and the header has whole seconds


class CallerMoved(ServiceUnavailable):
    """An identity that became another account's, or somebody's again, while it was looked up."""

    default_detail = "Your sign-in has just been given another account. Try again."
    wait = 1


class IssuerUnavailable(ServiceUnavailable):
    """Whether a token of the identity provider is good can't be told at the moment.

    Not a 401, with which clients would sign their people out.
    """

    default_detail = (
        "The keys of the identity provider can't be had at the moment. Try again after the seconds "
        "in Retry-After."
    )

    def __init__(self, wait: int = settings.ISSUER_REST_SECONDS) -> None:
        super().__init__()
        self.wait = wait  # before that nobody is asked


_CODES: dict[type[exceptions.APIException], str] = {
    exceptions.ValidationError: "VALIDATION_ERROR",
    exceptions.ParseError: "PARSE_ERROR",
    exceptions.NotAuthenticated: "NOT_AUTHENTICATED",
    exceptions.PermissionDenied: "PERMISSION_DENIED",
    exceptions.NotFound: "NOT_FOUND",
    exceptions.MethodNotAllowed: "METHOD_NOT_ALLOWED",
    exceptions.NotAcceptable: "NOT_ACCEPTABLE",
    exceptions.UnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE",
    exceptions.Throttled: "RATE_LIMITED",
}

# Of those errors that are REST framework's own.
_MESSAGES = {
    "VALIDATION_ERROR": "The request is not valid. `details` names what is wrong.",
    "NOT_AUTHENTICATED": "This needs an access token: `Authorization: Bearer <token>`.",
    "PERMISSION_DENIED": "This path is not yours. Use your own id, or `me`.",
    "NOT_FOUND": "Nothing is here for you.",
    "NOT_ACCEPTABLE": "Only application/json can be answered.",
    "RATE_LIMITED": "Too many requests. Try again after the seconds in Retry-After.",
    "UNSUPPORTED_MEDIA_TYPE": _UNSUPPORTED_BODY,
    "INTERNAL_ERROR": "Something went wrong on the server. It has been noted.",
}

# Of a field's faults, which `details` holds. The document lists them, for forms to translate; a
# test looks for any that isn't here.
FIELD_CODES: Mapping[str, str] = {
    "unknown": "no such field or parameter; the message names those that there are",
    "required": "missing",
    "null": "null is not a value of it",
    "invalid": "not of its type or form; in `token`, a link that was used or is too old",
    "blank": "no visible character",
    "control_characters": "a line break, or another control character, in what is one line",
    "combining_marks": "more marks on one letter than any writing has",
    "max_length": "too many characters",
    "min_length": "too few characters",
    "max_value": "too large a number",
    "min_value": "too small a number",
    "invalid_choice": "none of the choices",
    "rfc3339": "no date-time of RFC 3339 with an offset",
    "past": "a time that has passed",
    "null_characters_not_allowed": "has U+0000",
    "duplicate_key": "stands in the body more than once",
    "repeated": "stands in the query, or in a list, more than once",
    "empty": "a query parameter without a value, or a list of nothing",
    "invalid_cursor": "made for another list, other filters or another order, or not made here",
    "unique": "taken",
    "immutable": "can't be changed",
    "wrong_password": "not the caller's password",
    "no_password": "the account signs in at its identity provider, and has no password or session",
    "password_too_short": "too few characters",
    "password_too_long": "too many characters",
    "password_too_common": "one of those that everybody tries first",
    "password_too_similar": "like the address or the name",
    "password_entirely_numeric": "digits alone",
    "password_blank": "white space alone",
    "operator": "an operator's account is deactivated, and not deleted",
}


def internal_error() -> exceptions.APIException:
    """A 500 that says nothing of its cause."""
    return exceptions.APIException(_MESSAGES["INTERNAL_ERROR"], code="INTERNAL_ERROR")


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


def log_database_fault(exception: Exception) -> None:
    """Tells the operator, in a line; from time to time also where in the code it happened.

    Not by `exc_info`, which ends with the server's whole message.
    """
    global _traced_at
    cause = exception.__cause__ or exception
    told = {
        "cause": type(cause).__name__,
        "sqlstate": getattr(cause, "sqlstate", None),
        "reason": _reason(cause),
    }
    now = time.monotonic()
    if now - _traced_at >= TRACEBACK_INTERVAL_SECONDS:
        _traced_at = now
        told["traceback"] = "".join(traceback.format_tb(exception.__traceback__))
    logger.error("database fault", extra=told)


def _reason(cause: BaseException) -> str:
    """The first part of the server's message: the others (DETAIL, CONTEXT) may quote rows.

    Where it sent none, what libpq says of the connection: with host, user and database, and never
    the password.
    """
    primary: str | None = None
    if isinstance(cause, psycopg.Error):
        primary = cause.diag.message_primary
    return primary or " ".join(str(cause).split())


def is_database_fault(exception: Exception) -> bool:
    """Whether the database could not do its work, rather than being asked something wrong."""
    if isinstance(exception, InternalError):
        sqlstate = getattr(exception.__cause__, "sqlstate", None)
        return sqlstate in _TRANSIENT_INTERNAL_SQLSTATES
    return isinstance(exception, OperationalError | InterfaceError)


def is_connection_lost(exception: Exception) -> bool:
    """Whether the connection broke, so that a fresh one may do.

    psycopg gives no SQLSTATE where the server had no chance to send one.
    """
    if isinstance(exception, InterfaceError):
        return True
    sqlstate = getattr(exception.__cause__, "sqlstate", None)
    return isinstance(exception, OperationalError) and (
        sqlstate is None or sqlstate.startswith("08") or sqlstate in _SHUTDOWN_SQLSTATES
    )


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's EXCEPTION_HANDLER. None leaves a defect to RequestMiddleware."""
    error = as_api_exception(exception)
    if error is None:
        return None
    if is_connection_lost(exception):
        context["request"]._request.is_connection_lost = True
    return Response(
        _body(context["request"], error),
        status=error.status_code,
        headers=_headers(
            error, context["request"].method, allowed_methods=context["view"].allowed_methods
        ),
    )


def error_response(request: HttpRequest, error: exceptions.APIException) -> HttpResponse:
    """The same answer outside of REST framework: for middleware and unknown URLs."""
    return HttpResponse(
        encode(_body(request, error)),
        status=error.status_code,
        content_type="application/json",
        headers=_headers(error, request.method, allowed_methods=[]),
    )


def _body(request: HttpRequest, error: exceptions.APIException) -> dict[str, Any]:
    own_code = _CODES.get(type(error))
    code = own_code or str(error.get_codes())
    details: dict[str, Any] = getattr(error, "details", {})
    if isinstance(error, exceptions.ValidationError):
        code = "VALIDATION_ERROR"
        details = _validation_details(error)
    message = (own_code and _MESSAGES.get(own_code)) or str(error.detail)
    return error_body(request, code, message, details)


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
    headers: dict[str, str] = {}
    if error.status_code == status.HTTP_401_UNAUTHORIZED or isinstance(error, InsufficientScope):
        headers["WWW-Authenticate"] = _challenge(error)
    if isinstance(error, exceptions.MethodNotAllowed):
        headers["Allow"] = ", ".join(allowed_methods)
    if isinstance(error, EncodedBody):
        headers["Accept-Encoding"] = "identity"  # RFC 9110, section 15.5.16
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
