"""Addresses that are proved: at the registration, by a reset, and when they change."""

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.hashers import identify_hasher
from django.core.management import call_command
from django.core.signing import TimestampSigner, b62_encode
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from accounts import mail
from accounts.mailed_tokens import make_confirmation_token, make_reset_token
from accounts.models import Identity, User
from tests.client import ApiClient, Browser, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.mails import sent, token_of
from tests.processes import PATIENCE_S
from todo_project.background import JobQueue
from todo_project.environment import Rate
from todo_project.models import RateCounter

REGISTER = "/api/auth/register"
TOKEN = "/api/auth/token"
ME = "/api/auth/me"
RESET_CONFIRM = "/api/auth/password/reset/confirm"
EMAIL = "/api/auth/email"
CONFIRM = "/api/auth/email/confirm"
NEW_PASSWORD = "staple battery horse correct"
ADA = "ada@example.com"
NEW = "alice@new.example.com"
CLOCKS = {"RateLimit-Reset", "Retry-After"}  # may pass from one try to the next

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quick_mail")]


@pytest.fixture(autouse=True)
def mailing(settings: Any) -> None:
    settings.RATE_LIMITS = dict.fromkeys(settings.RATE_LIMITS)
    settings.EMAIL_CONFIRMATION_URL = "https://app.example.com/confirm?token={token}"


@pytest.fixture
def verifying(settings: Any) -> None:
    settings.REQUIRE_VERIFIED_EMAIL = True


needs_proof = pytest.mark.usefixtures("verifying")


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch, alice: User) -> list[str]:
    """Every hash that is made from now on."""
    made: list[str] = []
    hasher = type(identify_hasher(alice.password))

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(hasher, name)

        def hashing(self: Any, *args: Any) -> Any:
            made.append(name)
            return method(self, *args)

        return hashing

    for name in ("encode", "verify"):
        monkeypatch.setattr(hasher, name, counted(name))
    return made


def register(email: str = ADA, password: str = PASSWORD) -> HttpResponse:
    body = {"email": email, "password": password, "name": "Somebody"}
    return ApiClient().post(REGISTER, body, x_request_id="same")


def sign_in(email: str | None, password: str = PASSWORD) -> HttpResponse:
    return ApiClient().post(TOKEN, {"email": email, "password": password}, x_request_id="same")


def change(user: User, email: str = NEW, password: str = PASSWORD) -> HttpResponse:
    client = ApiClient(begin_session(user).access)
    return client.post(EMAIL, {"email": email, "password": password}, x_request_id="same")


def confirm(token: str) -> HttpResponse:
    return ApiClient().post(CONFIRM, {"token": token})


def without_clocks(response: HttpResponse) -> tuple[int, bytes, dict[str, str]]:
    headers = {name: value for name, value in response.items() if name not in CLOCKS}
    return response.status_code, response.content, headers


def recipients() -> list[str]:
    return [message.to[0] for message in sent()]


def state(user: User) -> tuple[str | None, bool, str | None]:
    user.refresh_from_db()
    return user.email, user.email_verified, user.pending_email


def at_once(*calls: Callable[[], HttpResponse]) -> list[HttpResponse]:
    barrier = threading.Barrier(len(calls))
    answers: list[HttpResponse] = []

    def run(call: Callable[[], HttpResponse]) -> None:
        barrier.wait(PATIENCE_S)
        answers.append(call())
        connection.close()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return answers


def pending(user: User, email: str = NEW) -> str:
    """A token as `change` mails it."""
    user.pending_email = email
    user.save(update_fields=["pending_email"])
    return make_confirmation_token(user)


def lose_password(user: User) -> None:
    """As of somebody who signs in elsewhere, without ending the sessions here."""
    user.set_unusable_password()
    User.objects.filter(pk=user.pk).update(password=user.password)


# --- Registration -----------------------------------------------------------------------------


def test_registration_mails_a_link_that_proves_the_address() -> None:
    """[A7] [U1]"""
    data = data_of(register(), 201)
    ada = User.objects.get()
    (message,) = sent()

    response = confirm(token_of(message))

    assert data["email_verified"] is False
    assert message.to == [ADA]
    assert "https://app.example.com/confirm?token=" in message.body
    assert "within 24 hours" in message.body
    assert (response.status_code, response.content) == (204, b"")
    assert state(ada) == (ADA, True, None)
    assert data_of(ApiClient(begin_session(ada).access).get(ME))["email_verified"] is True


