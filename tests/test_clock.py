"""[V1] Whoever writes something of a person's advances their clock and stamps what changed."""

import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, connections, models, transaction
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models import Identity, User
from tasks.models import Task, TaskList
from tests.client import ApiClient, Browser, data_of
from tests.conftest import PASSWORD, begin_session
from tests.issuer import Issuer
from tests.processes import PATIENCE_S, direct_database_url, wait_until
from todo_project.clock import lock_clocks
from todo_project.management.commands.new_epochs import STEP
from todo_project.models import Change, Clock, IdempotencyKey, Purged
from todo_project.owners import Versioned
from todo_project.resources.resource import RESOURCES

# Real transactions: all that one of them writes has one version.
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "direct"])

LIST = "/api/me/tasks"
ME = "/api/auth/me"
TASKS = "/admin/tasks/task/"
USERS = "/admin/accounts/user/"


def version_of(user: User) -> int:
    return Clock.objects.get(user=user).version


def changes_of(user: User, *, after: int = 0) -> list[tuple[int, str, UUID]]:
    changes = Change.objects.filter(user=user, version__gt=after).order_by("version", "id")
    return list(changes.values_list("version", "type", "id"))


def sql(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def copy(statement: str, *rows: tuple[Any, ...]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as rows_in:
        for row in rows:
            rows_in.write_row(row)


def _clock_updates() -> int:
    relation = "todo_project_clock"
    ((updates,),) = sql(
        "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = %s", relation
    )
    return int(updates)


@contextmanager
def transaction_that_updates_clocks(times: int) -> Iterator[None]:
    """So often it updates a row of theirs, whether or not a later update replaces it."""
    with transaction.atomic():
        before = _clock_updates()
        yield
        assert _clock_updates() - before == times


@pytest.fixture
def admin(olga: User) -> Browser:
    browser = Browser(raise_request_exception=False)
    browser.force_login(olga)
    return browser


def post_form(browser: Browser, path: str, **form: Any) -> None:
    response = browser.post(path, form)
    assert response.status_code == 302, response.content[:500]


def form_of(task: Task, **changes: str) -> dict[str, str]:
    form = {"title": task.title, "description": task.description or ""}
    form |= {"completed_at_0": "", "completed_at_1": "", "priority": "0", "repeat_from": "0"}
    return {**form, **changes}


# --- Whoever writes -----------------------------------------------------------------------------


def _rename(task: Task) -> Task:
    task.title = "Buy oats"
    return task


ADDING: dict[str, Callable[[User, Browser], Any]] = {
    "create": lambda alice, admin: Task.objects.create(user=alice, title="New"),
    "save": lambda alice, admin: Task(user=alice, title="New").save(),
    "bulk_create": lambda alice, admin: Task.objects.bulk_create([Task(user=alice, title="New")]),
    "INSERT": lambda alice, admin: sql(
        "INSERT INTO tasks_task (id, user_id, title) VALUES (%s, %s, 'New')", uuid7(), alice.pk
    ),
    "COPY": lambda alice, admin: copy(
        "COPY tasks_task (id, user_id, title) FROM STDIN", (uuid7(), alice.pk, "New")
    ),
    "admin": lambda alice, admin: post_form(
        admin, f"{TASKS}add/", **form_of(Task(title="New")), user=str(alice.pk)
    ),
    "API": lambda alice, admin: data_of(
        ApiClient(begin_session(alice).access).post(LIST, {"title": "New"}), 201
    ),
}


@pytest.mark.parametrize("add", ADDING.values(), ids=ADDING)
def test_whoever_adds_stamps(
    add: Callable[[User, Browser], Any], alice: User, admin: Browser
) -> None:
    before = version_of(alice)

    add(alice, admin)

    task = Task.objects.get()
    assert task.version == version_of(alice) == before + 1
    assert changes_of(alice) == [(before + 1, "task", task.pk)]


CHANGING: dict[str, Callable[[Task, Browser], Any]] = {
    "save": lambda task, admin: _rename(task).save(),
    "save of a field": lambda task, admin: _rename(task).save(update_fields=["title"]),
    "update": lambda task, admin: Task.objects.update(title="Buy oats"),
    "change": lambda task, admin: Task.objects.owned_by(task.user_id).change(completed_at=Now()),
    "bulk_update": lambda task, admin: Task.objects.bulk_update([_rename(task)], ["title"]),
    "UPDATE": lambda task, admin: sql("UPDATE tasks_task SET description = NULL"),
    "UPDATE of a time": lambda task, admin: sql("UPDATE tasks_task SET created_at = '2020-01-01'"),
    "UPDATE that sets the version back": lambda task, admin: sql(
        "UPDATE tasks_task SET title = 'Buy oats', version = 0"
    ),
    "INSERT that finds it": lambda task, admin: sql(
        "INSERT INTO tasks_task (id, user_id, title) SELECT id, user_id, 'Buy oats' FROM tasks_task"
        " ON CONFLICT (id) DO UPDATE SET title = excluded.title"
    ),
    "admin": lambda task, admin: post_form(
        admin, f"{TASKS}{task.pk}/change/", **form_of(task, title="Buy oats")
    ),
    "admin's trash": lambda task, admin: post_form(
        admin, TASKS, action="move_to_trash", _selected_action=str(task.pk)
    ),
    "API": lambda task, admin: data_of(
        ApiClient(begin_session(task.user).access).patch(f"{LIST}/{task.pk}", {"title": "Buy oats"})
    ),
}


@pytest.mark.parametrize("change", CHANGING.values(), ids=CHANGING)
def test_whoever_changes_stamps(
    change: Callable[[Task, Browser], Any], task: Task, admin: Browser
) -> None:
    before = version_of(task.user)

    change(task, admin)

    after = version_of(task.user)
    assert Task.objects.get().version == after == before + 1
    assert changes_of(task.user, after=before) == [(after, "task", task.pk)]


DELETING: dict[str, Callable[[Task, Browser], Any]] = {
    "delete": lambda task, admin: task.delete(),
    "delete of many": lambda task, admin: Task.objects.all().delete(),
    "DELETE": lambda task, admin: sql("DELETE FROM tasks_task"),
    "admin": lambda task, admin: post_form(admin, f"{TASKS}{task.pk}/delete/", post="yes"),
    "admin's action": lambda task, admin: post_form(
        admin, TASKS, action="delete_selected", _selected_action=str(task.pk), post="yes"
    ),
}


@pytest.mark.parametrize("delete", DELETING.values(), ids=DELETING)
def test_whoever_deletes_stamps(
    delete: Callable[[Task, Browser], Any], task: Task, admin: Browser
) -> None:
    task_id, alice, before = task.pk, task.user, version_of(task.user)

    delete(task, admin)

    assert not Task.objects.exists()
    assert version_of(alice) == before + 1
    assert changes_of(alice, after=before) == [(before + 1, "task", task_id)]
    tombstones = Purged.objects.values_list("user_id", "type", "id", "version")
    assert list(tombstones) == [(alice.pk, "task", task_id, before + 1)]


def test_seed_demo_stamps() -> None:
    call_command("seed_demo", stdout=io.StringIO())

    demo = User.objects.get()
    assert version_of(demo) == 2
    assert {version for version, _, _ in changes_of(demo)} == {2}
    changed = Counter(type_name for _, type_name, _ in changes_of(demo))
    assert changed["task"] == Task.objects.filter(version=2).count() == Task.objects.count()
    assert changed["list"] == TaskList.objects.filter(version=2).count() == TaskList.objects.count()


def test_seed_load_stamps() -> None:
    """As their clocks begin: nobody follows people who are not there yet."""
    arguments = ("--users", "2", "--tasks-per-user", "3")
    call_command("seed_load", *arguments, force=True, stdout=io.StringIO())

    assert set(Clock.objects.values_list("version", flat=True)) == {1}
    assert list(Task.objects.values_list("version", flat=True)) == [1] * 6
    assert set(TaskList.objects.values_list("version", flat=True)) == {1}


STANDING_STILL: dict[str, Callable[[Task], Any]] = {
    "save": lambda task: task.save(),
    "update": lambda task: Task.objects.update(title=task.title),
    "change": lambda task: Task.objects.owned_by(task.user_id).change(title=task.title),
    "UPDATE": lambda task: sql("UPDATE tasks_task SET title = title, description = description"),
    "UPDATE of the version": lambda task: sql("UPDATE tasks_task SET version = 0"),
    "UPDATE of nothing": lambda task: sql("UPDATE tasks_task SET title = 'x' WHERE false"),
    "DELETE of nothing": lambda task: sql("DELETE FROM tasks_task WHERE false"),
    "API": lambda task: data_of(
        ApiClient(begin_session(task.user).access).patch(f"{LIST}/{task.pk}", {"title": task.title})
    ),
}


@pytest.mark.parametrize("write", STANDING_STILL.values(), ids=STANDING_STILL)
def test_write_that_changes_nothing_advances_nothing(
    write: Callable[[Task], Any], task: Task
) -> None:
    before = version_of(task.user)

    write(task)

    assert version_of(task.user) == Task.objects.get().version == before
    assert changes_of(task.user, after=before) == []


def test_stale_save_sets_no_version_back(task: Task) -> None:
    """It writes every column, the version that it read included."""
    stale = Task.objects.get()
    Task.objects.update(description="Three litres")
    stale.title = "Buy oats"

    stale.save()

    assert Task.objects.get().version == version_of(task.user) == task.version + 2


def test_whoever_stamps_is_left_alone(task: Task) -> None:
    """Such as the statements of the API: the triggers neither advance nor log."""
    before = version_of(task.user)

    with transaction_that_updates_clocks(1):
        sql("UPDATE todo_project_clock SET version = version + 1 WHERE user_id = %s", task.user_id)
        sql("UPDATE tasks_task SET title = 'Buy oats', version = %s", before + 1)

    assert version_of(task.user) == Task.objects.get().version == before + 1
    assert changes_of(task.user, after=before) == []


@pytest.mark.parametrize("is_nested", [False, True], ids=["in a transaction", "in a savepoint"])
def test_many_rows_advance_once(is_nested: bool, alice: User) -> None:
    """Or each would update the same row, more and more slowly until the commit."""
    with transaction_that_updates_clocks(1):
        with transaction.atomic() if is_nested else nullcontext():
            Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(1_000))
        Task.objects.filter(title__endswith="7").update(title="Seven")
        Task.objects.filter(title="Seven").delete()

    assert version_of(alice) == 2
    assert set(Task.objects.values_list("version", flat=True)) == {2}
    assert len(changes_of(alice)) == 1_000
    assert Purged.objects.count() == 100


def test_rolled_back_savepoint_takes_its_step_back(alice: User) -> None:
    with transaction.atomic():
        with suppress(IntegrityError), transaction.atomic():
            Task.objects.create(user=alice, title="First")
            Task.objects.create(user=alice, title="")
        assert version_of(alice) == 1
        second = Task.objects.create(user=alice, title="Second")

    assert (version_of(alice), second.version) == (2, 2)
    assert changes_of(alice) == [(2, "task", second.pk)]


def test_transaction_of_another_server_shares_nothing(alice: User) -> None:
    """A clock that was restored may name one of the same number."""
    present = "SELECT pg_current_xact_id()::text::bigint"
    for _ in range(100):  # until nobody else takes the next number
        sql(f"UPDATE todo_project_clock SET stamped_by = ({present}) + 1")
        with transaction.atomic():
            is_same = sql(present) == sql("SELECT stamped_by FROM todo_project_clock")
            if is_same:
                Task.objects.create(user=alice, title="First")
        if is_same:
            break

    assert version_of(alice) == Task.objects.get().version == 2


def test_many_people_advance_each(alice: User, bob: User) -> None:
    """[V1] Each their own clock, by one statement."""
    Task.objects.bulk_create(
        Task(user=user, title=f"{n}") for n in range(3) for user in (alice, bob)
    )
    Task.objects.create(user=bob, title="One more")

    Task.objects.all().delete()

    assert (version_of(alice), version_of(bob)) == (3, 4)
    assert set(Purged.objects.values_list("user_id", "version")) == {(alice.pk, 3), (bob.pk, 4)}
    assert Purged.objects.count() == 7


def test_trash_is_purged_as_of_the_version_of_its_deletion(task: Task) -> None:
    """[D1] [F1] Followers know it as deleted already."""
    Task.objects.update(deleted_at=Now())
    trashed = version_of(task.user)

    Task.objects.all().delete()

    assert version_of(task.user) == trashed
    assert Purged.objects.get().version == trashed
    assert changes_of(task.user)[-1] == (trashed, "task", task.pk)


def test_what_comes_again_is_purged_no_more(task: Task) -> None:
    """[F1] Under the same id, by a client that chose it."""
    task_id = task.pk
    task.delete()

    Task.objects.create(id=task_id, user=task.user, title="Again")

    assert not Purged.objects.exists()
    assert changes_of(task.user)[-1] == (4, "task", task_id)


@pytest.mark.parametrize("column", ["user_id", "id"])
def test_what_becomes_another_is_gone_for_followers(column: str, task: Task, bob: User) -> None:
    """By SQL, which an operator may use to merge two accounts."""
    value = {"user_id": bob.pk, "id": uuid7()}[column]

    sql(f"UPDATE tasks_task SET {column} = %s", value)

    alice, owner = task.user, {"user_id": bob, "id": task.user}[column]
    moved = Task.objects.get()
    assert moved.version == version_of(owner)
    assert (moved.version, "task", moved.pk) in changes_of(owner)
    tombstone = Purged.objects.get()
    assert (tombstone.user_id, tombstone.id, tombstone.version) == (alice.pk, task.pk, 3)
    assert (3, "task", task.pk) in changes_of(alice)


VERSIONED = [model for model in apps.get_models() if issubclass(model, Versioned)]


@pytest.mark.parametrize("model", VERSIONED, ids=lambda model: model._meta.label)
def test_every_column_of_a_row_stamps_it(model: type[models.Model]) -> None:
    """A new column needs owners.Stamped again, in the migration that adds it; not an inner one."""
    table = model._meta.db_table
    (inner,) = (each.inner.keys() for each in RESOURCES.values() if each.model is model)
    ((definition,),) = sql(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = %s", f"{table}_stamp_update"
    )
    columns = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped AND attgenerated = ''",
        table,
    )

    assert set(re.findall(r'new\."?(\w+)', definition)) == {column for (column,) in columns} - inner


