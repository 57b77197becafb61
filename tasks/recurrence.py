"""Rules of recurrence: the text of an RFC 5545 RRULE, and the days that it means.

Days only, no times: those are `days`' business. Pure: no models, no clock. For fields and models.

Of our own, because python-dateutil can't be bounded: a rule that yields nothing keeps it busy for
seconds, or for ever, and it walks from the start to today day by day. It is what the tests compare
with. Here a year is an integer with a bit for each day: the days that the BY parts choose are one
such integer for each of the fourteen kinds of years, the days that the interval admits are another,
and a year of the rule is both, by `&`. So a year costs the same whatever the rule, a search takes
no more than the years to 9999, and it begins with the year that is asked for.
"""

import re
from calendar import isleap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, Self

from . import year_bits

# Everything but ordinals and positions, said in full, is some 370 characters; the examples of
# RFC 5545 have up to 70.
RULE_MAX_CHARACTERS = 500
# As the contract has it: enough for 999 years, and for whatever people count.
INTERVAL_MAX = 999
COUNT_MAX = 999
# Ten years, with three leap days. A rule has to have a day by then; a 29 February can take eight.
YIELDS_WITHIN_DAYS = 3653

# The name of faults that are no single part's.
WHOLE = "RRULE"

_NAME = re.compile("[A-Z-]+")
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")  # as date.weekday() counts
_WEEKDAY = re.compile(rf"([+-]?\d{{1,2}})?({'|'.join(_WEEKDAYS)})")
_ORDINAL_MAX = 53  # RFC 5545 has it for years, and allows it for months
_MONTHS = range(1, 13)


class RuleError(ValueError):
    """What is wrong with a rule: the part that is at fault, and a sentence for people.

    `part` is in upper case: a part's name, or as it was written where there is no such part, or
    WHOLE.
    """

    def __init__(self, part: str, message: str) -> None:
        super().__init__(f"{part}: {message}")
        self.part = part
        self.message = message


class Frequency(StrEnum):
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    YEARLY = "YEARLY"


class Weekday(NamedTuple):
    ordinal: int  # 2: the second; -1: the last; 0: every
    day: int  # 0: Monday

    def __str__(self) -> str:
        return f"{self.ordinal or ''}{_WEEKDAYS[self.day]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule as it was said. What it leaves out comes from the day on which its series starts.

    A start that doesn't match the rule is none of its days, and COUNT doesn't count it, as
    python-dateutil and ical.js have it. BYSETPOS counts from the beginning of the period, also in
    the one of the start. Days that a month or a year hasn't are left out.

    Lists are sorted, without repetitions, those that count from the end last.
    """

    freq: Frequency
    interval: int = 1
    count: int | None = None
    until: date | None = None
    by_month: tuple[int, ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_day: tuple[Weekday, ...] = ()
    by_set_pos: tuple[int, ...] = ()
    week_start: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rule of `text`, which has no name before it, in any case and any order.

        Raises RuleError for everything that RFC 5545 forbids (section 3.3.10), for what is not
        admitted here, and for what implementations read in different ways: BYSETPOS in a week,
        whose first one some count from the start, and BYMONTHDAY in a year, which is every month's
        to some and the start's to others. Whether there are such days is for `validate` to say.
        """
        rule = cls(**_read_parts(text))
        _check(rule)
        return rule

    def __str__(self) -> str:
        """The same text for the same rule: upper case, FREQ first, without what goes unsaid."""
        unsaid = Rule(freq=self.freq)
        said = [f"FREQ={self.freq}"]
        for name, part in _PARTS.items():
            value = getattr(self, part.field)
            if value != getattr(unsaid, part.field):
                said.append(f"{name}={part.write(value)}")
        return ";".join(said)

    def validate(self, start: date) -> None:
        """Raises RuleError where a series that starts on `start` has no day within ten years.

        The part that is named is the first that leaves nothing, as one after another is added.
        """
        if _yields(self, start):
            return
        rule = Rule(freq=self.freq, week_start=self.week_start)
        for name in _BLAMED:
            field = _PARTS[name].field
            rule = replace(rule, **{field: getattr(self, field)})
            if not _yields(rule, start):
                raise RuleError(
                    name,
                    f"Change it: from {start.isoformat()} on the rule has no day for ten years.",
                )

    def days(self, start: date, first: date | None = None) -> Iterator[date]:
        """The days of a series that starts on `start`, up to the end of the year 9999.

        From `first` on, and not before it. COUNT counts from `start`, whatever was done on those
        days or left undone.
        """
        return _days(self, start, first or start)

    def after(self, start: date, day: date) -> date | None:
        """The first day after `day` of the series that starts on `start`."""
        if day == date.max:
            return None
        return next(self.days(start, day + timedelta(days=1)), None)