def test_nothing_waits_for_the_link_where_it_need_not() -> None:
    """[A7]"""
    data_of(register(), 201)

    data_of(sign_in(ADA))


def test_registration_mails_nothing_where_no_page_is_named(settings: Any) -> None:
    """[A7]"""
    settings.EMAIL_CONFIRMATION_URL = ""

    data_of(register(), 201)

    assert sent() == []
    assert User.objects.get().pending_email is None


def test_refused_registration_mails_nothing(alice: User) -> None:
    """[A7] The answer tells it, where it may."""
    assert_error(register("alice@example.com"), 400, "VALIDATION_ERROR")

    assert sent() == []


def _inactive(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def _verified(user: User) -> None:
    User.objects.filter(pk=user.pk).update(email_verified=True)


def _on_its_way(user: User) -> None:
    User.objects.filter(pk=user.pk).update(pending_email=NEW)


KINDS: dict[str, Callable[[User], None]] = {
    "unverified": lambda user: None,
    "verified": _verified,
    "inactive": _inactive,
    "without a password": lose_password,
    "about to change": _on_its_way,
}


@needs_proof
@pytest.mark.parametrize("kind", KINDS)
def test_free_and_taken_addresses_are_answered_alike(
    kind: str, alice: User, hashes: list[str]
) -> None:
    """[A7] To the byte; by as many statements, of which one writes, and as many hashes."""
    KINDS[kind](alice)
    before = User.objects.filter(pk=alice.pk).values().get()
    found = []
    for email in (ADA, "alice@example.com", "Alice@EXAMPLE.com"):
        hashes.clear()
        with CaptureQueriesContext(connection) as queries:
            response = register(email)
        statements = [query["sql"].partition("VALUES")[0] for query in queries]
        found.append((without_clocks(response), statements, [*hashes]))

    assert found[0][0][0] == 202
    assert found[0][1:] == ([found[0][1][0]], ["encode"])
    assert found[1:] == [found[0]] * 2
    assert User.objects.filter(pk=alice.pk).values().get() == before
    assert User.objects.count() == 2


@needs_proof
def test_what_is_wrong_with_a_registration_is_told_alike(alice: User) -> None:
    """[A7] [B2]"""
    free, taken = (register(email, "password123") for email in (ADA, "alice@example.com"))

    assert_error(free, 400, "VALIDATION_ERROR")
    assert without_clocks(free) == without_clocks(taken)


@needs_proof
def test_registration_and_link_let_sign_in() -> None:
    """[A7]"""
    assert data_of(register(), 202).keys() == {"message"}
    ada = User.objects.get()
    assert (ada.email, ada.name, ada.pending_email) == (ADA, "Somebody", ADA)
    assert (ada.is_active, ada.is_staff, ada.is_superuser) == (True, False, False)
    assert ada.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert_error(sign_in(ADA), 401, "INVALID_CREDENTIALS")

    assert confirm(token_of(sent()[0])).status_code == 204

    data_of(sign_in(ADA))


@needs_proof
@pytest.mark.parametrize(
    ("kind", "has_mail", "has_link"),
    [
        ("unverified", True, True),
        ("verified", True, True),
        ("about to change", True, True),
        ("inactive", False, False),
        # An operator took it away, or somebody else lets them in.
        ("without a password", True, False),
    ],
)
def test_taken_address_is_told_by_mail_alone(
    kind: str, has_mail: bool, has_link: bool, alice: User
) -> None:
    """[A7] With a way in for whoever reads the mailbox, where there may be one."""
    KINDS[kind](alice)

    register("alice@example.com", "a password of someone")

    messages = sent()
    assert recipients() == ["alice@example.com"] * has_mail
    assert ["token=" in message.body for message in messages] == [has_link] * has_mail
    if has_link:
        body = {"token": token_of(messages[0]), "new_password": NEW_PASSWORD}
        assert ApiClient().post(RESET_CONFIRM, body).status_code == 204
        data_of(sign_in("alice@example.com", NEW_PASSWORD))


@needs_proof
def test_who_registers_first_does_not_get_the_account_of_the_mailbox() -> None:
    """[A7] Pre-hijacking: the second registration changes nothing, and the mailbox decides."""
    data_of(register(password="the password of Mallory"), 202)
    to_mallorys_victim = token_of(sent()[0])
    data_of(register(password="the password of Ada"), 202)
    (ada,) = User.objects.all()
    for password in ("the password of Mallory", "the password of Ada"):
        assert_error(sign_in(ADA, password), 401, "INVALID_CREDENTIALS")

    body = {"token": token_of(sent()[1]), "new_password": NEW_PASSWORD}
    assert ApiClient().post(RESET_CONFIRM, body).status_code == 204

    assert state(ada) == (ADA, True, None)
    data_of(sign_in(ADA, NEW_PASSWORD))
    assert_error(sign_in(ADA, "the password of Mallory"), 401, "INVALID_CREDENTIALS")
    assert_error(confirm(to_mallorys_victim), 400, "VALIDATION_ERROR")


@needs_proof
@pytest.mark.usefixtures("roomy_hashing")
def test_simultaneous_registrations_of_one_address_make_one_user() -> None:
    """[A7] Each is answered alike, and one mail goes out for each."""
    answers = at_once(
        *[lambda email=email: register(email) for email in (ADA, "Ada@EXAMPLE.com")] * 2
    )

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert User.objects.count() == 1
    subjects = sorted(message.subject for message in sent())
    assert subjects == ["Confirm your address", *["You have an account already"] * 3]


@needs_proof
def test_lost_mail_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """[A7] What was accepted stands in the database; with a process only mails are lost."""
    with monkeypatch.context() as full:
        full.setattr(mail, "queue", JobQueue("mail", length=0))
        data_of(register(), 202)
    (ada,) = User.objects.all()

    data_of(register(), 202)
    body = {"token": token_of(sent()[0]), "new_password": NEW_PASSWORD}
    assert ApiClient().post(RESET_CONFIRM, body).status_code == 204

    data_of(sign_in(ADA, NEW_PASSWORD))
    assert User.objects.get() == ada


# --- Sign-in ----------------------------------------------------------------------------------


@needs_proof
@pytest.mark.parametrize(
    ("email", "password"),
    [
        pytest.param("alice@example.com", PASSWORD, id="right, unverified"),
        pytest.param("alice@example.com", "a wrong guess", id="wrong, unverified"),
        pytest.param("bob@example.com", "a wrong guess", id="wrong, verified"),
        pytest.param("nobody@example.com", PASSWORD, id="unknown"),
        pytest.param("inactive@example.com", PASSWORD, id="inactive"),
    ],
)
def test_refused_sign_ins_are_alike(
    email: str,
    password: str,
    alice: User,
    bob: User,
    make_user: Any,
    settings: Any,
    hashes: list[str],
) -> None:
    """[A7] [S4] To the byte, by as many statements and hashes, and counted as a wrong guess is."""
    _verified(bob)
    make_user("inactive@example.com", is_active=False, email_verified=True)
    off = settings.RATE_LIMITS
    settings.RATE_LIMITS = {**off, "sign-in-account": Rate(2, 86_400), "sign-in": Rate(9, 86_400)}

    def tries(email: str, password: str) -> list[Any]:
        found: list[Any] = []
        for _ in range(3):
            hashes.clear()
            with CaptureQueriesContext(connection) as queries:
                response = sign_in(email, password)
            found.append((without_clocks(response), len(queries), len(hashes)))
        return found

    expected = tries("somebody@example.com", "a wrong guess")
    assert [answer[0] for answer, _, _ in expected] == [401, 401, 429]
    assert json.loads(expected[0][0][1])["error"]["message"] == (
        "The e-mail address or the password is wrong, or the address is not confirmed yet."
    )
    assert [count for _, _, count in expected] == [1, 1, 0]

    assert tries(email, password) == expected


@needs_proof
def test_sessions_go_on_without_the_proof(alice: User) -> None:
    """[A7] Who was signed in when it was asked for can prove the address from there."""
    pair = begin_session(alice)

    data_of(ApiClient(pair.access).get(ME))
    data_of(ApiClient().post("/api/auth/token/refresh", {"refresh": pair.refresh}))
    data_of(change(alice, "alice@example.com"), 202)
    assert confirm(token_of(sent()[0])).status_code == 204

    data_of(sign_in("alice@example.com"))


@needs_proof
def test_operators_sign_in_to_admin_without_the_proof(olga: User) -> None:
    """[A7] Operators are made by operators."""
    response = Browser().post("/admin/login/", {"username": olga.email, "password": PASSWORD})

    assert response.status_code == 302
    assert_error(sign_in(olga.email), 401, "INVALID_CREDENTIALS")


@needs_proof
def test_first_operator_has_an_address_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """[A7]"""
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", "--no-input", email=ADA, verbosity=0)

    data_of(sign_in(ADA))


def test_reset_proves_the_address(alice: User) -> None:
    """[A7] The link went to it; one to another address dies."""
    to_new = pending(alice)
    body = {"token": make_reset_token(alice), "new_password": NEW_PASSWORD}

    assert ApiClient().post(RESET_CONFIRM, body).status_code == 204

    assert state(alice) == ("alice@example.com", True, None)
    assert_error(confirm(to_new), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(("was_verified", "kept"), [(False, 0), (True, 1)])
def test_reset_shuts_out_whoever_came_before_the_proof(
    was_verified: bool, kept: int, alice: User
) -> None:
    """[A7] Pre-hijacking: a way in that was added before is not the way of the mailbox's owner."""
    User.objects.filter(pk=alice.pk).update(email_verified=was_verified)
    Identity.objects.create(user=alice, issuer="https://issuer.example.com", subject="mallory")
    body = {"token": make_reset_token(alice), "new_password": NEW_PASSWORD}

    assert ApiClient().post(RESET_CONFIRM, body).status_code == 204

    assert Identity.objects.count() == kept


# --- Another address --------------------------------------------------------------------------


@pytest.mark.parametrize("email", [NEW, "Alice@NEW.example.com"])
def test_address_changes_with_its_link(email: str, alice: User) -> None:
    """[A7] [S3] The present one is told; nobody is signed out."""
    elsewhere = begin_session(alice)
    reset = make_reset_token(alice)
    assert data_of(change(alice, email), 202).keys() == {"message"}
    link, note = sent()
    assert state(alice) == ("alice@example.com", False, NEW)

    response = confirm(token_of(link))

    assert (response.status_code, response.content) == (204, b"")
    assert (link.to, note.to) == ([NEW], ["alice@example.com"])
    assert "token=" not in note.body
    assert NEW not in note.body
    data = data_of(ApiClient(elsewhere.access).get(ME))
    assert (data["email"], data["email_verified"]) == (NEW, True)
    data_of(sign_in(NEW))
    assert_error(sign_in("alice@example.com"), 401, "INVALID_CREDENTIALS")
    body = {"token": reset, "new_password": NEW_PASSWORD}
    assert_error(ApiClient().post(RESET_CONFIRM, body), 400, "VALIDATION_ERROR")


def test_taken_address_is_answered_alike(alice: User, bob: User) -> None:
    """[A7] Its owner is told, and no link goes out. Nor does one that is made regardless help."""
    free = change(alice)
    free_mails = len(sent())

    taken = change(alice, "bob@example.com")

    assert without_clocks(taken) == without_clocks(free)
    assert free_mails == 2
    told, note = sent()[2:]
    assert (told.to, note.to) == (["bob@example.com"], ["alice@example.com"])
    assert "token=" not in told.body + note.body
    alice.refresh_from_db()
    details = assert_error(confirm(make_confirmation_token(alice)), 400, "VALIDATION_ERROR")
    assert details["token"][0]["code"] == "unique"
    assert state(alice) == ("alice@example.com", False, "bob@example.com")


def test_present_address_gets_its_link_once_more(alice: User) -> None:
    """[A7]"""
    data_of(change(alice, "alice@example.com"), 202)

    (message,) = sent()
    assert message.to == ["alice@example.com"]
    assert confirm(token_of(message)).status_code == 204
    assert state(alice) == ("alice@example.com", True, None)


def test_present_address_takes_another_back(alice: User) -> None:
    """[A7] Proved already, it needs no mail."""
    _verified(alice)
    alice.refresh_from_db()
    to_new = pending(alice)

    data_of(change(alice, "alice@example.com"), 202)

    assert sent() == []
    assert_error(confirm(to_new), 400, "VALIDATION_ERROR")
    assert state(alice) == ("alice@example.com", True, None)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"email": NEW}, "password", "required"),
        ({"email": NEW, "password": "a wrong guess"}, "password", "wrong_password"),
        ({"password": PASSWORD}, "email", "required"),
        ({"email": None, "password": PASSWORD}, "email", "null"),
        ({"email": "ada", "password": PASSWORD}, "email", "invalid"),
        ({"email": "\u212aelvin@example.com", "password": PASSWORD}, "email", "invalid"),
    ],
    ids=["no password", "wrong password", "no address", "null", "no @", "Kelvin sign"],
)
def test_change_refuses(body: dict[str, Any], field: str, code: str, alice: User) -> None:
    """[A7] [U1]"""
    response = ApiClient(begin_session(alice).access).post(EMAIL, body)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert code in {fault["code"] for fault in details[field]}
    assert sent() == []
    assert state(alice) == ("alice@example.com", False, None)


