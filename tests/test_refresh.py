"""[S2] What a refresh token is good for: once, once more while the answer may have been lost.

Time passes by moving the last refresh into the past, by the database's clock.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User, hash_token
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.processes import PATIENCE_S

ME = "/api/auth/me"
REFRESH = "/api/auth/token/refresh"


def pass_time(seconds: float) -> None:
    Session.objects.update(rotated_at=F("rotated_at") - timedelta(seconds=seconds))


class Step(NamedTuple):
    """Somebody uses refresh token number `token`, and gets that of number `answer`, or the end."""

    who: str
    token: int
    answer: int | None
    after: float = 0.0


def owner(token: int, answer: int | None, *, after: float = 0.0) -> Step:
    return Step("owner", token, answer, after)


def thief(token: int, answer: int | None, *, after: float = 0.0) -> Step:
    return Step("thief", token, answer, after)


# Token 0 is that of the sign-in; each one's successor has the next number. None: the session ends.
ORDERS = {
    "nobody steals": [owner(0, 1), owner(1, 2, after=3600), owner(2, 3, after=3600)],
    "an answer is lost": [owner(0, 1), owner(0, 1, after=59), owner(1, 2)],
    "an answer is lost again and again": [owner(0, 1), owner(0, 1), owner(0, 1), owner(1, 2)],
    "each answer is lost": [owner(0, 1), owner(0, 1), owner(1, 2), owner(1, 2), owner(2, 3)],
    "an answer is lost for too long": [owner(0, 1), owner(0, None, after=61)],
    "asking again gives no more time": [
        *(owner(0, 1), owner(0, 1, after=40)),
        owner(0, None, after=30),
    ],
    "the thief is first, the owner late": [thief(0, 1), owner(0, None, after=61)],
    "the owner is first, the thief late": [owner(0, 1), thief(0, None, after=61)],
    "the thief is first and goes on": [thief(0, 1), thief(1, 2), owner(0, None)],
    "the owner is first and goes on": [owner(0, 1), owner(1, 2), thief(0, None)],
    "the owner went on long ago": [owner(0, 1), owner(1, 2, after=900), thief(0, None, after=900)],
    "both are in time, then the owner is late": [
        *(owner(0, 1), thief(0, 1, after=30)),
        *(thief(1, 2, after=840), owner(1, None, after=61)),
    ],
    "both are in time, then the thief is late": [
        *(thief(0, 1), owner(0, 1, after=30)),
        *(owner(1, 2, after=840), thief(1, None, after=61)),
    ],
    "both are in time, twice; then one is late": [
        *(thief(0, 1), owner(0, 1), thief(1, 2, after=840), owner(1, 2, after=59)),
        *(owner(2, 3, after=840), thief(2, None, after=60)),
    ],
    "both are in time, and the owner uses the oldest": [
        *(thief(0, 1), owner(0, 1), thief(1, 2), owner(0, None)),
    ],
    "the thief has the one before the predecessor": [
        *(owner(0, 1), owner(1, 2), owner(2, 3), thief(0, None)),
    ],
    "the thief has the predecessor, whose successor is used later": [
        *(owner(0, 1), thief(0, 1, after=10), owner(1, 2, after=900)),
        thief(0, None, after=10),
    ],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_orders_of_owner_and_thief(order: list[Step], alice: User) -> None:
    """[S2] Who uses what when; at the end of a session everything that anybody has is worthless."""
    first = begin_session(alice)
    pairs = [(first.access, first.refresh)]

    for who, token, answer, after in order:
        pass_time(after)
        response = ApiClient().post(REFRESH, {"refresh": pairs[token][1]}, user_agent=who)
        if answer is None:
            assert_error(response, 401, "TOKEN_INVALID")
            continue
        data = data_of(response)
        if answer == len(pairs):
            pairs.append((data["access"], data["refresh"]))
        assert (data["access"], data["refresh"]) == pairs[answer]

    ended = order[-1].answer is None
    assert len(set(pairs)) == len(pairs)
    assert {ApiClient(access).get(ME).status_code for access, _ in pairs} == {401 if ended else 200}
    if ended:
        for _, refresh in pairs:
            response = ApiClient().post(REFRESH, {"refresh": refresh})
            assert_error(response, 401, "TOKEN_INVALID")


class Refreshes(RuleBasedStateMachine):
    """Whoever has whichever token of a session uses it at any time.

    The model is a sentence: only the newest token gets a new one, only the one before it gets the
    newest, in time; any other ends it all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        pair = begin_session(User.objects.create(email="alice@example.com"))
        self.pairs = [(pair.access, pair.refresh)]
        self.age = 0
        self.live = True

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.rollback.__exit__(None, None, None)

    @rule(seconds=st.sampled_from([1, 20, 40, 61]))
    def wait(self, seconds: int) -> None:
        pass_time(seconds)
        self.age += seconds

    @rule(steps_back=st.integers(0, 4))
    def refresh(self, steps_back: int) -> None:
        newest = len(self.pairs) - 1
        used = max(0, newest - steps_back)
        rotated_at = self._session()["rotated_at"]

        response = ApiClient().post(REFRESH, {"refresh": self.pairs[used][1]})

        if self.live and used == newest:
            data = data_of(response)
            self.pairs.append((data["access"], data["refresh"]))
            self.age = 0
            assert len(set(self.pairs)) == newest + 2
        elif self.live and used == newest - 1 and self.age < 60:
            data = data_of(response)
            assert (data["access"], data["refresh"]) == self.pairs[newest]
            assert self._session()["rotated_at"] == rotated_at
        else:
            assert_error(response, 401, "TOKEN_INVALID")
            self.live = False
        session = self._session()
        assert (session["ended_at"] is None) is self.live
        assert session["refresh_hash"] == hash_token(self.pairs[-1][1])

    @precondition(lambda self: self.live)
    @rule()
    def log_out(self) -> None:
        response = ApiClient().post("/api/auth/logout", {"refresh": self.pairs[0][1]})
        assert response.status_code == 204
        self.live = False

    @rule()
    def use_the_access_tokens(self) -> None:
        statuses = {ApiClient(access).get(ME).status_code for access, _ in self.pairs}
        assert statuses == {200 if self.live else 401}

    def _session(self) -> Any:
        return Session.objects.values("rotated_at", "ended_at", "refresh_hash").get()