def _check(rule: Rule) -> None:
    """Raises RuleError for parts that don't go together."""
    freq = rule.freq
    in_days_or_weeks = freq in {Frequency.DAILY, Frequency.WEEKLY}
    if rule.count is not None and rule.until is not None:
        raise RuleError("UNTIL", "Leave out either COUNT or UNTIL.")
    if rule.by_month_day and freq == Frequency.WEEKLY:
        raise RuleError("BYMONTHDAY", "Leave it out: weeks have no days of the month.")
    if rule.by_month_day and freq == Frequency.YEARLY and not rule.by_month:
        raise RuleError("BYMONTHDAY", "Say in which months, by BYMONTH, or use MONTHLY.")
    if in_days_or_weeks and any(weekday.ordinal for weekday in rule.by_day):
        raise RuleError("BYDAY", "Leave out the numbers: they are for MONTHLY and YEARLY.")
    if in_days_or_weeks and rule.by_set_pos:
        raise RuleError("BYSETPOS", "Leave it out: it is for MONTHLY and YEARLY.")
    if rule.by_set_pos and not (rule.by_month or rule.by_month_day or rule.by_day):
        raise RuleError("BYSETPOS", "Add BYDAY, BYMONTH or BYMONTHDAY, from which it chooses.")


def _yields(rule: Rule, start: date) -> bool:
    horizon = min(start.toordinal() + YIELDS_WITHIN_DAYS, date.max.toordinal())
    until = min(rule.until or date.max, date.fromordinal(horizon))
    return any(True for _ in replace(rule, until=until).days(start))


def _days(rule: Rule, start: date, first: date) -> Iterator[date]:
    """The days of the series that are `first` or after it."""
    last = rule.until or date.max
    left = rule.count
    # Whoever counts begins with the start.
    begin = start.year if left is not None else max(start.year, first.year)
    for year, new_year, days in _years(rule, start, begin, last.year):
        bits = days
        if year == start.year:
            bits = year_bits.since(bits, start.toordinal() - new_year)
        if year == last.year:
            bits = year_bits.before(bits, last.toordinal() - new_year + 1)
        if left is not None:
            bits = year_bits.earliest(bits, left)
            left -= bits.bit_count()
        if year == first.year:
            bits = year_bits.since(bits, first.toordinal() - new_year)
        if year >= first.year:
            for offset in year_bits.offsets(bits):
                yield date.fromordinal(new_year + offset)
        if left == 0:
            return


