"""Every route of the service. The contract's section 2 lists them."""

from collections.abc import Callable

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerView
from rest_framework.exceptions import NotFound

from tasks.urls import import_routes, label_routes, list_routes, task_routes

from .api.errors import error_response
from .documents import DocumentView, contract
from .health import livez, readyz
from .resources.routes import routes_of_everything
from .scraping import scrape


def not_found(request: HttpRequest, rest: str = "") -> HttpResponse:
    """404 for everything that no route matches.

    A route of its own and not handler404: with DEBUG on Django answers unknown URLs with an HTML
    page of its own, whatever handler404 says.
    """
    return error_response(request, NotFound())


def _redirect(path: str) -> Callable[..., HttpResponseBase]:
    url = f"{settings.PATH_PREFIX}{path}"
    return RedirectView.as_view(url=url, http_method_names=["get", "head"])


urlpatterns = [
    # First, because paths are compared with one route after the other.
    *task_routes("api"),
    *list_routes(),
    *label_routes(),
    re_path(r"^\Z", _redirect("/api/docs")),
    re_path(r"^livez/?\Z", livez),
    re_path(r"^readyz/?\Z", readyz),
    re_path(r"^metrics/?\Z", scrape),
    re_path(r"^api/contract/?\Z", contract),
    re_path(r"^api/schema/?\Z", DocumentView.as_view(), name="schema"),
    re_path(r"^api/docs/?\Z", SpectacularSwaggerView.as_view(url_name="schema")),
    re_path(r"^api/redoc/?\Z", SpectacularRedocView.as_view(url_name="schema")),
    path("api/auth/", include("accounts.urls")),
    *task_routes("users"),
    *routes_of_everything(),
    *import_routes(),
    # Admin's redirect to an object's page on the site: there are none, and it answers 500.
    path("admin/r/<path:rest>", not_found),
    re_path(r"^admin\Z", _redirect("/admin/")),
    path("admin/", admin.site.urls),
    re_path(r"", not_found),
]
