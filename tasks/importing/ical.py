"""VTODOs of iCalendar files (RFC 5545), as Tasks.org, Nextcloud, Thunderbird and others write them.

icalendar unfolds lines and reads their parts. Components are put together here, and values read:
its own parser takes 50 microseconds a line, of alarms and events as well, and keeps VTIMEZONEs in a
cache of the process, where one person's would be another's.

The shapes are those of niccokunzmann/python-recurring-ical-events
(`test/calendars/issue-97-simple-todo.ics`, `issue-86-x-wr-timezone-without-time-zone-in-dt.ics`)
and of go-vikunja/vikunja (`pkg/caldav/parsing_test.go`), which has what Tasks.org sends.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from icalendar.parser import Contentline, Contentlines
from icalendar.parser.property import split_on_unescaped_comma, unescape_backslash
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError

from tasks.days import ZONES, due_at, in_zone
from tasks.recurrence import Rule, RuleError

from .rows import (
    Document,
    Kind,
    Options,
    Row,
    Sources,
    add_labels,
    add_to_description,
    check_count,
    keep_text,
    quote,
    read_text,
    set_name,
    set_title,
    short,
    shown,
)

# 50 lines for each task that a file may have.
LINES_MAX = 250_000
# Of one component. What stands beyond is no task that somebody wrote.
_PROPERTIES_MAX = 200
_PARAMETERS_MAX_CHARACTERS = 1000  # of one property: to read them takes long
_CATEGORIES_MAX_CHARACTERS = 10_000  # likewise
_TIME = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")
_NAME = re.compile(r"[A-Za-z0-9-]+")

# Components that are told of, and not taken.
_OTHERS = frozenset({"VEVENT", "VJOURNAL", "VFREEBUSY"})
# Properties that say nothing to people.
_SILENT = frozenset({"DTSTAMP", "LAST-MODIFIED", "SEQUENCE", "CLASS", "TRANSP"})
_TEXTS = {"LOCATION": "Location", "URL": "", "COMMENT": "Comment", "CONTACT": "Contact"}
_HEADERS = ("X-WR-CALNAME", "NAME", "X-WR-TIMEZONE", "PRODID")
_TAKEN = frozenset(
    {
        *("UID", "SUMMARY", "DESCRIPTION", "DUE", "DTSTART", "PRIORITY", "CATEGORIES", "STATUS"),
        *("COMPLETED", "PERCENT-COMPLETE", "RELATED-TO", "RRULE", "RECURRENCE-ID", "CREATED"),
        *_TEXTS,
    }
)
# RFC 5545, section 3.8.1.9: 0 is none, 1 the most urgent. Those of the API are 0, 9, 5, 3 and 1.
_PRIORITIES = ("none", "urgent", "high", "high", "high", "medium", "low", "low", "low", "low")
# Tasks.org tells by a second that a day has a time.
_TASKS_ORG = "tasks.org"


def read(file: bytes, options: Options) -> Document:
    """Raises ParseError for what is no calendar, and ValidationError for one that is too long."""
    text = read_text(file)
    if text.count("\n") > LINES_MAX:
        message = f"The file has more than {LINES_MAX:,} lines. Send it in several parts."
        raise ValidationError([ErrorDetail(message, code="max_length")])
    if not text.strip():
        raise _no_calendar()
    calendar = _Calendar()
    calendar.read(Contentlines.from_ical(text))  # type: ignore[no-untyped-call]
    return Document(_Reader(calendar.texts, options).rows(calendar.components))


class _Property(NamedTuple):
    """One line of a component."""

    name: str
    parameters: Mapping[str, object]
    raw: str  # the value, as it stands there
    value: str  # as a text

    def parameter(self, name: str) -> str:
        found = self.parameters.get(name, "")
        return found if isinstance(found, str) else ""


@dataclass(slots=True)
class _Component:
    """A component of a calendar. Of VTODOs the properties, and which components are inside."""

    name: str
    properties: dict[str, list[_Property]] = field(default_factory=lambda: defaultdict(list))
    inside: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: Contentline) -> None:
        match = _NAME.match(line)
        name = match[0].upper() if match else ""
        self.count += 1
        if self.count > _PROPERTIES_MAX:
            return
        try:
            if line.value_separator_index() > _PARAMETERS_MAX_CHARACTERS:
                raise ValueError  # noqa: TRY301  # one way out
            _, parameters, raw = line.raw_parts()
        except ValueError:
            self.broken.append(name or quote(line))
        else:
            found = _Property(name, parameters, raw, unescape_backslash(raw))
            self.properties[name].append(found)

    def first(self, name: str) -> _Property | None:
        found = self.properties.get(name)
        return found[0] if found else None

    def text(self, name: str) -> str:
        found = self.first(name)
        return "" if found is None else found.value.strip()


class _Calendar:
    """Puts lines together: components that are told of, and what VCALENDARs say by themselves."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.components: list[_Component] = []
        self._stack: list[str] = []  # of what has begun
        self._component: _Component | None = None
        self._depth = 0  # at which it stands

    def read(self, lines: Sequence[Contentline]) -> None:
        """Raises ParseError for what isn't whole calendars, one behind the other."""
        for line in lines:
            start = line[:6].upper()
            if start == "BEGIN:":
                self._begin(line[6:].strip().upper())
            elif start.startswith("END:"):
                self._end(line[4:].strip().upper())
            elif line.strip():
                self._add(line)
        if self._stack:
            raise ParseError(f"The calendar is broken: {self._stack[-1]} doesn't end.")

    def _begin(self, name: str) -> None:
        if not self._stack and name != "VCALENDAR":
            raise _no_calendar()
        self._stack.append(name)
        if self._component is not None:
            self._component.inside.add(name)
        elif name == "VTODO" or name in _OTHERS:
            self._component, self._depth = _Component(name), len(self._stack)

    def _end(self, name: str) -> None:
        if not self._stack:
            raise _no_calendar()
        if self._stack.pop() != name:
            raise ParseError(f"The calendar is broken: {quote(name)} ends, and has not begun.")
        if self._component is not None and len(self._stack) < self._depth:
            self.components.append(self._component)
            self._component = None

    def _add(self, line: Contentline) -> None:
        if not self._stack:
            raise _no_calendar()
        component = self._component
        if component is not None:
            # Of those that aren't taken the report has the title.
            is_wanted = component.name == "VTODO" or line[:7].upper() == "SUMMARY"
            if is_wanted and len(self._stack) == self._depth:
                component.add(line)
        elif self._stack == ["VCALENDAR"] and line.upper().startswith(_HEADERS):
            with suppress(ValueError):
                name, _, value = line.parts()
                self.texts.setdefault(name.upper(), value.strip())