def _years(rule: Rule, start: date, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The years from `begin` to `end` that have days: year, ordinal of its first day, its days.

    In the year of the start also those before it.
    """
    rule = _completed(rule, start)
    admitted = _interval(rule, start)
    step = 1
    if rule.freq == Frequency.YEARLY:
        step = rule.interval
        begin += (start.year - begin) % step
    chosen: dict[tuple[int, bool], int] = {}
    for year in range(begin, end + 1, step):
        new_year = date(year, 1, 1).toordinal()
        kind = ((new_year - 1) % year_bits.WEEK, isleap(year))
        if kind not in chosen:
            chosen[kind] = _chosen(rule, *kind)
            if len(chosen) == year_bits.KINDS_OF_YEARS and not any(chosen.values()):
                return
        if bits := chosen[kind] and chosen[kind] & admitted(year, new_year):
            yield year, new_year, bits


def _completed(rule: Rule, start: date) -> Rule:
    """The rule with what it leaves out, derived from DTSTART as RFC 5545 has it."""
    if rule.by_day or rule.by_month_day or rule.freq == Frequency.DAILY:
        return rule
    if rule.freq == Frequency.WEEKLY:
        return replace(rule, by_day=(Weekday(0, start.weekday()),))
    if rule.freq == Frequency.YEARLY and not rule.by_month:
        return replace(rule, by_month=(start.month,), by_month_day=(start.day,))
    return replace(rule, by_month_day=(start.day,))


def _interval(rule: Rule, start: date) -> Callable[[int, int], int]:
    """What gives the days in periods of the rule, for a year and the ordinal of its first day.

    Years themselves are stepped over by whoever asks.
    """
    interval = rule.interval
    if rule.freq == Frequency.YEARLY or interval == 1:
        return lambda _year, _new_year: year_bits.ALL
    if rule.freq == Frequency.MONTHLY:
        first = 12 * start.year + start.month - 1

        @cache
        def in_months(month: int, is_leap: bool) -> int:
            begins = year_bits.MONTH_BEGINS[is_leap]
            months = range(month, 12, interval)
            return sum(year_bits.span(begins[month], begins[month + 1]) for month in months)

        return lambda year, _new_year: in_months((first - 12 * year) % interval, isleap(year))
    if rule.freq == Frequency.WEEKLY:
        length = year_bits.WEEK
        origin = start.toordinal() - (start.weekday() - rule.week_start) % year_bits.WEEK
    else:
        length = 1
        origin = start.toordinal()
    step = length * interval
    periods = year_bits.repeated(year_bits.span(0, length), step, step + year_bits.YEAR_DAYS_MAX)
    return lambda _year, new_year: periods >> (new_year - origin) % step


def _chosen(rule: Rule, new_year: int, is_leap: bool) -> int:
    """The days that the BY parts choose in a year that begins on the weekday `new_year`."""
    begins = year_bits.MONTH_BEGINS[is_leap]
    year = (0, begins[-1])
    months = [(begins[month - 1], begins[month]) for month in rule.by_month or _MONTHS]
    bits = year_bits.union(year_bits.span(*month) for month in months)
    if rule.by_month_day:
        bits &= year_bits.union(
            year_bits.nth(day, *month) for month in months for day in rule.by_month_day
        )
    if rule.by_day:
        # Where the rule speaks of months, the second Monday is a month's, else the year's.
        spans = months if rule.freq == Frequency.MONTHLY or rule.by_month else [year]
        bits &= year_bits.union(
            _weekdays(
                year_bits.weekdays(day, new_year),
                [weekday.ordinal for weekday in rule.by_day if weekday.day == day],
                spans,
            )
            for day in {weekday.day for weekday in rule.by_day}
        )
    if rule.by_set_pos:
        periods = months if rule.freq == Frequency.MONTHLY else [year]
        bits = year_bits.union(
            year_bits.positions(bits & year_bits.span(*period), rule.by_set_pos)
            for period in periods
        )
    return bits


def _weekdays(every: int, ordinals: list[int], spans: list[tuple[int, int]]) -> int:
    """Of `every` such day those with these numbers in one of the spans; 0 is all of them."""
    if 0 in ordinals:
        return every
    return year_bits.union(
        year_bits.positions(every & year_bits.span(*span), ordinals) for span in spans
    )


def _read_parts(text: str) -> dict[str, Any]:
    if len(text) > RULE_MAX_CHARACTERS:
        raise RuleError(WHOLE, f"Use at most {RULE_MAX_CHARACTERS} characters.")
    if not text.isascii():
        raise RuleError(WHOLE, "Use the letters, digits and signs of RFC 5545 only.")
    values: dict[str, Any] = {}
    for pair in text.upper().split(";") if text else ():
        name, sign, value = pair.partition("=")
        if not sign or _NAME.fullmatch(name) is None:
            raise RuleError(
                WHOLE, "Write parts like FREQ=DAILY;COUNT=2, with nothing before or after them."
            )
        if (part := _PARTS.get(name)) is None:
            raise RuleError(name, f"Leave it out. The parts are {', '.join(_PARTS)}.")
        if part.field in values:
            raise RuleError(name, "Say it once.")
        try:
            values[part.field] = part.read(value)
        except ValueError as error:
            raise RuleError(name, str(error)) from None
    if "freq" not in values:
        raise RuleError("FREQ", "Add it: DAILY, WEEKLY, MONTHLY or YEARLY.")
    return values


def _read_frequency(value: str) -> Frequency:
    if value not in set(Frequency):
        raise ValueError(f"Use {', '.join(Frequency)}.")
    return Frequency(value)


def _read_date(value: str) -> date:
    """A day and no instant, as the start is one: RFC 5545 wants both to be of one type."""
    if re.fullmatch(r"\d{8}", value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    raise ValueError("Use a day as YYYYMMDD, the last that may be one of the rule.")


def _write_date(value: date) -> str:
    return value.isoformat().replace("-", "")


def _number(highest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (re.fullmatch(r"\d+", value) and 1 <= int(value) <= highest):
            raise ValueError(f"Use a whole number from 1 to {highest}.")
        return int(value)

    return read


def _numbers(highest: int, *, signed: bool) -> Callable[[str], tuple[int, ...]]:
    number = re.compile(r"[+-]?\d{1,3}" if signed else r"\d{1,3}")
    ends = f", or from -1 to -{highest}" if signed else ""

    def read(value: str) -> tuple[int, ...]:
        texts = value.split(",")
        if not all(number.fullmatch(text) and 1 <= abs(int(text)) <= highest for text in texts):
            raise ValueError(f"Use numbers from 1 to {highest}{ends}, and commas between them.")
        return tuple(sorted({int(text) for text in texts}, key=lambda n: (n < 0, n)))

    return read


def _read_weekday(value: str) -> int:
    if value not in _WEEKDAYS:
        raise ValueError(f"Use one of {', '.join(_WEEKDAYS)}.")
    return _WEEKDAYS.index(value)


def _read_weekdays(value: str) -> tuple[Weekday, ...]:
    days = set()
    for text in value.split(","):
        match = _WEEKDAY.fullmatch(text)
        ordinal = int(match[1] or 0) if match else 0
        if match is None or (match[1] and not 1 <= abs(ordinal) <= _ORDINAL_MAX):
            raise ValueError(
                f"Use {', '.join(_WEEKDAYS)}, with commas between them; in months and years with "
                f"a number before it, like 2MO or -1FR, up to {_ORDINAL_MAX}."
            )
        days.add(Weekday(ordinal, _WEEKDAYS.index(match[2])))
    return tuple(sorted(days, key=lambda day: (day.ordinal < 0, day)))


def _write_list(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


class _Part(NamedTuple):
    field: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str


# In the order of the canonical text.
_PARTS = {
    "FREQ": _Part("freq", _read_frequency),
    "INTERVAL": _Part("interval", _number(INTERVAL_MAX)),
    "COUNT": _Part("count", _number(COUNT_MAX)),
    "UNTIL": _Part("until", _read_date, _write_date),
    "BYMONTH": _Part("by_month", _numbers(12, signed=False), _write_list),
    "BYMONTHDAY": _Part("by_month_day", _numbers(31, signed=True), _write_list),
    "BYDAY": _Part("by_day", _read_weekdays, _write_list),
    "BYSETPOS": _Part("by_set_pos", _numbers(year_bits.YEAR_DAYS_MAX, signed=True), _write_list),
    "WKST": _Part("week_start", _read_weekday, _WEEKDAYS.__getitem__),
}
# A month is at fault only once it is known which days there should be in it.
_BLAMED = ("BYMONTHDAY", "BYDAY", "BYMONTH", "BYSETPOS", "INTERVAL", "UNTIL")
