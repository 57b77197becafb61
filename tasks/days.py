"""Days, times of day and zones: when a task is due, and which day it is for somebody.

One database of zones, that of the pinned `tzdata`: the system's may be older, and PostgreSQL's own
differs from both, also in which names it takes. So this module alone reads zones, and PostgreSQL
has a table of them (zones.py). Pure: no models, no clock. For fields and models.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import cast
from zoneinfo import ZoneInfo

_DATABASE = files("tzdata").joinpath("zoneinfo")

# What the IANA has as `Area/Place`, and UTC. Not its other names: `EST` and the like are for old
# systems, and `localtime` is whatever the machine says.
ZONES = frozenset(
    name
    for name in files("tzdata").joinpath("zones").read_text("ascii").split()
    if "/" in name or name == "UTC"
)

# By the clock on the wall. Before the second no zone had changed its clocks; the rules of today go
# on for ever, and the third is further away than anybody plans.
_FIRST_TIME = datetime.fromisoformat("0001-01-01")
_FIRST_CHANGES = datetime.fromisoformat("1840-01-01")
OFFSETS_UNTIL = datetime.fromisoformat("2200-01-01")
# Less than clocks are changed for at least: a week, in Gaza and in Recife.
_STEP = timedelta(days=6)
_YEAR = timedelta(days=365)
_SECOND = timedelta(seconds=1)  # to which zones are exact


class ZoneError(ValueError):
    """No zone has this name: it is none of ZONES, letter for letter."""


def due_at(on: date, at: time | None, zone: str | None) -> datetime | None:
    """The instant, in UTC, of what is due `on` that day: none without time or zone.

    RFC 5545, section 3.3.5: a time that clocks skip counts by the offset before, and is therefore
    later by their hands; one that comes twice is the first. Also none where the instant is not in
    the years 1 to 9999. Raises ZoneError.

    Zones change by law: the same day may be another instant after an update of `tzdata`.
    """
    if at is None or zone is None:
        return None
    # fold is 0 whatever `at` has: PEP 495 then reads both kinds of times as RFC 5545 does.
    local = datetime.combine(on, at.replace(fold=0), tzinfo=_zone(zone))
    try:
        return local.astimezone(UTC)
    except OverflowError:
        return None


def today(zone: str | None, now: datetime) -> date:
    """The day that it is in `zone`, else in UTC, at the instant `now`. Raises ZoneError."""
    return now.astimezone(UTC if zone is None else _zone(zone)).date()


def in_zone(zone: str, instant: datetime) -> datetime | None:
    """What the clocks in `zone` show at an instant. None outside of the years 1 to 9999.

    Raises ZoneError.
    """
    try:
        return instant.astimezone(_zone(zone)).replace(tzinfo=None)
    except OverflowError:
        return None


def offsets() -> Iterator[tuple[str, datetime, timedelta]]:
    """The offsets from UTC by which `due_at` goes: the zone, since which local time, and which.

    Exact until OFFSETS_UNTIL; from then on the one of winter, all year. Takes seconds.
    """
    local_times = [*_every(_STEP, _FIRST_CHANGES, OFFSETS_UNTIL), OFFSETS_UNTIL]
    found: dict[bytes, Sequence[tuple[datetime, timedelta]]] = {}  # many zones have two names
    for name in sorted(ZONES):
        file = _file(name).read_bytes()
        if file not in found:
            # A zone by itself has an offset at any time; only in general may there be none.
            offset_at = cast("Callable[[datetime], timedelta]", _zone(name).utcoffset)
            found[file] = list(_offsets(offset_at, local_times))
        for since, offset in found[file]:
            yield name, since, offset


def _every(step: timedelta, first: datetime, end: datetime) -> Iterator[datetime]:
    while first < end:
        yield first
        first += step


def _offsets(
    offset_at: Callable[[datetime], timedelta], local_times: Sequence[datetime]
) -> Iterator[tuple[datetime, timedelta]]:
    """Those of one zone. It is asked for local times, fold 0, and so says what due_at() finds."""
    at, offset = _FIRST_TIME, offset_at(_FIRST_TIME)
    yield at, offset
    for later in local_times:
        while offset_at(later) != offset:
            since = later
            while since - at > _SECOND:
                middle = (at + (since - at) // 2).replace(microsecond=0)
                if offset_at(middle) == offset:
                    at = middle
                else:
                    since = middle
            at, offset = since, offset_at(since)
            yield at, offset
        at = later
    winter = min(map(offset_at, _every(_STEP, OFFSETS_UNTIL - _YEAR, OFFSETS_UNTIL)))
    if winter != offset:
        yield OFFSETS_UNTIL, winter


# Never more than ZONES, some 600 of a few kilobytes.
@cache
def _read_zone(name: str) -> ZoneInfo:
    with _file(name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def _file(name: str) -> Traversable:
    return _DATABASE.joinpath(*name.split("/"))


def _zone(name: str) -> ZoneInfo:
    if name not in ZONES:
        raise ZoneError(name)
    return _read_zone(name)