def _no_calendar() -> ParseError:
    return ParseError("The file is no calendar: it doesn't begin with BEGIN:VCALENDAR.")


class _Reader:
    """Makes rows of the components of a calendar."""

    def __init__(self, texts: Mapping[str, str], options: Options) -> None:
        self._sources = Sources()
        self._rows: list[Row] = []
        self._by_uid: dict[str, Row] = {}
        self._children: list[tuple[str, str]] = []
        own_zone = texts.get("X-WR-TIMEZONE", "")
        self._here = options.time_zone or (own_zone if own_zone in ZONES else "UTC")
        self._is_of_tasks_org = _TASKS_ORG in texts.get("PRODID", "")
        self._list: Row | None = None
        name = options.list_name or texts.get("X-WR-CALNAME") or texts.get("NAME")
        if name:
            self._list = Row(None, Kind.LIST, "", source=short(name))
            set_name(self._list, name)
            self._rows.append(self._list)

    def rows(self, components: Sequence[_Component]) -> Sequence[Row]:
        check_count(len(components) + len(self._rows))
        for number, component in enumerate(components, start=1):
            self._rows.append(self._row(number, component))
        for parent, child in self._children:  # said by the parent
            row = self._by_uid.get(child)
            if row is not None and row.below is None:
                row.below = parent
        return self._rows

    def _row(self, number: int, component: _Component) -> Row:
        if component.name != "VTODO":
            row = Row(number, Kind.OTHER, shown(component.text("SUMMARY")))
            row.skip(f"A {component.name} is no task.")
            return row
        row = Row(number, Kind.TASK, shown(component.text("SUMMARY")))
        row.in_list = None if self._list is None else self._list.source
        uid = short(component.text("UID"))
        row.source = uid or self._sources.name(row.in_list or "", component.text("SUMMARY"))
        if component.first("RECURRENCE-ID") is not None:
            row.skip("One occurrence of a series, changed by itself: the series is taken, not it.")
            return row
        if uid:
            self._by_uid.setdefault(uid, row)
        self._read_texts(row, component)
        self._read_state(row, component)
        self._read_days(row, component)
        self._read_rule(row, component)
        self._read_relations(row, component, uid)
        _note_rest(row, component)
        return row

    def _read_texts(self, row: Row, component: _Component) -> None:
        row.data["description"] = component.text("DESCRIPTION") or None
        set_title(row, component.text("SUMMARY"))
        for name, label in _TEXTS.items():
            for found in component.properties.get(name, ()):
                text = found.value.strip()
                if text and not add_to_description(row, f"{label}: {text}" if label else text):
                    row.notes.append(f"{name} was left out: the description has no room for it.")
        words = [
            word
            for found in component.properties.get("CATEGORIES", ())
            for word in split_on_unescaped_comma(found.raw[:_CATEGORIES_MAX_CHARACTERS])
            if word.strip()
        ]
        add_labels(row, words)
        text = component.text("PRIORITY")
        if text.isascii() and text.isdigit() and int(text[:3]) < len(_PRIORITIES):
            row.data["priority"] = _PRIORITIES[int(text[:3])]
        elif text:
            row.notes.append(f"PRIORITY {quote(text)} is none of 0 to 9.")

    def _read_state(self, row: Row, component: _Component) -> None:
        status = component.text("STATUS").upper()
        percent = component.text("PERCENT-COMPLETE")
        completed = self._instant(row, component, "COMPLETED")
        row.past = {"created_at": self._instant(row, component, "CREATED")}
        # Clients that reopen a task leave 100 % behind.
        is_completed = status in ("COMPLETED", "CANCELLED") or (
            not status and (completed is not None or percent == "100")
        )
        row.data["is_completed"] = is_completed
        if is_completed:
            row.past["completed_at"] = completed
        if status == "CANCELLED":
            row.notes.append("It is cancelled there, and completed here.")
        if percent not in ("", "0", "100") and not is_completed:
            row.notes.append(f"That {quote(percent)} % of it are done isn't taken.")

    def _read_days(self, row: Row, component: _Component) -> None:
        due, start = (self._moment(row, component.first(name)) for name in ("DUE", "DTSTART"))
        if due is None and start is not None and component.first("RRULE") is not None:
            due, start = start, None
            row.notes.append("It has no DUE: the day of its DTSTART was taken for it.")
        if due is not None:
            row.data["due_on"] = due.on.isoformat()
            if due.at is not None:
                timespec = "minutes" if due.at.second == 0 else "seconds"
                row.data["due_time"] = due.at.isoformat(timespec)
                row.data["time_zone"] = due.zone
        if start is None:
            return
        if due is not None and start.on > due.on:
            row.notes.append(f"It starts after it is due: {start.on.isoformat()} was left out.")
            return
        row.data["start_on"] = start.on.isoformat()
        if start.at not in (None, time()):
            row.notes.append("The time of its start isn't taken: a start has a day alone.")

    def _read_rule(self, row: Row, component: _Component) -> None:
        rules = component.properties.get("RRULE", [])
        for further in rules[1:]:
            keep_text(row, "RRULE", further.raw)
        if not rules:
            return
        text = rules[0].raw.strip()
        due_on = row.data.get("due_on")
        try:
            if due_on is None:
                raise RuleError("RRULE", "It has no day.")  # noqa: TRY301  # one way out
            rule = Rule.parse(self._with_day_of_end(text, component))
            rule.validate(date.fromisoformat(due_on))
        except RuleError:
            keep_text(row, "RRULE", text)
        else:
            row.data["recurrence"] = str(rule)

    def _with_day_of_end(self, rule: str, component: _Component) -> str:
        """UNTIL as the last day that may be one of the rule, by the clock that it goes by."""
        first, *others = (
            self._read_moment(found.raw.strip(), found.parameter("TZID"))
            for name in ("DTSTART", "DUE")
            if (found := component.first(name)) is not None
        )
        is_of_one_day = all(first and other and first.on == other.on for other in others)

        def day(match: re.Match[str]) -> str:
            end = self._read_moment(match[1], "", first.zone if first else None)
            if end is None:
                return match[0]
            last, begin = end.on, first.at if first and is_of_one_day else None
            if begin and end.at and end.at < begin and last > date.min:
                last -= timedelta(days=1)  # that day's own would begin after the end
            return f"UNTIL={last:%Y%m%d}"

        return re.sub(r"\bUNTIL=(\d{8}T\d{6}Z?)", day, rule, flags=re.IGNORECASE)

    def _read_relations(self, row: Row, component: _Component, uid: str) -> None:
        for found in component.properties.get("RELATED-TO", ()):
            kind = found.parameter("RELTYPE").upper() or "PARENT"
            other = found.value.strip()
            if kind == "PARENT" and row.below is None:
                row.below = short(other)
            elif kind == "CHILD" and uid:
                self._children.append((uid, short(other)))
            else:
                row.notes.append(f"That it is related to {quote(other)} ({kind}) isn't taken.")

    def _moment(self, row: Row, found: _Property | None) -> "_Moment | None":
        if found is None:
            return None
        zone = found.parameter("TZID")
        moment = self._read_moment(found.raw.strip(), zone)
        if moment is None:
            row.notes.append(f"{found.name} {quote(found.raw)} is no time, and was left out.")
        elif zone and moment.zone is None and moment.at is not None:
            row.notes.append(f"The zone {quote(zone)} isn't known: its time is that of any clock.")
        return moment

    def _read_moment(self, text: str, zone: str, here: str | None = None) -> "_Moment | None":
        """`here` is where an instant is read; else where the person is."""
        match = _TIME.fullmatch(text)
        if match is None:
            return None
        try:
            on = date.fromisoformat(match[1])
            if match[2] is None:
                return _Moment(on)
            at = time.fromisoformat(match[2])
        except ValueError:
            return None
        if match[3]:
            here = here or self._here
            local = in_zone(here, datetime.combine(on, at, UTC))
            return None if local is None else _Moment(local.date(), local.time(), here)
        if self._is_of_tasks_org and at.second == 1:
            at = at.replace(second=0)
        return _Moment(on, at, _known_zone(zone))

    def _instant(self, row: Row, component: _Component, name: str) -> datetime | None:
        """A time that has to be of UTC. Nextcloud leaves the Z out."""
        found = component.first(name)
        if found is None:
            return None
        match = _TIME.fullmatch(found.raw.strip())
        if match is not None and match[2] is not None:
            with suppress(ValueError):
                on, at = date.fromisoformat(match[1]), time.fromisoformat(match[2])
                return due_at(on, at, "UTC")
        row.notes.append(f"{name} {quote(found.raw)} is no time, and was left out.")
        return None


class _Moment(NamedTuple):
    """A day; with the time on the clock, and the zone of that, where they are said."""

    on: date
    at: time | None = None
    zone: str | None = None


def _known_zone(name: str) -> str | None:
    """The IANA's name of a zone: Outlook has those of Windows, others a path before it."""
    name = WINDOWS_TO_OLSON.get(name, name).strip("/")
    parts = name.split("/")
    for start in range(len(parts)):
        candidate = "/".join(parts[start:])
        if candidate in ZONES:
            return candidate
    return None


def _note_rest(row: Row, component: _Component) -> None:
    others = [
        name
        for name in component.properties
        if name not in _TAKEN and name not in _SILENT and not name.startswith("X-")
    ]
    if others:
        row.notes.append(f"Not taken: {', '.join(others)}.")
    if "VALARM" in component.inside:
        row.notes.append("Its reminders aren't taken.")
    if component.broken:
        row.notes.append(f"Lines that can't be read: {', '.join(component.broken)}.")
    if component.count > _PROPERTIES_MAX:
        row.notes.append(f"It has more than {_PROPERTIES_MAX} lines: the others weren't read.")
