"""What happens to every request, whichever view answers it: id, log line, error shape, host.

Names in MIDDLEWARE; nothing else imports this module.
"""

import logging
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import DisallowedHost
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    ValidationError,
)
from uuid_utils.compat import uuid4

from . import logs
from .addresses import is_forwarded_from_tls
from .api.errors import (
    ServiceUnavailable,
    as_api_exception,
    error_response,
    internal_error,
    is_database_fault,
    log_database_fault,
)
from .api.limits import Usage
from .gate import Gate, has_waited_too_long
from .watchdog import watchdog

access_log = logging.getLogger("todo.access")
logger = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponseBase]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SESSION_KEY = re.compile(r"[a-z0-9]{32}")
_LIVENESS_PATHS = ("/livez", "/livez/")
_HEALTH_PATHS = (*_LIVENESS_PATHS, "/readyz", "/readyz/")
# Pages for people, which answer errors as HTML.
_HTML_PREFIXES = ("/admin", "/static/")


class RequestMiddleware:
    """The outermost: gives the request its id, and makes sure of the answer's shape and log line.

    The log line holds no query values, bodies, tokens or addresses of any kind. With DEBUG it has
    the path and the query, in which the API takes no secret.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        sent_id = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else str(uuid4())
        request.request_id = request_id  # type: ignore[attr-defined]
        logs.request_id.set(request_id)
        with watchdog:
            response = self.get_response(request)
        if _is_foreign_error(request, response):
            response = _in_api_shape(request, response)
        response["X-Request-ID"] = request_id
        _write_rate_headers(request, response)
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = _cache_control(request.path_info)
        has_body = response.status_code not in (204, 304)  # RFC 9110, section 8.6
        if isinstance(response, HttpResponse) and has_body and "Content-Length" not in response:
            response["Content-Length"] = str(len(response.content))
        self._log(request, response, duration_ms=(time.perf_counter() - started) * 1000)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answers what a view let through, with DEBUG on as with DEBUG off."""
        error = as_api_exception(exception)
        is_fault = error is not None and error.status_code == 503
        if request.path_info.startswith(_HTML_PREFIXES) and not is_fault:
            return None
        if error is None:
            logger.error("defect", exc_info=exception)
            error = internal_error()
        return error_response(request, error)

    def _log(self, request: HttpRequest, response: HttpResponseBase, *, duration_ms: float) -> None:
        match = request.resolver_match
        extra = {
            "method": request.method,
            "route": _readable(match.route) if match and match.route else None,
            "status": response.status_code,
            "duration_ms": round(duration_ms, 2),
            "user_id": _user_id(request),
        }
        if settings.DEBUG:  # whoever reads this log sent the request
            if request.path_info.startswith("/static/") and response.status_code < 400:
                return
            extra["path"] = request.get_full_path()
        access_log.info("request", extra=extra)


def _write_rate_headers(request: HttpRequest, response: HttpResponseBase) -> None:
    usage: Usage | None = getattr(request, "rate_usage", None)
    if usage is not None:
        response["RateLimit-Limit"] = str(usage.limit)
        response["RateLimit-Remaining"] = str(usage.remaining)
        response["RateLimit-Reset"] = str(usage.reset_seconds)


@lru_cache(maxsize=256)
def _readable(route: str) -> str:
    """The pattern of a route without its regular expressions: `/api/<user_id>/tasks`."""
    return simplify_regex(route).rstrip("/") or "/"


def _user_id(request: HttpRequest) -> str | None:
    # What the views noted, or admin loaded anyway: its `request.user` would query for one.
    user_id = getattr(request, "user_id_for_log", None)
    if user_id is None:
        user_id = getattr(getattr(request, "_cached_user", None), "pk", None)
    return None if user_id is None else str(user_id)


