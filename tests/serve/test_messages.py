"""What the HTTP server makes of bytes, without a socket."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todo_project.server import messages
from todo_project.server.messages import Request, RequestReader

BODY_MAX = 1000
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, ends: bool = False) -> tuple[list[Request], RequestReader]:
    """The requests that some pieces make."""
    reader = RequestReader(BODY_MAX)
    requests = []
    for piece in pieces:
        reader.feed(piece)
        while request := reader.next():
            requests.append(request)
    if ends:
        reader.feed_end()
        while request := reader.next():
            requests.append(request)
    return requests, reader


def environ(head: bytes, **common: str) -> dict[str, Any]:
    ((request, *_), _) = read(head + b"\r\n")
    made = request.environ(common)
    assert made is not None
    return made


@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"x_forwarded_for",
        b"X_FORWARDED_FOR",
        b"X-Forwarded_For",
        b"X_Forwarded-For",
        b"x-forwarded_for",
        b"_X-Forwarded-For",
        b"X-Forwarded-For_",
    ],
)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_header_with_an_underscore_is_none(name: bytes, place: str) -> None:
    """[H2] However it is spelled, and wherever it stands."""
    lines = [b"X-Forwarded-For: 192.0.2.1", name + b": 203.0.113.9"]
    if place == "before":
        lines.reverse()

    made = environ(GET + b"\r\n".join(lines) + b"\r\n")

    assert made["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    assert "203.0.113.9" not in str(made)


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        pytest.param(b"A: 1\r\na: 2\r\nB: 3\r\nA: 4\r\n", "HTTP_A", "1, 2, 4", id="one list"),
        pytest.param(b"Cookie: a=1\r\nCookie: b=2\r\n", "HTTP_COOKIE", "a=1; b=2", id="cookies"),
        pytest.param(b"Content-Type: a/b\r\n", "CONTENT_TYPE", "a/b", id="type"),
        pytest.param(b"A: \xc3\xa9\xff\r\n", "HTTP_A", "\xc3\xa9\xff", id="not ASCII"),
        pytest.param(b"A:\r\n", "HTTP_A", "", id="empty"),
        pytest.param(b"A: \t x y \t\r\n", "HTTP_A", "x y", id="white space around"),
        pytest.param(b"X" * 50 + b": 1\r\n", "HTTP_" + "X" * 50, "1", id="long name"),
    ],
)
def test_headers_in_the_environ(lines: bytes, key: str, value: str) -> None:
    assert environ(GET + lines)[key] == value


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        pytest.param(b"/a?b=%20&c", "/a", "b=%20&c", id="usual"),
        pytest.param(b"/%2F%C3%A9%ff", "//\xc3\xa9\xff", "", id="escaped"),
        pytest.param(b"/\xc3\xa9?\xc3\xa9", "/\xc3\xa9", "%C3%A9", id="not escaped"),
        pytest.param(b"//a/../b", "//a/../b", "", id="as it came"),
        pytest.param(b"/a?b?c", "/a", "b?c", id="two question marks"),
        pytest.param(b"http://host:81/a?b", "/a", "b", id="absolute"),
        pytest.param(b"http://host:81", "/", "", id="absolute without a path"),
    ],
)
def test_target(target: bytes, path: str, query: str) -> None:
    ((request,), _) = read(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)

    made = request.environ({})

    assert made is not None
    assert (made["PATH_INFO"], made["QUERY_STRING"]) == (path, query)
    # RFC 9112, section 3.2.2: what the target says counts.
    assert made["HTTP_HOST"] == ("host:81" if target.startswith(b"http") else "x")


@pytest.mark.parametrize("target", [b"*", b"ftp://host/a", b"http:///a"])
def test_target_that_is_no_path(target: bytes) -> None:
    ((request,), _) = read(b"OPTIONS %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert request.environ({}) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA : 1\r\n\r\n", 400, id="space before colon"),
        pytest.param(b"GET / HTTP/1.1\r\nA: 1\r\n B: 2\r\n\r\n", 400, id="folded"),
        pytest.param(b"GET / HTTP/1.1\r\nA: a\x00b\r\n\r\n", 400, id="NUL"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", 400, id="bare line feeds"),
        pytest.param(b"GET / HTTP/1.1\r\nA: 1\rB: 2\r\n\r\n", 400, id="bare carriage return"),
        pytest.param(b"GET /a b HTTP/1.1\r\n\r\n", 400, id="space in the target"),
        pytest.param(b"NONSENSE\r\n\r\n", 400, id="no request"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", 400, id="TLS"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, id="HTTP/2"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(GET + b"Host: y\r\n\r\n", 400, id="two hosts"),
        pytest.param(
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="chunks in 1.0"
        ),
        pytest.param(CHUNKED + b"1;" + b"x" * 100_000, 400, id="extension of a chunk"),
        pytest.param(CHUNKED + b"0\r\nA: " + b"x" * 100_000, 400, id="endless trailer"),
        pytest.param(CHUNKED + b"0\r\n" + b"A: b\r\n" * 20_000, 431, id="many trailers"),
        pytest.param(POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, id="lengths"),
        pytest.param(POST + b"Content-Length: +1\r\n\r\n", 400, id="signed length"),
        pytest.param(POST + b"Content-Length: 1,1\r\n\r\n", 400, id="list of lengths"),
        pytest.param(POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400, id="huge length"),
        pytest.param(
            POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="both"
        ),
        pytest.param(POST + b"Transfer-Encoding: chunked, a\r\n\r\n", 400, id="chunks inside"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, id="other coding"),
        pytest.param(CHUNKED + b"zz\r\n", 400, id="no size of a chunk"),
        pytest.param(CHUNKED + b"-1\r\n", 400, id="negative size of a chunk"),
        pytest.param(CHUNKED + b"2\r\nabcd\r\n", 400, id="longer chunk than said"),
        pytest.param(GET + b"A: 1\r\n" * (messages.HEADERS_MAX + 2), 431, id="many headers"),
        pytest.param(GET + b"A: " + b"x" * 40_000 + b"\r\n\r\n", 431, id="long header"),
        pytest.param(GET + b"A: " + b"x" * 80_000, 431, id="endless header"),
        pytest.param(GET + b"x" * 80_000, 431, id="endless name"),
        pytest.param(b"GET /" + b"x" * 80_000, 431, id="endless target"),
    ],
)
def test_refused(data: bytes, status: int) -> None:
    requests, reader = read(data)
    assert requests == []
    assert reader.fault == status


def test_two_hundred_headers_are_read() -> None:
    """Of 16 KiB in all, as the contract's section 3 promises."""
    lines = b"".join(b"X-Number-%d: %s\r\n" % (number, b"x" * 60) for number in range(200))
    assert environ(GET + lines)["HTTP_X_NUMBER_199"] == "x" * 60


