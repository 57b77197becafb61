"""The end of what people's devices were told of: the trash, the log of changes, the tombstones.

For `manage.py purge_expired`. One person at a time, under their clock: a write holds that first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from .clock import lock_clocks
from .models import Change
from .owners import Versioned

_DATABASE = "direct"

# Whoever has seen nothing after purged_version has to start anew, so that they need no tombstone
# of before.
_PURGE_CHANGES = """
    WITH expired AS (
        SELECT version, type, id FROM todo_project_change
         WHERE user_id = %(user_id)s AND changed_at < statement_timestamp() - %(kept)s
         ORDER BY version
         LIMIT %(rows)s
    ), gone AS (
        DELETE FROM todo_project_change AS change USING expired
         WHERE change.user_id = %(user_id)s AND change.version = expired.version
           AND change.type = expired.type AND change.id = expired.id
        RETURNING change.version
    ), clock AS (
        UPDATE todo_project_clock
           SET purged_version = greatest(purged_version, (SELECT max(version) FROM gone))
         WHERE user_id = %(user_id)s
        RETURNING purged_version
    ), forgotten AS (
        DELETE FROM todo_project_purged AS purged USING clock
         WHERE purged.user_id = %(user_id)s AND purged.version <= clock.purged_version
    )
    SELECT count(*) FROM gone
"""


def purge_trash(model: type[Versioned], *, batch_rows: int) -> int:
    """Deletes for good what has lain in the trash for settings.TRASH_KEPT; returns how much.

    Their trigger keeps that they were there. Rows in use are left to the next run.
    """
    objects = model._default_manager.using(_DATABASE)
    expired: QuerySet[Any] = objects.filter(deleted_at__lt=Now() - settings.TRASH_KEPT)

    def delete_batch(user_id: UUID) -> int:
        own = expired.filter(user=user_id).select_for_update(skip_locked=True)
        # A list: as a subquery it may be asked for each row, and give others each time.
        batch = list(own.values_list("pk", flat=True)[:batch_rows])
        return objects.filter(pk__in=batch).delete()[0]

    return _purge(expired, delete_batch, batch_rows=batch_rows)


def purge_changes(*, batch_rows: int) -> int:
    """Deletes changes older than settings.CHANGES_KEPT, and their tombstones; returns how many.

    The clock says how far the log is purged, in the same transaction.
    """
    expired = Change.objects.using(_DATABASE).filter(changed_at__lt=Now() - settings.CHANGES_KEPT)

    def delete_batch(user_id: UUID) -> int:
        with connections[_DATABASE].cursor() as cursor:
            parameters: dict[str, Any] = {
                "user_id": user_id,
                "kept": settings.CHANGES_KEPT,
                "rows": batch_rows,
            }
            cursor.execute(_PURGE_CHANGES, parameters)
            deleted: int = cursor.fetchone()[0]
            return deleted

    return _purge(expired, delete_batch, batch_rows=batch_rows)


def _purge(expired: QuerySet[Any], delete_batch: Callable[[UUID], int], *, batch_rows: int) -> int:
    """The sum of `delete_batch` for the owner of each row, until it finds less than a batch."""
    with _patient_transaction():
        owners = list(expired.order_by("user_id").values_list("user_id", flat=True).distinct())
    total = 0
    for user_id in owners:
        deleted = batch_rows
        while deleted == batch_rows:
            with _patient_transaction():
                lock_clocks([user_id], using=_DATABASE)
                deleted = delete_batch(user_id)
            total += deleted
    return total


@contextmanager
def _patient_transaction() -> Iterator[None]:
    """One without the role's limit on a statement's time, which is for requests."""
    with transaction.atomic(using=_DATABASE), connections[_DATABASE].cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        yield
