"""Warns of configuration that works and is unwise; `manage.py check --deploy` runs these.

What asks the database is left to `migrate` and `manage.py check --database default`.

    todo.W001  migrate can't run: a pooled DATABASE_URL, and no DIRECT_DATABASE_URL
    todo.W002  a database across the network, whose identity isn't verified
    todo.W003  every Host is answered
    todo.W004  redirects to TLS that no proxy can end
    todo.W005  a database role that lets requests wait longer than they may take
    todo.W006  nobody can reset a forgotten password
    todo.W007  mail goes to a relay on this machine, because nobody said otherwise
    todo.W008  mails from a sender that mail servers refuse
    todo.W009  a link that sets a password, or proves an address, and is opened in the clear
    todo.W010  a database, or a role, with which requests fail
    todo.W011  an identity provider that shares a secret, with which either can make tokens
    todo.W012  a database role that reads the sessions and keys of Neon Auth
    todo.W013  nobody can change their address, or prove that it is theirs
    todo.W014  tokens that may be meant for another service of the provider's

What must not start at all is refused by settings.py.
"""

import re
from collections.abc import Iterator, Sequence
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import OperationalError, connection
from django.db.backends.utils import CursorWrapper

from .conditions import unmet_conditions
from .environment import is_pooled

_VERIFYING_SSL_MODES = ("verify-full", "verify-ca")
_CLIENT_CLAIMS = ("azp", "client_id", "appid")
_LINKS = ("PASSWORD_RESET_URL", "EMAIL_CONFIRMATION_URL")
_LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")


@register(Tags.database, deploy=True)
def check_direct_database(**kwargs: Any) -> Iterator[CheckMessage]:
    if is_pooled(settings.DATABASES["direct"]):
        yield Warning(
            "DATABASE_URL is a pooled endpoint, and DIRECT_DATABASE_URL is not set.",
            hint="migrate needs the direct endpoint: the same host without `-pooler`.",
            id="todo.W001",
        )


@register(Tags.security, deploy=True)
def check_database_identity(**kwargs: Any) -> Iterator[CheckMessage]:
    for alias, variable in (("default", "DATABASE_URL"), ("direct", "DIRECT_DATABASE_URL")):
        database = settings.DATABASES[alias]
        host: str = database["HOST"]
        is_local = host in _LOCAL_HOSTS or host.startswith("/")
        if not is_local and database["OPTIONS"].get("sslmode") not in _VERIFYING_SSL_MODES:
            yield Warning(
                f"{variable} does not verify the server's certificate.",
                hint="Add ?sslmode=verify-full&sslrootcert=<CA bundle>&channel_binding=require.",
                id="todo.W002",
            )


@register(Tags.security, deploy=True)
def check_allowed_hosts(**kwargs: Any) -> Iterator[CheckMessage]:
    if "*" in settings.ALLOWED_HOSTS:
        yield Warning(
            "ALLOWED_HOSTS accepts every Host.",
            hint="Name the hosts that clients use.",
            id="todo.W003",
        )


@register(Tags.security, deploy=True)
def check_proxies(**kwargs: Any) -> Iterator[CheckMessage]:
    if settings.SECURE_SSL and not settings.TRUSTED_PROXIES:
        yield Warning(
            "SECURE_SSL is on and TRUSTED_PROXIES is 0: every request is redirected for ever, "
            "because the server itself speaks plain HTTP.",
            hint="Set TRUSTED_PROXIES to the number of proxies before the service, usually 1.",
            id="todo.W004",
        )


@register(deploy=True)
def check_mail(**kwargs: Any) -> Iterator[CheckMessage]:
    if not settings.PASSWORD_RESET_URL:
        yield Warning(
            "PASSWORD_RESET_URL is not set: nobody can reset a forgotten password.",
            hint="Set it to the page of your client that asks for the new one; see .env.example.",
            id="todo.W006",
        )
    if not settings.EMAIL_CONFIRMATION_URL:
        yield Warning(
            "EMAIL_CONFIRMATION_URL is not set: nobody can change or confirm their e-mail address.",
            hint="Set it to the page of your client that such a link opens; see .env.example.",
            id="todo.W013",
        )
    links = {name: getattr(settings, name) for name in _LINKS if getattr(settings, name)}
    if not links:
        return  # no mail is sent
    if not settings.EMAIL_IS_CONFIGURED:
        yield Warning(
            "EMAIL_URL is not set: mails go to port 25 of this machine.",
            hint="Name the mail server: smtp://user:password@host:587. If it is this machine, say "
            "so: smtp://localhost:25?tls=false.",
            id="todo.W007",
        )
    if parseaddr(settings.DEFAULT_FROM_EMAIL)[1].endswith("@localhost"):
        yield Warning(
            "DEFAULT_FROM_EMAIL is an address at localhost, which other mail servers refuse.",
            hint="Set it to an address of a domain that your mail server sends for.",
            id="todo.W008",
        )
    for name, link in links.items():
        if re.match(r"http://(?!(localhost|127\.0\.0\.1|\[::1\])[:/])", link):
            yield Warning(
                f"{name} is an http:// one: whoever listens can use the link.",
                hint="Use https://.",
                id="todo.W009",
            )


