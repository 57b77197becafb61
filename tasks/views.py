"""The task routes: one ViewSet, which sees nobody's tasks but the caller's."""

from typing import Any, ClassVar, cast
from uuid import UUID

from django.db import IntegrityError
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from todo_project.api.envelope import Page
from todo_project.api.errors import TokenInvalid
from todo_project.api.pagination import next_link, read_page
from todo_project.api.views import StrictInputMixin, is_canonical_uuid, parse_query_string

from .filters import ORDERINGS, TaskListQuery, filter_tasks, page_binding
from .models import Task
from .permissions import IsPathOwner
from .serializers import CompletionSerializer, TaskSerializer
from .throttles import WriteThrottle


class TaskViewSet(StrictInputMixin, GenericViewSet[Task]):
    """Everything that can be done with one's own tasks."""

    queryset = Task.objects.none()  # whoever forgets get_queryset sees nothing
    serializer_class = TaskSerializer
    permission_classes = (IsAuthenticated, IsPathOwner)
    throttle_classes = (WriteThrottle,)
    query_serializers: ClassVar = {"list": TaskListQuery}
    body_serializers: ClassVar = {
        "create": TaskSerializer,
        "update": TaskSerializer,
        "partial_update": TaskSerializer,
        "complete": CompletionSerializer,
    }

    def get_queryset(self) -> QuerySet[Task]:
        return Task.objects.owned_by(self.request.user)

    def require_object(self) -> None:
        if "task_id" in self.kwargs and not self._the_task().exists():
            raise NotFound()

    @extend_schema(operation_id="tasks_list", responses=TaskSerializer(many=True))
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List your tasks, page by page."""
        owner_id = request.user.pk
        tasks = filter_tasks(self.get_queryset(), self.query)
        page = read_page(
            tasks,
            ORDERINGS[self.query["ordering"]],
            limit=self.query["limit"],
            cursor=self.query.get("cursor"),
            binding=page_binding(self.query, owner_id),
        )
        meta: dict[str, Any] = {"limit": self.query["limit"], "next_cursor": page.next_cursor}
        if self.query["total"]:
            meta["total"] = tasks.count()
        headers = {}
        if page.next_cursor is not None:
            parameters = parse_query_string(request.META["QUERY_STRING"])
            headers["Link"] = next_link(_list_path(owner_id), parameters, page.next_cursor)
        return Page(list(TaskSerializer(page.rows, many=True).data), meta=meta, headers=headers)

    @extend_schema(operation_id="tasks_create", responses={201: TaskSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create a task."""
        try:
            task = Task.objects.add(cast("UUID", request.user.pk), **self.body)
        except IntegrityError as error:
            raise _refusal(error) from None
        return Response(
            TaskSerializer(task).data,
            status=status.HTTP_201_CREATED,
            headers={"Location": f"{_list_path(task.user_id)}/{task.pk}"},
        )

    @extend_schema(operation_id="tasks_read", responses=TaskSerializer)
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Read a task."""
        return self._answer_task()

    @extend_schema(operation_id="tasks_replace", responses=TaskSerializer)
    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace a task. A field that is left out keeps its value; `title` is required."""
        return self._change(**self.body)

    @extend_schema(operation_id="tasks_update", responses=TaskSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the fields that are sent."""
        return self._change(**self.body)

    @extend_schema(operation_id="tasks_complete", responses=TaskSerializer)
    @action(detail=True, methods=["patch"])
    def complete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Complete a task, or reopen it. Set, never toggled: a repeat changes nothing."""
        return self._change(is_completed=self.body.get("is_completed", True))

    @extend_schema(operation_id="tasks_delete", responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a task."""
        deleted, _ = self._the_task().delete()
        if not deleted:
            raise NotFound()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _the_task(self) -> QuerySet[Task]:
        """The task that the path names, where it is the caller's; else nothing."""
        task_id = self.kwargs["task_id"]
        if not is_canonical_uuid(task_id):
            raise NotFound()
        return self.get_queryset().filter(pk=task_id)

    def _change(self, **changes: Any) -> Response:
        try:
            self._the_task().change(**changes)  # type: ignore[attr-defined]
        except IntegrityError as error:
            raise _refusal(error) from None
        return self._answer_task()

    def _answer_task(self) -> Response:
        task = self._the_task().first()
        if task is None:
            raise NotFound()
        return Response(TaskSerializer(task).data)


def _list_path(owner_id: object) -> str:
    return f"/api/{owner_id}/tasks"


def _refusal(error: IntegrityError) -> Exception:
    """What a constraint of the database says to the client."""
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    if constraint == "tasks_task_user_fk":
        return TokenInvalid("The account has been deleted.")
    if constraint == "tasks_task_title_visible":
        # A character that counts as white space for PostgreSQL and not for Python.
        return ValidationError(
            {"title": [ErrorDetail("The title has no visible character.", code="blank")]}
        )
    return error
