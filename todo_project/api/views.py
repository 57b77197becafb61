"""What every endpoint has in common: its input is read, whole and strictly, before it runs."""

import re
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, cast
from urllib.parse import parse_qsl
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, MethodNotAllowed, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from todo_project import metrics

from .errors import EncodedBody, PayloadTooLarge, own_error
from .negotiation import JSONNegotiation
from .notes import notes_of
from .parsers import content_length
from .permissions import Scope
from .serializers import EmptyBody, QuerySerializer, StrictSerializer

MAX_PARAMETERS = 100  # of a query string

# Which error is answered where several apply [E1]. 404 is the object's: that of the route comes
# before any view. What doesn't stand here (409, 410) comes after all of these, and a defect or a
# database that is away (500, 503) is answered as soon as it is met.
ORDER = (406, 401, 403, 429, 405, 404, 413, 415, 400, 422, 412)
_RANKS = {status_code: rank for rank, status_code in enumerate(ORDER)}

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class StrictInputMixin(APIView):
    """Validates body and query parameters into `self.body` and `self.query`.

    An operation that names no serializer takes no input, and input sent to it is an error; so
    nothing that a client sends is silently ignored. Where several errors apply, ORDER says which is
    answered: `handle_exception` sees to it.
    """

    # Keyed by a ViewSet's action or an APIView's method in lower case. Also the source of the
    # request bodies and query parameters in the OpenAPI document.
    body_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {}
    query_serializers: ClassVar[Mapping[str, type[QuerySerializer]]] = {}

    # What an operation does with preconditions and keys (sections 7 and 12 of the contract), by the
    # same names. The OpenAPI document says it; views do it, but for the refusal of a key by those
    # that take none.
    has_etag: ClassVar[frozenset[str]] = frozenset()  # answers with ETag; GET takes If-None-Match
    conditional: ClassVar[frozenset[str]] = frozenset()  # takes If-Match
    keyed: ClassVar[frozenset[str]] = frozenset()  # takes Idempotency-Key
    zoned: ClassVar[frozenset[str]] = frozenset()  # goes by X-Time-Zone
    answers_file: ClassVar[frozenset[str]] = frozenset()  # as it is, and in no envelope
    # What `meta` holds, where it is something of the operation's own.
    meta_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {}

    # What the document says of those in the path that are no ids.
    path_parameters: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    # What a token with scopes needs to read, and to write; None: no such token is good for it.
    read_scope: ClassVar[Scope | None] = None
    write_scope: ClassVar[Scope | None] = None

    # True: the statements that do the work look the caller up (callers.py), and count the request.
    defers_caller_check = False

    # Whether 401, 429 and 404 have been looked for, so that a later error can be answered at once.
    # A view that `defers_caller_check` sets it right after its statement; the others have it once
    # their input is read.
    is_settled = False

    body_max_bytes: ClassVar[int] = settings.MAX_BODY_BYTES

    content_negotiation_class = JSONNegotiation

    # OPTIONS is for CORS preflight, which OriginMiddleware answers before a view is reached.
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]  # noqa: RUF012

    body: dict[str, Any]
    query: Mapping[str, Any]
    parameters: Mapping[str, str]  # those of the query, as they came

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answers the request, and lets go of it.

        View and request refer to each other, and would stay in memory, with what they hold, until
        the garbage collector comes by.
        """
        response = self._answer(request, *args, **kwargs)
        self.request.parser_context.clear()
        vars(self).clear()
        return response

    def _answer(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The answer; a read whose connection turned out to be dead is tried once more.

        A database that has slept closes the connections of those who slept with it. Where there was
        no connection to begin with, a fresh one has failed already. Writes are never tried again:
        whether the first try took effect can't be known.
        """
        if request.method not in ("GET", "HEAD"):
            return super().dispatch(request, *args, **kwargs)
        started = time.monotonic()
        was_connected = connection.connection is not None
        response = super().dispatch(request, *args, **kwargs)
        if (
            was_connected
            and notes_of(request).is_connection_lost
            and time.monotonic() - started < settings.REQUEST_TIME_LIMIT_SECONDS / 4
        ):
            metrics.RETRIES.add("read")
            connection.close()
            response = super().dispatch(request, *args, **kwargs)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.is_settled = False  # a second try begins anew
        super().initial(request, *args, **kwargs)
        if not self._takes(str(request.method).lower()):
            raise MethodNotAllowed(str(request.method))
        data = self._read_data(request)
        self._refuse_key(request)
        self.parameters, self.query = self._read_query(request)
        self.body = self._validated_body(request, data)
        self.is_settled = not self.defers_caller_check

    def needed_scope(self, method: str | None) -> Scope | None:
        return self.read_scope if method in ("GET", "HEAD") else self.write_scope

    def check_throttles(self, request: Request) -> None:
        if not self.defers_caller_check:
            super().check_throttles(request)

    def handle_exception(self, exc: Exception) -> Response:
        """Answers the error that comes first [E1]: every refusal of a view passes here.

        What was put off is made up for, as far as it comes before `exc`.
        """
        if not self.is_settled:
            try:
                self._settle_before(exc)
            except (APIException, DatabaseError) as earlier:
                exc = earlier
        return super().handle_exception(exc)

    def _settle_before(self, exception: Exception) -> None:
        """Raises the first error that was not looked for yet and comes before `exception`."""
        error = own_error(exception)
        if error is None or error.status_code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
            return
        rank = _rank(error.status_code)
        # There is no caller where authentication itself refused, which may be with 403.
        if self.defers_caller_check and self.request.auth is not None:
            if rank > _rank(status.HTTP_401_UNAUTHORIZED):
                self.request.auth.check()
            if rank > _rank(status.HTTP_429_TOO_MANY_REQUESTS):
                super().check_throttles(self.request)
        if rank > _rank(status.HTTP_404_NOT_FOUND):
            self.require_object()

    def require_object(self) -> None:
        """Raises NotFound where the path names an object that is not there for the caller.

        Called before an error of the input is answered, because 404 comes first.
        """

    @property
    def default_response_headers(self) -> dict[str, str]:
        """REST framework's own, but for `Allow`, which goes with 405 alone."""
        return {"Vary": "Accept"} if len(self.renderer_classes) > 1 else {}

    @property
    def operation(self) -> str:
        """The key of the running operation in the tables of serializers."""
        action: str | None = getattr(self, "action", None)
        if action is not None:
            return action
        method = str(self.request.method).lower()
        return "get" if method == "head" else method

    def _takes(self, method: str) -> bool:
        """Whether it is one of `allowed_methods`, without making that list for each request."""
        return method in self.http_method_names and hasattr(self, method)

    def _read_data(self, request: Request) -> dict[str, Any]:
        environ = request.META
        if "HTTP_TRANSFER_ENCODING" in environ:
            # The project's own servers read chunks, and leave none of this behind.
            raise ValidationError("Send the body with a Content-Length: chunks are not read here.")
        length = content_length(environ)
        if length is None:
            raise ValidationError("Content-Length must be the body's length in bytes.")
        if length > self.body_max_bytes:
            raise PayloadTooLarge(self.body_max_bytes)
        if not length:
            return {}
        if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
            raise EncodedBody()
        return cast("dict[str, Any]", request.data)

    def _refuse_key(self, request: Request) -> None:
        """Refuses an Idempotency-Key of a write that would be done again in spite of it."""
        if "HTTP_IDEMPOTENCY_KEY" not in request.META or request.method in ("GET", "HEAD"):
            return
        if self.operation not in self.keyed:
            message = "This operation takes no Idempotency-Key. Leave it out."
            raise ValidationError({"Idempotency-Key": [ErrorDetail(message, "not_supported")]})

    def _read_query(self, request: Request) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """The query parameters, as they came and validated."""
        serializer_class = self.query_serializers.get(self.operation, QuerySerializer)
        raw = request.META.get("QUERY_STRING", "")
        if not raw and serializer_class is QuerySerializer:
            return {}, {}
        parameters = parse_query_string(raw)
        return parameters, validated(serializer_class, parameters)

    def _validated_body(self, request: Request, data: dict[str, Any]) -> dict[str, Any]:
        serializer_class = self.body_serializers.get(self.operation, EmptyBody)
        if not data and serializer_class is EmptyBody:
            return {}
        return validated(serializer_class, data, is_partial=request.method == "PATCH")


