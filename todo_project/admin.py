"""What the admins of accounts and tasks share, so that operators can work on a million rows.

For the `admin` modules of both apps. Django imports it with them.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import model_ngettext
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import DateTimeField, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from todo_project.api.views import read_uuid

# Rows that a list counts and pages through; what lies beyond is for the search to find. An OFFSET
# is therefore never deeper, and a page costs milliseconds however large the table is.
COUNT_LIMIT = 1_000
# Rows that one action takes. Its confirmation sends each as a form field, and Django reads 1,000.
ACTION_LIMIT = 500


class CappedCount(int):
    """A count that stopped: compares as the number at which it did, and reads as "more than"."""

    def __str__(self) -> str:
        return f"more than {int(self):,}"


def capped_count(queryset: QuerySet[Any]) -> int:
    """How many rows there are, up to COUNT_LIMIT. One query, which reads no more than that."""
    count = queryset[: COUNT_LIMIT + 1].count()
    return count if count <= COUNT_LIMIT else CappedCount(COUNT_LIMIT)


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # generic in the stubs only
    """Django's, without its COUNT(*) of the whole table and the deep pages that follow from it."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return capped_count(self.object_list)


class IndexedChangeList(ChangeList):
    """A list in the one order that an index serves, whatever `?o=` asks for."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return list(self.model_admin.get_ordering(request))

    def get_results(self, request: HttpRequest) -> None:
        """Tells of a page that isn't there. Django shows the first instead, without a word."""
        try:
            super().get_results(request)
            is_there = self.multi_page or self.page_num == 1
        except IncorrectLookupParameters:  # goes to the first page
            self._tell_of_missing_page(request)
            raise
        if not is_there:
            self._tell_of_missing_page(request)

    def _tell_of_missing_page(self, request: HttpRequest) -> None:
        self.model_admin.message_user(
            request,
            f"There is no page {self.page_num}. This is the first. Lists end after {COUNT_LIMIT:,} "
            "rows; the search finds what lies beyond.",
            messages.WARNING,
        )


class LargeTableAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Newest first, found by search; each list page takes one bounded count and one query."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 100
    ordering = ("-id",)  # UUIDv7: by age
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER  # they count the whole table

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return IndexedChangeList

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Times say which they are, in forms as in lists (todo_project/formats)."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(db_field, DateTimeField):
            field.help_text = field.help_text or settings.TIME_ZONE
        return field

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """No filters by URL but `list_filter`'s own.

        `?title__regex=` reads all rows, `?refresh_hash__gt=` tells a hash.
        """
        return lookup in {getattr(choice, "parameter_name", None) for choice in self.list_filter}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """No values from the URL: Django's widgets fail on malformed ones."""
        return {}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The row of an id, such as one of the log, or those of its owner; else what `find` finds.

        None of it twice.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        if "\x00" in term:  # as autocomplete lets it through, and PostgreSQL has no such text
            return queryset.none(), False
        row_id = read_uuid(term)
        if row_id is None:
            return self.find(queryset, term), False
        is_meant = Q(pk=row_id)
        if "user_id" in {field.attname for field in self.opts.concrete_fields}:
            is_meant |= Q(user=row_id)
        return queryset.filter(is_meant), False

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The rows that a search finds; `term` is neither blank nor an id."""
        raise NotImplementedError

    def response_action(  # type: ignore[override]  # the stubs are Django 6's
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """Runs an action with its log entries in one transaction."""
        try:
            for pk in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(pk)
        except ValidationError:
            raise BadRequest("A selected row has a malformed id.") from None
        across = request.POST.get("select_across", "0") != "0"
        if across and queryset[: ACTION_LIMIT + 1].count() > ACTION_LIMIT:
            self.message_user(
                request,
                f"Nothing was done: an action takes at most {ACTION_LIMIT} rows. "
                "Search for fewer, or go page by page.",
                messages.WARNING,
            )
            return None
        with transaction.atomic():
            return super().response_action(request, queryset)


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
    assert request.user.pk is not None  # admin has asked for a sign-in
    LogEntry.objects.log_actions(request.user.pk, changed, flag, message)
