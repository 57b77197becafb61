"""The admin site: its first page, how operators sign in, and change their own passwords.

Django makes it of what AdminConfig (todo_project/apps.py) names; nothing else imports this module.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from rest_framework.exceptions import Throttled

from todo_project import metrics
from todo_project.admin import large_tables, plot
from todo_project.api.notes import notes_of

from .hashers import hashing, require_place
from .models import User
from .throttles import (
    enforce_address_tries,
    enforce_own_password_tries,
    enforce_password_tries,
    give_try_back,
)

Response = TypeVar("Response", bound=HttpResponseBase)


class SignInForm(AdminAuthenticationForm):
    """Admin's sign-in, counted together with the API's: guessing is no easier here."""

    error_messages = {  # noqa: RUF012  # as Django declares it
        **AdminAuthenticationForm.error_messages,
        "invalid_login": "The e-mail address or the password is wrong, or not an operator's.",
    }

    def clean(self) -> dict[str, Any]:
        assert self.request is not None
        outcome = "limited"
        try:
            with _told_to_wait():
                enforce_address_tries(self.request)
                enforce_password_tries(self.request, self.cleaned_data.get("username", ""))
            take_place(self.request)
            outcome = "wrong"
            cleaned: dict[str, Any] = super().clean()
        except forms.ValidationError:
            metrics.SIGN_INS.add(outcome)
            raise
        if self.get_user() is not None:  # both fields were there
            metrics.SIGN_INS.add("ok")
        give_try_back(self.request)
        return cleaned


class OwnPasswordForm(AdminPasswordChangeForm):
    """An operator's own password; whoever has but the operator's session guesses no faster."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request

    def clean_old_password(self) -> str:
        with _told_to_wait():
            enforce_own_password_tries(self._request, self.user)
        take_place(self._request)
        old_password: str = super().clean_old_password()
        give_try_back(self._request)
        return old_password

    @transaction.atomic
    def save(self, commit: bool = True) -> User:
        """Writes the password alone: what was taken from the operator meanwhile stays taken."""
        user: User = super().save(commit=False)
        if commit:
            user.save(update_fields=["password"], keep_personal_tokens=True)
            LogEntry.objects.log_actions(user.pk, [user], CHANGE, "Changed password.")
        return user


class Site(admin.AdminSite):
    """Django's, with forms that are counted, and answer 429 where they were tried too often."""

    site_header = "Todo administration"
    site_title = "Todo admin"
    index_title = "Operations"
    login_form = SignInForm
    index_template = "admin/operations.html"
    enable_nav_sidebar = False  # templates/admin/base_site.html has its links

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """With the figures of all tables that the operator may view."""
        tables = [table for table in large_tables(self) if table.has_view_permission(request)]
        figures = [figure for table in tables for figure in table.figures()]
        plots = [plot(table.model, table.plotted) for table in tables if table.plotted]
        shown = {"figures": figures, "plots": plots, "now": datetime.now(UTC)}
        return super().index(request, {**shown, **(extra_context or {})})

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        with _place_where_sent(request):
            return _limited(request, super().login(request, extra_context))

    def password_change(  # type: ignore[override]  # the stubs know no redirect
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        """Django's, whose code names the form."""
        request.current_app = self.name
        view = PasswordChangeView.as_view(
            form_class=partial(OwnPasswordForm, request),
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        with _place_where_sent(request):
            return _limited(request, view(request))


@contextmanager
def _place_where_sent(request: HttpRequest) -> Iterator[None]:
    """For a form that was sent: `take_place` keeps a place to hash until its answer is there.

    Raises HashingBusy where none is free, before anything counts as a try.
    """
    with ExitStack() as place:
        if request.method == "POST":
            require_place()
            request.hashing_place = place  # type: ignore[attr-defined]
        yield


def take_place(request: HttpRequest) -> None:
    """Of those that hash, once the form has passed its limits. Raises HashingBusy."""
    place: ExitStack = request.hashing_place  # type: ignore[attr-defined]
    place.enter_context(hashing())


@contextmanager
def _told_to_wait() -> Iterator[None]:
    """Turns Throttled into a fault of the form."""
    try:
        yield
    except Throttled as error:
        raise forms.ValidationError(
            f"Too many tries. Wait {error.wait} seconds.",  # type: ignore[attr-defined]
            code="rate_limited",
        ) from None


def _limited(request: HttpRequest, response: Response) -> Response:
    """The page of a form, as 429 where it was refused for its limit."""
    usage = notes_of(request).rate_usage
    if usage is not None and usage.is_exceeded:
        response.status_code = 429
        response["Retry-After"] = str(usage.reset_seconds)
    return response
