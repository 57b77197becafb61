"""Tasks in Django admin."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks.models import Task, TaskQuerySet
from todo_project.admin import (
    COUNT_LIMIT,
    SEARCHED_ROWS,
    CreatedFilter,
    Figure,
    capped,
    link_to,
    one_row,
    page_of,
    table_figure,
    todays_figure,
)
from todo_project.api.views import read_uuid

from .filters import (
    CompletedFilter,
    DueFilter,
    InListFilter,
    PriorityFilter,
    RecurrenceFilter,
    StateFilter,
    TrashFilter,
)
from .forms import TaskForm
from .owned import OwnedAdmin, owned_by

# The log of changes, which has a BRIN index of the time, knows what changed today; what of it is
# done, the tasks themselves.
_DONE = """
    SELECT count(DISTINCT task.id), count(*)
      FROM (
          SELECT user_id, id FROM todo_project_change
           WHERE changed_at >= %(since)s AND type = 'task'
           LIMIT %(rows)s
      ) AS today
      LEFT JOIN tasks_task AS task
             ON task.user_id = today.user_id AND task.id = today.id
            AND task.completed_at >= %(since)s
"""

# The tasks, and what is below them.
_BELOW = """
    WITH RECURSIVE gone AS (
        SELECT user_id, id FROM tasks_task WHERE id = ANY(%(ids)s)
         UNION
        SELECT task.user_id, task.id
          FROM gone JOIN tasks_task AS task
                      ON task.user_id = gone.user_id AND task.parent_id = gone.id
    )
    SELECT count(*) FROM (SELECT FROM gone LIMIT %(rows)s) AS counted
"""


@admin.register(Task)
class TaskAdmin(OwnedAdmin):
    """Where a task stands, and its rule, is for people to say: by the API."""

    form = TaskForm
    written = (
        *("title", "description", "completed_at", "priority", "labels"),
        *("due_on", "due_time", "time_zone", "start_on", "repeat_from"),
    )
    shown = (
        *("due_at", "list", "parent", "recurrence"),
        *("series_id", "series_start_on", "occurrence_on", "next_task"),
    )
    list_display = (
        *("title", "owner", "completed_at", "due_on", "in_list"),
        *("created_at", "deleted_at"),
    )
    list_filter = (
        *(TrashFilter, StateFilter, CreatedFilter, CompletedFilter),
        *(DueFilter, PriorityFilter, InListFilter, RecurrenceFilter),
    )
    list_select_related = ("user", "list")
    search_fields = ("title",)
    search_help_text = (
        "Words of a title; or an owner's e-mail address; or both; or an id, of a task or of its "
        f"owner. Words and filters are looked for among the newest {SEARCHED_ROWS:,} tasks (of "
        "those that were created on the chosen days), or among all of an owner or of a list that "
        "is named."
    )
    plotted = "Tasks created"

    def figures(self) -> Iterator[Figure]:
        yield table_figure(Task, "Tasks")
        url = page_of("changelist", Task) + "?completed=today"
        yield todays_figure(_DONE, "Done today", note="since 00:00 UTC", url=url)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        tasks = super().get_queryset(request)
        return tasks.defer("title_folded", "description_folded", "list__name_folded")

    def is_indexed(self, request: HttpRequest, term: str) -> bool:
        is_of_list = read_uuid(request.GET.get(InListFilter.parameter_name, "")) is not None
        return is_of_list or super().is_indexed(request, term)

    def in_order(self, rows: Sequence[Task]) -> Iterator[Sequence[Task]]:
        """From above: a subtask that is restored while its task lies in the trash is none more."""
        while rows:
            ids = {row.pk for row in rows}
            yield [row for row in rows if row.parent_id not in ids]
            rows = [row for row in rows if row.parent_id in ids]

    def find(self, queryset: QuerySet[Task], term: str) -> QuerySet[Task]:
        """A word with @ is the owner's whole address, each other stands in the title.

        Takes one query more for the owner.
        """
        words = term.split()
        emails = [word for word in words if "@" in word]
        title = " ".join(word for word in words if "@" not in word)
        if len(emails) > 1:  # a task has one owner
            return queryset.none()
        if emails:
            queryset = owned_by(emails[0], queryset)
        assert isinstance(queryset, TaskQuerySet)
        return queryset.titled(title)

    def gone_with(self, rows: Sequence[Task]) -> str:
        """One query, which reads a bounded number of subtasks."""
        ids = [row.pk for row in rows]
        count = capped(
            one_row(_BELOW, {"ids": ids, "rows": COUNT_LIMIT + 1 + len(ids)})[0] - len(ids)
        )
        return f"{count} subtask{'' if count == 1 else 's'}"

    @admin.display(description="list")
    def in_list(self, task: Task) -> SafeString | None:
        return link_to(task.list) if task.list else None

    @admin.display(description="next task")
    def next_task(self, task: Task) -> Any:
        if task.next_task_id is None:
            return None
        url = reverse("admin:tasks_task_change", args=[task.next_task_id])
        return format_html('<a href="{}">{}</a>', url, task.next_task_id)
