"""What the application answers to a request, as it is sent. No sockets.

For worker.py, and the development server.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from .messages import Request, answer, empty_answer

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


def answer_request(
    application: Application,
    request: Request,
    common: Mapping[str, Any],
    address: str,
    is_stopping: Callable[[], bool],
) -> tuple[bytes, bool]:
    """The answer, and whether it is the connection's last."""
    status, headers = "", []

    def start_response(line: str, fields: list[tuple[str, str]], *_: Any) -> None:
        nonlocal status, headers
        status, headers = line, fields

    reads_on = request.is_whole and request.keeps_alive
    environ = request.environ(common)
    if environ is None:
        return empty_answer(HTTPStatus.BAD_REQUEST), True
    environ["REMOTE_ADDR"] = address
    try:
        body = b"".join(application(environ, start_response))
    except Exception:
        logger.exception("the application failed")
        return empty_answer(HTTPStatus.INTERNAL_SERVER_ERROR), True
    has_content = request.method != "HEAD" and not status.startswith(("204", "304"))
    is_last = not reads_on or is_stopping()
    option = "close" if is_last else ""
    if not option and request.version == "1.0":
        option = "keep-alive"
    content = body if has_content else b""
    return answer(status, headers, content, has_content=has_content, connection=option), is_last