def test_profile_names_the_route_that_changes_an_address(alice: User) -> None:
    """[A7]"""
    response = ApiClient(begin_session(alice).access).patch(ME, {"email": NEW})

    (fault,) = assert_error(response, 400, "VALIDATION_ERROR")["email"]
    assert fault["code"] == "immutable"
    assert EMAIL in fault["message"]


def test_change_mails_nothing_where_no_page_is_named(
    alice: User, settings: Any, caplog: Any
) -> None:
    """[A7]"""
    settings.EMAIL_CONFIRMATION_URL = ""

    data_of(change(alice), 202)

    assert sent() == []
    assert "EMAIL_CONFIRMATION_URL" in caplog.text


def test_mail_of_an_earlier_change_carries_the_link_of_the_later(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A7] What waited in the queue looks again: no link goes out that is dead."""
    gate = threading.Event()

    def hold() -> None:
        gate.wait(PATIENCE_S)

    mail.queue.put(hold)
    change(alice, "first@example.com")
    change(alice)
    gate.set()

    assert set(recipients()) == {NEW, "alice@example.com"}


# --- Links ------------------------------------------------------------------------------------


def _use(user: User, token: str) -> None:
    assert confirm(token).status_code == 204


def _ask_again(user: User, token: str) -> None:
    data_of(change(user, "third@example.com"), 202)


def _change_password(user: User, token: str) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    client = ApiClient(begin_session(user).access)
    assert client.post("/api/auth/password", body).status_code == 204


def _change_address(user: User, token: str) -> None:
    User.objects.filter(pk=user.pk).update(email="by-operator@example.com")


def _verify(user: User, token: str) -> None:
    _verified(user)


def _deactivate(user: User, token: str) -> None:
    User.objects.get_queryset().filter(pk=user.pk).deactivate()


def _delete(user: User, token: str) -> None:
    user.delete()


@pytest.mark.parametrize(
    "what",
    [_use, _ask_again, _change_password, _change_address, _verify, _deactivate, _delete],
    ids=["used", "another asked for", "password", "address", "verified", "inactive", "deleted"],
)
def test_link_dies(what: Callable[[User, str], None], alice: User) -> None:
    """[A7]"""
    token = pending(alice)
    what(alice, token)
    before = list(User.objects.values())

    details = assert_error(confirm(token), 400, "VALIDATION_ERROR")

    assert details["token"][0]["code"] == "invalid"
    assert list(User.objects.values()) == before


def _tampered(good: str, alice: User, bob: User) -> str:
    return good[:-1] + ("a" if good[-1] != "a" else "b")


FORGED: dict[str, Callable[[str, User, User], str]] = {
    "tampered": _tampered,
    "another person's": lambda good, alice, bob: ".".join(
        [pending(bob, "bob@new.example.com").partition(".")[0], good.partition(".")[2]]
    ),
    "no id": lambda good, alice, bob: f".{good.partition('.')[2]}",
    "no signature": lambda good, alice, bob: good.rpartition(".")[0],
    "nothing but an id": lambda good, alice, bob: good.partition(".")[0],
    "of a reset": lambda good, alice, bob: make_reset_token(alice),
    "nonsense": lambda good, alice, bob: "nonsense",
    "dots": lambda good, alice, bob: "...",
    "not ASCII": lambda good, alice, bob: "é.é.é",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_link_is_refused(
    forge: Callable[[str, User, User], str], alice: User, bob: User
) -> None:
    """[A7]"""
    token = forge(pending(alice), alice, bob)

    details = assert_error(confirm(token), 400, "VALIDATION_ERROR")

    assert details["token"][0]["code"] == "invalid"
    assert state(alice) == ("alice@example.com", False, NEW)


def test_confirmation_is_no_reset(alice: User) -> None:
    """[A7] Whoever reads the new mailbox chooses no password by it."""
    body = {"token": pending(alice), "new_password": NEW_PASSWORD}

    assert_error(ApiClient().post(RESET_CONFIRM, body), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("age", "status"),
    [(timedelta(hours=23, minutes=59), 204), (timedelta(hours=24, seconds=1), 400)],
)
def test_link_is_good_for_a_day(
    age: timedelta, status: int, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A7]"""
    made_at = int(time.time() - age.total_seconds())
    with monkeypatch.context() as past:
        past.setattr(TimestampSigner, "timestamp", lambda self: b62_encode(made_at))
        token = pending(alice)

    assert confirm(token).status_code == status


