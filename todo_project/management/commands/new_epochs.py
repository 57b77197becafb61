"""Makes what clients kept from before a restore invalid. For operators."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, transaction
from django.db.models import F

from todo_project.models import Clock, random_epoch

BATCH_ROWS = 1000
# By how much versions go on, so that none is given twice: more than any person's ever changed
# between a backup and its restore, and 2 million restores away from what JSON's numbers hold.
STEP = 2**32


class Command(BaseCommand):
    """Gives every clock a new epoch, in batches that hold locks for milliseconds.

    After a restore the clocks stand at what they stood at then, and would give the same versions
    again to other changes: a device would take what it has for what is there.
    """

    help = (
        "Give everybody's clock a new epoch: once after the database was restored to an earlier "
        "moment, before the service is started again. Tags and positions of before then lead "
        "nowhere, and devices fetch everything anew. Safe at any time; run again, it only makes "
        "them fetch once more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--batch", type=int, default=BATCH_ROWS, help="Rows per statement (default: 1000)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["batch"] < 1:
            raise CommandError("--batch must be 1 or more.")
        clocks = Clock.objects.using("direct").order_by("user_id")
        renewed, later = 0, clocks
        while True:
            with transaction.atomic(using="direct"), connections["direct"].cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")  # the role's is for requests
                batch = later.select_for_update(no_key=True)[: options["batch"]]
                owners = list(batch.values_list("user_id", flat=True))
                if not owners:
                    break
                renewed += clocks.filter(user__in=owners).update(
                    epoch=random_epoch(), version=F("version") + STEP
                )
                later = clocks.filter(user__gt=owners[-1])
        self.stdout.write(f"{renewed} clocks have a new epoch.")
