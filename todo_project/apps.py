from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class TodoProjectConfig(AppConfig):
    """What the whole service shares: commands and system checks."""

    name = "todo_project"
    verbose_name = "Todo"

    def ready(self) -> None:
        from . import checks  # noqa: F401  # registers them


class AdminConfig(admin_apps.AdminConfig):
    """Django admin, with a site of the project's own."""

    default_site = "accounts.site.Site"