def test_link_outlives_a_change_of_key(alice: User, settings: Any) -> None:
    """[A7] [A6]"""
    token = pending(alice)
    settings.SECRET_KEY_FALLBACKS = [django_settings.SECRET_KEY]
    settings.SECRET_KEY = "another key" * 5

    assert confirm(token).status_code == 204


def test_link_is_good_for_one_of_simultaneous_uses(alice: User) -> None:
    """[A7]"""
    token = pending(alice)

    answers = at_once(*[lambda: confirm(token)] * 4)

    assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
    assert state(alice) == (NEW, True, None)


@pytest.mark.parametrize("round_", range(5))
def test_address_goes_to_one_of_those_who_confirm_it_at_once(
    round_: int, alice: User, bob: User
) -> None:
    """[A7] [U1]"""
    tokens = [pending(user) for user in (alice, bob)]

    answers = at_once(*[lambda token=token: confirm(token) for token in tokens])

    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert won.status_code == 204
    assert assert_error(lost, 400, "VALIDATION_ERROR")["token"][0]["code"] == "unique"
    assert User.objects.filter(email=NEW, email_verified=True).count() == 1
    assert User.objects.filter(email_verified=False, pending_email=NEW).count() == 1


def test_confirmation_racing_another_change_changes_to_what_is_asked_last(alice: User) -> None:
    """[A7] Either the link was first, or it is dead; never a third address."""
    token = pending(alice)
    access = begin_session(alice).access

    def ask() -> HttpResponse:
        return ApiClient(access).post(EMAIL, {"email": ADA, "password": PASSWORD})

    answers = at_once(lambda: confirm(token), ask)

    assert {answer.status_code for answer in answers} <= {202, 204, 400}
    was_first = 204 in {answer.status_code for answer in answers}
    assert state(alice) == ((NEW, True, ADA) if was_first else ("alice@example.com", False, ADA))


