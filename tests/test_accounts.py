"""Registration, sign-in, and the caller's own account."""

import json
import threading
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE as CHANGED
from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import identify_hasher
from django.db import connection

from accounts.models import Session, User
from tasks.models import Task
from tests.calls import count_calls
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.processes import PATIENCE_S

REGISTER = "/api/auth/register"
TOKEN = "/api/auth/token"
ME = "/api/auth/me"
DELETIONS = pytest.mark.parametrize(
    ("method", "path"),
    [pytest.param("DELETE", ME, id="DELETE"), pytest.param("POST", f"{ME}/delete", id="POST")],
)
CHANGE = "/api/auth/password"
NEW_PASSWORD = "staple battery horse correct"


def test_register_answers_the_user(client: ApiClient) -> None:
    """[U1] Lower-case address, UUIDv7, Argon2id at OWASP's parameters, no special rights."""
    response = client.post(
        REGISTER, {"email": "Ada@Example.COM", "password": PASSWORD, "name": " Ada "}
    )

    data = data_of(response, 201)
    user = User.objects.get()
    assert data == {
        "id": str(user.pk),
        "email": "ada@example.com",
        "email_verified": False,
        "name": "Ada",
        "created_at": f"{user.created_at:%Y-%m-%dT%H:%M:%S.%f}Z",
    }
    assert user.pk.version == 7
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert (user.is_staff, user.is_superuser, user.is_active) == (False, False, True)


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(" correct horse ", id="white space around it"),
        pytest.param("пароль-надёжный", id="Cyrillic"),
        pytest.param("🐎🔋📎✅🐎🔋📎✅🐎🔋", id="emoji"),
        pytest.param("x7" * 64, id="128 characters"),
    ],
)
def test_password_is_taken_as_it_comes(password: str, client: ApiClient) -> None:
    """[U1]"""
    credentials = {"email": "ada@example.com", "password": password}
    data_of(client.post(REGISTER, credentials), 201)

    assert data_of(client.post(TOKEN, credentials)).keys() == {"access", "refresh", "expires_in"}
    trimmed = {**credentials, "password": password.strip()}
    if trimmed != credentials:
        assert_error(client.post(TOKEN, trimmed), 401, "INVALID_CREDENTIALS")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        pytest.param("email", None, "null", id="null address"),
        pytest.param("email", "", "blank", id="empty address"),
        pytest.param("email", 5, "invalid", id="number as address"),
        pytest.param("email", "ada", "invalid", id="no @"),
        pytest.param("email", "ada@", "invalid", id="no domain"),
        pytest.param("email", "a b@example.com", "invalid", id="space"),
        pytest.param("email", "ada@example.com\x00", "null_characters_not_allowed", id="NUL"),
        pytest.param("email", "\u212aelvin@example.com", "invalid", id="Kelvin sign"),
        pytest.param("email", "é@example.com", "invalid", id="accent"),
        pytest.param("email", f"{'a' * 64}@{'.'.join(['b' * 60] * 4)}", "max_length", id="long"),
        pytest.param("email", f"a@{'.'.join([chr(0x130) * 10] * 20)}.de", "invalid", id="grows"),
        pytest.param("email", f"a@{'ü' * 60}.com", "invalid", id="no ASCII form"),
        pytest.param("password", "x7!kq9#b", "min_length", id="8 characters"),
        pytest.param("password", "x7" * 65, "max_length", id="130 characters"),
        pytest.param("password", "1234567890123", "password_entirely_numeric", id="numeric"),
        pytest.param("password", "qwertyuiop", "password_too_common", id="common"),
        pytest.param("password", "ada@example.com", "password_too_similar", id="the address"),
        pytest.param("password", "a\x00b" * 5, "null_characters_not_allowed", id="NUL in it"),
        pytest.param("password", 1234567890, "invalid", id="number"),
        pytest.param("name", "n" * 151, "max_length", id="long name"),
        pytest.param("name", None, "null", id="null name"),
        pytest.param("is_staff", True, "unknown", id="rights"),
        pytest.param("is_superuser", True, "unknown", id="more rights"),
        pytest.param("username", "ada", "unknown", id="user name"),
    ],
)
def test_register_refuses(field: str, value: Any, code: str, client: ApiClient) -> None:
    """[U1] [B2] [B4]"""
    body = {"email": "ada@example.com", "password": PASSWORD, field: value}

    response = client.post(REGISTER, body)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert code in {fault["code"] for fault in details[field]}
    assert not User.objects.exists()


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@example.COM"])
def test_taken_address_is_told(email: str, alice: User, client: ApiClient) -> None:
    """[U1]"""
    response = client.post(REGISTER, {"email": email, "password": PASSWORD})

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["email"][0]["code"] == "unique"


