"""The network between one device and the server: it can be cut, and can lose an answer."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.processes import PATIENCE_S

OF_ONE_CONNECTION = {"connection", "host", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Exchange:
    """A request that reached the server, and its answer."""

    method: str
    path: str
    key: str | None
    status: int
    headers: Mapping[str, str]
    answer: Any


@dataclass
class Wire:
    """Passes requests on to the port `to`, and notes what went over it."""

    to: int
    port: int = 0
    cut: str | None = None  # no request arrives whose path ends so
    loses: str | None = None  # the answer to the next request whose path ends so
    busy: list[int] = field(default_factory=list)  # what is answered in the server's place
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sent(self, end: str) -> list[Exchange]:
        return [each for each in self.exchanges if each.path.endswith(end)]


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def _pass_on(self) -> None:
        wire = self.server.wire
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if wire.cut is not None and path.endswith(wire.cut):
            return  # closes the connection, as a network does that went away
        if wire.busy:
            self.send_response(wire.busy.pop())
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(b'{"error": {"code": "-", "message": "-", "details": {}}, "meta": {}}')
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_ONE_CONNECTION}
        with closing(HTTPConnection("127.0.0.1", wire.to, timeout=PATIENCE_S)) as server:
            server.request(self.command, self.path, body or None, headers)
            answer = server.getresponse()
            content = answer.read()
        exchange = (self.command, path, self.headers["Idempotency-Key"], answer.status)
        wire.exchanges.append(Exchange(*exchange, dict(answer.headers), json.loads(content)))
        if wire.loses is not None and path.endswith(wire.loses):
            wire.loses = None
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, wire: Wire) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wire = wire


@contextmanager
def laid(to: int) -> Iterator[Wire]:
    wire = Wire(to)
    with _Server(wire) as server:
        wire.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield wire
        finally:
            server.shutdown()
            thread.join()
