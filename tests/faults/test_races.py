"""Requests that meet, and answers that are lost: each write takes place once, or is refused."""

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.processes import wait_until

from .postgres import PrivatePostgres
from .service import Account, Answer, Caller, Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

TASKS, TRASH, BATCH = (f"/api/me/{name}" for name in ("tasks", "trash", "batch"))
RACES = 200
TWINS = 20

Request = tuple[Any, ...]


def batch(operation: Mapping[str, Any], *, is_atomic: bool = True) -> Request:
    return ("POST", BATCH, {"operations": [operation], "atomic": is_atomic})


class ConditionalCaller(Caller):
    """Sends `if_match` where the request has a fourth part."""

    def send(self, method: str, path: str, body: Any = None, tag: str = "") -> Answer:
        return self.call(method, path, body, **({"If-Match": tag} if tag else {}))


def alone(method: str, end: str = "", **body: Any) -> Callable[[Any], Request]:
    return lambda task: (method, f"{TASKS}/{task['id']}{end}", body or None, task["etag"])


def by_batch(op: str, *, is_atomic: bool = True, **data: Any) -> Callable[[Any], Request]:
    def build(task: Any) -> Request:
        operation = {"op": op, "id": task["id"], "if_version": task["version"]}
        return batch({**operation, **({"data": data} if data else {})}, is_atomic=is_atomic)

    return build


# All of the first meet all of the second, on condition of one version.
ONE: dict[str, Callable[[Any], Request]] = {
    "PUT": alone("PUT", title="one"),
    "PATCH": alone("PATCH", title="one"),
    "complete": alone("PATCH", "/complete", is_completed=True),
    "DELETE": alone("DELETE"),
    "permanent DELETE": alone("DELETE", "?permanent=true"),
    "batch": by_batch("update", title="one"),
    "batch, not atomic": by_batch("complete", is_atomic=False, is_completed=True),
    "deletion by batch": by_batch("delete"),
}
OTHER: dict[str, Callable[[Any], Request]] = {
    "PUT": alone("PUT", title="other"),
    "PATCH": alone("PATCH", title="other"),
    "batch": by_batch("update", title="other"),
    "batch, not atomic": by_batch("update", is_atomic=False, title="other"),
}
# Of a task in the trash.
RESTORATIONS = {"restore": alone("POST", "/restore"), "batch": by_batch("restore")}
PURGES = {"permanent DELETE": alone("DELETE", "?permanent=true")}

PAIRS = [
    *((one, other, False) for one in ONE.values() for other in OTHER.values()),
    *((one, other, True) for one in RESTORATIONS.values() for other in PURGES.values()),
]


def outcome_of(answer: Answer) -> tuple[int, Any]:
    """Status, and `data` or `details`; of a batch that of its operation."""
    if answer.path != BATCH:
        body = answer.body if answer.content else {}
        return answer.status, body.get("data") or body.get("error", {}).get("details")
    if answer.status == 200:
        (found,) = answer.data
    else:
        assert answer.status == 409, answer
        (found,) = answer.body["error"]["details"]["operations"]
    return found["status"], found.get("data") or found.get("error", {}).get("details")


