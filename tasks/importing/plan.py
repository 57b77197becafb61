"""What becomes of a file's rows: their ids, where they stand, and in which order they are made.

Nothing is written here. writing.py does the operations that this gives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import dropwhile
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from rest_framework.exceptions import ErrorDetail, ValidationError

from tasks.days import in_zone
from tasks.fields import TASK
from tasks.lists import LIST
from tasks.models import TASK_LEVELS_MAX
from todo_project.api.errors import error_object
from todo_project.api.views import read_uuid, validated
from todo_project.resources.batch import Operation
from todo_project.resources.resource import Resource
from todo_project.resources.statement import database

from .rows import Document, Kind, Row, Status

_RESOURCES: Mapping[Kind, Resource] = {Kind.LIST: LIST, Kind.TASK: TASK}
# Ids of other rows of the file, in what a row brings along.
_SERIES, _NEXT = "series_id", "next_task_id"

_EXISTING = {
    Kind.LIST: """/* list.import */
        SELECT id, deleted_at IS NOT NULL, NULL, NULL FROM tasks_list
         WHERE user_id = %(user_id)s AND id = ANY(%(ids)s::uuid[])
    """,
    Kind.TASK: """/* task.import */
        SELECT id, deleted_at IS NOT NULL, list_id, series_id FROM tasks_task
         WHERE user_id = %(user_id)s AND id = ANY(%(ids)s::uuid[])
    """,
}


class _Existing(NamedTuple):
    """Something of the person's that is there before the import."""

    id: UUID
    is_trashed: bool
    list_id: UUID | None  # of a task
    series_id: UUID | None  # likewise


@dataclass(frozen=True, slots=True)
class Ids:
    """Which id a row of a file has here: the same whenever the file is sent, another for everybody.

    So that what was imported is found again, and nobody's rows stand in another one's way.
    """

    user_id: UUID
    format: str

    def derived(self, kind: Kind, source: str) -> UUID:
        return uuid5(self.user_id, f"import\x1f{self.format}\x1f{kind}\x1f{source}")


