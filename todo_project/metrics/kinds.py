"""The kinds of metrics: how each counts, and what it tells of the sums of all processes."""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from .rows import Row

if TYPE_CHECKING:
    from prometheus_client import Metric

logger = logging.getLogger(__name__)

Labels = tuple[str | int, ...]
Sums = Mapping[Labels, Sequence[float]]  # of one metric, by the values of its labels

REQUEST_LABELS = ("method", "route", "status")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Kind:
    """A metric: numbers for each choice of values of its labels.

    Those of `first` are there from the beginning, with 0: from nothing to 1 is no rise to
    Prometheus. Until begin() nothing is counted.
    """

    size = 1  # how many numbers a series has

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: Sequence[str] = (),
        first: Iterable[Labels] = ((),),
    ) -> None:
        self.name = name
        self._meaning = meaning
        self._labels = labels
        self._first = tuple(first)
        self._row: Row | None = None
        self._places: dict[Labels, int | None] = {}

    def begin(self, row: Row) -> None:
        """From now on this process counts in `row`."""
        self._row = row
        self._places = {}
        for values in self._first:
            self._place(row, values)

    def families(self, sums: Sums) -> "Iterator[Metric]":
        """As prometheus_client writes it."""
        raise NotImplementedError

    def _place(self, row: Row, values: Labels) -> int | None:
        """Of a series, in the row's numbers. None where there is no room for it."""
        if values not in self._places:
            place = row.place(orjson.dumps([self.name, *values]), self.size)
            if place is None:
                logger.warning("no room for another series of metrics")
            self._places[values] = place
        return self._places[values]


class Count(Kind):
    """How often something happened."""

    def add(self, *values: str) -> None:
        if self._row is not None and (place := self._place(self._row, values)) is not None:
            self._row.add(place)

    def families(self, sums: Sums) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self._meaning, labels=self._labels)
        for values, (count,) in sums.items():
            family.add_metric(_texts(values), count)
        yield family


class Level(Kind):
    """How much there is at the moment."""

    def begin(self, row: Row) -> None:
        super().begin(row)
        self.set(0)  # what a worker had that died is lost

    def set(self, value: float) -> None:
        if self._row is not None and (place := self._place(self._row, ())) is not None:
            self._row.numbers[place] = value

    def families(self, sums: Sums) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        yield GaugeMetricFamily(self.name, self._meaning, value=sum(n for (n,) in sums.values()))


class Durations(Kind):
    """How long something took, each time: the seconds of all, and how many were in each bucket."""

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: Sequence[str] = (),
        first: Iterable[Labels] = ((),),
        *,
        buckets: Sequence[float],
    ) -> None:
        super().__init__(name, meaning, labels, first)
        self._buckets = buckets
        self.size = 2 + len(buckets)  # and those that took longer

    def observe(self, seconds: float) -> None:
        if self._row is not None and (place := self._place(self._row, ())) is not None:
            self._note(self._row, place, seconds)

    def families(self, sums: Sums) -> "Iterator[Metric]":
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self._meaning, labels=self._labels)
        for values, (seconds, *counts) in sums.items():
            # Each bucket has what was no longer than its bound.
            bounds = zip([*map(str, self._buckets), "+Inf"], range(1, len(counts) + 1), strict=True)
            family.add_metric(_texts(values), [(at, sum(counts[:n])) for at, n in bounds], seconds)
        yield family

    def _note(self, row: Row, place: int, seconds: float) -> None:
        bucket = place + 1 + bisect_left(self._buckets, seconds)
        with row.lock:
            row.numbers[place] += seconds
            row.numbers[bucket] += 1


class Requests(Durations):
    """How requests were answered, and how long it took; labels are method, route and status.

    Told twice: how many had which status, and how long those took that had the same first digit,
    which have a series for each bucket.
    """

    def __init__(
        self, name: str, meaning: str, *, buckets: Sequence[float], answered: tuple[str, str]
    ) -> None:
        """`answered`: name and meaning of how many."""
        super().__init__(name, meaning, REQUEST_LABELS, first=(), buckets=buckets)
        self._answered = answered

    def observe_request(
        self, method: str | None, route: str | None, status: int, seconds: float
    ) -> None:
        """Every request comes by here: docs/performance.md has what it costs."""
        if self._row is None:
            return
        values = (method if method in METHODS else "other", route or "none", status)
        place = self._places.get(values) or self._place(self._row, values)
        if place is not None:
            self._note(self._row, place, seconds)

    def families(self, sums: Sums) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily

        answered = CounterMetricFamily(*self._answered, labels=REQUEST_LABELS)
        durations: dict[Labels, Sequence[float]] = {}
        for (method, route, status), numbers in sums.items():
            answered.add_metric(_texts((method, route, status)), sum(numbers[1:]))
            similar = (method, route, f"{str(status)[0]}xx")
            others = durations.get(similar, [0.0] * self.size)
            durations[similar] = [a + b for a, b in zip(others, numbers, strict=True)]
        yield answered
        yield from super().families(durations)


def _texts(values: Labels) -> list[str]:
    return [str(value) for value in values]
