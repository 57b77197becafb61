"""Writes what plan.py says, by batches: an import keeps every rule that other writes keep."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction

from todo_project.api.callers import Caller
from todo_project.resources.batch import Batch, End, Operation

from .plan import Plan
from .rows import Row, Status

# Of the rows of one batch, as JSON; its answer has some more. One row may have 120 KB.
_BATCH_BYTES_MAX = settings.BATCH_ANSWER_BYTES_MAX // 4

_UNFINISHED = {
    "non_field_errors": [
        {
            "code": "unfinished",
            "message": "There was no time left. Send the file again: it goes on where this ended.",
        }
    ]
}


class Writer:
    """Makes the rows of one plan, as its person.

    Each batch is a transaction: what was made stays, whatever becomes of the others. A dry run does
    all the same in one transaction, and takes it back: so it says what a real one would.
    """

    def __init__(self, caller: Caller, plan: Plan, deadline: float) -> None:
        """`deadline` is by the monotonic clock: no batch begins after it."""
        self._caller = caller
        self._plan = plan
        self._deadline = deadline

    def write(self, *, dry_run: bool) -> None:
        """Raises the caller's refusal where their token has ended."""
        if not dry_run:
            self._write()
            return
        with transaction.atomic():
            self._write()
            transaction.set_rollback(True)

    def _write(self) -> None:
        rows = self._plan.in_order()
        for batch in self._batches(rows):
            if time.monotonic() > self._deadline:
                break
            self._perform(batch)
        for row in rows:
            if row.status is None:
                row.fail(_UNFINISHED)
        self._plan.finish()

    def _batches(self, rows: Sequence[Row]) -> Iterator[Sequence[tuple[Row, Operation]]]:
        """As many rows as one may have. Those of the batch before have been made by then."""
        batch: list[tuple[Row, Operation]] = []
        size = 0
        for row in rows:
            operation = self._plan.operation(row)
            if operation is None:
                continue
            length = len(orjson.dumps(operation.values))
            is_full = (
                len(batch) == settings.BATCH_OPERATIONS_MAX or size + length > _BATCH_BYTES_MAX
            )
            if batch and is_full:
                yield batch
                batch, size = [], 0
            batch.append((row, operation))
            size += length
        if batch:
            yield batch

    def _perform(self, batch: Sequence[tuple[Row, Operation]]) -> None:
        performed = Batch(
            caller=self._caller,
            counter=None,  # the file was counted
            operations=[operation for _, operation in batch],
            is_atomic=False,
            bytes_max=settings.BATCH_ANSWER_BYTES_MAX,
        ).perform()
        if performed.end in (End.UNKNOWN, End.GONE):
            raise self._caller.refusal()
        if performed.end is End.TOO_LONG:  # by what somebody else has made there meanwhile
            middle = len(batch) // 2
            self._perform(batch[:middle])
            self._perform(batch[middle:])
            return
        assert performed.end is End.DONE, performed.end
        for (row, _), outcome in zip(batch, orjson.loads(performed.answer), strict=True):
            _tell(row, outcome)


def _tell(row: Row, outcome: Mapping[str, Any]) -> None:
    """Says of a row what became of it."""
    match outcome["status"]:
        case 201:
            row.status = Status.CREATED
        case 412:  # another import of the same file was faster
            row.skip("It is there already.")
        case _:
            error = outcome["error"]
            fault = {"code": error["code"], "message": error["message"]}
            row.fail(error["details"] or {"non_field_errors": [fault]})
