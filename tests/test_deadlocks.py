"""[V1] Who locks clocks and rows does so in one order: nobody waits for ever, whatever meets.

PostgreSQL ends one of those that do, which would be answered by 503; each answer here is none.
"""

import io
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, connections

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, Browser
from tests.conftest import PASSWORD, begin_session
from tests.processes import PATIENCE_S, wait_until
from todo_project.models import Clock

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "direct"])

LIST, BATCH = "/api/me/tasks", "/api/me/batch"
ADMIN = "/admin/tasks/task/"
THREADS = 8
WRITES = 10  # of each thread
TASKS = 10  # of each person, that all threads write
# What a write comes to while somebody else deletes, restores and changes the same tasks.
FINE = {200, 201, 204, 404}


@pytest.fixture
def admin(olga: User) -> Browser:
    browser = Browser(raise_request_exception=False)
    browser.force_login(olga)
    return browser


class Written(NamedTuple):
    """The statuses of what threads write, and how far those are."""

    statuses: list[int]
    runs: list[Future[None]]

    @property
    def is_over(self) -> bool:
        return all(run.done() for run in self.runs)


def add_tasks(user: User) -> list[str]:
    tasks = Task.objects.bulk_create(Task(user=user, title=f"{n}") for n in range(TASKS))
    return [str(task.pk) for task in tasks]


def write(client: ApiClient, ids: list[str]) -> int:
    """Something of each kind, one row's or many's; its status."""
    some = random.sample(ids, 4)
    row, title = some[0], str(uuid4())
    operations = [
        {"op": "create", "data": {"title": title}},
        *({"op": "update", "id": row_id, "data": {"title": title}} for row_id in some),
        {"op": "delete", "id": row},
        {"op": "restore", "id": row},
    ]
    works: list[Callable[[], Any]] = [
        lambda: client.post(LIST, {"title": title}, idempotency_key=title),
        lambda: client.patch(f"{LIST}/{row}", {"title": title}),
        lambda: client.delete(f"{LIST}/{row}"),
        lambda: client.post(f"{LIST}/{row}/restore"),
        lambda: client.post(BATCH, {"operations": operations, "atomic": False}),
    ]
    status: int = random.choice(works)().status_code
    return status


@contextmanager
def many_write(access: str, ids: list[str]) -> Iterator[Written]:
    """What threads write, which begin with the block; it ends when they do."""
    statuses: list[int] = []
    barrier = threading.Barrier(THREADS + 1)

    def run() -> None:
        try:
            barrier.wait(PATIENCE_S)
            statuses.extend(write(ApiClient(access), ids) for _ in range(WRITES))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        runs = [pool.submit(run) for _ in range(THREADS)]
        barrier.wait(PATIENCE_S)
        yield Written(statuses, runs)
        for each in runs:
            each.result(PATIENCE_S)


def repeat(work: Callable[[], object], written: Written) -> None:
    """For as long as the threads write."""
    work()
    while not written.is_over:
        work()


def test_admin_edits_while_threads_write(alice: User, admin: Browser) -> None:
    """One task's form, and actions on many, of which some come to nothing."""
    ids = add_tasks(alice)

    def edit() -> None:
        some = random.sample(ids, 5)
        form = {"title": "By Olga", "description": "", "completed_at_0": "", "completed_at_1": ""}
        form |= {"priority": "0", "repeat_from": "0"}
        assert admin.post(f"{ADMIN}{some[0]}/change/", form).status_code == 302
        action = random.choice(["move_to_trash", "restore"])
        response = admin.post(ADMIN, {"action": action, "_selected_action": some})
        assert response.status_code == 302

    with many_write(begin_session(alice).access, ids) as written:
        repeat(edit, written)

    assert set(written.statuses) <= FINE


@pytest.mark.parametrize("way", ["admin", "admin's action", "API"])
def test_person_is_deleted_while_threads_write(way: str, alice: User, admin: Browser) -> None:
    """Who writes on is told that the account is gone."""
    ids, access = add_tasks(alice), begin_session(alice).access
    with many_write(access, ids) as written:
        wait_until(lambda: len(written.statuses) >= THREADS)
        match way:
            case "admin":
                path = f"/admin/accounts/user/{alice.pk}/delete/"
                response = admin.post(path, {"post": "yes"})
            case "admin's action":
                form = {"action": "delete_selected", "_selected_action": alice.pk, "post": "yes"}
                response = admin.post("/admin/accounts/user/", form)
            case _:
                response = ApiClient(access).delete("/api/auth/me", {"password": PASSWORD})

    assert response.status_code in (204, 302)
    assert set(written.statuses) <= {*FINE, 401}
    assert not User.objects.filter(pk=alice.pk).exists()
    assert not Task.objects.exists()
    assert not Clock.objects.filter(user=alice.pk).exists()


def test_purge_while_batches_run(alice: User, settings: Any) -> None:
    """Of everything that lies in the trash, and was ever told."""
    ids = add_tasks(alice)
    settings.TRASH_KEPT = settings.CHANGES_KEPT = timedelta(0)
    settings.IDEMPOTENCY_KEYS_KEPT = timedelta(0)

    with many_write(begin_session(alice).access, ids) as written:
        repeat(lambda: call_command("purge_expired", stdout=io.StringIO()), written)

    assert set(written.statuses) <= FINE


def test_new_epochs_while_threads_write(alice: User) -> None:
    ids = add_tasks(alice)

    with many_write(begin_session(alice).access, ids) as written:
        repeat(lambda: call_command("new_epochs", "--batch", "1", stdout=io.StringIO()), written)

    assert set(written.statuses) <= FINE


def test_batches_of_two_people(alice: User, bob: User) -> None:
    """They meet nowhere."""
    ids, bobs = add_tasks(alice), add_tasks(bob)
    client = ApiClient(begin_session(bob).access)
    others: list[int] = []

    with many_write(begin_session(alice).access, ids) as written:
        repeat(lambda: others.append(write(client, bobs)), written)

    assert {*written.statuses, *others} <= FINE


def test_batches_that_take_each_others_ids(alice: User, bob: User) -> None:
    """The one case in which two people wait for each other: PostgreSQL ends one of the batches.

    It is undone and told to come again; the other stands.
    """
    ids = [str(uuid4()) for _ in range(2)]
    barrier = threading.Barrier(2)
    answers = []

    def take(access: str, order: list[str]) -> None:
        first, second = order
        filler = [
            {"op": "create", "data": {"title": "x", "description": "y" * 5000}} for _ in range(40)
        ]
        operations = [
            {"op": "create", "id": first, "data": {"title": "x"}},
            {"op": "delete", "id": first},  # so that the second is another statement
            *filler,
            {"op": "delete", "id": first},
            {"op": "create", "id": second, "data": {"title": "x"}},
        ]
        try:
            barrier.wait(PATIENCE_S)
            body = {"operations": operations, "atomic": False}
            answers.append(ApiClient(access).post(BATCH, body).status_code)
        finally:
            connections.close_all()

    for _ in range(5):
        people = [begin_session(person).access for person in (alice, bob)]
        threads = [
            threading.Thread(target=take, args=(access, order))
            for access, order in zip(people, (ids, ids[::-1]), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        Task.objects.all().delete()

    assert set(answers) <= {200, 503}
    assert answers.count(200) >= 5
    assert connection.is_usable()