@pytest.mark.usefixtures("roomy_hashing")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_registrations_of_one_address_make_one_user() -> None:
    """[U1]"""
    barrier = threading.Barrier(4)
    statuses: list[int] = []

    def register(email: str) -> None:
        barrier.wait(PATIENCE_S)
        response = ApiClient().post(REGISTER, {"email": email, "password": PASSWORD})
        statuses.append(response.status_code)
        connection.close()

    threads = [
        threading.Thread(target=register, args=(email,))
        for email in ("ada@example.com", "Ada@example.com", "ADA@example.com", "ada@EXAMPLE.com")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert sorted(statuses) == [201, 400, 400, 400]
    assert User.objects.count() == 1


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@Example.com"])
def test_sign_in(email: str, alice: User, client: ApiClient) -> None:
    """[S1]"""
    response = client.post(
        TOKEN, {"email": email, "password": PASSWORD}, user_agent="Phone/1.0 (a test)"
    )

    data = data_of(response)
    session = Session.objects.get()
    assert data["expires_in"] == 900
    assert (session.user, session.user_agent, session.address) == (
        alice,
        "Phone/1.0 (a test)",
        "127.0.0.1",
    )
    assert ApiClient(data["access"]).get(ME).status_code == 200


@pytest.mark.parametrize(
    ("email", "password"),
    [
        pytest.param("alice@example.com", PASSWORD + "r", id="wrong password"),
        pytest.param("alice@example.com", PASSWORD.upper(), id="other case"),
        pytest.param("nobody@example.com", PASSWORD, id="unknown address"),
        pytest.param("no address", PASSWORD, id="no address"),
        pytest.param("inactive@example.com", PASSWORD, id="inactive account"),
    ],
)
def test_failed_sign_ins_are_answered_alike(
    email: str, password: str, alice: User, make_user: Any, client: ApiClient
) -> None:
    make_user("inactive@example.com", is_active=False)

    response = client.post(TOKEN, {"email": email, "password": password}, x_request_id="same")

    assert_error(response, 401, "INVALID_CREDENTIALS")
    assert json.loads(response.content)["error"]["message"] == (
        "The e-mail address or the password is wrong."
    )
    assert not Session.objects.exists()


FAILED_SIGN_INS = ("alice@example.com", "nobody@example.com", "inactive@example.com")


def test_every_failed_sign_in_hashes_once(
    alice: User, make_user: Any, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One duration: the hash is what takes the time. Each of them makes exactly one, as costly."""
    make_user("inactive@example.com", is_active=False)
    costs: list[tuple[int, ...]] = []
    hasher = type(identify_hasher(alice.password))
    verify, encode = hasher.verify, hasher.encode

    def note(self: Any, encoded: str) -> None:
        decoded = self.decode(encoded)
        names = ("time_cost", "memory_cost", "parallelism")
        costs.append(tuple(decoded[name] for name in names))

    def noted_verify(self: Any, password: str, encoded: str) -> bool:
        note(self, encoded)
        return verify(self, password, encoded)

    def noted_encode(self: Any, *args: Any) -> str:
        encoded = encode(self, *args)
        note(self, encoded)
        return encoded

    monkeypatch.setattr(hasher, "verify", noted_verify)
    monkeypatch.setattr(hasher, "encode", noted_encode)

    found = []
    for email in FAILED_SIGN_INS:
        costs.clear()
        client.post(TOKEN, {"email": email, "password": "wrong password"})
        found.append([*costs])

    assert found == [[(2, 19 * 1024, 1)]] * 3


def test_failed_sign_ins_do_as_much_beside_the_hash(
    alice: User, make_user: Any, client: ApiClient, settings: Any
) -> None:
    """The calls of all three lie within a tenth."""
    settings.RATE_LIMITS = dict.fromkeys(settings.RATE_LIMITS)
    make_user("inactive@example.com", is_active=False)
    calls: dict[str, list[int]] = {email: [] for email in FAILED_SIGN_INS}
    for _ in range(5):
        for email, counts in calls.items():
            body = {"email": email, "password": "a wrong password"}
            counts.append(count_calls(partial(client.post, TOKEN, body)))

    least = [min(counts) for counts in calls.values()]
    assert max(least) < 1.1 * min(least)


def test_me(alice: User, alice_client: ApiClient) -> None:
    data = data_of(alice_client.get(ME))

    assert data == {
        "id": str(alice.pk),
        "email": "alice@example.com",
        "email_verified": False,
        "name": "Alice",
        "created_at": f"{alice.created_at:%Y-%m-%dT%H:%M:%S.%f}Z",
    }


@pytest.mark.parametrize("name", ["Alice Liddell", "", "アリス"])
def test_me_changes_the_name(name: str, alice: User, alice_client: ApiClient) -> None:
    assert data_of(alice_client.patch(ME, {"name": name}))["name"] == name
    alice.refresh_from_db()
    assert alice.name == name


def test_me_can_be_sent_back(alice_client: ApiClient) -> None:
    """[B4]"""
    read = data_of(alice_client.get(ME))

    assert data_of(alice_client.patch(ME, read)) == read
    assert data_of(alice_client.patch(ME, {**read, "email": "Alice@EXAMPLE.com"})) == read


def test_me_of_an_account_that_is_deleted_meanwhile(alice: User, alice_client: ApiClient) -> None:
    def delete_before_update(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith('UPDATE "accounts_user"'):
            User.objects.filter(pk=alice.pk).delete()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(delete_before_update):
        response = alice_client.patch(ME, {"name": "Other"})

    assert_error(response, 401, "TOKEN_INVALID")


@DELETIONS
def test_operators_record_stays(method: str, path: str, olga: User, olga_client: ApiClient) -> None:
    """Deleting an operator's account would delete what the admin log has of it."""
    LogEntry.objects.log_actions(olga.pk, [olga], CHANGED, "changed")

    response = olga_client.call(method, path, {"password": PASSWORD})

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["non_field_errors"][0]["code"] == "operator"
    assert LogEntry.objects.count() == 1


def test_me_refuses_another_address(alice: User, alice_client: ApiClient) -> None:
    response = alice_client.patch(ME, {"email": "other@example.com", "name": "Other"})

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["email"][0]["code"] == "immutable"
    alice.refresh_from_db()
    assert (alice.email, alice.name) == ("alice@example.com", "Alice")


@DELETIONS
def test_me_is_deleted_with_everything(
    method: str, path: str, alice: User, bob: User, alice_client: ApiClient, task: Task
) -> None:
    """[S3]"""
    Task.objects.create(user_id=bob.pk, title="Bob's")

    response = alice_client.call(method, path, {"password": PASSWORD})

    assert (response.status_code, response.content) == (204, b"")
    assert list(User.objects.all()) == [bob]
    assert list(Task.objects.values_list("title", flat=True)) == ["Bob's"]
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")


@DELETIONS
@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "required"), ({"password": "wrong password"}, "wrong_password")],
    ids=["left out", "wrong"],
)
def test_me_is_not_deleted_without_the_password(
    method: str,
    path: str,
    body: dict[str, str],
    code: str,
    alice: User,
    alice_client: ApiClient,
) -> None:
    details = assert_error(alice_client.call(method, path, body), 400, "VALIDATION_ERROR")

    assert details["password"][0]["code"] == code
    assert User.objects.filter(pk=alice.pk).exists()


