"""What tasks and lists have in common: they are written under their owner's clock."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from todo_project.admin import ChoiceFilter, CreatedFilter, OwnedRowsAdmin, log_changes, tell
from todo_project.clock import lock_clocks

from .filters import TrashFilter
from .forms import OwnerSelect

_RECORD = ("id", "version", "created_at", "updated_at", "deleted_at")


class OwnedAdmin(OwnedRowsAdmin):
    """What is a person's: written under their clock, with the trash. It stays its owner's.

    To move it would show it to someone else. `written` are the fields of forms.
    """

    written: Sequence[str]
    shown: Sequence[str] = ()
    autocomplete_fields = ("user",)
    list_filter: ClassVar[tuple[type[ChoiceFilter], ...]] = (TrashFilter, CreatedFilter)
    actions = ("move_to_trash", "restore")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = OwnerSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        written = ("user", *self.written)
        return (*written, *self.shown, "theirs", *_RECORD) if obj else written

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", *self.shown, "theirs", *_RECORD) if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """OwnedForm has done so."""

    def in_order(self, rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """The rows of an action, those that have to be written before others first."""
        yield rows

    def gone_with(self, rows: Sequence[Any]) -> str:
        """What the database deletes with them, such as "2 subtasks"."""
        raise NotImplementedError

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Django's, and what it doesn't know of."""
        rows = list(objs)
        shown, counts, forbidden, protected = super().get_deleted_objects(rows, request)
        shown.append(f"Deleted for good, not into the trash; with {self.gone_with(rows)}.")
        return shown, counts, forbidden, protected

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """For good, as everywhere in admin."""
        lock_clocks([obj.user_id])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        lock_clocks(_owners(queryset))
        super().delete_queryset(request, queryset)

    @admin.action(
        permissions=["change"], description="Move selected %(verbose_name_plural)s to the trash"
    )
    def move_to_trash(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.set_trashed(request, queryset, is_trashed=True)

    @admin.action(
        permissions=["change"],
        description="Restore selected %(verbose_name_plural)s from the trash",
    )
    def restore(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.set_trashed(request, queryset, is_trashed=False)

    def set_trashed(
        self, request: HttpRequest, queryset: QuerySet[Any], *, is_trashed: bool
    ) -> None:
        """Changes and logs those that are not so already; says how many, and how many were."""
        lock_clocks(_owners(queryset))
        selected = list(queryset.select_for_update(no_key=True, of=("self",)))
        rows = [row for row in selected if (row.deleted_at is not None) != is_trashed]
        for some in self.in_order(rows):
            # Without those that have gone along by now.
            changed = self.model._default_manager.filter(
                pk__in=[row.pk for row in some], deleted_at__isnull=is_trashed
            )
            changed.update(deleted_at=Now() if is_trashed else None)
        verb = "Moved to the trash:" if is_trashed else "Restored"
        log_changes(request, rows, "Moved to the trash." if is_trashed else "Restored.")
        reason = "in the trash already" if is_trashed else "not in the trash"
        tell(self, request, verb, len(rows), Counter({reason: len(selected) - len(rows)}))


def owned_by(email: str, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Those of the person with this address. One query."""
    user_model = get_user_model()
    try:
        return queryset.filter(user=user_model.objects.get_by_natural_key(email))
    except user_model.DoesNotExist:
        return queryset.none()


def _owners(rows: QuerySet[Any]) -> QuerySet[Any, Any]:
    return rows.order_by().values_list("user_id", flat=True).distinct()
