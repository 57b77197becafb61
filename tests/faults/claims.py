"""What the tests of faults have in common: requests, and what is expected of their answers."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import Any, Self
from uuid import uuid4

from django.conf import settings

from tests.processes import wait_until

from .postgres import PrivatePostgres
from .service import PROCESSES, THREADS, TIME_LIMIT_S, Account, Answer, Service, running

TASKS = "/api/me/tasks"
# Limits of time find what waits in vain, and not what is slow: a busy machine has all of this time
# for what takes an instant, and docs/operations.md has the figures of one that isn't.
#
# Nothing waits for the service's time limit twice.
UNAVAILABLE_S = 2 * TIME_LIMIT_S
# Less than old connections live, by whose end alone a service would recover.
RECOVERY_S = settings.CONNECTION_MAX_AGE_SECONDS / 2
# So many at once that every thread of the service gets some.
MANY = 4 * PROCESSES * THREADS
HASHING = ("/api/auth/token", "/api/auth/register")


def requests_of_all_kinds(service: Service, account: Account) -> list[tuple[Any, ...]]:
    """Requests that all need the database, and all succeed while it is well."""
    credentials = {"email": account.email, "password": account.password}
    newcomer = {"email": f"{uuid4()}@example.com", "password": account.password}
    with service.caller(account) as caller:
        task, doomed = (caller.call("POST", TASKS, {"title": "x"}).data["id"] for _ in range(2))
        pair = caller.call("POST", "/api/auth/token", credentials).data
    return [
        ("GET", "/readyz"),
        ("GET", TASKS),
        ("GET", f"{TASKS}/{task}"),
        ("POST", TASKS, {"title": "new"}),
        ("PUT", f"{TASKS}/{task}", {"title": "put"}),
        ("PATCH", f"{TASKS}/{task}", {"title": "patched"}),
        ("PATCH", f"{TASKS}/{task}/complete"),
        ("DELETE", f"{TASKS}/{doomed}"),
        ("POST", f"{TASKS}/{task}/restore"),
        ("GET", "/api/me/changes"),
        ("GET", "/api/me/trash"),
        ("GET", "/api/auth/me"),
        ("PATCH", "/api/auth/me", {"name": "Alice"}),
        ("GET", "/api/auth/sessions"),
        ("POST", "/api/auth/token", credentials),
        ("POST", "/api/auth/token/refresh", {"refresh": pair["refresh"]}),
        ("POST", "/api/auth/register", newcomer),
    ]


def answers_at_once(
    service: Service, requests: list[tuple[Any, ...]], account: Account
) -> list[Answer]:
    """All at the same time, but for those that hash, of which a process does one at a time."""
    hashing = [request for request in requests if request[1] in HASHING]
    answers = service.at_once([each for each in requests if each not in hashing], account)
    return answers + [answer for each in hashing for answer in service.at_once([each], account)]


def assert_unavailable(answer: Answer) -> None:
    """503 in the shape of an error, and nobody waited for the time limit twice."""
    assert answer.status == 503, answer
    assert answer.headers["content-type"] == "application/json"
    body = answer.body
    assert body.keys() == {"error", "meta"}
    assert body["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert body["error"]["details"] == {}
    assert body["meta"] == {"request_id": answer.headers["x-request-id"]}
    assert int(answer.headers["retry-after"]) > 0
    assert answer.seconds < UNAVAILABLE_S, answer


def assert_refused(service: Service, requests: list[tuple[Any, ...]], account: Account) -> None:
    """503, as soon as the database has refused: nobody waits for a time limit, or a turn."""
    known = len(service.faults())
    answers = answers_at_once(service, requests, account)
    for answer in answers:
        assert_unavailable(answer)
        assert answer.seconds < TIME_LIMIT_S, answer
    told = {fault["request_id"] for fault in service.faults()[known:]}
    assert told == {answer.headers["x-request-id"] for answer in answers}


def assert_alive(service: Service) -> None:
    """/livez follows nothing but the process."""
    with service.caller() as caller:
        answer = caller.call("GET", "/livez")
    assert answer.status == 200
    assert answer.seconds < TIME_LIMIT_S


@contextmanager
def probed(service: Service) -> Iterator[None]:
    """Somebody asks for /livez all the time, on new connections.

    Who waits for a turn gives up after a while, and has left the thread that answers.
    """
    answers: list[Answer] = []

    def probe(end: threading.Event) -> None:
        while not end.is_set():
            with service.caller() as caller:
                answers.append(caller.call("GET", "/livez"))
            time.sleep(0.1)

    with running(probe, probe, probe):
        yield
    assert {answer.status for answer in answers} == {200}
    slowest = max(answer.seconds for answer in answers)
    print(f"/livez: {len(answers)} answers, the slowest after {slowest:.2f} s")  # noqa: T201
    assert slowest < TIME_LIMIT_S
    # Nearly all come after somebody has waited for a turn in vain: from then on nobody does.
    assert median(answer.seconds for answer in answers) < settings.TURN_TIME_LIMIT_SECONDS


def assert_fast(service: Service) -> None:
    """/livez waits for no turn, in whichever process."""
    with service.caller() as one, service.caller() as other:
        answers = [caller.call("GET", "/livez") for caller in [one, other] * 5]
    assert {answer.status for answer in answers} == {200}
    assert median(answer.seconds for answer in answers) < settings.TURN_TIME_LIMIT_SECONDS


def assert_back(service: Service, account: Account) -> None:
    """Within RECOVERY_S every request succeeds again, whichever thread gets it."""
    since = time.monotonic()
    requests = [("GET", "/readyz"), ("GET", TASKS), ("POST", TASKS, {"title": "after"})] * 6
    while True:
        started = time.monotonic()
        answers = answers_at_once(service, requests, account)
        if all(answer.is_success for answer in answers):
            break
        assert started - since < RECOVERY_S, [str(answer) for answer in answers]
    print(f"back after {started - since:.2f} s")  # noqa: T201  # a figure of docs/operations.md


class Clients:
    """Several who go on calling whatever happens, until the block ends."""

    def __init__(self, service: Service, account: Account, *, readers: int, writers: int) -> None:
        self.answers: list[Answer] = []
        self._service = service
        self._account = account
        self._roles = [self._read] * readers + [self._write] * writers
        self._counts: Counter[int] = Counter()  # of each client's answers

    def wait(self) -> None:
        """Until each has sent a request after this was called, and has its answer."""
        before = Counter(self._counts)
        clients = range(len(self._roles))
        wait_until(lambda: all(self._counts[n] >= before[n] + 2 for n in clients))

    def wait_for_failure(self) -> None:
        known = len(self.answers)
        wait_until(lambda: not all(answer.is_success for answer in self.answers[known:]))

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        loops = [partial(role, number) for number, role in enumerate(self._roles)]
        self._stack.enter_context(running(*loops))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def reads(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.method == "GET"]

    @property
    def writes(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.method == "POST"]

    def _read(self, number: int, end: threading.Event) -> None:
        self._go_on(number, end, lambda: ("GET", TASKS))

    def _write(self, number: int, end: threading.Event) -> None:
        self._go_on(number, end, lambda: ("POST", TASKS, {"title": f"{uuid4()}"}))

    def _go_on(
        self, number: int, end: threading.Event, request: Callable[[], tuple[Any, ...]]
    ) -> None:
        with self._service.caller(self._account) as caller:
            while not end.is_set():
                self.answers.append(caller.call(*request()))
                self._counts[number] += 1
                time.sleep(0.01)


def assert_no_row_twice(postgres: PrivatePostgres, writes: list[Answer]) -> None:
    """Each task that was acknowledged is there once; one that wasn't is not there twice."""
    titles = [answer.sent["title"] for answer in writes]
    rows = postgres.execute("SELECT title FROM tasks_task WHERE title = ANY(%s)", titles)
    found = [title for (title,) in rows]
    assert len(set(found)) == len(found)
    assert {answer.sent["title"] for answer in writes if answer.is_success} <= set(found)
