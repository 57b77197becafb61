"""Typed readers of environment variables. For settings.py.

Every fault is collected, so that a refused start names all of them at once instead of one at a
time; `Environment.refuse_faults` raises them. No value is ever echoed that may hold a secret.
"""

import os
import re
from collections.abc import Mapping
from email.utils import getaddresses
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_POSTGRESQL_SCHEMES = ("postgres", "postgresql")
_ENGINE = "django.db.backends.postgresql"


_VALID_EMAIL_URL = (
    "not a mail server; valid: smtp://user:password@host:587, smtps://..., with DEBUG also console:"
)
_PERIODS_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class EnvironmentRefused(ImproperlyConfigured):
    """The service can't start as its environment is; the message says what to change."""


class Rate(NamedTuple):
    """So many times in so many seconds."""

    limit: int
    period_seconds: int


class Environment:
    """A mapping of environment variables, read with types; an empty value counts as not set."""

    def __init__(self, variables: Mapping[str, str] = os.environ) -> None:
        self._variables = variables
        self._faults: list[str] = []

    def refuse(self, name: str, reason: str) -> None:
        """Notes that variable `name` can't be used; `reason` says what is valid."""
        self._faults.append(f"{name}: {reason}")

    def refuse_faults(self) -> None:
        """Raises EnvironmentRefused with every fault noted so far, if there is any."""
        if self._faults:
            raise EnvironmentRefused(
                "Refusing to start:\n" + "\n".join(f"  - {fault}" for fault in self._faults)
            )

    def text(self, name: str, default: str = "") -> str:
        """The value without surrounding white space, or `default` where it is empty or not set."""
        return self._variables.get(name, "").strip() or default

    def boolean(self, name: str, *, default: bool) -> bool:
        """`true` or `false` (also 1, 0, yes, no), in any case."""
        value = self.text(name).lower()
        if not value:
            return default
        if value not in _BOOLEANS:
            self.refuse(name, f"{value!r} is not a boolean; valid: true, false")
            return default
        return _BOOLEANS[value]

    def integer(self, name: str, *, default: int, minimum: int, maximum: int) -> int:
        """A decimal number from `minimum` to `maximum`."""
        value = self.text(name)
        if not value:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not minimum <= int(value) <= maximum:
            self.refuse(name, f"{value!r} is not valid; valid: {minimum} to {maximum}")
            return default
        return int(value)

    def names(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        """A list separated by commas."""
        values = [value.strip() for value in self.text(name).split(",")]
        return [value for value in values if value] or list(default)

    def origins(self, name: str) -> list[str]:
        """A list of web origins (RFC 6454), such as `https://app.example.com`."""
        origins = self.names(name)
        for origin in origins:
            try:
                parts = urlsplit(origin)
            except ValueError:
                parts = urlsplit("")
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                self.refuse(
                    name, f"{origin!r} is not an origin; valid: https://host or https://host:port"
                )
        return origins

    def rate(self, name: str, default: str) -> Rate | None:
        """`N/second`, `N/minute`, `N/hour` or `N/day`; None for `off`."""
        value = self.text(name, default).lower()
        if value == "off":
            return None
        match = re.fullmatch(r"([1-9][0-9]{0,8})/(second|minute|hour|day)", value)
        if match is None:
            self.refuse(name, f"{value!r} is not a rate; valid: N/second|minute|hour|day, or off")
            return None
        return Rate(int(match[1]), _PERIODS_SECONDS[match[2]])

    def email(self, name: str, default: str) -> dict[str, Any]:
        """Django's settings of the mail server that a URL names.

        `smtp://user:password@host:587` speaks STARTTLS, `smtps://` TLS from the start, and
        `smtp://host:25?tls=false` neither, for a relay on the same machine; `console:` prints.
        """
        url = self.text(name, default)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            self.refuse(name, _VALID_EMAIL_URL)
            return {}
        if parts.scheme == "console":
            return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
        query = parse_qs(parts.query)
        tls = query.pop("tls", ["true"])[-1].lower()
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or query:
            self.refuse(name, _VALID_EMAIL_URL)
            return {}
        if tls not in ("true", "false"):
            self.refuse(name, _VALID_EMAIL_URL)
        is_smtps = parts.scheme == "smtps"
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": parts.hostname,
            "EMAIL_PORT": port or (465 if is_smtps else 587),
            "EMAIL_HOST_USER": unquote(parts.username or ""),
            "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
            "EMAIL_USE_SSL": is_smtps,
            "EMAIL_USE_TLS": not is_smtps and tls == "true",
        }

    def sender(self, name: str, default: str) -> str:
        """Whom mails come from: `todo@example.com` or `Todo <todo@example.com>`."""
        text = self.text(name, default)
        addresses = [address for _, address in getaddresses([text])]
        try:
            validate_email(addresses[0])
        except (IndexError, ValidationError):
            addresses = []
        if len(addresses) != 1 or not text.isprintable():
            self.refuse(name, f"{text!r} is not a sender; valid: Todo <todo@example.com>")
        return text

    def secret(self, name: str, *, minimum_bytes: int, fallback: str | None) -> str:
        """A secret of at least `minimum_bytes`; required where `fallback` is None."""
        value = self.text(name)
        if not value and fallback is not None:
            return fallback
        if not value:
            self.refuse(name, "required with DEBUG off; make one with `make secret`")
        elif len(value.encode()) < minimum_bytes:
            self.refuse(name, f"too short; valid: at least {minimum_bytes} bytes")
        return value

    def database(self, name: str) -> dict[str, Any] | None:
        """Django's settings of the PostgreSQL database that a URL names; None where it is not set.

        The URL's query becomes libpq's parameters (`sslmode`, `channel_binding` ...).
        """
        url = self.text(name)
        if not url:
            return None
        try:
            scheme = urlsplit(url).scheme
            if scheme not in _POSTGRESQL_SCHEMES:
                self.refuse(
                    name,
                    f"only PostgreSQL is supported, not {scheme!r}; "
                    "valid: postgresql://user:password@host/database",
                )
                return None
            parsed: dict[str, Any] = {"OPTIONS": {}, **dj_database_url.parse(url)}
        except ValueError:
            self.refuse(name, "not a URL; valid: postgresql://user:password@host/database")
            return None
        if parsed["ENGINE"] != _ENGINE or not parsed["NAME"]:
            self.refuse(name, "names no database; valid: postgresql://user:password@host/database")
            return None
        return parsed


def is_pooled(database: Mapping[str, Any]) -> bool:
    """Whether the host is Neon's pooled endpoint: PgBouncer in transaction mode.

    Source: https://neon.com/docs/connect/connection-pooling
    """
    host: str = database["HOST"]
    return host.split(".", 1)[0].endswith("-pooler")
