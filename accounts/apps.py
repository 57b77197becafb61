from importlib import import_module

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """People and where they are signed in."""

    name = "accounts"

    def ready(self) -> None:
        """Makes the kinds of token known to drf-spectacular."""
        import_module("accounts.schema")