# --- Everybody has a clock ----------------------------------------------------------------------

ADD_USERS = (
    "INSERT INTO accounts_user (id, email, password, name, is_active, is_staff, is_superuser)"
    " VALUES (%s, 'a@example.com', '', '', true, false, false),"
    " (%s, 'b@example.com', '', '', true, false, false)"
)
COPY_USERS = (
    "COPY accounts_user (id, email, password, name, is_active, is_staff, is_superuser) FROM STDIN"
)
REGISTRATION = {"email": "new@example.com", "password": "plough-4-fields"}
COMING: dict[str, Callable[[], Any]] = {
    "save": lambda: User.objects.create_user("new@example.com"),
    "bulk_create": lambda: User.objects.bulk_create(User(email=f"{n}@x.org") for n in range(3)),
    "INSERT": lambda: sql(ADD_USERS, uuid7(), uuid7()),
    "COPY": lambda: copy(COPY_USERS, (uuid7(), "new@example.com", "", "", True, False, False)),
    "registration": lambda: data_of(ApiClient().post("/api/auth/register", REGISTRATION), 201),
}


@pytest.mark.parametrize("come", COMING.values(), ids=COMING)
def test_whoever_comes_has_a_clock(come: Callable[[], Any]) -> None:
    come()

    clocks = list(Clock.objects.values_list("user_id", "version", "purged_version"))
    assert sorted(clocks) == sorted((user.pk, 1, 0) for user in User.objects.all())
    assert clocks
    epochs = set(Clock.objects.values_list("epoch", flat=True))
    assert len(epochs) == len(clocks)
    assert all(re.fullmatch(r"[0-9a-f]{16}", epoch) for epoch in epochs)


