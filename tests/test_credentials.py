"""One mailbox is one account, and one password one password, however they are written."""

import io
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.management.commands import changepassword, createsuperuser
from django.core import mail as outgoing
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import mail
from accounts.credentials import canonical_email, normalize_password
from accounts.mailed_tokens import make_reset_token
from accounts.models import User
from tests.client import ApiClient, Browser, assert_error, data_of
from tests.conftest import PASSWORD
from todo_project.environment import Rate

REGISTER = "/api/auth/register"
TOKEN = "/api/auth/token"
USERS = "/admin/accounts/user/"

KEPT = "x@xn--mnchen-3ya.de"
SPELLINGS = [
    pytest.param("x@xn--mnchen-3ya.de", id="ASCII"),
    pytest.param("x@münchen.de", id="composed"),
    pytest.param("x@mu\u0308nchen.de", id="decomposed"),
    pytest.param("X@MÜNCHEN.DE", id="capitals"),
    pytest.param("X@XN--MNCHEN-3YA.de", id="ASCII in capitals"),
    pytest.param("x@münchen\u3002de", id="ideographic full stop"),
    pytest.param("x@mün\u00adchen.de", id="soft hyphen"),
    pytest.param("x@ｍünchen.de", id="fullwidth letter"),
]
UNMAILABLE = [
    pytest.param("a@localhost", id="localhost"),
    pytest.param("a@LOCALHOST", id="localhost in capitals"),
    pytest.param("a@ｌｏｃａｌｈｏｓｔ", id="localhost in fullwidth"),
    pytest.param("a@mail.localhost", id="below localhost"),
    pytest.param("a@[127.0.0.1]", id="IPv4 literal"),
    pytest.param("a@[IPv6:2001:db8::1]", id="IPv6 literal"),
    pytest.param("a@127.0.0.10", id="IPv4 address"),
    pytest.param("a@example", id="one label"),
    pytest.param("a@example.com.", id="dot at the end"),
    pytest.param(f"{'a' * 65}@example.com", id="local part of 65"),
    pytest.param("ä@example.com", id="local part beyond ASCII"),
    pytest.param("\u212aelvin@example.com", id="Kelvin sign"),
    pytest.param(f"a@{'ü' * 60}.com", id="label too long in ASCII"),
    pytest.param("a@i❤.ws", id="symbol"),
    pytest.param("a@-ü.de", id="hyphen at the beginning"),
    pytest.param("a@ü..de", id="empty label"),
]


@pytest.fixture
def olga_admin(olga: User) -> Browser:
    browser = Browser(raise_request_exception=False)
    browser.force_login(olga)
    return browser


@pytest.fixture
def owner(make_user: Callable[..., User]) -> User:
    return make_user(KEPT)


# --- Mailboxes --------------------------------------------------------------------------------


@pytest.mark.parametrize("email", SPELLINGS)
def test_register_keeps_one_form(email: str, client: ApiClient) -> None:
    """[U1]"""
    data = data_of(client.post(REGISTER, {"email": email, "password": PASSWORD}), 201)

    assert data["email"] == User.objects.get().email == KEPT


@pytest.mark.parametrize("email", SPELLINGS)
def test_register_knows_a_taken_address(email: str, owner: User, client: ApiClient) -> None:
    """[U1]"""
    response = client.post(REGISTER, {"email": email, "password": PASSWORD})

    assert assert_error(response, 400, "VALIDATION_ERROR")["email"][0]["code"] == "unique"


@pytest.mark.parametrize("email", SPELLINGS)
def test_sign_in_by_any_spelling(email: str, owner: User, client: ApiClient) -> None:
    """[U1]"""
    data_of(client.post(TOKEN, {"email": email, "password": PASSWORD}))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("email", SPELLINGS)
def test_reset_by_any_spelling(email: str, owner: User, client: ApiClient) -> None:
    """[U1]"""
    client.post("/api/auth/password/reset", {"email": email})

    assert mail.queue.wait(30)
    assert [message.to for message in outgoing.outbox] == [[KEPT]]


