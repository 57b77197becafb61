"""People, their ways in (sessions, identities, personal tokens), and groups in Django admin.

Beyond Django's permissions: only superusers give rights and manage operators' accounts, because
whoever sets an operator's password has that operator's rights.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import model_ngettext
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import (
    AdminPasswordChangeForm,
    BaseUserCreationForm,
    UserChangeForm,
)
from django.contrib.auth.models import Group
from django.db.models import Exists, ForeignObjectRel, Model, OuterRef, Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from todo_project.admin import LargeTableAdmin, capped_count
from todo_project.api.views import read_uuid

from .credentials import canonical_email
from .models import Identity, PersonalToken, Session, User, belongings

RIGHTS = ("Rights", {"fields": ("is_staff", "is_superuser", "groups", "user_permissions")})


class PasswordForm(AdminPasswordChangeForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Writes the password alone: a deactivation meanwhile must not be undone.

    It sets a password and nothing else. Django's offers to take it away; to keep somebody out is
    what `Deactivate` is for.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        self.fields["password1"].required = self.fields["password2"].required = True

    def save(self, commit: bool = True) -> User:
        user: User = super().save(commit=False)
        if commit:
            user.save(update_fields=["password"])
        return user


class PersonForm(UserChangeForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Another address isn't verified, unless it is ticked together with it.

    A tick that was there already was for the address before.
    """

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if "email" in self.changed_data and "email_verified" not in self.changed_data:
            self.cleaned_data["email_verified"] = False
        return cleaned


class NewPersonForm(BaseUserCreationForm):  # type: ignore[type-arg]  # generic in the stubs only
    """Whoever is made here signs in by an address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True


@admin.register(User)
class UserAdmin(LargeTableAdmin, auth_admin.UserAdmin):  # type: ignore[type-arg]
    form = PersonForm
    add_form = NewPersonForm
    change_password_form = PasswordForm
    change_user_password_template = "admin/accounts/user/password.html"  # noqa: S105  # a page
    add_fieldsets = (
        (None, {"fields": ("email", "email_verified", "name", "password1", "password2")}),
    )
    readonly_fields = ("id", "created_at", "last_login", "belongings")
    # Not the address: not everybody has one, and it is the link to the person's page.
    list_display = ("__str__", "name", "email_verified", "is_active", "is_staff", "created_at")
    list_filter = ()
    search_fields = ("email", "name")
    search_help_text = (
        "An e-mail address, or its beginning; part of an address or a name; or an id."
    )
    actions = ("deactivate", "activate")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None:
            return self.add_fieldsets
        password = ("password",) if self.has_change_permission(request, obj) else ()
        return (
            (None, {"fields": ("email", "email_verified", "name", *password, "is_active")}),
            *((RIGHTS,) if request.user.is_superuser else ()),
            ("Record", {"fields": self.readonly_fields}),
        )

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_manage(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_manage(request, obj)

    def find(self, queryset: QuerySet[User], term: str) -> QuerySet[User]:
        """What has an @ is an address or the beginning of one, and found by the unique index.

        The beginning only where the database sorts by code point (collation C, or the builtin
        C.UTF-8). Without that, and for names, people are read until the page is full, or all of
        them: 0.3 s for 100,000.
        """
        if "@" not in term.rstrip("@"):
            return queryset.filter(Q(email__icontains=term) | Q(name__icontains=term))
        addresses = queryset.alias(lower_email=Lower("email"))
        exact = addresses.filter(lower_email=canonical_email(term))
        if exact.exists():
            return exact
        return addresses.filter(lower_email__startswith=term.lower())

    def save_model(
        self, request: HttpRequest, obj: User, form: "forms.ModelForm[User]", change: Any
    ) -> None:
        """Writes the changed columns alone, so that a password changed meanwhile survives.

        With an address goes what was known of it, and the link that was to change it.
        """
        columns = {field.name for field in self.opts.concrete_fields}
        changed = {name for name in form.changed_data if name in columns}
        if "email" in changed:
            obj.pending_email = None
            changed |= {"email_verified", "pending_email"}
        obj.save(update_fields=changed if change else None)

    def get_deleted_objects(
        self, objs: Iterable[User], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """The users, and in one line how much goes with them: Django's would list all of it.

        Protects whoever acted as an operator, because the admin log of it would go, too. One query
        for that, and one for each kind of belongings.
        """
        users = list(objs)
        shown: list[str] = [
            format_html('<a href="{}">{}</a>', _url("change", user), user) for user in users
        ]
        shown.append(f"With them go {' and '.join(_count_belongings(users))}.")
        forbidden = not all(self.has_delete_permission(request, user) for user in users)
        acted = Exists(LogEntry.objects.filter(user=OuterRef("pk")))
        protected = [
            f"The admin log of what {user} did as an operator: deactivate the account instead."
            for user in User.objects.filter(acted, pk__in=[user.id for user in users])
        ]
        return shown, {"users": len(users)}, {"operators"} if forbidden else set(), protected

    @admin.action(permissions=["change"], description="Deactivate selected users")
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Ends their sessions, too. A careless click does not lock the operator out."""
        self._set_active(request, queryset, is_active=False)

    @admin.action(permissions=["change"], description="Activate selected users")
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, is_active=True)

    def _set_active(
        self, request: HttpRequest, queryset: QuerySet[User], *, is_active: bool
    ) -> None:
        """Changes and logs those that are not so already and that the operator may manage.

        Says how many, and what became of the others.
        """
        users: list[User] = []
        left_alone: Counter[str] = Counter()
        # Locked, so that the log names those that change, and no others.
        for user in queryset.select_for_update(no_key=True):
            if user.id == _operator_id(request) and not is_active:
                left_alone["your own account"] += 1
            elif not _may_manage(request, user):
                left_alone["operators, whom only superusers manage"] += 1
            elif user.is_active == is_active:
                left_alone["active already" if is_active else "inactive already"] += 1
            else:
                users.append(user)
        changed = User.objects.get_queryset().filter(pk__in=[user.id for user in users])
        if is_active:
            changed.activate()
        else:
            changed.deactivate()
        verb = "Activated" if is_active else "Deactivated"
        _log_changes(request, users, f"{verb}.")
        _tell(self, request, verb, len(users), left_alone)

    @admin.display(description="belongings")
    def belongings(self, user: User) -> SafeString:
        """Links to the lists of what is the user's."""
        return format_html_join(
            " · ",
            '<a href="{}?q={}">{}</a>',
            (
                (
                    _url("changelist", relation.related_model),
                    quote(user.email or str(user.pk)),
                    _plural(relation),
                )
                for relation in belongings()
            ),
        )