@register(Tags.security, deploy=True)
def check_shared_secret(**kwargs: Any) -> Iterator[CheckMessage]:
    if settings.AUTH_SHARED_SECRET:
        yield Warning(
            "AUTH_SHARED_SECRET: whoever has it can make a token for any of the provider's people.",
            hint="Let the provider sign with a key of its own (EdDSA, ES256, RS256) and name its "
            "keys in AUTH_JWKS_URL. Until then share a secret that nothing else is signed with.",
            id="todo.W011",
        )


@register(Tags.security, deploy=True)
def check_token_binding(**kwargs: Any) -> Iterator[CheckMessage]:
    if not settings.AUTH_ISSUER or settings.AUTH_AUDIENCE:
        return
    required = settings.AUTH_REQUIRED_CLAIMS
    if all(None in required.get(claim, [None]) for claim in _CLIENT_CLAIMS):
        yield Warning(
            f"Without AUTH_AUDIENCE, and none of {', '.join(_CLIENT_CLAIMS)} in "
            "AUTH_REQUIRED_CLAIMS, the provider's tokens for other services may be good here.",
            hint="Set AUTH_AUDIENCE, or require the claim that names your client. Where another "
            "claim says that a token is for this service, silence this one.",
            id="todo.W014",
        )


@register(Tags.database)
def check_role(databases: Sequence[str] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """Asks for the role that serves requests, whichever database is named."""
    if not databases or settings.EMBEDDED_POSTGRES:
        return
    if "direct" in databases and is_pooled(settings.DATABASES["direct"]):
        return  # migrate refuses it, before anything is sent
    try:
        cursor = connection.cursor()
    except OperationalError:  # where migrate runs, DATABASE_URL may be out of reach
        return
    with cursor:
        missing = _missing_timeouts(cursor)
        has_rights_on_neon_auth = _has_rights_on_neon_auth(cursor)
    if missing:
        yield Warning(
            f"The role of DATABASE_URL has no {', no '.join(missing)} within the "
            f"{settings.REQUEST_TIME_LIMIT_SECONDS} seconds that a request may take.",
            hint="Run `manage.py set_role_timeouts`. After it a pooler's old connections go on "
            "without them until they are closed.",
            id="todo.W005",
        )
    if has_rights_on_neon_auth:
        yield Warning(
            "The role of DATABASE_URL has rights on the schema neon_auth, where the provider keeps "
            "sessions, and the keys that sign its tokens.",
            hint="The service needs none of it: REVOKE ALL ON SCHEMA neon_auth FROM the role, or "
            "give it a role of its own (docs/operations.md).",
            id="todo.W012",
        )
    for reason in unmet_conditions(is_migrated=False):
        yield Warning(
            f"With the role of DATABASE_URL requests fail: {reason}",
            hint="`manage.py set_role_timeouts` sets what a role can set for itself. A pooler's "
            "old connections go on as they are until they are closed.",
            id="todo.W010",
        )


def _missing_timeouts(cursor: CursorWrapper) -> list[str]:
    cursor.execute(
        "SELECT name FROM pg_settings WHERE name = ANY(%s)"  # all three are in milliseconds
        " AND setting::int NOT BETWEEN 1 AND %s ORDER BY name",
        [list(settings.ROLE_TIMEOUTS), settings.REQUEST_TIME_LIMIT_SECONDS * 1000],
    )
    return [name for (name,) in cursor.fetchall()]


def _has_rights_on_neon_auth(cursor: CursorWrapper) -> bool:
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'neon_auth'"
        " AND has_schema_privilege(oid, 'USAGE, CREATE'))"
    )
    (has_rights,) = cursor.fetchone()
    return bool(has_rights)
