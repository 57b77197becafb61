"""Tokens that people make for their scripts.

What they open, by scopes, is a part of the walk over all routes in test_isolation.py.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zlib import crc32

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg import errors as psycopg_errors
from pytest_django import DjangoAssertNumQueries

from accounts import personal_tokens
from accounts.mailed_tokens import make_reset_token
from accounts.models import Identity, PersonalToken, RemovedIdentity, User, hash_token
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session, personal_token
from tests.processes import PATIENCE_S, wait_until
from todo_project.environment import Rate

TOKENS = "/api/auth/tokens"
ME = "/api/auth/me"
LIST = "/api/me/tasks"
NEW_PASSWORD = "green bicycle at dawn"
BACKUP: dict[str, Any] = {"name": "Backup", "scopes": ["tasks:read"]}


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Each test is a process that has met no token."""
    personal_tokens._known.clear()
    yield
    personal_tokens._known.clear()


def _written(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


# --- To make, to list and to end --------------------------------------------------------------


def test_token_is_answered_once_and_kept_as_a_hash(alice: User, alice_client: ApiClient) -> None:
    """[A5]"""
    response = alice_client.post(TOKENS, BACKUP)

    made = data_of(response, 201)
    row = PersonalToken.objects.get()
    assert re.fullmatch(r"todo_[0-9A-Za-z]{40}", made["token"])
    assert made == {
        "id": str(row.pk),
        "name": "Backup",
        "scopes": ["tasks:read"],
        "created_at": _written(row.created_at),
        "expires_at": _written(row.expires_at),
        "last_used_on": None,
        "token": made["token"],
    }
    assert (row.user_id, row.hash) == (alice.pk, hash_token(made["token"]))
    assert made["token"] not in str(list(PersonalToken.objects.values()))
    assert response["Cache-Control"] == "no-store"
    listed = alice_client.get(TOKENS)
    assert data_of(listed) == [{name: made[name] for name in made if name != "token"}]
    assert made["token"].encode() not in listed.content
    assert row.hash.encode() not in response.content + listed.content
    data_of(ApiClient(made["token"]).get(LIST))


def test_tokens_differ() -> None:
    """[A5]"""
    tokens = {personal_tokens.make() for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(personal_tokens._is_well_formed(token) for token in tokens)


@pytest.mark.parametrize(
    ("given", "expires_at"),
    [
        pytest.param({}, "year", id="left out"),
        pytest.param({"expires_at": None}, None, id="never"),
        pytest.param(
            {"expires_at": "2099-12-31T23:59:59.5+01:00"}, "2099-12-31T22:59:59.500000Z", id="given"
        ),
        pytest.param(
            {"expires_at": "9999-12-31T23:59:59Z"}, "9999-12-31T23:59:59.000000Z", id="last"
        ),
    ],
)
def test_token_expires_when_it_is_said(
    given: Any, expires_at: str | None, alice_client: ApiClient
) -> None:
    """[A5]"""
    made = data_of(alice_client.post(TOKENS, {**BACKUP, **given}), 201)

    if expires_at == "year":
        lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(
            made["created_at"]
        )
        assert abs(lifetime - timedelta(days=365)) < timedelta(seconds=60)
    else:
        assert made["expires_at"] == expires_at
    data_of(ApiClient(made["token"]).get(LIST))


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"name": None}, "name", "null"),
        ({"name": " "}, "name", "blank"),
        ({"name": "\u200b"}, "name", "blank"),
        ({"name": "two\nlines"}, "name", "control_characters"),
        ({"name": "x" * 151}, "name", "max_length"),
        ({"name": 5}, "name", "invalid"),
        ({"scopes": None}, "scopes", "null"),
        ({"scopes": []}, "scopes", "empty"),
        ({"scopes": "tasks:read"}, "scopes", "invalid"),
        ({"scopes": {"tasks:read": True}}, "scopes", "invalid"),
        ({"scopes": [["tasks:read"]]}, "scopes", "invalid"),
        ({"scopes": ["tasks:read", None]}, "scopes", "invalid"),
        ({"scopes": ["tasks:delete"]}, "scopes", "invalid_choice"),
        ({"scopes": ["TASKS:READ"]}, "scopes", "invalid_choice"),
        ({"scopes": ["tasks:read", "tasks:read"]}, "scopes", "repeated"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "past"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at", "rfc3339"),
        ({"expires_at": "2099-01-01"}, "expires_at", "rfc3339"),
        ({"expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at", "rfc3339"),
        ({"expires_at": 4_102_444_800}, "expires_at", "rfc3339"),
        ({"expires_at": ""}, "expires_at", "rfc3339"),
        ({"color": "red"}, "color", "unknown"),
    ],
    ids=str,
)
def test_token_is_not_made_of_this(
    change: dict[str, Any], field: str, code: str, alice_client: ApiClient
) -> None:
    """[A5] [B4]"""
    details = assert_error(alice_client.post(TOKENS, {**BACKUP, **change}), 400, "VALIDATION_ERROR")

    assert {name: [fault["code"] for fault in faults] for name, faults in details.items()} == {
        field: [code]
    }
    assert not PersonalToken.objects.exists()


