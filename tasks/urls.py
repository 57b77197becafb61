"""Routes below a person: the same views under both prefixes, with and without trailing slash."""

from django.urls import URLPattern, re_path

from .views import TaskViewSet

task_list = TaskViewSet.as_view({"get": "list", "post": "create"})
task_detail = TaskViewSet.as_view(
    {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
)
task_completion = TaskViewSet.as_view({"patch": "complete"})


def task_routes(prefix: str) -> list[URLPattern]:
    """The routes below `prefix`. Not for include(), which costs every request a level more."""
    tasks = rf"^{prefix}/(?P<user_id>[^/]+)/tasks"
    return [
        re_path(rf"{tasks}/?\Z", task_list, name="task-list"),
        re_path(rf"{tasks}/(?P<task_id>[^/]+)/?\Z", task_detail, name="task-detail"),
        re_path(
            rf"{tasks}/(?P<task_id>[^/]+)/complete/?\Z", task_completion, name="task-completion"
        ),
    ]