@pytest.mark.django_db
def test_any_order_of_refreshes_leaves_one_chain(settings: Any) -> None:
    """[S2] At most one live chain; nothing for whoever has but an older token."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "refresh": None}
    run_state_machine_as_test(Refreshes, settings=EXHAUSTIVE)


EXHAUSTIVE = settings(
    max_examples=60,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_twenty_simultaneous_refreshes_get_one_pair(turn: int, alice: User) -> None:
    """[S2] Twenty threads with connections of their own: one rotates the token."""
    pair = begin_session(alice)
    barrier = threading.Barrier(20)
    answers: list[Any] = []

    def refresh() -> None:
        client = ApiClient()
        connection.ensure_connection()
        barrier.wait(PATIENCE_S)
        answers.append(client.post(REFRESH, {"refresh": pair.refresh}))
        connection.close()

    threads = [threading.Thread(target=refresh) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    pairs = {(data["access"], data["refresh"]) for data in map(data_of, answers)}
    assert len(answers) == 20
    assert len(pairs) == 1
    [(access, refresh_token)] = pairs
    session = Session.objects.get()
    assert session.refresh_hash == hash_token(refresh_token)
    assert session.previous_refresh_hash == hash_token(pair.refresh)
    assert ApiClient(access).get(ME).status_code == 200


@pytest.mark.parametrize(("used", "queries"), [("new", 1), ("spent", 2), ("stolen", 3)])
def test_refresh_queries(
    used: str,
    queries: int,
    alice: User,
    client: ApiClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[S2] An UPDATE, then a SELECT of the last rotation, then the end; and the limit."""
    pair = begin_session(alice)
    fresh = data_of(client.post(REFRESH, {"refresh": pair.refresh}))
    if used == "stolen":
        pass_time(61)
    token = fresh["refresh"] if used == "new" else pair.refresh

    with django_assert_num_queries(queries + 1):
        response = client.post(REFRESH, {"refresh": token})

    assert response.status_code == (401 if used == "stolen" else 200)


def log_out(alice: User, access: str, refresh: str) -> None:
    assert ApiClient().post("/api/auth/logout", {"refresh": refresh}).status_code == 204


