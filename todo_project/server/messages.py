"""HTTP/1.1 messages: bytes to requests, and answers to bytes. RFC 9112. No sockets.

For worker.py.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import Any, NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import httptools

# The request line and all headers. The contract promises 16 KiB of headers, and 200 of them.
HEAD_MAX_BYTES = 32 * 1024
HEADERS_MAX = 256
# Beside its bytes a body in chunks has the sizes, extensions and trailers of chunks: at most so
# many times more than the bytes that it may have.
CHUNKS_OVERHEAD = 8
# Requests that a client may send before it has any answer.
PIPELINED_MAX = 16
# Names of headers that are no longer are remembered in the form of the environ.
REMEMBERED_NAME_BYTES = 40


_ASCII = bytes(range(128))


class Request:
    """A request, as far as it has come."""

    __slots__ = (
        "body",
        "body_bytes",
        "connection",
        "expects_continue",
        "has_head",
        "headers",
        "is_chunked",
        "is_whole",
        "length",
        "method",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.method = ""
        self.version = ""
        self.has_head = False
        self.connection = b""  # the header
        self.expects_continue = False
        self.is_chunked = False
        self.length = 0  # of the body, as announced
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.is_whole = False

    @property
    def keeps_alive(self) -> bool:
        """Whether its client goes on using the connection. RFC 9112, section 9.3."""
        options = [option.strip() for option in self.connection.lower().split(b",")]
        if self.version == "1.0":
            return b"keep-alive" in options
        return b"close" not in options

    def environ(self, common: Mapping[str, Any]) -> dict[str, Any] | None:
        """The environ of PEP 3333; `common` joins it. None where the target is no path.

        A header whose name has an underscore is none: in the environ `X_Forwarded_For` could not be
        told from `X-Forwarded-For`, which a proxy writes. Several lines of one header are one list.
        """
        environ = {**common, "REQUEST_METHOD": self.method, "SERVER_PROTOCOL": "HTTP/1.1"}
        for name, value in self.headers:
            if b"_" in name:
                continue
            key = _remembered_key(name) if len(name) <= REMEMBERED_NAME_BYTES else _key(name)
            text = value.decode("latin-1")
            if key in environ:
                separator = "; " if key == "HTTP_COOKIE" else ", "
                text = f"{environ[key]}{separator}{text}"
            environ[key] = text
        target = self.target
        if not target.startswith(b"/"):  # RFC 9112, section 3.2.2
            try:
                parts = urlsplit(target.decode("ascii"))
            except ValueError:
                return None
            if parts.scheme not in ("http", "https") or not parts.netloc:
                return None
            environ["HTTP_HOST"] = parts.netloc
            target = f"{parts.path or '/'}?{parts.query}".encode()
        path, _, query = target.partition(b"?")
        if b"%" in path:
            path = unquote_to_bytes(path)
        environ["PATH_INFO"] = path.decode("latin-1")
        environ["QUERY_STRING"] = query.decode("latin-1")
        environ["wsgi.input"] = self._add_body(environ)
        return environ

    def _add_body(self, environ: dict[str, Any]) -> "BytesIO | BrokenOff":
        if self.is_chunked:
            # WSGI knows no chunks. Of a body that broke off, or is too large, more was to come.
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = str(self.body_bytes + (not self.is_whole))
        if self.is_whole:
            return BytesIO(b"".join(self.body))
        return BrokenOff()


class BrokenOff:
    """The `wsgi.input` of a body that did not come whole: whoever reads it gets an OSError."""

    def read(self, size: int = -1) -> NoReturn:
        raise OSError("The body ended before it was complete.")

    readline = readlines = __iter__ = __next__ = read


class RequestReader:
    """Makes requests of what a client sends, one behind the other.

    `fault` is the status of whatever can't be read; nothing more is read after it.
    """

    def __init__(self, body_max_bytes: int) -> None:
        self.fault: HTTPStatus | None = None
        self._body_max_bytes = body_max_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._ready: deque[Request] = deque()
        self._request: Request | None = None  # under way
        self._unparsed_bytes = 0  # of its head or its body
        self._has_ended = False
        self._is_in_request_line = False

    def feed(self, data: bytes) -> None:
        """Reads on."""
        if self._has_ended:
            return
        if self._is_in_request_line or self._request is None:
            data = self._escape_target(data)
        request, had_head = self._request, self._request is not None and self._request.has_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._has_ended = True  # nothing else is spoken here: the client may go on in HTTP/1.1
        except httptools.HttpParserError:
            self._fail(HTTPStatus.BAD_REQUEST)
        self._bound(request, had_head, len(data))

    def feed_end(self) -> None:
        """The client has sent all that it will. A request without its whole body is one, too."""
        if self._request is not None and self._request.has_head and not self._has_ended:
            self._ready.append(self._request)
        self._request = None
        self._has_ended = True

    def next(self) -> Request | None:
        """The next request that can be answered, in their order."""
        return self._ready.popleft() if self._ready else None

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a further request has come."""
        return self._request is None and not self._ready

    @property
    def has_ended(self) -> bool:
        """Whether nothing that comes would be read any more."""
        return self._has_ended

    @property
    def body_bytes(self) -> int:
        """How much is kept of a body that has not come whole."""
        return self._request.body_bytes if self._request is not None else 0

    def must_continue(self) -> bool:
        """Whether the client is now to be told that its body is welcome. RFC 9110, 10.1.1."""
        request = self._request
        if request is None or not request.expects_continue:
            return False
        request.expects_continue = False
        return not request.body_bytes and request.version != "1.0"

    def _escape_target(self, data: bytes) -> bytes:
        """What curl sends as it was typed, `?search=café`, and llhttp takes for no URL."""
        line, end, rest = data.partition(b"\n")
        self._is_in_request_line = not end
        return data if line.isascii() else quote_from_bytes(line, _ASCII).encode() + end + rest

    def _bound(self, request: Request | None, had_head: bool, size: int) -> None:
        """Ends what is too large: a head by a refusal, a body by leaving its rest unread."""
        current = self._request
        if current is None:
            self._unparsed_bytes = 0
            return
        if current is not request or current.has_head is not had_head:
            self._unparsed_bytes = 0  # what began meanwhile is no longer than what came now
        self._unparsed_bytes += size
        if not current.has_head:
            if self._unparsed_bytes > HEAD_MAX_BYTES:
                self._fail(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif (
            max(current.length, current.body_bytes) > self._body_max_bytes
            or self._unparsed_bytes > CHUNKS_OVERHEAD * self._body_max_bytes + size
        ):
            self._ready.append(current)
            self._request = None
            self._has_ended = True

    def _fail(self, status: HTTPStatus) -> None:
        if self.fault is None:
            self.fault = status
        self._request = None
        self._has_ended = True

    # What httptools calls.

    def on_message_begin(self) -> None:
        if len(self._ready) < PIPELINED_MAX:
            self._request = Request()
        else:  # a client that sends so many at once has to ask again
            self._has_ended = True

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None or request.has_head:  # a trailer is no header
            return
        request.headers.append((name, value.rstrip(b" \t")))  # llhttp leaves what is behind

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.has_head = True
        request.method = self._parser.get_method().decode("ascii")
        request.version = self._parser.get_http_version()
        size = len(request.target)
        for name, value in request.headers:
            size += len(name) + len(value)
            match name.lower():
                case b"content-length":
                    request.length = int(value)
                case b"connection":
                    request.connection += value + b","
                case b"expect":
                    request.expects_continue = value.lower() == b"100-continue"
                case b"transfer-encoding":
                    request.is_chunked = True
                    if value.lower() != b"chunked":  # RFC 9112, section 6.1
                        self._fail(HTTPStatus.NOT_IMPLEMENTED)
        if request.version not in ("1.0", "1.1"):
            self._fail(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if size > HEAD_MAX_BYTES or len(request.headers) > HEADERS_MAX:
            self._fail(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_body(self, data: bytes) -> None:
        request = self._request
        if request is not None and request.body_bytes <= self._body_max_bytes:
            request.body.append(data)
            request.body_bytes += len(data)

    def on_message_complete(self) -> None:
        request = self._request
        if request is not None:
            request.is_whole = request.body_bytes <= self._body_max_bytes
            self._ready.append(request)
            self._request = None


def answer(
    status: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    connection: str = "",
) -> bytes:
    """An answer as it is sent; `connection` is its header of that name, where it has one."""
    lines = [f"HTTP/1.1 {status}\r\nDate: {_date(int(time.time()))}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    if body and not any(name.lower() == "content-length" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}\r\n")
    lines.append(f"Connection: {connection}\r\n\r\n" if connection else "\r\n")
    return "".join(lines).encode("latin-1") + body


def empty_answer(status: HTTPStatus) -> bytes:
    """An answer without a body, after which the connection is closed."""
    return answer(
        f"{status.value} {status.phrase}", [("Content-Length", "0")], b"", connection="close"
    )


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@lru_cache(maxsize=1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _key(name: bytes) -> str:
    """The key of a header in the environ."""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


_remembered_key = lru_cache(maxsize=1024)(_key)
