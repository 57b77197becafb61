"""How many passwords are hashed at once, and who is refused then.

What that is good for is measured by `python -m benchmarks.sign_ins`.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher, make_password
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory

from accounts import hashers
from accounts.mailed_tokens import make_reset_token
from accounts.models import User
from tests.client import ApiClient, Browser, assert_error
from tests.conftest import PASSWORD, begin_session
from tests.processes import wait_until
from todo_project.api.errors import HashingBusy
from todo_project.environment import Rate
from todo_project.middleware.gate import TURNS_VARIABLE, GateMiddleware
from todo_project.models import RateCounter

TOKEN = "/api/auth/token"
REGISTER = "/api/auth/register"
CHANGE = "/api/auth/password"
CONFIRM = "/api/auth/password/reset/confirm"
EMAIL = "/api/auth/email"
ME = "/api/auth/me"
NEW_PASSWORD = "staple battery horse correct"
SIGN_IN = {"email": "alice@example.com", "password": PASSWORD}
OWN_PASSWORD = {
    "old_password": PASSWORD,
    "new_password1": NEW_PASSWORD,
    "new_password2": NEW_PASSWORD,
}


class Hashes:
    """The hashes that are under way; none ends before `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.go_on.wait(timeout=60)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashes]:
    hashes = Hashes()

    def slow(method: Callable[..., Any]) -> Callable[..., Any]:
        def hashing(self: Any, *args: Any) -> Any:
            with hashes:
                return method(self, *args)

        return hashing

    for name in ("encode", "verify"):
        monkeypatch.setattr(Argon2PasswordHasher, name, slow(getattr(Argon2PasswordHasher, name)))
    yield hashes
    hashes.go_on.set()


@pytest.fixture
def full_share(alice: User, olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others hash, as many as may."""
    monkeypatch.setattr(hashers, "_places", threading.Semaphore(0))


def assert_busy(response: HttpResponse) -> None:
    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert response["Retry-After"] == "1"
    assert "RateLimit-Limit" not in response


@pytest.mark.parametrize("places", [settings.PASSWORD_HASHES_AT_ONCE, 2, 5])
@pytest.mark.django_db(transaction=True)
def test_so_many_hash_at_once_and_the_others_are_refused(
    places: int, hashes: Hashes, alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[N1] 16 sign in at once. While some hash, the others are answered, and everybody works on."""
    monkeypatch.setattr(hashers, "_places", threading.BoundedSemaphore(places))
    answers: list[HttpResponse] = []

    def sign_in(number: int) -> None:
        body = {"email": f"{number}@example.com", "password": PASSWORD}
        answers.append(ApiClient().post(TOKEN, body))
        connection.close()

    threads = [threading.Thread(target=sign_in, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 16 - places)
    wait_until(lambda: hashes.now == places)

    # Those that found a place free, and somebody faster in it, were counted for their network.
    assert [(answer.status_code, answer["Retry-After"]) for answer in answers] == [
        (503, "1")
    ] * len(answers)
    assert alice_client.get("/api/me/tasks").status_code == 200
    assert alice_client.post("/api/me/tasks", {"title": "x"}).status_code == 201
    assert ApiClient().get("/livez").status_code == 200
    assert_busy(ApiClient().post(TOKEN, SIGN_IN))
    hashes.go_on.set()
    for thread in threads:
        thread.join(timeout=60)
    assert [answer.status_code for answer in answers[16 - places :]] == [401] * places
    assert hashes.most == places
    # Who was refused is counted for no account. A network is, twice each that hashed, a write.
    assert RateCounter.objects.count() == 1 + 2 * places + 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", REGISTER, {"email": "x@example.com", "password": PASSWORD}, id="new"),
        pytest.param("POST", TOKEN, SIGN_IN, id="sign-in"),
        pytest.param("POST", TOKEN, {**SIGN_IN, "email": "nobody@example.com"}, id="unknown"),
        pytest.param("POST", TOKEN, b"{", id="no JSON"),
        pytest.param(
            "POST", CHANGE, {"current_password": PASSWORD, "new_password": "x" * 12}, id="change"
        ),
        pytest.param(
            "POST", EMAIL, {"email": "x@example.com", "password": PASSWORD}, id="change of address"
        ),
        pytest.param("DELETE", ME, {"password": PASSWORD}, id="delete"),
        pytest.param("POST", CONFIRM, {"token": "{token}", "new_password": "x" * 12}, id="reset"),
    ],
)
@pytest.mark.usefixtures("full_share")
def test_refusal_costs_nothing(
    method: str,
    path: str,
    body: Any,
    alice: User,
    alice_client: ApiClient,
    django_assert_num_queries: Any,
) -> None:
    """[N1] It is counted against no limit, and asks the database nothing."""
    if isinstance(body, dict) and "token" in body:
        body = {**body, "token": make_reset_token(alice)}

    with django_assert_num_queries(0):
        response = alice_client.call(method, path, body)

    assert_busy(response)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ME), ("PATCH", ME), ("POST", "/api/auth/token/refresh")]
)
@pytest.mark.usefixtures("full_share")
def test_what_hashes_nothing_is_not_refused(method: str, path: str, alice: User) -> None:
    """[N1]"""
    pair = begin_session(alice)
    body = {"POST": {"refresh": pair.refresh}, "PATCH": {"name": "x"}, "GET": b""}[method]

    assert ApiClient(pair.access).call(method, path, body).status_code == 200


@pytest.mark.parametrize(
    ("path", "form", "queries"),
    [
        pytest.param("/admin/login/", {"username": "x", "password": PASSWORD}, 0, id="sign-in"),
        # The request's session and its operator.
        pytest.param("/admin/password_change/", OWN_PASSWORD, 2, id="own password"),
    ],
)
@pytest.mark.usefixtures("full_share")
def test_refusal_of_a_form_costs_nothing(
    path: str, form: dict[str, str], queries: int, olga: User, django_assert_num_queries: Any
) -> None:
    """[N1]"""
    browser = Browser()
    if queries:
        browser.force_login(olga)

    with django_assert_num_queries(queries):
        response = browser.post(path, form)

    assert_busy(response)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        pytest.param("add/", {"email": "new@example.com"}, id="add"),
        pytest.param("{pk}/password/", {"usable_password": "true"}, id="set"),
    ],
)
def test_form_that_asked_for_no_place_changes_nothing(
    path: str,
    form: dict[str, str],
    alice: User,
    olga: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[N1] The hasher itself refuses."""
    browser = Browser()
    browser.force_login(olga)
    monkeypatch.setattr(hashers, "_places", threading.Semaphore(0))
    before = list(User.objects.values())

    response = browser.post(
        "/admin/accounts/user/" + path.format(pk=alice.pk),
        {**form, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD},
    )

    assert_busy(response)
    assert list(User.objects.values()) == before


@pytest.mark.usefixtures("full_share")
def test_nothing_hashes_without_a_place(alice: User) -> None:
    """[N1] Whoever calls."""
    for hash_something in (lambda: make_password("x"), lambda: alice.check_password("x")):
        with pytest.raises(HashingBusy):
            hash_something()


OUTCOMES: dict[str, tuple[str, str, Any, int]] = {
    "signed in": ("POST", TOKEN, SIGN_IN, 200),
    "wrong": ("POST", TOKEN, {**SIGN_IN, "password": "a wrong guess"}, 401),
    "no JSON": ("POST", TOKEN, b"{", 400),
    "no such method": ("DELETE", TOKEN, b"", 405),
    "no token": ("DELETE", ME, {"password": PASSWORD}, 401),
    "too often": ("POST", REGISTER, {}, 429),
    "defect": ("POST", CONFIRM, {"token": "x", "new_password": NEW_PASSWORD}, 500),
}


@pytest.mark.parametrize(("method", "path", "body", "status"), OUTCOMES.values(), ids=OUTCOMES)
def test_place_is_given_back(
    method: str,
    path: str,
    body: Any,
    status: int,
    alice: User,
    client: ApiClient,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[N1] However it ends, and once."""
    monkeypatch.setattr(hashers, "_places", threading.BoundedSemaphore(1))
    monkeypatch.setattr("accounts.views.passwords.user_of_reset_token", lambda token: 1 / 0)
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "register": Rate(1, 86_400)}
    if status == 429:
        client.post(REGISTER, {})

    assert client.call(method, path, body).status_code == status

    assert hashers._places.acquire(blocking=False)
    assert not hashers._places.acquire(blocking=False)


def test_refusal_leaves_the_gate_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """[N1] It is no sign of a database that hangs: whoever comes next waits for a turn."""
    monkeypatch.setenv(TURNS_VARIABLE, "1")
    is_working, go_on = threading.Event(), threading.Event()

    def get_response(request: Any) -> HttpResponse:
        if request.path == TOKEN:
            return HttpResponse(status=503)
        if request.path == "/slow":
            is_working.set()
            assert go_on.wait(timeout=30)
        return HttpResponse()

    middleware, requests = GateMiddleware(get_response), RequestFactory()
    assert middleware(requests.post(TOKEN)).status_code == 503
    slow = threading.Thread(target=middleware, args=(requests.get("/slow"),))
    slow.start()
    assert is_working.wait(timeout=30)
    threading.Timer(0.2, go_on.set).start()

    assert middleware(requests.get("/next")).status_code == 200
    slow.join(timeout=30)


@pytest.mark.parametrize(
    ("body", "status"), [({"email": "a@example.com", "password": "x"}, 429), ({}, 429)]
)
def test_what_is_refused_for_its_limit_takes_no_place(
    body: dict[str, str],
    status: int,
    client: ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    """[N1] Whoever has used their limit up keeps nobody from signing in."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "sign-in-address": Rate(1, 86_400)}
    client.post(TOKEN, body)
    monkeypatch.setattr("accounts.views.base.hashing", lambda: pytest.fail("a place was taken"))

    assert client.post(TOKEN, body).status_code == status