@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param(GET + b"\r\n", b"", id="none"),
        pytest.param(POST + b"Content-Length: 3\r\n\r\nabc", b"abc", id="announced"),
        pytest.param(CHUNKED + b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", b"abc", id="chunks"),
        pytest.param(
            CHUNKED + b"3\r\nabc\r\n0\r\nX-Forwarded-For: 1\r\n\r\n", b"abc", id="trailer"
        ),
        pytest.param(CHUNKED + b"0\r\n\r\n", b"", id="empty, in chunks"),
        pytest.param(
            CHUNKED + b"1\r\nx\r\n" * BODY_MAX + b"0\r\n\r\n", b"x" * BODY_MAX, id="tiny chunks"
        ),
    ],
)
def test_body_that_is_whole(data: bytes, body: bytes) -> None:
    ((request,), _) = read(data)
    made = request.environ({})
    assert made is not None
    assert int(made.get("CONTENT_LENGTH") or 0) == len(body)
    assert made["wsgi.input"].read() == body
    assert "HTTP_TRANSFER_ENCODING" not in made
    assert "HTTP_X_FORWARDED_FOR" not in made  # a trailer is no header


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(POST + b"Content-Length: 3\r\n\r\n", id="announced, nothing"),
        pytest.param(POST + b"Content-Length: 3\r\n\r\nab", id="announced, in the middle"),
        pytest.param(CHUNKED, id="chunks, nothing"),
        pytest.param(CHUNKED + b"3\r\nab", id="in a chunk"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", id="between chunks"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\n", id="before the last line"),
    ],
)
def test_body_that_breaks_off_cannot_be_read(data: bytes) -> None:
    """[B7] It has a length, so that whoever takes a body notices."""
    ((request,), reader) = read(data, ends=True)
    made = request.environ({})
    assert made is not None
    assert int(made["CONTENT_LENGTH"]) > 0
    with pytest.raises(OSError, match="ended before it was complete"):
        made["wsgi.input"].read(1)
    assert reader.has_ended


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(POST + b"Content-Length: %d\r\n\r\n" % (BODY_MAX + 1), id="announced"),
        pytest.param(CHUNKED + b"%x\r\n" % 2000 + b"x" * 1500, id="chunks"),
    ],
)
def test_body_too_large_is_not_kept(data: bytes) -> None:
    pieces = [data[at : at + 500] for at in range(0, len(data), 500)]
    ((request,), reader) = read(*pieces)
    assert not request.is_whole
    assert len(request.body) <= BODY_MAX + 500
    assert reader.has_ended


