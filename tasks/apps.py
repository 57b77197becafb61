from django.apps import AppConfig


class TasksConfig(AppConfig):
    """People's tasks."""

    name = "tasks"
