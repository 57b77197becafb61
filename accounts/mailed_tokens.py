"""Makes and reads the tokens that links in mails carry."""

from uuid import UUID

from django.contrib.auth.tokens import default_token_generator
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from .models import User


def make_reset_token(user: User) -> str:
    """A token that carries the user's id and is good for one change of password, for an hour.

    It is bound to the hash of the present password, and dies with it.
    """
    return f"{urlsafe_base64_encode(user.pk.bytes)}.{default_token_generator.make_token(user)}"


def user_of_reset_token(token: str) -> User | None:
    """The active user of a reset token, locked; None where the token is not, or no longer, good.

    To be called in the transaction that changes the password: of two that use one token at once,
    the later finds the password changed.
    """
    user_id, _, signature = token.partition(".")
    try:
        primary_key = UUID(bytes=urlsafe_base64_decode(user_id))
    except ValueError:
        return None
    user = (
        User.objects.filter(pk=primary_key, is_active=True).select_for_update(no_key=True).first()
    )
    if user is None or not default_token_generator.check_token(user, signature):
        return None
    return user
