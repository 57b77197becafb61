"""The service with a real identity provider beside it: a Better Auth server, which Neon Auth is.

Nothing here is made by hand: people sign up there by HTTP, and its own routes hand out the tokens.
"""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from django.core.management import call_command

from accounts.models import Identity, User
from tests.client import ApiClient, assert_error, data_of
from tests.providers.conftest import FORMS, BetterAuth, Person

pytestmark = [
    pytest.mark.node("tests/providers/better_auth"),
    pytest.mark.django_db,
]


@pytest.fixture
def carol(better_auth: BetterAuth) -> Person:
    """Somebody there, unknown here."""
    return better_auth.sign_up("carol@example.com", "Carol")


@pytest.fixture
def dave(better_auth: BetterAuth) -> Person:
    return better_auth.sign_up("dave@example.com", "Dave")


@pytest.mark.parametrize("better_auth", FORMS, indirect=True)
@pytest.mark.parametrize("owner", ["me", "id", "subject"])
def test_its_token_opens_every_route_of_tasks(
    owner: str, better_auth: BetterAuth, carol: Person
) -> None:
    """[A1] [A3] The very first request makes the person."""
    client = ApiClient(better_auth.token(carol))
    names: dict[str, Callable[[], str]] = {
        "me": lambda: "me",
        "id": lambda: str(data_of(client.get("/api/auth/me"))["id"]),
        "subject": lambda: quote(carol.subject, safe=""),
    }
    tasks = f"/api/{names[owner]()}/tasks"

    task = data_of(client.post(tasks, {"title": "Buy milk"}), 201)
    path = f"{tasks}/{task['id']}"
    assert data_of(client.get(tasks)) == [task]
    assert data_of(client.get(path)) == task
    assert data_of(client.put(path, {"title": "Buy bread"}))["title"] == "Buy bread"
    assert data_of(client.patch(path, {"description": "Rye"}))["description"] == "Rye"
    assert data_of(client.patch(f"{path}/complete"))["is_completed"] is True
    reopened = data_of(client.patch(f"{path}/complete", {"is_completed": False}))
    assert reopened["is_completed"] is False
    assert client.delete(path).status_code == 204

    identity = Identity.objects.get()
    assert (identity.issuer, identity.subject) == (better_auth.issuer, carol.subject)
    assert [str(user.pk) for user in User.objects.all()] == [task["user_id"]]
    assert str(identity.user_id) == task["user_id"]


def test_its_people_are_apart(better_auth: BetterAuth, carol: Person, dave: Person) -> None:
    """[A1]"""
    carols, daves = (ApiClient(better_auth.token(person)) for person in (carol, dave))
    task = data_of(carols.post("/api/me/tasks", {"title": "Mine"}), 201)

    for name in (task["user_id"], carol.subject):
        assert_error(daves.get(f"/api/{name}/tasks/{task['id']}"), 403, "PERMISSION_DENIED")
    assert_error(daves.get(f"/api/me/tasks/{task['id']}"), 404, "NOT_FOUND")
    assert data_of(daves.get("/api/me/tasks")) == []


@pytest.mark.parametrize(
    ("verified", "email"), [(False, None), (True, "carol@example.com")], ids=["unproved", "proved"]
)
def test_an_address_is_taken_where_it_is_proved_there(
    verified: bool, email: str | None, better_auth: BetterAuth, carol: Person
) -> None:
    """[A4] Better Auth says `emailVerified`."""
    if verified:
        better_auth.verify_email(carol)

    me = data_of(ApiClient(better_auth.token(carol)).get("/api/auth/me"))

    assert (me["email"], me["email_verified"], me["name"]) == (email, verified, "Carol")


