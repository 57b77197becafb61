"""Limits of the account routes."""

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from todo_project.addresses import client_network, network_of
from todo_project.api.errors import log_database_fault
from todo_project.api.limits import (
    AddressThrottle,
    Counter,
    ScopedThrottle,
    admit,
    enforce,
    reserve,
)
from todo_project.api.notes import notes_of

from .authentication import current_user
from .credentials import canonical_email
from .models import Session, User

_ACCOUNT = "sign-in-account"  # in settings.RATE_LIMITS


class SignInThrottle(AddressThrottle):
    scope = "sign-in-address"


class RegisterThrottle(AddressThrottle):
    scope = "register"


class RefreshThrottle(AddressThrottle):
    scope = "refresh"


class ResetThrottle(AddressThrottle):
    scope = "reset"


class OwnPasswordThrottle(BaseThrottle):
    """Counts the caller's tries of their own password, together with sign-ins.

    Whoever has but an access token guesses no faster.
    """

    methods = frozenset({"POST", "DELETE"})

    def allow_request(self, request: Request, view: APIView) -> bool:
        if request.method in self.methods:
            enforce_own_password_tries(request, current_user(request))
        return True


class OwnWriteThrottle(ScopedThrottle):
    """Counts what the caller makes together with their other writes."""

    scope = "writes"
    methods = frozenset({"POST"})

    def identity(self, request: Request) -> str:
        return str(current_user(request).pk)


class OwnProfileThrottle(OwnWriteThrottle):
    """Counts changes of the caller's account, likewise."""

    methods = frozenset({"PATCH"})


class ExportThrottle(OwnWriteThrottle):
    """Counts the caller's exports."""

    scope = "exports"
    methods = frozenset({"GET", "HEAD"})


def enforce_address_tries(request: HttpRequest) -> None:
    """What SignInThrottle does, for Django admin. Raises Throttled."""
    enforce(request, Counter.of(SignInThrottle.scope, client_network(request)))


def enforce_password_tries(request: HttpRequest | Request, email: str) -> None:
    """Counts a try of a password, of one account. Raises Throttled.

    From one network all tries count, so that whoever is locked out doesn't lock the owner out
    elsewhere; and from all networks together those of a wrong password. Every try counts as one of
    those until `give_try_back`, so that however many come at once, no more are checked. For an
    address without an account the same is done.
    """
    email = canonical_email(email)
    enforce(request, Counter.of("sign-in", f"{email} {client_network(request)}"))
    if settings.RATE_LIMITS[_ACCOUNT] is None:
        return
    counter = Counter.of(_ACCOUNT, _guessing(email, client_network(request)))
    assert counter is not None
    reservation = reserve(counter)
    admit(request, reservation.usage)
    notes_of(request).reservation = reservation


def enforce_own_password_tries(request: HttpRequest | Request, user: User) -> None:
    """Counts a try of the caller's own password, as a sign-in is. Raises Throttled.

    Who has no address can't sign in by one, and is told apart by the id.
    """
    enforce_password_tries(request, user.email or str(user.pk))


def give_try_back(request: HttpRequest | Request) -> None:
    """What was counted as a wrong password was none: it was right, or wasn't even looked at.

    Where the database fails now it stays counted: the answer is made already.
    """
    reservation = notes_of(request).reservation
    if reservation is not None:
        keep_try(request)
        try:
            reservation.give_back()
        except (DatabaseError, InterfaceError) as error:
            log_database_fault(error)


def keep_try(request: HttpRequest | Request) -> None:
    """The password was wrong, and `give_try_back` has nothing to do."""
    notes_of(request).reservation = None


def _guessing(email: str, network: str) -> str:
    """Whose wrong passwords are counted together: everybody's, but for those at home.

    From a network where the account is signed in they count by themselves, so that nobody elsewhere
    locks the owner out there. The network comes first, because an address may be any text.
    """
    sessions = Session.objects.live().filter(user__in=User.objects.with_email(email))
    addresses = sessions.values_list("address", flat=True)
    is_home = any(address and network_of(address) == network for address in addresses)
    return f"{network if is_home else 'everywhere'} {email}"
