"""Deploys without downtime: the code before the newest migration, on the schema after it.

The old code comes from the history of the checkout: it is the newest that lacks that migration. So
the next migration is tried without a change here.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.faults.service import Account, Service
from tests.processes import (
    PATIENCE_S,
    PROJECT,
    database_url,
    direct_database_url,
    made_database,
    production,
    start,
)

MIGRATIONS = [
    "accounts/migrations/0*.py",
    "tasks/migrations/0*.py",
    "todo_project/migrations/0*.py",
]
COMMITS_MAX = 20  # that are looked at for whole code
URL = "postgresql://app:secret@db.example.com/todo"  # of no database
WHAT_TO_DO = (
    "The history of this checkout isn't here, and with it the code that this test runs. Get it by "
    "`git fetch --unshallow` (GitHub's checkout: fetch-depth: 0)."
)


def git(*arguments: str) -> bytes:
    run = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def migrations_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for glob in MIGRATIONS for path in folder.glob(glob)}


def commits_before_the_newest_migration() -> list[str]:
    """Newest first: those before the one that added it, or all, where it isn't committed yet."""
    newest = "HEAD"
    committed = set(git("ls-tree", "-r", "--name-only", "HEAD").decode().splitlines())
    if migrations_of(PROJECT) <= committed:
        log = ["log", "-1", "--format=%H", "--diff-filter=A", "--", *MIGRATIONS]
        newest = f"{git(*log).decode().strip()}^"
    return git("log", f"-{COMMITS_MAX}", "--format=%H", newest).decode().split()


def check_out(commit: str, folder: Path) -> bool:
    """Whether the code of `commit` is whole: amid a series of commits it may not be."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as files:
        files.extractall(folder, filter="data")
    with start("check", env=production(DATABASE_URL=URL), folder=folder, stderr=PIPE) as check:
        check.communicate(timeout=PATIENCE_S)
    return check.returncode == 0


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the newest code that knows nothing of the newest migration."""
    has_history = (PROJECT / ".git").exists() and (
        git("rev-parse", "--is-shallow-repository").strip() == b"false"
    )
    if not has_history:
        if os.environ.get("REQUIRE_HISTORY") == "true":
            pytest.fail(WHAT_TO_DO, pytrace=False)
        pytest.skip(WHAT_TO_DO)
    for commit in commits_before_the_newest_migration():
        folder = tmp_path_factory.mktemp("old")
        if check_out(commit, folder):
            assert migrations_of(folder) < migrations_of(PROJECT)
            return folder
    raise AssertionError(f"the code of none of {COMMITS_MAX} commits is whole")


@pytest.fixture(scope="module")
def both(
    django_db_setup: None, worker_id: str, old_code: Path
) -> Iterator[tuple[Service, Service]]:
    """The old code and the new beside each other, on the schema of the new."""
    with made_database(f"test_todo_upgrade_{worker_id}") as name:
        environment = {"DIRECT_DATABASE_URL": direct_database_url(name)}
        new = Service(database_url(name), environment)
        old = Service(database_url(name), environment, folder=old_code)
        new.manage("migrate", "--verbosity", "0")
        with ExitStack() as stack:
            for service in (old, new):
                stack.callback(service.stop)
                service.start()
            yield old, new
            assert (old.defects(), new.defects()) == ([], [])


@pytest.fixture(scope="module")
def alice(both: tuple[Service, Service]) -> Account:
    """Who registered by the new code."""
    return both[1].register()


def test_old_code_is_ready(both: tuple[Service, Service]) -> None:
    with both[0].caller() as caller:
        answer = caller.call("GET", "/readyz")

    assert answer.status == 200, answer


def test_people_come_by_either(both: tuple[Service, Service], alice: Account) -> None:
    """Whoever registered by one signs in by the other, whose token both take."""
    old, new = both
    bob = old.register()

    for service, account in ((old, alice), (new, bob)):
        credentials = {"email": account.email, "password": account.password}
        with service.caller() as caller:
            assert caller.call("POST", "/api/auth/token", credentials).status == 200
        with service.caller(account) as caller:
            assert caller.call("GET", "/api/auth/me").data["email"] == account.email


def test_old_code_works(both: tuple[Service, Service], alice: Account) -> None:
    """Whatever clients did before the deploy, they do during it."""
    with both[0].caller(alice) as caller:
        task = caller.call("POST", "/api/me/tasks", {"title": "Buy milk"}).data
        path = f"/api/me/tasks/{task['id']}"
        batch = {"operations": [{"op": "create", "data": {"title": "Eggs"}}]}
        list_id = caller.call("POST", "/api/me/lists", {"name": "Errands"}).data["id"]
        answers = [
            caller.call("GET", "/api/me/tasks"),
            caller.call("GET", path),
            caller.call("PATCH", path, {"title": "Buy oat milk", "list_id": list_id}),
            caller.call("PATCH", f"{path}/complete"),
            caller.call("PATCH", f"{path}/complete", {"is_completed": False}),
            caller.call("PUT", path, {"title": "Buy milk"}),
            caller.call("POST", "/api/me/batch", batch),
            caller.call("GET", "/api/me/changes"),
            caller.call("DELETE", path),
            caller.call("GET", "/api/me/trash"),
            caller.call("POST", f"{path}/restore"),
            caller.call("PATCH", f"/api/me/lists/{list_id}", {"name": "Shopping"}),
            caller.call("DELETE", f"/api/me/lists/{list_id}"),
            caller.call("POST", "/api/auth/logout-all"),
        ]

    assert [str(answer) for answer in answers if not answer.is_success] == []
    assert all(outcome["status"] == 201 for outcome in answers[6].data)


def test_each_takes_what_the_other_wrote(both: tuple[Service, Service]) -> None:
    """A task that one made is read, changed and completed by the other, and back."""
    old, new = both
    carol = old.register()
    with old.caller(carol) as by_old, new.caller(carol) as by_new:
        for first, second in ((by_old, by_new), (by_new, by_old)):
            task = first.call("POST", "/api/me/tasks", {"title": "Buy milk"}).data
            path = f"/api/me/tasks/{task['id']}"
            renamed = second.call("PATCH", path, {"title": "Buy eggs"})
            completed = second.call("PATCH", f"{path}/complete")
            seen = first.call("GET", path)

            assert (renamed.status, completed.status, seen.status) == (200, 200, 200)
            assert (seen.data["title"], seen.data["is_completed"]) == ("Buy eggs", True)
            assert seen.data["version"] == completed.data["version"] > task["version"]
