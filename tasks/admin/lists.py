"""Lists in Django admin."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db import IntegrityError, transaction
from django.db.models import QuerySet, Value
from django.http import HttpRequest
from django.utils.html import format_html

from tasks.models import LISTS_MAX, Task, TaskList
from todo_project.admin import SEARCHED_ROWS, capped_count, page_of
from todo_project.resources.lines import Fold
from todo_project.resources.resource import constraint_of

from .filters import InListFilter
from .forms import TaskListForm
from .owned import OwnedAdmin, owned_by


@admin.register(TaskList)
class TaskListAdmin(OwnedAdmin):
    """A list's tasks go with it, and come back with it: the database sees to that."""

    form = TaskListForm
    written = ("name", "color", "archived_at")
    shown = ("position", "tasks")
    list_display = ("name", "owner", "tasks", "archived_at", "created_at", "deleted_at")
    search_fields = ("name",)
    search_help_text = (
        "Words of a name; or an owner's e-mail address; or an id, of a list or of its owner. Words "
        f"are looked for among the newest {SEARCHED_ROWS:,} lists."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskList]:
        return super().get_queryset(request).defer("name_folded")

    def find(self, queryset: QuerySet[TaskList], term: str) -> QuerySet[TaskList]:
        """By the owner's whole address, for which it takes one query more; or by words."""
        if "@" in term:
            return owned_by(term, queryset)
        for word in term.split():
            queryset = queryset.filter(name_folded__contains=Fold(Value(word)))
        return queryset

    def gone_with(self, rows: Sequence[TaskList]) -> str:
        """One query, which reads a bounded number of tasks."""
        owners = {row.user_id for row in rows}  # with which the index begins
        count = capped_count(Task.objects.filter(user__in=owners, list__in=rows))
        return f"{count} task{'' if count == 1 else 's'}"

    def set_trashed(
        self, request: HttpRequest, queryset: QuerySet[Any], *, is_trashed: bool
    ) -> None:
        try:
            with transaction.atomic():
                super().set_trashed(request, queryset, is_trashed=is_trashed)
        except IntegrityError as error:
            if constraint_of(error) != "tasks_list_most":
                raise
            self.message_user(
                request,
                f"Nothing was done: somebody would have more than {LISTS_MAX} lists.",
                messages.WARNING,
            )

    @admin.display
    def tasks(self, task_list: TaskList) -> str:
        query = urlencode({InListFilter.parameter_name: task_list.pk})
        return format_html('<a href="{}?{}">Tasks</a>', page_of("changelist", Task), query)