def test_spellings_are_tries_of_one_account(owner: User, client: ApiClient, settings: Any) -> None:
    """[U1] Another spelling is no way past the limit."""
    settings.RATE_LIMITS = {**dict.fromkeys(settings.RATE_LIMITS), "sign-in": Rate(2, 3600)}
    statuses = [
        client.post(TOKEN, {"email": email, "password": "a wrong guess"}).status_code
        for email in ("x@münchen.de", "X@xn--MNCHEN-3ya.de", "x@mu\u0308nchen.de")
    ]

    assert statuses == [401, 401, 429]


@pytest.mark.parametrize("email", SPELLINGS)
def test_profile_may_send_any_spelling_back(email: str, client: ApiClient, owner: User) -> None:
    """[U1]"""
    access = data_of(client.post(TOKEN, {"email": KEPT, "password": PASSWORD}))["access"]

    assert data_of(ApiClient(access).patch("/api/auth/me", {"email": email}))["email"] == KEPT


@pytest.mark.parametrize("email", SPELLINGS)
def test_admin_finds_and_keeps_one_form(
    email: str, olga_admin: Browser, owner: User, alice: User
) -> None:
    """[U1] In search, in adding and in changing."""
    found: Any = olga_admin.get(USERS, {"q": email})
    sessions: Any = olga_admin.get("/admin/accounts/session/", {"q": email})
    passwords = {"password1": PASSWORD, "password2": PASSWORD}
    added: Any = olga_admin.post(f"{USERS}add/", {"email": email, "name": "", **passwords})
    changed: Any = olga_admin.post(f"{USERS}{alice.pk}/change/", {"email": email, "name": ""})

    assert list(found.context["cl"].result_list) == [owner]
    assert sessions.status_code == 200
    for response in (added, changed):
        faults = response.context["adminform"].errors.as_data()
        assert [fault.code for fault in faults["__all__"]] == ["unique"]


def test_admin_finds_what_the_migration_left(olga_admin: Browser, owner: User) -> None:
    """[U1] Two accounts from before, of one mailbox."""
    other = User.objects.create(email="other@example.com")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET email = 'x@münchen.de' WHERE id = %s", [other.pk])

    found: Any = olga_admin.get(USERS, {"q": "X@"})

    assert set(found.context["cl"].result_list) == {owner, other}


@pytest.mark.parametrize("email", SPELLINGS)
def test_admin_writes_one_form(email: str, olga_admin: Browser, alice: User) -> None:
    """[U1]"""
    form = {"email": email, "name": "", "is_active": "on"}

    assert olga_admin.post(f"{USERS}{alice.pk}/change/", form).status_code == 302
    alice.refresh_from_db()
    assert alice.email == KEPT


@pytest.mark.parametrize("email", SPELLINGS)
def test_admin_signs_in_by_any_spelling(email: str, owner: User) -> None:
    """[U1]"""
    User.objects.filter(pk=owner.pk).update(is_staff=True)

    response = Browser().post("/admin/login/", {"username": email, "password": PASSWORD})

    assert response.status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize("email", SPELLINGS)
def test_createsuperuser_keeps_one_form(email: str) -> None:
    """[U1]"""
    call_command("createsuperuser", interactive=False, email=email, verbosity=0)

    assert User.objects.get().email == KEPT


@pytest.mark.parametrize("email", UNMAILABLE)
def test_register_refuses_what_no_mail_reaches(email: str, client: ApiClient) -> None:
    """[U1]"""
    response = client.post(REGISTER, {"email": email, "password": PASSWORD})

    faults = assert_error(response, 400, "VALIDATION_ERROR")["email"]
    assert [fault["code"] for fault in faults] == ["invalid"]


