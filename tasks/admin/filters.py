"""Filters of the lists of tasks and of lists."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.days import today
from tasks.models import PRIORITIES, TaskList
from todo_project.admin import ChoiceFilter, DayFilter
from todo_project.api.views import read_uuid


class TrashFilter(ChoiceFilter):
    title = "trash"
    parameter_name = "trash"
    reads_rows = False  # there is an index of what lies in it, which is little

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "yes": ("In the trash", Q(deleted_at__isnull=False)),
            "no": ("Not in the trash", Q(deleted_at=None)),
        }


class StateFilter(ChoiceFilter):
    title = "state"
    parameter_name = "state"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "open": ("Open", Q(completed_at=None)),
            "completed": ("Completed", Q(completed_at__isnull=False)),
        }


class CompletedFilter(DayFilter):
    title = "day of completion (UTC)"
    parameter_name = "completed"

    @classmethod
    def condition(cls, first: datetime, end: datetime | None) -> Q:
        is_done = Q(completed_at__gte=first)
        return is_done & Q(completed_at__lt=end) if end else is_done


class DueFilter(ChoiceFilter):
    title = "day it is due (UTC)"
    parameter_name = "due"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        day = today(None, datetime.now(UTC))
        return {
            "overdue": ("Open, before today", Q(completed_at=None, due_on__lt=day)),
            "today": ("Today", Q(due_on=day)),
            "week": ("In seven days", Q(due_on__gte=day, due_on__lt=day + timedelta(days=7))),
            "none": ("No day", Q(due_on=None)),
        }


class PriorityFilter(ChoiceFilter):
    title = "priority"
    parameter_name = "priority"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {name: (name, Q(priority=rank)) for rank, name in enumerate(PRIORITIES)}


class RecurrenceFilter(ChoiceFilter):
    title = "recurrence"
    parameter_name = "recurring"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "yes": ("Recurring", Q(recurrence__isnull=False)),
            "no": ("Not recurring", Q(recurrence=None)),
        }


class InListFilter(ChoiceFilter):
    """Also by a list's id, as the pages of lists lead here. That takes one query more."""

    title = "list"
    parameter_name = "list"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "inbox": ("Inbox", Q(list=None)),
            "any": ("In a list", Q(list__isnull=False)),
        }

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        value = self.value()
        one = [(value, "In this list")] if value and read_uuid(value) else []
        return [*super().lookups(request, model_admin), *one]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        list_id = read_uuid(self.value() or "")
        if list_id is None:
            return super().queryset(request, queryset)
        # The index begins with the owner.
        owner_id = TaskList.objects.filter(pk=list_id).values_list("user_id", flat=True).first()
        return queryset.filter(user=owner_id, list=list_id)
