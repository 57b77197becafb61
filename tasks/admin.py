"""Tasks and lists in Django admin: for operators, who see everybody's."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import (
    AdminTextareaWidget,
    AdminTextInputWidget,
    AutocompleteSelect,
)
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from rest_framework import exceptions

from todo_project.admin import LargeTableAdmin, log_changes, tell
from todo_project.api.views import read_uuid
from todo_project.clock import lock_clocks
from todo_project.resources.parameters import WordsField
from todo_project.resources.resource import Resource, constraint_of

from .days import ZONES, today
from .fields import TASK
from .lists import LIST
from .models import (
    DESCRIPTION_MAX_CHARACTERS,
    LISTS_MAX,
    PRIORITIES,
    Task,
    TaskList,
    TaskQuerySet,
)
from .recurrence import RuleError
from .recurring import reckoned

# Words of a title and most filters have no index: they read rows until they have a page of them,
# and there may be none. So many at most, which takes 0.2 s; all of a million would take 1.3 s.
SEARCHED_TASKS = 100_000

_RECORD = ("id", "version", "created_at", "updated_at", "deleted_at")


class TextareaField(forms.CharField):
    """Text of several lines as it was written: browsers send every line's end as CR LF."""

    widget = AdminTextareaWidget

    def to_python(self, value: Any) -> Any:
        return _unix_lines(super().to_python(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(_unix_lines(initial), data)


class LabelsField(forms.CharField):
    """Labels with commas between, by the rules of the API."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        try:
            return WordsField().to_internal_value(text.split(",")) if text else []
        except exceptions.ValidationError as error:
            raise ValidationError([str(fault) for fault in error.detail]) from None


class OwnedForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Writes what it finds valid, and tells what the database has against it.

    Which has the last word on what concerns several fields, or several rows. What it refuses is
    told as the API does.
    """

    resource: Resource

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # which the stubs don't have
        if self.errors:
            return
        try:
            with transaction.atomic():
                self._write()
        except IntegrityError as error:
            self._tell(constraint_of(error) or "", error)
        except RuleError as error:  # of who wrote past the API
            self.add_error(None, f"recurrence: {error}")

    def _write(self) -> None:
        """Of what was there the changed columns alone; what someone else changes survives."""
        if "user" in self.fields:  # read-only in what is there
            self.instance.save()
            return
        lock_clocks([self.instance.user_id])
        if changed := {name: self.cleaned_data[name] for name in self.changed_data}:
            self.change(changed)

    def change(self, changed: Mapping[str, Any]) -> None:
        rows = type(self.instance)._default_manager.filter(pk=self.instance.pk)
        rows.update(**changed, updated_at=Now())

    def _tell(self, constraint: str, error: IntegrityError) -> None:
        if constraint in self.resource.conflicts:
            self.add_error(None, self.resource.conflicts[constraint])
        elif constraint in self.resource.faults:
            name, fault = self.resource.faults[constraint]
            is_written = name in self.fields
            self.add_error(
                name if is_written else None, fault if is_written else f"{name}: {fault}"
            )
        else:
            raise error


class TaskForm(OwnedForm):
    resource = TASK

    description = TextareaField(
        required=False, strip=False, max_length=DESCRIPTION_MAX_CHARACTERS, empty_value=None
    )
    labels = LabelsField(
        required=False, help_text="With commas between.", widget=AdminTextInputWidget
    )
    time_zone = forms.TypedChoiceField(
        required=False,
        choices=[("", "---------"), *((zone, zone) for zone in sorted(ZONES))],
        empty_value=None,
        help_text="Of the time. Without it the time is on the clock of wherever its owner is.",
    )

    def change(self, changed: Mapping[str, Any]) -> None:
        """In one statement; in two where a completion wants days that have to be reckoned."""
        rows = Task.objects.filter(pk=self.instance.pk)
        try:
            with transaction.atomic():
                rows.change(**changed)
        except IntegrityError as error:
            if constraint_of(error) != "tasks_task_reckoned":
                raise
            # First what they are reckoned from.
            rows.change(**{name: changed[name] for name in changed if name != "completed_at"})
            days = reckoned(rows.get(), {"is_completed": True})
            rows.update(completed_at=changed["completed_at"], **days, updated_at=Now())


class OwnerSelect(AutocompleteSelect):
    """Django's fails on a malformed id that it has to show again after an error."""

    def optgroups(self, name: str, value: Sequence[str], attr: dict[str, Any] | None = None) -> Any:
        return super().optgroups(name, [text for text in value if read_uuid(text)], attr)


class ChoiceFilter(admin.SimpleListFilter):
    """Conditions to choose from. What isn't one of them filters nothing."""

    # Whether it is slow among a million rows: no index serves it.
    reads_rows = True

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        """By the value in the URL, what the operator reads and what it means."""
        raise NotImplementedError

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [(value, text) for value, (text, _) in self.conditions().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        _, condition = self.conditions().get(self.value() or "", ("", Q()))
        return queryset.filter(condition)


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


class DueFilter(ChoiceFilter):
    title = "due, by the day in UTC"
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


class OwnedAdmin(LargeTableAdmin):
    """What is a person's: written under their clock, with the trash. It stays its owner's.

    To move it would show it to someone else. `written` are the fields of forms.
    """

    written: Sequence[str]
    shown: Sequence[str] = ()
    autocomplete_fields = ("user",)
    list_filter: ClassVar[tuple[type[ChoiceFilter], ...]] = (TrashFilter,)
    list_select_related: ClassVar[tuple[str, ...]] = ("user",)
    actions = ("move_to_trash", "restore")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = OwnerSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        written = ("user", *self.written)
        return (*written, *self.shown, *_RECORD) if obj else written

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", *self.shown, *_RECORD) if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """OwnedForm has done so."""

    def in_order(self, rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """The rows of an action, those that have to be written before others first."""
        yield rows

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


@admin.register(Task)
class TaskAdmin(OwnedAdmin):
    """Where a task stands, and its rule, is for people to say: by the API."""

    form = TaskForm
    written = (
        *("title", "description", "completed_at", "priority", "labels"),
        *("due_on", "due_time", "time_zone", "start_on", "repeat_from"),
    )
    shown = (
        *("due_at", "done", "list", "parent", "recurrence"),
        *("series_id", "series_start_on", "occurrence_on", "next_task"),
    )
    list_display = ("title", "user", "done", "due_on", "list", "created_at", "deleted_at")
    list_filter = (
        *(TrashFilter, StateFilter, DueFilter),
        *(PriorityFilter, InListFilter, RecurrenceFilter),
    )
    list_select_related = ("user", "list")
    search_fields = ("title",)
    search_help_text = (
        "Words of a title; or an owner's e-mail address; or both; or an id, of a task or of its "
        f"owner. Words and filters are looked for among the newest {SEARCHED_TASKS:,} tasks, or "
        "among all of an owner or of a list that is named."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        tasks = super().get_queryset(request)
        return tasks.defer("title_folded", "description_folded", "list__name_folded")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Of what is neither one person's nor one list's the newest alone.

        Takes one query more, for the oldest of these, where nothing else names an index.
        """
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        slow = {each.parameter_name for each in self.list_filter if each.reads_rows}
        is_of_some = "@" in term or read_uuid(term) or read_uuid(request.GET.get("list", ""))
        if is_of_some or not (term or slow & request.GET.keys()):
            return found, may_repeat
        newest = Task.objects.order_by("-id").values_list("id", flat=True)
        # A value and not a subquery, so that the planner knows how few tasks this leaves.
        for oldest in newest[SEARCHED_TASKS - 1 : SEARCHED_TASKS]:
            found = found.filter(id__gte=oldest)
        return found, may_repeat

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
            queryset = _owned_by(emails[0], queryset)
        assert isinstance(queryset, TaskQuerySet)
        return queryset.titled(title)

    @admin.display(boolean=True, description="completed")
    def done(self, task: Task) -> bool:
        return task.completed_at is not None

    @admin.display(description="next task")
    def next_task(self, task: Task) -> Any:
        if task.next_task_id is None:
            return None
        url = reverse("admin:tasks_task_change", args=[task.next_task_id])
        return format_html('<a href="{}">{}</a>', url, task.next_task_id)


class TaskListForm(OwnedForm):
    resource = LIST

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
    shown = ("position", "tasks")
    list_display = ("name", "user", "archived", "tasks", "created_at", "deleted_at")
    search_fields = ("user",)
    search_help_text = "An owner's e-mail address; or an id, of a list or of its owner."

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskList]:
        return super().get_queryset(request).defer("name_folded")

    def find(self, queryset: QuerySet[TaskList], term: str) -> QuerySet[TaskList]:
        """By the owner's whole address. Takes one query more."""
        return _owned_by(term, queryset) if "@" in term else queryset.none()

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
        url = f"{reverse('admin:tasks_task_changelist')}?{query}"
        return format_html('<a href="{}">Tasks</a>', url)

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
