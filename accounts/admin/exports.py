"""What a person asks for who wants to have their data: an operator downloads it for them."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from accounts.exports import ReadingOperator, export_response
from accounts.models import User, belongings
from todo_project.admin import log_changes
from todo_project.api.streaming import StreamedResponse

from .operators import operator_id


class ExportMixin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """A button on a person's page. For operators who may see what is in the file."""

    def get_urls(self) -> list[URLPattern]:
        # POST, because it is written down; and no page elsewhere can make an operator do it.
        view = self.admin_site.admin_view(require_POST(self.export))
        return [
            path("<uuid:user_id>/export/", view, name="accounts_user_export"),
            *super().get_urls(),
        ]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["may_export"] = self.may_export(request)
        return super().render_change_form(request, context, *args, **kwargs)

    def may_export(self, request: HttpRequest) -> bool:
        site = self.admin_site
        theirs = [relation.related_model for relation in belongings()]
        admins = [site.get_model_admin(model) for model in theirs if site.is_registered(model)]
        return all(each.has_view_permission(request) for each in [self, *admins])

    def export(self, request: HttpRequest, user_id: UUID) -> StreamedResponse:
        """The file that the person would get. It ends where the operator is none any more."""
        if not self.may_export(request):
            raise PermissionDenied
        user = get_object_or_404(User, pk=user_id)
        operator = ReadingOperator(user_id, operator_id(request))
        response = export_response(user, operator, f"{operator.operator_id} {user_id}")
        log_changes(request, [user], "Exported the data.")
        return response
