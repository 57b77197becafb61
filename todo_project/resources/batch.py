"""Many writes of one person in one transaction: at most three round trips, however many they are.

The first sends everything: the opening statement looks the caller up, counts, and locks the clock;
each after it sees what was committed until then (statement.py). The second keeps the answer for an
Idempotency-Key; the third commits, or takes all of it back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError, transaction
from rest_framework.exceptions import APIException, NotFound

from todo_project import metrics
from todo_project.api.callers import Caller
from todo_project.api.errors import PreconditionFailed, error_object
from todo_project.api.limits import Counter, Usage

from . import writes
from .idempotency import Key, Replay
from .resource import RESOURCES, Resource
from .statement import (
    KEPT_COLUMNS,
    TEXTS_MAX,
    WRITER,
    Work,
    database,
    found_sql,
    opening_sql,
    work_parts,
)

Rows = Sequence[tuple[Any, ...]]
Statement = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One of a batch, on the row `id`; not done where its input has a fault."""

    name: str
    resource: Resource
    id: UUID | None
    values: Mapping[str, Any]
    versions: Sequence[str] | None = None
    fault: APIException | None = None
    is_import: bool = False  # of a creation, that it may bring Resource.imported

    @property
    def work(self) -> Work:
        match self.name:
            case "create":
                return creations(self.resource, is_import=self.is_import)
            case "delete":
                return writes.trashing(self.resource)
            case "restore":
                return writes.restoration(self.resource)
        command = self.resource.commands.get(self.name)
        if command is not None and command.work is not None:
            return command.work(self.values)
        return writes.change(self.resource, self.resource.changed_fields(self.values))

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of its work, alone; a remedy's come before its own precondition."""
        terms = {} if self.versions is None else {"if_match": self.versions}
        return {**terms, **self.values, "id": self.id}


Group = Sequence[tuple[int, Operation]]  # with their places; one statement does them


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation came to: JSON of the row, where it has one to show, or an error."""

    status: int
    json: str | None = None
    error: APIException | None = None

    @classmethod
    def of_error(cls, error: APIException) -> "Outcome":
        return cls(error.status_code, error=error)

    def answer(self) -> Mapping[str, Any]:
        """As the operation's own route would say."""
        if self.error is not None:
            return {"status": self.status, "error": error_object(self.error)}
        data = None if self.json is None else orjson.Fragment(self.json)
        return {"status": self.status, "data": data}


class End(StrEnum):
    """How a batch ended."""

    DONE = "done"  # what could be done, or all of it where it is atomic
    UNDONE = "undone"  # an operation failed, and took all others back
    TOO_LONG = "too long"  # all was taken back, for there is too much to tell
    REPLAYED = "replayed"  # nothing was done: the key has an answer
    REFUSED = "refused"  # nothing was done: there are too many for the limit
    GONE = "gone"  # nothing was done: there is no such person any more
    UNKNOWN = "unknown"  # nothing was done: the caller's token doesn't count