def test_password_change_ends_the_other_sessions(alice: User, client: ApiClient) -> None:
    """[S3]"""
    here, elsewhere = begin_session(alice), begin_session(alice)

    response = ApiClient(here.access).post(
        CHANGE, {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    )

    assert (response.status_code, response.content) == (204, b"")
    assert ApiClient(here.access).get(ME).status_code == 200
    assert_error(ApiClient(elsewhere.access).get(ME), 401, "TOKEN_INVALID")
    for refresh, status in ((here.refresh, 200), (elsewhere.refresh, 401)):
        response = client.post("/api/auth/token/refresh", {"refresh": refresh})
        assert response.status_code == status
    credentials = {"email": alice.email, "password": PASSWORD}
    assert_error(client.post(TOKEN, credentials), 401, "INVALID_CREDENTIALS")
    assert client.post(TOKEN, {**credentials, "password": NEW_PASSWORD}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"current_password": "wrong password"}, "current_password", "wrong_password"),
        ({"new_password": "qwertyuiop"}, "new_password", "password_too_common"),
        ({"new_password": "alice@example.com"}, "new_password", "password_too_similar"),
        ({"new_password": "short"}, "new_password", "min_length"),
        ({"new_password": None}, "new_password", "null"),
    ],
    ids=["wrong", "common", "similar", "short", "null"],
)
def test_password_change_refuses(
    body: dict[str, Any], field: str, code: str, alice: User, alice_client: ApiClient
) -> None:
    before = alice.password
    elsewhere = begin_session(alice)

    response = alice_client.post(
        CHANGE, {"current_password": PASSWORD, "new_password": NEW_PASSWORD, **body}
    )

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details[field][0]["code"] == code
    alice.refresh_from_db()
    assert alice.password == before
    assert ApiClient(elsewhere.access).get(ME).status_code == 200