# --- Limits -----------------------------------------------------------------------------------


def limit(settings: Any, **rates: Rate) -> None:
    named = {name.replace("_", "-"): rate for name, rate in rates.items()}
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, **named}


def test_one_account_fills_no_mailboxes(alice: User, settings: Any) -> None:
    """[A7] [S4] From however many networks; and a reset is mailed all the same."""
    limit(settings, reset=Rate(2, 86_400))

    answers = [change(alice, f"{number}@example.com") for number in range(4)]

    assert {without_clocks(answer)[:2] for answer in answers} == {(202, answers[0].content)}
    assert len(set(recipients()) - {"alice@example.com"}) == 2
    ApiClient().post("/api/auth/password/reset", {"email": alice.email})
    assert sent()[-1].subject == "Choose a new password"


def test_many_accounts_fill_no_mailbox(make_user: Any, settings: Any) -> None:
    """[A7] [S4]"""
    limit(settings, reset=Rate(2, 86_400))
    people = [make_user(f"{number}@example.com") for number in range(4)]

    for person in people:
        data_of(change(person), 202)

    assert recipients().count(NEW) == 2


@needs_proof
def test_registrations_fill_no_mailbox(alice: User, settings: Any) -> None:
    """[A7] [S4] Of an address that is taken; those of one network are limited as before."""
    limit(settings, reset=Rate(2, 86_400))

    answers = [register("alice@example.com") for _ in range(4)]

    assert len({without_clocks(answer)[:2] for answer in answers}) == 1
    assert recipients() == ["alice@example.com"] * 2


