"""`manage.py purge_expired`, of what people's devices were told of."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.test_clock import changes_of, other_session, version_of
from todo_project.models import Change, Clock, IdempotencyKey, Purged

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "direct"])


def purge(*arguments: str) -> str:
    printed = io.StringIO()
    call_command("purge_expired", *arguments, stdout=printed)
    return printed.getvalue()


def ago(**since: float) -> datetime:
    return datetime.now(UTC) - timedelta(**since)


def trash(user: User, deleted_at: datetime, count: int = 1) -> list[Task]:
    tasks = [Task(user=user, title=f"{n}", deleted_at=deleted_at) for n in range(count)]
    return list(Task.objects.bulk_create(tasks))


def purged_version(user: User) -> int:
    return Clock.objects.get(user=user).purged_version


def test_trash_is_kept_for_thirty_days(alice: User, bob: User, task: Task) -> None:
    """[D1] Then it goes, as of the version of its deletion, which nobody is told of again."""
    old = trash(alice, ago(days=30, minutes=1), count=5)
    trash(alice, ago(days=29, hours=23))
    trash(bob, ago(days=31))
    before = version_of(alice)

    printed = purge("--batch", "2")

    assert "tasks.Task: 6 deleted" in printed
    assert set(Task.objects.values_list("title", flat=True)) == {task.title, "0"}
    assert version_of(alice) == before
    tombstones = Purged.objects.filter(user=alice, version=before - 1, type="task")
    assert set(tombstones.values_list("id", flat=True)) == {task.pk for task in old}
    assert Purged.objects.filter(user=bob).count() == 1


def test_trash_goes_under_the_clock(alice: User) -> None:
    """[D1] A write holds it, and may wait for a row; in statements of a batch each."""
    trash(alice, ago(days=31), count=5)

    with CaptureQueriesContext(connections["direct"]) as captured:
        purge("--batch", "2")

    statements = [query["sql"] for query in captured]
    deletions = [
        n for n, sql in enumerate(statements) if sql.startswith('DELETE FROM "tasks_task"')
    ]
    assert len(deletions) == 3
    for n in deletions:
        clock, batch = statements[n - 2 : n]
        assert 'FROM "todo_project_clock"' in clock
        assert "FOR NO KEY UPDATE" in clock
        assert "FOR UPDATE SKIP LOCKED" in batch


def test_trash_in_use_is_left_to_the_next_run(alice: User) -> None:
    """[D1] Such as what is just being restored, by somebody who didn't take the clock first."""
    restored, _ = trash(alice, ago(days=31), count=2)
    with other_session() as other:
        other.execute("SELECT FROM tasks_task WHERE id = %s FOR NO KEY UPDATE", [restored.pk])

        assert "tasks.Task: 1 deleted" in purge()

    assert Task.objects.get() == restored


def test_changes_are_kept_for_ninety_days(alice: User, bob: User) -> None:
    """[F1] The clock says how far the log is purged: an older position is told so."""
    for user in (alice, bob):
        for n in range(5):
            Task.objects.create(user=user, title=f"{n}")
    Change.objects.filter(user=alice, version__lte=4).update(changed_at=ago(days=90, minutes=1))
    Change.objects.filter(user=alice, version=5).update(changed_at=ago(days=89, hours=23))
    versions = [version_of(alice), version_of(bob)]

    assert "todo_project.Change: 3 deleted" in purge("--batch", "2")

    assert [version for version, _, _ in changes_of(alice)] == [5, 6]
    assert [version for version, _, _ in changes_of(bob)] == [2, 3, 4, 5, 6]
    assert (purged_version(alice), purged_version(bob)) == (4, 0)
    assert [version_of(alice), version_of(bob)] == versions
    assert Task.objects.count() == 10


def test_purged_version_never_falls(alice: User) -> None:
    """[F1] Where a change of an earlier version was purged later, since it was written later."""
    Task.objects.create(user=alice, title="x")
    Change.objects.update(changed_at=ago(days=91))
    Clock.objects.update(purged_version=7)

    purge()

    assert purged_version(alice) == 7


@pytest.mark.parametrize("purged", [1, 3], ids=["in part", "whole"])
def test_follower_in_the_middle_of_a_purged_version_begins_anew(purged: int, alice: User) -> None:
    """[F1] [F2] What shares a version goes with it, and they have seen but a part of it."""
    client = ApiClient(begin_session(alice).access)
    since = meta_of(client.get("/api/me/changes"))["next_since"]
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    page = client.get("/api/me/changes", query={"since": since, "limit": 1})
    assert len(data_of(page)) == 1
    position = meta_of(page)["next_since"]
    ids = list(Change.objects.filter(user=alice).order_by("id").values_list("id", flat=True))
    Change.objects.filter(user=alice, id__in=ids[:purged]).update(changed_at=ago(days=91))

    purge()

    for old in (since, position):
        assert_error(client.get("/api/me/changes", query={"since": old}), 410, "GONE")
    assert len(data_of(client.get("/api/me/changes"))) == 3


def test_tombstones_go_with_their_changes(alice: User, bob: User) -> None:
    """[F1] Together with what says that whoever needs one has to start anew."""
    for user in (alice, bob):
        for n in range(3):
            Task.objects.create(user=user, title=f"{n}").delete()
    assert Purged.objects.count() == 6
    Change.objects.filter(user=alice, version__lte=5).update(changed_at=ago(days=91))

    purge()

    assert purged_version(alice) == 5
    assert list(Purged.objects.filter(user=alice).values_list("version", flat=True)) == [7]
    assert Purged.objects.filter(user=bob).count() == 3


def test_version_and_log_are_purged_as_one(alice: User) -> None:
    """[F1] A follower finds the changes, or is told that they are gone."""
    Task.objects.create(user=alice, title="x")
    Change.objects.update(changed_at=ago(days=91))

    with CaptureQueriesContext(connections["direct"]) as captured:
        purge()

    (statement,) = (q["sql"] for q in captured if "DELETE FROM todo_project_change" in q["sql"])
    assert "SET purged_version" in statement


def test_answers_are_kept_for_a_day(alice: User) -> None:
    """[I1]"""
    answer: dict[str, Any] = {"user": alice, "fingerprint": uuid4(), "status": 204}
    for n in range(3):
        IdempotencyKey.objects.create(key=f"old {n}", created_at=ago(hours=24, minutes=1), **answer)
    IdempotencyKey.objects.create(key="new", created_at=ago(hours=23, minutes=59), **answer)

    assert "todo_project.IdempotencyKey: 3 deleted" in purge("--batch", "2")

    assert IdempotencyKey.objects.get().key == "new"


def test_nothing_old_is_nothing_purged(alice: User, task: Task) -> None:
    Task.objects.create(user=alice, title="Gone").delete()
    trash(alice, ago(days=1))
    before = [list(model.objects.values()) for model in (Task, Change, Purged, Clock)]
    IdempotencyKey.objects.create(
        user=alice, key="a", fingerprint=uuid4(), status=204, created_at=Now()
    )

    purge()

    assert [list(model.objects.values()) for model in (Task, Change, Purged, Clock)] == before
    assert IdempotencyKey.objects.exists()
