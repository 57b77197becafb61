"""A small HTTP/1.1 client for load: one kept connection, one request at a time.

Hand-written, because a full client takes longer for a request than the floor does.
"""

import asyncio
from typing import Self

from .traffic import Request


class RequestError(Exception):
    """The answer was no success."""


class Connection:
    """To be closed; not to be shared."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: Request) -> bytes:
        """Returns the answer's body.

        Raises RequestError where the status is not 2xx, and OSError or EOFError where the
        connection breaks.
        """
        self._writer.write(request.encoded())
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(_content_length(head))
        if not head.startswith(b"HTTP/1.1 2"):
            raise RequestError(f"{request.method} {request.path}: {head!r} {body[:500]!r}")
        return body

    def close(self) -> None:
        self._writer.close()


def _content_length(head: bytes) -> int:
    """0 where there is none, as in an answer 204."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