def _rank(status_code: int) -> int:
    return _RANKS.get(status_code, len(ORDER))


def validated(
    serializer_class: type[StrictSerializer], data: Mapping[str, Any], *, is_partial: bool = False
) -> dict[str, Any]:
    reader = _reader(serializer_class, is_partial=is_partial)
    return cast("dict[str, Any]", reader.run_validation(data))


@cache
def _reader(serializer_class: type[StrictSerializer], *, is_partial: bool) -> StrictSerializer:
    """The one serializer of its class that reads input, in all threads: it keeps nothing.

    To make one copies all its fields: 100 to 150 microseconds.
    """
    return serializer_class(partial=is_partial)


def read_uuid(text: str) -> UUID | None:
    """The UUID that `text` is, as RFC 9562 writes it: with hyphens, in any case (section 4)."""
    return UUID(text) if _UUID.fullmatch(text) else None


def parse_query_string(raw: str) -> dict[str, str]:
    """The query parameters of a URL.

    Raises ValidationError for a parameter that is repeated or empty or not UTF-8.
    """
    try:
        text = raw.encode("latin-1").decode("utf-8")  # PEP 3333 hands bytes over as Latin-1
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise ValidationError(
            f"The query string must be percent-encoded UTF-8, with at most {MAX_PARAMETERS} values."
        ) from None
    parameters: dict[str, str] = {}
    faults: dict[str, list[ErrorDetail]] = {}
    for name, value in pairs:
        if name in parameters:
            faults[name] = [ErrorDetail("Give this parameter only once.", code="repeated")]
        elif not value:
            faults[name] = [
                ErrorDetail("Give this parameter a value or leave it out.", code="empty")
            ]
        parameters[name] = value
    if faults:
        raise ValidationError(faults)
    return parameters
