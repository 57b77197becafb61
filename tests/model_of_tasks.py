"""A model of lists and tasks: what each write must come to, cascades and all.

What the database chooses is told to it: ids, versions and positions. Section 13 of the contract.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from tests.devices import Fields, Outcome, Person, Write, version_of

LEVELS_MAX = 5
NEW_SERIES = "new series "  # what begins the name of one that the database chose
# Rules, by the days between two occurrences and by how many there are.
RULES: Mapping[str, tuple[int, int | None]] = {
    "FREQ=DAILY": (1, None),
    "FREQ=DAILY;INTERVAL=3": (3, None),
    "FREQ=DAILY;COUNT=3": (1, 3),
    "FREQ=WEEKLY": (7, None),
    "FREQ=WEEKLY;COUNT=2": (7, 2),
}
DEFAULTS: Mapping[str, Fields] = {
    "list": {"name": ""},
    "task": {
        "title": "",
        "is_completed": False,
        "labels": [],
        "due_on": None,
        "list_id": None,
        "parent_id": None,
        "recurrence": None,
        "repeat_from": "due",
        "series_id": None,
        "next_task_id": None,
        "occurrence_on": None,
        "series_start_on": None,
    },
}


def _zone_at_noon() -> str:
    """Where it is about noon: no day ends while the tests run."""
    zones = ("Pacific/Honolulu", "America/Lima", "UTC", "Asia/Karachi", "Asia/Tokyo")
    return min(zones, key=lambda zone: abs(datetime.now(ZoneInfo(zone)).hour - 12))


ZONE = _zone_at_noon()


def today() -> date:
    return datetime.now(ZoneInfo(ZONE)).date()


@dataclass
class Row:
    """A list or a task. Steps count the writes of its owner; `trashed` is the one that took it."""

    data: Fields
    made: int
    written: int  # set updated_at
    stamped: int  # set the version
    trashed: int | None = None
    version: int | None = None  # None and "" until they are known
    position: str = ""
    updated_at: datetime | None = None
    updated_in: int = 0  # the step of which updated_at is

    @property
    def is_trashed(self) -> bool:
        return self.trashed is not None

    @property
    def public(self) -> Fields:
        known = {"version": self.version, "position": self.position}
        return {**self.data, **({} if self.version is None else known)}

    def stamp(self, step: int, *, is_written: bool = True) -> None:
        self.stamped, self.version = step, None
        if is_written:
            self.written = step


def siblings(tasks: Mapping[str, Row], list_id: str | None, parent_id: str | None) -> list[str]:
    """The living ones, in their order."""
    found = [
        (row.position or "~", row_id)  # what is new comes last
        for row_id, row in tasks.items()
        if not row.is_trashed
        and row.data["parent_id"] == parent_id
        and (parent_id is not None or row.data["list_id"] == list_id)
    ]
    return [row_id for _, row_id in sorted(found)]


def beside(tasks: Mapping[str, Row], order: Sequence[str], neighbour_id: str) -> list[str]:
    """An order but for what was completed at the neighbour's own place, as its occurrences are."""
    at = tasks[neighbour_id].position
    return [
        each
        for each in order
        if each == neighbour_id
        or tasks[each].position != at
        or not tasks[each].data["is_completed"]
    ]


class Refusal(Exception):  # noqa: N818  # no error of the model's
    def __init__(self, status: int) -> None:
        self.status = status


