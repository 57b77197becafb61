"""The 503s of the contract's section 4: each fault of the database happens for real."""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from uuid import uuid4

import dj_database_url
import pytest
from django.conf import settings
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from tests.processes import wait_until

from .claims import (
    MANY,
    TASKS,
    Clients,
    answers_at_once,
    assert_alive,
    assert_back,
    assert_fast,
    assert_no_row_twice,
    assert_refused,
    assert_unavailable,
    probed,
    requests_of_all_kinds,
)
from .postgres import ROLE, PrivatePostgres
from .service import PROCESSES, THREADS, TIME_LIMIT_S, Account, Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

# A quarter of what a request waits for a turn, and so of anything that would end it.
FROZEN_S = settings.TURN_TIME_LIMIT_SECONDS / 4


def test_stopped_database(service: Service, postgres: PrivatePostgres, alice: Account) -> None:
    """Requests of every kind, on connections from before; /readyz is one of them."""
    requests = requests_of_all_kinds(service, alice)
    postgres.stop()

    for _ in range(2):  # on connections that broke, and without any
        assert_refused(service, requests, alice)
    assert_alive(service)

    postgres.start()
    assert_back(service, alice)
    with service.caller(alice) as caller:  # one by one: two of them hash
        assert all(caller.call(*request).is_success for request in requests)


def is_refused_everywhere(service: Service, requests: Sequence[Any], alice: Account) -> bool:
    """Whether no thread has a connection left that broke: each meets that once, and says so."""
    known = len(service.faults())
    service.at_once(requests, alice)
    return all("Connection refused" in fault["reason"] for fault in service.faults()[known:])


