"""Rows that are people's: how they lead to the person, and the person to them."""

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from .shown import link_to, page_of
from .tables import LargeTableAdmin, large_tables


def lists_of(site: admin.AdminSite, user_id: UUID) -> SafeString:
    """Links to the lists of what is a person's, and of what they did as an operator."""
    return format_html_join(
        " · ",
        '<a href="{}?q={}">{}</a>',
        (
            (page_of("changelist", model), user_id, model._meta.verbose_name_plural)
            for model in (table.model for table in large_tables(site) if table.is_owned)
        ),
    )


class OwnedRowsAdmin(LargeTableAdmin):
    list_select_related: ClassVar[tuple[str, ...]] = ("user",)

    @admin.display(description="user")
    def owner(self, row: Any) -> SafeString:
        return link_to(row.user)

    @admin.display(description="of this user")
    def theirs(self, row: Any) -> SafeString:
        return lists_of(self.admin_site, row.user_id)
