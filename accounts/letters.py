"""The mails about accounts: whom each goes to, what it says, and how many may be asked for.

For the views. Whatever has to be looked up is looked up by the queue's thread, once the answer has
left: who asks for a mail can't tell by the time what there is. What is looked up and counted is a
job of its own: however often the mail is tried, it counts once.
"""

import logging
from functools import partial
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

from django.conf import settings

from todo_project import metrics
from todo_project.api.limits import Counter, count
from todo_project.background import Job

from . import mail
from .mailed_tokens import make_confirmation_token, make_reset_token
from .models import Identity, User

logger = logging.getLogger(__name__)

_LIMIT = "reset"  # in settings.RATE_LIMITS


class Letter(NamedTuple):
    to: str
    subject: str
    text: str


def send_password_reset(email: str) -> None:
    """Mails a link to whoever has the address `email`, if anybody does."""
    mail.queue.put(partial(_prepare_password_reset, email))


def send_registration(user: User) -> None:
    """Mails a link to confirm the address of `user`, where it is theirs.

    Whoever has it already is told so instead, with a link to choose a new password: that somebody
    has it is learned from the mailbox alone.
    """
    assert user.email is not None
    mail.queue.put(partial(_prepare_registration, user.pk, user.email))


def send_change_of_email(user_id: UUID) -> None:
    """Mails a link to the user's `pending_email`, and tells the present address that it did."""
    mail.queue.put(partial(_prepare_change_of_email, user_id))


def send_identity_added(user: User, identity: Identity) -> None:
    """Tells the account's address, where there is one, that there is another way into it."""
    if user.email is None:
        return
    letter = _letter(
        user.email,
        "Another way to sign in",
        f"Your account can now be used by signing in at {identity.issuer}, too.",
        "If that wasn't you, somebody knows your password: choose another, and take that sign-in "
        "away.",
    )
    mail.queue.put(_post(letter))


def _prepare_password_reset(email: str) -> Job | None:
    if not settings.PASSWORD_RESET_URL:
        logger.error("no mail: PASSWORD_RESET_URL is not set")
        return None
    user = User.objects.with_email(email).filter(is_active=True).first()
    if user is None or not user.has_usable_password():  # they sign in elsewhere
        return None
    # By account as well: whoever asks from many networks must not fill a mailbox.
    if _are_too_many(str(user.pk)):
        return None
    return _post(
        _letter(
            user.email,
            "Choose a new password",
            "Somebody, most likely you, asked for a new password.",
            _reset_part(user),
            "If it wasn't you, do nothing: the old password stays good.",
        )
    )


def _prepare_registration(user_id: UUID, email: str) -> Job | None:
    user = User.objects.with_email(email).filter(is_active=True).first()
    if user is None:
        return None
    if user.pk != user_id:
        return _prepare_account_exists(user)
    if user.pending_email is None or _are_too_many(f"mailbox {email}"):
        return None
    return _post(
        _letter(
            email,
            "Confirm your address",
            "Somebody, most likely you, made an account with this address.",
            _confirmation_part(user),
            # Who opens it lets in whoever chose the password.
            "If it wasn't you, do nothing, and don't open the link.",
        )
    )


def _prepare_account_exists(user: User) -> Job | None:
    if _are_too_many(str(user.pk)):
        return None
    # A link would be a way round whoever else lets them in, or an operator who keeps them out.
    has_password = user.has_usable_password()
    return _post(
        _letter(
            user.email,
            "You have an account already",
            "Somebody, most likely you, wanted to make an account with this address. There is one.",
            "Sign in with its password, or choose another."
            if has_password
            else "It has no password: sign in in the way that you did before.",
            *([_reset_part(user)] if has_password else []),
            "If it wasn't you, do nothing: nothing has changed.",
        )
    )


def _prepare_change_of_email(user_id: UUID) -> Job | None:
    if not settings.EMAIL_CONFIRMATION_URL:
        logger.error("no mail: EMAIL_CONFIRMATION_URL is not set")
        return None
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None or user.pending_email is None:  # gone, or confirmed meanwhile
        return None
    email = user.pending_email
    # Neither may one account fill many mailboxes, nor many accounts one. Not counted as resets are:
    # whoever uses these up must not keep the owner from a new password.
    if _are_too_many(f"change {user.pk}", f"mailbox {email}"):
        return None
    if User.objects.with_email(email).exclude(pk=user.pk).exists():
        letter = _letter(
            email,
            "This address is taken",
            "Somebody wanted to give another account this address, which belongs to yours.",
            "Nothing has changed, and there is nothing that you have to do.",
        )
    else:
        letter = _letter(
            email,
            "Confirm your address",
            "Somebody, most likely you, gave an account this address.",
            _confirmation_part(user),
            "If it wasn't you, do nothing, and don't open the link.",
        )
    if user.email in (None, email):
        return _post(letter)
    # Doesn't say which: where the present address was never confirmed, a stranger may read this.
    note = _letter(
        user.email,
        "Your address is to be changed",
        "Somebody, most likely you, asked to give your account another address than this.",
        "It changes as soon as a link is opened that went to the other one.",
        "If it wasn't you, somebody knows your password: choose another, and that link is dead.",
    )
    return _post(letter, note)


def _letter(to: str | None, subject: str, *paragraphs: str) -> Letter:
    assert to is not None  # looked up by it
    return Letter(to, subject, "\n\n".join(paragraphs) + "\n")


def _reset_part(user: User) -> str:
    link = _link(settings.PASSWORD_RESET_URL, make_reset_token(user))
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    return f"Choose it here within {minutes} minutes:\n{link}"


def _confirmation_part(user: User) -> str:
    link = _link(settings.EMAIL_CONFIRMATION_URL, make_confirmation_token(user))
    hours = settings.EMAIL_CONFIRMATION_LIFETIME.total_seconds() / 3600
    return f"Confirm here within {hours:.0f} hours that it is yours:\n{link}"


def _link(url: str, token: str) -> str:
    return url.replace("{token}", quote(token, safe=""))


def _are_too_many(*identities: str) -> bool:
    """Counts a mail of each of these; True where that is one too many for any."""
    counters = [Counter.of(_LIMIT, identity) for identity in identities]
    usages = [count(counter) for counter in counters if counter is not None]
    if not any(usage.is_exceeded for usage in usages):
        return False
    logger.warning("mail skipped: too many for one account or mailbox")
    metrics.LIMITS_HIT.add(_LIMIT)
    return True


def _post(letter: Letter, *others: Letter) -> Job:
    """A job that sends these, one after the other. One that can't be sent is the last."""

    def job() -> Job | None:
        mail.send(letter.subject, letter.text, letter.to)
        return _post(*others) if others else None

    return job