@dataclass
class Owner(Person):
    """What the service must have of somebody: what lies in the trash as well."""

    clock: int = 1
    step: int = 0
    lists: dict[str, Row] = field(default_factory=dict)
    tasks: dict[str, Row] = field(default_factory=dict)

    def rows(self, kind: str) -> dict[str, Row]:
        return self.tasks if kind == "task" else self.lists

    def below(self, row_id: str) -> Iterator[str]:
        """What is below a task, in the trash as well."""
        for child_id, child in [*self.tasks.items()]:
            if child.data["parent_id"] == row_id:
                yield child_id
                yield from self.below(child_id)

    def do(
        self,
        write: Write,
        given: Mapping[str, Any],
        *,
        is_current: bool,
        is_alone: bool,
        others: Collection[str],
    ) -> Outcome:
        """Does a write. `given` is the row of the answer, `others` are ids of somebody else's.

        `is_current`: the write's tag is of what the database is now.
        """
        self.step += 1
        before = deepcopy((self.lists, self.tasks))
        try:
            outcome = self._do(write, given, is_current, is_alone, others)
        except Refusal as refusal:
            self.lists, self.tasks = before
            return Outcome(refusal.status)
        if given:
            answered = self.rows(write.kind)[given["id"]]
            for data in (answered.data, outcome.row or {}):
                if str(data.get("series_id")).startswith(NEW_SERIES):
                    data["series_id"] = given["series_id"]
            if answered.stamped == self.step:  # else another's place may have become its own
                answered.position = given["position"]
            at = datetime.fromisoformat(given["updated_at"])
            for row in (*self.lists.values(), *self.tasks.values()):
                if row.stamped == self.step:
                    row.version = given["version"]
                if row.written == self.step:
                    row.updated_at = at if answered.written == self.step else None
                    row.updated_in = self.step
        return outcome

    def _do(
        self,
        write: Write,
        given: Mapping[str, Any],
        is_current: bool,
        is_alone: bool,
        others: Collection[str],
    ) -> Outcome:
        rows = self.rows(write.kind)
        if write.op == "create":
            return self._create(write, given, others)
        row = rows.get(write.id or "")
        if row is None or (row.is_trashed and write.op != "restore" and not write.is_purge):
            return Outcome(404)
        assert write.id is not None
        changes = {name: value for name, value in write.data.items() if row.data.get(name) != value}
        if write.op == "move":
            changes = self._goal(write.id, write.data)
            stays = (
                row.data["list_id"] == changes["list_id"]
                and row.data["parent_id"] == changes["parent_id"]
                and self._is_there(write.id, changes, write.data)
            )
            # Where one of the same batch made room, the order isn't known before its end.
            if given and not is_alone and row.updated_at is not None:
                stays = datetime.fromisoformat(given["updated_at"]) == row.updated_at
            if stays:
                changes = {}
        does_nothing = not row.is_trashed if write.op == "restore" else not changes
        if write.op not in ("delete", "skip") and does_nothing:
            return Outcome(200, row.public)
        if write.tag is not None and not (is_current and version_of(write.tag) == row.version):
            return Outcome(412, row.public)
        match write.op, write.kind:
            case "delete", "list":
                self._delete_list(write)
            case "delete", _:
                self._delete(write)
            case "restore", "list":
                self._restore_list(write.id)
            case "restore", _:
                self._restore(write.id)
            case "skip", _:
                self._skip(write.id)
            case _, "list":
                row.data |= changes
                row.stamp(self.step)
            case _:
                self._change(write.id, changes, given.get("next_task_id"))
        return Outcome(204) if write.op == "delete" else Outcome(200, {**row.data})

    # --- Lists --------------------------------------------------------------------------------

    def _delete_list(self, write: Write) -> None:
        assert write.id is not None
        row = self.lists[write.id]
        inside = {n: task for n, task in self.tasks.items() if task.data["list_id"] == write.id}
        if "tasks" in write.query:
            for task in inside.values():
                if not task.is_trashed:
                    task.data["list_id"] = None
                    task.stamp(self.step)
        if not write.is_purge:
            row.trashed = self.step
            row.stamp(self.step, is_written=False)
            for task in inside.values():
                if task.data["list_id"] == write.id and not task.is_trashed:
                    task.trashed = self.step
                    task.stamp(self.step, is_written=False)
            return
        gone = []
        for task_id, task in inside.items():
            if task.data["list_id"] is None:
                continue
            if task.is_trashed and task.trashed != row.trashed:
                task.data["list_id"] = None
                task.stamp(self.step, is_written=False)
            else:
                gone.append(task_id)
        del self.lists[write.id]
        for task_id in gone:
            self._purge(task_id)

    def _restore_list(self, row_id: str) -> None:
        row = self.lists[row_id]
        for task in self.tasks.values():
            if task.data["list_id"] == row_id and task.trashed == row.trashed:
                self._rejoin(task)
                task.trashed = None
                task.stamp(self.step, is_written=False)
        row.trashed = None
        row.stamp(self.step, is_written=False)

    # --- Tasks --------------------------------------------------------------------------------

    def _create(self, write: Write, given: Mapping[str, Any], others: Collection[str]) -> Outcome:
        rows = self.rows(write.kind)
        row_id = write.id or given.get("id") or str(uuid4())
        if row_id in rows:
            return Outcome(412, rows[row_id].public)
        if row_id in others:
            return Outcome(409)
        data = deepcopy({**DEFAULTS[write.kind], **write.data})
        row = rows[row_id] = Row(data, self.step, self.step, self.step)
        if write.kind == "task":
            if data["recurrence"] is not None:
                self._begin_series(row_id)
            self._check_place(row_id)
        return Outcome(201, {**row.data})

    def _delete(self, write: Write) -> None:
        assert write.id is not None
        if write.is_purge:
            self._purge(write.id)
            return
        for task_id in (write.id, *self.below(write.id)):
            task = self.tasks[task_id]
            if not task.is_trashed:
                task.trashed = self.step
                task.stamp(self.step, is_written=False)

    def _purge(self, row_id: str) -> None:
        for task_id in (row_id, *self.below(row_id)):
            self.tasks.pop(task_id, None)

    def _restore(self, row_id: str) -> None:
        row = self.tasks[row_id]
        step, list_id, parent_id = row.trashed, row.data["list_id"], row.data["parent_id"]
        if list_id is not None and self.lists[list_id].is_trashed:
            row.data["list_id"] = None
        if parent_id is not None:
            levels = self._level(row_id) + self._height(row_id, step)
            parent = self.tasks[parent_id]
            if parent.is_trashed or levels > LEVELS_MAX:
                row.data["parent_id"] = None
            else:
                row.data["list_id"] = parent.data["list_id"]
        self._bring_back(row_id)

    def _bring_back(self, row_id: str) -> None:
        """With what went with it."""
        row = self.tasks[row_id]
        self._rejoin(row)
        step, row.trashed = row.trashed, None
        row.stamp(self.step, is_written=False)
        for child_id, child in self.tasks.items():
            if child.data["parent_id"] == row_id and child.trashed == step:
                if child.data["list_id"] != row.data["list_id"]:
                    child.data["list_id"] = row.data["list_id"]
                    child.written = self.step
                self._bring_back(child_id)

    def _change(self, row_id: str, changes: Fields, next_id: str | None) -> None:
        row = self.tasks[row_id]
        data, before = row.data, {**row.data}
        data |= changes
        row.stamp(self.step)
        if data["recurrence"] is not None and data["due_on"] is None:
            raise Refusal(400)
        if data["recurrence"] != before["recurrence"]:
            self._begin_series(row_id)
            if data["recurrence"] is not None and not before["is_completed"]:
                data["next_task_id"] = None
        if "is_completed" in changes and data["is_completed"]:
            if data["recurrence"] is not None and data["next_task_id"] is None:
                self._succeed(row_id, next_id)
        elif "is_completed" in changes:
            self._take_back(row_id)
        self._check_place(row_id)
        if data["list_id"] != before["list_id"]:
            for task_id in self.below(row_id):
                task = self.tasks[task_id]
                if not task.is_trashed:
                    task.data["list_id"] = data["list_id"]
                    task.stamp(self.step)

    # --- Places -------------------------------------------------------------------------------

    def _level(self, row_id: str) -> int:
        level, seen = 1, {row_id}
        while (parent_id := self.tasks[row_id].data["parent_id"]) is not None:
            if parent_id in seen:
                raise Refusal(400)  # a circle
            seen.add(parent_id)
            row_id, level = parent_id, level + 1
        return level

    def _height(self, row_id: str, trashed: int | None) -> int:
        """How many levels are below a task, of those that went into the trash with it."""
        return max(
            (
                1 + self._height(child_id, trashed)
                for child_id, child in self.tasks.items()
                if child.data["parent_id"] == row_id and child.trashed == trashed
            ),
            default=0,
        )

    def _check_place(self, row_id: str) -> None:
        data = self.tasks[row_id].data
        list_id, parent_id = data["list_id"], data["parent_id"]
        if list_id is not None and (list_id not in self.lists or self.lists[list_id].is_trashed):
            raise Refusal(400)
        if parent_id is None:
            return
        parent = self.tasks.get(parent_id)
        if parent is None or parent.is_trashed or parent.data["list_id"] != list_id:
            raise Refusal(400)
        if self._level(row_id) + self._height(row_id, None) > LEVELS_MAX:
            raise Refusal(400)

    def _goal(self, row_id: str, data: Fields) -> Fields:
        """The list and the parent that a move means."""
        row = self.tasks[row_id].data
        neighbour_id = data.get("before") or data.get("after")
        goal = {"list_id": row["list_id"], "parent_id": row["parent_id"]}
        if neighbour_id is not None:
            neighbour = self.tasks.get(neighbour_id)
            if neighbour is None or neighbour.is_trashed or neighbour_id == row_id:
                raise Refusal(400)
            goal = {name: neighbour.data[name] for name in goal}
            if any(name in data and data[name] != goal[name] for name in goal):
                raise Refusal(400)
        elif data.get("parent_id") is not None:
            parent = self.tasks.get(data["parent_id"])
            if parent is None or parent.is_trashed:
                raise Refusal(400)
            goal = {"list_id": parent.data["list_id"], "parent_id": data["parent_id"]}
            if "list_id" in data and data["list_id"] != goal["list_id"]:
                raise Refusal(400)
        else:
            if "parent_id" in data or "list_id" in data:
                goal["parent_id"] = None
            goal["list_id"] = data.get("list_id", row["list_id"])
        return goal

    def _is_there(self, row_id: str, goal: Fields, data: Fields) -> bool:
        """Whether a task has the place among its siblings already that a move means."""
        order = siblings(self.tasks, **goal)
        neighbour_id = data.get("before") or data.get("after")
        if neighbour_id is not None:
            order = beside(self.tasks, order, neighbour_id)
        if row_id not in order:
            return False
        place = order.index(row_id)
        if "before" in data:
            return order[place + 1 : place + 2] == [data["before"]]
        if "after" in data:
            return place > 0 and order[place - 1] == data["after"]
        return place == len(order) - 1

    # --- Series -------------------------------------------------------------------------------

    def _occurrence(self, series_id: str, day: str) -> str | None:
        """The living task that is this day of a series."""
        for row_id, row in self.tasks.items():
            if not row.is_trashed and (row.data["series_id"], row.data["occurrence_on"]) == (
                series_id,
                day,
            ):
                return row_id
        return None

    def _begin_series(self, row_id: str) -> None:
        data = self.tasks[row_id].data
        data |= dict.fromkeys(("series_id", "occurrence_on", "series_start_on"))
        if data["recurrence"] is not None:
            names = [row.data["series_id"] for row in self.tasks.values()]
            data |= {
                "series_id": f"{NEW_SERIES}{uuid4()}" if row_id in names else row_id,
                "occurrence_on": data["due_on"],
                "series_start_on": data["due_on"],
            }

    def _day_after(self, data: Fields, first: date) -> date | None:
        """The first day of its rule from `first` on, and after this occurrence."""
        interval, most = RULES[data["recurrence"]]
        start = date.fromisoformat(data["series_start_on"])
        first = max(first, date.fromisoformat(data["occurrence_on"]) + timedelta(days=1))
        number = max(0, -((start - first).days // interval))
        return None if most is not None and number >= most else start + timedelta(number * interval)

    def _next_day(self, data: Fields) -> date | None:
        """On which day the next occurrence of one that is completed today is due."""
        interval, most = RULES[data["recurrence"]]
        if data["repeat_from"] == "due":
            return self._day_after(data, today())
        taken = {
            row.data["occurrence_on"]
            for row in self.tasks.values()
            if row.data["series_id"] == data["series_id"] and not row.is_trashed
        }
        if most is not None and len(taken) >= most:
            return None
        day = today() + timedelta(interval)
        while day.isoformat() in taken:
            day += timedelta(interval)
        return day

    def _skip(self, row_id: str) -> None:
        row = self.tasks[row_id]
        if row.data["recurrence"] is None or row.data["is_completed"]:
            raise Refusal(409)
        day = self._day_after(row.data, date.min)
        if day is None or self._occurrence(row.data["series_id"], day.isoformat()) is not None:
            raise Refusal(409)
        row.data |= dict.fromkeys(("due_on", "occurrence_on"), day.isoformat())
        row.stamp(self.step)

    def _succeed(self, row_id: str, next_id: str | None) -> None:
        """The next occurrence, as `next_id` where it is new; or the one that there is."""
        row = self.tasks[row_id]
        day = self._next_day(row.data)
        if day is None:
            return
        next_on = day.isoformat()
        found = self._occurrence(row.data["series_id"], next_on)
        if found is not None:
            row.data["next_task_id"] = found
            return
        row.data["next_task_id"] = next_id = next_id or str(uuid4())
        shift = day - date.fromisoformat(row.data["due_on"])
        is_anew = row.data["repeat_from"] == "completion"
        self._copy(
            row_id,
            next_id,
            due_on=next_on,
            occurrence_on=next_on,
            series_start_on=today().isoformat() if is_anew else row.data["series_start_on"],
        )
        self._copy_below(row_id, next_id, shift)

    def _copy(self, row_id: str, copy_id: str, **fields: Any) -> None:
        row = self.tasks[row_id]
        data = {**deepcopy(row.data), "is_completed": False, "next_task_id": None, **fields}
        copy = Row(data, self.step, self.step, self.step, position=row.position)
        self.tasks[copy_id] = copy

    def _copy_below(self, row_id: str, copy_id: str, shift: timedelta) -> None:
        for child_id, child in [*self.tasks.items()]:
            data = child.data
            is_below = data["parent_id"] == row_id and not child.is_trashed
            if not is_below or data["next_task_id"] is not None:
                continue
            child_copy_id = str(uuid4())
            fields = {"parent_id": copy_id, "list_id": self.tasks[copy_id].data["list_id"]}
            if data["series_id"] is not None and not data["is_completed"]:
                fields["series_id"] = child_copy_id
            else:
                fields |= dict.fromkeys(("recurrence", "series_id"))
                fields |= dict.fromkeys(("occurrence_on", "series_start_on"))
            if fields["series_id"] is None and data["due_on"] is not None:
                fields["due_on"] = (date.fromisoformat(data["due_on"]) + shift).isoformat()
            self._copy(child_id, child_copy_id, **fields)
            self._copy_below(child_id, child_copy_id, shift)

    def _rejoin(self, row: Row) -> None:
        """To its series, unless that has another one for its day by now."""
        data = row.data
        if data["series_id"] and self._occurrence(data["series_id"], data["occurrence_on"]):
            data["series_id"] = f"{NEW_SERIES}{uuid4()}"

    def _take_back(self, row_id: str) -> None:
        data = self.tasks[row_id].data
        next_id = data["next_task_id"]
        if next_id is None:
            return
        made = self.tasks.get(next_id)
        if made is None or made.is_trashed:
            data["next_task_id"] = None
            return
        family = [next_id, *self.below(next_id)]
        if any(
            task.written != made.made
            or task.made != made.made
            or task.data["is_completed"]
            or task.is_trashed
            for task in map(self.tasks.__getitem__, family)
        ):
            return
        data["next_task_id"] = None
        for task_id in family:
            del self.tasks[task_id]
