"""A write that got 2xx is there afterwards, whatever was killed meanwhile."""

import random
import threading
import time
from collections import Counter
from http.client import HTTPException
from uuid import uuid4

import pytest

from tests.processes import wait_until

from .postgres import PrivatePostgres
from .service import Account, Answer, Service, running

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

TASKS = "/api/me/tasks"
WRITERS = 6
ROUNDS = 2
GONE = None


class Writer:
    """Creates, changes and deletes tasks of its own, and keeps account of what it was told."""

    def __init__(self, service: Service, account: Account) -> None:
        self._service = service
        self._account = account
        # The titles that each task may have by now; more than one where the last write got no
        # answer, or 503. GONE stands for a task that isn't there.
        self.states: dict[str, set[str | None]] = {}
        self.unanswered_titles: set[str] = set()  # of tasks whose id wasn't told
        self.outcomes: Counter[str] = Counter()

    def run(self, end: threading.Event) -> None:
        sure: list[str] = []  # tasks whose state is known
        with self._service.caller(self._account) as self._caller:
            while not end.is_set():
                if len(sure) < 5:
                    task = self._create()
                    if task is not None:
                        sure.append(task)
                    continue
                task = random.choice(sure)
                if random.random() < 0.7:
                    title = f"{uuid4()}"
                    is_sure = self._write("PATCH", task, title)
                else:
                    is_sure = self._write("DELETE", task, GONE) and False
                if not is_sure:  # one that was deleted, or must be left alone now
                    sure.remove(task)

    def _create(self) -> str | None:
        title = f"{uuid4()}"
        answer = self._call("POST", TASKS, title)
        if answer is None:
            self.unanswered_titles.add(title)
            return None
        task: str = answer.data["id"]
        self.states[task] = {title}
        return task

    def _write(self, method: str, task: str, title: str | None) -> bool:
        if self._call(method, f"{TASKS}/{task}", title) is None:
            self.states[task].add(title)
            return False
        self.states[task] = {title}
        return True

    def _call(self, method: str, path: str, title: str | None) -> Answer | None:
        """The answer where it is a success; whatever else it may be is checked here."""
        try:
            answer = self._caller.call(method, path, {"title": title} if title else None)
        except (OSError, HTTPException):
            self.outcomes["lost"] += 1
            time.sleep(0.05)
            return None
        if answer.is_success:
            self.outcomes[method] += 1
            return answer
        # 404 would say that a task is lost which was acknowledged.
        assert answer.status == 503, answer
        self.outcomes["503"] += 1
        return None


def test_acknowledged_writes_survive(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """PostgreSQL crashes, the service's processes are killed, one after another and together."""
    bob = service.register()
    writers = [Writer(service, bob) for _ in range(WRITERS)]

    def count() -> Counter[str]:
        return sum((writer.outcomes for writer in writers), Counter[str]())

    def wait_for(*outcomes: str, number: int = 1) -> None:
        before = count()
        wait_until(lambda: all(count()[name] >= before[name] + number for name in outcomes))

    def wait_for_work() -> None:
        wait_for("POST", "PATCH", "DELETE", number=4)

    with running(*(writer.run for writer in writers)):
        for _ in range(ROUNDS):
            wait_for_work()
            postgres.stop("immediate")
            wait_for("503")
            postgres.start()
            wait_for_work()
            random.choice(service.workers()).kill()
            wait_for_work()
            postgres.kill()
            wait_for("503")
            postgres.start()
            wait_for_work()
            service.kill()
            wait_for("lost")
            service.start()
        wait_for_work()

    rows = dict(
        postgres.execute(
            "SELECT task.id::text, task.title FROM tasks_task AS task"
            " JOIN accounts_user ON accounts_user.id = user_id"
            " WHERE email = %s AND deleted_at IS NULL",
            bob.email,
        )
    )
    outcomes = count()
    states = {task: state for writer in writers for task, state in writer.states.items()}
    assert [task for task, state in states.items() if rows.get(task) not in state] == []
    unknown = [title for task, title in rows.items() if task not in states]
    assert len(set(unknown)) == len(unknown)
    assert set(unknown) <= {title for writer in writers for title in writer.unanswered_titles}
    print(  # noqa: T201  # a figure of docs/operations.md
        f"{len(states)} tasks compared, {len(unknown)} more stored unanswered: {dict(outcomes)}"
    )
    # The failures did happen in the middle of work.
    assert min(outcomes[name] for name in ("POST", "PATCH", "DELETE")) > 20
    assert outcomes["503"]
    assert outcomes["lost"]
