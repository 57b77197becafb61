"""A device's copy of what a person has, kept by the feed of their changes alone [F1] [F2]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Name = tuple[str, str]  # kind and id


@dataclass
class Copy:
    """What is there, as far as the pages tell that were handed in, each in its turn.

    Whoever reads them sends `since`, and limits as they like.
    """

    things: dict[Name, Mapping[str, Any]] = field(default_factory=dict)
    versions: dict[Name, int] = field(default_factory=dict)  # of what is deleted as well
    since: str | None = None
    has_all: bool = False  # that was there when the last page was read

    def take(self, changes: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> None:
        """Takes a page over. Asserts that no version goes back."""
        for change in changes:
            self._take(change)
        self.since = meta["next_since"]
        self.has_all = not meta["has_more"]

    def start_anew(self) -> None:
        """After 410: the position leads nowhere."""
        self.things.clear()
        self.since = None
        self.has_all = False

    def _take(self, change: Mapping[str, Any]) -> None:
        name, resource = (change["type"], change["id"]), change["resource"]
        assert change["version"] >= self.versions.get(name, 0), change
        self.versions[name] = change["version"]
        assert change["deleted"] is (resource is None)
        if resource is None:
            self.things.pop(name, None)
        else:
            assert (resource["id"], resource["version"]) == (change["id"], change["version"])
            self.things[name] = resource
