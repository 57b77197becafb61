"""What several views of accounts have in common."""

from contextlib import ExitStack
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from accounts.authentication import current_user
from accounts.hashers import hashing, require_place
from accounts.models import User
from accounts.throttles import give_try_back, keep_try
from todo_project.api.errors import ServiceUnavailable, TokenInvalid
from todo_project.api.views import StrictInputMixin

HASHING_METHODS = frozenset({"POST", "DELETE"})  # of the routes that hash


class PublicView(StrictInputMixin):
    """A route that needs no access token, and ignores one."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class HashingMixin(StrictInputMixin):
    """A route that hashes a password. Refused at once where too many do, before anything is done.

    The place is taken once limits and input are passed: what is refused for these keeps nobody from
    signing in. It is kept until the answer is there, so that nobody is refused with locks in hand.

    A try of a password that turned out to be none is given back to the account, unless something
    failed here once it had begun.
    """

    place: ExitStack

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method not in HASHING_METHODS:
            return super().dispatch(request, *args, **kwargs)
        require_place()
        with ExitStack() as self.place:
            response = super().dispatch(request, *args, **kwargs)
        if response.status_code < 500:
            give_try_back(request)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in HASHING_METHODS:
            return
        try:
            self.prepare()
            if self.hashes():
                self.place.enter_context(hashing())
        except ServiceUnavailable:
            give_try_back(request)  # nothing was tried
            raise

    def prepare(self) -> None:
        """What may take long and needs no place, or refuses the request. Before any is taken."""

    def hashes(self) -> bool:
        """Whether this request hashes a password; `prepare` has run."""
        return True


def no_password(field: str) -> ValidationError:
    message = "You sign in at your identity provider, and have neither password nor sessions here."
    return ValidationError({field: [ErrorDetail(message, "no_password")]})


def locked_user(request: Request) -> User:
    """The caller, locked. Raises TokenInvalid where there is no such user any more."""
    user = User.objects.filter(pk=current_user(request).pk).select_for_update(no_key=True).first()
    if user is None:
        raise TokenInvalid("The account has been deleted.")
    return user


def confirmed_user(request: Request, field: str, password: str) -> User:
    """The caller, locked, after the password was checked. Raises ValidationError on `field`.

    Whoever has none, because they sign in elsewhere, has tried none: it isn't counted.
    """
    user = locked_user(request)
    if not user.has_usable_password():
        raise no_password(field)
    if not user.check_password(password):
        keep_try(request)
        raise ValidationError({field: [ErrorDetail("The password is wrong.", "wrong_password")]})
    return user


def used_link() -> ValidationError:
    message = "The link is used, too old, or was not made here. Ask for another."
    return ValidationError({"token": [ErrorDetail(message, "invalid")]})
