"""What operators may do with whose rows, what they are told of it, and what the log keeps."""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import model_ngettext
from django.db.models import Model
from django.http import HttpRequest

from accounts.models import User
from todo_project.admin import LargeTableAdmin


def may_manage(request: HttpRequest, user: User | None) -> bool:
    if user is None or request.user.is_superuser:
        return True
    return not (user.is_staff or user.is_superuser)


def operator_id(request: HttpRequest) -> UUID:
    assert isinstance(request.user, User)  # admin has asked for a sign-in
    return request.user.id


def tell(
    model_admin: LargeTableAdmin,
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
    LogEntry.objects.log_actions(operator_id(request), changed, flag, message)
