"""What lets people in, in Django admin: sessions, identities and personal tokens.

To look at and to end, never to write.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import DELETION
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts.models import Identity, PersonalToken, Session, User
from todo_project.admin import LargeTableAdmin, log_changes, tell
from todo_project.api.views import read_uuid

from .operators import may_manage


class EndedHereAdmin(LargeTableAdmin):
    """To look at and to end, never to write. Whoever may "change" such a row may end it."""

    list_select_related = ("user",)
    search_fields = ("user__email",)
    actions = ("end",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Those of one user, by the whole address."""
        return queryset.filter(user__in=User.objects.with_email(term))


@admin.register(Session)
class SessionAdmin(EndedHereAdmin):
    """The hashes of the tokens are nowhere on the pages."""

    search_help_text = "The user's e-mail address; or an id, of the session or of the user."

    fields = list_display = (
        "id", "user", "created_at", "last_refreshed", "expires_at", "ended_at", "user_agent",
        "address",
    )  # fmt: skip

    @admin.action(permissions=["end"], description="End selected sessions")
    def end(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        # Locked, so that the log names those that end now, and no others.
        selected = list(queryset.select_related(None).select_for_update(no_key=True))
        sessions = [session for session in selected if session.ended_at is None]
        Session.objects.filter(pk__in=[session.pk for session in sessions]).end()
        log_changes(request, sessions, "Ended.")
        left_alone = Counter({"ended already": len(selected) - len(sessions)})
        tell(self, request, "Ended", len(sessions), left_alone)

    @admin.display(description="last refreshed")
    def last_refreshed(self, session: Session) -> datetime:
        return session.rotated_at


@admin.register(Identity)
class IdentityAdmin(LargeTableAdmin):
    """To look at and to take away, never to write: only the provider tells whose it is."""

    fields = list_display = ("subject", "issuer", "user", "created_at", "valid_after")
    list_select_related = ("user",)
    search_fields = ("subject",)
    search_help_text = (
        "A subject (`sub`), to the letter; the user's e-mail address; or an id, of the identity or "
        "of the user."
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Identity | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Identity | None = None) -> bool:
        """Not of operators, but for superusers: taken away, they could no longer sign in."""
        user = obj.user if obj else None
        return super().has_delete_permission(request, obj) and may_manage(request, user)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Identity], search_term: str
    ) -> tuple[QuerySet[Identity], bool]:
        """Many providers have UUIDs for subjects: what looks like an id may be one of those."""
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        if read_uuid(term) is not None:
            subjects = queryset.filter(subject=term, issuer=settings.AUTH_ISSUER)
            return found | subjects, has_duplicates
        return found, has_duplicates

    def find(self, queryset: QuerySet[Identity], term: str) -> QuerySet[Identity]:
        """By the unique index, which begins with the issuer; or all of one user, by the address."""
        users = User.objects.with_email(term).values("pk")
        return queryset.filter(Q(issuer=settings.AUTH_ISSUER, subject=term) | Q(user__in=users))

    def get_deleted_objects(
        self, objs: Iterable[Identity], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Django's, and what it doesn't do."""
        shown, counts, forbidden, protected = super().get_deleted_objects(list(objs), request)
        shown.append(
            "What the provider has issued until now is refused. Its next token makes a new, empty "
            "account, and the user's personal tokens go on: to keep somebody out, deactivate the "
            "user instead."
        )
        return shown, counts, forbidden, protected


@admin.register(PersonalToken)
class PersonalTokenAdmin(EndedHereAdmin):
    """The hash is nowhere on the pages."""

    search_help_text = "The user's e-mail address; or an id, of the token or of the user."

    fields = list_display = (
        "id", "user", "name", "scopes", "created_at", "expires_at", "last_used_on",
    )  # fmt: skip

    @admin.action(permissions=["end"], description="End selected personal tokens")
    def end(self, request: HttpRequest, queryset: QuerySet[PersonalToken]) -> None:
        """Deletes them: there is nothing more to learn of one that has ended."""
        # Locked, so that the log names those that end now, and no others.
        tokens = list(queryset.select_related(None).select_for_update(no_key=True))
        log_changes(request, tokens, "Ended.", flag=DELETION)
        PersonalToken.objects.filter(pk__in=[token.pk for token in tokens]).delete()
        tell(self, request, "Ended", len(tokens), Counter())