@dataclass(frozen=True, slots=True)
class Performed:
    """What a batch came to. `answer` is JSON: the outcomes, or of an undone one what failed."""

    end: End
    usage: Usage | None = None
    answer: bytes = b""
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations of one caller, in their order; where `is_atomic`, all of them or none."""

    caller: Caller
    counter: Counter | None
    operations: Sequence[Operation]
    is_atomic: bool
    bytes_max: int  # of JSON that the answer may have
    key: Key | None = None

    def perform(self) -> Performed:
        """Does them. What doesn't stand is not counted any more."""
        try:
            return self._perform(one_by_one=False)
        except IntegrityError:
            # A rule of the database was broken that the input's didn't know of: its tables of
            # Unicode differ from Python's. So seldom that a round trip for each will do.
            metrics.RETRIES.add("batch")
            return self._perform(one_by_one=True)

    def _perform(self, *, one_by_one: bool) -> Performed:
        groups = list(self._groups(one_by_one=one_by_one))
        statements = [] if one_by_one else [self._statement(group) for group in groups]
        with transaction.atomic():
            opened, *rest = database().fetch_each([*self._beginning(), *statements])
            begun = self._begun(opened, rest.pop(0) if self.key else [])
            if begun.end is not End.DONE:
                return begun  # what was counted stays so
            found = [self._alone(group) for group in groups] if one_by_one else rest
            performed = replace(begun, **self._told(self._outcomes(groups, found)))
            if performed.end is not End.DONE:
                transaction.set_rollback(True)
            elif self.key is not None:
                kept = {"user_id": self.caller.user_id, "body": performed.answer.decode()}
                database().fetch_each([(_KEEP, {**self.key.parameters, **kept})])
        return performed

    def _begun(self, opened: Rows, kept: Rows) -> Performed:
        ((hits, reset_seconds, epoch, caller_id, _),) = opened
        if caller_id is None:
            return Performed(End.UNKNOWN)
        self.caller.note_use()
        usage = None if self.counter is None else self.counter.usage(hits, reset_seconds)
        if usage is not None and usage.is_exceeded:
            return Performed(End.REFUSED, usage)
        if epoch is None:
            return Performed(End.GONE, usage)
        if kept:
            return Performed(End.REPLAYED, usage, replay=Replay.of(kept[0]))
        return Performed(End.DONE, usage)

    def _told(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The end and the answer that these outcomes make."""
        failed = [
            {"index": index, **outcome.answer()}
            for index, outcome in enumerate(outcomes)
            if outcome.error is not None
        ]
        is_undone = bool(self.is_atomic and failed)
        answer = orjson.dumps(failed if is_undone else [each.answer() for each in outcomes])
        if len(answer) > self.bytes_max:
            return {"end": End.TOO_LONG}
        return {"end": End.UNDONE if is_undone else End.DONE, "answer": answer}

    def _outcomes(
        self, groups: Sequence[Group], found: Sequence[Rows | APIException]
    ) -> Sequence[Outcome]:
        outcomes = {
            index: Outcome.of_error(operation.fault)
            for index, operation in enumerate(self.operations)
            if operation.fault is not None
        }
        for group, rows in zip(groups, found, strict=True):
            outcomes |= dict(_outcomes(group, rows))
        return [outcomes[index] for index in range(len(self.operations))]

    def _groups(self, *, one_by_one: bool) -> Iterator[Group]:
        """Creations that follow each other are done by one statement, all others by one each.

        But for one whose id was named before it: that is refused, as what isn't there yet.
        """
        group: list[tuple[int, Operation]] = []
        ids: set[object] = set()
        for index, operation in enumerate(self.operations):
            if operation.fault is not None:
                continue
            belongs = (
                group
                and not one_by_one
                and operation.name == group[0][1].name == "create"
                and operation.resource is group[0][1].resource
                and operation.is_import == group[0][1].is_import
                and operation.id not in ids
            )
            if group and not belongs:
                yield group
                group, ids = [], set()
            group.append((index, operation))
            ids |= {operation.id, *(v for v in operation.values.values() if isinstance(v, UUID))}
        if group:
            yield group

    def _beginning(self) -> Sequence[Statement]:
        values = {**self.caller.parameters}
        if self.counter is not None:
            values |= {**self.counter.parameters, "tries": len(self.operations)}
        is_counted = self.counter is not None
        sql = opening_sql("batch", self.caller.live_sql, is_counted=is_counted, of_many=True)
        beginning: list[Statement] = [(sql, values)]
        if self.key is not None:
            beginning.append((_KEPT, {**self.key.parameters, "user_id": self.caller.user_id}))
        return beginning

    def _statement(self, group: Group) -> Statement:
        operation = group[0][1]
        values: dict[str, Any] = {"user_id": self.caller.user_id}
        if operation.name == "create":
            rows = [
                {**each.resource.defaults, **each.values, "id": each.id, "place": f"{place:02x}"}
                for place, (_, each) in enumerate(group, start=1)
            ]
            values["rows"] = orjson.dumps(rows).decode()
            return _creations_sql(operation.work), values
        is_conditional = operation.versions is not None
        sql = _operation_sql(operation.work, is_conditional=is_conditional)
        return sql, {**operation.parameters, **values}

    def _alone(self, group: Group) -> Rows | APIException:
        """What a single operation gives, or why it can't be done."""
        ((index, operation),) = group
        for _ in range(writes.REMEDIES_MAX + 1):
            try:
                with transaction.atomic():
                    return database().fetch_each([self._statement([(index, operation)])])[0]
            except IntegrityError as error:
                fault = error
            try:
                values = writes.remedied(
                    self.caller, operation.resource, operation.parameters, fault
                )
            except APIException as found:
                return found
            except IntegrityError:
                break
            operation = replace(operation, values=values)
        refusal = operation.resource.refusal(fault)
        if refusal is None:
            raise fault
        return refusal


def _outcomes(group: Group, rows: Rows | APIException) -> Iterator[tuple[int, Outcome]]:
    (index, operation), *_ = group
    if isinstance(rows, APIException):  # of a single operation
        yield index, Outcome.of_error(rows)
    elif operation.name == "create":
        yield from _created(group, rows)
    else:
        ((json, *current),) = rows
        yield index, _changed(operation, json, current)


def _created(group: Group, rows: Rows) -> Iterator[tuple[int, Outcome]]:
    found = {row_id: row for row_id, *row in rows}
    for index, operation in group:
        json, tag, is_taken, is_trashed = found.get(operation.id, (None, None, True, False))
        if is_taken:
            error = writes.id_taken(json, tag, is_trashed=is_trashed)
            yield index, Outcome.of_error(error)
        else:
            yield index, Outcome(201, json)


def _changed(operation: Operation, json: str | None, current: Sequence[Any]) -> Outcome:
    if json is not None:
        return Outcome(204) if operation.name == "delete" else Outcome(200, json)
    if current and current[0] is not None:
        is_trashed = operation.name == "restore"  # what lives is restored already
        return Outcome.of_error(PreconditionFailed(*current, is_trashed=is_trashed))
    return Outcome.of_error(NotFound())


# By a statement of its own, which sees the key of whoever had the clock before.
_KEPT = f"""/* batch.kept */
    SELECT {KEPT_COLUMNS}, set_config('todo.writer', '', true)
      FROM todo_project_idempotencykey AS kept
     WHERE kept.user_id = {WRITER} AND kept.key = %(key)s
       AND kept.created_at > statement_timestamp() - %(key_kept_for)s
"""
_KEEP = """/* batch.keep */
    INSERT INTO todo_project_idempotencykey (user_id, key, fingerprint, status, body, created_at)
    VALUES (%(user_id)s, %(key)s, %(fingerprint)s, %(key_status)s, %(body)s, statement_timestamp())
    ON CONFLICT (user_id, key) DO UPDATE
       SET (fingerprint, status, body, created_at)
         = (excluded.fingerprint, excluded.status, excluded.body, excluded.created_at)
    RETURNING key
"""  # what is there is older than keys are kept: the clock is locked

_CLOCK = f"""
    SELECT user_id, epoch, version + 1 AS version FROM todo_project_clock WHERE user_id = {WRITER}
"""


@lru_cache(maxsize=TEXTS_MAX)
def _operation_sql(work: Work, *, is_conditional: bool) -> str:
    parts = [f"clock AS ({_CLOCK})", *work_parts(work, is_conditional=is_conditional)]
    answers, sources = ["written.json"], ["(VALUES (1)) AS once", "LEFT JOIN written ON true"]
    if is_conditional:
        answers.append("found.json, found.tag")
        sources.append(f"LEFT JOIN ({found_sql(work)}) AS found ON true")
    return f"""/* {work.name} in a batch */
        WITH {", ".join(parts)} SELECT {", ".join(answers)} FROM {" ".join(sources)}
    """


@lru_cache(maxsize=TEXTS_MAX)
def creations(resource: Resource, *, is_import: bool = False) -> Work:
    """Adds rows that are given as JSON; those whose id is taken are left out."""
    fields = [*resource.settable.values()]
    settings = {field.column: field.inserted_sql(f"new.{field.name}") for field in fields}
    made = resource.made.values()
    settings |= {field.column: str(field.made_sql("new.place")) for field in made}
    for field in [resource.fields[name] for name in resource.imported] if is_import else []:
        otherwise = settings.get(field.column)
        settings[field.column] = field.imported_sql(f"new.{field.name}", otherwise)
        fields.append(field)
    columns, values = ", ".join(settings), ", ".join(settings.values())
    types = ", ".join(f"{field.name} {field.sql_type}" for field in fields)
    return Work(
        name=f"{resource.name}.create",
        type=resource.name,
        written_sql=f"""
            INSERT INTO {resource.table} AS item (id, user_id, {columns}, version)
            SELECT new.id, clock.user_id, {values}, clock.version
              FROM clock, jsonb_to_recordset(%(rows)s::jsonb)
                   AS new (id uuid, place text, {types})
            ON CONFLICT (id) DO NOTHING
            RETURNING item.id, item.version, {resource.tag_sql} AS tag, {resource.json_sql} AS json
        """,
        is_revival=True,
    )


@lru_cache(maxsize=TEXTS_MAX)
def _creations_sql(work: Work) -> str:
    """What was made, and the caller's own rows that had such an id before."""
    resource = RESOURCES[work.type]
    parts = [f"clock AS ({_CLOCK})", *work_parts(work, is_conditional=False)]
    return f"""/* {resource.name}.create in a batch */
        WITH {", ".join(parts)}
        SELECT id, json, tag, false, false FROM written
        UNION ALL
        SELECT item.id, {resource.json_sql}, {resource.tag_sql}, true, item.deleted_at IS NOT NULL
          FROM {resource.table} AS item, clock,
               jsonb_to_recordset(%(rows)s::jsonb) AS new (id uuid)
         WHERE item.id = new.id AND item.user_id = clock.user_id
    """
