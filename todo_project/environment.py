"""Typed readers of environment variables. For settings.py.

Every fault is collected, so that a refused start names all of them at once instead of one at a
time; `Environment.refuse_faults` raises them. No value is ever echoed that may hold a secret.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from email.utils import getaddresses
from ipaddress import IPv6Address
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from django.http.request import split_domain_port, validate_host

from .libpq import parameter_faults

# Each is tried for what names none, so that a long list costs something.
_SECRETS_MAX = 10
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_POSTGRESQL_SCHEMES = ("postgres", "postgresql")
_ENGINE = "django.db.backends.postgresql"
_VALID_DATABASE_URL = (
    "valid: postgresql://user:password@host/database, special characters percent-encoded"
)
_VALID_EMAIL_URL = (
    "not a mail server; valid: smtp://user:password@host:587, smtps://user:password@host, special "
    "characters percent-encoded; with DEBUG also console:"
)
# RFC 8314: what speaks TLS from the start, and what is asked for it.
_TLS_PORT, _STARTTLS_PORT = 465, 587

# Browsers take no longer path of a cookie than 1024.
_PATH_PREFIX_MAX = 255
_VALID_PATH_PREFIX = (
    "valid: empty, or a path such as /todo or /apps/todo: with a slash before each part and none "
    "at the end; letters, digits and - . _ ~, no part . or .., and not /livez, /readyz or "
    f"/metrics, which answer without it; at most {_PATH_PREFIX_MAX} characters"
)
_VALID_HOSTS = (
    "valid: host names separated by commas, without https://, port and path: api.example.com, "
    ".example.com (with every host below it), [::1], or * alone for any"
)
_VALID_WEB_ORIGIN = (
    "valid: https://host or https://host:port as browsers send it: in lower case, without path and "
    "without the scheme's own port"
)
_VALID_CORS_ORIGIN = (
    f"{_VALID_WEB_ORIGIN}, each host by itself; those of apps, too, such as capacitor://localhost"
)
_VALID_CSRF_ORIGIN = f"{_VALID_WEB_ORIGIN}; https://*.host is every host below it"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_VALID_CLAIMS = (
    "valid: a JSON object of claims with a value, or a list of values, each a text, a number, "
    'true, false or null: {"azp": "https://app.example.com"}'
)
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]{32,}=*")
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
        fault = f"{name}: {reason}"
        if fault not in self._faults:  # a variable may be read twice
            self._faults.append(fault)

    def refuse_faults(self) -> None:
        """Raises EnvironmentRefused with every fault noted so far, if there is any."""
        if self._faults:
            raise EnvironmentRefused(
                "Refusing to start:\n" + "\n".join(f"  - {fault}" for fault in self._faults)
            )

    def text(self, name: str, default: str = "") -> str:
        """The value without surrounding white space, or `default` where it is empty or not set."""
        value = self._variables.get(name, "").strip()
        readable = value.encode(errors="replace").decode()
        if readable != value:  # lone surrogates stand for bytes that Python could not read
            self.refuse(name, "has bytes that are not UTF-8; valid: text in UTF-8")
        return readable or default

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

    def choices(self, name: str, valid: tuple[str, ...], default: tuple[str, ...]) -> list[str]:
        """A list of some of the `valid` names, separated by commas."""
        names = self.names(name, default)
        unknown = [value for value in names if value not in valid]
        if unknown:
            self.refuse(name, f"{', '.join(unknown)!r} can't be used; valid: {', '.join(valid)}")
        return names

    def claims(self, name: str) -> dict[str, list[Any]]:
        """A JSON object of claims of a token, each with the list of values that it may have."""
        text = self.text(name)
        try:
            claims = json.loads(text or "{}", object_pairs_hook=_unique, parse_constant=_no_number)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            self.refuse(name, f"not such an object; {_VALID_CLAIMS}")
            return {}
        lists = {
            claim: value if isinstance(value, list) else [value] for claim, value in claims.items()
        }
        for claim, values in lists.items():
            if not values or any(isinstance(value, dict | list) for value in values):
                self.refuse(name, f"no value of {claim!r} could fit; {_VALID_CLAIMS}")
        return lists

    def hosts(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        """A list of hosts, of which Django answers at least those that they name themselves."""
        hosts = self.names(name, default)
        for host in hosts:
            if host != "*" and not _is_host_pattern(host):
                self.refuse(name, f"{host!r} matches no host; {_VALID_HOSTS}")
        return hosts

    def cors_origins(self, name: str) -> list[str]:
        """A list of origins (RFC 6454) of any scheme: `https://app.example.com`, `app://todo`.

        Not `null`, which every page can have that wants to.
        """
        origins = self.names(name)
        for origin in origins:
            if not _is_origin(origin):
                self.refuse(name, f"{origin!r} is no browser's origin; {_VALID_CORS_ORIGIN}")
        return origins

    def csrf_origins(self, name: str) -> list[str]:
        """A list of web origins, `https://*.example.com` for all below a host among them."""
        origins = self.names(name)
        for origin in origins:
            is_web = origin.startswith(("http://", "https://"))
            if not is_web or not _is_origin(origin.replace("://*.", "://", 1)):
                self.refuse(name, f"{origin!r} is no browser's origin; {_VALID_CSRF_ORIGIN}")
        return origins

    def path_prefix(self, name: str) -> str:
        """What all paths begin with: `/todo`; empty where nothing is before them.

        As every browser and proxy leaves it: nothing that could be written otherwise.
        """
        prefix = self.text(name)
        if prefix and (
            not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix)
            or len(prefix) > _PATH_PREFIX_MAX
            or re.search(r"/\.{1,2}(/|\Z)", prefix)
            or re.match(r"/(livez|readyz|metrics)(/|\Z)", prefix)
        ):
            self.refuse(name, f"{prefix!r} can't stand before a path; {_VALID_PATH_PREFIX}")
        return prefix

    def link(self, name: str, default: str, *, placeholder: str) -> str:
        """The URL of a page, with a placeholder behind its host that a value takes the place of."""
        url = self.text(name, default)
        parts = _split(url.replace(placeholder, ""))
        if url and (
            placeholder not in url
            or placeholder in _split(url).netloc
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or re.search(r"[\s{}]", url.replace(placeholder, ""))
        ):
            self.refuse(name, f"valid: https://host/... that contains {placeholder}, and no other")
        return url

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
        parts = _split(url)
        if parts.scheme == "console" and parts == _split("console:"):
            return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
        is_smtps = parts.scheme == "smtps"
        query = parse_qs(parts.query, keep_blank_values=True)
        tls = query.pop("tls", ["true"])[-1].lower()
        if (
            parts.scheme not in ("smtp", "smtps")
            or not parts.hostname
            or query
            or parts.path.strip("/")
            or parts.fragment
            or tls not in (("true",) if is_smtps else ("true", "false"))
            or bool(parts.username) is not bool(parts.password)  # Django would use neither
        ):
            self.refuse(name, _VALID_EMAIL_URL)
            return {}
        port = parts.port or (_TLS_PORT if is_smtps else _STARTTLS_PORT)
        if is_smtps and port == _STARTTLS_PORT:
            self.refuse(name, f"port {port} begins without TLS; valid: smtp://...:{port}")
        elif not is_smtps and tls == "true" and port == _TLS_PORT:
            self.refuse(name, f"port {port} speaks TLS from the start; valid: smtps://...:{port}")
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": parts.hostname,
            "EMAIL_PORT": port,
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

    def bearer(self, name: str) -> str:
        """A secret that clients send as a bearer token (RFC 6750, section 2.1), or none."""
        value = self.text(name)
        if value and not _BEARER.fullmatch(value):
            self.refuse(
                name,
                "no such token; valid: at least 32 letters, digits and - . _ ~ + /; make one with "
                "`make secret`",
            )
        return value

    def secrets(self, name: str, *, minimum_bytes: int) -> list[str]:
        """A list of secrets, of at least `minimum_bytes` each, that have no comma."""
        values = self.names(name)
        if len(values) > _SECRETS_MAX:
            self.refuse(name, f"{len(values)} keys are too many; valid: at most {_SECRETS_MAX}")
        if any(len(value.encode()) < minimum_bytes for value in values):
            self.refuse(
                name,
                f"a key is too short; valid: at least {minimum_bytes} bytes each, separated by "
                "commas, so that none can have a comma",
            )
        return values

    def refuse_repeated(self, secrets: Mapping[str, Sequence[str]]) -> None:
        """Refuses a secret that stands twice: in one variable, or in two for whatever use."""
        names: dict[str, str] = {}
        for name, values in secrets.items():
            for value in filter(None, values):
                if value in names:
                    place = f"the same as {names[value]}" if names[value] != name else "there twice"
                    self.refuse(name, f"a key is {place}; valid: each key in one place, once")
                names.setdefault(value, name)

    def database(self, name: str) -> dict[str, Any] | None:
        """Django's settings of the PostgreSQL database that a URL names; None where it is not set.

        The URL's query becomes libpq's parameters (`sslmode`, `channel_binding` ...).
        """
        url = self.text(name)
        if not url:
            return None
        parts = _split(url)
        if parts == _NOT_A_URL:
            self.refuse(name, f"not a URL; {_VALID_DATABASE_URL}")
            return None
        if parts.scheme not in _POSTGRESQL_SCHEMES:
            self.refuse(
                name, f"only PostgreSQL is supported, not {parts.scheme!r}; {_VALID_DATABASE_URL}"
            )
            return None
        database = parts.path.removeprefix("/")
        if not database or parts.fragment or re.search("[/@]", database):
            # Such as a password with an unquoted # or /, which would end up here.
            self.refuse(name, f"names no database; {_VALID_DATABASE_URL}")
            return None
        parsed: dict[str, Any] = {"OPTIONS": {}, **dj_database_url.parse(url, engine=_ENGINE)}
        for fault in parameter_faults(parsed["OPTIONS"]):
            self.refuse(name, fault)
        return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a JSON object. Raises ValueError where a name stands in it twice."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands there twice")
    return dict(pairs)


def _no_number(constant: str) -> Any:
    """Of NaN and Infinity, which JSON doesn't have."""
    raise ValueError(constant)


