"""The task routes: one ViewSet, which sees nobody's tasks but the caller's."""

from typing import Any, ClassVar, cast
from uuid import UUID

import orjson
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet
from uuid_utils.compat import uuid7

from todo_project.api.callers import Caller
from todo_project.api.envelope import empty_response, json_response
from todo_project.api.limits import Counter, admit
from todo_project.api.pagination import CursorCodec, Position, next_link
from todo_project.api.permissions import HasScope, Scope
from todo_project.api.views import StrictInputMixin, read_uuid

from . import queries
from .filters import TaskListQuery, page_binding
from .models import Task
from .permissions import IsPathOwner
from .serializers import CompletionSerializer, TaskSerializer
from .throttles import WriteThrottle

# What the rules of the database say of a title.
_TITLE_FAULTS = {
    "tasks_task_title_visible": ErrorDetail("The title has nothing to see.", code="blank"),
    "tasks_task_title_line": ErrorDetail("The title is no line.", code="control_characters"),
}


class TaskViewSet(StrictInputMixin, GenericViewSet[Task]):
    """Everything that can be done with one's own tasks.

    The statements of queries.py do the work; what they give is what TaskSerializer would.
    """

    queryset = Task.objects.none()  # whoever forgets get_queryset sees nothing
    serializer_class = TaskSerializer
    permission_classes = (IsAuthenticated, IsPathOwner, HasScope)
    read_scope = Scope.TASKS_READ
    write_scope = Scope.TASKS_WRITE
    throttle_classes = (WriteThrottle,)
    defers_caller_check = True
    query_serializers: ClassVar = {"list": TaskListQuery}
    body_serializers: ClassVar = {
        "create": TaskSerializer,
        "update": TaskSerializer,
        "partial_update": TaskSerializer,
        "complete": CompletionSerializer,
    }

    def get_queryset(self) -> QuerySet[Task]:
        return Task.objects.owned_by(self._caller.user_id)

    def require_object(self) -> None:
        if "task_id" not in self.kwargs:
            return
        task_id = self._task_id
        if task_id is None or not self.get_queryset().filter(pk=task_id).exists():
            raise NotFound()

    @extend_schema(operation_id="tasks_list", responses=TaskSerializer(many=True))
    def list(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """List your tasks, page by page."""
        binding = page_binding(self.query, self._caller.user_id)
        cursors = CursorCodec(self.query["ordering"], binding)
        page = queries.fetch_page(self._caller, self.query, self._position(cursors))
        self.is_settled = True
        meta: dict[str, Any] = {"limit": self.query["limit"], "next_cursor": None}
        headers = {}
        if page.has_more:
            next_cursor = cursors.encode(orjson.loads(page.tasks[-1]))
            meta["next_cursor"] = next_cursor
            headers["Link"] = next_link(self._list_path, self.parameters, next_cursor)
        if page.total is not None:
            meta["total"] = page.total
        tasks = [orjson.Fragment(task) for task in page.tasks]
        return json_response(request, tasks, meta=meta, headers=headers)

    @extend_schema(operation_id="tasks_create", responses={201: TaskSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Create a task."""
        task_id = uuid7()
        try:
            written = queries.create(self._caller, self._counter, task_id, self.body)
        except IntegrityError as error:
            raise self._refusal(error) from None
        return json_response(
            request,
            self._written(written),
            status=status.HTTP_201_CREATED,
            headers={"Location": f"{self._list_path}/{task_id}"},
        )

    @extend_schema(operation_id="tasks_read", responses=TaskSerializer)
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Read a task."""
        task = queries.fetch(self._caller, self._task_id)
        self.is_settled = True
        if task is None:
            raise NotFound()
        return json_response(request, orjson.Fragment(task))

    @extend_schema(operation_id="tasks_replace", responses=TaskSerializer)
    def update(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Replace a task. A field that is left out keeps its value; `title` is required."""
        return self._change(self.body)

    @extend_schema(operation_id="tasks_update", responses=TaskSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Change the fields that are sent."""
        return self._change(self.body)

    @extend_schema(operation_id="tasks_complete", responses=TaskSerializer)
    @action(detail=True, methods=["patch"])
    def complete(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Complete a task, or reopen it. Set, never toggled: a repeat changes nothing."""
        return self._change({"is_completed": True, **self.body})

    @extend_schema(operation_id="tasks_delete", responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Delete a task."""
        self._written(queries.delete(self._caller, self._counter, self._task_id))
        return empty_response()

    @property
    def _caller(self) -> Caller:
        return cast("Caller", self.request.auth)

    @property
    def _counter(self) -> Counter | None:
        return WriteThrottle().counter(self.request)

    @property
    def _task_id(self) -> UUID | None:
        """The id in the path; None, which no task has, for what is none."""
        return read_uuid(self.kwargs["task_id"])

    @property
    def _list_path(self) -> str:
        return f"/api/{self._caller.user_id}/tasks"

    def _position(self, cursors: CursorCodec) -> Position | None:
        return cursors.decode(self.query["cursor"]) if "cursor" in self.query else None

    def _change(self, changes: dict[str, Any]) -> HttpResponse:
        try:
            written = queries.change(self._caller, self._counter, self._task_id, changes)
        except IntegrityError as error:
            raise self._refusal(error) from None
        return json_response(self.request, self._written(written))

    def _written(self, written: queries.Written) -> orjson.Fragment:
        self.is_settled = True
        if written.usage is not None:
            admit(self.request._request, written.usage)
        if written.task is None:
            raise NotFound()
        return orjson.Fragment(written.task)

    def _refusal(self, error: IntegrityError) -> Exception:
        """What a constraint of the database says to the client.

        The failed statement rolled its count back, so the view isn't settled: it is counted again.
        """
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        if constraint == "tasks_task_user_fk":
            return self._caller.refusal()  # the account has gone since the statement began
        if constraint in _TITLE_FAULTS:
            # LineField let it pass: the database's tables of Unicode differ from Python's.
            return ValidationError({"title": [_TITLE_FAULTS[constraint]]})
        return error
