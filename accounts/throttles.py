"""Limits of the account routes."""

from django.http import HttpRequest

from todo_project.addresses import client_network
from todo_project.api.limits import AddressThrottle, enforce


class SignInThrottle(AddressThrottle):
    scope = "sign-in-address"


class RegisterThrottle(AddressThrottle):
    scope = "register"


class RefreshThrottle(AddressThrottle):
    scope = "refresh"


class ResetThrottle(AddressThrottle):
    scope = "reset"


def enforce_address_tries(request: HttpRequest) -> None:
    """What SignInThrottle does, for Django admin. Raises Throttled."""
    enforce(request, SignInThrottle.scope, client_network(request))


def enforce_password_tries(request: HttpRequest, email: str) -> None:
    """Counts a try of a password, of one account from one network. Raises Throttled.

    By both, so that whoever is locked out doesn't lock the owner out elsewhere.
    """
    enforce(request, "sign-in", f"{email.lower()} {client_network(request)}")
