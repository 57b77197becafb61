"""People of an identity provider: who they are here, and what becomes of them."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.hashers import make_password
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import identities, issuers
from accounts.mail import queue
from accounts.models import Identity, RemovedIdentity, Session, User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.issuer import Issuer
from tests.processes import wait_until
from tests.test_issuers import ATTACKS
from todo_project.environment import Rate

TASKS = "/api/me/tasks"
ME = "/api/auth/me"
IDENTITIES = "/api/auth/identities"
# Subjects in the forms that providers have, and some that only look like something else.
SUBJECTS = [
    pytest.param("ada", id="word"),
    pytest.param("0198f000-0000-7000-8000-000000000000", id="UUID"),
    pytest.param("auth0|5f7c8ec7c33c6c004bbafe82", id="Auth0"),
    pytest.param("ada@example.com", id="address"),
    pytest.param("me", id="me"),
    pytest.param("ü?#%&+ ;=", id="odd characters"),
    pytest.param("..", id="dots"),
    pytest.param("x" * 255, id="255 characters"),
    pytest.param("' OR 1=1 --", id="SQL"),
]


def client_of(issuer: Issuer, sub: str = "ada", **claims: Any) -> ApiClient:
    return ApiClient(issuer.token(sub, **claims))


def me(client: ApiClient) -> Any:
    return data_of(client.get(ME))


# --- The first request --------------------------------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS)
def test_first_good_token_makes_the_account(subject: str, issuer: Issuer, db: None) -> None:
    """[A3]"""
    client = client_of(issuer, subject)

    task = data_of(client.post(TASKS, {"title": "Mine"}), 201)

    identity = Identity.objects.get()
    assert (identity.issuer, identity.subject) == (issuer.name, subject)
    assert task["user_id"] == str(identity.user_id) == me(client)["id"]
    assert not User.objects.get().has_usable_password()
    assert not User.objects.filter(is_staff=True).exists()


def test_account_is_the_same_for_the_next_token(issuer: Issuer, db: None) -> None:
    """[A3] Another token, and another process."""
    first = me(client_of(issuer, "ada"))
    identities._hints.clear()

    assert me(client_of(issuer, "ada", jti="another")) == first
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("ada", "Ada"), ("ada", "ada "), ("é", "e\u0301"), ("ß", "ss")],
    ids=["case", "space", "Unicode forms", "folding"],
)
def test_subjects_are_compared_byte_for_byte(
    one: str, other: str, issuer: Issuer, db: None
) -> None:
    """[A1]"""
    assert me(client_of(issuer, one))["id"] != me(client_of(issuer, other))["id"]


@pytest.mark.django_db(transaction=True)
def test_racing_first_requests_make_one_account(issuer: Issuer) -> None:
    """[A3] For each of four people sixteen at once: as many accounts, and none left over."""

    def request(number: int) -> str:
        try:
            client = client_of(
                issuer, f"person {number % 4}", email="same@example.com", email_verified=True
            )
            identities._hints.clear()
            return str(data_of(client.post(TASKS, {"title": "Mine"}), 201)["user_id"])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        owners = list(pool.map(request, range(64)))

    assert len(set(owners)) == User.objects.count() == Identity.objects.count() == 4
    assert Task.objects.count() == 64
    assert User.objects.filter(email="same@example.com").count() == 1


def test_first_request_takes_three_round_trips_at_most(issuer: Issuer, db: None) -> None:
    """[A3] Two: the account, and the work. Each after it takes the one of the work."""
    client = client_of(issuer)

    with CaptureQueriesContext(
        connection,
    ) as first:
        data_of(client.get(TASKS))
    with CaptureQueriesContext(connection) as second:
        data_of(client.get(TASKS))
    with CaptureQueriesContext(connection) as written:
        data_of(client.post(TASKS, {"title": "Mine"}), 201)

    assert [len(queries) for queries in (first, second, written)] == [2, 1, 1]


def test_first_request_is_not_counted_as_a_registration(
    issuer: Issuer, db: None, settings: Any
) -> None:
    """[A3] A front end's server sends all of its people from one address."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "register": Rate(1, 3600)}

    assert len({me(client_of(issuer, f"person {number}"))["id"] for number in range(5)}) == 5


