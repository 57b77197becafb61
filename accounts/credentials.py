"""The one form in which each mailbox and each password is compared and kept.

For whatever reads either: models, serializers, validators, limits, admin.
"""

import unicodedata
from contextlib import suppress
from typing import Any

import idna
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

EMAIL_MAX_CHARACTERS = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets
LOCAL_PART_MAX_CHARACTERS = 64  # section 4.5.3.1.1

# So many characters are at most composed into one, such as U+1F82.
# Source: https://unicode.org/faq/normalization.html (the maximum expansion factors)
COMPOSED_MAX_CHARACTERS = 4


def canonical_email(email: str) -> str:
    """The address in lower case, with its domain in ASCII (IDNA 2008, mapped as UTS #46 does).

    Where it has no such form it doesn't become ASCII, and is nobody's. A domain that is ASCII
    already is what mail servers look up, whatever IDNA thinks of it.
    """
    if len(email) > EMAIL_MAX_CHARACTERS:  # much work for idna, and no address
        return email
    local_part, at, domain = email.rpartition("@")
    if not domain.isascii():
        with suppress(idna.IDNAError):
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
    # Of letters that aren't ASCII lower() maps some onto ASCII ones, such as the Kelvin sign.
    local_part = local_part.lower() if local_part.isascii() else local_part
    return f"{local_part}{at}{domain.lower()}"


def validate_mailable(email: str) -> None:
    """Raises ValidationError for canonical addresses that EmailValidator lets through in vain."""
    local_part, _, domain = email.rpartition("@")
    if not local_part.isascii():
        raise ValidationError("Only ASCII letters may stand before the @.", code="invalid")
    if len(local_part) > LOCAL_PART_MAX_CHARACTERS:
        raise ValidationError(
            f"At most {LOCAL_PART_MAX_CHARACTERS} characters may stand before the @.",
            code="invalid",
        )
    if not domain.isascii():
        raise ValidationError("No such domain can exist.", code="invalid")
    if not settings.DEBUG and _is_local(domain):
        raise ValidationError("Mail goes to domains of the internet alone.", code="invalid")


def _is_local(domain: str) -> bool:
    """Whether it is a host by its address, or the machine itself (RFC 6761, section 6.3)."""
    return domain.startswith("[") or domain.rpartition(".")[2] == "localhost"


class _MailboxFormField(forms.EmailField):
    def to_python(self, value: Any) -> Any:
        email = super().to_python(value)
        return email and canonical_email(email)


class MailboxField(models.EmailField):  # type: ignore[type-arg]  # generic in the stubs only
    """Django's; an address becomes canonical before it is validated, written or looked up."""

    def to_python(self, value: Any) -> Any:
        email = super().to_python(value)
        return email if email is None else canonical_email(email)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": _MailboxFormField, **kwargs})

    def deconstruct(self) -> Any:
        """As Django's: to the database, and to migrations, it is the same."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.EmailField", args, kwargs


def normalize_password(password: str) -> str:
    """The password in NFKC: the same one, whichever keyboard it was typed on.

    What is too long in any form stays as it is: to normalize 100,000 combining characters takes
    ten seconds. Source: NIST SP 800-63B, section 5.1.1.2
    """
    if len(password) > settings.PASSWORD_MAX_CHARACTERS * COMPOSED_MAX_CHARACTERS:
        return password
    return unicodedata.normalize("NFKC", password)
