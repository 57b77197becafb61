"""Makes and recognises personal tokens, those that people make for their scripts."""

import re
import secrets
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID
from zlib import crc32

from todo_project.api.errors import TokenInvalid
from todo_project.memory import Memory

from .models import PersonalToken, hash_token

# By which scanners for secrets know one, wherever it was left: docs/operations.md has the regular
# expression. No base64 has the underscore, and a double click takes the whole token.
PREFIX = "todo_"
BODY_CHARACTERS = 34  # of 62: 202 bits
CHECKSUM_CHARACTERS = 6  # as base62 has 2**32 values
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{BODY_CHARACTERS + CHECKSUM_CHARACTERS}}}")


@dataclass(slots=True)
class KnownToken:
    """What a process remembers of a token that it has met: a hint, and no proof that it lives."""

    hash: str
    id: UUID
    user_id: UUID
    scopes: frozenset[str]
    expires_at: datetime | None
    noted_on: date | None  # the last day of which it is on record that the token was used


_known: Memory[str, KnownToken] = Memory()  # by the hash


def make() -> str:
    """A new token, which can't be guessed."""
    unsigned = PREFIX + "".join(secrets.choice(_DIGITS) for _ in range(BODY_CHARACTERS))
    return unsigned + _checksum(unsigned)


def recognize(raw: bytes) -> KnownToken:
    """The token that `raw` is, whether or not it lives.

    Where the process meets it for the first time, one query; none where it is misspelt. Raises
    TokenInvalid.
    """
    token = raw.decode("latin-1")
    digest = hash_token(token)
    return _known.get(digest) or _look_up(token, digest)


def forget(token: KnownToken) -> None:
    """It lives no longer."""
    _known.forget(token.hash)


def _look_up(token: str, digest: str) -> KnownToken:
    if not _is_well_formed(token):
        raise TokenInvalid(
            f"This is no personal token: it begins with {PREFIX}, and has been cut off or "
            "misspelt. Copy it whole, or make another."
        )
    columns = ("id", "user_id", "scopes", "expires_at", "last_used_on")
    rows = PersonalToken.objects.filter(hash=digest).values_list(*columns)
    for token_id, user_id, scopes, expires_at, last_used_on in rows:
        known = KnownToken(
            digest, token_id, user_id, frozenset(scopes), expires_at, noted_on=last_used_on
        )
        _known.remember(digest, known)
        return known
    raise TokenInvalid("The personal token was ended, or never made here. Make another.")


def _is_well_formed(token: str) -> bool:
    """Whether it can be one: a typing error is told from a token that was ended."""
    unsigned = token[:-CHECKSUM_CHARACTERS]
    return _FORM.fullmatch(token) is not None and token == unsigned + _checksum(unsigned)


def _checksum(unsigned: str) -> str:
    """The CRC32 of what stands before, in base62, with zeros in front."""
    rest, digits = crc32(unsigned.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