def test_an_address_leads_into_no_account_that_is_here(
    better_auth: BetterAuth, alice: User, alice_client: ApiClient
) -> None:
    """[A4]"""
    other = better_auth.sign_up(alice.email, "Not Alice")
    better_auth.verify_email(other)
    client = ApiClient(better_auth.token(other))
    data_of(alice_client.post("/api/me/tasks", {"title": "Alice's"}), 201)

    me = data_of(client.get("/api/auth/me"))

    assert me["id"] != str(alice.pk)
    assert me["email"] is None
    assert data_of(client.get("/api/me/tasks")) == []


@pytest.mark.parametrize(("old", "status"), [("keep", 200), ("drop", 401)])
def test_a_new_key_counts_at_once(
    old: str, status: int, better_auth: BetterAuth, carol: Person
) -> None:
    """[A2] A token that is remembered falls with its key."""
    before = better_auth.token(carol)
    task = data_of(ApiClient(before).post("/api/me/tasks", {"title": "Buy milk"}), 201)
    better_auth.rotate(old=old)
    after = better_auth.token(carol)
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]

    # The old token says nothing: its key is known.
    assert ApiClient(before).get("/api/me/tasks").status_code == 200
    assert data_of(ApiClient(after).get("/api/me/tasks")) == [task]
    assert ApiClient(before).get("/api/me/tasks").status_code == status


def test_while_it_is_away_its_people_go_on_and_others_notice_nothing(
    better_auth: BetterAuth,
    carol: Person,
    dave: Person,
    alice_client: ApiClient,
    settings: Any,
) -> None:
    """[A2] Its keys are asked for again, in vain."""
    settings.ISSUER_KEYS_FRESH = timedelta(0)
    remembered = ApiClient(better_auth.token(carol))
    task = data_of(remembered.post("/api/me/tasks", {"title": "Buy milk"}), 201)
    fresh = ApiClient(better_auth.token(dave))  # of a known key, and never seen here
    better_auth.stop()

    assert data_of(remembered.get("/api/me/tasks")) == [task]
    data_of(fresh.post("/api/me/tasks", {"title": "Dave's"}), 201)
    data_of(alice_client.post("/api/me/tasks", {"title": "Alice's"}), 201)

    better_auth.start()
    assert data_of(ApiClient(better_auth.token(carol)).get("/api/me/tasks")) == [task]


def test_away_before_its_keys_are_known_it_is_missed_by_its_people_alone(
    better_auth: BetterAuth, carol: Person, alice_client: ApiClient
) -> None:
    """[A2] 503 and not 401, which front ends answer by signing people out."""
    client = ApiClient(better_auth.token(carol))
    better_auth.stop()

    response = client.get("/api/me/tasks")

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert int(response["Retry-After"]) > 0
    assert data_of(alice_client.get("/api/me/tasks")) == []


@pytest.mark.parametrize(
    "find",
    [
        pytest.param(lambda server, person: person.session, id="session"),
        pytest.param(
            lambda server, person: person.session.partition(".")[0], id="unsigned session"
        ),
        pytest.param(
            lambda server, person: person.cookies["better-auth.session_data"], id="cached session"
        ),
        pytest.param(lambda server, person: server.mailed_token(person), id="e-mail verification"),
    ],
)
def test_its_other_tokens_are_none(
    find: Callable[[BetterAuth, Person], str], better_auth: BetterAuth, carol: Person
) -> None:
    """[A1] The cached session is a JWT of the same issuer, person and key as the access token."""
    data_of(ApiClient(better_auth.token(carol)).get("/api/me/tasks"))

    response = ApiClient(find(better_auth, carol)).get("/api/me/tasks")

    assert_error(response, 401, "TOKEN_INVALID")


def test_check_issuer_knows_its_keys_and_its_token(
    better_auth: BetterAuth, carol: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A1]"""
    token = better_auth.token(carol)
    told = StringIO()
    monkeypatch.setattr("sys.stdin", StringIO(token))

    call_command("check_issuer", stdout=told)

    assert (
        f"kid {jwt.get_unverified_header(token)['kid']!r}, kty 'OKP', alg 'EdDSA'"
        in told.getvalue()
    )
    assert "token: good until" in told.getvalue()
    assert token not in told.getvalue()