def test_unknown_people_are_refused_where_no_accounts_are_made(
    issuer: Issuer, alice: User, settings: Any
) -> None:
    """[A3]"""
    settings.AUTH_CREATES_ACCOUNTS = False
    Identity.objects.create(user=alice, issuer=issuer.name, subject="alice")

    assert_error(client_of(issuer, "ada").get(TASKS), 403, "PERMISSION_DENIED")
    assert me(client_of(issuer, "alice"))["id"] == str(alice.pk)
    assert User.objects.count() == 1


# --- The address --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "email"),
    [
        pytest.param({"email_verified": True}, "ada@example.com", id="verified"),
        pytest.param({"emailVerified": True}, "ada@example.com", id="Better Auth's claim"),
        pytest.param({"email_verified": "true"}, None, id="text"),
        pytest.param({"email_verified": 1}, None, id="number"),
        pytest.param({"email_verified": False}, None, id="not verified"),
        pytest.param({}, None, id="absent"),
        pytest.param({"email_verified": True, "emailVerified": False}, None, id="at odds"),
        pytest.param({"email_verified": True, "email": "no address"}, None, id="no address"),
    ],
)
def test_address_is_taken_where_the_issuer_says_that_it_is_verified(
    claims: dict[str, Any], email: str | None, issuer: Issuer, db: None
) -> None:
    """[A4]"""
    client = client_of(issuer, **{"email": "Ada@Example.com", **claims})

    assert (me(client)["email"], User.objects.get().email_verified) == (email, email is not None)


def test_token_never_leads_into_an_account_by_its_address(
    issuer: Issuer, alice: User, task: Task
) -> None:
    """[A4] Not even by an address that is verified on both sides."""
    User.objects.update(email_verified=True)
    client = client_of(issuer, "mallory", email=alice.email, email_verified=True)

    assert data_of(client.get(TASKS)) == []
    assert me(client)["email"] is None
    assert User.objects.get(pk=alice.pk).email == alice.email


def test_later_address_of_the_provider_is_not_followed(issuer: Issuer, db: None) -> None:
    """[A4] Only at the first."""
    me(client_of(issuer))

    assert me(client_of(issuer, email="ada@example.com", email_verified=True))["email"] is None


# --- Whose path ---------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS)
def test_subject_stands_for_the_caller_in_the_path(subject: str, issuer: Issuer, db: None) -> None:
    """[R1]"""
    client = client_of(issuer, subject)

    made = data_of(client.post(f"/api/{quote(subject, safe='')}/tasks", {"title": "Mine"}), 201)

    assert made["user_id"] == me(client)["id"]


@pytest.mark.parametrize("prefix", ["api", "users"])
def test_subject_of_another_is_refused(prefix: str, issuer: Issuer, db: None) -> None:
    """[R1]"""
    bob = client_of(issuer, "bob")
    me(bob)

    assert_error(client_of(issuer, "ada").get(f"/{prefix}/bob/tasks"), 403, "PERMISSION_DENIED")


def test_subject_that_is_another_persons_id_leads_to_ones_own_tasks(
    issuer: Issuer, alice: User, task: Task
) -> None:
    """[R1] The path is compared, and never looked up."""
    client = client_of(issuer, str(alice.pk))

    assert data_of(client.get(f"/api/{alice.pk}/tasks")) == []
    assert_error(client.get(f"/api/{alice.pk}/tasks/{task.pk}"), 404, "NOT_FOUND")


