"""Removes what has expired and is of no more use. For cron."""

from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session as AdminSession
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, models, transaction
from django.db.models.functions import Now

from accounts.models import PersonalToken, RemovedIdentity, Session
from todo_project.models import Change, IdempotencyKey, RateCounter
from todo_project.owners import Versioned
from todo_project.purging import purge_changes, purge_trash

BATCH_ROWS = 1000


class Command(BaseCommand):
    """Deletes what has expired, in batches that hold locks for milliseconds."""

    help = (
        "Delete expired sessions, operators' sessions and rate counters, personal tokens that "
        "expired a month ago, and marks of removed identities from which no token counts any "
        "more; what has lain in the trash for a month, changes of three months ago, and the "
        "answers that were kept for a repeated write for a day. Safe at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--batch", type=int, default=BATCH_ROWS, help="Rows per statement (default: 1000)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["batch"] < 1:
            raise CommandError("--batch must be 1 or more.")
        for model, field, kept_for in (
            (Session, "expires_at", timedelta()),
            (AdminSession, "expire_date", timedelta()),
            (RateCounter, "expires_at", timedelta()),
            (PersonalToken, "expires_at", settings.PERSONAL_TOKENS_KEPT),
            (IdempotencyKey, "created_at", settings.IDEMPOTENCY_KEYS_KEPT),
            (
                RemovedIdentity,
                "removed_at",
                settings.OUTSIDE_TOKEN_MAX_LIFETIME + settings.CLOCK_SKEW,
            ),
        ):
            self._tell(model, delete_expired(model, field, kept_for, batch_rows=options["batch"]))
        for table in apps.get_models():
            if issubclass(table, Versioned):
                self._tell(table, purge_trash(table, batch_rows=options["batch"]))
        self._tell(Change, purge_changes(batch_rows=options["batch"]))

    def _tell(self, model: type[models.Model], deleted: int) -> None:
        self.stdout.write(f"{model._meta.label}: {deleted} deleted")


def delete_expired(
    model: type[models.Model], field: str, kept_for: timedelta, *, batch_rows: int
) -> int:
    """Deletes the rows whose `field` passed that long ago; returns how many.

    Rows in use are left alone.
    """
    objects = model._default_manager.using("direct")
    rows = objects.filter(**{f"{field}__lt": Now() - kept_for})
    total = 0
    while True:
        with transaction.atomic(using="direct"), connections["direct"].cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")  # the role's is for requests
            # A list: as a subquery it may be asked for each row, and give others each time.
            locked = rows.select_for_update(skip_locked=True)
            batch = list(locked.values_list("pk", flat=True)[:batch_rows])
            deleted, _ = objects.filter(pk__in=batch).delete()
        total += deleted
        if deleted < batch_rows:
            return total
