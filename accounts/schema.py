"""How the OpenAPI document describes the tokens that callers come with. For apps.py."""

# mypy: allow-untyped-calls
# drf-spectacular's own methods have no types.

from datetime import timedelta
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from todo_project.api.components import Schema


class BearerSchemes(OpenApiAuthenticationExtension):
    """Describes the project's authentication class, which it finds by name: by kinds of token."""

    target_class = "accounts.authentication.BearerAuthentication"

    @property
    def name(self) -> list[str]:  # type: ignore[override]
        return list(_bearer_schemes())

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Any kind; a personal token where a scope is enough, which the description names."""
        view: Any = auto_schema.view
        *others, personal = self.name
        is_scoped = view.needed_scope(auto_schema.method) is not None
        return [{name: []} for name in (*others, *([personal] if is_scoped else []))]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[Schema]:
        return list(_bearer_schemes().values())


def _bearer_schemes() -> dict[str, Schema]:
    """By name. The provider's always, since who generates a client can't know of every service."""
    bearer = {"type": "http", "scheme": "bearer"}
    access = {
        **bearer,
        "bearerFormat": "JWT",
        "description": "`data.access` of what `POST /api/auth/token` answers, without "
        f"quotes. Good for {settings.ACCESS_TOKEN_LIFETIME // timedelta(minutes=1)} minutes; then "
        "`POST /api/auth/token/refresh` makes a new one.",
    }
    provider = {
        **bearer,
        "bearerFormat": "JWT",
        "description": "An access token of the identity provider, where the operator has set one "
        "(`docs/identity-providers.md`).",
    }
    personal = {
        **bearer,
        "description": "For scripts: `data.token` of what `POST /api/auth/tokens` answers, "
        "with the scope that the operation names.",
    }
    local = {"accessToken": access} if settings.LOCAL_ACCOUNTS else {}
    return {**local, "providerToken": provider, "personalToken": personal}