def test_session_has_no_subject(issuer: Issuer, alice: User, alice_client: ApiClient) -> None:
    """[R1] `sub` of a token of the service is the id, and of an identity only its own tokens'."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="alice")

    assert_error(alice_client.get("/api/alice/tasks"), 403, "PERMISSION_DENIED")
    assert_error(alice_client.get("/api/None/tasks"), 403, "PERMISSION_DENIED")


def test_same_subject_of_another_issuer_is_nobody(
    issuer: Issuer, other_issuer: Issuer, db: None
) -> None:
    """[A1] Such as a preview's, under the very same keys."""
    me(client_of(issuer))
    preview = issuer.token(iss=f"{issuer.name}/preview")

    for token in (other_issuer.token(), preview):
        assert_error(ApiClient(token).get(TASKS), 401, "TOKEN_INVALID")
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    "make",
    # White space around a header's value is none of it.
    [pytest.param(make, id=name) for name, _, make in ATTACKS if name != "blank"],
)
def test_attack_gets_in_nowhere(make: Callable[[Issuer], str], issuer: Issuer, db: None) -> None:
    """[A1] Neither to read nor to write, and no account is made. Why is test_issuers'."""
    client = ApiClient(make(issuer))

    for method, path in (("GET", TASKS), ("POST", TASKS), ("GET", ME)):
        issuers._sources.clear()  # else it is asked for a key's name once in 30 seconds, then 503
        answer = client.call(method, path, *([{"title": "x"}] if method == "POST" else []))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer["WWW-Authenticate"]
    assert not User.objects.exists()


def test_opaque_token_is_told_to_be_none(issuer: Issuer, db: None) -> None:
    """[A1] What Better Auth's bearer plugin gives the front end is for Better Auth alone."""
    response = ApiClient("hXc1aTzrGCHD5cwGDBhMEyS4OzUlaNRf.c2lnbmF0dXJl").get(TASKS)

    assert_error(response, 401, "TOKEN_INVALID")
    assert "/api/auth/token" in response["WWW-Authenticate"]


def test_outage_of_the_issuer_harms_nobody_who_signed_in_here(
    issuer: Issuer, alice_client: ApiClient
) -> None:
    """[A2] And its own people are told to try again, not that their tokens are bad."""
    issuer.close()

    response = client_of(issuer).get(TASKS)

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert int(response["Retry-After"]) > 0
    assert data_of(alice_client.get(TASKS)) == []


# --- The end ------------------------------------------------------------------------------------


def _deactivate(user: User) -> None:
    User.objects.get_queryset().filter(pk=user.pk).deactivate()


@pytest.mark.parametrize("remembers", [True, False], ids=["known to the process", "unknown"])
@pytest.mark.parametrize("path", [TASKS, ME])
def test_barred_person_is_told_so(path: str, remembers: bool, issuer: Issuer, db: None) -> None:
    """[S3] At once, by 403: front ends would fetch a new token upon a 401, and try for ever."""
    client = client_of(issuer)
    me(client)
    _deactivate(User.objects.get())
    if not remembers:
        identities._hints.clear()

    assert_error(client.get(path), 403, "PERMISSION_DENIED")


def test_barred_person_writes_nothing(issuer: Issuer, db: None) -> None:
    """[S3] Nor are they told of other faults first."""
    client = client_of(issuer)
    me(client)
    _deactivate(User.objects.get())

    assert_error(client.post(TASKS, {"title": "x"}), 403, "PERMISSION_DENIED")
    assert_error(client.post(TASKS, {"titel": "x"}), 403, "PERMISSION_DENIED")
    assert not Task.objects.exists()


@pytest.mark.parametrize("remembers", [True, False], ids=["known to the process", "unknown"])
def test_signing_out_everywhere_refuses_what_was_issued_until_now(
    remembers: bool, issuer: Issuer, db: None
) -> None:
    """[S3] The provider can issue another."""
    client = client_of(issuer)
    other = client_of(issuer, "bob")
    for each in (client, other):
        me(each)

    assert client.post("/api/auth/logout-all").status_code == 204
    if not remembers:
        identities._hints.clear()

    for path in (TASKS, ME):
        assert_error(client.get(path), 401, "TOKEN_INVALID")
        data_of(other.get(path))
    Identity.objects.update(valid_after=timezone.now() - timedelta(seconds=2))
    data_of(client_of(issuer).get(TASKS))


