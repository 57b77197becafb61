"""Rules of recurrence mean the days that RFC 5545 says, python-dateutil and rrule-temporal too.

Both are left out where they are known to be wrong: see `is_read_by_dateutil` and
`is_read_by_rrule_temporal`.
"""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import islice, takewhile
from random import Random
from types import FrameType
from typing import Any, NamedTuple

import pytest
from dateutil.rrule import rrulestr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import recurrence, year_bits
from tasks.recurrence import RULE_MAX_CHARACTERS, Frequency, Rule, RuleError, Weekday
from tests.processes import PATIENCE_S, PROJECT

NODE_FOLDER = PROJECT / "tests" / "rrule_temporal"
NODE_RULES = 2_000
DAYS = 10
# What the slow ones among others' implementations can walk: the days compared are not farther off.
HORIZON = timedelta(days=20 * 366)
# Lines of Python for one question, whatever the rule: some ten for each year to 9999, and what the
# fourteen kinds of years take. The worst that is known takes 119,000, which are 4 to 10 ms on one
# core; a rule of everyday takes 100. A rule is validated part by part.
LINES_MAX = 150_000
LINES_OF_VALIDATION_MAX = 2 * LINES_MAX

THURSDAY = date(2026, 11, 26)


def days_of(text: str) -> list[date]:
    """As RFC 5545 writes them: `1997 Sep 2 9 Oct 7 1998 Jan 6`."""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"]
    months += ["Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    year = month = 0
    days = []
    for word in text.split():
        if word in months:
            month = months.index(word) + 1
        elif len(word) == 4:
            year = int(word)
        else:
            days.append(date(year, month, int(word)))
    return days


def first_days(rule: Rule, start: date, number: int = DAYS) -> list[date]:
    return list(islice(rule.days(start), number))


# Every example of section 3.8.5.3 that is admitted here, under its title there. Ten days, or all of
# them; where RFC 5545 shows fewer, the rest is counted on. UNTIL is a day: the last that is shown.
EXAMPLES = [
    pytest.param(rule, date.fromisoformat(start), days_of(days), id=title)
    for title, rule, start, days in [
        (
            "daily for 10 occurrences",
            "FREQ=DAILY;COUNT=10",
            "1997-09-02",
            "1997 Sep 2 3 4 5 6 7 8 9 10 11",
        ),
        (
            "daily until December 24, 1997",
            "FREQ=DAILY;UNTIL=19971223",
            "1997-09-02",
            "1997 Sep 2 3 4 5 6 7 8 9 10 11",
        ),
        (
            "every other day",
            "FREQ=DAILY;INTERVAL=2",
            "1997-09-02",
            "1997 Sep 2 4 6 8 10 12 14 16 18 20",
        ),
        (
            "every 10 days, 5 occurrences",
            "FREQ=DAILY;INTERVAL=10;COUNT=5",
            "1997-09-02",
            "1997 Sep 2 12 22 Oct 2 12",
        ),
        (
            "every day in January, for 3 years, by years",
            "FREQ=YEARLY;UNTIL=20000131;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
            "1998-01-01",
            "1998 Jan 1 2 3 4 5 6 7 8 9 10",
        ),
        (
            "every day in January, for 3 years, by days",
            "FREQ=DAILY;UNTIL=20000131;BYMONTH=1",
            "1998-01-01",
            "1998 Jan 1 2 3 4 5 6 7 8 9 10",
        ),
        (
            "weekly for 10 occurrences",
            "FREQ=WEEKLY;COUNT=10",
            "1997-09-02",
            "1997 Sep 2 9 16 23 30 Oct 7 14 21 28 Nov 4",
        ),
        (
            "weekly until December 24, 1997",
            "FREQ=WEEKLY;UNTIL=19971223",
            "1997-09-02",
            "1997 Sep 2 9 16 23 30 Oct 7 14 21 28 Nov 4",
        ),
        (
            "every other week",
            "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
            "1997-09-02",
            "1997 Sep 2 16 30 Oct 14 28 Nov 11 25 Dec 9 23 1998 Jan 6",
        ),
        (
            "weekly on Tuesday and Thursday for 5 weeks, by a day",
            "FREQ=WEEKLY;UNTIL=19971006;WKST=SU;BYDAY=TU,TH",
            "1997-09-02",
            "1997 Sep 2 4 9 11 16 18 23 25 30 Oct 2",
        ),
        (
            "weekly on Tuesday and Thursday for 5 weeks, by number",
            "FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH",
            "1997-09-02",
            "1997 Sep 2 4 9 11 16 18 23 25 30 Oct 2",
        ),
        (
            "every other week on Monday, Wednesday and Friday until December 24, 1997",
            "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971223;WKST=SU;BYDAY=MO,WE,FR",
            "1997-09-01",
            "1997 Sep 1 3 5 15 17 19 29 Oct 1 3 13",
        ),
        (
            "every other week on Tuesday and Thursday, for 8 occurrences",
            "FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH",
            "1997-09-02",
            "1997 Sep 2 4 16 18 30 Oct 2 14 16",
        ),
        (
            "monthly on the first Friday for 10 occurrences",
            "FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
            "1997-09-05",
            "1997 Sep 5 Oct 3 Nov 7 Dec 5 1998 Jan 2 Feb 6 Mar 6 Apr 3 May 1 Jun 5",
        ),
        (
            "monthly on the first Friday until December 24, 1997",
            "FREQ=MONTHLY;UNTIL=19971224;BYDAY=1FR",
            "1997-09-05",
            "1997 Sep 5 Oct 3 Nov 7 Dec 5",
        ),
        (
            "every other month on the first and last Sunday for 10 occurrences",
            "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
            "1997-09-07",
            "1997 Sep 7 28 Nov 2 30 1998 Jan 4 25 Mar 1 29 May 3 31",
        ),
        (
            "monthly on the second-to-last Monday for 6 months",
            "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
            "1997-09-22",
            "1997 Sep 22 Oct 20 Nov 17 Dec 22 1998 Jan 19 Feb 16",
        ),
        (
            "monthly on the third-to-the-last day",
            "FREQ=MONTHLY;BYMONTHDAY=-3",
            "1997-09-28",
            "1997 Sep 28 Oct 29 Nov 28 Dec 29 1998 Jan 29 Feb 26 Mar 29 Apr 28 May 29 Jun 28",
        ),
        (
            "monthly on the 2nd and 15th for 10 occurrences",
            "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
            "1997-09-02",
            "1997 Sep 2 15 Oct 2 15 Nov 2 15 Dec 2 15 1998 Jan 2 15",
        ),
        (
            "monthly on the first and last day for 10 occurrences",
            "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
            "1997-09-30",
            "1997 Sep 30 Oct 1 31 Nov 1 30 Dec 1 31 1998 Jan 1 31 Feb 1",
        ),
        (
            "every 18 months on the 10th through 15th for 10 occurrences",
            "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
            "1997-09-10",
            "1997 Sep 10 11 12 13 14 15 1999 Mar 10 11 12 13",
        ),
        (
            "every Tuesday, every other month",
            "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
            "1997-09-02",
            "1997 Sep 2 9 16 23 30 Nov 4 11 18 25 1998 Jan 6",
        ),
        (
            "yearly in June and July for 10 occurrences",
            "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
            "1997-06-10",
            (
                "1997 Jun 10 Jul 10 1998 Jun 10 Jul 10 1999 Jun 10 Jul 10 2000 Jun 10 Jul 10 "
                "2001 Jun 10 Jul 10"
            ),
        ),
        (
            "every other year in January, February, and March for 10 occurrences",
            "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
            "1997-03-10",
            (
                "1997 Mar 10 1999 Jan 10 Feb 10 Mar 10 2001 Jan 10 Feb 10 Mar 10 "
                "2003 Jan 10 Feb 10 Mar 10"
            ),
        ),
        (
            "every 20th Monday of the year",
            "FREQ=YEARLY;BYDAY=20MO",
            "1997-05-19",
            (
                "1997 May 19 1998 May 18 1999 May 17 2000 May 15 2001 May 14 2002 May 20 "
                "2003 May 19 2004 May 17 2005 May 16 2006 May 15"
            ),
        ),
        (
            "every Thursday in March",
            "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
            "1997-03-13",
            "1997 Mar 13 20 27 1998 Mar 5 12 19 26 1999 Mar 4 11 18",
        ),
        (
            "every Thursday, but only during June, July, and August",
            "FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
            "1997-06-05",
            "1997 Jun 5 12 19 26 Jul 3 10 17 24 31 Aug 7",
        ),
        (
            "every Friday the 13th",
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
            "1997-09-02",
            (
                "1998 Feb 13 Mar 13 Nov 13 1999 Aug 13 2000 Oct 13 2001 Apr 13 Jul 13 2002 Sep 13 "
                "Dec 13 2003 Jun 13"
            ),
        ),
        (
            "the first Saturday that follows the first Sunday of the month",
            "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
            "1997-09-13",
            "1997 Sep 13 Oct 11 Nov 8 Dec 13 1998 Jan 10 Feb 7 Mar 7 Apr 11 May 9 Jun 13",
        ),
        (
            "U.S. Presidential Election day",
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            "1996-11-05",
            (
                "1996 Nov 5 2000 Nov 7 2004 Nov 2 2008 Nov 4 2012 Nov 6 2016 Nov 8 2020 Nov 3 "
                "2024 Nov 5 2028 Nov 7 2032 Nov 2"
            ),
        ),
        (
            "the third Tuesday, Wednesday, or Thursday of the next 3 months",
            "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
            "1997-09-04",
            "1997 Sep 4 Oct 7 Nov 6",
        ),
        (
            "the second-to-last weekday of the month",
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
            "1997-09-29",
            "1997 Sep 29 Oct 30 Nov 27 Dec 30 1998 Jan 29 Feb 26 Mar 30 Apr 29 May 28 Jun 29",
        ),
        (
            "where WKST makes a difference: Monday",
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            "1997-08-05",
            "1997 Aug 5 10 19 24",
        ),
        (
            "where WKST makes a difference: Sunday",
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            "1997-08-05",
            "1997 Aug 5 17 19 31",
        ),
        (
            "an invalid date is ignored",
            "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
            "2007-01-15",
            "2007 Jan 15 30 Feb 15 Mar 15 30",
        ),
    ]
]

# What no example of RFC 5545 shows.
EDGES = [
    pytest.param(rule, date.fromisoformat(start), days_of(days), id=name)
    for name, rule, start, days in [
        (
            "a 31st is in seven months",
            "FREQ=MONTHLY",
            "2026-01-31",
            "2026 Jan 31 Mar 31 May 31 Jul 31 Aug 31 Oct 31 Dec 31 2027 Jan 31 Mar 31 May 31",
        ),
        (
            "month ends",
            "FREQ=MONTHLY;BYMONTHDAY=-1",
            "2027-12-31",
            "2027 Dec 31 2028 Jan 31 Feb 29 Mar 31 Apr 30 May 31 Jun 30 Jul 31 Aug 31 Sep 30",
        ),
        (
            "the 31st, or the last day",
            "FREQ=MONTHLY;BYMONTHDAY=28,29,30,31;BYSETPOS=-1;COUNT=4",
            "2026-01-31",
            "2026 Jan 31 Feb 28 Mar 31 Apr 30",
        ),
        (
            "29 February, not in 2100",
            "FREQ=YEARLY;COUNT=3",
            "2092-02-29",
            "2092 Feb 29 2096 Feb 29 2104 Feb 29",
        ),
        (
            "29 February, every third year",
            "FREQ=YEARLY;INTERVAL=3;COUNT=3",
            "2024-02-29",
            "2024 Feb 29 2036 Feb 29 2048 Feb 29",
        ),
        (
            "years far apart",
            "FREQ=YEARLY;INTERVAL=999",
            "2026-11-26",
            (
                "2026 Nov 26 3025 Nov 26 4024 Nov 26 5023 Nov 26 6022 Nov 26 7021 Nov 26 "
                "8020 Nov 26 9019 Nov 26"
            ),
        ),
        (
            "each weekday, and the last Thursday",
            "FREQ=MONTHLY;BYDAY=SU,-1TH;COUNT=6",
            "2026-11-22",
            "2026 Nov 22 26 29 Dec 6 13 20",
        ),
        (
            "numbers limit, too, beside days of the month",
            "FREQ=MONTHLY;BYDAY=2FR;BYMONTHDAY=8,13,15;COUNT=3",
            "2026-11-26",
            "2027 Jan 8 Aug 13 Oct 8",
        ),
        (
            "a position counts from the beginning of its month",
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1;COUNT=2",
            "2026-11-26",
            "2026 Dec 1 2027 Jan 1",
        ),
        (
            "a position counts from the beginning of its year",
            "FREQ=YEARLY;BYMONTH=3,6,9;BYSETPOS=2;COUNT=2",
            "2026-07-15",
            "2027 Jun 15 2028 Jun 15",
        ),
        (
            "the 53rd Monday, in years that have one",
            "FREQ=YEARLY;BYDAY=53MO;COUNT=3",
            "2026-01-01",
            "2029 Dec 31 2035 Dec 31 2040 Dec 31",
        ),
        (
            "other numbers count in the month that is named",
            "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH;COUNT=2",
            "2026-11-26",
            "2026 Nov 26 2027 Nov 25",
        ),
        (
            "every third day of the months named",
            "FREQ=DAILY;INTERVAL=3;BYMONTH=2;COUNT=11",
            "2026-02-20",
            "2026 Feb 20 23 26 2027 Feb 3 6 9 12 15 18 21",
        ),
        (
            "a week over the turn of the year",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=WE,SA;COUNT=5",
            "2026-12-30",
            "2026 Dec 30 2027 Jan 2 13 16 27",
        ),
        ("to the end of the calendar", "FREQ=DAILY", "9999-12-30", "9999 Dec 30 31"),
        ("from its beginning", "FREQ=WEEKLY;WKST=SU;COUNT=2", "0001-01-01", "0001 Jan 1 8"),
    ]
]


@pytest.mark.parametrize(("rule", "start", "days"), EXAMPLES + EDGES)
def test_rule_means_these_days(rule: str, start: date, days: list[date]) -> None:
    assert first_days(Rule.parse(rule), start) == days


@pytest.mark.parametrize(
    ("rule", "start", "last", "number"),
    [
        ("FREQ=DAILY;COUNT=10", "1997-09-02", "1997-09-11", 10),
        ("FREQ=DAILY;UNTIL=19971223", "1997-09-02", "1997-12-23", 113),
        ("FREQ=DAILY;UNTIL=20000131;BYMONTH=1", "1998-01-01", "2000-01-31", 93),
        ("FREQ=WEEKLY;UNTIL=19971223", "1997-09-02", "1997-12-23", 17),
        (
            "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971223;WKST=SU;BYDAY=MO,WE,FR",
            "1997-09-01",
            "1997-12-22",
            25,
        ),
        ("FREQ=DAILY;COUNT=999", "2026-01-01", "2028-09-25", 999),
        ("FREQ=DAILY;UNTIL=20260101", "2026-01-01", "2026-01-01", 1),
        ("FREQ=YEARLY;COUNT=1", "2026-01-01", "2026-01-01", 1),
    ],
    ids=str,
)
def test_rule_ends(rule: str, start: str, last: str, number: int) -> None:
    series = Rule.parse(rule)
    days = list(series.days(date.fromisoformat(start)))

    assert (days[-1].isoformat(), len(days)) == (last, number)
    assert series.after(date.fromisoformat(start), days[-1]) is None
    assert series.after(date.fromisoformat(start), date.max) is None


@pytest.mark.parametrize(("rule", "start", "days"), EXAMPLES + EDGES)
def test_after_each_day_comes_the_next(rule: str, start: date, days: list[date]) -> None:
    series = Rule.parse(rule)

    assert [series.after(start, day) for day in days[:-1]] == days[1:]


def test_after_what_is_before_the_start_comes_the_first_day() -> None:
    rule = Rule.parse("FREQ=WEEKLY;BYDAY=MO;COUNT=2")

    assert rule.after(THURSDAY, date(2026, 11, 25)) == date(2026, 11, 30)
    assert rule.after(THURSDAY, date(2020, 1, 1)) == date(2026, 11, 30)
    assert rule.after(THURSDAY, date.min) == date(2026, 11, 30)


def test_count_is_of_the_series_and_not_of_what_was_done() -> None:
    rule = Rule.parse("FREQ=DAILY;COUNT=3")

    assert rule.after(THURSDAY, THURSDAY) == date(2026, 11, 27)
    assert rule.after(THURSDAY, date(2026, 11, 27)) == date(2026, 11, 28)
    assert rule.after(THURSDAY, date(2026, 11, 28)) is None
    assert rule.after(THURSDAY, date(2030, 1, 1)) is None


def test_start_that_does_not_match_is_no_day_and_not_counted() -> None:
    days = Rule.parse("FREQ=WEEKLY;BYDAY=MO;COUNT=2").days(THURSDAY)

    assert list(days) == [date(2026, 11, 30), date(2026, 12, 7)]


REFUSED = [
    pytest.param(rule, part, id=name)
    for name, rule, part in [
        ("nothing", "", "FREQ"),
        ("no frequency", "INTERVAL=2", "FREQ"),
        ("its name", "RRULE:FREQ=DAILY", "RRULE"),
        ("white space", "FREQ=DAILY; COUNT=2", "RRULE"),
        ("a line break", "FREQ=DAILY\n", "FREQ"),
        ("a semicolon at the end", "FREQ=DAILY;", "RRULE"),
        ("no value", "FREQ=DAILY;COUNT", "RRULE"),
        ("an empty value", "FREQ=DAILY;COUNT=", "COUNT"),
        ("two lines", "FREQ=DAILY\nRRULE:FREQ=DAILY", "FREQ"),
        ("letters that upper case makes ASCII", "FREQ=DAILY;BYDAY=\u017fu", "RRULE"),
        ("digits of other scripts", "FREQ=DAILY;COUNT=\u0663", "RRULE"),
        ("too long", f"FREQ=DAILY;BYMONTH={'1,' * RULE_MAX_CHARACTERS}1", "RRULE"),
        ("unknown frequency", "FREQ=FORTNIGHTLY", "FREQ"),
        ("hours", "FREQ=HOURLY;INTERVAL=3", "FREQ"),
        ("minutes", "FREQ=MINUTELY;INTERVAL=15;COUNT=6", "FREQ"),
        ("seconds", "FREQ=SECONDLY", "FREQ"),
        ("hours of a day", "FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,20,40", "BYHOUR"),
        ("days of the year", "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200", "BYYEARDAY"),
        ("weeks of the year", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "BYWEEKNO"),
        ("other calendars", "RSCALE=GREGORIAN;FREQ=YEARLY", "RSCALE"),
        ("skipping, of other calendars", "FREQ=MONTHLY;SKIP=FORWARD", "SKIP"),
        ("parts of one's own", "FREQ=DAILY;X-NAME=1", "X-NAME"),
        ("a part twice", "FREQ=DAILY;COUNT=2;count=2", "COUNT"),
        ("the frequency twice", "FREQ=DAILY;FREQ=DAILY", "FREQ"),
        ("interval 0", "FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("interval 1000", "FREQ=DAILY;INTERVAL=1000", "INTERVAL"),
        ("a negative interval", "FREQ=DAILY;INTERVAL=-1", "INTERVAL"),
        ("a half interval", "FREQ=DAILY;INTERVAL=1.5", "INTERVAL"),
        ("count 0", "FREQ=DAILY;COUNT=0", "COUNT"),
        ("count 1000", "FREQ=DAILY;COUNT=1000", "COUNT"),
        ("count and until", "FREQ=DAILY;COUNT=2;UNTIL=20270101", "UNTIL"),
        ("until an instant", "FREQ=DAILY;UNTIL=19971224T000000Z", "UNTIL"),
        ("until a day with hyphens", "FREQ=DAILY;UNTIL=1997-12-24", "UNTIL"),
        ("until no day", "FREQ=DAILY;UNTIL=20270229", "UNTIL"),
        ("until the year 0", "FREQ=DAILY;UNTIL=00001231", "UNTIL"),
        ("until a week", "FREQ=DAILY;UNTIL=1997W011", "UNTIL"),
        ("month 0", "FREQ=YEARLY;BYMONTH=0", "BYMONTH"),
        ("month 13", "FREQ=YEARLY;BYMONTH=1,13", "BYMONTH"),
        ("months from the end", "FREQ=YEARLY;BYMONTH=-1", "BYMONTH"),
        ("leap months", "FREQ=YEARLY;BYMONTH=5L", "BYMONTH"),
        ("an empty place in a list", "FREQ=YEARLY;BYMONTH=1,,2", "BYMONTH"),
        ("day 0 of the month", "FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY"),
        ("day 32 of the month", "FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY"),
        ("day -32 of the month", "FREQ=MONTHLY;BYMONTHDAY=-32", "BYMONTHDAY"),
        ("days of the month in weeks", "FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY"),
        ("days of no month in years", "FREQ=YEARLY;BYMONTHDAY=30", "BYMONTHDAY"),
        ("unknown weekday", "FREQ=WEEKLY;BYDAY=XX", "BYDAY"),
        ("a weekday in full", "FREQ=WEEKLY;BYDAY=MONDAY", "BYDAY"),
        ("the 0th Monday", "FREQ=MONTHLY;BYDAY=0MO", "BYDAY"),
        ("the 54th Monday", "FREQ=YEARLY;BYDAY=54MO", "BYDAY"),
        ("the -54th Monday", "FREQ=YEARLY;BYDAY=-54MO", "BYDAY"),
        ("numbers in days", "FREQ=DAILY;BYDAY=1MO", "BYDAY"),
        ("numbers in weeks", "FREQ=WEEKLY;BYDAY=MO,-1TU", "BYDAY"),
        ("position 0", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0", "BYSETPOS"),
        ("position 367", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=367", "BYSETPOS"),
        ("positions of nothing", "FREQ=MONTHLY;BYSETPOS=1", "BYSETPOS"),
        ("positions in days", "FREQ=DAILY;BYDAY=MO;BYSETPOS=1", "BYSETPOS"),
        ("positions in weeks", "FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=1", "BYSETPOS"),
        ("unknown start of weeks", "FREQ=WEEKLY;WKST=1", "WKST"),
    ]
]


@pytest.mark.parametrize(("rule", "part"), REFUSED)
def test_refused_rule_names_the_part(rule: str, part: str) -> None:
    with pytest.raises(RuleError) as error:
        Rule.parse(rule)

    assert error.value.part == part
    assert error.value.message.endswith(".")


EMPTY = [
    pytest.param(rule, part, id=rule)
    for rule, part in [
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "BYMONTH"),
        ("FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=3;BYSETPOS=3", "BYSETPOS"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=FR", "INTERVAL"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "BYMONTH"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", "BYMONTH"),
        ("FREQ=MONTHLY;BYDAY=5MO;BYSETPOS=2", "BYSETPOS"),
        ("FREQ=MONTHLY;BYDAY=6MO", "BYDAY"),
        ("FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=8", "BYDAY"),
        ("FREQ=MONTHLY;BYMONTH=4;BYMONTHDAY=31;UNTIL=20990101", "BYMONTH"),
        ("FREQ=MONTHLY;INTERVAL=12;BYMONTH=2", "INTERVAL"),
        ("FREQ=YEARLY;INTERVAL=11;BYMONTH=1;BYMONTHDAY=1", "INTERVAL"),
        ("FREQ=WEEKLY;INTERVAL=52;BYMONTH=2;BYDAY=MO", "INTERVAL"),
        ("FREQ=DAILY;UNTIL=20261125", "UNTIL"),
        ("FREQ=WEEKLY;BYDAY=MO;UNTIL=20261129", "UNTIL"),
    ]
]


@pytest.mark.parametrize(("rule", "part"), EMPTY)
def test_rule_without_days_for_ten_years_names_the_part(rule: str, part: str) -> None:
    with pytest.raises(RuleError) as error:
        Rule.parse(rule).validate(THURSDAY)

    assert error.value.part == part


@pytest.mark.parametrize(
    ("rule", "start"),
    [
        ("FREQ=YEARLY;INTERVAL=999", "2026-11-26"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2096-03-01"),
        ("FREQ=DAILY;COUNT=1", "2026-11-26"),
        ("FREQ=DAILY", "9999-12-31"),
        ("FREQ=WEEKLY;BYDAY=MO;UNTIL=20261130", "2026-11-26"),
    ],
    ids=lambda value: value,
)
def test_rule_with_a_day_within_ten_years_is_valid(rule: str, start: str) -> None:
    Rule.parse(rule).validate(date.fromisoformat(start))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("freq=weekly;byday=mo", "FREQ=WEEKLY;BYDAY=MO"),
        (
            (
                "WKST=SU;BYSETPOS=-1,1;BYDAY=-1FR,FR,2MO;BYMONTHDAY=-1,+1;BYMONTH=12,1;COUNT=003;"
                "INTERVAL=02;FREQ=YEARLY"
            ),
            (
                "FREQ=YEARLY;INTERVAL=2;COUNT=3;BYMONTH=1,12;BYMONTHDAY=1,-1;BYDAY=FR,2MO,-1FR;"
                "BYSETPOS=1,-1;WKST=SU"
            ),
        ),
        ("FREQ=DAILY;INTERVAL=1;WKST=MO", "FREQ=DAILY"),
        ("FREQ=WEEKLY;BYDAY=SU,MO,SU", "FREQ=WEEKLY;BYDAY=MO,SU"),
        ("FREQ=DAILY;UNTIL=02030405", "FREQ=DAILY;UNTIL=02030405"),
    ],
    ids=["case", "order", "what goes unsaid", "repetitions", "until"],
)
def test_text_is_canonical(text: str, canonical: str) -> None:
    assert str(Rule.parse(text)) == canonical
    assert Rule.parse(canonical) == Rule.parse(text)


class Case(NamedTuple):
    """A rule that ends or has ten days before the horizon."""

    text: str
    start: date
    days: list[date]


def random_text(random: Random) -> str:
    """A rule that RFC 5545 allows, but it may be refused here, or mean no day."""

    def some(values: list[Any], most: int) -> str:
        return ",".join(map(str, random.sample(values, random.randint(1, most))))

    weekdays = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
    freq = random.choice(list(Frequency))
    in_months = freq in {Frequency.MONTHLY, Frequency.YEARLY}
    parts = {"FREQ": str(freq)}
    if random.random() < 0.5:
        parts["INTERVAL"] = str(random.choice([2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 18, 24]))
    if random.random() < 0.35:
        parts["BYMONTH"] = some(list(range(1, 13)), 4)
    if freq != Frequency.WEEKLY and random.random() < 0.4:
        parts["BYMONTHDAY"] = some([*range(1, 32), *range(-31, 0)], 6)
    if random.random() < 0.5:
        most = 5 if freq == Frequency.MONTHLY or "BYMONTH" in parts else 53
        numbers = ["", "", "1", "2", "-1", "-2", str(random.randint(-most, most) or 1)]
        days = random.sample(weekdays, random.randint(1, 5))
        parts["BYDAY"] = ",".join(
            random.choice(numbers) + day if in_months else day for day in days
        )
    if in_months and random.random() < 0.3:
        parts["BYSETPOS"] = some([1, 2, 3, 5, 10, -1, -2, -3, -10], 2)
    if random.random() < 0.3:
        parts["WKST"] = random.choice(weekdays)
    if random.random() < 0.2:
        parts["COUNT"] = str(random.randint(1, DAYS))
    elif random.random() < 0.2:
        until = date(2026, 1, 1) + timedelta(days=random.randint(0, 9_000))
        parts["UNTIL"] = until.strftime("%Y%m%d")
    return ";".join(f"{name}={value}" for name, value in parts.items())


def random_case(random: Random) -> Case:
    """Of every ten texts some eight are cases."""
    while True:
        text = random_text(random)
        start = date(2026, 1, 1) + timedelta(days=random.randint(0, 5_000))
        try:
            rule = Rule.parse(text)
            rule.validate(start)
        except RuleError:
            continue
        days = first_days(rule, start)
        if days[-1] - start < HORIZON:
            return Case(text, start, days)


def is_read_by_dateutil(rule: Rule) -> bool:
    """Not weekdays with and without numbers: python-dateutil wants a day to be both."""
    return len({bool(day.ordinal) for day in rule.by_day}) < 2


def is_read_by_rrule_temporal(rule: Rule) -> bool:
    """Not some numbers in years: it has a 53rd weekday in each, and drops days without a number."""
    return (
        rule.freq != Frequency.YEARLY
        or bool(rule.by_month)
        or (is_read_by_dateutil(rule) and all(abs(day.ordinal) < 53 for day in rule.by_day))
    )


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_days_are_those_of_dateutil(random: Random) -> None:
    text, start, days = random_case(random)
    if is_read_by_dateutil(Rule.parse(text)):
        series = rrulestr(text, dtstart=datetime.combine(start, datetime.min.time()))
        assert days == [day.date() for day in islice(series, len(days))], (text, start)


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_after_any_day_is_the_first_of_the_days_beyond_it(random: Random) -> None:
    text, start, days = random_case(random)
    rule = Rule.parse(text)
    day = start + timedelta(days=random.randint(-10, 4_000))

    beyond = next((each for each in rule.days(start) if each > day), None)

    assert rule.after(start, day) == beyond
    assert rule.after(start, days[-1]) == next(islice(rule.days(start), len(days), None), None)


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_weekdays_with_and_without_numbers_add_up(random: Random) -> None:
    """What neither of the others reads in years."""
    rule = replace(Rule.parse(random_case(random).text), count=None, until=None, by_set_pos=())
    start = date(2026, 1, 1) + timedelta(days=random.randint(0, 5_000))
    end = start + timedelta(days=4_000)

    def days(*weekdays: Weekday) -> set[date]:
        return set(takewhile(end.__ge__, replace(rule, by_day=weekdays).days(start)))

    if rule.by_day:
        each = (days(weekday) for weekday in rule.by_day)
        assert days(*rule.by_day) == set().union(*each)


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_text_of_a_rule_is_that_rule(random: Random) -> None:
    text, start, days = random_case(random)
    rule = Rule.parse(text)

    assert Rule.parse(str(rule)) == rule
    assert Rule.parse(text.lower()) == rule
    assert first_days(Rule.parse(str(rule)), start) == days


@given(st.text(alphabet="FREQ=DAILYWEKMONTHBU;,-+0123456789 :\n\u0663\u017f"))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    with suppress(RuleError):
        assert str(Rule.parse(text)).startswith("FREQ=")


@pytest.mark.node("tests/rrule_temporal")
def test_days_are_those_of_rrule_temporal() -> None:
    """Thousands of rules by one process: another code in another language."""
    random = Random(5545)
    drawn = (random_case(random) for _ in iter(int, 1))
    cases = list(
        islice((c for c in drawn if is_read_by_rrule_temporal(Rule.parse(c.text))), NODE_RULES)
    )
    asked = [
        {"rule": case.text, "start": case.start.isoformat(), "number": len(case.days)}
        for case in cases
    ]

    run = subprocess.run(
        ["node", "days.mjs"],
        cwd=NODE_FOLDER,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
    )

    assert run.returncode == 0, run.stderr
    differ = [
        (case.text, case.start.isoformat(), [day.isoformat() for day in case.days], theirs)
        for case, theirs in zip(cases, json.loads(run.stdout), strict=True)
        if theirs != [day.isoformat() for day in case.days]
    ]
    assert differ == []


def lines_of(work: Any) -> int:
    """How many lines of the modules `work` runs: the same on each machine, unlike time."""
    files = {recurrence.__file__, year_bits.__file__}
    lines = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


EVERY_DAY_TWICE = ",".join(map(str, [*range(1, 32), *range(-31, 0)]))
ADVERSARIAL = [
    (
        f"FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYMONTHDAY={EVERY_DAY_TWICE};"
        f"BYSETPOS={','.join(map(str, range(100, 150)))}"
    ),
    "FREQ=DAILY;INTERVAL=7;BYDAY=FR",
    "FREQ=DAILY;INTERVAL=999;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=DAILY;INTERVAL=773;BYMONTH=1;BYMONTHDAY=1;BYDAY=MO",
    "FREQ=DAILY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29,-31;BYDAY=MO,TU,WE,TH,FR,SA,SU;COUNT=999",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=WEEKLY;INTERVAL=999;COUNT=999",
    "FREQ=WEEKLY;INTERVAL=52;BYMONTH=2;BYDAY=MO,TU,WE,TH,FR,SA,SU;COUNT=999",
    "FREQ=MONTHLY;BYDAY=5MO;BYSETPOS=2",
    "FREQ=MONTHLY;INTERVAL=12;BYMONTH=1,2,3,4,5,6,7,8,9,10,12;COUNT=999",
    "FREQ=MONTHLY;INTERVAL=5;BYMONTHDAY=29,-3,-2;BYDAY=MO;BYSETPOS=3;COUNT=999",
    "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=29;BYMONTH=2;BYDAY=MO;COUNT=999",
    f"FREQ=MONTHLY;BYDAY={','.join(f'{n}MO' for n in range(6, 54))};BYSETPOS=1",
    "FREQ=YEARLY;INTERVAL=4;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=366",
    "FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=3;BYSETPOS=3",
    "FREQ=YEARLY;INTERVAL=999",
]


@pytest.mark.parametrize("text", ADVERSARIAL, ids=range(len(ADVERSARIAL)))
def test_work_is_bounded(text: str) -> None:
    rule = Rule.parse(text)

    def validate() -> None:
        with suppress(RuleError):
            rule.validate(THURSDAY)

    assert lines_of(validate) < LINES_OF_VALIDATION_MAX
    assert lines_of(lambda: rule.after(THURSDAY, THURSDAY)) < LINES_MAX
    assert lines_of(lambda: rule.after(THURSDAY, date(9990, 1, 1))) < LINES_MAX


def test_work_does_not_grow_with_the_age_of_a_series() -> None:
    rule = Rule.parse("FREQ=DAILY")

    assert lines_of(lambda: rule.after(date(1900, 1, 1), THURSDAY)) < 200
    assert rule.after(date(1900, 1, 1), THURSDAY) == date(2026, 11, 27)


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_work_is_bounded_for_any_rule(random: Random) -> None:
    text = random_text(random)
    interval = f"INTERVAL={random.randint(1, 999)}"
    start = date(2026, 1, 1) + timedelta(days=random.randint(0, 5_000))
    try:
        rule = Rule.parse(
            ";".join([*(p for p in text.split(";") if "INTERVAL" not in p), interval])
        )
    except RuleError:
        return

    assert lines_of(lambda: rule.after(start, THURSDAY)) < LINES_MAX
    assert lines_of(lambda: rule.after(start, date(9000, 1, 1))) < LINES_MAX
