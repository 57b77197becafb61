"""Todoist's CSV: one project for each file, as its backups and "Export as template" have them.

The shape is that of bboc/todoist-converter (`test-data/full-todoist-project.csv`,
`unicode-and-quotes.csv`, `basic-test.csv`), the columns and their meaning those of Todoist's own
page: https://todoist.com/help/articles/format-a-csv-file-to-import-into-todoist-UVUXTmm6
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from rest_framework.exceptions import ParseError

from tasks.days import ZONES, today
from todo_project.text import WORDS_MAX

from .human_dates import HumanDate, read_date
from .rows import (
    Document,
    Kind,
    Options,
    Row,
    Sources,
    Status,
    add_labels,
    add_to_description,
    as_label,
    check_count,
    keep_text,
    quote,
    read_text,
    set_name,
    set_title,
    shown,
)

# Those that are read, or say nothing that somebody could miss.
_COLUMNS = frozenset(
    {
        *("TYPE", "CONTENT", "DESCRIPTION", "PRIORITY", "INDENT", "DATE", "DATE_LANG", "TIMEZONE"),
        *("RESPONSIBLE", "DURATION", "DURATION_UNIT", "DEADLINE", "DEADLINE_LANG", "IS_COLLAPSED"),
    }
)
# 1 is p1, the most urgent: the reverse of the API of Todoist.
_PRIORITIES = {"1": "urgent", "2": "high", "3": "medium", "4": "none", "": "none"}
_NOT_TO_BE_TICKED = "* "
_LABEL = re.compile(r"(?<!\S)@([^\s,]+)")
_ATTACHMENT = "[[file "
_ATTACHMENTS_MAX = 20  # of one comment
_CELLS_MAX = 100  # of one row


def read(file: bytes, options: Options) -> Document:
    """Raises ParseError for what is no such file, and ValidationError for one that is too long."""
    lines = _lines(read_text(file))
    header, notes = _header(next(lines, (1, []))[1])
    reader = _Project(options)
    for number, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        reader.read(number, dict(zip(header, cells, strict=False)))
        if any(cell.strip() for cell in cells[len(header) :]):
            reader.rows[-1].notes.append("It has more cells than there are columns.")
        check_count(len(reader.rows))
    return Document(reader.rows, notes)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with their numbers, as a spreadsheet shows them. Raises ParseError."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, cells in enumerate(lines, start=1):
            yield number, cells[:_CELLS_MAX]
    except csv.Error as error:
        raise ParseError(f"The file is no CSV: {error} (line {lines.line_num}).") from None


def _header(cells: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The names of the columns, and what is to be said of them."""
    names = [cell.strip().upper() for cell in cells]
    if not {"TYPE", "CONTENT"} <= set(names):
        raise ParseError("The file is no CSV of Todoist: its first row has no TYPE and CONTENT.")
    others = [name for name in names if name and name not in _COLUMNS]
    return names, [f"Columns that aren't taken: {', '.join(map(quote, others))}."] if others else []


class _Project:
    """Reads row by row: what a row belongs to is said by those above it."""

    def __init__(self, options: Options) -> None:
        self.rows: list[Row] = []
        self._options = options
        self._sources = Sources()
        self._list: Row | None = None
        self._label: str | None = None  # of the section
        # The tasks that the next one may be a part of, with their levels, of which some may lack.
        self._above: list[tuple[int, Row]] = []
        self._task: Row | None = None  # the last one, to which comments belong
        if options.list_name is not None:
            self._list = Row(None, Kind.LIST, "", source=options.list_name)
            set_name(self._list, options.list_name)
            self.rows.append(self._list)

    def read(self, number: int, cells: Mapping[str, str]) -> None:
        content = cells.get("CONTENT", "")
        match cells.get("TYPE", "").strip().lower():
            case "task":
                self._read_task(number, content, cells)
            case "note":
                self._read_comment(number, content)
            case "section":
                self._read_section(number, content)
            case "meta":
                row = Row(number, Kind.OTHER, shown(content))
                row.skip("How Todoist shows the project.")
                self.rows.append(row)
            case other:
                row = Row(number, Kind.OTHER, shown(content))
                row.skip(f"Its TYPE, {quote(other)}, is none of task, note and section.")
                self.rows.append(row)

    def _read_task(self, number: int, content: str, cells: Mapping[str, str]) -> None:
        row = Row(number, Kind.TASK, "")
        self.rows.append(row)
        row.in_list = None if self._list is None else self._list.source
        self._read_place(row, cells.get("INDENT", "").strip(), content)
        row.data["description"] = cells.get("DESCRIPTION", "").strip() or None
        _read_content(row, content)
        if self._label is not None:
            add_labels(row, [self._label])
        _read_priority(row, cells.get("PRIORITY", "").strip())
        _read_due(row, cells, self._options)
        _note_rest(row, cells)
        self._task = row

    def _read_place(self, row: Row, indent: str, content: str) -> None:
        level = int(indent) if re.fullmatch(r"[1-9]\d{0,2}", indent) else 1
        if indent and str(level) != indent:
            row.notes.append(f"Its INDENT, {quote(indent)}, is no level.")
        while self._above and self._above[-1][0] >= level:
            self._above.pop()
        parent = self._above[-1][1] if self._above else None
        row.below = None if parent is None else parent.source
        # By where it stands and what it says, and not by its number, which changes.
        row.source = self._sources.name(row.in_list or "", row.below or "", content)
        self._above.append((level, row))

    def _read_section(self, number: int, content: str) -> None:
        row = Row(number, Kind.SECTION, shown(content))
        self.rows.append(row)
        self._above, self._task = [], None
        # No label has a comma.
        self._label = as_label(content) or as_label(" ".join(content.replace(",", " ").split()))
        if self._label is None:
            row.skip("Its name can't be a label here: its tasks stand without it.")
        else:
            row.status = Status.MERGED
            row.notes.append(f"Its tasks have the label {quote(self._label)}.")

    def _read_comment(self, number: int, content: str) -> None:
        row = Row(number, Kind.COMMENT, shown(content.strip()))
        self.rows.append(row)
        if self._task is None:
            row.skip("There is no task above it: it is a comment on the project or a section.")
            return
        text, attachments = _without_attachments(content)
        if add_to_description(self._task, text):
            row.task = self._task
            row.notes.append("It stands in the description of its task.")
        else:
            row.skip("The description of its task has no room for it.")
        if attachments:
            row.notes.append("What is attached isn't fetched: its address stands there.")