@pytest.mark.parametrize(
    ("end", "statuses"),
    [
        pytest.param(lambda client: client.post("/api/auth/logout-all"), {401}, id="sign-out"),
        pytest.param(lambda client: client.delete(ME, {}), {401}, id="deletion"),
    ],
)
def test_clock_of_the_issuer_may_be_ahead(
    end: Callable[[ApiClient], Any], statuses: set[int], issuer: Issuer, db: None
) -> None:
    """[S3] [A3] A token that seems to be of later is refused by what it was itself used for."""
    now = int(timezone.now().timestamp())
    client = client_of(issuer, iat=now + 30)
    me(client)

    assert end(client).status_code == 204

    for _ in range(2):
        assert client.get(TASKS).status_code in statuses
    identities._hints.clear()
    assert client.get(TASKS).status_code in statuses


def test_activation_revives_no_token(issuer: Issuer, alice: User) -> None:
    """[S3] Whoever was let in by a thief, and shut out with the account, stays out."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="mallory")
    client = client_of(issuer, "mallory")
    me(client)

    _deactivate(alice)
    User.objects.get_queryset().activate()

    assert_error(client.get(TASKS), 401, "TOKEN_INVALID")


def test_clearing_the_active_field_refuses_tokens(issuer: Issuer, alice: User) -> None:
    """[S3] As admin's form does."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="ada")
    client = client_of(issuer)
    me(client)

    for is_active in (False, True):
        alice.is_active = is_active
        alice.save(update_fields=["is_active"])

    assert_error(client.get(TASKS), 401, "TOKEN_INVALID")


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", ME), ("POST", "/api/auth/me/delete")], ids=["DELETE", "POST"]
)
def test_deletion_lasts(method: str, path: str, issuer: Issuer, db: None) -> None:
    """[A3] A front end that is still open doesn't make the account again by its next request."""
    client = client_of(issuer, "ada", auth_time=int(timezone.now().timestamp()))
    data_of(client.post(TASKS, {"title": "Mine"}), 201)

    assert client.call(method, path, {}).status_code == 204

    assert_error(client.get(TASKS), 401, "TOKEN_INVALID")
    identities._hints.clear()
    assert_error(client.get(TASKS), 401, "TOKEN_INVALID")
    assert (User.objects.count(), Task.objects.count()) == (0, 0)
    RemovedIdentity.objects.update(removed_at=timezone.now() - timedelta(seconds=2))
    assert data_of(client_of(issuer).get(TASKS)) == []


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"auth_time": -301}, id="signed in long ago"),
        pytest.param({"iat": -301}, id="issued long ago"),
    ],
)
def test_deletion_needs_a_recent_sign_in(claims: dict[str, Any], issuer: Issuer, db: None) -> None:
    """[A3]"""
    now = int(timezone.now().timestamp())
    times: dict[str, Any] = {name: now + age for name, age in claims.items()}
    client = client_of(issuer, **times)

    response = client.delete(ME, {})

    assert_error(response, 401, "TOKEN_INVALID")
    assert 'error="insufficient_user_authentication"' in response["WWW-Authenticate"]
    assert 'max_age="300"' in response["WWW-Authenticate"]
    assert User.objects.count() == 1


def test_deletion_of_a_person_with_a_password_needs_it(issuer: Issuer, alice: User) -> None:
    """[A3] However recent the sign-in is at the provider."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="ada")
    client = client_of(issuer)

    details = assert_error(client.delete(ME, {}), 400, "VALIDATION_ERROR")
    assert details["password"][0]["code"] == "required"
    assert client.delete(ME, {"password": PASSWORD}).status_code == 204


def test_password_is_not_asked_for_where_nobody_can_use_it(
    issuer: Issuer, alice: User, settings: Any
) -> None:
    """[A3] With LOCAL_ACCOUNTS=false nobody could set another, either."""
    settings.LOCAL_ACCOUNTS = False
    Identity.objects.create(user=alice, issuer=issuer.name, subject="ada")

    assert client_of(issuer).delete(ME, {}).status_code == 204


def test_deletion_without_a_password_takes_no_place(
    issuer: Issuer, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[N1] Nothing is hashed."""
    monkeypatch.setattr("accounts.views.base.hashing", lambda: pytest.fail("a place was taken"))

    assert client_of(issuer).delete(ME, {}).status_code == 204


def test_deletion_by_a_session_needs_the_password(alice_client: ApiClient) -> None:
    details = assert_error(alice_client.delete(ME, {}), 400, "VALIDATION_ERROR")

    assert details["password"][0]["code"] == "required"


