"""Many write for one person, others follow: each has exactly what is there, whatever breaks."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.copies import Copy
from tests.processes import wait_until

from .pgbouncer import HOW_TO_INSTALL, carries_prepared_statements, find, pgbouncer
from .postgres import DATABASE, ROLE, PrivatePostgres
from .service import Account, Answer, Caller, Service, running

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

TASKS, CHANGES, BATCH = (f"/api/me/{name}" for name in ("tasks", "changes", "batch"))
WRITERS = 16
FOLLOWERS = 4
PAGE = 7
WRITES = 12  # of each writer, where nothing breaks
SHARED = 5  # tasks that all write
OWN = 4  # tasks that a writer has at once, at most
GONE = None


class Writer:
    """Writes in all ways: to tasks of its own, of which it keeps account, and to shared ones."""

    def __init__(self, service: Service, account: Account, shared: Sequence[str]) -> None:
        self._service = service
        self._account = account
        self._shared = shared
        # The titles that each task may have by now; more than one where a write got no answer, or
        # 503. GONE stands for a task that isn't there, for its owner's lists.
        self.states: dict[str, set[str | None]] = {}
        self.outcomes: Counter[str] = Counter()
        self.count = 0

    def run(self, end: threading.Event) -> None:
        """Until it is told to end."""
        with self._service.caller(self._account) as self._caller:
            while not end.is_set():
                self._write()

    def run_through(self, end: threading.Event) -> None:
        """A number of writes, and no more."""
        with self._service.caller(self._account) as self._caller:
            for _ in range(WRITES):
                self._write()

    def _write(self) -> None:
        sure = [task for task, titles in self.states.items() if len(titles) == 1]
        living = [task for task in sure if self.states[task] != {GONE}]
        trashed = [task for task in sure if self.states[task] == {GONE}]
        works: list[Callable[[], None]] = [self._write_shared]
        if len(living) < OWN:
            works += [self._create, self._create_by_batch]
        if living:
            task = random.choice(living)
            works += [lambda: self._change(task), lambda: self._delete(task)]
            works += [lambda: self._change_by_batch(living)]
        if trashed:
            works.append(lambda: self._purge(random.choice(trashed)))
        random.choice(works)()
        self.count += 1

    def _create(self) -> None:
        """Under an id of the writer's own: what got no answer can be looked for."""
        task, title = str(uuid4()), str(uuid4())
        answer = self._call("PUT", f"{TASKS}/{task}", {"title": title}, is_new=True)
        self.states[task] = {title} if answer else {title, GONE}

    def _create_by_batch(self) -> None:
        titles = {str(uuid4()): str(uuid4()) for _ in range(2)}
        answer = self._batch(
            [{"op": "create", "id": id_, "data": {"title": t}} for id_, t in titles.items()]
        )
        for task, title in titles.items():
            self.states[task] = {title} if answer else {title, GONE}

    def _change(self, task: str) -> None:
        title = str(uuid4())
        method = random.choice(["PUT", "PATCH"])
        key = random.choice(["", str(uuid4())])
        answer = self._call(method, f"{TASKS}/{task}", {"title": title}, key=key)
        self._note(task, title, answer)

    def _delete(self, task: str) -> None:
        query = random.choice(["", "?permanent=true"])
        self._note(task, GONE, self._call("DELETE", f"{TASKS}/{task}{query}"))

    def _purge(self, task: str) -> None:
        """From the trash; what isn't there any more is forgotten."""
        self._call("DELETE", f"{TASKS}/{task}?permanent=true", fine=(404,))

    def _change_by_batch(self, tasks: Sequence[str]) -> None:
        titles = {task: str(uuid4()) for task in tasks}
        answer = self._batch(
            [
                operation
                for task, title in titles.items()
                for operation in (
                    {"op": "delete", "id": task},
                    {"op": "restore", "id": task},
                    {"op": "update", "id": task, "data": {"title": title}},
                    {"op": "complete", "id": task},
                )
            ]
        )
        for task, title in titles.items():
            self._note(task, title, answer)

    def _write_shared(self) -> None:
        """Whether it can be done depends on what the others do."""
        task, title = random.choice(self._shared), str(uuid4())
        requests: list[tuple[Any, ...]] = [
            ("PATCH", f"{TASKS}/{task}", {"title": title}),
            ("PATCH", f"{TASKS}/{task}/complete", {"is_completed": random.random() < 0.5}),
            ("DELETE", f"{TASKS}/{task}"),
            ("POST", f"{TASKS}/{task}/restore"),
        ]
        if random.random() < 0.3:
            changes: list[Mapping[str, Any]] = [
                {"op": "update", "id": id_, "data": {"title": title}} for id_ in self._shared
            ]
            self._batch(changes, is_atomic=random.random() < 0.5, fine=(409,))
        else:
            self._call(*random.choice(requests), fine=(404,))

    def _note(self, task: str, title: str | None, answer: Answer | None) -> None:
        self.states[task] = {title} if answer else {*self.states[task], title}

    def _batch(
        self,
        operations: Sequence[Mapping[str, Any]],
        *,
        is_atomic: bool = True,
        fine: Sequence[int] = (),
    ) -> Answer | None:
        body = {"operations": operations, "atomic": is_atomic}
        return self._call("POST", BATCH, body, fine=fine)

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        fine: Sequence[int] = (),
        key: str = "",
        is_new: bool = False,
    ) -> Answer | None:
        """The answer where it is a success, or `fine`; whatever else it may be is checked here."""
        headers = {"Idempotency-Key": key} if key else {}
        if is_new:
            headers["If-None-Match"] = "*"
        try:
            answer = self._caller.call(method, path, body, **headers)
        except (OSError, HTTPException):
            self.outcomes["lost"] += 1
            wait_a_little()
            return None
        if answer.status == 503:
            self.outcomes["503"] += 1
            wait_a_little()
            return None
        assert answer.is_success or answer.status in fine, answer
        self.outcomes["done"] += 1
        return answer