@pytest.mark.parametrize("field", ["name", "scopes"])
def test_token_needs_a_name_and_scopes(field: str, alice_client: ApiClient) -> None:
    """[A5]"""
    body = {name: value for name, value in BACKUP.items() if name != field}

    details = assert_error(alice_client.post(TOKENS, body), 400, "VALIDATION_ERROR")

    assert details[field][0]["code"] == "required"


def test_tokens_that_live_are_listed_the_newest_first(
    alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[A5]"""
    for name in ("first", "second", "expired"):
        personal_token(alice, name=name)
    personal_token(bob)
    PersonalToken.objects.filter(name="expired").update(expires_at=Now())

    listed = data_of(alice_client.get(TOKENS))

    assert [token["name"] for token in listed] == ["second", "first"]


@pytest.mark.parametrize("number", [1, 50])
def test_token_list_costs_one_query(
    number: int,
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(number):
        personal_token(alice)

    with django_assert_num_queries(1 + 1):
        assert len(data_of(alice_client.get(TOKENS))) == number


@pytest.mark.parametrize("spell", [str, str.upper], ids=["lower", "capitals"])
def test_token_is_ended_at_once(
    spell: Callable[[object], str], alice: User, alice_client: ApiClient
) -> None:
    """[A5] [B5]"""
    ended, other = ApiClient(personal_token(alice)), ApiClient(personal_token(alice))
    for client in (ended, other):
        data_of(client.get(LIST))
    path = f"{TOKENS}/{spell(str(PersonalToken.objects.order_by('id')[0].pk))}"

    response = alice_client.delete(path)

    assert (response.status_code, response.content) == (204, b"")
    assert_error(ended.get(LIST), 401, "TOKEN_INVALID")
    assert_error(ended.get(ME), 401, "TOKEN_INVALID")
    data_of(other.get(LIST))
    assert_error(alice_client.delete(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "case", ["another person's", "absent", "expired", "malformed", "without dashes", "a session's"]
)
def test_other_tokens_are_absent(
    case: str, alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[A5] Not even bad input tells that they are there."""
    alices, bobs = personal_token(alice), personal_token(bob)
    expired = personal_token(alice, expires_at=timezone.now())
    token_id = {
        "another person's": str(bob.personal_tokens.get().pk),
        "absent": str(uuid4()),
        "expired": str(PersonalToken.objects.get(hash=hash_token(expired)).pk),
        "malformed": "1",
        "without dashes": alice.personal_tokens.live().get().pk.hex,
        "a session's": str(alice.sessions.get().pk),
    }[case]

    for body in ({}, {"x": 1}):
        assert_error(alice_client.delete(f"{TOKENS}/{token_id}", body), 404, "NOT_FOUND")

    assert PersonalToken.objects.count() == 3
    for token in (alices, bobs):
        data_of(ApiClient(token).get(ME))


def test_making_counts_as_a_write(alice_client: ApiClient, settings: Any) -> None:
    """[A5] Together with the writes of tasks; what is one too many makes none."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(2, 3600)}
    data_of(alice_client.post(LIST, {"title": "x"}), 201)

    first = alice_client.post(TOKENS, BACKUP)
    second = alice_client.post(TOKENS, BACKUP)

    assert (data_of(first, 201)["name"], first["RateLimit-Remaining"]) == ("Backup", "0")
    assert_error(second, 429, "RATE_LIMITED")
    assert PersonalToken.objects.count() == 1
    data_of(alice_client.get(TOKENS))


def test_fifty_tokens_a_person(alice: User, bob: User, alice_client: ApiClient) -> None:
    """[A5] Of those that live, and of one's own."""
    personal_token(bob)
    personal_token(alice, expires_at=timezone.now())
    for _ in range(49):
        personal_token(alice)
    data_of(alice_client.post(TOKENS, BACKUP), 201)

    assert_error(alice_client.post(TOKENS, BACKUP), 409, "CONFLICT")

    assert alice.personal_tokens.live().count() == 50
    alice_client.delete(f"{TOKENS}/{alice.personal_tokens.live()[0].pk}")
    data_of(alice_client.post(TOKENS, BACKUP), 201)


@pytest.mark.django_db(transaction=True)
def test_fifty_tokens_however_many_are_made_at_once(alice: User, settings: Any) -> None:
    """[A5]"""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": None}
    for _ in range(48):
        personal_token(alice)
    access = begin_session(alice).access
    barrier = threading.Barrier(6)
    statuses: list[int] = []

    def make() -> None:
        barrier.wait(PATIENCE_S)
        try:
            statuses.append(ApiClient(access).post(TOKENS, BACKUP).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert sorted(statuses) == [201] * 2 + [409] * 4
    assert alice.personal_tokens.count() == 50


# --- Their form -------------------------------------------------------------------------------


def test_checksum_is_crc32_in_base62() -> None:
    """[A5] So that others can check it, too."""
    token = personal_tokens.make()

    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for digit in token[-6:]:
        number = number * 62 + digits.index(digit)
    assert number == crc32(token[:-6].encode())


def test_small_checksum_has_zeros_in_front() -> None:
    """[A5] One in five has."""
    tokens = [personal_tokens.make() for _ in range(200)]

    assert {len(token) for token in tokens} == {45}
    assert any(token[-6] == "0" for token in tokens)


@pytest.mark.parametrize(
    "misspell",
    [
        pytest.param(lambda token: token[:-1], id="cut off"),
        pytest.param(lambda token: token + "0", id="too long"),
        pytest.param(lambda token: token[:5], id="prefix alone"),
        pytest.param(lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"), id="checksum"),
        pytest.param(lambda token: token[:9] + "~" + token[10:], id="no base62"),
        pytest.param(lambda token: token[:9] + "\u00e9" + token[10:], id="no ASCII"),
        pytest.param(lambda token: token[:9] + "\u0661" + token[10:], id="another script's digit"),
        pytest.param(lambda token: token.swapcase().replace("TODO_", "todo_"), id="case"),
        pytest.param(lambda token: f"{token[:20]} {token[20:]}", id="white space"),
        pytest.param(lambda token: f"{token} {token}", id="twice"),
        pytest.param(lambda token: f'{token[:5]}"{token[6:]}', id="quote"),
        pytest.param(lambda token: token[:5] + token[6] + token[5] + token[7:], id="transposed"),
    ],
)
def test_misspelt_token_is_refused_without_the_database(misspell: Callable[[str], str]) -> None:
    """[A5] pytest-django would refuse it."""
    token = "todo_Ab" + "0" * 32
    token += personal_tokens._checksum(token)
    client = ApiClient()

    for path in (LIST, ME):
        response = client.get(
            path, authorization=f"Bearer {misspell(token)}".encode().decode("latin-1")
        )
        assert_error(response, 401, "TOKEN_INVALID")
        assert 'error="invalid_token"' in response["WWW-Authenticate"]
        assert "misspelt" in json.loads(response.content)["error"]["message"]


def test_unknown_token_costs_one_query(
    client: ApiClient, db: None, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[A5] Nothing is remembered of it."""
    stranger = ApiClient(personal_tokens.make())

    for _ in range(2):
        with django_assert_num_queries(1):
            assert_error(stranger.get(LIST), 401, "TOKEN_INVALID")
    assert personal_tokens._known == {}


# --- What a request with one costs ------------------------------------------------------------

REQUESTS = [
    pytest.param("GET", LIST, b"", id="list"),
    pytest.param("HEAD", LIST, b"", id="head"),
    pytest.param("POST", LIST, {"title": "x"}, id="create"),
    pytest.param("GET", f"{LIST}/{{task}}", b"", id="read"),
    pytest.param("PUT", f"{LIST}/{{task}}", {"title": "x"}, id="replace"),
    pytest.param("PATCH", f"{LIST}/{{task}}", {"title": "x"}, id="update"),
    pytest.param("PATCH", f"{LIST}/{{task}}/complete", {}, id="complete"),
    pytest.param("DELETE", f"{LIST}/{{task}}", b"", id="delete"),
    pytest.param("GET", ME, b"", id="account"),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
@pytest.mark.parametrize("noted", [False, True], ids=["first of the day", "used today"])
def test_one_statement_once_a_process_knows_the_token(
    noted: bool,
    method: str,
    path: str,
    body: Any,
    alice: User,
    task: Task,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[A5] It asks for the token, notes its use and does the work; before, one finds the token."""
    today = datetime.now(UTC).date()
    token = personal_token(alice, last_used_on=today if noted else None)
    others = Task.objects.create(user=alice, title="x")

    with django_assert_num_queries(2):
        first = ApiClient(token).call(method, path.format(task=task.pk), body)
    with django_assert_num_queries(1):
        second = ApiClient(token).call(method, path.format(task=others.pk), body)

    assert {first.status_code, second.status_code} <= {200, 201, 204}
    assert PersonalToken.objects.get().last_used_on == today


def test_refused_request_asks_for_the_token_first(
    alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[A5] [E1]"""
    client = ApiClient(personal_token(alice, ["account:read"]))

    with django_assert_num_queries(2):
        assert_error(client.get(LIST), 403, "INSUFFICIENT_SCOPE")
    with django_assert_num_queries(1):
        assert_error(client.get(LIST), 403, "INSUFFICIENT_SCOPE")


def updates(captured: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in captured if "UPDATE accounts_personaltoken" in query["sql"]]


@pytest.mark.parametrize(
    ("path", "status"),
    [(LIST, 200), (ME, 200), ("/api/01234567-89ab-7def-8123-456789abcdef/tasks", 403)],
    ids=["tasks", "account", "refused"],
)
def test_use_is_noted_once_a_day(path: str, status: int, alice: User) -> None:
    """[A5] By each process, unless another one has done so already when it meets the token."""
    token = personal_token(alice)
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)

    def notes() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert ApiClient(token).get(path).status_code == status
        assert PersonalToken.objects.get().last_used_on == today
        return len(updates(captured))

    assert [notes(), notes()] == [1, 0]
    PersonalToken.objects.update(last_used_on=yesterday)
    personal_tokens.recognize(token.encode()).noted_on = yesterday
    assert [notes(), notes()] == [1, 0]
    personal_tokens._known.clear()  # another process
    assert notes() == 0
    PersonalToken.objects.update(last_used_on=yesterday)
    personal_tokens._known.clear()
    assert [notes(), notes()] == [1, 0]


def test_use_is_noted_by_the_next_request_where_one_fails(alice: User) -> None:
    """[A5]"""
    client = ApiClient(personal_token(alice))

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "UPDATE accounts_personaltoken" in sql:
            raise OperationalError("too slow") from psycopg_errors.QueryCanceled()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        assert_error(client.get(LIST), 503, "SERVICE_UNAVAILABLE")
    assert PersonalToken.objects.get().last_used_on is None
    with CaptureQueriesContext(connection) as captured:
        data_of(client.get(LIST))

    assert len(updates(captured)) == 1
    assert PersonalToken.objects.get().last_used_on == datetime.now(UTC).date()


def test_process_remembers_so_many_tokens(alice: User, settings: Any) -> None:
    """[A5] Others it meets anew."""
    settings.ACCESS_TOKENS_REMEMBERED = 2
    tokens = [personal_token(alice) for _ in range(4)]

    for token in [*tokens, *tokens]:
        data_of(ApiClient(token).get(LIST))

    assert list(personal_tokens._known) == [hash_token(token) for token in tokens[2:]]


# --- When they end ----------------------------------------------------------------------------


def test_expired_token_is_told_apart(alice: User) -> None:
    """[A5] By a process that knew it, and by one that meets it then."""
    soon = timezone.now() + timedelta(hours=1)
    client = ApiClient(personal_token(alice, expires_at=soon))
    data_of(client.get(LIST))
    known = personal_tokens.recognize(str(client.access).encode())
    known.expires_at = timezone.now()  # as its hour passes
    PersonalToken.objects.update(expires_at=known.expires_at)

    for path in (LIST, ME, LIST):
        response = client.get(path)
        assert_error(response, 401, "TOKEN_EXPIRED")
        assert 'error="invalid_token"' in response["WWW-Authenticate"]
        assert "refresh" not in json.loads(response.content)["error"]["message"]


def _logout_all(alice: User) -> None:
    assert ApiClient(begin_session(alice).access).post("/api/auth/logout-all").status_code == 204


def _reset(alice: User) -> None:
    body = {"token": make_reset_token(alice), "new_password": NEW_PASSWORD}
    assert ApiClient().post("/api/auth/password/reset/confirm", body).status_code == 204


def _operators_form(alice: User) -> None:
    operator = User.objects.create(email="olga@example.com", is_staff=True, is_superuser=True)
    browser = Client()
    browser.force_login(operator)
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    response = browser.post(f"/admin/accounts/user/{alice.pk}/password/", form)
    assert response.status_code == 302


def _set_password(alice: User) -> None:
    """As `manage.py changepassword` does."""
    alice.set_password(NEW_PASSWORD)
    alice.save()


def _deactivate(alice: User) -> None:
    assert User.objects.get_queryset().filter(pk=alice.pk).deactivate() == 1


def _deactivate_by_form(alice: User) -> None:
    alice.is_active = False
    alice.save(update_fields=["is_active"])


def _deactivate_and_activate(alice: User) -> None:
    _deactivate(alice)
    User.objects.get_queryset().filter(pk=alice.pk).activate()


def _deactivate_by_sql(alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_active = false WHERE id = %s", [alice.pk])


def _delete(alice: User) -> None:
    alice.delete()


ENDS = [
    _logout_all,
    _reset,
    _operators_form,
    _set_password,
    _deactivate,
    _deactivate_by_form,
    _deactivate_and_activate,
    _deactivate_by_sql,
    _delete,
]


def _name(function: Callable[[User], None]) -> str:
    return str(function.__name__).strip("_").replace("_", " ")


@pytest.mark.parametrize("end", ENDS, ids=_name)
def test_tokens_are_ended_by(end: Callable[[User], None], alice: User, bob: User) -> None:
    """[A5] [S3] At once, though the process remembers them; other people's live on."""
    client, bobs = ApiClient(personal_token(alice)), ApiClient(personal_token(bob))
    for path in (LIST, ME):
        data_of(client.get(path))
        data_of(bobs.get(path))

    end(alice)

    for path in (LIST, ME, "/api/somebody/tasks", "/api/auth/sessions"):
        assert_error(client.get(path), 401, "TOKEN_INVALID")
    assert_error(client.post(LIST, {"title": "x"}), 401, "TOKEN_INVALID")
    data_of(bobs.get(LIST))
    assert personal_tokens._known.keys() == {hash_token(str(bobs.access))}
    assert not Task.objects.exists()


def _change_password(alice: User) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    response = ApiClient(begin_session(alice).access).post("/api/auth/password", body)
    assert response.status_code == 204


def _change_password_in_admin(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.refresh_from_db()
    browser = Client()
    browser.force_login(alice)
    passwords = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    response = browser.post(
        "/admin/password_change/",
        {"old_password": PASSWORD, **passwords},
    )
    assert response.status_code == 302


def _logout(alice: User) -> None:
    body = {"refresh": begin_session(alice).refresh}
    assert ApiClient().post("/api/auth/logout", body).status_code == 204


def _sign_in(alice: User) -> None:
    credentials = {"email": alice.email, "password": PASSWORD}
    data_of(ApiClient().post("/api/auth/token", credentials))


def _rename_without_a_password(alice: User) -> None:
    """As somebody of an identity provider, who never had one."""
    User.objects.filter(pk=alice.pk).update(password="!")
    alice.refresh_from_db()
    alice.name = "Alicia"
    alice.save()


@pytest.mark.parametrize(
    "keep",
    [_change_password, _change_password_in_admin, _logout, _sign_in, _rename_without_a_password],
    ids=_name,
)
def test_tokens_outlive(keep: Callable[[User], None], alice: User) -> None:
    """[A5] An owner's scripts go on when the owner changes the password."""
    client = ApiClient(personal_token(alice))
    data_of(client.get(LIST))

    keep(alice)

    data_of(client.get(LIST))
    data_of(client.get(ME))


def test_signing_out_everywhere_ends_what_a_provider_has_issued(alice: User) -> None:
    """[A5] With the other kinds of tokens."""
    identity = Identity.objects.create(user=alice, issuer="https://issuer.example", subject="a")
    before = timezone.now()

    _logout_all(alice)

    identity.refresh_from_db()
    assert identity.valid_after >= before
    assert not RemovedIdentity.objects.exists()


# --- Races ------------------------------------------------------------------------------------


class InThread:
    """A request in a thread of its own, with a connection of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        finally:
            connection.close()

    def join(self) -> Any:
        self._thread.join(PATIENCE_S)
        return self.result


def is_in_the_way(pid: int) -> bool:
    """Whether somebody waits for a lock that the server process `pid` holds."""
    with connection.cursor() as cursor:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        cursor.execute(waiting, [pid])
        return bool(cursor.fetchone()[0])


def run_behind(
    statements: list[str], work: Callable[[], Any], user_id: UUID, then: str = "SELECT 1"
) -> Any:
    """What `work` gives, which waits for a transaction of `statements` that ends with `then`."""
    other = connection.copy()
    with closing(other), other.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
        cursor.execute("BEGIN")
        for statement in statements:
            cursor.execute(statement, {"user_id": user_id})
        thread = InThread(work)
        wait_until(lambda: is_in_the_way(pid))
        cursor.execute(then, {"user_id": user_id})
        cursor.execute("COMMIT")
        return thread.join()


LOCK = "SELECT FROM accounts_user WHERE id = %(user_id)s FOR NO KEY UPDATE"
INACTIVE = "UPDATE accounts_user SET is_active = false WHERE id = %(user_id)s"
END_SESSIONS = "UPDATE accounts_session SET ended_at = now() WHERE user_id = %(user_id)s"
DELETE_USER = "DELETE FROM accounts_user WHERE id = %(user_id)s"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "statements",
    [[LOCK, END_SESSIONS], [INACTIVE, END_SESSIONS], [INACTIVE], [DELETE_USER]],
    ids=["signed out everywhere", "deactivated", "inactive", "deleted"],
)
def test_token_is_not_made_by_a_session_that_ends_meanwhile(
    statements: list[str], alice: User
) -> None:
    """[A5] [S3] Whoever stole the session keeps nothing of it."""
    client = ApiClient(begin_session(alice).access)

    response = run_behind(statements, lambda: client.post(TOKENS, BACKUP), alice.pk)

    assert_error(response, 401, "TOKEN_INVALID")
    assert not PersonalToken.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "end", [_logout_all, _reset, _set_password, _deactivate, _delete], ids=_name
)
def test_token_that_is_just_being_made_ends_too(end: Callable[[User], None], alice: User) -> None:
    """[A5] [S3]"""
    make = """
        INSERT INTO accounts_personaltoken (id, user_id, name, hash, scopes)
        VALUES (gen_random_uuid(), %(user_id)s, 'x', 'x', '{}')
    """

    run_behind([LOCK, make], lambda: end(alice), alice.pk)

    assert not PersonalToken.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "path", "body"), [("GET", LIST, b""), ("POST", LIST, {"title": "x"})], ids=str
)
def test_first_use_of_the_day_during_the_deletion_of_its_owner(
    method: str, path: str, body: Any, alice: User
) -> None:
    """[A5] Both want the rows of token and user, in the same order: neither is ended for it."""
    client = ApiClient(personal_token(alice))
    lock = "SELECT FROM accounts_user WHERE id = %(user_id)s FOR UPDATE"

    response = run_behind(
        [lock], lambda: client.call(method, path, body), alice.pk, then=DELETE_USER
    )

    assert_error(response, 401, "TOKEN_INVALID")
    assert not Task.objects.exists()


# --- What is left of them ---------------------------------------------------------------------


def test_token_is_in_no_line_of_the_log(
    alice: User, alice_client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """[A5] Wherever it was sent: as it should be, in a query, in a body, misspelt."""
    with caplog.at_level(logging.DEBUG):
        token = data_of(alice_client.post(TOKENS, BACKUP), 201)["token"]
        client = ApiClient(token)
        data_of(client.get(LIST))
        assert_error(client.get(LIST, query={"token": token}), 400, "VALIDATION_ERROR")
        assert_error(client.post(LIST, {"title": token}), 403, "INSUFFICIENT_SCOPE")
        assert_error(ApiClient(token[:-1]).get(LIST), 401, "TOKEN_INVALID")

    lines = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert sum("todo.access" in line for line in lines) == 5
    assert [line for line in lines if token[5:-1] in line] == []


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_purge_removes_tokens_a_month_after_they_expired(alice: User) -> None:
    """[A5]"""
    for name, age in (("old", 31), ("recent", 29), ("alive", -1)):
        personal_token(alice, name=name, expires_at=timezone.now() - timedelta(days=age))
    personal_token(alice, name="without end", expires_at=None)

    call_command("purge_expired")

    names = PersonalToken.objects.order_by("name").values_list("name", flat=True)
    assert list(names) == ["alive", "recent", "without end"]