@pytest.mark.parametrize(
    "remove",
    [
        pytest.param(lambda: User.objects.all().delete(), id="user, by the ORM"),
        pytest.param(lambda: Identity.objects.all().delete(), id="identity, by the ORM"),
        pytest.param(
            lambda: connection.cursor().execute("DELETE FROM accounts_user"), id="user, by SQL"
        ),
    ],
)
def test_removal_by_anyone_is_remembered(
    remove: Callable[[], Any], issuer: Issuer, db: None
) -> None:
    """[A3]"""
    client = client_of(issuer)
    me(client)

    remove()

    assert RemovedIdentity.objects.get().pk == identities.identity_hash(issuer.name, "ada")
    assert_error(client.get(TASKS), 401, "TOKEN_INVALID")


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_marks_of_removed_identities_are_purged(issuer: Issuer, settings: Any, capsys: Any) -> None:
    """[A3] When no token from before counts any more."""
    age = settings.OUTSIDE_TOKEN_MAX_LIFETIME + timedelta(minutes=2)
    RemovedIdentity.objects.create(pk="old", removed_at=timezone.now() - age)
    RemovedIdentity.objects.create(pk="new", removed_at=timezone.now() - timedelta(days=29))

    call_command("purge_expired")

    assert [mark.pk for mark in RemovedIdentity.objects.all()] == ["new"]


# --- What needs a password ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        (
            "POST",
            "/api/auth/password",
            {"current_password": PASSWORD, "new_password": "password12"},
            "current_password",
        ),
        ("GET", "/api/auth/sessions", None, "non_field_errors"),
        ("DELETE", f"/api/auth/sessions/{'0' * 8}-0000-7000-8000-{'0' * 12}", None, None),
        ("DELETE", ME, {"password": PASSWORD}, "password"),
    ],
    ids=["password", "sessions", "session", "deletion"],
)
def test_people_without_a_password_are_told_so(
    method: str, path: str, body: Any, field: str | None, issuer: Issuer, db: None
) -> None:
    """[A3]"""
    client = client_of(issuer)

    response = client.call(method, path, body) if body else client.call(method, path)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details[field or "non_field_errors"][0]["code"] == "no_password"


def test_reset_mails_nothing_to_people_without_a_password(issuer: Issuer, db: None) -> None:
    """[A3] It would be a way around the provider's second factor, and its bans."""
    me(client_of(issuer, email="ada@example.com", email_verified=True))

    answer = ApiClient().post("/api/auth/password/reset", {"email": "ada@example.com"})

    assert answer.status_code == 202
    assert queue.wait(30)
    assert mail.outbox == []


def test_session_ends_where_the_identity_does_not(issuer: Issuer, alice: User) -> None:
    """[S3] One person, two ways in: each by itself, and both ended by signing out everywhere."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="ada")
    by_session, by_issuer = ApiClient(begin_session(alice).access), client_of(issuer)
    assert me(by_session) == me(by_issuer)

    Session.objects.all().end()

    assert_error(by_session.get(TASKS), 401, "TOKEN_INVALID")
    data_of(by_issuer.get(TASKS))
    assert ApiClient(begin_session(alice).access).post("/api/auth/logout-all").status_code == 204
    assert_error(by_issuer.get(TASKS), 401, "TOKEN_INVALID")


# --- Another way in -----------------------------------------------------------------------------


def _add(client: ApiClient, token: str, password: str = PASSWORD) -> Any:
    return client.post(IDENTITIES, {"token": token, "password": password})


def test_identity_is_added_to_an_account(
    issuer: Issuer, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[A3] From then on its tokens lead there."""
    token = issuer.token()

    added = data_of(_add(alice_client, token), 201)

    assert (added["issuer"], added["subject"], added["is_current"]) == (issuer.name, "ada", False)
    client = ApiClient(token)
    assert [found["id"] for found in data_of(client.get(TASKS))] == [str(task.pk)]
    assert data_of(client.get(IDENTITIES)) == [{**added, "is_current": True}]
    assert queue.wait(30)
    assert [message.to for message in mail.outbox] == [[alice.email]]
    assert issuer.name in mail.outbox[0].body


