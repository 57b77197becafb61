"""A backup and a restore, by the commands of docs/operations.md, on a database set up as that says.

By the programs of the embedded PostgreSQL, and roles that are no superusers, as at Neon.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.copies import Copy
from tests.faults.postgres import PrivatePostgres
from tests.faults.service import Account, Service
from tests.roles import (
    APP,
    DATABASE,
    OWNER,
    make_database,
    postgres_with_roles,
    run_program,
    url_of,
)

pytestmark = pytest.mark.faults  # a server of its own

BEFORE, AFTER = DATABASE, "restored"
COLUMNS = "SELECT table_name, column_name, data_type, is_nullable, generation_expression"
# What a dump has to bring back beside the rows.
SCHEMA = {
    "columns": f"{COLUMNS} FROM information_schema.columns WHERE table_schema = 'public'",
    "constraints": "SELECT conrelid::regclass::text, conname, convalidated,"
    " pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    # Pretty: a condition that was read back has other parentheses.
    "triggers": "SELECT pg_get_triggerdef(oid, true), tgenabled FROM pg_trigger"
    " WHERE NOT tgisinternal",
    "functions": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "rights": "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
    f" WHERE grantee = '{APP}'",
    "settings": "SELECT relname, reloptions, relpersistence FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace",
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    with postgres_with_roles() as server:
        yield server


def service_on(postgres: PrivatePostgres, database: str) -> Service:
    direct = {"DIRECT_DATABASE_URL": url_of(postgres, OWNER, database)}
    return Service(url_of(postgres, APP, database), direct)


def synced(caller: Any, copy: Copy) -> None:
    """Brings a device's copy up to date."""
    while True:
        since = "" if copy.since is None else f"?since={copy.since}"
        answer = caller.call("GET", f"/api/me/changes{since}")
        assert answer.status == 200, answer
        copy.take(answer.data, answer.body["meta"])
        if copy.has_all:
            return


@dataclass
class Story:
    """Who was there before the restore, and what their devices knew."""

    alice: Account
    phone: Copy  # up to date as of the backup
    laptop: Copy  # saw what came after it
    kept: dict[str, Any]  # a task, as it was when the backup was made
    weekly: dict[str, Any]
    lost: dict[str, Any]  # one that came after it
    etag: str  # of what `kept` became after it


