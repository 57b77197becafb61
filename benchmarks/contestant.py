"""A checkout of the service in process, without an HTTP server: what benchmarks.sync compares.

A script, run in the checkout's folder with nothing but its code: each line of input is an order,
each line of output what came of it. A request: the status that it must have, its method, path with
query, access token and body, and what else its environ holds.
"""

import io
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NANOSECONDS = 1e9


def main() -> None:
    sys.path.insert(0, str(Path.cwd()))
    from todo_project.wsgi import application  # sets Django up

    # The access log goes to stderr, so that nothing else is written here.
    for line in sys.stdin:
        order = json.loads(line)
        found = globals()[order.pop("do")](application, **order)
        print(json.dumps(found), flush=True)


def answers(application: Any, requests: Sequence[Any]) -> list[Any]:
    """The headers and the body of each."""
    found = [_call(application, request) for request in requests]
    return [(headers, answer.decode()) for headers, answer in found]


def cost(application: Any, requests: Sequence[Any]) -> tuple[float, float]:
    """CPU seconds of this process, and of its backend."""
    backend = _backend()
    postgres_before = _cpu_seconds(backend)
    before = time.process_time()
    for request in requests:
        _call(application, request)
    service_cpu_s = time.process_time() - before
    return service_cpu_s, _cpu_seconds(backend) - postgres_before


_shares: list[Sequence[Any]] = []
# Each has a single thread, and so a connection of its own, which stays open.
_threads: list[ThreadPoolExecutor] = []


def prepare(_: Any, shares: Sequence[Sequence[Any]]) -> None:
    """Takes what together() does."""
    _shares[:] = shares
    while len(_threads) < len(shares):
        _threads.append(ThreadPoolExecutor(max_workers=1))


def together(application: Any) -> None:
    """The shares, each by a thread of its own."""

    def work(requests: Sequence[Any]) -> None:
        for request in requests:
            _call(application, request)

    pairs = zip(_threads, _shares, strict=True)
    for future in [thread.submit(work, share) for thread, share in pairs]:
        future.result()


def _backend() -> Path:
    """What Linux knows of this thread's backend, which stays."""
    from django.db import connection

    connection.ensure_connection()
    connection.close_at = None
    return Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")


def _cpu_seconds(process: Path) -> float:
    return int(process.read_text().split()[0]) / NANOSECONDS


def _call(application: Any, request: Sequence[Any]) -> tuple[dict[str, str], bytes]:
    status, method, path, access, body, headers = request
    path, _, query = path.partition("?")
    content = body.encode()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_AUTHORIZATION": f"Bearer {access}",
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        **headers,
    }
    if content:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(content))}
    begun: list[Any] = []
    response = application(environ, lambda *start: begun.append(start))
    answer = b"".join(response)
    line, sent = begun[0]
    if not line.startswith(str(status)):
        raise RuntimeError(f"{method} {path}: {line} {answer.decode()}")
    return dict(sent), answer


if __name__ == "__main__":
    main()
