"""When a task is due, and which day it is, by the zone database of the application."""

import importlib.metadata
import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from tasks.days import ZONES, ZoneError, due_at, today
from tests.processes import PROJECT


@pytest.fixture
def pinned_zones() -> Iterator[None]:
    """Lets `zoneinfo` read tzdata alone, as if the system had no zones."""
    path = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(path)
    ZoneInfo.clear_cache()


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("UTC", "2026-11-26 09:00", "2026-11-26 09:00"),
        ("Europe/Berlin", "2026-01-15 09:00", "2026-01-15 08:00"),
        ("Europe/Berlin", "2026-07-15 09:00", "2026-07-15 07:00"),
        ("Europe/Berlin", "2026-03-29 01:59:59", "2026-03-29 00:59:59"),
        ("Europe/Berlin", "2026-03-29 02:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:30"),
        ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-10-25 01:59:59", "2026-10-24 23:59:59"),
        ("Europe/Berlin", "2026-10-25 02:00", "2026-10-25 00:00"),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30"),
        ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25 02:00"),
        ("America/New_York", "2007-03-11 02:30", "2007-03-11 07:30"),
        ("America/New_York", "2007-11-04 01:30", "2007-11-04 05:30"),
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04 14:45"),
        ("Australia/Lord_Howe", "2026-04-05 02:00", "2026-04-04 15:30"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:45"),
        ("Australia/Lord_Howe", "2026-10-04 02:30", "2026-10-03 15:30"),
        ("Asia/Kathmandu", "2026-01-01 00:00", "2025-12-31 18:15"),
        ("Pacific/Apia", "2011-12-29 23:59", "2011-12-30 09:59"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 22:00"),
        ("Pacific/Apia", "2011-12-31 00:00", "2011-12-30 10:00"),
        ("Pacific/Kiritimati", "2026-01-01 00:00", "2025-12-31 10:00"),
        ("Etc/GMT+12", "2026-01-01 00:00", "2026-01-01 12:00"),
        ("Africa/Casablanca", "2026-02-15 02:30", "2026-02-15 01:30"),
        ("America/Sao_Paulo", "2018-11-04 00:30", "2018-11-04 03:30"),
        ("Africa/Monrovia", "1960-01-01 00:00", "1960-01-01 00:44:30"),
    ],
    ids=lambda value: value,
)
def test_due_at_is_the_instant_of_the_zone(zone: str, local: str, instant: str) -> None:
    """A skipped time counts by the offset before; one that comes twice is the first."""
    moment = datetime.fromisoformat(local)

    due = due_at(moment.date(), moment.time(), zone)

    assert due == datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert due.tzinfo is UTC


@pytest.mark.parametrize(
    ("at", "zone"),
    [(None, None), (None, "Europe/Berlin"), (time(9), None)],
    ids=["a day", "a zone without a time", "a time wherever the person is"],
)
def test_due_at_is_none_without_time_and_zone(at: time | None, zone: str | None) -> None:
    assert due_at(date(2026, 11, 26), at, zone) is None


def test_due_at_does_not_look_at_fold() -> None:
    first = due_at(date(2026, 10, 25), time(2, 30), "Europe/Berlin")

    assert due_at(date(2026, 10, 25), time(2, 30, fold=1), "Europe/Berlin") == first


@pytest.mark.parametrize(
    ("on", "at", "zone"),
    [
        (date.max, time(23, 59), "America/New_York"),
        (date.min, time(0), "Asia/Tokyo"),
    ],
    ids=["after 9999", "before 1"],
)
def test_due_at_is_none_outside_of_the_calendar(on: date, at: time, zone: str) -> None:
    assert due_at(on, at, zone) is None


@pytest.mark.parametrize(
    ("zone", "now", "day"),
    [
        (None, "2026-11-26T23:59:59+00:00", "2026-11-26"),
        (None, "2026-11-27T00:30:00+01:00", "2026-11-26"),
        ("UTC", "2026-11-27T00:00:00+00:00", "2026-11-27"),
        ("Asia/Kathmandu", "2026-11-26T18:14:59+00:00", "2026-11-26"),
        ("Asia/Kathmandu", "2026-11-26T18:15:00+00:00", "2026-11-27"),
        ("Pacific/Kiritimati", "2026-11-26T10:00:00+00:00", "2026-11-27"),
        ("Pacific/Pago_Pago", "2026-11-26T10:59:59+00:00", "2026-11-25"),
        ("Pacific/Apia", "2011-12-30T09:59:59+00:00", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00:00+00:00", "2011-12-31"),
        ("Europe/Berlin", "2026-03-28T23:00:00+00:00", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25T22:59:59+00:00", "2026-10-25"),
        ("America/Sao_Paulo", "2018-11-04T02:59:59+00:00", "2018-11-03"),
    ],
)
def test_today_is_the_day_of_the_zone(zone: str | None, now: str, day: str) -> None:
    assert today(zone, datetime.fromisoformat(now)) == date.fromisoformat(day)


def test_today_takes_the_instant_whatever_its_offset() -> None:
    now = datetime(2026, 11, 26, 18, 15, tzinfo=UTC)

    assert today("Asia/Kathmandu", now.astimezone(timezone(-timedelta(hours=8)))) == date(
        2026, 11, 27
    )


UNKNOWN = [
    "",
    "abc3",
    "EST",
    "GMT",
    "CET",
    "europe/berlin",
    "Europe/berlin",
    "-02:00",
    "+01:00",
    "localtime",
    "posixrules",
    "Factory",
    "posix/Europe/Berlin",
    "right/Europe/Berlin",
    "Europe/Berlin ",
    "Europe/Berlin\n",
    "Europe",
    "/Europe/Berlin",
    "Europe/../Europe/Berlin",
    "../../etc/passwd",
    "Europe//Berlin",
    "Mars/Olympus_Mons",
    "utc",
    "Z",
]


@pytest.mark.parametrize("name", UNKNOWN, ids=repr)
def test_unknown_zone_is_refused(name: str) -> None:
    assert name not in ZONES
    with pytest.raises(ZoneError):
        due_at(date(2026, 11, 26), time(9), name)
    with pytest.raises(ZoneError):
        today(name, datetime.now(UTC))


@pytest.mark.usefixtures("pinned_zones")
def test_zones_are_those_of_the_pinned_database() -> None:
    known = {name for name in zoneinfo.available_timezones() if "/" in name}

    assert known | {"UTC"} == ZONES
    assert len(ZONES) > 500


@pytest.mark.usefixtures("pinned_zones")
def test_every_zone_is_read_from_the_pinned_database() -> None:
    summer, at = date(2026, 7, 1), time(12)

    instants = {name: due_at(summer, at, name) for name in ZONES}

    assert instants == {
        name: datetime.combine(summer, at, ZoneInfo(name)).astimezone(UTC) for name in ZONES
    }


def test_database_is_the_one_that_is_pinned() -> None:
    pinned = re.search(r"^tzdata==(\S+)$", (PROJECT / "requirements.in").read_text(), re.MULTILINE)

    assert pinned is not None
    assert importlib.metadata.version("tzdata") == pinned[1]
