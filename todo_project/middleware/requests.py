"""A request's id, its place in log and metrics, and the shape of an error whoever answers it."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import (
    APIException,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    ValidationError,
)
from uuid_utils.compat import uuid4

from todo_project import logs, metrics
from todo_project.api.errors import as_api_exception, error_response, internal_error
from todo_project.api.notes import Notes, notes_of
from todo_project.api.streaming import BrokenOffError, StreamedResponse
from todo_project.watchdog import watchdog

from . import GetResponse

access_log = logging.getLogger("todo.access")
logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Pages for people, which answer errors as HTML.
_HTML_PREFIXES = ("/admin", "/static/")


class RequestMiddleware:
    """The outermost: gives the request its id, and makes sure of the answer's shape and log line.

    The log line holds no query values, bodies, tokens or addresses of any kind. With DEBUG it has
    the path and the query, in which the API takes no secret.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_counting = bool(settings.METRICS_TOKEN)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        sent_id = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else str(uuid4())
        request.notes = Notes(request_id)  # type: ignore[attr-defined]
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
        self._note(request, response, seconds=time.perf_counter() - started)
        if isinstance(response, StreamedResponse):
            response.within(partial(_further_work, request_id))
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

    def _note(self, request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
        """Counts the request, and writes its line of the access log."""
        match = request.resolver_match
        route = _readable(match.route) if match and match.route else None
        if self._is_counting:
            metrics.REQUESTS.observe_request(request.method, route, response.status_code, seconds)
        extra = {
            "method": request.method,
            "route": route,
            "status": response.status_code,
            "duration_ms": round(seconds * 1000, 2),
            "user_id": _user_id(request),
        }
        if settings.DEBUG:  # whoever reads this log sent the request
            if request.path_info.startswith("/static/") and response.status_code < 400:
                return
            extra["path"] = request.get_full_path()
        access_log.info("request", extra=extra)


@contextmanager
def _further_work(request_id: str) -> Iterator[None]:
    """Around a piece of an answer that is made after the request.

    Raises BrokenOffError, and logs why: the client can't be told any more.
    """
    logs.request_id.set(request_id)
    try:
        with watchdog:
            yield
    except Exception as exception:
        is_told = isinstance(exception, BrokenOffError)
        reason = exception if is_told else as_api_exception(exception)
        if reason is None:
            logger.exception("defect")
        else:
            logger.warning("an answer breaks off: %s", reason)
        raise BrokenOffError from exception


def _write_rate_headers(request: HttpRequest, response: HttpResponseBase) -> None:
    usage = notes_of(request).rate_usage
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
    user_id = notes_of(request).user_id
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
    for name, value in response.items():
        if not name.startswith(("Content-", "X-Frame-")):  # which are about the page
            reshaped[name] = value
    return reshaped


def _cache_control(path: str) -> str:
    return "no-store" if path.startswith("/api/auth") else "private, no-cache"