@pytest.fixture(scope="module")
def story(postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A service, a backup, changes after it; and the restore, into another database."""
    service = service_on(postgres, BEFORE)
    service.manage("migrate", "--verbosity", "0")
    service.start()
    alice = service.register()
    phone, laptop = Copy(), Copy()
    dump = str(tmp_path_factory.mktemp("backup") / "todo.dump")
    with service.caller(alice) as caller:
        errands = caller.call("POST", "/api/me/lists", {"name": "Errands"}).data
        sent = {"title": "Grüße", "list_id": errands["id"], "labels": ["a"], "priority": "high"}
        kept = caller.call("POST", "/api/me/tasks", sent).data
        sent = {"title": "Plants", "due_on": "2036-01-06", "recurrence": "FREQ=WEEKLY"}
        weekly = caller.call("POST", "/api/me/tasks", sent).data
        trashed = caller.call("POST", "/api/me/tasks", {"title": "Trash"}).data
        caller.call("DELETE", f"/api/me/tasks/{trashed['id']}")
        synced(caller, phone)

        source = url_of(postgres, OWNER, BEFORE)
        run_program(postgres, "pg_dump", "--format=custom", "--file", dump, source)

        changed = caller.call("PATCH", f"/api/me/tasks/{kept['id']}", {"title": "Grüße!"})
        lost = caller.call("POST", "/api/me/tasks", {"title": "Lost"}).data
        synced(caller, laptop)
    service.stop()

    make_database(postgres, AFTER)
    target = ["--dbname", url_of(postgres, OWNER, AFTER)]
    run_program(postgres, "pg_restore", "--exit-on-error", "--single-transaction", *target, dump)
    assert "1 clocks" in service_on(postgres, AFTER).manage("new_epochs")
    return Story(alice, phone, laptop, kept, weekly, lost, changed.headers["ETag"])


@pytest.fixture(scope="module")
def restored(postgres: PrivatePostgres, story: Story) -> Iterator[Service]:
    service = service_on(postgres, AFTER)
    service.start()
    try:
        yield service
        assert service.defects() == []
    finally:
        service.stop()


@pytest.mark.parametrize("query", SCHEMA.values(), ids=SCHEMA)
def test_schema_is_as_it_was(query: str, postgres: PrivatePostgres, story: Story) -> None:
    """Triggers, constraints, generated columns and the rights of the service's role included."""
    before, after = (sorted(postgres.execute(query, database=name)) for name in (BEFORE, AFTER))

    assert len(before) > 10
    assert after == before


def test_zones_are_there(postgres: PrivatePostgres, story: Story) -> None:
    """No model has them, and tasks with a zone are due by them."""
    count = "SELECT count(*) FROM tasks_zoneoffset"
    before, after = (postgres.execute(count, database=name) for name in (BEFORE, AFTER))

    assert after == before
    assert before[0][0] > 1000


def test_restored_service_is_ready(restored: Service) -> None:
    """No migration is missing, and nothing warns of the database."""
    with restored.caller() as caller:
        assert caller.call("GET", "/readyz").status == 200

    checked = restored.manage("check", "--database", "default", "--fail-level", "WARNING")
    assert "no issues" in checked


def test_people_sign_in(restored: Service, story: Story) -> None:
    """By their password; a session from before the backup lives, too."""
    credentials = {"email": story.alice.email, "password": story.alice.password}
    with restored.caller() as caller:
        assert caller.call("POST", "/api/auth/token", credentials).status == 200
    with restored.caller(story.alice) as caller:
        assert caller.call("GET", "/api/auth/me").data["email"] == story.alice.email


def test_tasks_are_as_they_were(restored: Service, story: Story) -> None:
    """What the backup had, searchable; and nothing of what came after it."""
    with restored.caller(story.alice) as caller:
        kept = caller.call("GET", f"/api/me/tasks/{story.kept['id']}").data
        found = caller.call("GET", "/api/me/tasks?search=grusse").data
        trash = caller.call("GET", "/api/me/trash").data
        lost = caller.call("GET", f"/api/me/tasks/{story.lost['id']}")

    changing = ("etag", "version")
    assert {**kept, **dict.fromkeys(changing)} == {**story.kept, **dict.fromkeys(changing)}
    assert [task["id"] for task in found] == [story.kept["id"]]
    assert len(trash) == 1
    assert lost.status == 404


def test_tag_of_what_was_undone_is_refused(restored: Service, story: Story) -> None:
    """[V2] A device that saw the later change must not overwrite on the strength of it."""
    with restored.caller(story.alice) as caller:
        path = f"/api/me/tasks/{story.kept['id']}"
        refused = caller.call("PATCH", path, {"title": "x"}, **{"If-Match": story.etag})

    assert (refused.status, refused.body["error"]["code"]) == (412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("device", ["phone", "laptop"])
def test_device_is_told_to_begin_anew(device: str, restored: Service, story: Story) -> None:
    """[F2] Whether it had seen later changes or not: 410, and then it has what is there."""
    copy: Copy = getattr(story, device)
    with restored.caller(story.alice) as caller:
        gone = caller.call("GET", f"/api/me/changes?since={copy.since}")
        fresh = Copy()
        synced(caller, fresh)
        tasks = caller.call("GET", "/api/me/tasks").data

    assert (gone.status, gone.body["error"]["code"]) == (410, "GONE")
    assert {id_ for kind, id_ in fresh.things if kind == "task"} == {task["id"] for task in tasks}


def test_versions_go_on(restored: Service, story: Story) -> None:
    """[V1] No version that a device has seen is given again to something else."""
    seen = max(story.laptop.versions.values())
    with restored.caller(story.alice) as caller:
        task = caller.call("POST", "/api/me/tasks", {"title": "New"}).data

    assert task["version"] > seen


def test_triggers_work(restored: Service, postgres: PrivatePostgres, story: Story) -> None:
    """What recurs comes back; what is written past the service is stamped, and nonsense refused."""
    with restored.caller(story.alice) as caller:
        path = f"/api/me/tasks/{story.weekly['id']}"
        completed = caller.call("PATCH", f"{path}/complete").data
        following = caller.call("GET", f"/api/me/tasks/{completed['next_task_id']}").data
        assert following["due_on"] == "2036-01-13"

        rename = "UPDATE tasks_task SET title = %s WHERE id = %s"
        postgres.execute(rename, "By hand", following["id"], database=AFTER)
        stamped = caller.call("GET", f"/api/me/tasks/{following['id']}").data
        assert (stamped["title"], stamped["version"] > following["version"]) == ("By hand", True)

        with pytest.raises(psycopg.errors.CheckViolation):
            postgres.execute(rename, "two\nlines", following["id"], database=AFTER)