def test_identity_is_added_once(issuer: Issuer, alice_client: ApiClient) -> None:
    first = data_of(_add(alice_client, issuer.token()), 201)

    assert data_of(_add(alice_client, issuer.token()), 201) == first
    assert Identity.objects.count() == 1


def test_empty_account_of_an_identity_is_absorbed(
    issuer: Issuer, alice: User, alice_client: ApiClient
) -> None:
    """[A3] Made by the front end's first request, before the person thought of it."""
    client = client_of(issuer)
    assert me(client)["id"] != str(alice.pk)

    data_of(_add(alice_client, issuer.token()), 201)

    assert me(client)["id"] == str(alice.pk)
    assert list(User.objects.all()) == [alice]
    assert not RemovedIdentity.objects.exists()


@pytest.mark.parametrize(
    "fill",
    [
        pytest.param(lambda user: Task.objects.create(user=user, title="x"), id="task"),
        pytest.param(lambda user: user.identities.create(issuer="x", subject="x"), id="identity"),
        pytest.param(begin_session, id="session"),
        pytest.param(lambda user: User.objects.update(is_active=False), id="barred"),
        pytest.param(
            lambda user: User.objects.filter(pk=user.pk).update(is_staff=True), id="staff"
        ),
    ],
)
def test_account_with_things_in_it_is_not_absorbed(
    fill: Callable[[User], Any], issuer: Issuer, make_user: Callable[..., User]
) -> None:
    """[A3]"""
    me(client_of(issuer))
    fill(User.objects.get())
    alice = make_user("alice@example.com")

    assert_error(_add(ApiClient(begin_session(alice).access), issuer.token()), 409, "CONFLICT")
    assert User.objects.count() == 2


def test_hint_of_another_process_is_found_out(
    issuer: Issuer, alice: User, alice_client: ApiClient
) -> None:
    """[A3] Nothing is done for the account that was absorbed; the next try finds the other."""
    client = client_of(issuer)
    me(client)
    data_of(client.get(TASKS))
    hints = dict(identities._hints)
    data_of(_add(alice_client, issuer.token()), 201)
    identities._hints.update(hints)

    response = client.post(TASKS, {"title": "Mine"})

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert response["Retry-After"] == "1"
    assert data_of(client.post(TASKS, {"title": "Mine"}), 201)["user_id"] == str(alice.pk)


def _status(work: Callable[[], Any]) -> int:
    try:
        return int(work().status_code)
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", range(10))
def test_what_is_added_while_an_account_is_absorbed_is_not_lost(
    number: int, issuer: Issuer, alice: User, roomy_hashing: None
) -> None:
    """[A3] Either the task is seen, and the account stays, or the task is refused."""
    token = issuer.token()
    client, link = ApiClient(token), ApiClient(begin_session(alice).access)
    me(client)

    with ThreadPoolExecutor(2) as pool:
        linked = pool.submit(_status, lambda: _add(link, token))
        time.sleep(number * 0.01)  # of the 40 ms that the password takes
        created = pool.submit(_status, lambda: client.post(TASKS, {"title": "Mine"}))

    assert linked.result() in (201, 409)
    assert created.result() in (201, 401, 503)
    assert Task.objects.count() == (created.result() == 201)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda issuer: "nonsense", id="nonsense"),
        pytest.param(lambda issuer: issuer.token(exp=1), id="expired"),
        pytest.param(lambda issuer: issuer.token(aud="another"), id="audience"),
        pytest.param(lambda issuer: issuer.token(iss="https://other.example"), id="issuer"),
        pytest.param(lambda issuer: issuer.token()[:-3] + "abc", id="signature"),
    ],
)
def test_bad_token_adds_nothing(
    token: Callable[[Issuer], str], issuer: Issuer, alice_client: ApiClient
) -> None:
    details = assert_error(_add(alice_client, token(issuer)), 400, "VALIDATION_ERROR")

    assert details["token"][0]["code"] == "invalid"
    assert not Identity.objects.exists()


def test_own_access_token_is_no_identity(
    issuer: Issuer, alice: User, alice_client: ApiClient
) -> None:
    assert_error(_add(alice_client, begin_session(alice).access), 400, "VALIDATION_ERROR")


