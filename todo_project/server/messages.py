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
from types import MappingProxyType
from typing import Any, NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import httptools

# The request line and all headers. The contract promises 16 KiB of headers, and 200 of them.
HEAD_MAX_BYTES = 32 * 1024
HEADERS_MAX = 256
# So much is parsed in one piece. What the parser keeps of a line that doesn't end is known as well.
PIECE_BYTES = 16 * 1024
# What a request and a header take in memory beside their bytes.
REQUEST_BYTES = 2048
HEADER_BYTES = 128
# Names of headers that are no longer are remembered in the form of the environ.
REMEMBERED_NAME_BYTES = 40
_ASCII = bytes(range(128))


class Request:
    """A request, as far as it has come."""

    __slots__ = (
        "body",
        "connection",
        "expects_continue",
        "has_head",
        "head_bytes",
        "headers",
        "hosts",
        "is_chunked",
        "is_coded",
        "is_whole",
        "length",
        "method",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_bytes = 0
        self.method = ""
        self.version = ""
        self.has_head = False
        self.hosts = 0
        self.connection = b""  # the header
        self.expects_continue = False
        self.is_chunked = False
        self.is_coded = False  # otherwise, too
        self.length = 0  # of the body, as announced
        self.body = bytearray()
        self.is_whole = False

    def note(self, name: bytes, value: bytes) -> None:
        """Looks at a header that says how the message is to be read."""
        match name:
            case b"content-length":
                self.length = int(value)
            case b"connection":
                self.connection += value + b","
            case b"expect":
                self.expects_continue = value.lower() == b"100-continue"
            case b"host":
                self.hosts += 1
            case b"transfer-encoding":
                self.is_chunked = True
                self.is_coded = self.is_coded or value.lower() != b"chunked"

    @property
    def fault(self) -> HTTPStatus | None:
        """What is against its head. RFC 9112, sections 2.3, 3.2 and 6.1."""
        if self.version not in ("1.0", "1.1"):
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        if self.is_coded:
            return HTTPStatus.NOT_IMPLEMENTED
        is_old = self.version == "1.0"
        is_wrong = self.hosts > 1 or (self.is_chunked if is_old else self.hosts == 0)
        return HTTPStatus.BAD_REQUEST if is_wrong else None

    @property
    def held_bytes(self) -> int:
        """What it takes in memory."""
        held = REQUEST_BYTES + HEADER_BYTES * len(self.headers)
        return held + self.head_bytes + len(self.body)

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
            environ["CONTENT_LENGTH"] = str(len(self.body) + (not self.is_whole))
        if self.is_whole:
            return BytesIO(self.body)
        return BrokenOff()


class BrokenOff:
    """The `wsgi.input` of a body that did not come whole: whoever reads it gets an OSError."""

    def read(self, size: int = -1) -> NoReturn:
        raise OSError("The body ended before it was complete.")

    readline = readlines = __iter__ = __next__ = read


class RequestReader:
    """Makes requests of what a client sends, one behind the other.

    `fault` is the status of whatever can't be read; nothing more is read after it. `long_bodies`
    are larger limits of bodies, by the last part of a path.
    """

    def __init__(
        self, body_max_bytes: int, long_bodies: Mapping[bytes, int] = MappingProxyType({})
    ) -> None:
        self.fault: HTTPStatus | None = None
        # Grows whenever a request begins, and when its head is there: each has a time of its own.
        self.stage = 0
        self._body_max_bytes = body_max_bytes
        self._long_bodies = long_bodies
        self._parser = httptools.HttpRequestParser(self)
        self._ready: deque[Request] = deque()
        self._ready_bytes = 0
        self._request: Request | None = None  # under way
        self._silent_bytes = 0  # parsed since the parser told of anything
        self._has_ended = False
        self._is_in_request_line = False

    def feed(self, data: bytes) -> None:
        """Reads on."""
        for start in range(0, len(data), PIECE_BYTES):
            self._feed(data[start : start + PIECE_BYTES])

    def feed_end(self) -> None:
        """The client has sent all that it will. A request without its whole body is one, too."""
        if self._request is not None and self._request.has_head and not self._has_ended:
            self._finish(self._request)
        self._request = None
        self._has_ended = True

    def next(self) -> Request | None:
        """The next request that can be answered, in their order."""
        if not self._ready:
            return None
        request = self._ready.popleft()
        self._ready_bytes -= request.held_bytes
        return request

    @property
    def has_ready(self) -> bool:
        """Whether there is a request, or a fault, that can be answered."""
        return bool(self._ready) or self.fault is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a further request has come."""
        return self._request is None and not self._ready

    @property
    def has_ended(self) -> bool:
        """Whether nothing that comes would be read any more."""
        return self._has_ended

    @property
    def held_bytes(self) -> int:
        """What is kept of requests that are not answered yet."""
        under_way = 0 if self._request is None else self._request.held_bytes
        return self._ready_bytes + under_way + self._silent_bytes

    def must_continue(self) -> bool:
        """Whether the client is now to be told that its body is welcome. RFC 9110, 10.1.1."""
        request = self._request
        if request is None or not request.expects_continue:
            return False
        request.expects_continue = False
        return not request.body and request.version != "1.0"

    def _feed(self, data: bytes) -> None:
        if self._has_ended:
            return
        if self._is_in_request_line or self._request is None:
            data = self._escape_target(data)
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._fail(HTTPStatus.BAD_REQUEST)
        # A line that doesn't end, which the parser keeps by itself, or the frills of chunks.
        if self._silent_bytes > HEAD_MAX_BYTES + PIECE_BYTES:
            has_head = self._request is not None and self._request.has_head
            self._fail(
                HTTPStatus.BAD_REQUEST if has_head else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            )

    def _go_on(self, rest: bytes) -> None:
        """Ignores that a client would rather speak something else. RFC 9110, section 7.8.

        httptools takes what follows such a head for no HTTP, the body of the request included. So a
        new parser reads it; behind the same head, without that wish, where there is a body.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._ready and (self._ready[-1].length or self._ready[-1].is_chunked):
            request = self._ready.pop()
            self._ready_bytes -= request.held_bytes
            lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.target)]
            lines += [
                b"%s: %s" % (name, value)
                for name, value in request.headers
                if name.lower() not in (b"connection", b"upgrade")
            ]
            if not request.keeps_alive:
                lines.append(b"Connection: close")
            rest = b"\r\n".join([*lines, b"", rest])
        self._feed(rest)

    def _escape_target(self, data: bytes) -> bytes:
        """What curl sends as it was typed, `?search=café`, and llhttp takes for no URL."""
        line, end, rest = data.partition(b"\n")
        self._is_in_request_line = not end
        return data if line.isascii() else quote_from_bytes(line, _ASCII).encode() + end + rest

    def _finish(self, request: Request) -> None:
        self._ready.append(request)
        self._ready_bytes += request.held_bytes
        self._request = None
        self._silent_bytes = 0

    def _fail(self, status: HTTPStatus) -> None:
        if self.fault is None:
            self.fault = status
        self._request = None
        self._silent_bytes = 0
        self._has_ended = True

    # What httptools calls. It goes on with what it was fed, whatever happens here.

    def on_message_begin(self) -> None:
        if not self._has_ended:
            self._request = Request()
            self.stage += 1
            self._silent_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.target += url
            self._add_to_head(self._request, len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None:
            return
        if not request.has_head:  # a trailer is no header
            # llhttp leaves the white space behind a value.
            request.headers.append((name, value.rstrip(b" \t")))
        self._add_to_head(request, len(name) + len(value))

    def _add_to_head(self, request: Request, size: int) -> None:
        self._silent_bytes = 0
        request.head_bytes += size
        if request.head_bytes > HEAD_MAX_BYTES or len(request.headers) > HEADERS_MAX:
            self._fail(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.has_head = True
        self.stage += 1
        self._silent_bytes = 0
        request.method = self._parser.get_method().decode("ascii")
        request.version = self._parser.get_http_version()
        for name, value in request.headers:
            request.note(name.lower(), value)
        fault = request.fault
        if fault is not None:
            self._fail(fault)
        elif self._is_too_long(request, request.length):
            self._leave_unread(request)

    def on_body(self, data: bytes) -> None:
        request = self._request
        if request is None:
            return
        self._silent_bytes = 0
        request.body += data
        if self._is_too_long(request, len(request.body)):
            self._leave_unread(request)

    def _is_too_long(self, request: Request, length: int) -> bool:
        if length <= self._body_max_bytes:
            return False
        path = request.target.partition(b"?")[0].rstrip(b"/")
        name = unquote_to_bytes(path.rpartition(b"/")[2])
        return length > self._long_bodies.get(name, self._body_max_bytes)

    def _leave_unread(self, request: Request) -> None:
        """A body that is too large: the request is answered without it, and nothing follows."""
        self._finish(request)
        self._has_ended = True

    def on_message_complete(self) -> None:
        if self._request is not None:
            self._request.is_whole = True
            self._finish(self._request)


def answer(
    status: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    has_content: bool = True,
    connection: str = "",
) -> bytes:
    """An answer as it is sent; `connection` is its header of that name, where it has one.

    Where it `has_content` it has a length, even if that is none. RFC 9110, section 8.6.
    """
    lines = [f"HTTP/1.1 {status}\r\nDate: {_date(int(time.time()))}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    if has_content and not any(name.lower() == "content-length" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}\r\n")
    lines.append(f"Connection: {connection}\r\n\r\n" if connection else "\r\n")
    return "".join(lines).encode("latin-1") + body


def empty_answer(status: HTTPStatus) -> bytes:
    """An answer without a body, after which the connection is closed."""
    return answer(f"{status.value} {status.phrase}", [], b"", connection="close")


def chunk(block: bytes) -> bytes:
    """A part of a body whose length nobody knows yet. RFC 9112, section 7.1. Not an empty one."""
    return b"%x\r\n%b\r\n" % (len(block), block)


LAST_CHUNK = b"0\r\n\r\n"  # where it doesn't come, the body isn't whole

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@lru_cache(maxsize=1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _key(name: bytes) -> str:
    """The key of a header in the environ."""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


_remembered_key = lru_cache(maxsize=1024)(_key)