@pytest.mark.usefixtures("roomy_hashing")
@pytest.mark.django_db(transaction=True)
def test_sign_in_racing_a_password_change_leaves_no_session_of_the_old_one(
    alice: User, settings: Any
) -> None:
    """[S3] Whoever signs in with the old password meanwhile is out afterwards, 5 times."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "sign-in": None}
    for turn in range(5):
        old, new = (PASSWORD, NEW_PASSWORD) if turn % 2 == 0 else (NEW_PASSWORD, PASSWORD)
        here = begin_session(alice)
        barrier = threading.Barrier(5)
        granted: list[str] = []

        def sign_in(password: str, barrier: threading.Barrier, granted: list[str]) -> None:
            barrier.wait(PATIENCE_S)
            response = ApiClient().post(TOKEN, {"email": alice.email, "password": password})
            if response.status_code == 200:
                granted.append(data_of(response)["access"])
            connection.close()

        threads = [threading.Thread(target=sign_in, args=(old, barrier, granted)) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait(PATIENCE_S)
        response = ApiClient(here.access).post(
            CHANGE, {"current_password": old, "new_password": new}
        )
        for thread in threads:
            thread.join(PATIENCE_S)

        assert response.status_code == 204
        for access in granted:
            assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")


def test_operators_password_change_ends_every_session(alice: User, alice_client: ApiClient) -> None:
    """[S3] Admin's form and `manage.py changepassword` save the user like this."""
    alice.set_password(NEW_PASSWORD)
    alice.save()

    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")


def test_password_taken_away_ends_every_session(alice: User, alice_client: ApiClient) -> None:
    """[S3]"""
    alice.set_unusable_password()
    alice.save()

    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("how", ["save", "queryset"])
def test_deactivation_ends_every_session_for_good(
    how: str, alice: User, alice_client: ApiClient
) -> None:
    """[S3]"""
    if how == "save":
        alice.is_active = False
        alice.save()
    else:
        assert User.objects.get_queryset().filter(pk=alice.pk).deactivate() == 1
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")

    User.objects.get_queryset().filter(pk=alice.pk).activate()

    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")


def test_inactive_person_is_refused_at_once_whoever_wrote_it(
    alice: User, alice_client: ApiClient
) -> None:
    """[S3] Not even raw SQL needs to know of sessions."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_active = false WHERE id = %s", [alice.pk])

    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")
