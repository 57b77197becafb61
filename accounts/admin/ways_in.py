"""What lets people in, in Django admin: sessions, identities and personal tokens.

To look at and to end, never to write.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import DELETION
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.text import Truncator

from accounts.models import Identity, PersonalToken, Session, User
from todo_project.admin import (
    SEARCHED_ROWS,
    ChoiceFilter,
    CreatedFilter,
    Figure,
    OwnedRowsAdmin,
    capped_figure,
    log_changes,
    page_of,
    tell,
    tick,
    time_of,
)
from todo_project.api.views import read_uuid

from .operators import may_manage

# What every browser says, and tells none from another.
_COMMON_TO_BROWSERS = re.compile(r"Mozilla/5\.0 |AppleWebKit/\S+ \(KHTML, like Gecko\) ")
_SHOWN_OF_USER_AGENT = 80  # characters


class EndedHereAdmin(OwnedRowsAdmin):
    """To look at and to end, never to write. Whoever may "change" such a row may end it."""

    change_form_template = "admin/accounts/ended_here.html"
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

    def is_indexed(self, request: HttpRequest, term: str) -> bool:
        return bool(term)

    def get_urls(self) -> list[URLPattern]:
        end = self.admin_site.admin_view(self.end_one)
        name = f"{self.opts.app_label}_{self.opts.model_name}_end"
        return [path("<uuid:row_id>/end/", end, name=name), *super().get_urls()]

    def end_one(self, request: HttpRequest, row_id: UUID) -> HttpResponse:
        """What the action does, for the button on a row's own page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_end_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request).filter(pk=row_id)
        with transaction.atomic():
            self.end(request, rows)
        kept = rows.first()
        return redirect(page_of("change", kept) if kept else page_of("changelist", self.model))

    def end(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ends what can be ended of these, and says so."""
        raise NotImplementedError

    def is_ended(self, row: Any) -> bool:
        raise NotImplementedError

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context["original"]
        context["may_end"] = self.has_end_permission(request) and not self.is_ended(row)
        return super().render_change_form(request, context, *args, **kwargs)


class SessionStateFilter(ChoiceFilter):
    title = "state"
    parameter_name = "state"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "active": ("Active", Q(ended_at=None, expires_at__gt=Now())),
            "ended": ("Ended", Q(ended_at__isnull=False)),
            "expired": ("Expired", Q(ended_at=None, expires_at__lte=Now())),
        }


@admin.register(Session)
class SessionAdmin(EndedHereAdmin):
    """The hashes of the tokens are nowhere on the pages."""

    search_help_text = (
        "The user's e-mail address; or an id, of the session or of the user. States are looked for "
        f"among the newest {SEARCHED_ROWS:,} sessions, or among all of the user."
    )
    list_filter: ClassVar = (SessionStateFilter, CreatedFilter)
    list_display = ("user", "active", "device", "address", "created_at", "last_refreshed")
    fields = (
        "user", "theirs", "state", "user_agent", "address", "created_at", "last_refreshed",
        "expires_at", "ended_at", "id",
    )  # fmt: skip

    def figures(self) -> Iterator[Figure]:
        active = page_of("changelist", Session) + "?state=active"
        yield capped_figure(Session.objects.live(), "Active sessions", url=active)

    @admin.action(permissions=["end"], description="End selected sessions")
    def end(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        # Locked, so that the log names those that end now, and no others.
        selected = list(queryset.select_for_update(no_key=True, of=("self",)))
        sessions = [session for session in selected if not self.is_ended(session)]
        Session.objects.filter(pk__in=[session.pk for session in sessions]).end()
        log_changes(request, sessions, "Ended.")
        left_alone = Counter({"ended already": len(selected) - len(sessions)})
        tell(self, request, "Ended", len(sessions), left_alone)

    def is_ended(self, row: Session) -> bool:
        return row.ended_at is not None

    @admin.display
    def state(self, session: Session) -> str:
        if session.ended_at is not None:
            return "Ended"
        return "Active" if session.expires_at > datetime.now(UTC) else "Expired"

    @admin.display
    def active(self, session: Session) -> str:
        """A tick; else what became of it."""
        state = self.state(session)
        return tick(state == "Active") or state

    @admin.display(description="user agent")
    def device(self, session: Session) -> str:
        told = _COMMON_TO_BROWSERS.sub("", session.user_agent)
        return Truncator(told).chars(_SHOWN_OF_USER_AGENT)

    @admin.display(description="last refreshed")
    def last_refreshed(self, session: Session) -> str | None:
        return time_of(session.rotated_at)


@admin.register(Identity)
class IdentityAdmin(OwnedRowsAdmin):
    """To look at and to take away, never to write: only the provider tells whose it is."""

    list_filter: ClassVar = (CreatedFilter,)
    list_display = ("subject", "issuer", "owner", "created_at", "valid_after")
    fields = ("subject", "issuer", "user", "theirs", "created_at", "valid_after", "id")
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

    def is_indexed(self, request: HttpRequest, term: str) -> bool:
        return bool(term)

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


class TokenStateFilter(ChoiceFilter):
    title = "state"
    parameter_name = "state"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "active": ("Active", Q(expires_at=None) | Q(expires_at__gt=Now())),
            "expired": ("Expired", Q(expires_at__lte=Now())),
            "unused": ("Never used", Q(last_used_on=None)),
        }


@admin.register(PersonalToken)
class PersonalTokenAdmin(EndedHereAdmin):
    """The hash is nowhere on the pages."""

    search_help_text = (
        "The user's e-mail address; or an id, of the token or of the user. States are looked for "
        f"among the newest {SEARCHED_ROWS:,} tokens, or among all of the user."
    )
    list_filter: ClassVar = (TokenStateFilter, CreatedFilter)
    list_display = ("name", "owner", "scopes", "created_at", "expires_at", "last_used_on")
    fields = (
        "name", "user", "theirs", "scopes", "created_at", "expires_at", "last_used_on", "id",
    )  # fmt: skip

    @admin.action(permissions=["end"], description="End selected personal tokens")
    def end(self, request: HttpRequest, queryset: QuerySet[PersonalToken]) -> None:
        """Deletes them: there is nothing more to learn of one that has ended."""
        # Locked, so that the log names those that end now, and no others.
        tokens = list(queryset.select_for_update(no_key=True, of=("self",)))
        log_changes(request, tokens, "Ended.", flag=DELETION)
        PersonalToken.objects.filter(pk__in=[token.pk for token in tokens]).delete()
        tell(self, request, "Ended", len(tokens), Counter())

    def is_ended(self, row: PersonalToken) -> bool:
        return False  # or it would be gone
