"""Answers that are made while their client reads them, piece by piece.

Each piece may be made by another thread, long after the request: so whatever surrounds the work of
a request surrounds the work of each piece, too. Who does that for requests does it here `within`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from django.http import StreamingHttpResponse


class BrokenOffError(ConnectionAbortedError):
    """Why the rest of an answer isn't to be had: the connection ends, so that the client sees it.

    The server knows it by its base.
    """


class StreamedResponse(StreamingHttpResponse):
    """Such an answer. It keeps nothing of a piece that was taken."""

    def within(self, surroundings: Callable[[], AbstractContextManager[object]]) -> None:
        """Lets each further piece be made in a block of its own, around those named before."""
        self.streaming_content = _Within(surroundings, iter(self))


class _Within(Iterator[bytes]):
    """No generator: that would keep the piece that it gave."""

    def __init__(
        self, surroundings: Callable[[], AbstractContextManager[object]], pieces: Iterator[bytes]
    ) -> None:
        self._surroundings = surroundings
        self._pieces = pieces

    def __next__(self) -> bytes:
        with self._surroundings():
            piece = next(self._pieces, None)  # its end is no exception to the block
        if piece is None:
            raise StopIteration
        return piece
