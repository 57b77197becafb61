"""Numbers that several processes keep and any of them can read: each has a row in shared memory.

The parent makes the memory before it forks; it is no file, and goes with the last of them. A row
has one writer at a time, so that no lock is between processes, which one that dies would keep.

    8 bytes    how many bytes of the row are in use
    series     one behind the other:
        4 bytes    the length of its key
        4 bytes    how many numbers it has
        the key, filled up to 8 bytes
        the numbers, 8 bytes each, as doubles
"""

import mmap
import threading
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct

# Enough for 5,000 series of requests. What is not in use takes no memory.
ROW_BYTES = 1024 * 1024
_HEAD = Struct("=II")
_START = 8


def new_rows(count: int) -> mmap.mmap:
    """Memory for so many, that processes share which are forked from now on."""
    return mmap.mmap(-1, count * ROW_BYTES)


class Row:
    """Where one process counts: it goes on with what stands there."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self.lock = threading.Lock()  # of whoever changes a number
        self._bytes = _row(memory, number)
        self.numbers = self._bytes.cast("d")
        self._used = self._bytes.cast("Q")
        self._used[0] = max(self._used[0], _START)
        # By the count as well: who had the row before may have been of another release.
        self._places = {(key, n): start // 8 for key, start, n in _series(self._bytes)}

    def place(self, key: bytes, count: int) -> int | None:
        """Where in `numbers` the first of a series is; they begin with 0. None: the row is full."""
        with self.lock:
            if (key, count) not in self._places:
                start = self._used[0]
                first = start + _HEAD.size + _padded(len(key))
                end = first + 8 * count
                if end > ROW_BYTES:
                    return None
                # Of somebody who was killed while writing this, there may be something else.
                head = _HEAD.pack(len(key), count) + key
                self._bytes[start:end] = head.ljust(first - start, b"\0").ljust(end - start, b"\0")
                self._used[0] = end
                self._places[key, count] = first // 8
            return self._places[key, count]

    def add(self, place: int, amount: float = 1.0) -> None:
        with self.lock:
            self.numbers[place] += amount


def sums(memory: mmap.mmap) -> Mapping[tuple[bytes, int], Sequence[float]]:
    """The series of all rows together, by key and count."""
    found: dict[tuple[bytes, int], Sequence[float]] = {}
    for number in range(len(memory) // ROW_BYTES):
        row = _row(memory, number)
        numbers = row.cast("d")
        for key, start, count in _series(row):
            mine = numbers[start // 8 : start // 8 + count].tolist()
            others = found.get((key, count), [0.0] * count)
            found[key, count] = [a + b for a, b in zip(others, mine, strict=True)]
    return found


def _row(memory: mmap.mmap, number: int) -> memoryview:
    return memoryview(memory)[number * ROW_BYTES : (number + 1) * ROW_BYTES]


def _series(row: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """The key of each, where its numbers begin, in bytes, and how many there are."""
    start, end = _START, row.cast("Q")[0]
    while start < end:
        length, count = _HEAD.unpack_from(row, start)
        key = bytes(row[start + _HEAD.size :][:length])
        first = start + _HEAD.size + _padded(length)
        yield key, first, count
        start = first + 8 * count


def _padded(length: int) -> int:
    return -(-length // 8) * 8
