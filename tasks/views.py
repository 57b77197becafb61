"""The routes of tasks, of lists and of labels."""

from typing import Any, ClassVar

import orjson
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from todo_project.api.envelope import empty_response, json_response
from todo_project.api.serializers import ChoiceField
from todo_project.resources.base import OwnedView, refuse_header
from todo_project.resources.idempotency import Key, fingerprint, read_key
from todo_project.resources.pages import Seal, foreign_cursor, next_link
from todo_project.resources.parameters import PageQuery
from todo_project.resources.statement import Work
from todo_project.resources.views import DeletionQuery, OwnedViewSet
from todo_project.resources.writes import NO_TERMS, Terms
from todo_project.text import NO_LINE, WORD_MAX_CHARACTERS, read_word

from .fields import TASK
from .labels import REMOVAL, RENAMING, LabelSerializer, fetch_labels
from .lists import LIST, keeping_tasks
from .models import Task


class TaskViewSet(OwnedViewSet):
    """What everything has that belongs to a person, and commands."""

    resource = TASK
    zoned = frozenset({"create", "update", "partial_update", "complete"})

    @action(detail=True, methods=["patch"])
    def complete(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Complete a task, or reopen it. Set, never toggled: a repeat changes nothing.

        Completing a task that recurs makes the next one, `next_task_id`; reopening takes that back
        while nobody has changed it.
        """
        return self.command("complete")

    @action(detail=True, methods=["post"])
    def move(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Move a task to another place, with its subtasks. Where it is already, it stays."""
        return self.command("move")

    @action(detail=True, methods=["post"])
    def skip(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Move a task that recurs to the next day of its rule, without completing it."""
        return self.command("skip")


class TaskListDeletionQuery(DeletionQuery):
    """The query parameters of the deletion of a list."""

    tasks = ChoiceField(
        ["keep"],
        required=False,
        help_text="`keep`: its tasks move to the inbox. Left out: they go with the list.",
    )


class TaskListViewSet(OwnedViewSet):
    """What everything has that belongs to a person."""

    resource = LIST
    query_serializers: ClassVar = {"destroy": TaskListDeletionQuery}

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Delete a list with its tasks: into the trash, from which both can be restored together.

        With `tasks=keep` its tasks move to the inbox instead.
        """
        return super().destroy(request, *args, **kwargs)

    @action(detail=True, methods=["post"])
    def restore(  # type: ignore[override]  # the decorator's type has the class in it
        self, request: Request, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Take a list out of the trash, with the tasks that went with it.

        One that isn't there stays as it is.
        """
        return self.bring_back()

    def deletion(self) -> Work:
        work = super().deletion()
        return keeping_tasks(work) if "tasks" in self.query else work


class LabelsView(OwnedView):
    """All labels of a person's."""

    query_serializers: ClassVar = {"get": PageQuery}

    @extend_schema(operation_id="labels_list", responses=LabelSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """List the labels of your tasks, by name.

        They are compared by code point. One that only completed tasks have has no open ones.
        """
        limit = self.query["limit"]
        found = fetch_labels(self.caller, limit, self._after())
        self.is_settled = True
        rows = [{"name": name, "open_tasks": open_tasks} for name, open_tasks in found[:limit]]
        meta: dict[str, Any] = {"limit": limit, "next_cursor": None}
        headers = {}
        if len(rows) < len(found):
            meta["next_cursor"] = self._seal.close([rows[-1]["name"]])
            path = f"{self.own_path}/labels"
            headers["Link"] = next_link(path, self.parameters, meta["next_cursor"])
        return json_response(request, rows, meta=meta, headers=headers)

    def _after(self) -> str | None:
        if "cursor" not in self.query:
            return None
        try:
            (name,) = self._seal.open(self.query["cursor"])
        except ValueError:
            raise foreign_cursor() from None
        return str(name)

    @property
    def _seal(self) -> Seal:
        return Seal({"owner": str(self.caller.user_id), "list": "labels"})


class LabelView(OwnedView):
    """One label, on all tasks of a person's."""

    body_serializers: ClassVar = {"patch": LabelSerializer}
    keyed = frozenset({"patch", "delete"})
    path_parameters: ClassVar = {
        "label": {
            "description": "The label's name, percent-encoded, `/` as `%2F`. There is no trailing "
            "slash that could be left out.",
            "example": "errands",
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": WORD_MAX_CHARACTERS,
                "pattern": f"^[^,{NO_LINE}]+$",
            },
        }
    }

    @extend_schema(operation_id="labels_rename", responses=LabelSerializer)
    def patch(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Rename a label on every task that has it.

        Where a task has both names already, the new one stays, in place of the first of them. All
        tasks that change get one version, those in the trash as well.
        """
        label = self._read_label()
        terms = self._terms(status.HTTP_200_OK)
        written = self.write(RENAMING, {"label": label, "name": label, **self.body}, terms)
        replayed = self.replayed(written)
        if replayed is not None:
            return replayed
        assert written.json is not None
        return json_response(request, orjson.Fragment(written.json))

    @extend_schema(operation_id="labels_delete", responses={204: None})
    def delete(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Take a label off every task that has it.

        The tasks stay. Those that had it get one version, those in the trash as well.
        """
        label = self._read_label()
        written = self.write(REMOVAL, {"label": label}, self._terms(status.HTTP_204_NO_CONTENT))
        return self.replayed(written) or empty_response()

    def require_object(self) -> None:
        living = Task.objects.owned_by(self.caller.user_id).filter(deleted_at=None)
        if not living.filter(labels__contains=[self._read_label()]).exists():
            raise NotFound()

    def _read_label(self) -> str:
        """The label in the path, as tasks have it. Raises NotFound for what can be none."""
        try:
            return read_word(self.kwargs["label"])
        except ValidationError:
            raise NotFound() from None

    def _terms(self, success: int) -> Terms:
        """What the request's headers ask for. Raises the exception of those that it can't have."""
        for header in ("If-Match", "If-None-Match"):
            if f"HTTP_{header.upper().replace('-', '_')}" in self.request.META:
                raise refuse_header(header, "A label has no tag that could match.")
        text = read_key(self.request)
        if text is None:
            return NO_TERMS
        name = f"label.{self.operation}"
        request_print = fingerprint(name, self._read_label(), self.parameters, self.request.data)
        return Terms(key=Key(text, request_print, success))
