"""People in Django admin.

Beyond Django's permissions: only superusers give rights and manage operators' accounts, because
whoever sets an operator's password has that operator's rights.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import (
    AdminPasswordChangeForm,
    BaseUserCreationForm,
    UserChangeForm,
)
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import get_text_list

from accounts.credentials import canonical_email
from accounts.models import User, belongings
from todo_project.admin import (
    SEARCHED_ROWS,
    ChoiceFilter,
    CreatedFilter,
    Figure,
    LargeTableAdmin,
    capped_count,
    link_to,
    lists_of,
    log_changes,
    table_figure,
    tell,
    tick,
    todays_figure,
)
from todo_project.clock import lock_clocks

from .exports import ExportMixin
from .operators import may_manage, operator_id

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


class StateFilter(ChoiceFilter):
    title = "state"
    parameter_name = "state"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "active": ("Active", Q(is_active=True)),
            "inactive": ("Deactivated", Q(is_active=False)),
            "operator": ("Operator", Q(is_staff=True)),
            "unverified": ("E-mail not verified", Q(email_verified=False)),
        }


# Who changed something is in the log of changes, which has a BRIN index of the time; a session's id
# tells when it began.
_ACTIVE = """
    SELECT count(DISTINCT user_id), count(*) FROM (
        SELECT user_id FROM todo_project_change WHERE changed_at >= %(since)s
         UNION ALL
        SELECT user_id FROM accounts_session WHERE id >= %(first_id)s
         LIMIT %(rows)s
    ) AS today
"""


@admin.register(User)
class UserAdmin(ExportMixin, LargeTableAdmin, auth_admin.UserAdmin):  # type: ignore[type-arg]
    form = PersonForm
    add_form = NewPersonForm
    change_password_form = PasswordForm
    change_user_password_template = "admin/accounts/user/password.html"  # noqa: S105  # a page
    add_fieldsets = (
        (None, {"fields": ("email", "email_verified", "name", "password1", "password2")}),
    )
    readonly_fields = ("belongings", "id", "created_at", "last_login")
    # Not the address: not everybody has one, and it is the link to the person's page.
    list_display = ("__str__", "name", "verified", "is_active", "operator", "created_at")
    list_filter: ClassVar = (StateFilter, CreatedFilter)
    search_fields = ("email", "name")
    search_help_text = (
        "An e-mail address, or its beginning; part of an address or a name; or an id. Parts and "
        f"states are looked for among the newest {SEARCHED_ROWS:,} users."
    )
    actions = ("deactivate", "activate")
    plotted = "Users who joined"

    def figures(self) -> Iterator[Figure]:
        yield table_figure(User, "Users")
        note = "signed in or changed something since 00:00 UTC"
        yield todays_figure(_ACTIVE, "Active today", note=note)

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None:
            return self.add_fieldsets
        password = ("password",) if self.has_change_permission(request, obj) else ()
        return (
            (
                None,
                {
                    "fields": (
                        "email",
                        "email_verified",
                        "name",
                        *password,
                        "is_active",
                        "belongings",
                    )
                },
            ),
            *((RIGHTS,) if request.user.is_superuser else ()),
            ("Record", {"fields": ("id", "created_at", "last_login")}),
        )

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and may_manage(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and may_manage(request, obj)

    def find(self, queryset: QuerySet[User], term: str) -> QuerySet[User]:
        """What has an @ is an address or the beginning of one, and found by the unique index.

        The beginning only where the database sorts by code point (collation C, or the builtin
        C.UTF-8). Without that people are read until the page is full, or all of them: 0.3 s for
        100,000.
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
        shown: list[str] = [link_to(user) for user in users]
        gone = get_text_list(list(_count_belongings(users)), "and")
        shown.append(f"Deleted with them, for good: {gone or 'nothing else'}.")
        forbidden = not all(self.has_delete_permission(request, user) for user in users)
        acted = Exists(LogEntry.objects.filter(user=OuterRef("pk")))
        protected = [
            f"The admin log of what {user} did as an operator: deactivate the account instead."
            for user in User.objects.filter(acted, pk__in=[user.id for user in users])
        ]
        return shown, {"users": len(users)}, {"operators"} if forbidden else set(), protected

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        lock_clocks([obj.pk])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        lock_clocks(queryset.values_list("pk", flat=True))
        super().delete_queryset(request, queryset)

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
            if user.id == operator_id(request) and not is_active:
                left_alone["your own account"] += 1
            elif not may_manage(request, user):
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
        log_changes(request, users, f"{verb}.")
        tell(self, request, verb, len(users), left_alone)

    @admin.display(description="e-mail verified")
    def verified(self, user: User) -> SafeString | None:
        return tick(user.email_verified)

    @admin.display(description="operator")
    def operator(self, user: User) -> SafeString | None:
        return tick(user.is_staff)

    @admin.display(description="belongings")
    def belongings(self, user: User) -> SafeString:
        """Links to the lists of what is the user's."""
        return lists_of(self.admin_site, user.pk)


def _count_belongings(users: list[User]) -> Iterator[str]:
    """Such as "1 session" and "more than 1,000 tasks"; a bounded query for each."""
    for relation in belongings():
        model = relation.related_model
        if not admin.site.is_registered(model):
            continue
        owned: QuerySet[Model] = QuerySet(model).filter(**{f"{relation.field.name}__in": users})
        if count := capped_count(owned):
            meta = model._meta
            yield f"{count} {meta.verbose_name if count == 1 else meta.verbose_name_plural}"
