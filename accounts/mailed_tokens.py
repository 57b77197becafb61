"""Makes and reads the tokens that links in mails carry."""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.signing import BadSignature, TimestampSigner
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from .models import User


def make_reset_token(user: User) -> str:
    """A token that carries the user's id and is good for one change of password, for an hour.

    It is bound to the hash of the present password and to the address, and dies with either.
    """
    return f"{_encode(user)}.{default_token_generator.make_token(user)}"


def user_of_reset_token(token: str) -> User | None:
    """The active user of a reset token, locked; None where the token is not, or no longer, good.

    To be called in the transaction that changes the password: of two that use one token at once,
    the later finds the password changed.
    """
    user = _locked_user(token)
    if user is None or not default_token_generator.check_token(user, token.partition(".")[2]):
        return None
    return user


def make_confirmation_token(user: User) -> str:
    """A token that carries the user's id and is good for making `pending_email` their address.

    For a day, and once: it is bound to the hash of the present password, to the address and whether
    it is verified, and to the pending one, and dies with each of these.
    """
    return _confirmation_signer(user).sign(_encode(user))


def user_of_confirmation_token(token: str) -> User | None:
    """The active user of a confirmation token, locked, who has a `pending_email`.

    None where the token is not, or no longer, good. To be called in the transaction that changes
    the address: of two that use one token at once, the later finds it changed.
    """
    user = _locked_user(token)
    if user is None or user.pending_email is None:
        return None
    try:
        _confirmation_signer(user).unsign(token, max_age=settings.EMAIL_CONFIRMATION_LIFETIME)
    except BadSignature:
        return None
    return user


def _confirmation_signer(user: User) -> TimestampSigner:
    """Signs with a key of this state of the user; it is derived, and nothing has to be stored."""
    state = (user.password, user.email, user.email_verified, user.pending_email)
    return TimestampSigner(sep=".", salt="\n".join(["accounts.email", *map(str, state)]))


def _encode(user: User) -> str:
    return urlsafe_base64_encode(user.pk.bytes)


def _locked_user(token: str) -> User | None:
    try:
        primary_key = UUID(bytes=urlsafe_base64_decode(token.partition(".")[0]))
    except ValueError:
        return None
    users = User.objects.filter(pk=primary_key, is_active=True)
    return users.select_for_update(no_key=True).first()