@pytest.mark.parametrize("email", UNMAILABLE)
def test_admin_refuses_what_no_mail_reaches(email: str, olga_admin: Browser, alice: User) -> None:
    """[U1]"""
    response: Any = olga_admin.post(f"{USERS}{alice.pk}/change/", {"email": email, "name": ""})

    assert response.context["adminform"].errors.as_data().keys() == {"email"}


@pytest.mark.django_db
@pytest.mark.parametrize("email", UNMAILABLE)
def test_createsuperuser_refuses_what_no_mail_reaches(email: str) -> None:
    """[U1]"""
    with pytest.raises(CommandError):
        call_command("createsuperuser", interactive=False, email=email, verbosity=0)


@pytest.mark.parametrize("email", ["a@localhost", "a@[127.0.0.1]"], ids=["localhost", "literal"])
def test_own_machine_is_reachable_with_debug(email: str, client: ApiClient, settings: Any) -> None:
    """[U1]"""
    settings.DEBUG = True

    data = data_of(client.post(REGISTER, {"email": email, "password": PASSWORD}), 201)

    assert data["email"] == email


@pytest.mark.parametrize(
    ("email", "kept"),
    [
        pytest.param(f"{'A' * 64}@example.com", f"{'a' * 64}@example.com", id="local part of 64"),
        pytest.param("a@straße.de", "a@xn--strae-oqa.de", id="sharp s, which IDNA 2003 lost"),
        pytest.param("a@日本.jp", "a@xn--wgv71a.jp", id="Japanese"),
        pytest.param("a@xn--i-7iq.ws", "a@xn--i-7iq.ws", id="ASCII form of a symbol"),
        pytest.param("a@my--shop.com", "a@my--shop.com", id="hyphens that IDNA reserves"),
        pytest.param("a.b+c@example.com", "a.b+c@example.com", id="dots and tags count"),
    ],
)
def test_register_takes_what_mail_reaches(email: str, kept: str, client: ApiClient) -> None:
    """[U1]"""
    data = data_of(client.post(REGISTER, {"email": email, "password": PASSWORD}), 201)

    assert data["email"] == kept


@pytest.mark.parametrize("place", ["api", "admin"])
def test_length_counts_in_the_form_that_is_kept(
    place: str, client: ApiClient, olga_admin: Browser, alice: User
) -> None:
    """[U1]"""
    email = f"{'a' * 64}@{'.'.join(['ü' * 18] * 8)}.de"
    assert len(email) < 254 < len(canonical_email(email))

    if place == "api":
        response: Any = client.post(REGISTER, {"email": email, "password": PASSWORD})
        codes = [f["code"] for f in assert_error(response, 400, "VALIDATION_ERROR")["email"]]
    else:
        response = olga_admin.post(f"{USERS}{alice.pk}/change/", {"email": email, "name": ""})
        codes = [f.code for f in response.context["adminform"].errors.as_data()["email"]]

    assert codes == ["max_length"]


@pytest.mark.parametrize("email", ["", "@", "x", "x@", "@münchen.de", "ä@ä", "x@ü" + "." * 9])
def test_what_is_no_mailbox_is_nobodys(email: str, owner: User) -> None:
    assert not User.objects.with_email(email).exists()


# --- Passwords --------------------------------------------------------------------------------

# In NFKC one password: "Åﬃne Ⅳ pass wörd" as four keyboards may write it.
PASSWORDS = [
    pytest.param(unicodedata.normalize(form, "Åﬃne Ⅳ pass wörd"), id=form)
    for form in ("NFC", "NFD", "NFKC", "NFKD")
]
ONE = unicodedata.normalize("NFD", "Åﬃne Ⅳ pass wörd")


@pytest.fixture
def typed_elsewhere(owner: User) -> User:
    """The password was set in another form than it will be tried in."""
    owner.set_password(ONE)
    owner.save()
    return owner


def access_of(client: ApiClient, password: str) -> str:
    tokens = data_of(client.post(TOKEN, {"email": KEPT, "password": password}))
    return str(tokens["access"])