def _is_foreign_error(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether something other than the API wrote this error: Django's own pages above all."""
    return (
        response.status_code >= 400
        and not response.get("Content-Type", "").startswith("application/json")
        and not request.path_info.startswith(_HTML_PREFIXES)
    )


def _in_api_shape(request: HttpRequest, response: HttpResponseBase) -> HttpResponse:
    error: APIException
    match response.status_code:
        case 400:
            error = ValidationError("The request is malformed.")
        case 404:
            error = NotFound()
        case 405:
            error = MethodNotAllowed(str(request.method))
        case 406:
            error = NotAcceptable("None of the media types in Accept can be answered.")
        case _:
            error = internal_error()
    reshaped = error_response(request, error)
    if response.has_header("Allow"):
        reshaped["Allow"] = response["Allow"]
    return reshaped


def _cache_control(path: str) -> str:
    return "no-store" if path.startswith("/api/auth") else "private, no-cache"


class FrameMiddleware:
    """Keeps pages out of frames: admin's, and those of the documentation, which hold a token.

    Whoever made them, static files and DEBUG's pages of errors included. JSON is no page.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response["X-Frame-Options"] = "DENY"
            response["Content-Security-Policy"] = "frame-ancestors 'none'"
        return response


class OriginMiddleware(CorsMiddleware):
    """CORS for requests of other sites. The others, which name no Origin, need Vary alone."""

    async_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        self._paths = re.compile(settings.CORS_URLS_REGEX)

    def is_enabled(self, request: HttpRequest) -> bool:
        return self._paths.match(request.path_info) is not None

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method == "OPTIONS" or "HTTP_ORIGIN" in request.META:
            return cast("HttpResponseBase", super().__call__(request))
        response = cast("HttpResponseBase", self.get_response(request))
        if self.is_enabled(request):
            patch_vary_headers(response, ("origin",))
        return response


class GateMiddleware:
    """Gives each request a turn to work, or refuses it.

    What is above this asks the database nothing.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._gate = Gate()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in _LIVENESS_PATHS:
            return self.get_response(request)
        if has_waited_too_long(request) or not self._gate.enter():
            return error_response(request, ServiceUnavailable())
        status = 503
        try:
            response = self.get_response(request)
            status = response.status_code
            return response
        finally:
            self._gate.leave(has_ended_well=status != 503)


class HostAndTransportMiddleware(SecurityMiddleware):
    """Django's SecurityMiddleware, and the check of the Host, which it answers in JSON.

    Health probes call the process by whatever address it has, so their Host isn't checked.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        if request.path_info in _HEALTH_PATHS:
            return None
        proto = request.META.get("HTTP_X_FORWARDED_PROTO")
        if proto is not None and proto != "https" and settings.TRUSTED_PROXIES:
            # Django would believe the first of several entries, which is the client's.
            scheme = "https" if is_forwarded_from_tls(proto) else "http"
            request.META["HTTP_X_FORWARDED_PROTO"] = scheme
        try:
            request.get_host()
        except DisallowedHost:
            message = "This host is not served. ALLOWED_HOSTS has to name it, without a port."
            fault = ErrorDetail(message, code="invalid")
            return error_response(request, ValidationError({"Host": [fault]}))
        return super().process_request(request)


class AdminOnlyMixin(MiddlewareMixin):
    """Leaves every path but admin's alone: the API has neither cookies nor pages.

    Worth 60-80 microseconds of each request.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith("/admin/"):
            return cast("HttpResponseBase", super().__call__(request))
        return cast("HttpResponseBase", self.get_response(request))


class AdminSessionMiddleware(AdminOnlyMixin, SessionMiddleware):
    """Sessions for operators."""

    def process_request(self, request: HttpRequest) -> None:
        """Asks the database for no key that Django can't have made: it has no text with a NUL."""
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        known = key if _SESSION_KEY.fullmatch(key) else None
        request.session = self.SessionStore(known)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Saves the session. Where the database can't: 503, and not 400, which Django answers.

        To Django whatever fails there means that the session was deleted.
        """
        try:
            return super().process_response(request, response)
        except (SessionInterrupted, DatabaseError) as error:
            cause: BaseException | None = error
            while cause is not None and not (
                isinstance(cause, DatabaseError) and is_database_fault(cause)
            ):
                cause = cause.__context__
            if cause is None:
                raise
            log_database_fault(cause)
            return error_response(request, ServiceUnavailable())


class AdminCsrfMiddleware(AdminOnlyMixin, CsrfViewMiddleware):
    """Cross-site request forgery protection where there are cookies to forge with."""

    def process_view(
        self, request: HttpRequest, callback: Any, callback_args: Any, callback_kwargs: Any
    ) -> HttpResponseForbidden | None:
        if request.path_info.startswith("/admin/"):
            return super().process_view(request, callback, callback_args, callback_kwargs)
        return None


class AdminAuthenticationMiddleware(AdminOnlyMixin, AuthenticationMiddleware):
    """`request.user` for operators."""


class AdminMessageMiddleware(AdminOnlyMixin, MessageMiddleware):
    """Notices for operators."""