def log_out_everywhere(alice: User, access: str, refresh: str) -> None:
    assert ApiClient(access).post("/api/auth/logout-all").status_code == 204


def change_password_elsewhere(alice: User, access: str, refresh: str) -> None:
    body = {"current_password": PASSWORD, "new_password": "another long enough one"}
    response = ApiClient(begin_session(alice).access).post("/api/auth/password", body)
    assert response.status_code == 204


def deactivate(alice: User, access: str, refresh: str) -> None:
    User.objects.get_queryset().deactivate()


def deactivate_by_the_flag_alone(alice: User, access: str, refresh: str) -> None:
    User.objects.get_queryset().update(is_active=False)


def expire(alice: User, access: str, refresh: str) -> None:
    Session.objects.update(expires_at=timezone.now())


def delete_account(alice: User, access: str, refresh: str) -> None:
    response = ApiClient(access).delete(ME, {"password": PASSWORD})
    assert response.status_code == 204


@pytest.mark.parametrize(
    "end",
    [
        *(log_out, log_out_everywhere, change_password_elsewhere, deactivate),
        *(deactivate_by_the_flag_alone, expire, delete_account),
    ],
)
def test_ended_session_answers_no_lost_refresh(
    end: Callable[[User, str, str], None], alice: User, client: ApiClient
) -> None:
    """[S2] [S3]"""
    pair = begin_session(alice)
    fresh = data_of(client.post(REFRESH, {"refresh": pair.refresh}))

    end(alice, fresh["access"], fresh["refresh"])

    for token in (pair.refresh, fresh["refresh"]):
        assert_error(client.post(REFRESH, {"refresh": token}), 401, "TOKEN_INVALID")


def test_pair_again_tells_the_time_that_is_left(alice: User, client: ApiClient) -> None:
    """[S2] The same tokens; `expires_in` counts on. It is no use of the session."""
    pair = begin_session(alice)
    fresh = data_of(client.post(REFRESH, {"refresh": pair.refresh}))
    pass_time(30)
    before = Session.objects.values().get()

    again = data_of(client.post(REFRESH, {"refresh": pair.refresh}))

    left = again.pop("expires_in")
    assert 810 < left <= 870
    assert again == {"access": fresh["access"], "refresh": fresh["refresh"]}
    assert Session.objects.values().get() == before


@pytest.mark.parametrize("seconds", [-50, 50], ids=["behind", "ahead"])
def test_pair_again_is_made_by_an_instance_of_another_clock(
    seconds: int, alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[S2] The one that rotated the token was behind or ahead; the minute is the database's."""
    pair = begin_session(alice)
    now = timezone.now
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(timezone, "now", lambda: now() + timedelta(seconds=seconds))
        fresh = data_of(client.post(REFRESH, {"refresh": pair.refresh}))
    pass_time(40)

    again = data_of(client.post(REFRESH, {"refresh": pair.refresh}))

    assert (again["access"], again["refresh"]) == (fresh["access"], fresh["refresh"])
    assert 800 < again["expires_in"] <= 860
    assert ApiClient(again["access"]).get(ME).status_code == 200
    data_of(client.post(REFRESH, {"refresh": again["refresh"]}))


def test_pair_that_cannot_be_made_again_is_refused(alice: User, client: ApiClient) -> None:
    """[S2] As after a change of the key: what doesn't have the stored hash is given to nobody.

    It is no theft either; whoever has the new token goes on.
    """
    pair = begin_session(alice)
    fresh = data_of(client.post(REFRESH, {"refresh": pair.refresh}))
    Session.objects.update(issued_at=F("issued_at") - timedelta(seconds=1))

    assert_error(client.post(REFRESH, {"refresh": pair.refresh}), 401, "TOKEN_INVALID")

    data_of(client.post(REFRESH, {"refresh": fresh["refresh"]}))


def test_refresh_ends_no_other_session(alice: User, bob: User, client: ApiClient) -> None:
    """[S2] Theft ends the session of the token alone."""
    others = [begin_session(alice), begin_session(bob)]
    pair = begin_session(alice)
    data_of(client.post(REFRESH, {"refresh": pair.refresh}))
    pass_time(61)

    assert_error(client.post(REFRESH, {"refresh": pair.refresh}), 401, "TOKEN_INVALID")

    assert [ApiClient(other.access).get(ME).status_code for other in others] == [200, 200]
