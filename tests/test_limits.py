"""Limits: counted exactly, the same for all processes, and without locking anybody out."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.db import connection

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD
from todo_project.api.limits import Counter, count
from todo_project.environment import Rate
from todo_project.models import RateCounter

TOKEN = "/api/auth/token"


@pytest.fixture
def rates(settings: Any) -> Any:
    """Sets rates by keyword; everything else is off."""

    def set_rates(**changes: Rate) -> None:
        settings.RATE_LIMITS = {
            **dict.fromkeys(settings.RATE_LIMITS),
            **{name.replace("_", "-"): rate for name, rate in changes.items()},
        }

    return set_rates


@pytest.mark.parametrize(
    ("scope", "method", "path", "body", "status"),
    [
        ("sign-in-address", "POST", TOKEN, {}, 400),
        ("sign-in", "POST", TOKEN, {"email": "a@example.com", "password": "x"}, 401),
        ("sign-in-account", "POST", TOKEN, {"email": "a@example.com", "password": "x"}, 401),
        ("register", "POST", "/api/auth/register", {}, 400),
        ("refresh", "POST", "/api/auth/token/refresh", {"refresh": "x"}, 401),
        ("reset", "POST", "/api/auth/password/reset", {}, 400),
        ("reset", "POST", "/api/auth/password/reset/confirm", {}, 400),
        ("writes", "POST", "/api/me/tasks", {"title": "x"}, 201),
        ("writes", "PUT", "/api/me/tasks/x", {"title": "x"}, 404),
        ("writes", "PATCH", "/api/me/tasks/x", {}, 404),
        ("writes", "PATCH", "/api/me/tasks/x/complete", {}, 404),
        ("writes", "DELETE", "/api/me/tasks/x", b"", 404),
        ("writes", "PATCH", "/api/auth/me", {"name": "Alice"}, 200),
        ("sign-in", "DELETE", "/api/auth/me", {"password": "x"}, 400),
        ("sign-in-account", "DELETE", "/api/auth/me", {"password": "x"}, 400),
        ("sign-in", "POST", "/api/auth/me/delete", {"password": "x"}, 400),
        ("sign-in-account", "POST", "/api/auth/me/delete", {"password": "x"}, 400),
        (
            "sign-in",
            "POST",
            "/api/auth/password",
            {"current_password": "x", "new_password": "quite another password"},
            400,
        ),
        (
            "sign-in-account",
            "POST",
            "/api/auth/password",
            {"current_password": "x", "new_password": "quite another password"},
            400,
        ),
    ],
)
def test_limit_of_a_route(
    scope: str, method: str, path: str, body: Any, status: int, alice_client: ApiClient, rates: Any
) -> None:
    rates(**{scope.replace("-", "_"): Rate(3, 3600)})

    answers = [alice_client.call(method, path, body) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [status] * 3 + [429] * 2
    assert [answer["RateLimit-Limit"] for answer in answers] == ["3"] * 5
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert all(0 < int(answer["RateLimit-Reset"]) <= 3600 for answer in answers)
    assert_error(answers[-1], 429, "RATE_LIMITED")
    assert 0 < int(answers[-1]["Retry-After"]) <= 3600
    assert "Retry-After" not in answers[0]


def test_reads_are_not_limited(alice_client: ApiClient, task: Task, rates: Any) -> None:
    rates(writes=Rate(1, 3600))

    answers = [alice_client.get("/api/me/tasks") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert "RateLimit-Limit" not in answers[0]
    assert not RateCounter.objects.exists()


def test_limits_that_are_off_count_nothing(alice_client: ApiClient, rates: Any) -> None:
    rates()

    response = alice_client.post("/api/me/tasks", {"title": "x"})

    assert response.status_code == 201
    assert "RateLimit-Limit" not in response
    assert not RateCounter.objects.exists()


def test_writes_are_counted_for_each_person(
    alice_client: ApiClient, bob_client: ApiClient, rates: Any
) -> None:
    rates(writes=Rate(1, 3600))
    alice_client.post("/api/me/tasks", {"title": "x"})

    assert alice_client.post("/api/me/tasks", {"title": "x"}).status_code == 429
    assert bob_client.post("/api/me/tasks", {"title": "x"}).status_code == 201


def test_writes_to_tasks_and_to_the_account_are_counted_together(
    alice_client: ApiClient, rates: Any
) -> None:
    rates(writes=Rate(2, 3600))
    alice_client.post("/api/me/tasks", {"title": "x"})
    alice_client.patch("/api/auth/me", {"name": "Alicia"})

    assert alice_client.post("/api/me/tasks", {"title": "x"}).status_code == 429
    assert alice_client.patch("/api/auth/me", {"name": "Alice"}).status_code == 429
    assert alice_client.get("/api/auth/me").status_code == 200


def test_limit_comes_after_403_and_before_405(
    alice: User, bob: User, alice_client: ApiClient, rates: Any
) -> None:
    """[E1]"""
    rates(writes=Rate(1, 3600))

    assert alice_client.post(f"/api/{bob.pk}/tasks", {"title": "x"}).status_code == 403
    assert alice_client.delete("/api/me/tasks").status_code == 405
    assert alice_client.delete("/api/me/tasks").status_code == 429


@pytest.mark.django_db(transaction=True)
def test_write_that_the_database_refuses_counts_once(
    alice_client: ApiClient, rates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[E1] The statement takes its count back when it fails, and the refusal comes after 429."""
    monkeypatch.setattr("todo_project.api.serializers.validate_line", lambda text: None)
    rates(writes=Rate(2, 3600))

    answers = [alice_client.post("/api/me/tasks", {"title": "two\nlines"}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [400, 400, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    faults = assert_error(answers[0], 400, "VALIDATION_ERROR")["title"]
    assert [fault["code"] for fault in faults] == ["control_characters"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/auth/password"),
        ("DELETE", "/api/auth/me"),
        ("POST", "/api/auth/me/delete"),
    ],
)
def test_limit_of_ones_own_password_comes_before_400(
    method: str, path: str, alice_client: ApiClient, rates: Any
) -> None:
    """[E1]"""
    rates(sign_in=Rate(1, 3600))
    assert alice_client.call(method, path, b"{").status_code == 400

    assert_error(alice_client.call(method, path, b"{"), 429, "RATE_LIMITED")


@pytest.mark.parametrize(
    ("method", "path", "wrong"),
    [
        (
            "POST",
            "/api/auth/password",
            {"current_password": "a wrong guess", "new_password": "quite another password"},
        ),
        ("DELETE", "/api/auth/me", {"password": "a wrong guess"}),
    ],
    ids=["change", "delete"],
)
def test_limit_of_an_account_comes_before_400(
    method: str, path: str, wrong: dict[str, str], alice_client: ApiClient, rates: Any
) -> None:
    """[E1] [S4]"""
    rates(sign_in_account=Rate(1, 3600))
    assert alice_client.call(method, path, wrong).status_code == 400

    assert_error(alice_client.call(method, path, b"{"), 429, "RATE_LIMITED")


def test_window_ends(alice_client: ApiClient, rates: Any) -> None:
    rates(writes=Rate(1, 3600))
    alice_client.post("/api/me/tasks", {"title": "x"})
    assert alice_client.post("/api/me/tasks", {"title": "x"}).status_code == 429

    with connection.cursor() as cursor:
        cursor.execute('UPDATE todo_project_ratecounter SET "window" = "window" - 1')

    assert alice_client.post("/api/me/tasks", {"title": "x"}).status_code == 201


@pytest.mark.parametrize("email", ["alice@example.com", "Alice@EXAMPLE.com"])
def test_locked_out_attacker_does_not_lock_the_owner_out(
    email: str, alice: User, client: ApiClient, rates: Any
) -> None:
    rates(sign_in=Rate(3, 3600))
    guess = {"email": email, "password": "a wrong guess"}
    for _ in range(4):
        attack = client.post(TOKEN, guess)

    right = {"email": alice.email, "password": PASSWORD}
    from_elsewhere = client.generic(
        "POST",
        TOKEN,
        b'{"email": "alice@example.com", "password": "%s"}' % PASSWORD.encode(),
        content_type="application/json",
        REMOTE_ADDR="198.51.100.7",
    )

    assert attack.status_code == 429
    assert client.post(TOKEN, right).status_code == 429
    assert from_elsewhere.status_code == 200


def test_right_password_is_not_tried_once_locked_out(
    alice: User, client: ApiClient, rates: Any
) -> None:
    rates(sign_in=Rate(1, 3600))
    client.post(TOKEN, {"email": alice.email, "password": "a wrong guess"})

    client.post(TOKEN, {"email": alice.email, "password": PASSWORD})

    assert not alice.sessions.exists()


def _from(client: ApiClient, address: str, forwarded: str | None = None) -> int:
    extra: dict[str, Any] = {"REMOTE_ADDR": address}
    if forwarded is not None:
        extra["HTTP_X_FORWARDED_FOR"] = forwarded
    response = client.generic(
        "POST", "/api/auth/register", b"{}", content_type="application/json", **extra
    )
    return int(response.status_code)


@pytest.mark.parametrize(
    ("trusted", "calls", "statuses"),
    [
        pytest.param(
            0,
            [("10.0.0.1", "1.1.1.1"), ("10.0.0.1", "2.2.2.2")],
            [400, 429],
            id="a forged header changes nothing",
        ),
        pytest.param(0, [("10.0.0.1", None), ("10.0.0.2", None)], [400, 400], id="two addresses"),
        pytest.param(
            1,
            [("10.0.0.1", "1.1.1.1"), ("10.0.0.1", "2.2.2.2")],
            [400, 400],
            id="two clients behind a proxy",
        ),
        pytest.param(
            1,
            [("10.0.0.1", "9.9.9.9, 1.1.1.1"), ("10.0.0.1", "8.8.8.8, 1.1.1.1")],
            [400, 429],
            id="forged in front of what the proxy wrote",
        ),
        pytest.param(
            2,
            [("10.0.0.1", "9.9.9.9, 1.1.1.1, 10.0.0.9"), ("10.0.0.1", "1.1.1.1, 10.0.0.8")],
            [400, 429],
            id="two proxies",
        ),
        pytest.param(
            1, [("10.0.0.1", "nonsense"), ("10.0.0.2", "")], [400, 429], id="no address at all"
        ),
        pytest.param(
            1,
            [("10.0.0.1", "1.1.1.1:51234"), ("10.0.0.1", "2.2.2.2:51234")],
            [400, 400],
            id="two clients, with their ports",
        ),
        pytest.param(
            1,
            [("10.0.0.1", "1.1.1.1:51234"), ("10.0.0.1", "1.1.1.1:443"), ("10.0.0.1", "1.1.1.1")],
            [400, 429, 429],
            id="one client, from several ports",
        ),
        pytest.param(
            1,
            [("10.0.0.1", "[2001:db8:1:2::1]:443"), ("10.0.0.1", "[2001:db8:1:3::1]:443")],
            [400, 400],
            id="two IPv6 clients, with their ports",
        ),
        pytest.param(
            1,
            [("10.0.0.1", "[2001:db8:1:2::1]:443"), ("10.0.0.1", "2001:db8:1:2::3")],
            [400, 429],
            id="one IPv6 network, however it is written",
        ),
        pytest.param(
            0,
            [("2001:db8:1:2::1", None), ("2001:db8:1:2:ffff::2", None)],
            [400, 429],
            id="one IPv6 network",
        ),
        pytest.param(
            0, [("2001:db8:1:2::1", None), ("2001:db8:1:3::1", None)], [400, 400], id="two of them"
        ),
        pytest.param(
            0, [("::ffff:10.0.0.1", None), ("10.0.0.1", None)], [400, 429], id="mapped IPv4"
        ),
    ],
)
def test_address_is_believed_as_far_as_the_proxies_go(
    trusted: int,
    calls: list[tuple[str, str | None]],
    statuses: list[int],
    client: ApiClient,
    rates: Any,
    settings: Any,
) -> None:
    rates(register=Rate(1, 3600))
    settings.TRUSTED_PROXIES = trusted

    assert [_from(client, *call) for call in calls] == statuses


@pytest.mark.django_db
def test_table_holds_no_addresses(client: ApiClient) -> None:
    client.post(TOKEN, {"email": "a@example.com", "password": "x"})

    rows = str(list(RateCounter.objects.values()))

    assert RateCounter.objects.count() == 3
    assert "127.0.0.1" not in rows
    assert "example" not in rows


@pytest.mark.django_db
def test_table_is_unlogged() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relpersistence FROM pg_class WHERE relname = 'todo_project_ratecounter'"
        )
        assert cursor.fetchone() == ("u",)


SIGN_INS = """
import os, sys, threading, time
import django
django.setup()
from django.conf import settings
from django.db import connection
from todo_project.environment import Rate
from tests.client import ApiClient
settings.RATE_LIMITS = {**dict.fromkeys(settings.RATE_LIMITS), sys.argv[1]: Rate(50, 86400)}
settings.ALLOWED_HOSTS = ["testserver"]
settings.DATABASES["default"]["NAME"] = os.environ["TEST_DATABASE"]
statuses = []
def sign_in(tries):
    for _ in range(tries):
        body = {"email": "a@example.com", "password": "x"}
        while (response := ApiClient().post("/api/auth/token", body)).status_code == 503:
            time.sleep(0.05)  # too many hash, for which nothing is counted
        statuses.append(response.status_code)
    connection.close()
threads = [threading.Thread(target=sign_in, args=(5,)) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*statuses)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("scope", "hits"),
    [
        ("sign-in", 200),
        # What is refused counts for nothing.
        ("sign-in-account", 50),
    ],
)
def test_two_hundred_parallel_sign_ins_from_eight_processes_are_counted_exactly(
    scope: str, hits: int
) -> None:
    """[N1] [S4]"""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": connection.settings_dict["NAME"],
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SIGN_INS, scope],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]

    statuses = [status for out, _ in outputs for status in out.split()]
    assert len(statuses) == 200, outputs[0][1][-2000:]
    assert statuses.count("401") == 50
    assert statuses.count("429") == 150
    assert RateCounter.objects.get().hits == hits


@pytest.mark.django_db
def test_count_is_one_statement(django_assert_num_queries: Any) -> None:
    counter = Counter.of("writes", "someone")
    assert counter is not None

    with django_assert_num_queries(1):
        usage = count(counter)

    assert (usage.hits, usage.remaining, usage.is_exceeded) == (1, 1199, False)


def test_health_is_never_limited(client: ApiClient, rates: Any) -> None:
    rates(**{name: Rate(1, 3600) for name in ("sign_in", "register", "writes")})

    assert [client.get("/livez").status_code for _ in range(5)] == [200] * 5


def test_limits_of_a_person_end_with_nobody_else(
    alice: User, bob: User, client: ApiClient, rates: Any
) -> None:
    rates(sign_in=Rate(1, 3600))
    client.post(TOKEN, {"email": alice.email, "password": "a wrong guess"})

    assert data_of(client.post(TOKEN, {"email": bob.email, "password": PASSWORD}))
