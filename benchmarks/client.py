"""A small HTTP/1.1 client for load: one kept connection, one request at a time.

Hand-written, because a full client takes longer for a request than the floor does.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

from .traffic import Request


class RequestError(Exception):
    """The answer was no success."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `head` is the status line and the headers."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head[9:12])  # HTTP/1.1 200

    @property
    def retry_after_seconds(self) -> int:
        """0 where there is none."""
        return _number(self.head, b"retry-after")


class Connection:
    """To be closed; not to be shared."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: Request) -> bytes:
        """Returns the body of a success.

        Raises RequestError where the status is not 2xx, and what `exchange` raises.
        """
        answer = await self.exchange(request)
        if not 200 <= answer.status < 300:
            where = f"{request.method} {request.path}"
            raise RequestError(f"{where}: {answer.head!r} {answer.body[:500]!r}")
        return answer.body

    async def exchange(self, request: Request) -> Answer:
        """Returns the answer, whatever it is.

        Raises OSError or EOFError where the connection breaks.
        """
        self._writer.write(request.encoded())
        head = await self._reader.readuntil(b"\r\n\r\n")
        # Without a length it has no body, as a 204.
        return Answer(head, await self._reader.readexactly(_number(head, b"content-length")))

    def close(self) -> None:
        self._writer.close()


def _number(head: bytes, header: bytes) -> int:
    """The value of a header; 0 where there is none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == header:
            return int(value)
    return 0
