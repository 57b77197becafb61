"""What operators did in Django admin, each and all of them. To look at; nobody changes it here."""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode
from uuid import UUID

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from accounts.models import User
from todo_project.admin import (
    SEARCHED_ROWS,
    ChoiceFilter,
    DayFilter,
    LargeTableAdmin,
    page_of,
)
from todo_project.api.views import read_uuid

from .operators import operator_id

_DONE = {ADDITION: "Added", CHANGE: "Changed", DELETION: "Deleted"}


class OperatorFilter(ChoiceFilter):
    """Also by an operator's id, as the rows lead here."""

    title = "operator"
    parameter_name = "operator"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        me = operator_id(self.request)
        choices = {"me": ("Me", Q(user=me)), "others": ("Colleagues", ~Q(user=me))}
        if one := read_uuid(self.value() or ""):
            choices[str(one)] = ("This operator", Q(user=one))
        return choices


class DoneFilter(ChoiceFilter):
    title = "action"
    parameter_name = "action"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {text.lower(): (text, Q(action_flag=flag)) for flag, text in _DONE.items()}


class WhenFilter(DayFilter):
    title = "day (UTC)"
    parameter_name = "day"

    @classmethod
    def condition(cls, first: Any, end: Any) -> Q:
        is_after = Q(action_time__gte=first)
        return is_after & Q(action_time__lt=end) if end else is_after


class KindFilter(ChoiceFilter):
    title = "kind"
    parameter_name = "kind"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        models = [model for model in apps.get_models() if admin.site.is_registered(model)]
        return {
            meta.label_lower: (
                capfirst(str(meta.verbose_name_plural)),
                Q(content_type__app_label=meta.app_label, content_type__model=meta.model_name),
            )
            for meta in (model._meta for model in models if model is not LogEntry)
        }


@admin.register(LogEntry)
class AuditAdmin(LargeTableAdmin):
    list_display = ("action_time", "operator", "done", "kind", "thing", "details")
    fields = ("action_time", "user", "done", "kind", "thing", "object_id", "details")
    list_filter: ClassVar = (OperatorFilter, DoneFilter, KindFilter, WhenFilter)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr",)
    search_help_text = (
        "Part of a name or of an address, as it was then; an operator's whole address; or an id, "
        "of an operator or of what was changed. All of it, and the filters, among the newest "
        f"{SEARCHED_ROWS:,} entries."
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LogEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LogEntry | None = None) -> bool:
        return False

    def of_id(self, row_id: UUID) -> Q:
        return Q(object_id=str(row_id)) | Q(user=row_id)

    def find(self, queryset: QuerySet[LogEntry], term: str) -> QuerySet[LogEntry]:
        operators = User.objects.with_email(term).values("pk")
        return queryset.filter(Q(object_repr__icontains=term) | Q(user__in=operators))

    def is_indexed(self, request: HttpRequest, term: str) -> bool:
        """Never: Django's table has an index of its operators, and of no object."""
        return False

    @admin.display(description="operator")
    def operator(self, entry: LogEntry) -> SafeString:
        """Leads to all that they did."""
        query = urlencode({OperatorFilter.parameter_name: entry.user_id})
        return format_html(
            '<a href="{}?{}">{}</a>', page_of("changelist", LogEntry), query, entry.user
        )

    @admin.display(description="action")
    def done(self, entry: LogEntry) -> str:
        return _DONE[entry.action_flag]

    @admin.display(description="kind")
    def kind(self, entry: LogEntry) -> str | None:
        return capfirst(entry.content_type.name) if entry.content_type else None

    @admin.display(description="what")
    def thing(self, entry: LogEntry) -> str:
        """As it was called then; leads to its page, where it still should have one."""
        url = None if entry.is_deletion() else entry.get_admin_url()
        return (
            format_html('<a href="{}">{}</a>', url, entry.object_repr) if url else entry.object_repr
        )

    @admin.display(description="details")
    def details(self, entry: LogEntry) -> str:
        return entry.get_change_message()
