from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """People and where they are signed in."""

    name = "accounts"
