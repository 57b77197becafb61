"""Locks of people's clocks, which come before those of their rows."""

from collections.abc import Iterable
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS

from .models import Clock


def lock_clocks(user_ids: Iterable[UUID], *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Holds the clocks of these people to the end of the transaction, in the order of their ids.

    Before anything that deletes people, or locks rows of theirs: a write holds the clock when it
    waits at its foreign key, and would wait for ever for whoever came the other way round.
    """
    clocks = Clock.objects.using(using).filter(user__in=list(user_ids)).order_by("user_id")
    list(clocks.select_for_update(no_key=True).values_list("version"))
