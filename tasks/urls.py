"""Routes of tasks and of lists."""

from django.urls import URLPattern

from todo_project.resources.routes import owned_routes

from .views import TaskListViewSet, TaskViewSet


def task_routes(prefix: str) -> list[URLPattern]:
    """The routes of tasks below `prefix`."""
    return owned_routes(prefix, TaskViewSet)


def list_routes() -> list[URLPattern]:
    return owned_routes("api", TaskListViewSet)