class Follower:
    """Keeps a copy by the feed, page by page, and begins with nothing."""

    def __init__(self, service: Service, account: Account) -> None:
        self._service = service
        self._account = account
        self.copy = Copy()
        self.pages = 0

    def run(self, end: threading.Event) -> None:
        """Until it has all that was there after it was told to end."""
        with self._service.caller(self._account) as caller:
            while True:
                is_last = end.is_set()
                self.copy.has_all = False
                while not self.copy.has_all:
                    self._read(caller)
                if is_last:
                    return

    def _read(self, caller: Caller) -> None:
        query = {"limit": PAGE, **({"since": self.copy.since} if self.copy.since else {})}
        try:
            answer = caller.call("GET", f"{CHANGES}?{urlencode(query)}")
        except (OSError, HTTPException):
            wait_a_little()
            return
        if answer.status == 503:
            wait_a_little()
            return
        assert answer.status == 200, answer
        self.copy.take(answer.data, answer.body["meta"])
        self.pages += 1


def wait_a_little() -> None:
    """Whoever got no answer doesn't ask all the time."""
    threading.Event().wait(0.05)


@pytest.fixture(scope="module")
def _pooled(_postgres: PrivatePostgres) -> Iterator[Service]:
    program = find()
    if program is None:
        pytest.skip(HOW_TO_INSTALL)
    with pgbouncer(program, _postgres, {"server_login_retry": "1"}) as port:
        is_prepared = carries_prepared_statements(program)
        service = Service(
            f"postgresql://{ROLE}@127.0.0.1:{port}/{DATABASE}",
            {"DATABASE_PREPARED_STATEMENTS": str(is_prepared).lower()},
        )
        service.start()
        try:
            yield service
        finally:
            service.stop()


