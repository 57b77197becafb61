"""The cast: Alice owns what is tested, Bob is an outsider, Olga is an operator.

Their tokens are real; only the hash of their common password is made once, because it is slow by
design.
"""

import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote

import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core import mail
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import hashers, personal_tokens
from accounts import mail as queue_of_mails
from accounts.models import PersonalToken, Session, User, hash_token
from accounts.session_tokens import Claims, TokenPair, issue_pair
from tasks.models import Task
from tests import chromium, node, resources
from tests.client import SECRETS, ApiClient
from tests.issuer import issuer, other_issuer, shared_secret  # noqa: F401  # fixtures
from tests.processes import PATIENCE_S, PROJECT
from todo_project import background, embedded_postgres
from todo_project.api.permissions import Scope

# A run in the background inherits an ignored Ctrl-C, and would hand it to the processes that it
# starts; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

PASSWORD = "correct horse battery staple"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the fixtures: they start what Node runs, and the browser."""
    if marker := item.get_closest_marker("node"):
        node.prepare(PROJECT / marker.args[0], item.name)
    if item.get_closest_marker("browser"):
        chromium.prepare(item.name)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Starts the embedded PostgreSQL, where the environment names no other server."""
    if settings.EMBEDDED_POSTGRES:
        embedded_postgres.start()


@pytest.fixture(autouse=True)
def log_tells_no_secrets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No token and no password that a test uses ever stands in the log, tracebacks included.

    Servers in processes of their own have logs of their own, which their tests search.
    """
    SECRETS.clear()
    yield
    for message in getattr(mail, "outbox", []):
        for link in re.findall(r"https?://\S+", message.body):
            SECRETS.update({link, unquote(link.partition("token=")[2]) or link})
    formatter = logging.Formatter("%(message)s %(args)s")
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    written = "\n".join(f"{formatter.format(record)} {record.__dict__}" for record in records)
    assert [secret for secret in SECRETS if secret in written] == []


@cache
def _password_hash() -> str:
    return make_password(PASSWORD)


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make(email: str, **fields: Any) -> User:
        return User.objects.create(email=email, password=_password_hash(), **fields)

    return make


@pytest.fixture
def alice(make_user: Callable[..., User]) -> User:
    return make_user("alice@example.com", name="Alice")


@pytest.fixture
def bob(make_user: Callable[..., User]) -> User:
    return make_user("bob@example.com", name="Bob")


@pytest.fixture
def olga(make_user: Callable[..., User]) -> User:
    return make_user("olga@example.com", name="Olga", is_staff=True, is_superuser=True)


@pytest.fixture
def service_alone() -> Iterator[None]:
    """The service without the resource that only the tests have."""
    with resources.service_alone():
        yield


def begin_session(user: User) -> TokenPair:
    """Signs `user` in, without the slow check of the password."""
    claims = Claims(user_id=user.pk, session_id=uuid7(), signed_in_at=timezone.now())
    pair = issue_pair(claims)
    Session.objects.create(
        id=claims.session_id,
        user=user,
        refresh_hash=hash_token(pair.refresh),
        expires_at=pair.refresh_expires_at,
    )
    return pair


def personal_token(user: User, scopes: Sequence[str] = tuple(Scope), **fields: Any) -> str:
    """A token of `user`'s for a script, which may do all that such tokens may."""
    token = personal_tokens.make()
    row = {"name": "Backup", "scopes": list(scopes), "hash": hash_token(token), **fields}
    PersonalToken.objects.create(user=user, **row)
    return token


@pytest.fixture
def client(db: None) -> ApiClient:
    """Someone who is not signed in."""
    return ApiClient()


@pytest.fixture
def alice_client(alice: User) -> ApiClient:
    return ApiClient(begin_session(alice).access)


@pytest.fixture
def bob_client(bob: User) -> ApiClient:
    return ApiClient(begin_session(bob).access)


@pytest.fixture
def olga_client(olga: User) -> ApiClient:
    return ApiClient(begin_session(olga).access)


@pytest.fixture
def roomy_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets sixteen threads hash at once, as eight processes and more do, for what races there."""
    monkeypatch.setattr(hashers, "_places", threading.BoundedSemaphore(16))


@pytest.fixture
def quick_mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mails that leave at once; none outlives the test."""
    monkeypatch.setattr(background, "PAUSES_SECONDS", (0.0, 0.01, 0.01))
    yield
    assert queue_of_mails.queue.wait(PATIENCE_S)


@pytest.fixture
def task(alice: User) -> Task:
    """Alice's open task."""
    return Task.objects.create(user_id=alice.pk, title="Buy milk", description="Two litres")