@admin.register(Session)
class SessionAdmin(LargeTableAdmin):
    """To look at and to end, never to write. Whoever may "change" sessions may end them.

    The hashes of the tokens are nowhere on the pages.
    """

    fields = list_display = (
        "id", "user", "created_at", "last_refreshed", "expires_at", "ended_at", "user_agent",
        "address",
    )  # fmt: skip
    list_select_related = ("user",)
    search_fields = ("user__email",)
    search_help_text = "The user's e-mail address; or an id, of the session or of the user."
    actions = ("end",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    def find(self, queryset: QuerySet[Session], term: str) -> QuerySet[Session]:
        """The sessions of one user, by the whole address."""
        return queryset.filter(user__in=User.objects.with_email(term))

    @admin.action(permissions=["end"], description="End selected sessions")
    def end(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        # Locked, so that the log names those that end now, and no others.
        selected = list(queryset.select_related(None).select_for_update(no_key=True))
        sessions = [session for session in selected if session.ended_at is None]
        Session.objects.filter(pk__in=[session.pk for session in sessions]).end()
        _log_changes(request, sessions, "Ended.")
        left_alone = Counter({"ended already": len(selected) - len(sessions)})
        _tell(self, request, "Ended", len(sessions), left_alone)

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
        return super().has_delete_permission(request, obj) and _may_manage(request, user)

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
class PersonalTokenAdmin(LargeTableAdmin):
    """To look at and to end, as sessions are. The hash is nowhere on the pages."""

    fields = list_display = (
        "id", "user", "name", "scopes", "created_at", "expires_at", "last_used_on",
    )  # fmt: skip
    list_select_related = ("user",)
    search_fields = ("user__email",)
    search_help_text = "The user's e-mail address, or the token's id."
    actions = ("end",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PersonalToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PersonalToken | None = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    def find(self, queryset: QuerySet[PersonalToken], term: str) -> QuerySet[PersonalToken]:
        """The tokens of one user, by the whole address."""
        return queryset.filter(user__in=User.objects.with_email(term))

    @admin.action(permissions=["end"], description="End selected personal tokens")
    def end(self, request: HttpRequest, queryset: QuerySet[PersonalToken]) -> None:
        """Deletes them: there is nothing more to learn of one that has ended."""
        # Locked, so that the log names those that end now, and no others.
        tokens = list(queryset.select_related(None).select_for_update(no_key=True))
        _log_changes(request, tokens, "Ended.", flag=DELETION)
        PersonalToken.objects.filter(pk__in=[token.pk for token in tokens]).delete()
        _tell(self, request, "Ended", len(tokens), Counter())


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(auth_admin.GroupAdmin):
    """For superusers alone: whoever edits a group gives its members rights, themselves included."""

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


def _may_manage(request: HttpRequest, user: User | None) -> bool:
    if user is None or request.user.is_superuser:
        return True
    return not (user.is_staff or user.is_superuser)


def _operator_id(request: HttpRequest) -> UUID:
    assert isinstance(request.user, User)  # admin has asked for a sign-in
    return request.user.id


def _tell(
    model_admin: LargeTableAdmin,
    request: HttpRequest,
    done: str,
    changed: int,
    left_alone: Counter[str],
) -> None:
    """What an action did, such as "Ended 1 session. Left alone: 2 (ended already)."."""
    message = f"{done} {changed} {model_ngettext(model_admin.opts, changed)}."
    reasons = [f"{count} ({reason})" for reason, count in sorted(left_alone.items()) if count]
    if reasons:
        message += f" Left alone: {', '.join(reasons)}."
    level = messages.SUCCESS if changed else messages.WARNING
    model_admin.message_user(request, message, level)


def _log_changes(
    request: HttpRequest, changed: Iterable[Model], message: str, *, flag: int = CHANGE
) -> None:
    """An entry in the admin log for each of them, in one query."""
    LogEntry.objects.log_actions(_operator_id(request), changed, flag, message)


def _count_belongings(users: list[User]) -> Iterator[str]:
    """Such as "1 session" and "more than 1,000 tasks"; a bounded query for each."""
    for relation in belongings():
        model = relation.related_model
        owned: QuerySet[Model] = QuerySet(model).filter(**{f"{relation.field.name}__in": users})
        count = capped_count(owned)
        yield f"{count} {model._meta.verbose_name if count == 1 else _plural(relation)}"


def _plural(relation: ForeignObjectRel) -> str:
    return str(relation.related_model._meta.verbose_name_plural)


def _url(page: str, model: type[Model] | Model) -> str:
    """The address of a model's list, or of an object's page."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    return reverse(name, args=() if isinstance(model, type) else (model.pk,))