@pytest.fixture(params=["direct", "pooled"])
def followed(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service at its database, or in front of a pooler. Its log must know of no defect."""
    name = "service" if request.param == "direct" else "_pooled"
    service: Service = request.getfixturevalue(name)
    known = len(service.defects())
    yield service
    assert service.defects()[known:] == []


@pytest.fixture
def account(followed: Service, postgres: PrivatePostgres) -> Account:
    return followed.register()


@pytest.fixture
def writers(followed: Service, account: Account) -> list[Writer]:
    with followed.caller(account) as caller:
        made = [caller.call("POST", TASKS, {"title": f"{n}"}) for n in range(SHARED)]
    shared = [answer.data["id"] for answer in made]
    return [Writer(followed, account, shared) for _ in range(WRITERS)]


@pytest.fixture
def followers(followed: Service, account: Account) -> list[Follower]:
    return [Follower(followed, account) for _ in range(FOLLOWERS)]


def assert_all_have_the_table(
    postgres: PrivatePostgres,
    account: Account,
    writers: Sequence[Writer],
    followers: Sequence[Follower],
) -> None:
    rows = postgres.execute(
        "SELECT task.id::text, title, is_completed, task.version FROM tasks_task AS task"
        " JOIN accounts_user ON accounts_user.id = user_id"
        " WHERE email = %s AND deleted_at IS NULL",
        account.email,
    )
    expected = {id_: row for id_, *row in rows}
    for follower in followers:
        found = {
            id_: [thing["title"], thing["is_completed"], thing["version"]]
            for (_, id_), thing in follower.copy.things.items()
        }
        assert found == expected
    states = {task: titles for writer in writers for task, titles in writer.states.items()}
    titles = {task: expected[task][0] if task in expected else GONE for task in states}
    assert [task for task in states if titles[task] not in states[task]] == []
    outcomes = sum((writer.outcomes for writer in writers), Counter[str]())
    print(  # noqa: T201  # a figure
        f"{len(expected)} tasks of {len(states)}, {[follower.pages for follower in followers]} "
        f"pages, {dict(outcomes)}"
    )


def test_followers_have_what_is_there(
    postgres: PrivatePostgres, account: Account, writers: list[Writer], followers: list[Follower]
) -> None:
    """[F1] [F2] However many write meanwhile, whatever commits late."""
    deadlocks = deadlocks_of(postgres)
    with (
        running(*(each.run for each in followers)),
        running(*(each.run_through for each in writers)),
    ):
        pass  # until the writers are through

    assert_all_have_the_table(postgres, account, writers, followers)
    assert all(follower.pages > 1 for follower in followers)
    assert sum(writer.outcomes["done"] for writer in writers) == WRITERS * WRITES
    assert deadlocks_of(postgres) == deadlocks


def test_followers_have_what_survives(
    followed: Service,
    postgres: PrivatePostgres,
    account: Account,
    writers: list[Writer],
    followers: list[Follower],
) -> None:
    """[F2] The server's processes are killed, and PostgreSQL crashes; what was told stands."""

    def count(name: str) -> int:
        return sum(writer.outcomes[name] for writer in writers)

    def wait_for(name: str, number: int = 1) -> None:
        before = count(name)
        wait_until(lambda: count(name) >= before + number)

    with running(*(each.run for each in followers)), running(*(each.run for each in writers)):
        wait_for("done", WRITERS)
        for _ in range(random.randint(1, 2)):
            random.choice(followed.workers()).kill()
            wait_for("done", WRITERS)
        postgres.stop("immediate")
        wait_for("503")
        postgres.start()
        wait_for("done", WRITERS)
        followed.kill()
        wait_for("lost")
        followed.start()
        wait_for("done", WRITERS)

    assert_all_have_the_table(postgres, account, writers, followers)
    assert count("lost")
    assert count("503")


def deadlocks_of(postgres: PrivatePostgres) -> int:
    """How many there were so far."""
    found: int = postgres.log.read_text().count("deadlock detected")
    return found
