"""The code blocks of documents: which there are, and what the shell ones promise to print.

A shell block is a list of steps. A step is some lines of shell with, below them and behind `#`,
what they print; without such lines nothing is promised but that they succeed. What is promised is
compared by one rule:

- White space counts for nothing, because documents break lines to be read.
- `…` stands for anything, and for nothing.
- An id (a UUID) stands for one id, the same wherever the document has it again, and two for two.
- A time stands for a time, and the number of a `"version"` for a number.
- All else stands for itself.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
_VERSION = r'(?<="version":)\d+'
_VARIES = re.compile(f"(?P<anything>…)|(?P<id>{_UUID})|(?P<time>{_TIME})|(?P<version>{_VERSION})")


class Block(NamedTuple):
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def blocks_of(document: str) -> list[Block]:
    return [Block(*found) for found in _FENCED.findall(document)]


def words_of(document: str) -> list[str]:
    """What stands in backquotes in its sentences and tables."""
    return re.findall(r"`([^`\n]+)`", _FENCED.sub("", document))


class Step(NamedTuple):
    commands: str
    promised: str | None


def steps_of(block: str) -> Iterator[Step]:
    """Of a shell block, in its order."""
    for commands, promised in re.findall(r"((?:^(?!#).*\n)+)((?:^#.*\n)*)", block, re.MULTILINE):
        yield Step(commands, re.sub("^#", "", promised, flags=re.MULTILINE) or None)


@dataclass
class Promises:
    """What a document promises from its first step on, and which ids of the server's it means."""

    ids: dict[str, str] = field(default_factory=dict)

    def assert_kept(self, step: Step, printed: str) -> None:
        """Raises AssertionError where `printed` isn't what the step promises."""
        if step.promised is None:
            return
        found = re.fullmatch(self._pattern(_packed(step.promised)), _packed(printed), re.DOTALL)
        assert found, f"{step.commands}promises\n{step.promised}and prints\n{printed}"
        for name, value in found.groupdict().items():
            self.ids[_id_of(name)] = value
        assert len(set(self.ids.values())) == len(self.ids), f"{step.commands}mixes ids up"

    def _pattern(self, promised: str) -> str:
        parts, end, new_ids = [], 0, set()
        for varies in _VARIES.finditer(promised):
            parts.append(re.escape(promised[end : varies.start()]))
            end = varies.end()
            match varies.lastgroup, varies[0]:
                case "id", name if name in self.ids:
                    parts.append(re.escape(self.ids[name]))
                case "id", name if name in new_ids:
                    parts.append(f"(?P={_group_of(name)})")
                case "id", name:
                    new_ids.add(name)
                    parts.append(f"(?P<{_group_of(name)}>{_UUID})")
                case "time", _:
                    parts.append(_TIME)
                case "version", _:
                    parts.append(r"\d+")
                case _:
                    parts.append(".*")
        return "".join([*parts, re.escape(promised[end:])])


def _packed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _group_of(name: str) -> str:
    return f"id_{name.replace('-', '_')}"


def _id_of(group: str) -> str:
    return group.removeprefix("id_").replace("_", "-")


def is_quoted_from(quote: str, source: str) -> bool:
    """Whether a file has the lines of a quotation, in their order; `…` alone on one is a gap."""
    rest = [line.strip() for line in source.splitlines()]
    for part in re.split(r"^\s*(?:#|//) …$\n?", quote, flags=re.MULTILINE):
        wanted = [line.strip() for line in part.splitlines() if line.strip()]
        place = _place_of(wanted, rest)
        if place is None:
            return False
        rest = rest[place + len(wanted) :]
    return True


def _place_of(wanted: Sequence[str], lines: Sequence[str]) -> int | None:
    for place in range(len(lines) - len(wanted) + 1):
        if list(lines[place : place + len(wanted)]) == list(wanted):
            return place
    return None
