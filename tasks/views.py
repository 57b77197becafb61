"""The routes of tasks and of lists."""

from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.decorators import action
from rest_framework.request import Request

from todo_project.api.serializers import ChoiceField
from todo_project.resources.statement import Work
from todo_project.resources.views import DeletionQuery, OwnedViewSet

from .fields import TASK, CompletionSerializer, completion
from .lists import LIST, keeping_tasks


class TaskViewSet(OwnedViewSet):
    """What everything has that belongs to a person, and completion."""

    resource = TASK
    body_serializers: ClassVar = {"complete": CompletionSerializer}
    has_etag = OwnedViewSet.has_etag | {"complete"}
    conditional = OwnedViewSet.conditional | {"complete"}
    keyed = OwnedViewSet.keyed | {"complete"}

    @action(detail=True, methods=["patch"])
    def complete(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Complete a task, or reopen it. Set, never toggled: a repeat changes nothing."""
        return self.change(completion(self.body))


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
