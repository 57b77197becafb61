"""Tasks and lists in Django admin: for operators, who see everybody's."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextareaWidget, AutocompleteSelect
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from todo_project.admin import LargeTableAdmin, log_changes, tell
from todo_project.api.views import read_uuid
from todo_project.clock import lock_clocks
from todo_project.resources.resource import constraint_of

from .days import ZONES
from .models import DESCRIPTION_MAX_CHARACTERS, LISTS_MAX, Task, TaskList, TaskQuerySet

# A search by title alone reads rows until it has a page of them; there may be none. So many it
# reads at most, which takes 0.2 s; all of a million would take 1.3 s.
TITLE_SEARCH_TASKS = 100_000

_RECORD = ("id", "version", "created_at", "updated_at", "deleted_at")


class TextareaField(forms.CharField):
    """Text of several lines as it was written: browsers send every line's end as CR LF."""

    widget = AdminTextareaWidget

    def to_python(self, value: Any) -> Any:
        return _unix_lines(super().to_python(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(_unix_lines(initial), data)


class TaskForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    description = TextareaField(
        required=False, strip=False, max_length=DESCRIPTION_MAX_CHARACTERS, empty_value=None
    )
    time_zone = forms.TypedChoiceField(
        required=False,
        choices=[("", "---------"), *((zone, zone) for zone in sorted(ZONES))],
        empty_value=None,
        help_text="Of the time. Without it the time is on the clock of wherever its owner is.",
    )


class OwnerSelect(AutocompleteSelect):
    """Django's fails on a malformed id that it has to show again after an error."""

    def optgroups(self, name: str, value: Sequence[str], attr: dict[str, Any] | None = None) -> Any:
        return super().optgroups(name, [text for text in value if read_uuid(text)], attr)


class TrashFilter(admin.SimpleListFilter):
    title = "trash"
    parameter_name = "trash"

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> tuple[tuple[str, str], ...]:
        return (("yes", "In the trash"), ("no", "Not in the trash"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "yes":
                return queryset.filter(deleted_at__isnull=False)
            case "no":
                return queryset.filter(deleted_at=None)
            case _:
                return queryset


class OwnedAdmin(LargeTableAdmin):
    """What is a person's: written under their clock, with the trash. It stays its owner's.

    To move it would show it to someone else. `written` are the fields of forms.
    """

    written: Sequence[str]
    shown: Sequence[str] = ()
    autocomplete_fields = ("user",)
    list_filter = (TrashFilter,)
    list_select_related = ("user",)
    actions = ("move_to_trash", "restore")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = OwnerSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        written = ("user", *self.written)
        return (*written, *self.shown, *_RECORD) if obj else written

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", *self.shown, *_RECORD) if obj else ()

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
        changed = self.model._default_manager.filter(pk__in=[row.pk for row in rows])
        changed.update(deleted_at=Now() if is_trashed else None)
        verb = "Moved to the trash:" if is_trashed else "Restored"
        log_changes(request, rows, "Moved to the trash." if is_trashed else "Restored.")
        reason = "in the trash already" if is_trashed else "not in the trash"
        tell(self, request, verb, len(rows), Counter({reason: len(selected) - len(rows)}))


@admin.register(Task)
class TaskAdmin(OwnedAdmin):
    form = TaskForm
    written = (
        *("title", "description", "completed_at"),
        *("due_on", "due_time", "time_zone", "start_on"),
    )
    shown = ("due_at", "done", "list")
    list_display = ("title", "user", "done", "created_at", "deleted_at")
    search_fields = ("title",)
    search_help_text = (
        f"Words of a title, among the newest {TITLE_SEARCH_TASKS:,} tasks; or an owner's e-mail "
        "address; or both, among all of theirs; or an id, of a task or of its owner."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).defer("title_folded", "description_folded")

    def find(self, queryset: QuerySet[Task], term: str) -> QuerySet[Task]:
        """A word with @ is the owner's whole address, each other stands in the title.

        Takes one query more: for the owner, or for the oldest task that is searched.
        """
        words = term.split()
        emails = [word for word in words if "@" in word]
        title = " ".join(word for word in words if "@" not in word)
        if len(emails) > 1:  # a task has one owner
            return queryset.none()
        if emails:
            queryset = _owned_by(emails[0], queryset)
        else:
            newest = Task.objects.order_by("-id").values_list("id", flat=True)
            # A value and not a subquery, so that the planner knows how few tasks this leaves.
            for oldest in newest[TITLE_SEARCH_TASKS - 1 : TITLE_SEARCH_TASKS]:
                queryset = queryset.filter(id__gte=oldest)
        assert isinstance(queryset, TaskQuerySet)
        return queryset.titled(title)

    def save_model(
        self, request: HttpRequest, obj: Task, form: "forms.ModelForm[Task]", change: Any
    ) -> None:
        """Writes the changed columns alone; what someone else changes meanwhile survives."""
        if change:
            lock_clocks([obj.user_id])
            changed = {name: form.cleaned_data[name] for name in form.changed_data}
            Task.objects.filter(pk=obj.pk).change(**changed)
        else:
            obj.save()

    @admin.display(boolean=True, description="completed")
    def done(self, task: Task) -> bool:
        return task.completed_at is not None


class TaskListForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "user" in cleaned:  # which is read-only in lists that are there
            living = TaskList.objects.filter(user=cleaned["user"], deleted_at=None)
            if living.count() >= LISTS_MAX:
                raise ValidationError(f"This person has {LISTS_MAX} lists, the most possible.")
        return cleaned


@admin.register(TaskList)
class TaskListAdmin(OwnedAdmin):
    """A list's tasks go with it, and come back with it: the database sees to that."""

    form = TaskListForm
    written = ("name", "color", "archived_at")
    shown = ("position",)
    list_display = ("name", "user", "archived", "created_at", "deleted_at")
    search_fields = ("user",)
    search_help_text = "An owner's e-mail address; or an id, of a list or of its owner."

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskList]:
        return super().get_queryset(request).defer("name_folded")

    def find(self, queryset: QuerySet[TaskList], term: str) -> QuerySet[TaskList]:
        """By the owner's whole address. Takes one query more."""
        return _owned_by(term, queryset) if "@" in term else queryset.none()

    def save_model(
        self, request: HttpRequest, obj: TaskList, form: "forms.ModelForm[TaskList]", change: Any
    ) -> None:
        """Writes the changed columns alone; what someone else changes meanwhile survives."""
        if change:
            lock_clocks([obj.user_id])
            changed = {name: form.cleaned_data[name] for name in form.changed_data}
            if changed:
                TaskList.objects.filter(pk=obj.pk).update(**changed, updated_at=Now())
        else:
            obj.save()

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

    @admin.display(boolean=True)
    def archived(self, task_list: TaskList) -> bool:
        return task_list.archived_at is not None


def _owned_by(email: str, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Those of the person with this address. One query."""
    user_model = get_user_model()
    try:
        return queryset.filter(user=user_model.objects.get_by_natural_key(email))
    except user_model.DoesNotExist:
        return queryset.none()


def _owners(rows: QuerySet[Any]) -> QuerySet[Any, Any]:
    return rows.order_by().values_list("user_id", flat=True).distinct()


def _unix_lines(text: Any) -> Any:
    return text.replace("\r\n", "\n").replace("\r", "\n") if text else text
