"""Lists of a million rows and more: what a page of one reads is bounded."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import DateTimeField, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from todo_project.api.views import read_uuid

from .figures import Figure
from .filters import ChoiceFilter

# Rows that a list counts and pages through; what lies beyond is for the search to find. An OFFSET
# is therefore never deeper, and a page costs milliseconds however large the table is.
COUNT_LIMIT = 1_000
# Rows that one action takes. Its confirmation sends each as a form field, and Django reads 1,000.
ACTION_LIMIT = 500
# Words, and most filters, have no index: they read rows until they have a page of them, and there
# may be none. So many at most, the newest, which takes 0.2 s; all of a million would take 1.3 s.
SEARCHED_ROWS = 100_000


class CappedCount(int):
    """A count that stopped: compares as the number at which it did, and reads as "more than"."""

    def __str__(self) -> str:
        return f"more than {int(self):,}"


def capped_count(queryset: QuerySet[Any]) -> int:
    """How many rows there are, up to COUNT_LIMIT. One query, which reads no more than that."""
    return capped(queryset[: COUNT_LIMIT + 1].count())


def capped(count: int) -> int:
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
        if not self.result_list.query.is_sliced:  # one page, by the count
            self.result_list = self.result_list[: self.list_max_show_all]

    def _tell_of_missing_page(self, request: HttpRequest) -> None:
        self.model_admin.message_user(
            request,
            f"There is no page {self.page_num}. This is the first. Lists end after {COUNT_LIMIT:,} "
            "rows; the search finds what lies beyond.",
            messages.WARNING,
        )


class EmptyToFieldMixin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Takes an empty `_to_field`, which popups have in their URLs, for none. Django fails on it."""

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        found: Model | None = super().get_object(request, object_id, from_field or None)
        return found


class LargeTableAdmin(EmptyToFieldMixin):
    """Newest first, found by search; each list page takes one bounded count and one query."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 100
    ordering = ("-id",)  # UUIDv7: by age
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER  # they count the whole table
    list_filter: ClassVar[tuple[type[ChoiceFilter], ...]] = ()
    plotted = ""  # what the first page calls the rows of a day, where it plots them

    def figures(self) -> Iterable[Figure]:
        """What the first page says of the table."""
        return ()

    @property
    def is_owned(self) -> bool:
        """Whether each row is somebody's."""
        return "user_id" in {field.attname for field in self.opts.concrete_fields}

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
        return lookup in {choice.parameter_name for choice in self.list_filter}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """No values from the URL: Django's widgets fail on malformed ones."""
        return {}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """What `find` finds, or the rows of an id, such as one of the log. None of it twice.

        Where nothing names an index, among the newest SEARCHED_ROWS alone. Takes one query more
        then, for the oldest of these.
        """
        term = search_term.strip()
        if "\x00" in term:  # as autocomplete lets it through, and PostgreSQL has no such text
            return queryset.none(), False
        row_id = read_uuid(term)
        if row_id is not None:
            queryset = queryset.filter(self.of_id(row_id))
        elif term:
            queryset = self.find(queryset, term)
        slow = {choice.parameter_name for choice in self.list_filter if choice.reads_rows}
        if (term or slow & request.GET.keys()) and not self.is_indexed(request, term):
            newest = self.model._default_manager.order_by("-pk").values_list("pk", flat=True)
            for choice in self.list_filter:
                newest = newest.filter(choice.bounds(request))
            # A value and not a subquery, so that the planner knows how few rows this leaves.
            for oldest in newest[SEARCHED_ROWS - 1 : SEARCHED_ROWS]:
                queryset = queryset.filter(pk__gte=oldest)
        return queryset, False

    def of_id(self, row_id: UUID) -> Q:
        """The row that has it, and those of the person who has it."""
        return Q(pk=row_id) | Q(user=row_id) if self.is_owned else Q(pk=row_id)

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The rows that a search finds; `term` is neither blank nor an id."""
        raise NotImplementedError

    def is_indexed(self, request: HttpRequest, term: str) -> bool:
        """Whether a search finds its rows by an index: those of an id, or of a whole address."""
        return "@" in term or read_uuid(term) is not None

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


def large_tables(site: admin.AdminSite) -> Iterator[LargeTableAdmin]:
    for model in apps.get_models():
        if site.is_registered(model):
            model_admin = site.get_model_admin(model)
            if isinstance(model_admin, LargeTableAdmin):
                yield model_admin
