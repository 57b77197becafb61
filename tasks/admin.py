"""Tasks in Django admin: for operators, who see everybody's."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextareaWidget, AutocompleteSelect
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from todo_project.admin import LargeTableAdmin, log_changes, tell
from todo_project.api.views import read_uuid
from todo_project.clock import lock_clocks

from .models import DESCRIPTION_MAX_CHARACTERS, Task, TaskQuerySet

# A search by title alone reads rows until it has a page of them; there may be none. So many it
# reads at most, which takes 0.2 s; all of a million would take 1.3 s.
TITLE_SEARCH_TASKS = 100_000

_RECORD = ("id", "done", "version", "created_at", "updated_at", "deleted_at")


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


class OwnerSelect(AutocompleteSelect):
    """Django's fails on a malformed id that it has to show again after an error."""

    def optgroups(self, name: str, value: Sequence[str], attr: dict[str, Any] | None = None) -> Any:
        return super().optgroups(name, [text for text in value if read_uuid(text)], attr)


class TrashFilter(admin.SimpleListFilter):
    title = "trash"
    parameter_name = "trash"

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Task]"
    ) -> tuple[tuple[str, str], ...]:
        return (("yes", "In the trash"), ("no", "Not in the trash"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        match self.value():
            case "yes":
                return queryset.filter(deleted_at__isnull=False)
            case "no":
                return queryset.filter(deleted_at=None)
            case _:
                return queryset


@admin.register(Task)
class TaskAdmin(LargeTableAdmin):
    form = TaskForm
    autocomplete_fields = ("user",)
    list_display = ("title", "user", "done", "created_at", "deleted_at")
    list_filter = (TrashFilter,)
    list_select_related = ("user",)
    search_fields = ("title",)
    search_help_text = (
        f"Words of a title, among the newest {TITLE_SEARCH_TASKS:,} tasks; or an owner's e-mail "
        "address; or both, among all of theirs; or an id, of a task or of its owner."
    )
    actions = ("move_to_trash", "restore")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).defer("title_folded", "description_folded")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = OwnerSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Task | None = None) -> tuple[str, ...]:
        written = ("user", "title", "description", "completed_at")
        return (*written, *_RECORD) if obj else written

    def get_readonly_fields(self, request: HttpRequest, obj: Task | None = None) -> tuple[str, ...]:
        """A task stays its owner's: to move it would show it to someone else."""
        return ("user", *_RECORD) if obj else ()

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
            user_model = get_user_model()
            try:
                queryset = queryset.filter(user=user_model.objects.get_by_natural_key(emails[0]))
            except user_model.DoesNotExist:
                return queryset.none()
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

    def delete_model(self, request: HttpRequest, obj: Task) -> None:
        """For good, as everywhere in admin."""
        lock_clocks([obj.user_id])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        lock_clocks(_owners(queryset))
        super().delete_queryset(request, queryset)

    @admin.action(permissions=["change"], description="Move selected tasks to the trash")
    def move_to_trash(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._set_trashed(request, queryset, is_trashed=True)

    @admin.action(permissions=["change"], description="Restore selected tasks from the trash")
    def restore(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._set_trashed(request, queryset, is_trashed=False)

    def _set_trashed(
        self, request: HttpRequest, queryset: QuerySet[Task], *, is_trashed: bool
    ) -> None:
        """Changes and logs those that are not so already; says how many, and how many were."""
        lock_clocks(_owners(queryset))
        selected = list(queryset.select_for_update(no_key=True, of=("self",)))
        tasks = [task for task in selected if (task.deleted_at is not None) != is_trashed]
        changed = Task.objects.filter(pk__in=[task.pk for task in tasks])
        changed.update(deleted_at=Now() if is_trashed else None)
        verb = "Moved to the trash:" if is_trashed else "Restored"
        log_changes(request, tasks, "Moved to the trash." if is_trashed else "Restored.")
        reason = "in the trash already" if is_trashed else "not in the trash"
        tell(self, request, verb, len(tasks), Counter({reason: len(selected) - len(tasks)}))

    @admin.display(boolean=True, description="completed")
    def done(self, task: Task) -> bool:
        return task.completed_at is not None


def _owners(tasks: QuerySet[Task]) -> QuerySet[Task, Any]:
    return tasks.order_by().values_list("user_id", flat=True).distinct()


def _unix_lines(text: Any) -> Any:
    return text.replace("\r\n", "\n").replace("\r", "\n") if text else text
