"""Days of a year as the bits of an integer: bit 0 is the 1st of January. For `recurrence` alone.

What a rule says of a year is then a handful of operations on integers, however many days it names.
A span is a pair of offsets, as slices have them: its first day, and the one after its last.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate, islice

WEEK = 7
YEAR_DAYS_MAX = 366
# As many as there are weekdays for the 1st of January, in leap years and in others.
KINDS_OF_YEARS = 14
ALL = -1  # of which every bit is one
# By whether it is a leap year: where its months begin, and at last the next year.
MONTH_BEGINS = (
    tuple(accumulate((31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), initial=0)),
    tuple(accumulate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), initial=0)),
)


def span(begin: int, end: int) -> int:
    return (1 << end) - (1 << begin)


def since(bits: int, begin: int) -> int:
    return bits >> begin << begin


def before(bits: int, end: int) -> int:
    return bits & span(0, end)


def earliest(bits: int, number: int) -> int:
    """The first `number` of the days, or all where there are no more."""
    if bits.bit_count() <= number:
        return bits
    return union(1 << offset for offset in islice(offsets(bits), number))


def union(sets: Iterable[int]) -> int:
    bits = 0
    for more in sets:
        bits |= more
    return bits


def offsets(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def repeated(bits: int, step: int, length: int) -> int:
    """`bits` again after each `step`, for `length` at least."""
    while step < length:
        bits |= bits << step
        step *= 2
    return bits


def nth(number: int, begin: int, end: int) -> int:
    """The day `number` of a span, from its end where negative; none where it is too short."""
    offset = begin + number - 1 if number > 0 else end + number
    return 1 << offset if begin <= offset < end else 0


def weekdays(day: int, new_year: int) -> int:
    """Each `day` of a year that begins on `new_year`, and some beyond; both count from Monday."""
    return repeated(1 << (day - new_year) % WEEK, WEEK, YEAR_DAYS_MAX)


def positions(bits: int, numbers: Iterable[int]) -> int:
    """Those of the days that have one of `numbers` among them, from the last one where negative."""
    days = list(offsets(bits))
    places = (number - 1 if number > 0 else number for number in numbers)
    return union(1 << days[place] for place in places if -len(days) <= place < len(days))
