"""Guessing one account's password from many networks: where it ends, and for whom it doesn't."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from accounts.models import Session, User
from tests.client import ApiClient, Browser
from tests.conftest import PASSWORD, begin_session
from todo_project.api.limits import Counter, reserve
from todo_project.environment import Rate
from todo_project.models import RateCounter

TOKEN = "/api/auth/token"
LIMIT = 3
WRONG = "a wrong guess"
ALICE = "alice@example.com"
HOME = "198.51.100.7"
A, B, C, D = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
SIX = "2001:db8:1:2"  # an IPv6 /64


class Try(NamedTuple):
    """A sign-in, and what comes of it."""

    network: str
    password: str
    status: int


@pytest.fixture(autouse=True)
def limit_of_an_account(settings: Any) -> None:
    """Every other limit is off."""
    off = dict.fromkeys(settings.RATE_LIMITS)
    settings.RATE_LIMITS = {**off, "sign-in-account": Rate(LIMIT, 86_400)}


def at(network: str, access: str | None = None) -> ApiClient:
    client = ApiClient(access)
    client.defaults["REMOTE_ADDR"] = network
    return client


def sign_in(network: str, password: str = WRONG, email: str = ALICE) -> HttpResponse:
    return at(network).post(
        TOKEN, {"email": email, "password": password}, x_request_id="of-every-try"
    )


def statuses(tries: Sequence[Try], email: str = ALICE) -> list[int]:
    return [sign_in(network, password, email).status_code for network, password, _ in tries]


def signed_in_at(user: User, address: str | None) -> str:
    """A session that lives, and its access token."""
    pair = begin_session(user)
    Session.objects.filter(user=user).update(address=address)
    return pair.access


CASES: dict[str, list[Try]] = {
    "one network": [*[Try(A, WRONG, 401)] * 3, Try(A, WRONG, 429), Try(A, PASSWORD, 429)],
    "many networks": [
        *[Try(network, WRONG, 401) for network in (A, B, C)],
        Try(D, WRONG, 429),
        Try(D, PASSWORD, 429),
    ],
    "right ones use nothing up": [
        *[Try(A, PASSWORD, 200)] * 8,
        *[Try(network, WRONG, 401) for network in (B, C, D)],
        Try(B, WRONG, 429),
    ],
    "right ones give nothing of the others back": [
        *[Try(B, WRONG, 401)] * 2,
        *[Try(A, PASSWORD, 200)] * 8,
        Try(B, WRONG, 401),
        Try(B, WRONG, 429),
    ],
    "who signed in is at home there": [
        Try(A, PASSWORD, 200),
        *[Try(B, WRONG, 401)] * 3,
        Try(B, PASSWORD, 429),
        Try(A, PASSWORD, 200),
    ],
}


@pytest.mark.parametrize("tries", CASES.values(), ids=CASES)
def test_tries_of_one_account(tries: list[Try], alice: User) -> None:
    """[S4] Wrong ones are counted, from all networks together."""
    assert statuses(tries) == [expected.status for expected in tries]


@pytest.mark.parametrize("count", [1, 50])
def test_owner_at_home_is_not_locked_out(count: int, alice: User) -> None:
    """[S4] However many guess elsewhere; and at home it ends, too, by a count of its own."""
    for _ in range(count):
        signed_in_at(alice, HOME)
    elsewhere = [sign_in(network).status_code for network in (A, B, C, D)]

    at_home = [sign_in(HOME).status_code for _ in range(LIMIT + 1)]

    assert elsewhere == [401, 401, 401, 429]
    assert at_home == [401, 401, 401, 429]
    assert sign_in(HOME, PASSWORD).status_code == 429
    assert sorted(RateCounter.objects.values_list("hits", flat=True)) == [LIMIT, LIMIT]


def test_guessing_at_home_locks_out_nowhere_else(alice: User) -> None:
    """[S4]"""
    signed_in_at(alice, HOME)
    for _ in range(LIMIT + 1):
        locked_out = sign_in(HOME).status_code

    assert locked_out == 429
    assert sign_in(A, PASSWORD).status_code == 200


@pytest.mark.parametrize(
    ("home", "network", "status"),
    [
        pytest.param(HOME, HOME, 200, id="the same address"),
        pytest.param(HOME, "198.51.100.8", 429, id="the next address"),
        pytest.param(f"{SIX}::1", f"{SIX}:ffff::9", 200, id="the same /64"),
        pytest.param(f"{SIX}::1", "2001:db8:1:3::1", 429, id="the next /64"),
        pytest.param(f"::ffff:{HOME}", HOME, 200, id="mapped IPv4"),
        pytest.param(HOME, f"::ffff:{HOME}", 200, id="IPv4, later mapped"),
        pytest.param(None, "", 429, id="no address"),
    ],
)
def test_where_the_owner_is_at_home(
    home: str | None, network: str, status: int, alice: User
) -> None:
    """[S4]"""
    signed_in_at(alice, home)
    for _ in range(LIMIT):
        sign_in(A)

    assert sign_in(network, PASSWORD).status_code == status


def _end(sessions: Any) -> None:
    sessions.end()


def _expire(sessions: Any) -> None:
    sessions.update(expires_at=Now())


@pytest.mark.parametrize("no_longer", [_end, _expire], ids=["ended", "expired"])
def test_network_of_a_session_that_is_over_is_no_home(
    no_longer: Callable[[Any], None], alice: User
) -> None:
    """[S4]"""
    signed_in_at(alice, HOME)
    no_longer(Session.objects.filter(user=alice))
    for _ in range(LIMIT):
        sign_in(A)

    assert sign_in(HOME, PASSWORD).status_code == 429


def test_home_of_somebody_else_is_none(alice: User, bob: User) -> None:
    """[S4]"""
    signed_in_at(bob, HOME)
    for _ in range(LIMIT):
        sign_in(A)

    assert sign_in(HOME, PASSWORD).status_code == 429


def test_address_that_looks_like_a_home_is_counted_by_itself(alice: User) -> None:
    """[S4] Whatever stands in `email`, it can't use up what is counted at the owner's home."""
    signed_in_at(alice, HOME)
    for email in (f"{HOME} {ALICE}", f"{ALICE} {HOME}", f"everywhere {ALICE}"):
        for _ in range(LIMIT + 1):
            sign_in(A, email=email)

    assert sign_in(HOME, PASSWORD).status_code == 200
    assert sign_in(A, PASSWORD).status_code == 200


@pytest.mark.parametrize("email", ["Alice@Example.COM", " alice@example.com "])
def test_account_is_one_however_it_is_written(email: str, alice: User) -> None:
    """[S4]"""
    for _ in range(LIMIT):
        sign_in(A, email=email)

    assert sign_in(B).status_code == 429


@pytest.mark.parametrize("email", ["nobody@example.com", "inactive@example.com", "no address"])
def test_nobody_learns_whether_there_is_an_account(
    email: str, alice: User, make_user: Callable[..., User]
) -> None:
    """[S4] The same answers to the byte, and as many statements, before the limit and beyond it."""
    signed_in_at(alice, HOME)
    make_user("inactive@example.com", is_active=False)

    def tries_of(email: str) -> list[Any]:
        found: list[Any] = []
        for network in (A, B, C, D, A):
            with CaptureQueriesContext(connection) as queries:
                response = sign_in(network, email=email)
            headers = {k: v for k, v in response.items() if k not in CLOCKS}
            found.append((response.status_code, response.content, headers, len(queries)))
        return found

    known = tries_of(ALICE)

    assert [status for status, *_ in known] == [401, 401, 401, 429, 429]
    assert tries_of(email) == known


# They count the seconds to the end of the window, which may pass between two tries.
CLOCKS = {"RateLimit-Reset", "Retry-After"}


@pytest.mark.usefixtures("roomy_hashing")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_guesses_from_many_networks_are_counted_exactly(alice: User) -> None:
    """[S4]"""
    assert sorted(_at_once([WRONG] * 12)) == [401] * LIMIT + [429] * (12 - LIMIT)


@pytest.mark.usefixtures("roomy_hashing")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_right_passwords_leave_nothing_behind(alice: User) -> None:
    """[S4] Even those that were refused, because too many were under way to check one more."""
    found = _at_once([PASSWORD] * 12)

    assert set(found) <= {200, 429}
    assert found.count(200) >= LIMIT
    assert RateCounter.objects.get().hits == 0


def _at_once(passwords: Sequence[str]) -> list[int]:
    """Signs in with all of these at the same time, each from a network of its own."""
    barrier = threading.Barrier(len(passwords))
    found: list[int] = []

    def guess(number: int, password: str) -> None:
        barrier.wait(timeout=30)
        found.append(sign_in(f"203.0.113.{number}", password).status_code)
        connection.close()

    threads = [threading.Thread(target=guess, args=each) for each in enumerate(passwords)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "is_counted"),
    [
        pytest.param(
            "POST",
            "/api/auth/password",
            {"current_password": WRONG, "new_password": "quite another password"},
            400,
            True,
            id="change, wrong",
        ),
        pytest.param(
            "POST",
            "/api/auth/password",
            {"current_password": PASSWORD, "new_password": "quite another password"},
            204,
            False,
            id="change, right",
        ),
        pytest.param(
            "POST",
            "/api/auth/password",
            {"current_password": WRONG, "new_password": "qwertyuiop"},
            400,
            False,
            id="change, not looked at",
        ),
        pytest.param("POST", "/api/auth/password", b"{", 400, False, id="change, no JSON"),
        pytest.param("DELETE", "/api/auth/me", {"password": WRONG}, 400, True, id="delete, wrong"),
        pytest.param(
            "DELETE", "/api/auth/me", {"password": PASSWORD}, 204, False, id="delete, right"
        ),
        pytest.param("DELETE", "/api/auth/me", {}, 400, False, id="delete, left out"),
        pytest.param("POST", "/api/auth/me", {}, 405, False, id="no such method"),
        pytest.param(
            "POST",
            "/api/auth/email",
            {"email": "new@example.com", "password": WRONG},
            400,
            True,
            id="address, wrong",
        ),
        pytest.param(
            "POST",
            "/api/auth/email",
            {"email": ALICE, "password": ""},
            400,
            False,
            id="no password",
        ),
        pytest.param("POST", TOKEN, {"email": ALICE, "password": WRONG}, 401, True, id="sign-in"),
        pytest.param("POST", TOKEN, {"email": ALICE}, 400, False, id="sign-in, left out"),
    ],
)
def test_what_counts_as_a_guess(
    method: str, path: str, body: Any, status: int, is_counted: bool, alice: User
) -> None:
    """[S4] A wrong password wherever it is asked for, and nothing else."""
    client = at(A, begin_session(alice).access)

    response = client.call(method, path, body)

    assert response.status_code == status
    assert sum(RateCounter.objects.values_list("hits", flat=True)) == is_counted


@pytest.mark.parametrize(
    ("path", "form", "status", "is_counted"),
    [
        pytest.param(
            "/admin/login/", {"username": "olga@example.com", "password": WRONG}, 200, True
        ),
        pytest.param(
            "/admin/login/", {"username": "olga@example.com", "password": PASSWORD}, 302, False
        ),
        # Told the same as of a wrong password.
        pytest.param(
            "/admin/login/", {"username": "alice@example.com", "password": PASSWORD}, 200, True
        ),
        pytest.param("/admin/login/", {"username": "olga@example.com"}, 200, False),
        pytest.param("/admin/password_change/", {"old_password": WRONG}, 200, True),
        pytest.param("/admin/password_change/", {"old_password": PASSWORD}, 200, False),
    ],
    ids=["wrong", "right", "of no operator", "left out", "own, wrong", "own, right"],
)
def test_what_counts_as_a_guess_in_admin(
    path: str, form: dict[str, str], status: int, is_counted: bool, alice: User, olga: User
) -> None:
    """[S4]"""
    browser = Browser()
    if path != "/admin/login/":
        browser.force_login(olga)

    response = browser.post(path, form)

    assert response.status_code == status
    assert sum(RateCounter.objects.values_list("hits", flat=True)) == is_counted


def test_admin_and_api_are_counted_together(olga: User) -> None:
    """[S4]"""
    browser = Browser(REMOTE_ADDR=B)
    own = at(C, begin_session(olga).access)
    sign_in(A, email=olga.email)
    browser.post("/admin/login/", {"username": olga.email, "password": WRONG})
    own.delete("/api/auth/me", {"password": WRONG})

    assert sign_in(A, PASSWORD, olga.email).status_code == 429
    page = browser.post("/admin/login/", {"username": olga.email, "password": PASSWORD})
    assert page.status_code == 429
    assert own.delete("/api/auth/me", {"password": PASSWORD}).status_code == 429


@pytest.mark.django_db
def test_what_is_given_back_is_taken_from_its_own_window() -> None:
    """[S4] Where the next window began meanwhile, its counts stay."""
    counter = Counter.of("sign-in-account", "someone")
    assert counter is not None
    earlier = reserve(counter)
    RateCounter.objects.update(window=F("window") + 1)

    earlier.give_back()

    assert RateCounter.objects.get().hits == 1
