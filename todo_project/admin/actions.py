"""What an action of admin says that it did, to the operator and in the admin log."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import model_ngettext
from django.db.models import Model
from django.http import HttpRequest


def tell(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    done: str,
    changed: int,
    left_alone: Counter[str],
) -> None:
    """What an action did, such as "Ended 1 session. Left alone: 2 (ended already)."."""
    message = f"{done} {changed} {model_ngettext(model_admin.opts, changed)}."
    reasons = [f"{count} ({reason})" for reason, count in sorted(left_alone.items()) if count]
    if reasons:
        message += f" Left alone: {', '.join(reasons)}."
    level = messages.SUCCESS if changed else messages.WARNING
    model_admin.message_user(request, message, level)


def log_changes(
    request: HttpRequest, changed: Iterable[Model], message: str, *, flag: int = CHANGE
) -> None:
    """An entry in the admin log for each of them, in one query."""
    assert request.user.pk is not None  # admin has asked for a sign-in
    LogEntry.objects.log_actions(request.user.pk, changed, flag, message)