def test_adding_needs_the_password(issuer: Issuer, alice_client: ApiClient) -> None:
    """[A3] Whoever has stolen a session adds no lasting way in."""
    response = _add(alice_client, issuer.token(), "not the password")

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["password"][0]["code"] == "wrong_password"
    assert not Identity.objects.exists()


def test_nothing_is_added_without_a_provider(alice_client: ApiClient) -> None:
    assert_error(_add(alice_client, "nonsense"), 400, "VALIDATION_ERROR")


def test_identity_is_taken_away(issuer: Issuer, alice: User, alice_client: ApiClient) -> None:
    """[A3] Tokens from before lead nowhere, and make no account of their own."""
    client = client_of(issuer)
    added = data_of(_add(alice_client, client.access or ""), 201)

    assert alice_client.delete(f"{IDENTITIES}/{added['id']}").status_code == 204

    assert_error(client.get(TASKS), 401, "TOKEN_INVALID")
    assert_error(alice_client.delete(f"{IDENTITIES}/{added['id']}"), 404, "NOT_FOUND")
    assert User.objects.count() == 1


def test_last_way_in_stays(issuer: Issuer, db: None) -> None:
    """[A3]"""
    client = client_of(issuer)
    (identity,) = data_of(client.get(IDENTITIES))

    assert_error(client.delete(f"{IDENTITIES}/{identity['id']}"), 409, "CONFLICT")
    User.objects.get().identities.create(issuer=issuer.name, subject="another")
    assert client.delete(f"{IDENTITIES}/{identity['id']}").status_code == 204


def test_password_is_no_way_in_without_local_accounts(
    issuer: Issuer, alice: User, settings: Any
) -> None:
    """[A3]"""
    settings.LOCAL_ACCOUNTS = False
    identity = Identity.objects.create(user=alice, issuer=issuer.name, subject="ada")

    response = client_of(issuer).delete(f"{IDENTITIES}/{identity.pk}")

    assert_error(response, 409, "CONFLICT")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"issuer": "https://old.example.com"}, id="identity of another issuer"),
        pytest.param({}, id="password without an address"),
    ],
)
def test_way_in_that_leads_nowhere_is_none(
    other: dict[str, str], issuer: Issuer, alice: User
) -> None:
    """[A3]"""
    identity = Identity.objects.create(user=alice, issuer=issuer.name, subject="ada")
    User.objects.update(email=None)
    if other:
        User.objects.update(password=make_password(None))
        Identity.objects.create(user=alice, subject="ada", **other)

    response = client_of(issuer).delete(f"{IDENTITIES}/{identity.pk}")

    assert_error(response, 409, "CONFLICT")


@pytest.mark.django_db(transaction=True)
def test_issuer_that_hangs_keeps_nobody_from_signing_in(
    issuer: Issuer, alice: User, alice_client: ApiClient
) -> None:
    """[A2] [N1] The token is verified before there is a place to hash."""
    issuer.mode = "slow"
    credentials = {"email": alice.email, "password": PASSWORD}

    with ThreadPoolExecutor(1) as pool:
        link = pool.submit(_status, lambda: _add(alice_client, issuer.token()))
        wait_until(lambda: bool(issuer.requests))
        signed_in = ApiClient().post("/api/auth/token", credentials)

    data_of(signed_in)
    assert link.result() == 503