class Plan:
    """The rows of one file, for one person. Takes two queries.

    A row that the person has already, in the trash too, is skipped: nothing is made twice, and what
    was deleted stays deleted. Rows of this service's own document are also found by their own id.
    """

    def __init__(self, document: Document, ids: Ids, time_zone: str | None) -> None:
        self._document = document
        self._ids = ids
        self._zone = time_zone
        self._now = datetime.now(UTC)
        self._rows: dict[tuple[Kind, str], Row] = {}
        self._existing: dict[tuple[Kind, UUID], _Existing] = {}
        self._lists: dict[UUID | None, UUID | None] = {}  # of tasks that are to be made
        self._find_existing()
        made = [row for row in document.rows if row.is_made]
        # Of one name, what can be made has it: an occurrence may stand before its series.
        for row in sorted(made, key=lambda row: row.status is not None):
            self._name(row)
        for row in document.rows:
            if row.kind is Kind.TASK and row.status is None:
                self._settle_level(row)

    def in_order(self) -> Sequence[Row]:
        """Those that are to be made: lists before tasks, and tasks before their subtasks."""
        made = [row for row in self._document.rows if row.is_made and row.status is None]
        return sorted(made, key=lambda row: (row.kind is Kind.TASK, row.level, row.rank))

    def operation(self, row: Row) -> Operation | None:
        """What makes a row, of which those before it have been made; None where it has failed."""
        resource = _RESOURCES[row.kind]
        try:
            places = self._places(row) if row.kind is Kind.TASK else {}
            values = validated(resource.serializer_class, {**row.data, **places})
            values = dict(self._with_past(row, resource, values))
        except ValidationError as error:
            row.fail(error_object(error)["details"])
            return None
        return Operation("create", resource, row.id, values, is_import=True)

    def finish(self) -> None:
        """Says of comments what became of their tasks."""
        for row in self._document.rows:
            if row.task is None:
                continue
            task = row.task.status or Status.FAILED
            row.status = Status.MERGED if task is Status.CREATED else task
            if row.status is not Status.MERGED:
                row.notes = [f"See its task, row {row.task.number}: {task}."]

    # Ids.

    def _find_existing(self) -> None:
        """What the person has of all that the file names."""
        wanted: dict[Kind, set[UUID]] = {kind: set() for kind in _RESOURCES}
        for row in self._document.rows:
            for kind, source in _named(row):
                wanted[kind] |= {*self._candidates(kind, source)}
        for kind, ids in wanted.items():
            if ids:
                values = {"user_id": self._ids.user_id, "ids": list(ids)}
                for found in database().fetch_all(_EXISTING[kind], values):
                    existing = _Existing(*found)
                    self._existing[kind, existing.id] = existing

    def _candidates(self, kind: Kind, source: str) -> Iterator[UUID]:
        """The ids that a source may have here: its own, in the document of this service."""
        if self._ids.format == "todo" and (own_id := read_uuid(source)) is not None:
            yield own_id
        yield self._ids.derived(kind, source)

    def _found(self, kind: Kind, source: str) -> _Existing | None:
        for candidate in self._candidates(kind, source):
            if (found := self._existing.get((kind, candidate))) is not None:
                return found
        return None

    def _name(self, row: Row) -> None:
        key = row.kind, row.source
        if row.status is not None and not row.source:
            return
        twin = self._rows.get(key)
        if twin is not None:
            if row.status is None:
                row.skip(f"It is the same as row {twin.number}.")
            return
        self._rows[key] = row
        found = self._found(*key)
        if found is None:
            row.id = self._ids.derived(*key) if row.status is None else None
        elif row.status is None:
            row.id = found.id
            place = "lies in your trash" if found.is_trashed else "is there"
            row.skip(f"It {place} already.")

    # Places.

    def _settle_level(self, row: Row) -> None:
        """Finds the level of a task, and of those above it. One that is too deep moves up."""
        chain: dict[Row, None] = {}  # in their order, from the lowest on
        here: Row | None = row
        while here is not None and here.level == 0 and here not in chain:
            chain[here] = None
            here = self._parent(here)
        if here is not None and here.level == 0:
            circle = dropwhile(lambda each: each is not here, chain)
            for each in circle:
                each.level = 1
                if each.status is None:
                    each.fail(
                        _details("parent_id", "It is the task itself, or below it.", "circle")
                    )
        for each in reversed(chain):
            if each.level:
                continue
            parent = self._parent(each)
            each.level = 1 if parent is None else parent.level + 1
            if each.level > TASK_LEVELS_MAX:
                assert parent is not None
                each.below, each.level = parent.below, TASK_LEVELS_MAX
                each.notes.append(f"It stands higher: there are {TASK_LEVELS_MAX} levels at most.")

    def _parent(self, row: Row) -> Row | None:
        return None if row.below is None else self._rows.get((Kind.TASK, row.below))

    def _places(self, row: Row) -> Mapping[str, Any]:
        """List and parent of a task. Raises ValidationError where they aren't there."""
        list_id = self._place(row, Kind.LIST, row.in_list, "It comes to the inbox")
        parent_id = self._place(row, Kind.TASK, row.below, "It stands by itself")
        if parent_id is not None:
            list_id = self._list_of(parent_id)
        places = {"list_id": list_id, "parent_id": parent_id}
        return {name: None if place is None else str(place) for name, place in places.items()}

    def _place(self, row: Row, kind: Kind, source: str | None, otherwise: str) -> UUID | None:
        if source is None:
            return None
        found = self._found(kind, source)
        if found is not None:
            if found.is_trashed:
                raise _absent(kind, f"Its {kind} lies in your trash. Restore that before.")
            return found.id
        target = self._rows.get((kind, source))
        # One that is skipped and has an id was made meanwhile, by another import of the file.
        if target is None or (target.status is Status.SKIPPED and target.id is None):
            row.notes.append(f"{otherwise}: its {kind} isn't in the file, or isn't taken.")
            return None
        if target.status is Status.FAILED or target.id is None:
            number = "" if target.number is None else f", row {target.number},"
            raise _absent(kind, f"Its {kind}{number} was not taken.")
        return target.id

    def _list_of(self, parent_id: UUID) -> UUID | None:
        """Subtasks are where their task is, which may have been moved since."""
        existing = self._existing.get((Kind.TASK, parent_id))
        if existing is not None:
            return existing.list_id
        return self._lists[parent_id]

    # The past.

    def _with_past(
        self, row: Row, resource: Resource, values: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        past = {name: value for name, value in row.past.items() if value is not None}
        for name in ("created_at", "completed_at"):
            if name in past and past[name] > self._now:
                row.notes.append(f"{name} lies ahead, and was left out.")
                del past[name]
        if resource is not TASK:
            return {**values, **past}
        self._lists[row.id] = values["list_id"]
        found = {**TASK.with_derived({**values, **past}, {}), **self._series(past)}
        if values.get("is_completed"):
            completed_at = past.get("completed_at", self._now)
            zone = values.get("time_zone") or self._zone or "UTC"
            found["completed_on"] = (in_zone(zone, completed_at) or completed_at).date().isoformat()
        return found

    def _series(self, past: Mapping[str, Any]) -> Mapping[str, Any]:
        """What names other tasks, by the ids that these have here."""
        found: dict[str, UUID | None] = {}
        if _SERIES in past:
            source = str(past[_SERIES])
            found[_SERIES] = self._id_of(source) or self._ids.derived(Kind.TASK, source)
        if _NEXT in past:
            source = str(past[_NEXT])
            existing = self._found(Kind.TASK, source)
            # Reopening takes the next one back for good: of what is there, none but one's own.
            is_own = existing is None or (
                _SERIES in past and existing.series_id in (found[_SERIES], past[_SERIES])
            )
            found[_NEXT] = self._id_of(source) if is_own else None
        return found

    def _id_of(self, source: str) -> UUID | None:
        """Which task here is the one that the file calls so."""
        existing = self._found(Kind.TASK, source)
        if existing is not None:
            return existing.id
        row = self._rows.get((Kind.TASK, source))
        return None if row is None else row.id


def _named(row: Row) -> Iterator[tuple[Kind, str]]:
    """The lists and tasks that a row is, or names."""
    if row.is_made and row.source:
        yield row.kind, row.source
    if row.in_list is not None:
        yield Kind.LIST, row.in_list
    if row.below is not None:
        yield Kind.TASK, row.below
    for name in (_SERIES, _NEXT):
        if row.past.get(name) is not None:
            yield Kind.TASK, str(row.past[name])


def _absent(kind: Kind, message: str) -> ValidationError:
    field = "list_id" if kind is Kind.LIST else "parent_id"
    return ValidationError({field: [ErrorDetail(message, code="absent")]})


def _details(field: str, message: str, code: str) -> Mapping[str, Any]:
    return {field: [{"code": code, "message": message}]}