def test_own_password_is_tried_no_faster_here(alice: User, settings: Any) -> None:
    """[S4] [A7]"""
    limit(settings, sign_in_account=Rate(2, 86_400))

    statuses = [change(alice, password="a wrong guess").status_code for _ in range(3)]

    assert statuses == [400, 400, 429]
    assert change(alice).status_code == 429


def test_confirmations_are_limited(alice: User, settings: Any) -> None:
    """[A7]"""
    limit(settings, reset=Rate(1, 86_400))
    confirm("nonsense")

    assert_error(confirm(pending(alice)), 429, "RATE_LIMITED")


# --- People without a password, or without an address -----------------------------------------

OWN_PASSWORD = pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", EMAIL, {"email": NEW, "password": PASSWORD}, "password"),
        (
            "POST",
            "/api/auth/password",
            {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
            "current_password",
        ),
        ("DELETE", ME, {"password": PASSWORD}, "password"),
        ("POST", f"{ME}/delete", {"password": PASSWORD}, "password"),
    ],
    ids=["address", "change", "delete", "delete by POST"],
)


@OWN_PASSWORD
def test_who_has_no_password_is_told(
    method: str, path: str, body: dict[str, str], field: str, alice: User, settings: Any
) -> None:
    """[A3] [A7] And has tried none: nothing is counted as a guess."""
    access = begin_session(alice).access
    lose_password(alice)
    limit(settings, sign_in_account=Rate(2, 86_400))

    details = assert_error(ApiClient(access).call(method, path, body), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details[field]] == ["no_password"]
    assert sum(RateCounter.objects.values_list("hits", flat=True)) == 0
    assert User.objects.filter(pk=alice.pk).exists()
    assert sent() == []