def test_outage_of_the_issuer_counts_as_no_wrong_password(
    issuer: Issuer, alice: User, alice_client: ApiClient, settings: Any
) -> None:
    """[A2] [S4] A front end that tries again doesn't lock the owner out."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "sign-in-account": Rate(1, 3600)}
    issuer.close()

    for _ in range(3):
        assert_error(_add(alice_client, issuer.token()), 503, "SERVICE_UNAVAILABLE")

    data_of(ApiClient().post("/api/auth/token", {"email": alice.email, "password": PASSWORD}))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", range(5))
def test_link_and_sign_out_do_not_wait_for_each_other(
    number: int, issuer: Issuer, alice: User, roomy_hashing: None
) -> None:
    """[A3] Each locks the user before the identity.

    While the identity becomes Alice's, the other request may get 503 once, with nothing done.
    """
    client, link = client_of(issuer), ApiClient(begin_session(alice).access)
    me(client)
    token = issuer.token(jti="another")

    with ThreadPoolExecutor(2) as pool:
        linked = pool.submit(_status, lambda: _add(link, token))
        time.sleep(number * 0.01)
        left = pool.submit(_status, lambda: client.post("/api/auth/logout-all"))

    assert linked.result() in (201, 400)
    status = left.result()
    if status == 503:
        status = client.post("/api/auth/logout-all").status_code
    assert status in (204, 401)


@pytest.mark.parametrize("whose", ["another's", "nobody's", "malformed"])
def test_identities_of_others_are_not_there(
    whose: str, issuer: Issuer, alice: User, alice_client: ApiClient, bob: User
) -> None:
    """Answers are the same to the byte, request id aside."""
    other = Identity.objects.create(user=bob, issuer=issuer.name, subject="bob")
    ids = {"another's": other.pk, "nobody's": alice.pk, "malformed": "x"}
    answers = []
    for identity_id in (ids[whose], "0198f000-0000-7000-8000-000000000000"):
        response = alice_client.delete(f"{IDENTITIES}/{identity_id}")
        assert_error(response, 404, "NOT_FOUND")
        answers.append(json.loads(response.content)["error"])

    assert answers[0] == answers[1]
    assert Identity.objects.count() == 1
    assert data_of(alice_client.get(IDENTITIES)) == []


# --- The provider moves -------------------------------------------------------------------------

DIRECT = pytest.mark.django_db(transaction=True, databases=["default", "direct"])
OLD, NEW = "https://old.example.com", "https://new.example.com"


def _person(*issuers: str, subject: str = "ada") -> User:
    user = User.objects.create(password=make_password(None))
    for issuer in issuers:
        Identity.objects.create(user=user, issuer=issuer, subject=subject)
    return user


@DIRECT
def test_issuer_is_renamed(capsys: Any) -> None:
    person, other = _person(OLD), _person("https://third.example.com")

    call_command("rename_issuer", OLD, NEW)

    assert person.identities.get().issuer == NEW
    assert other.identities.get().issuer == "https://third.example.com"
    assert capsys.readouterr().out == "1 renamed\n"


@DIRECT
def test_empty_account_under_the_new_name_goes() -> None:
    """Made by the first request after the move."""
    person, empty = _person(OLD), _person(NEW)

    call_command("rename_issuer", OLD, NEW)

    assert person.identities.get().issuer == NEW
    assert not User.objects.filter(pk=empty.pk).exists()


@DIRECT
def test_account_with_things_in_it_under_the_new_name_stays(capsys: Any) -> None:
    person, used = _person(OLD), _person(NEW)
    for user in (person, used):
        Task.objects.create(user=user, title="x")

    call_command("rename_issuer", OLD, NEW)

    assert (person.identities.get().issuer, used.identities.get().issuer) == (OLD, NEW)
    assert "1 not renamed" in capsys.readouterr().out


@DIRECT
def test_empty_account_under_the_old_name_goes() -> None:
    """Made by a process that still served when the issuer had been renamed."""
    empty, person = _person(OLD), _person(NEW)
    Task.objects.create(user=person, title="x")

    call_command("rename_issuer", OLD, NEW)

    assert person.identities.get().issuer == NEW
    assert not User.objects.filter(pk=empty.pk).exists()


@DIRECT
def test_person_known_by_both_names_keeps_the_new_one() -> None:
    person = _person(OLD, NEW)

    call_command("rename_issuer", OLD, NEW)

    assert person.identities.get().issuer == NEW


@DIRECT
@pytest.mark.parametrize(
    ("old", "new"),
    [(OLD, OLD), (NEW, OLD), (OLD, ""), (OLD, "x" * 256)],
    ids=["the same", "unknown", "empty", "too long"],
)
def test_name_that_is_none_is_refused(old: str, new: str) -> None:
    person = _person(OLD)

    with pytest.raises(CommandError):
        call_command("rename_issuer", old, new)
    assert person.identities.get().issuer == OLD
