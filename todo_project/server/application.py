"""What the application answers to a request, as it is sent. No sockets.

For worker.py, and the development server.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from .messages import LAST_CHUNK, Request, answer, chunk, empty_answer

logger = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def common_environ(host: str, port: int, *, is_multiprocess: bool) -> dict[str, Any]:
    """What the environs of all requests to one server have in common. PEP 3333."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": is_multiprocess,
        "wsgi.run_once": False,
    }


class Rest:
    """What of an answer the application makes only while its client reads it, as it is sent.

    It keeps nothing of a piece that it gave. ConnectionAbortedError: the rest isn't to be had, and
    the connection has to end, so that the client sees it. Where it `ends_with_connection`, and by
    nothing else, that takes a reset.
    """

    def __init__(
        self, blocks: Iterable[bytes], *, is_chunked: bool, ends_with_connection: bool
    ) -> None:
        self.ends_with_connection = ends_with_connection
        self._blocks = iter(blocks)
        self._close = getattr(blocks, "close", None)
        self._is_chunked = is_chunked
        self._has_ended = False

    def __iter__(self) -> "Rest":
        return self

    def __next__(self) -> bytes:
        if self._has_ended:
            raise StopIteration
        try:
            block = next(filter(None, self._blocks), b"")
        except ConnectionAbortedError:  # told by the application itself
            raise
        except Exception as error:
            logger.exception("the application failed")
            raise ConnectionAbortedError from error
        if block:
            return chunk(block) if self._is_chunked else block
        self._has_ended = True
        if not self._is_chunked:
            raise StopIteration
        return LAST_CHUNK

    def close(self) -> None:
        """Lets the application go of it, whether or not it was read to its end. PEP 3333."""
        self._has_ended = True
        if self._close is not None:
            try:
                self._close()
            except Exception:
                logger.exception("the application failed")


class Answer(NamedTuple):
    """What is sent; what is made after that, and whether it is the connection's last."""

    data: bytes
    rest: Rest | None
    is_last: bool


def answer_request(
    application: Application,
    request: Request,
    common: Mapping[str, Any],
    address: str,
    is_stopping: Callable[[], bool],
) -> Answer:
    """What the application answers.

    A list, or a tuple, is the whole body; any other iterable is asked for the next part when what
    came before is sent. The application has called `start_response` by the time it returns.
    """
    status, headers = "", []

    def start_response(line: str, fields: list[tuple[str, str]], *_: Any) -> None:
        nonlocal status, headers
        status, headers = line, fields

    environ = request.environ(common)
    if environ is None:
        return _refusal(HTTPStatus.BAD_REQUEST)
    environ["REMOTE_ADDR"] = address
    try:
        body = application(environ, start_response)
        content = b"".join(body) if isinstance(body, list | tuple) else None
    except Exception:
        logger.exception("the application failed")
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
    reads_on = request.is_whole and request.keeps_alive
    has_content = request.method != "HEAD" and not status.startswith(("204", "304"))
    rest = None
    if content is None:
        is_old = request.version == "1.0"
        has_length = _has_length(headers)
        is_chunked = not is_old and not has_length
        rest = Rest(body, is_chunked=is_chunked, ends_with_connection=is_old and not has_length)
        if not has_content:
            rest.close()
            rest = None
        elif is_chunked:
            headers = [*headers, ("Transfer-Encoding", "chunked")]
        elif is_old:  # it ends where the connection does
            reads_on = False
    is_last = not reads_on or is_stopping()
    option = "close" if is_last else ""
    if not option and request.version == "1.0":
        option = "keep-alive"
    data = answer(
        status,
        headers,
        content if content is not None and has_content else b"",
        has_content=has_content and content is not None,
        connection=option,
    )
    return Answer(data, rest, is_last)


def _has_length(headers: Sequence[tuple[str, str]]) -> bool:
    return any(name.lower() == "content-length" for name, _ in headers)


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(empty_answer(status), None, is_last=True)
