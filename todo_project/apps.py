from django.apps import AppConfig


class TodoProjectConfig(AppConfig):
    """What the whole service shares: commands and system checks."""

    name = "todo_project"
    verbose_name = "Todo"

    def ready(self) -> None:
        from . import checks  # noqa: F401  # registers them
