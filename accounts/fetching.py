"""Fetches small JSON documents from the identity provider, within bounds. For jwks.py.

By http.client, because no library bounds the whole time: urllib's, requests' and httpx's timeouts
are of each read, and a server that drips holds them for minutes. It follows no redirects and asks
no proxy that the environment names, so that nothing but the settings says who is asked.
"""

import io
import socket
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import orjson
from django.conf import settings


class FetchError(Exception):
    """What was asked for can't be had, or is not what it should be; says why, in plain words."""


def fetch_json(url: str, *, deadline: float) -> Any:
    """The JSON at `url`, which ends at `deadline` (of time.monotonic). Raises FetchError."""
    try:
        status, body = _get(url, deadline)
    except (OSError, HTTPException, ValueError) as error:
        raise FetchError(f"{url}: {_plain(error)}") from error
    if status != 200:
        redirect = ", a redirect, and none is followed: name where it leads" * (status // 100 == 3)
        raise FetchError(f"{url}: status {status}{redirect}")
    if len(body) > settings.ISSUER_DOCUMENT_MAX_BYTES:
        raise FetchError(f"{url}: more than {settings.ISSUER_DOCUMENT_MAX_BYTES} bytes")
    try:
        return orjson.loads(body)
    except ValueError:
        raise FetchError(f"{url}: not JSON") from None


def _get(url: str, deadline: float) -> tuple[int, bytes]:
    parts = urlsplit(url)
    timeout = max(deadline - monotonic(), 0)
    connection: HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=timeout, context=context
        )
    else:
        connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    with closing(connection):
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("GET", target, headers={"Accept": "application/json"})
        stream = _Stream(connection.sock, deadline)
        response = HTTPResponse(cast("socket.socket", stream), method="GET")
        with closing(response):
            response.begin()
            return response.status, response.read(settings.ISSUER_DOCUMENT_MAX_BYTES + 1)


class _Stream(io.RawIOBase):
    """What a socket receives; all reads together end at the deadline."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = connected, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """All that HTTPResponse asks of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)


def _plain(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no whole answer within {settings.ISSUER_TIME_LIMIT_SECONDS} seconds"
        case socket.gaierror():
            return "no such host is known"
        case ssl.SSLCertVerificationError():
            return f"its certificate can't be verified: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS can be spoken with it: {error.reason}"
        case OSError(strerror=str(reason)):
            return reason
    return f"no answer by HTTP ({type(error).__name__})"