@pytest.mark.parametrize("password", PASSWORDS)
def test_sign_in_with_any_form(password: str, typed_elsewhere: User, client: ApiClient) -> None:
    """[U1]"""
    access_of(client, password)


@pytest.mark.parametrize("password", PASSWORDS)
def test_register_takes_any_form(password: str, client: ApiClient) -> None:
    """[U1]"""
    client.post(REGISTER, {"email": KEPT, "password": password})

    access_of(client, ONE)


@pytest.mark.parametrize("password", PASSWORDS)
def test_password_change_takes_any_form(
    password: str, typed_elsewhere: User, client: ApiClient
) -> None:
    """[U1]"""
    own = ApiClient(access_of(client, ONE))
    body = {"current_password": password, "new_password": f"{password} 2"}

    assert own.post("/api/auth/password", body).status_code == 204
    access_of(client, f"{ONE} 2")


@pytest.mark.parametrize("password", PASSWORDS)
def test_reset_takes_any_form(password: str, owner: User, client: ApiClient) -> None:
    """[U1]"""
    body = {"token": make_reset_token(owner), "new_password": password}

    assert client.post("/api/auth/password/reset/confirm", body).status_code == 204
    access_of(client, ONE)


@pytest.mark.parametrize("password", PASSWORDS)
def test_deletion_takes_any_form(password: str, typed_elsewhere: User, client: ApiClient) -> None:
    """[U1]"""
    own = ApiClient(access_of(client, ONE))

    assert own.delete("/api/auth/me", {"password": password}).status_code == 204