def test_whoever_a_provider_sends_has_a_clock(issuer: Issuer) -> None:
    data_of(ApiClient(issuer.token()).get(ME))

    assert Clock.objects.get().user_id == User.objects.get().pk


def test_whoever_comes_with_a_task_has_a_clock() -> None:
    """By one statement, at the end of which the clock is made."""
    user_id = uuid7()

    sql(
        "WITH person AS (INSERT INTO accounts_user"
        " (id, email, password, name, is_active, is_staff, is_superuser)"
        " VALUES (%s, 'a@example.com', '', '', true, false, false) RETURNING id)"
        " INSERT INTO tasks_task (id, user_id, title) SELECT id, id, 'First' FROM person",
        user_id,
    )

    assert Task.objects.get().version == Clock.objects.get().version == 1


def test_task_of_nobody_is_refused() -> None:
    """By the foreign key, as before."""
    with pytest.raises(IntegrityError, match="tasks_task_user_fk"):
        Task.objects.create(user_id=uuid4(), title="Nobody's")


# --- Whoever goes -------------------------------------------------------------------------------


def test_person_goes_without_a_trace(alice: User, bob: User) -> None:
    """[T1] With many tasks; no clock is advanced for them, and no tombstone is left."""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(2_000))
    Task.objects.filter(title__endswith="0").delete()
    Task.objects.filter(title__endswith="1").update(deleted_at=Now())
    Task.objects.create(user=bob, title="Bob's")
    key = {"fingerprint": uuid4(), "status": 201}
    for user in (alice, bob):
        IdempotencyKey.objects.create(user=user, key="a", **key)
    before = Clock.objects.get(user=bob)

    with transaction_that_updates_clocks(0):
        sql("DELETE FROM accounts_user WHERE id = %s", alice.pk)

    owned = [
        model for model in apps.get_models() if "user_id" in {f.attname for f in model._meta.fields}
    ]
    assert {Clock, Change, Purged, IdempotencyKey, Task} <= set(owned)
    for model in owned:
        assert not model._default_manager.filter(user_id=alice.pk).exists(), model
    assert Clock.objects.values().get() == {
        field.attname: getattr(before, field.attname) for field in Clock._meta.fields
    }
    assert changes_of(bob) == [(2, "task", bob.tasks.get().pk)]


