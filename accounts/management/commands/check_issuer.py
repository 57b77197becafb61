"""Says whether the identity provider's keys can be had, and why a token of it is refused."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from select import select
from time import monotonic
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.fetching import FetchError
from accounts.issuers import (
    MESSAGES,
    RefusedError,
    is_jwt,
    key_source,
    unverified_issuer,
    verify,
)
from accounts.jwks import (
    FixedKeys,
    Key,
    KeySet,
    KeySource,
    UnusableKeyError,
    discover,
    fetch_jwks,
    read_key,
)

# What runs from cron may have a standard input that never ends.
STDIN_PATIENCE_SECONDS = 1


class Command(BaseCommand):
    """Asks as requests do, and tells what they only log. Exit status 1 where something fails."""

    help = (
        "Fetch the identity provider's keys and list them. Of a token on standard input say which "
        "check it fails; neither the token is shown nor whose it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.AUTH_ISSUER:
            raise CommandError("AUTH_ISSUER is not set: no tokens but the service's own are good.")
        self.stdout.write(f"issuer: {settings.AUTH_ISSUER}")
        keys = self._list_keys()
        token = _line_on_stdin()
        if token:
            self._check_token(token.removeprefix("Bearer ").encode(errors="replace"), keys)

    def _list_keys(self) -> KeySource:
        """The keys that were listed, with which a token needn't have them fetched again."""
        if settings.AUTH_SHARED_SECRET:
            self.stdout.write("keys: none; tokens are signed with AUTH_SHARED_SECRET, by HS256")
            return key_source()
        deadline = monotonic() + settings.ISSUER_TIME_LIMIT_SECONDS
        try:
            url = settings.AUTH_JWKS_URL or discover(settings.AUTH_ISSUER, deadline=deadline)
            jwks = fetch_jwks(url, deadline=deadline)
        except FetchError as fault:
            raise CommandError(str(fault)) from None
        self.stdout.write(f"keys: {url}")
        keys = [key for jwk in jwks if (key := self._described(jwk))]
        if not keys:
            raise CommandError("No key can be used, so no token is good.")
        return FixedKeys(KeySet(tuple(keys)))

    def _described(self, jwk: Any) -> Key | None:
        members = jwk if isinstance(jwk, dict) else {}
        # Escaped: the terminal would obey what another wrote.
        told = ", ".join(f"{name} {members.get(name)!a}" for name in ("kid", "kty", "alg"))
        try:
            key = read_key(jwk)
        except UnusableKeyError as fault:
            self.stdout.write(f"  {told}: not used, {fault}")
            return None
        accepted = [name for name in key.algorithms if name in settings.AUTH_ALGORITHMS]
        use = f"verifies {', '.join(accepted)}" if accepted else "not used, see AUTH_ALGORITHMS"
        betrayed = "; ITS PRIVATE HALF IS PUBLISHED, replace it" if key.is_betrayed else ""
        self.stdout.write(f"  {told}: {use}{betrayed}")
        return key if accepted else None

    def _check_token(self, raw: bytes, keys: KeySource) -> None:
        # First, because another issuer's token fails by its key otherwise.
        issuer = unverified_issuer(raw)
        if is_jwt(raw) and issuer != settings.AUTH_ISSUER:
            raise _told(RefusedError("issuer", expected=settings.AUTH_ISSUER, got=issuer))
        try:
            verified = verify(raw, keys)
        except RefusedError as refused:
            raise _told(refused) from None
        good_until = datetime.fromtimestamp(verified.good_until, UTC)
        if good_until <= datetime.now(UTC):
            raise CommandError(f"The token was good until {good_until:%Y-%m-%d %H:%M:%S} UTC.")
        self.stdout.write(f"token: good until {good_until:%Y-%m-%d %H:%M:%S} UTC")
        has_email = verified.claims.email is not None
        self.stdout.write(f"  verified e-mail address: {'one' if has_email else 'none'}")


def _told(refused: RefusedError) -> CommandError:
    lines = [f"The token is refused ({refused.reason}). {MESSAGES[refused.reason]}"]
    lines += [f"  expected: {refused.expected}"] if refused.expected else []
    lines += [f"  got: {refused.got!r}"] if refused.got != "" else []
    return CommandError("\n".join(lines))


def _line_on_stdin() -> str:
    """The token that was piped in; empty at a terminal, and where none comes.

    Not as an argument, which the shell and `ps` would know.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    with suppress(OSError, ValueError):  # no file of the system's: there is nothing to wait for
        if not select([sys.stdin], [], [], STDIN_PATIENCE_SECONDS)[0]:
            return ""
    return sys.stdin.readline().strip()