@pytest.mark.parametrize("password", PASSWORDS)
def test_admin_takes_any_form(
    password: str, typed_elsewhere: User, olga_admin: Browser, client: ApiClient
) -> None:
    """[U1] Of a sign-in, of one's own password, of somebody's, and of a new account's."""
    User.objects.filter(pk=typed_elsewhere.pk).update(is_staff=True)
    browser = Browser()
    new = {"new_password1": f"{password} 2", "new_password2": f"{password} 2"}
    somebodys = {"password1": f"{password} 3", "password2": f"{password} 3"}

    signed_in = browser.post("/admin/login/", {"username": KEPT, "password": password})
    own = browser.post("/admin/password_change/", {"old_password": password, **new})
    access_of(client, f"{ONE} 2")
    other = olga_admin.post(f"{USERS}{typed_elsewhere.pk}/password/", somebodys)
    access_of(client, f"{ONE} 3")
    added = olga_admin.post(f"{USERS}add/", {"email": "ada@example.com", "name": "", **somebodys})

    assert [r.status_code for r in (signed_in, own, other, added)] == [302] * 4
    data_of(client.post(TOKEN, {"email": "ada@example.com", "password": f"{ONE} 3"}))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What somebody types at the prompts for a password."""
    answers: list[str] = []
    for command in (changepassword, createsuperuser):
        monkeypatch.setattr(command.getpass, "getpass", lambda *_, **__: answers.pop(0))
    yield answers
    assert answers == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


FAULTS = [
    pytest.param("　" * 12, "white space alone", id="white space"),
    pytest.param("１２３４５６７８９０１２", "entirely numeric", id="fullwidth digits"),
    pytest.param("ｐａｓｓｗｏｒｄ１２３", "too common", id="common, in fullwidth letters"),
    pytest.param("e\u0301" * 9, "at least 10 characters", id="18 that are 9"),
    pytest.param("ﷺ" * 8, "at most 128 characters", id="8 that are 144"),
    pytest.param("\u0315\u0300" * 8_000, "at most 128 characters", id="16,000 marks"),
]


@pytest.mark.parametrize(("password", "message"), FAULTS)
def test_changepassword_asks_of_the_form_that_is_hashed(
    password: str, message: str, owner: User, typed: list[str]
) -> None:
    """[U1] In a terminal Django asks three times."""
    typed += [password] * 6
    errors = io.StringIO()

    with pytest.raises(CommandError):
        call_command("changepassword", KEPT, stdout=io.StringIO(), stderr=errors)

    assert message in errors.getvalue()


@pytest.mark.django_db
def test_createsuperuser_asks_of_the_form_that_is_hashed(typed: list[str]) -> None:
    """[U1]"""
    short = "e\u0301" * 9
    typed += [short, short, ONE, ONE]
    errors = io.StringIO()
    answers = iter(["n"])  # to "Bypass password validation"
    patch = pytest.MonkeyPatch()
    patch.setattr("builtins.input", lambda _: next(answers))

    call_command(
        "createsuperuser", email=KEPT, stdin=Terminal(), stdout=io.StringIO(), stderr=errors
    )
    patch.undo()

    assert "at least 10 characters" in errors.getvalue()
    assert User.objects.get().check_password(unicodedata.normalize("NFKC", ONE))


@pytest.mark.parametrize(("password", "message"), FAULTS)
def test_admin_asks_of_the_form_that_is_hashed(
    password: str, message: str, olga_admin: Browser, alice: User
) -> None:
    """[U1]"""
    form = {"password1": password, "password2": password}

    response: Any = olga_admin.post(f"{USERS}{alice.pk}/password/", form)

    assert response.status_code == 200
    assert message in response.content.decode().replace("’", "'").replace("can't be ", "")


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        pytest.param(" " * 12, {"password_blank"}, id="spaces"),
        pytest.param("\u00a0\t\n" * 4, {"password_blank"}, id="odd white space"),
        pytest.param("e\u0301" * 9, {"min_length"}, id="18 that are 9"),
        pytest.param("ﷺ" * 8, {"max_length"}, id="8 that are 144"),
        pytest.param("\u0315\u0300" * 8_000, {"max_length"}, id="16,000 marks"),
        pytest.param("１２３４５６７８９０１２", {"password_entirely_numeric"}, id="digits"),
        pytest.param("ｐａｓｓｗｏｒｄ１２３", {"password_too_common"}, id="common"),
        pytest.param("ａｄａ＠ｅｘａｍｐｌｅ．ｃｏｍ", {"password_too_similar"}, id="address"),
    ],
)
def test_register_asks_of_the_form_that_is_hashed(
    password: str, codes: set[str], client: ApiClient
) -> None:
    """[U1]"""
    response = client.post(REGISTER, {"email": "ada@example.com", "password": password})

    faults = assert_error(response, 400, "VALIDATION_ERROR")["password"]
    assert {fault["code"] for fault in faults} == codes


@pytest.mark.parametrize("password", ["e\u0301" * 128, "\u1f82" * 128, "각" * 128])
def test_longest_passwords_in_any_form(password: str, client: ApiClient) -> None:
    """[U1] 128 characters may come as four times as many."""
    long = unicodedata.normalize("NFD", password)

    client.post(REGISTER, {"email": KEPT, "password": long})

    access_of(client, unicodedata.normalize("NFC", password))


@pytest.mark.parametrize("password", ["", "x" * 10_000, "\u0300" * 10_000])
def test_normalizing_is_done_once_and_for_all(password: str) -> None:
    once = normalize_password(password)

    assert normalize_password(once) == once


def test_white_space_around_a_password_counts(olga_admin: Browser, client: ApiClient) -> None:
    """[U1] In admin as in the API."""
    spaced = f" {PASSWORD} "
    form = {"email": KEPT, "name": "", "password1": spaced, "password2": spaced}
    olga_admin.post(f"{USERS}add/", form)

    access_of(client, spaced)
    refused = client.post(TOKEN, {"email": KEPT, "password": PASSWORD})
    assert_error(refused, 401, "INVALID_CREDENTIALS")


def test_users_validate_their_mailbox() -> None:
    """[U1] `full_clean`, whoever calls it."""
    with pytest.raises(ValidationError) as raised:
        User(email="a@ｌｏｃａｌｈｏｓｔ", password="x").clean_fields()

    assert raised.value.error_dict.keys() == {"email"}
