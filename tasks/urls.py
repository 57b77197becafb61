"""Routes below a person: the same views under both prefixes, with and without trailing slash."""

from django.urls import re_path

from .views import TaskViewSet

task_list = TaskViewSet.as_view({"get": "list", "post": "create"})
task_detail = TaskViewSet.as_view(
    {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
)
task_completion = TaskViewSet.as_view({"patch": "complete"})

urlpatterns = [
    re_path(r"^(?P<user_id>[^/]+)/tasks/?\Z", task_list, name="task-list"),
    re_path(r"^(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/?\Z", task_detail, name="task-detail"),
    re_path(
        r"^(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/complete/?\Z",
        task_completion,
        name="task-completion",
    ),
]
