"""Groups in Django admin."""

from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from todo_project.admin import CappedPaginator, EmptyToFieldMixin

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(EmptyToFieldMixin, auth_admin.GroupAdmin):
    """For superusers alone: whoever edits a group gives its members rights, themselves included."""

    paginator = CappedPaginator

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser
