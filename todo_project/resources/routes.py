"""Routes below a person: the same views under both prefixes, with and without trailing slash."""

from typing import Any

from django.urls import URLPattern, re_path

from .batch_views import BatchView
from .feed import ChangesView
from .trash import TrashView
from .views import OwnedViewSet

Actions = dict[str, Any]  # by method, the name of the action


def owned_routes(prefix: str, view: type[OwnedViewSet]) -> list[URLPattern]:
    """A resource's routes below `prefix`. Not for include(), which costs every request a level."""
    resource = view.resource
    rows = rf"^{prefix}/(?P<user_id>[^/]+)/{resource.segment}"
    row = rf"{rows}/(?P<{resource.name}_id>[^/]+)"
    several: Actions = {"get": "list", "post": "create"}
    single: Actions = {
        "get": "retrieve",
        "put": "update",
        "patch": "partial_update",
        "delete": "destroy",
    }
    extras: list[Any] = view.get_extra_actions()
    return [
        re_path(rf"{rows}/?\Z", view.as_view(several), name=f"{resource.name}-list"),
        re_path(rf"{row}/?\Z", view.as_view(single), name=f"{resource.name}-detail"),
        *(
            re_path(
                rf"{row}/{extra.url_path}/?\Z",
                view.as_view(dict(extra.mapping)),
                name=f"{resource.name}-{extra.url_path}",
            )
            for extra in extras
        ),
    ]


def routes_of_everything() -> list[URLPattern]:
    """The routes of all resources together."""
    person = r"^api/(?P<user_id>[^/]+)"
    return [
        re_path(rf"{person}/changes/?\Z", ChangesView.as_view(), name="changes"),
        re_path(rf"{person}/batch/?\Z", BatchView.as_view(), name="batch"),
        re_path(rf"{person}/trash/?\Z", TrashView.as_view(), name="trash"),
    ]