@given(st.lists(st.integers(0, 400), max_size=8))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    """Wherever the network cuts what clients send."""
    data = (
        GET + b"A: 1\r\n\r\n" + POST + b"Content-Length: 3\r\n\r\nabc"
        + CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" + GET + b"\r\n"
    )  # fmt: skip
    places = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]

    requests, reader = read(*(piece for piece in pieces if piece))

    assert [(r.method, bytes(r.body), r.is_whole) for r in requests] == [
        ("GET", b"", True),
        ("POST", b"abc", True),
        ("POST", b"abc", True),
        ("GET", b"", True),
    ]
    assert reader.is_idle
    assert reader.fault is None


@pytest.mark.parametrize(
    ("version", "header", "keeps_alive"),
    [
        ("1.1", b"", True),
        ("1.1", b"Connection: close\r\n", False),
        ("1.1", b"Connection: a, Close\r\n", False),
        ("1.1", b"Connection: a\r\nConnection: close\r\n", False),
        ("1.0", b"", False),
        ("1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_keeps_alive(version: str, header: bytes, keeps_alive: bool) -> None:
    ((request,), _) = read(b"GET / HTTP/%s\r\nHost: x\r\n%s\r\n" % (version.encode(), header))
    assert request.keeps_alive is keeps_alive


def test_requests_sent_ahead_are_counted() -> None:
    """[N2] However small they are, a request takes some memory."""
    reader = RequestReader(BODY_MAX)
    reader.feed((GET + b"\r\n") * 1000)
    assert reader.held_bytes > 1000 * messages.REQUEST_BYTES
    while reader.next():
        pass
    assert reader.held_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(CHUNKED + b"1\r\nx\r\n" * 900, id="chunks"),
        pytest.param(GET + b"ab:cd\r\n" * 250, id="headers"),
        pytest.param(GET + b"A: " + b"x" * 30_000, id="a header that doesn't end"),
        pytest.param(CHUNKED + b"1;" + b"x" * 30_000, id="an extension that doesn't end"),
    ],
)
def test_unfinished_requests_are_counted(data: bytes) -> None:
    """[N2] By what they take in memory, and not by their bytes alone."""
    _, reader = read(data)
    assert reader.fault is None
    least = len(data) // 10 + 250 * messages.HEADER_BYTES * (data.count(b"ab:cd") // 250)
    assert reader.held_bytes > least


def test_what_follows_a_fault_is_not_read() -> None:
    requests, reader = read(
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n"
    )
    assert requests == []
    assert reader.fault == 501


def test_upgrade_is_ignored() -> None:
    """RFC 9110, section 7.8. Java's client and `curl --http2` ask for it."""
    head = GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    requests, reader = read(head + GET + b"\r\n", head)
    assert [request.keeps_alive for request in requests] == [True] * 3
    assert reader.is_idle


@pytest.mark.parametrize("connection", [b"Upgrade", b"Upgrade, close"])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 29\r\n\r\n" + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n ", CHUNKED[-30:]],
    ids=["announced", "chunks"],
)
def test_body_of_an_upgrade_is_no_request(body: bytes, connection: bytes) -> None:
    """A proxy before the service knows that it isn't."""
    data = POST + b"Upgrade: h2c\r\nConnection: " + connection + b"\r\n" + body
    if body.startswith(b"Transfer"):
        data += b"1\r\nx\r\n0\r\n\r\n"

    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        ((request,), reader) = read(*pieces)
        assert (request.method, request.is_whole) == ("POST", True)
        assert len(request.body) == (1 if request.is_chunked else 29)
        assert request.keeps_alive is (b"close" not in connection)
        assert reader.is_idle


def test_what_precedes_a_head_is_none_of_it() -> None:
    body = b"x" * 900
    requests, reader = read(
        (POST + b"Content-Length: 900\r\n\r\n" + body) * 50 + GET + b"A: " + b"x" * 20_000
    )
    assert len(requests) == 50
    assert reader.fault is None