# --- At the same time ---------------------------------------------------------------------------


def _url() -> str:
    return direct_database_url(connection.settings_dict["NAME"])


@contextmanager
def other_session() -> Iterator[psycopg.Connection[Any]]:
    """Of somebody else, in a transaction; whose end takes it back."""
    with psycopg.connect(_url()) as session:
        yield session
        session.rollback()


def somebody_waits() -> bool:
    ((waiting,),) = sql(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )
    return bool(waiting)


def in_thread(pool: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return pool.submit(run)


def test_writes_of_a_person_commit_in_order(alice: User, bob: User) -> None:
    """[V1] Who writes later waits; other people's writes don't."""
    with other_session() as earlier, ThreadPoolExecutor(1) as pool:
        add = "INSERT INTO tasks_task (id, user_id, title) VALUES (%s, %s, 'First')"
        earlier.execute(add, [uuid7(), alice.pk])
        later = in_thread(pool, lambda: Task.objects.create(user=alice, title="Second").version)
        wait_until(somebody_waits)
        Task.objects.create(user=bob, title="Bob's")
        assert changes_of(alice) == []

        earlier.commit()

        assert later.result(PATIENCE_S) == 3
    assert [version for version, _, _ in changes_of(alice)] == [2, 3]


def test_follower_misses_nothing(alice: User) -> None:
    """[V1] [F2] Whoever has seen a version has seen all before, while four write."""
    writers, writes = 4, 25
    seen: list[tuple[int, str, UUID]] = []
    done = threading.Event()

    def write() -> None:
        for n in range(writes):
            with transaction.atomic():
                task = Task.objects.create(user=alice, title=f"{n}")
                Task.objects.filter(pk=task.pk).update(title="Changed")

    def follow() -> None:
        is_last = False
        while not is_last:
            is_last = done.is_set()
            seen.extend(changes_of(alice, after=seen[-1][0] if seen else 0))

    with ThreadPoolExecutor(writers + 1) as pool:
        follower = in_thread(pool, follow)
        for writer in [in_thread(pool, write) for _ in range(writers)]:
            writer.result(PATIENCE_S)
        done.set()
        follower.result(PATIENCE_S)

    assert seen == changes_of(alice)
    assert [version for version, _, _ in seen] == [*range(2, writers * writes + 2)]


def absorb(bob: User, issuer: Issuer) -> int:
    """Bob adds the identity of a provider's person, whose account goes if it is empty."""
    link = ApiClient(begin_session(bob).access)
    body = {"token": issuer.token(), "password": PASSWORD}
    return link.post("/api/auth/identities", body).status_code


def advance(writer: psycopg.Connection[Any], user: User) -> None:
    """Holds the clock, as a statement of the API does before it writes."""
    writer.execute(
        "UPDATE todo_project_clock SET version = version + 1 WHERE user_id = %s", [user.pk]
    )


def add_last(writer: psycopg.Connection[Any], user: User) -> None:
    writer.execute(
        "INSERT INTO tasks_task (id, user_id, title, version) VALUES (%s, %s, 'Last', 2)",
        [uuid7(), user.pk],
    )
    writer.commit()


GOING: dict[str, tuple[Callable[[User, Browser], int], int]] = {
    "DELETE": (
        lambda alice, admin: (
            ApiClient(begin_session(alice).access).delete(ME, {"password": PASSWORD}).status_code
        ),
        204,
    ),
    "POST": (
        lambda alice, admin: (
            ApiClient(begin_session(alice).access)
            .post(f"{ME}/delete", {"password": PASSWORD})
            .status_code
        ),
        204,
    ),
    "admin": (
        lambda alice, admin: admin.post(f"{USERS}{alice.pk}/delete/", {"post": "yes"}).status_code,
        302,
    ),
    "admin's action": (
        lambda alice, admin: (
            admin.post(
                USERS,
                {"action": "delete_selected", "_selected_action": str(alice.pk), "post": "yes"},
            ).status_code
        ),
        302,
    ),
}


@pytest.mark.parametrize(("go", "status"), GOING.values(), ids=GOING)
def test_person_goes_while_something_is_written(
    go: Callable[[User, Browser], int], status: int, alice: User, admin: Browser
) -> None:
    """[V1] The deletion waits at the clock: neither of the two for ever, and both succeed."""
    with other_session() as writer, ThreadPoolExecutor(1) as pool:
        advance(writer, alice)
        gone = in_thread(pool, lambda: go(alice, admin))
        wait_until(somebody_waits)

        add_last(writer, alice)

        assert gone.result(PATIENCE_S) == status
    assert not User.objects.filter(pk=alice.pk).exists()
    assert not Task.objects.exists()


def test_account_is_not_absorbed_while_something_is_written(bob: User, issuer: Issuer) -> None:
    """[A3] It waits at the clock, and then finds what was written."""
    data_of(ApiClient(issuer.token()).get(ME))
    owner = Identity.objects.get().user
    with other_session() as writer, ThreadPoolExecutor(1) as pool:
        advance(writer, owner)
        taken = in_thread(pool, lambda: absorb(bob, issuer))
        wait_until(somebody_waits)

        add_last(writer, owner)

        assert taken.result(PATIENCE_S) == 409
    assert Task.objects.get().user_id == owner.pk


def test_account_is_not_renamed_away_while_something_is_written() -> None:
    """[A3] Of two accounts of somebody whose provider moved, the empty one goes."""
    older, newer = (User.objects.create_user(f"{n}@example.com") for n in range(2))
    Identity.objects.create(user=older, issuer="https://old", subject="a")
    Identity.objects.create(user=newer, issuer="https://new", subject="a")
    with other_session() as writer, ThreadPoolExecutor(1) as pool:
        advance(writer, newer)
        renamed = in_thread(
            pool, lambda: call_command("rename_issuer", "https://old", "https://new")
        )
        wait_until(somebody_waits)

        add_last(writer, newer)

        renamed.result(PATIENCE_S)
    assert Task.objects.get().user == User.objects.get() == newer


def test_history_alone_keeps_no_account(bob: User, issuer: Issuer) -> None:
    """[A3] Tasks that are gone for good are no things of somebody's; those in the trash are."""
    data_of(ApiClient(issuer.token()).get(ME))
    owner = Identity.objects.get().user
    task = Task.objects.create(user=owner, title="Mine", deleted_at=Now())
    assert absorb(bob, issuer) == 409

    task.delete()

    assert absorb(bob, issuer) == 201
    assert not User.objects.filter(pk=owner.pk).exists()


def test_clocks_are_locked_in_one_order(alice: User, bob: User) -> None:
    with transaction.atomic():
        lock_clocks([bob.pk, uuid4(), alice.pk])
        with other_session() as other:
            for user in (alice, bob):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute(
                        "SELECT FROM todo_project_clock WHERE user_id = %s FOR UPDATE NOWAIT",
                        [user.pk],
                    )
                other.rollback()


# --- manage.py new_epochs -----------------------------------------------------------------------


def test_new_epochs_are_others_for_everybody(
    alice: User, bob: User, olga: User, task: Task
) -> None:
    """[V2] In batches; versions are beyond all that were handed out before."""
    before = dict(Clock.objects.values_list("user_id", "epoch"))
    versions = dict(Clock.objects.values_list("user_id", "version"))
    printed = io.StringIO()

    call_command("new_epochs", "--batch", "2", stdout=printed)

    after = dict(Clock.objects.values_list("user_id", "epoch"))
    assert after.keys() == before.keys()
    assert len({*after.values(), *before.values()}) == 6
    stepped = {user_id: version + STEP for user_id, version in versions.items()}
    assert dict(Clock.objects.values_list("user_id", "version")) == stepped
    assert printed.getvalue() == "3 clocks have a new epoch.\n"


def test_new_epochs_refuse_an_empty_batch() -> None:
    with pytest.raises(CommandError, match="1 or more"):
        call_command("new_epochs", "--batch", "0")