def test_of_two_who_saw_one_version_exactly_one_wins(service: Service, alice: Account) -> None:
    """[V2] [B6] 200 of 200; and the other is told what it wrote, or that the task is gone."""
    barrier = threading.Barrier(2)
    answers: list[Answer] = []

    def race(request: Request, caller: ConditionalCaller) -> None:
        barrier.wait()
        answers.append(caller.send(*request))

    pairs = itertools.islice(itertools.cycle(PAIRS), RACES)
    callers = [ConditionalCaller(service.port, alice.access) for _ in range(2)]
    with callers[0] as reader, callers[1]:
        for one, other, is_trashed in pairs:
            task = reader.call("POST", TASKS, {"title": "x"}).data
            if is_trashed:
                reader.call("DELETE", f"{TASKS}/{task['id']}")
                (task, *_) = (entry["resource"] for entry in reader.call("GET", TRASH).data)
            answers.clear()
            threads = [
                threading.Thread(target=race, args=(build(task), caller))
                for build, caller in zip((one, other), callers, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            outcomes = sorted(map(outcome_of, answers), key=lambda outcome: outcome[0])
            (won, written), (lost, told) = outcomes
            if won == 204:
                assert lost == 404, outcomes
            else:
                assert (won, lost) == (200, 412), outcomes
                assert told["current"] == written
                now = reader.call("GET", f"{TASKS}/{task['id']}")
                assert now.data == written
                assert written["version"] > task["version"]


# What 20 send at once with one key: of a task that is there, in the trash or not, or of none.
KEYED: dict[str, tuple[Callable[[Any], Request], bool]] = {
    "POST": (lambda task: ("POST", TASKS, {"title": "new"}), False),
    "PUT": (alone("PUT", title="new"), False),
    "PATCH": (alone("PATCH", title="new"), False),
    "complete": (alone("PATCH", "/complete"), False),
    "DELETE": (alone("DELETE"), False),
    "permanent DELETE": (alone("DELETE", "?permanent=true"), False),
    "restore": (alone("POST", "/restore"), True),
    "purge": (alone("DELETE", "?permanent=true"), True),
    "batch": (by_batch("delete"), False),
    "batch, creation": (lambda task: batch({"op": "create", "data": {"title": "new"}}), False),
}


def headers_of(request: Request, key: str) -> tuple[Request, dict[str, str]]:
    method, path, body, *tag = request
    headers = {"Idempotency-Key": key}
    if tag:
        headers["If-Match"] = tag[0]
    return (method, path, body), headers


@pytest.fixture
def clock(postgres: PrivatePostgres, alice: Account) -> Callable[[], int]:
    def read() -> int:
        rows = postgres.execute(
            "SELECT version FROM todo_project_clock JOIN accounts_user ON id = user_id"
            " WHERE email = %s",
            alice.email,
        )
        version: int = rows[0][0]
        return version

    return read


@contextmanager
def clock_held(postgres: PrivatePostgres, account: Account, waiting: int) -> Iterator[None]:
    """Ends when so many wait for the clock: their statements have begun, and see nothing newer."""
    with postgres.connect() as session:
        session.execute("BEGIN")
        session.execute(
            "SELECT FROM todo_project_clock AS clock JOIN accounts_user ON id = user_id"
            " WHERE email = %s FOR NO KEY UPDATE OF clock",
            [account.email],
        )
        yield
        wait_until(
            lambda: (
                postgres.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )[0][0]
                >= waiting
            )
        )
        session.execute("COMMIT")


def prepare(service: Service, account: Account, *, is_trashed: bool) -> Any:
    """A task, in the trash where it shall be."""
    with service.caller(account) as caller:
        task = caller.call("POST", TASKS, {"title": "x"}).data
        if is_trashed:
            caller.call("DELETE", f"{TASKS}/{task['id']}")
            task = caller.call("GET", TRASH).data[0]["resource"]
    return task


@pytest.mark.parametrize("is_conditional", [True, False], ids=["If-Match", "no condition"])
@pytest.mark.parametrize(("build", "is_trashed"), KEYED.values(), ids=KEYED)
def test_simultaneous_requests_with_one_key_are_one(
    build: Callable[[Any], Request],
    is_trashed: bool,
    is_conditional: bool,
    service: Service,
    postgres: PrivatePostgres,
    alice: Account,
    clock: Callable[[], int],
) -> None:
    """[I1] All get the first one's answer, and one change is made."""
    task = prepare(service, alice, is_trashed=is_trashed)
    request, headers = headers_of(build(task), str(uuid4()))
    if not is_conditional:
        headers.pop("If-Match", None)
    answers: list[Answer] = []
    before = clock()

    def send() -> None:
        with service.caller(alice) as caller:
            answers.append(caller.call(*request, **headers))

    threads = [threading.Thread(target=send) for _ in range(TWINS)]
    with clock_held(postgres, alice, waiting=2):  # whichever process they come to
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == TWINS
    assert {answer.status for answer in answers} <= {200, 201, 204}, list(map(str, answers))
    data = [answer.data if answer.content else None for answer in answers]
    assert data == [data[0]] * TWINS
    replayed = [answer.headers["Idempotent-Replayed"] for answer in answers]
    assert replayed.count("true") == TWINS - 1
    assert clock() - before == (0 if is_trashed and request[0] == "DELETE" else 1)


def test_simultaneous_creations_at_one_id_with_one_key_are_one(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """[I1] [V2] The id isn't said to be taken by what the request itself made."""
    path, headers = f"{TASKS}/{uuid4()}", {"Idempotency-Key": str(uuid4()), "If-None-Match": "*"}
    answers: list[Answer] = []

    def send() -> None:
        with service.caller(alice) as caller:
            answers.append(caller.call("PUT", path, {"title": "new"}, **headers))

    threads = [threading.Thread(target=send) for _ in range(TWINS)]
    with clock_held(postgres, alice, waiting=2):
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()

    assert [answer.status for answer in answers] == [201] * TWINS
    assert len({answer.data["version"] for answer in answers}) == 1


class Cutter:
    """Stands before PostgreSQL, and cuts a connection when an answer is on its way.

    That of the statement that holds `text`, which has committed by then.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._address = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        netloc = f"{parts.username}@127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = parts._replace(netloc=netloc).geturl()
        self.text = b""
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which closing alone does not
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._address)
            is_cut = threading.Event()
            for work in (self._pass_questions, self._pass_answers):
                threading.Thread(target=work, args=(client, server, is_cut), daemon=True).start()

    def _pass_questions(
        self, client: socket.socket, server: socket.socket, is_cut: threading.Event
    ) -> None:
        with suppress(OSError):
            while chunk := client.recv(65536):
                if self.text and self.text in chunk:
                    self.text = b""
                    is_cut.set()
                server.sendall(chunk)
            server.shutdown(socket.SHUT_WR)

    def _pass_answers(
        self, client: socket.socket, server: socket.socket, is_cut: threading.Event
    ) -> None:
        with client, server, suppress(OSError):
            while chunk := server.recv(65536):
                if is_cut.is_set():
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(chunk)


@pytest.fixture(scope="module")
def cut_off(_postgres: PrivatePostgres) -> Iterator[tuple[Service, Cutter]]:
    cutter = Cutter(_postgres.url)
    service = Service(cutter.url)
    service.start()
    try:
        yield service, cutter
    finally:
        service.stop()
        cutter.close()


def test_task_is_made_once_though_the_database_was_cut_off(
    cut_off: tuple[Service, Cutter], postgres: PrivatePostgres
) -> None:
    """[I1] After the commit, and before its answer: the retry gets it."""
    service, cutter = cut_off
    account, key, title = service.register(), str(uuid4()), str(uuid4())
    with service.caller(account) as caller:
        caller.call("POST", TASKS, {"title": "x"})  # connects
        cutter.text = key.encode()

        first = caller.call("POST", TASKS, {"title": title}, **{"Idempotency-Key": key})
        again = caller.call("POST", TASKS, {"title": title}, **{"Idempotency-Key": key})

    assert cutter.cuts == 1
    assert (first.status, again.status) == (503, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    rows = postgres.execute("SELECT id::text FROM tasks_task WHERE title = %s", title)
    assert rows == [(again.data["id"],)]


@pytest.mark.parametrize(("build", "is_trashed"), KEYED.values(), ids=KEYED)
def test_retry_of_what_was_not_answered_changes_nothing(
    build: Callable[[Any], Request],
    is_trashed: bool,
    service: Service,
    alice: Account,
    clock: Callable[[], int],
) -> None:
    """[I1] The client's connection is cut when the answer has arrived, and before it is read."""
    task = prepare(service, alice, is_trashed=is_trashed)
    request, headers = headers_of(build(task), str(uuid4()))
    before = clock()
    with service.caller(alice) as caller:
        connection = caller._connection
        sent = {**headers, "Authorization": f"Bearer {alice.access}"}
        body = None if request[2] is None else json.dumps(request[2])
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(request[0], request[1], body, sent)
        assert connection.sock.recv(1, socket.MSG_PEEK)
        connection.close()
        changed = clock() - before

        again = caller.call(*request, **headers)

    assert changed == (0 if is_trashed and request[0] == "DELETE" else 1)
    assert clock() - before == changed
    assert again.is_success
    assert again.headers["Idempotent-Replayed"] == "true"
