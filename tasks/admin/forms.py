"""Forms of tasks and lists: what the database has against them is told at the field."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib.admin.widgets import (
    AdminTextareaWidget,
    AdminTextInputWidget,
    AutocompleteSelect,
)
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from rest_framework import exceptions

from tasks.days import ZONES
from tasks.fields import TASK
from tasks.lists import LIST
from tasks.models import DESCRIPTION_MAX_CHARACTERS, LISTS_MAX, Task, TaskList
from tasks.recurrence import RuleError
from tasks.recurring import reckoned
from todo_project.api.views import read_uuid
from todo_project.clock import lock_clocks
from todo_project.resources.parameters import WordsField
from todo_project.resources.resource import Resource, constraint_of


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


class TaskListForm(OwnedForm):
    resource = LIST

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "user" in cleaned:  # which is read-only in lists that are there
            living = TaskList.objects.filter(user=cleaned["user"], deleted_at=None)
            if living.count() >= LISTS_MAX:
                raise ValidationError(f"This person has {LISTS_MAX} lists, the most possible.")
        return cleaned


class OwnerSelect(AutocompleteSelect):
    """Django's fails on a malformed id that it has to show again after an error."""

    def optgroups(self, name: str, value: Sequence[str], attr: dict[str, Any] | None = None) -> Any:
        return super().optgroups(name, [text for text in value if read_uuid(text)], attr)


def _unix_lines(text: Any) -> Any:
    return text.replace("\r\n", "\n").replace("\r", "\n") if text else text