def test_outage_does_not_flood_the_log(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """A line for each request that failed, /readyz too; a traceback now and then."""
    requests = [("GET", TASKS), ("POST", TASKS, {"title": "secret plans"}), ("GET", "/readyz")] * 8
    postgres.stop()
    wait_until(lambda: is_refused_everywhere(service, requests, alice))
    known_lines, known_faults = len(service.log()), len(service.faults())

    started = time.monotonic()
    answers = [answer for _ in range(4) for answer in service.at_once(requests, alice)]
    seconds = time.monotonic() - started

    for answer in answers:
        assert_unavailable(answer)
    faults = service.faults()[known_faults:]
    ids = sorted(fault["request_id"] for fault in faults)
    assert ids == sorted(answer.headers["x-request-id"] for answer in answers)
    assert {fault["cause"] for fault in faults} == {"OperationalError"}
    reasons = [fault["reason"] for fault in faults]
    refused = [reason for reason in reasons if "Connection refused" in reason]
    # A machine that stalls has other reasons now and then, such as the time to connect.
    assert len(refused) >= 0.9 * len(reasons), set(reasons)
    assert not any("\n" in reason for reason in reasons), reasons
    assert sum("traceback" in fault for fault in faults) <= PROCESSES * (seconds + 1)
    log = service.log()[known_lines:]
    assert "secret plans" not in log
    print(f"{len(log) / len(answers):.0f} bytes of log for each 503")  # noqa: T201
    # Tracebacks come by the second, and there are more of them where requests take longer.
    lines = [line for line in log.splitlines() if '"traceback"' not in line]
    assert sum(map(len, lines)) / len(answers) < 1500


def test_fault_is_logged_without_the_row(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    quote = "RAISE 'sabotage' USING ERRCODE = 'serialization_failure', DETAIL = NEW.title;"
    known = len(service.faults())
    with postgres.trigger("tasks_task", "NOT DEFERRABLE", quote), service.caller(alice) as caller:
        for _ in range(3):
            assert_unavailable(caller.call("POST", TASKS, {"title": "a diagnosis"}))
            time.sleep(0.5)

    faults = service.faults()[known:]
    assert [(fault["sqlstate"], fault["reason"]) for fault in faults] == [("40001", "sabotage")] * 3
    assert any("traceback" in fault for fault in faults)
    assert "a diagnosis" not in service.log()


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_restart_under_load(
    mode: Literal["fast", "immediate", "kill"],
    service: Service,
    postgres: PrivatePostgres,
    alice: Account,
) -> None:
    with Clients(service, alice, readers=4, writers=4) as clients:
        clients.wait()
        if mode == "kill":
            postgres.kill()
        else:
            postgres.stop(mode)
        clients.wait_for_failure()
        postgres.start()
        assert_back(service, alice)
        clients.wait()  # what was under way has ended
        known = len(clients.answers)
        clients.wait()

    failed = [answer for answer in clients.answers if not answer.is_success]
    assert failed
    assert [str(answer) for answer in clients.answers[known:] if not answer.is_success] == []
    for answer in failed:
        assert_unavailable(answer)
    assert_no_row_twice(postgres, clients.writes)


def test_restart_that_nobody_noticed(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """The first write after it finds a dead connection, and takes another."""
    assert_back(service, alice)  # every thread is connected
    postgres.stop()
    postgres.start()

    answers = service.at_once([("POST", TASKS, {"title": "first"})] * MANY, alice)

    assert [answer.status for answer in answers] == [201] * MANY


def test_start_before_the_database(postgres: PrivatePostgres, alice: Account) -> None:
    postgres.stop()
    service = Service(postgres.url)
    service.start("--processes", "1")
    try:
        with service.caller() as caller:
            assert_unavailable(caller.call("GET", "/readyz"))
            assert_alive(service)
            postgres.start()
            bob = service.register()
        assert_back(service, bob)
    finally:
        service.stop()


def test_terminated_connections(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """Reads don't notice, because they are tried once more; writes never are."""
    with Clients(service, alice, readers=4, writers=4) as clients:
        terminated = 0
        while terminated < 20:
            clients.wait()  # no request meets two ends
            terminated += postgres.terminate_connections()
        clients.wait()

    assert [str(answer) for answer in clients.reads if answer.status != 200] == []
    for answer in clients.writes:
        if not answer.is_success:
            assert_unavailable(answer)
    assert_no_row_twice(postgres, clients.writes)


def test_crashed_backend(service: Service, postgres: PrivatePostgres, alice: Account) -> None:
    with Clients(service, alice, readers=2, writers=2) as clients:
        clients.wait()
        postgres.crash_connection()
        assert_back(service, alice)

    for answer in clients.answers:
        if not answer.is_success:
            assert_unavailable(answer)
    assert_no_row_twice(postgres, clients.writes)


def test_too_many_connections(service: Service, postgres: PrivatePostgres, alice: Account) -> None:
    requests = requests_of_all_kinds(service, alice)

    with postgres.exhausted():
        assert_refused(service, requests, alice)
        assert_alive(service)

    assert_back(service, alice)


def test_frozen_database(service: Service, postgres: PrivatePostgres, alice: Account) -> None:
    """More requests than threads: those that wait for one end in time too."""
    requests = requests_of_all_kinds(service, alice)

    with postgres.frozen():
        answers = answers_at_once(service, requests, alice)
        for answer in answers:
            assert_unavailable(answer)
        assert_alive(service)

    slowest = max(answer.seconds for answer in answers)
    print(f"the slowest 503 after {slowest:.2f} s")  # noqa: T201  # a figure of docs/operations.md
    assert_back(service, alice)


def test_transaction_that_hangs_ends_in_time(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """Nobody connects anew only to end it."""
    newcomers = [
        (
            "POST",
            "/api/auth/register",
            {"email": f"{uuid4()}@example.com", "password": "correct horse battery staple"},
        )
        for _ in range(PROCESSES * THREADS)
    ]
    assert_back(service, alice)

    with postgres.frozen():
        answers = service.at_once(newcomers, alice)

    for answer in answers:
        assert_unavailable(answer)
    assert_back(service, alice)


def test_livez_answers_while_the_database_hangs(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """Longer than a request may take, and under clients that keep coming."""
    assert_back(service, alice)
    with Clients(service, alice, readers=MANY, writers=MANY) as clients:
        with postgres.frozen(), probed(service):
            time.sleep(settings.REQUEST_TIME_LIMIT_SECONDS + 3)
        assert_back(service, alice)
        assert_fast(service)

    failed = [answer for answer in clients.answers if not answer.is_success]
    assert failed
    for answer in failed:
        assert_unavailable(answer)
    assert_no_row_twice(postgres, clients.writes)


def test_database_thaws_during_a_request(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    assert_back(service, alice)
    with Clients(service, alice, readers=4, writers=4) as clients:
        clients.wait()
        with postgres.frozen():
            time.sleep(FROZEN_S)
        clients.wait()

    assert {answer.status for answer in clients.answers} == {200, 201}
    assert max(answer.seconds for answer in clients.answers) > FROZEN_S / 2
    assert_no_row_twice(postgres, clients.writes)


def test_connection_with_an_error_is_closed_without_a_question(
    postgres: PrivatePostgres, django_db_blocker: DjangoDbBlocker
) -> None:
    """Nobody watches over what Django does between two requests: there it must not wait."""
    database = {
        **dj_database_url.parse(postgres.url),
        "ENGINE": settings.DATABASES["default"]["ENGINE"],
    }

    def end_request() -> bool:
        wrapper.close_if_unusable_or_obsolete()
        return wrapper.connection is None

    with django_db_blocker.unblock(), ThreadPoolExecutor() as pool:
        wrapper = ConnectionHandler({"default": database})["default"]
        wrapper.inc_thread_sharing()
        wrapper.ensure_connection()
        wrapper.errors_occurred = True
        with postgres.frozen():
            assert pool.submit(end_request).result(timeout=TIME_LIMIT_S)


def test_statement_timeout(service: Service, postgres: PrivatePostgres, alice: Account) -> None:
    with postgres.trigger("tasks_task", "NOT DEFERRABLE", "PERFORM pg_sleep(60);"):
        known = len(service.causes())
        with service.caller(alice) as caller:
            answer = caller.call("POST", TASKS, {"title": "slow"})

    assert_unavailable(answer)
    assert "canceling statement due to statement timeout" in "".join(service.causes()[known:])
    assert 4.5 < answer.seconds < TIME_LIMIT_S
    assert not postgres.execute("SELECT FROM tasks_task WHERE title = 'slow'")


def test_lock_timeout(service: Service, postgres: PrivatePostgres, alice: Account) -> None:
    with service.caller(alice) as caller, postgres.connect() as other:
        task = caller.call("POST", TASKS, {"title": "locked"}).data["id"]
        known = len(service.causes())
        with other.transaction():
            other.execute("SELECT FROM tasks_task WHERE id = %s FOR UPDATE", [task])
            answer = caller.call("PATCH", f"{TASKS}/{task}", {"title": "changed"})
            read = caller.call("GET", f"{TASKS}/{task}")
        after = caller.call("PATCH", f"{TASKS}/{task}", {"title": "changed"})

    assert_unavailable(answer)
    assert "canceling statement due to lock timeout" in "".join(service.causes()[known:])
    assert 1.9 < answer.seconds < TIME_LIMIT_S
    assert read.data["title"] == "locked"
    assert after.data["title"] == "changed"


def test_locked_rate_counters(postgres: PrivatePostgres) -> None:
    """Limits are on here: what has to be counted can't be, and reads go on."""
    limits = {
        f"RATE_LIMIT_{name.upper().replace('-', '_')}": "1000/minute"
        for name in settings.RATE_LIMITS
    }
    service = Service(postgres.url, limits)
    service.start("--processes", "1")
    try:
        bob = service.register()
        limited = [
            request
            for request in requests_of_all_kinds(service, bob)
            if request[0] != "GET" and request[1] != "/api/auth/me"
        ]
        known = len(service.causes())
        with service.caller(bob) as caller, postgres.connect() as other, other.transaction():
            other.execute("LOCK TABLE todo_project_ratecounter")
            answers = [caller.call(*request) for request in limited]
            read = caller.call("GET", TASKS)
        causes = service.causes()[known:]
        assert_back(service, bob)
    finally:
        service.stop()

    for answer in answers:
        assert_unavailable(answer)
    assert causes == ["canceling statement due to lock timeout"] * len(limited)
    assert len(limited) == 9
    assert read.status == 200


def test_idle_in_transaction_timeout(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """The service's processes stop inside of a transaction, and go on after the server ended it."""
    bob = service.register()
    change = {"current_password": bob.password, "new_password": "quite another passphrase"}
    connections = f"FROM pg_stat_activity WHERE usename = '{ROLE}'"
    waits = f"SELECT count(*) = 1 {connections} AND wait_event_type = 'Lock'"
    ended = f"SELECT count(*) = 0 {connections} AND xact_start IS NOT NULL"
    known = len(postgres.log.read_text())
    with ThreadPoolExecutor() as pool, service.caller(bob) as caller, postgres.connect() as other:
        with other.transaction():
            other.execute("SELECT FROM accounts_user WHERE email = %s FOR UPDATE", [bob.email])
            pending = pool.submit(caller.call, "POST", "/api/auth/password", change)
            postgres.wait_for(waits)
            workers = service.workers()
            for worker in workers:
                worker.suspend()
        try:
            postgres.wait_for(ended)
        finally:
            for worker in workers:
                worker.resume()
        answer = pending.result()
        again = caller.call("POST", "/api/auth/password", change)

    assert_unavailable(answer)
    assert "due to idle-in-transaction timeout" in postgres.log.read_text()[known:]
    assert again.status == 204


@pytest.mark.parametrize("by", ["setting", "standby"])
def test_read_only_server(
    by: Literal["setting", "standby"], service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    requests = requests_of_all_kinds(service, alice)
    is_read = [request[0] == "GET" and request[1] != "/readyz" for request in requests]
    cause = (
        postgres.standby()
        if by == "standby"
        else postgres.configured(default_transaction_read_only="on")
    )

    with cause:
        answers = answers_at_once(service, requests, alice)
        for answer in itertools.compress(answers, [not read for read in is_read]):
            assert_unavailable(answer)
        assert {answer.status for answer in itertools.compress(answers, is_read)} == {200}

    assert_back(service, alice)


COMMIT_FAULTS = {
    "serialization": "RAISE EXCEPTION 'sabotage' USING ERRCODE = 'serialization_failure';",
    "deadlock": "RAISE EXCEPTION 'sabotage' USING ERRCODE = 'deadlock_detected';",
    "terminated": "PERFORM pg_terminate_backend(pg_backend_pid());",
}


@pytest.mark.parametrize("fault", COMMIT_FAULTS.values(), ids=COMMIT_FAULTS)
@pytest.mark.parametrize(
    ("table", "method", "path", "body"),
    [
        pytest.param("tasks_task", "POST", TASKS, {"title": "new"}, id="create"),
        pytest.param("tasks_task", "PATCH", f"{TASKS}/{{task}}", {"title": "new"}, id="change"),
        pytest.param("tasks_task", "DELETE", f"{TASKS}/{{task}}", None, id="delete"),
        pytest.param("accounts_session", "POST", "/api/auth/token", {}, id="sign in"),
    ],
)
def test_failing_commit(
    table: str,
    method: str,
    path: str,
    body: dict[str, str] | None,
    fault: str,
    service: Service,
    postgres: PrivatePostgres,
    alice: Account,
) -> None:
    """A deferred trigger fails, which happens when the transaction ends."""
    with service.caller(alice) as caller:
        task = caller.call("POST", TASKS, {"title": "old"}).data["id"]
        if body == {}:
            body = {"email": alice.email, "password": alice.password}
        before = postgres.execute(f"SELECT * FROM {table} ORDER BY id")
        with postgres.trigger(table, "DEFERRABLE INITIALLY DEFERRED", fault):
            answer = caller.call(method, path.format(task=task), body)
        after = postgres.execute(f"SELECT * FROM {table} ORDER BY id")

    assert_unavailable(answer)
    assert after == before


def test_lost_acknowledgement_of_a_commit(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """The row is there, but nobody can know: 503, and not a second row."""
    title = f"{uuid4()}"
    waits = (  # autovacuum's commits do, too
        "SELECT count(*) = 1 FROM pg_stat_activity"
        " WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'"
    )
    with ThreadPoolExecutor() as pool, service.caller(alice) as caller:
        # Commits wait for a standby that doesn't exist.
        with postgres.configured(synchronous_standby_names="absent"):
            pending = pool.submit(caller.call, "POST", TASKS, {"title": title})
            postgres.wait_for(waits)
            postgres.terminate_connections()
            answer = pending.result()
        rows = postgres.execute("SELECT count(*) FROM tasks_task WHERE title = %s", title)

    assert_unavailable(answer)
    assert rows == [(1,)]
