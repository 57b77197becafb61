"""Where processes count: rows of shared memory, one for each, whoever dies and whoever comes."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from mmap import mmap
from multiprocessing import get_context

import pytest

from tests.processes import PATIENCE_S, wait_until
from todo_project.metrics import rows
from todo_project.metrics.rows import ROW_BYTES, Row, new_rows

# Python warns of forks beside threads, such as those of other tests.
forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
KEYS = [b"x", b"a key", b"8 bytes ", "with an \u00fc".encode(), b"k" * 300]


def sums(memory: mmap) -> dict[bytes, Sequence[float]]:
    return {key: numbers for (key, _), numbers in rows.sums(memory).items()}


def test_numbers_begin_with_nothing_and_stand_by_their_key() -> None:
    memory = new_rows(1)
    row = Row(memory, 0)
    for size, key in enumerate(KEYS, start=1):
        place = row.place(key, size)
        assert place is not None
        assert row.place(key, size) == place
        row.add(place + size - 1, 0.5)

    found = sums(memory)

    assert found == {key: [0.0] * n + [0.5] for n, key in enumerate(KEYS)}


def test_sums_are_of_all_rows() -> None:
    memory = new_rows(3)
    for number in range(3):
        row = Row(memory, number)
        for key in KEYS[number:]:  # none begins with the same
            place = row.place(key, 2)
            assert place is not None
            row.add(place, number + 1)

    assert sums(memory) == {
        **dict(zip(KEYS, ([1.0, 0.0], [3.0, 0.0]), strict=False)),
        **{key: [6.0, 0.0] for key in KEYS[2:]},
    }


def test_who_takes_a_row_goes_on_with_it() -> None:
    memory = new_rows(2)
    for _ in range(3):
        row = Row(memory, 1)
        for key in KEYS:
            place = row.place(key, 1)
            assert place is not None
            row.add(place)

    assert sums(memory) == {key: [3.0] for key in KEYS}


def test_series_of_another_length_is_another_one() -> None:
    """A worker of a new release may take the place of one of the old."""
    memory = new_rows(1)
    for size in (2, 3):
        row = Row(memory, 0)
        place = row.place(b"buckets", size)
        assert place is not None
        row.add(place + size - 1, size)

    assert rows.sums(memory) == {(b"buckets", 2): [0.0, 2.0], (b"buckets", 3): [0.0, 0.0, 3.0]}


def test_what_was_begun_and_not_ended_does_not_count() -> None:
    """Its writer was killed meanwhile; who comes next writes there."""
    memory = new_rows(1)
    place = Row(memory, 0).place(b"whole", 1)
    assert place is not None
    used = int.from_bytes(memory[:8], "little")
    memory[used : used + 64] = b"\xff" * 64

    assert sums(memory) == {b"whole": [0.0]}
    assert Row(memory, 0).place(b"another", 3) is not None
    assert sums(memory) == {b"whole": [0.0], b"another": [0.0] * 3}


def test_full_row_counts_on_what_it_has() -> None:
    """And writes into no other."""
    memory = new_rows(2)
    row = Row(memory, 0)
    first = row.place(b"first", 1)
    made = 0
    for number in count():
        if row.place(b"%050d" % number, 12) is None:
            break
        made += 1
    assert first is not None
    row.add(first)

    found = sums(memory)
    assert found[b"first"] == [1.0]
    assert len(found) == made + 1
    assert made > 5_000
    assert not any(memory[ROW_BYTES:])


def test_threads_lose_nothing() -> None:
    memory = new_rows(1)
    row = Row(memory, 0)

    def work(number: int) -> None:
        for turn in range(2_000):
            place = row.place(KEYS[turn % len(KEYS)], 1)
            assert place is not None
            row.add(place)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    assert sums(memory) == {key: [8 * 400.0] for key in KEYS}


@forks
def test_processes_share_it() -> None:
    """Those that are forked after it was made, each with its own row."""
    memory = new_rows(3)

    def work(number: int) -> None:
        row = Row(memory, number)
        for _ in range(1_000):
            place = row.place(b"shared", 1)
            assert place is not None
            row.add(place)

    workers = [get_context("fork").Process(target=work, args=[number]) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sums(memory) == {b"shared": [3_000.0]}


@forks
def test_killed_writer_spoils_nothing() -> None:
    """At whatever moment: what is told can be read, and never goes back."""
    memory = new_rows(1)

    def work() -> None:
        row = Row(memory, 0)
        until = time.monotonic() + PATIENCE_S
        for number in count():
            place = row.place(b"%d" % (number % 500), 3)
            if place is not None:
                row.add(place)
            if time.monotonic() > until:  # nobody kills it
                return

    def told() -> float:
        return sum(map(sum, sums(memory).values()))

    for _ in range(10):
        before = told()
        worker = get_context("fork").Process(target=work)
        worker.start()
        wait_until(lambda: told() > before)  # noqa: B023  # it is called here
        worker.kill()
        worker.join()
        assert told() > before


@pytest.mark.parametrize("workers", [1, 64])
def test_memory_is_taken_when_it_is_used(workers: int) -> None:
    assert len(new_rows(workers)) == workers * ROW_BYTES
