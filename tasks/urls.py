"""Routes of tasks, of lists, of labels and of imports."""

from django.urls import URLPattern, re_path

from todo_project.resources.routes import owned_routes

from .import_views import ImportView
from .views import LabelsView, LabelView, TaskListViewSet, TaskViewSet


def task_routes(prefix: str) -> list[URLPattern]:
    """The routes of tasks below `prefix`."""
    return owned_routes(prefix, TaskViewSet)


def list_routes() -> list[URLPattern]:
    return owned_routes("api", TaskListViewSet)


def label_routes() -> list[URLPattern]:
    """A label's name is all that follows, with any slash: at the end, too, none is left out."""
    labels = r"^api/(?P<user_id>[^/]+)/labels"
    return [
        re_path(rf"{labels}/?\Z", LabelsView.as_view(), name="label-list"),
        re_path(rf"{labels}/(?P<label>.+)\Z", LabelView.as_view(), name="label-detail"),
    ]


def import_routes() -> list[URLPattern]:
    return [
        re_path(r"^api/(?P<user_id>[^/]+)/import/?\Z", ImportView.as_view(), name="import"),
    ]
