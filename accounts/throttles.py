"""Limits of the account routes."""

from django.http import HttpRequest
from rest_framework.request import Request

from todo_project.addresses import client_network
from todo_project.api.limits import AddressThrottle, Counter, ScopedThrottle, enforce

from .authentication import caller
from .credentials import canonical_email


class SignInThrottle(AddressThrottle):
    scope = "sign-in-address"


class RegisterThrottle(AddressThrottle):
    scope = "register"


class RefreshThrottle(AddressThrottle):
    scope = "refresh"


class ResetThrottle(AddressThrottle):
    scope = "reset"


class OwnPasswordThrottle(ScopedThrottle):
    """Counts the caller's tries of their own password, together with sign-ins.

    Whoever has but an access token guesses no faster.
    """

    scope = "sign-in"
    methods = frozenset({"POST", "DELETE"})

    def identity(self, request: Request) -> str:
        return _account_identity(request._request, caller(request).email)


class OwnProfileThrottle(ScopedThrottle):
    """Counts changes of the caller's account together with their other writes."""

    scope = "writes"
    methods = frozenset({"PATCH"})

    def identity(self, request: Request) -> str:
        return str(caller(request).pk)


def enforce_address_tries(request: HttpRequest) -> None:
    """What SignInThrottle does, for Django admin. Raises Throttled."""
    enforce(request, Counter.of(SignInThrottle.scope, client_network(request)))


def enforce_password_tries(request: HttpRequest, email: str) -> None:
    """Counts a try of a password, of one account from one network. Raises Throttled.

    By both, so that whoever is locked out doesn't lock the owner out elsewhere.
    """
    enforce(request, Counter.of("sign-in", _account_identity(request, email)))


def _account_identity(request: HttpRequest, email: str) -> str:
    return f"{canonical_email(email)} {client_network(request)}"