@OWN_PASSWORD
def test_who_has_no_address_is_counted_by_themselves(
    method: str,
    path: str,
    body: dict[str, str],
    field: str,
    alice: User,
    bob: User,
    settings: Any,
) -> None:
    """[S4] [A7]"""
    clients = [ApiClient(begin_session(user).access) for user in (alice, bob)]
    User.objects.update(email=None)
    for user in (alice, bob):
        lose_password(user)
    limit(settings, sign_in=Rate(1, 86_400))

    statuses = [client.call(method, path, body).status_code for client in clients * 2]

    assert statuses == [400, 400, 429, 429]


def test_profile_without_an_address_can_be_sent_back(alice: User) -> None:
    """[U1] [B4]"""
    client = ApiClient(begin_session(alice).access)
    User.objects.filter(pk=alice.pk).update(email=None)

    read = data_of(client.get(ME))

    assert (read["email"], read["email_verified"]) == (None, False)
    assert data_of(client.patch(ME, read)) == read
    details = assert_error(client.patch(ME, {**read, "email": NEW}), 400, "VALIDATION_ERROR")
    assert details["email"][0]["code"] == "immutable"


def test_first_address_needs_its_link_and_no_note(alice: User) -> None:
    """[A7] There is no present address to tell."""
    User.objects.filter(pk=alice.pk).update(email=None)

    data_of(change(alice), 202)

    (message,) = sent()
    assert message.to == [NEW]
    assert confirm(token_of(message)).status_code == 204
    assert state(alice) == (NEW, True, None)


def test_email_verified_is_read_only(alice: User) -> None:
    """[B4] [U1]"""
    client = ApiClient(begin_session(alice).access)

    data = data_of(client.patch(ME, {"name": "Alice", "email_verified": True}))

    assert data["email_verified"] is False
    body = {"email": ADA, "password": PASSWORD, "email_verified": True}
    assert data_of(ApiClient().post(REGISTER, body), 201)["email_verified"] is False
