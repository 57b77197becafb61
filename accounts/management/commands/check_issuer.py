"""Says whether the identity provider's keys can be had, and why a token of it is refused."""

import sys
from datetime import UTC, datetime
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
from accounts.jwks import UnusableKeyError, discover, fetch_jwks, read_key
from todo_project.api.errors import IssuerUnavailable


class Command(BaseCommand):
    """Asks as requests do, and tells what they only log. Exit status 1 where something fails."""

    help = (
        "Fetch the identity provider's keys and list them. With a token on standard input say "
        "which check it fails; neither the token is shown nor whose it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.AUTH_ISSUER:
            raise CommandError("AUTH_ISSUER is not set: no tokens but the service's own are good.")
        self.stdout.write(f"issuer: {settings.AUTH_ISSUER}")
        self._list_keys()
        token = "" if sys.stdin.isatty() else sys.stdin.read().strip()
        if token:
            self._check_token(token.removeprefix("Bearer ").encode(errors="replace"))

    def _list_keys(self) -> None:
        if settings.AUTH_SHARED_SECRET:
            self.stdout.write("keys: none; tokens are signed with AUTH_SHARED_SECRET, by HS256")
            return
        deadline = monotonic() + settings.ISSUER_TIME_LIMIT_SECONDS
        try:
            url = settings.AUTH_JWKS_URL or discover(settings.AUTH_ISSUER, deadline=deadline)
            keys = fetch_jwks(url, deadline=deadline)
        except FetchError as fault:
            raise CommandError(str(fault)) from None
        self.stdout.write(f"keys: {url}")
        usable = [self._describe(jwk) for jwk in keys]
        if not any(usable):
            raise CommandError("No key can be used, so no token is good.")

    def _describe(self, jwk: Any) -> bool:
        members = jwk if isinstance(jwk, dict) else {}
        told = ", ".join(f"{name} {members.get(name)}" for name in ("kid", "kty", "alg"))
        try:
            key = read_key(jwk)
        except UnusableKeyError as fault:
            self.stdout.write(f"  {told}: not used, {fault}")
            return False
        accepted = [name for name in key.algorithms if name in settings.AUTH_ALGORITHMS]
        use = f"verifies {', '.join(accepted)}" if accepted else "not used, see AUTH_ALGORITHMS"
        betrayed = "; ITS PRIVATE HALF IS PUBLISHED, replace it" if key.is_betrayed else ""
        self.stdout.write(f"  {told}: {use}{betrayed}")
        return bool(accepted)

    def _check_token(self, raw: bytes) -> None:
        # First, because another issuer's token fails by its key otherwise.
        issuer = unverified_issuer(raw)
        if is_jwt(raw) and issuer != settings.AUTH_ISSUER:
            raise _told(RefusedError("issuer", expected=settings.AUTH_ISSUER, got=issuer))
        try:
            verified = verify(raw, key_source())
        except RefusedError as refused:
            raise _told(refused) from None
        except IssuerUnavailable as unavailable:
            raise CommandError(str(unavailable.detail)) from None
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