def is_fetchable(url: str, *, debug: bool) -> bool:
    """Whether keys may be fetched from there: over https, with `debug` over http on loopback."""
    parts = _split(url)
    is_secure = parts.scheme == "https" or (
        debug and parts.scheme == "http" and parts.hostname in _LOOPBACK_HOSTS
    )
    return (
        is_secure
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and re.fullmatch(r"[!-~]+", url) is not None
        and not re.search(r"[#{}]", url)
    )


_NOT_A_URL = urlsplit("")


def _split(url: str) -> SplitResult:
    """The parts of a URL; those of an empty one where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at only when it is asked for
    except ValueError:
        return _NOT_A_URL
    return parts


def _is_host_pattern(text: str) -> bool:
    """Whether Django answers the host that an entry of ALLOWED_HOSTS names."""
    host = text.removeprefix(".")
    domain, port = split_domain_port(host)
    return not port and validate_host(domain, [text]) and _is_host(domain)


def _is_host(text: str) -> bool:
    """Whether it is a host as browsers write it."""
    if not text.startswith("["):
        return _HOST.fullmatch(text) is not None
    try:
        return text == f"[{IPv6Address(text[1:-1])}]"
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    """Whether a browser, or an app's web view, can send it as `Origin`."""
    parts = _split(text)
    scheme, netloc = parts.scheme, parts.netloc
    if text != f"{scheme}://{netloc}" or not scheme:
        return False
    if scheme == "file":
        return not netloc
    host = netloc.removesuffix(f":{parts.port}")
    if scheme in _DEFAULT_PORTS:
        return parts.port != _DEFAULT_PORTS[scheme] and _is_host(host)
    return _is_host(host.lower())


def is_pooled(database: Mapping[str, Any]) -> bool:
    """Whether the host is Neon's pooled endpoint: PgBouncer in transaction mode.

    Source: https://neon.com/docs/connect/connection-pooling
    """
    host: str = database["HOST"]
    return host.split(".", 1)[0].endswith("-pooler")
