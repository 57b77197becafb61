"""Dates as Todoist writes them, in English: `4 Jan`, `Oct 5 2026 at 18:00`, `every other monday`.

A few plain forms, of which nobody can doubt what they mean; None for all others. Pure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CODES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_UNITS = {"day": "DAILY", "week": "WEEKLY", "month": "MONTHLY", "year": "YEARLY"}
_ADVERBS = {"daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}
_TEXT_MAX_CHARACTERS = 100
_INTERVAL_MAX = 999
_WEEK = 7

_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s+(?P<year>\d{4}))?"
_DATES = (
    re.compile(r"(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})"),
    re.compile(rf"{_DAY}\s+{_MONTH}{_YEAR}"),
    re.compile(rf"{_MONTH}\s+{_DAY}{_YEAR}"),
)
_TIME = re.compile(
    r"(?P<rest>.*?)(?:[\s,]+(?:at\s+|@\s*)?|t)(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::\d{2})?)?"
    r"\s*(?P<half>am|pm)?"
)
_EVERY = re.compile(r"(?:every(?P<strict>!)?|ev)\s+(?P<what>.+)")
_COUNTED = re.compile(r"(?:(?P<count>\d{1,3})|(?P<other>other))?\s*(?P<unit>day|week|month|year)s?")


@dataclass(frozen=True, slots=True)
class HumanDate:
    """When something is due. `rule` is an RRULE; `is_guess` says that the text has no whole day."""

    on: date
    at: time | None = None
    rule: str | None = None
    from_completion: bool = False
    is_guess: bool = False


def read_date(text: str, today: date) -> HumanDate | None:
    """What a text means to whoever reads it `today`; None where that isn't plain."""
    text = " ".join(text.lower().split())
    if len(text) > _TEXT_MAX_CHARACTERS:
        return None
    for rest, at in _times(text):
        found = _recurring(rest, today) or _single(rest, today)
        if found is not None:
            on, rule, from_completion, is_guess = found
            return HumanDate(on, at, rule, from_completion, is_guess)
    return None


def _times(text: str) -> Iterator[tuple[str, time | None]]:
    """The text without a time; or with one at its end, which is taken off."""
    yield text, None
    match = _TIME.fullmatch(text)
    if match is None or (match["minute"] is None and match["half"] is None):
        return
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        if not 1 <= hour <= 12:
            return
        hour = hour % 12 + (12 if match["half"] == "pm" else 0)
    if hour < 24 and minute < 60:
        yield match["rest"], time(hour, minute)


_Found = tuple[date, str | None, bool, bool]


def _single(text: str, today: date) -> _Found | None:
    if text in ("today", "tod"):
        return today, None, False, True
    if text in ("tomorrow", "tom"):
        return today + timedelta(days=1), None, False, True
    if match := re.fullmatch(r"in (\d{1,3}) days?", text):
        return today + timedelta(days=int(match[1])), None, False, True
    for form in _DATES:
        if match := form.fullmatch(text):
            return _calendar_day(match, today)
    return None


def _calendar_day(match: re.Match[str], today: date) -> _Found | None:
    groups = match.groupdict()
    month = int(groups["number"]) if "number" in groups else _month(groups["month"])
    day = int(groups["day"])
    if groups["year"] is not None:
        on = _day(int(groups["year"]), month, day)
        return None if on is None else (on, None, False, False)
    # The year is left out of what is near. Of the days around today the nearest.
    years = range(today.year - 1, today.year + 2)
    days = [on for year in years if (on := _day(year, month, day)) is not None]
    if not days:
        return None
    return min(days, key=lambda on: abs(on - today)), None, False, True


def _recurring(text: str, today: date) -> _Found | None:
    if text in _ADVERBS:
        text = f"every {_ADVERBS[text]}"
    match = _EVERY.fullmatch(text)
    if match is None:
        return None
    from_completion = match["strict"] is not None
    what = match["what"]
    if counted := _COUNTED.fullmatch(what):
        count = 2 if counted["other"] else int(counted["count"] or 1)
        if not 1 <= count <= _INTERVAL_MAX:
            return None
        interval = f";INTERVAL={count}" if count > 1 else ""
        return today, f"FREQ={_UNITS[counted['unit']]}{interval}", from_completion, True
    days = _weekdays(what)
    if not days:
        return None
    on = min(today + timedelta(days=(day - today.weekday()) % _WEEK) for day in days)
    rule = f"FREQ=WEEKLY;BYDAY={','.join(_CODES[day] for day in sorted(days))}"
    return on, rule, from_completion, True


def _weekdays(text: str) -> set[int]:
    """The days that are named; none where anything else stands there."""
    if text in ("weekday", "workday"):
        return {0, 1, 2, 3, 4}
    days = set()
    for word in re.split(r",\s*(?:and\s+)?|\s+and\s+", text):
        if not re.fullmatch(r"(mon|tues?|wed(nes)?|thu(rs?)?|fri|sat(ur)?|sun)(day)?s?", word):
            return set()
        days.add(_WEEKDAYS.index(word[:3]))
    return days


def _month(name: str) -> int:
    return _MONTHS.index(name[:3]) + 1


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