def _read_content(row: Row, content: str) -> None:
    if content.startswith(_NOT_TO_BE_TICKED):
        content = content.removeprefix(_NOT_TO_BE_TICKED)
        row.notes.append("It can't be ticked there, and can be here.")
    found = islice(_LABEL.finditer(content), WORDS_MAX)
    words = [match for match in found if as_label(match[1]) is not None]
    title = content
    for match in reversed(words):
        title = f"{title[: match.start()].rstrip()} {title[match.end() :].lstrip()}"
    if not title.strip():
        title = content  # of labels alone
    add_labels(row, (match[1] for match in words))
    set_title(row, title)


def _read_priority(row: Row, priority: str) -> None:
    row.data["priority"] = _PRIORITIES.get(priority, "none")
    if priority not in _PRIORITIES:
        row.notes.append(f"Its PRIORITY, {quote(priority)}, is none of 1 to 4.")


def _read_due(row: Row, cells: Mapping[str, str], options: Options) -> None:
    """Reads DATE; and DEADLINE, which takes its place where there is none."""
    zone = cells.get("TIMEZONE", "").strip()
    here = options.time_zone or (zone if zone in ZONES else None)
    texts = {name: cells.get(name, "").strip() for name in ("DATE", "DEADLINE")}
    for name, text in texts.items():
        if not text:
            continue
        found = None
        if cells.get(f"{name}_LANG", "").strip().lower() in ("", "en") or text[:4].isdigit():
            found = read_date(text, today(here, datetime.now(UTC)))
        if found is None:
            keep_text(row, name, text)
        elif "due_on" in row.data:
            keep_text(row, name, text, "is a second day, of which a task has one")
        else:
            _set_due(row, text, found, zone)


def _set_due(row: Row, text: str, found: HumanDate, zone: str) -> None:
    row.data["due_on"] = found.on.isoformat()
    if found.at is not None:
        row.data["due_time"] = found.at.isoformat("minutes")
        if zone in ZONES:
            row.data["time_zone"] = zone
        elif zone:
            row.notes.append(f"Its TIMEZONE, {quote(zone)}, isn't known.")
    if found.rule is not None:
        row.data["recurrence"] = found.rule
        row.data["repeat_from"] = "completion" if found.from_completion else "due"
    if found.is_guess:
        row.notes.append(f"{quote(text)} was taken as {row.data['due_on']}: it names no whole day.")


def _note_rest(row: Row, cells: Mapping[str, str]) -> None:
    if responsible := cells.get("RESPONSIBLE", "").strip():
        row.notes.append(f"Who is responsible, {quote(responsible)}, isn't taken.")
    duration = cells.get("DURATION", "").strip()
    if duration and duration != "None":
        unit = cells.get("DURATION_UNIT", "").strip()
        row.notes.append(f"Its duration, {quote(f'{duration} {unit}')}, isn't taken.")


def _without_attachments(text: str) -> tuple[str, int]:
    """A comment with the addresses of what is attached in place of the JSON, and how many are."""
    parts, attachments = [], 0
    decoder = json.JSONDecoder()
    while attachments < _ATTACHMENTS_MAX:
        before, mark, rest = text.partition(_ATTACHMENT)
        if not mark:
            break
        try:
            attachment, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            break
        if not isinstance(attachment, dict) or not rest.startswith("]]", end):
            break
        parts += [before.strip(), _address(attachment) or rest[:end]]
        text = rest[end + len("]]") :]
        attachments += 1
    parts.append(text.strip())
    return "\n".join(part for part in parts if part), attachments


def _address(attachment: Mapping[str, Any]) -> str:
    """Its name and where it is; empty where it says neither."""
    name, url = (attachment.get(key) for key in ("file_name", "file_url"))
    texts = [text for text in (name, url) if isinstance(text, str) and text]
    return ": ".join(texts)
