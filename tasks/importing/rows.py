"""What a file holds, whatever its format: rows of lists and tasks, and what else stands there.

What reads a format gives rows; plan.py makes operations of them. Each row is told of in the report.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError

from tasks.models import DESCRIPTION_MAX_CHARACTERS, LIST_NAME_MAX_CHARACTERS, TITLE_MAX_CHARACTERS
from todo_project.text import NO_LINE, WORDS_MAX, read_word

# Of a text that the report quotes.
_QUOTE_MAX_CHARACTERS = 60
# Longer names of rows are told apart by their hashes; people and programs write shorter ones.
_SOURCE_MAX_CHARACTERS = 255
_WORDS_READ_MAX = 2 * WORDS_MAX  # of one row, whatever becomes of them
_NO_LINE = re.compile(f"[{NO_LINE}]")


class Kind(StrEnum):
    """What a row is. The names of the resources, and of what becomes a part of a task."""

    LIST = "list"
    TASK = "task"
    SECTION = "section"
    COMMENT = "comment"
    OTHER = "other"


class Status(StrEnum):
    """What becomes of a row."""

    CREATED = "created"
    MERGED = "merged"  # what it says stands in another row's task
    SKIPPED = "skipped"  # it is there already, or nothing that could be taken
    FAILED = "failed"  # `errors` say why


@dataclass(slots=True, eq=False)
class Row:
    """One row of a file, and what becomes of it.

    `source` tells it from the file's others of its kind, and is the same whenever the file is sent:
    its id follows from it. `data` is what its own route would take; `past`, what an import alone
    may set. `in_list` and `below` are the sources of its list and of its parent, `rank` is its
    place in the manual order, where that isn't the file's, and `task` what a comment stands below.
    """

    number: int | None
    kind: Kind
    title: str
    source: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    past: dict[str, Any] = field(default_factory=dict)
    in_list: str | None = None
    below: str | None = None
    rank: str = ""
    task: "Row | None" = None
    own_id: UUID | None = None  # in the document of this service
    notes: list[str] = field(default_factory=list)
    status: Status | None = None  # None: it is to be created
    id: UUID | None = None
    errors: Mapping[str, Any] = field(default_factory=dict)
    level: int = 0  # of a task: 1 for one that is nobody's part; 0 while it isn't known

    @property
    def is_made(self) -> bool:
        """Whether it is to be something of the person's: a list or a task."""
        return self.kind in (Kind.LIST, Kind.TASK)

    def skip(self, note: str) -> None:
        self.status = Status.SKIPPED
        self.notes.append(note)

    def fail(self, errors: Mapping[str, Any]) -> None:
        """`errors` as an answer's details have them."""
        self.status, self.id, self.errors = Status.FAILED, None, errors


@dataclass(frozen=True, slots=True)
class Options:
    """What the request says of the file."""

    time_zone: str | None  # where the person is
    list_name: str | None  # where the tasks of a file that names no list shall be


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read. `notes` are of the whole of it."""

    rows: Sequence[Row]
    notes: Sequence[str] = ()


Reader = Callable[[bytes, Options], Document]


def read_text(file: bytes) -> str:
    """Raises ParseError for what is not UTF-8."""
    try:
        return file.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = file.count(b"\n", 0, error.start) + 1
        raise ParseError(
            f"The file is not UTF-8 (line {place}). Save it in UTF-8, and send it again."
        ) from None


class Sources:
    """Names rows that the file gives no id, by what they say and where: the same in any copy.

    Of several that say the same the first is the first. Their number in the file would be another
    one as soon as something is added before them. A name may be a part of others: it stays short.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, ...]] = Counter()

    def name(self, *parts: str) -> str:
        self._seen[parts] += 1
        text = "\x1f".join([*parts, str(self._seen[parts])])
        return sha256(text.encode()).hexdigest()


def short(source: str) -> str:
    """A name that the file itself gives, as rows have it: of thousands it may be list or parent."""
    is_short = len(source) <= _SOURCE_MAX_CHARACTERS
    return source if is_short else sha256(source.encode()).hexdigest()


def check_count(rows: int) -> None:
    """Raises ValidationError for more than one request can take."""
    most = settings.IMPORT_ROWS_MAX
    if rows > most:
        message = f"The file has more than {most:,} rows. Send it in several parts."
        raise ValidationError([ErrorDetail(message, code="max_length")])


def quote(text: str) -> str:
    """A text within a note, on one line."""
    line = _NO_LINE.sub(" ", text[: 2 * _QUOTE_MAX_CHARACTERS]).strip()
    if len(line) > _QUOTE_MAX_CHARACTERS:
        line = f"{line[: _QUOTE_MAX_CHARACTERS - 1]}…"
    return f"“{line}”"


def shown(text: object) -> str:
    """A title as the report has it, whatever stands there."""
    return text[:TITLE_MAX_CHARACTERS] if isinstance(text, str) else ""


def set_title(row: Row, text: str) -> None:
    """Sets a task's title. What is no line, or too long for one, opens the description whole."""
    line = _line(text, TITLE_MAX_CHARACTERS)
    row.title = row.data["title"] = line
    if line != text.strip():
        row.data["description"] = joined(text.strip(), row.data.get("description"))
        row.notes.append("The title is no single line of 255 characters: the rest is below it.")


def set_name(row: Row, text: str) -> None:
    """Sets a list's name."""
    name = _line(text, LIST_NAME_MAX_CHARACTERS)
    row.title = row.data["name"] = name
    if name != text.strip():
        row.notes.append("The name is no single line of 150 characters, and was cut.")


def joined(*texts: str | None) -> str | None:
    """Texts below each other, as a description has them."""
    return "\n\n".join(text for text in texts if text) or None


def add_to_description(row: Row, text: str) -> bool:
    """Puts a text below what the description has; False where there is no room for it."""
    description: str | None = row.data.get("description")
    # Looked at first: to join what is far too long, once for each thing below it, takes long.
    if len(description or "") + len(text) > DESCRIPTION_MAX_CHARACTERS:
        return False
    description = joined(description, text)
    if description is not None and len(description) > DESCRIPTION_MAX_CHARACTERS:
        return False
    row.data["description"] = description
    return True


def keep_text(row: Row, name: str, text: str, why: str = "isn't understood") -> None:
    """Keeps what no field can have: in the description, and says so."""
    has_room = add_to_description(row, f"{name}: {text}")
    place = "it stands in the description" if has_room else "it was left out"
    row.notes.append(f"{name} {quote(text)} {why}: {place}.")


def add_labels(row: Row, words: Iterable[str]) -> None:
    """Adds what can be labels; of the others it says that they aren't taken."""
    labels: list[str] = row.data.setdefault("labels", [])
    for count, word in enumerate(words):
        if count == _WORDS_READ_MAX:
            row.notes.append("Further labels were left out.")
            return
        label = as_label(word)
        if label is None or (len(labels) >= WORDS_MAX and label not in labels):
            row.notes.append(f"{quote(word)} can't be a label here, and was left out.")
        elif label not in labels:
            labels.append(label)


def as_label(word: str) -> str | None:
    """A word as labels are kept; None for what can be none."""
    try:
        return read_word(word)
    except DjangoValidationError:
        return None


def _line(text: str, most: int) -> str:
    line = text.strip()
    if _NO_LINE.search(line):
        first = next((part.strip() for part in line.splitlines() if part.strip()), "")
        line = _NO_LINE.sub(" ", first).strip()
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"
