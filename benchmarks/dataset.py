"""The data that everyone is measured on: users with tasks, their sessions, and real tokens.

`manage.py seed_load` makes users and tasks by COPY, once for each database. In the schema
`benchmark` stands what it takes to bring the tasks back to that state between two loads:

    benchmark.seed    one row: the scale, and the greatest id of a seeded task. It is written last,
                      so that a seeding which was interrupted is noticed
    benchmark.target  copies of the tasks that loads read and change, TARGETS_PER_USER of each user,
                      numbered from 1
    benchmark.pool    tasks that were added for pgbench to delete, numbered from 1
"""

import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

import psycopg
from uuid_utils.compat import uuid7

from . import service

TARGETS_PER_USER = 10
# Tasks to be deleted for each second of a load: more than one process deletes. A load that runs out
# of them fails.
DOOMED_PER_SECOND = 30_000
SESSION_LIFETIME = timedelta(days=1)

# All but what the database computes.
_COLUMNS = """
    SELECT attname FROM pg_attribute
     WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
     ORDER BY attnum
"""

_NUMBER_TARGETS = """
    CREATE TABLE benchmark.target AS
    SELECT row_number() OVER (ORDER BY place, user_id) AS number, {columns}
      FROM (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY id) AS place
              FROM tasks_task) AS task
     WHERE (place - 1) %% greatest(1, %(tasks_per_user)s / %(targets)s) = 0
       AND place <= %(targets)s * greatest(1, %(tasks_per_user)s / %(targets)s)
"""

# To complete what recurs makes another task, and a subtask goes where its task does: neither peer
# nor floor know of such.
_EACH_BY_ITSELF = """
    UPDATE tasks_task SET recurrence = NULL, parent_id = NULL
     WHERE recurrence IS NOT NULL OR parent_id IS NOT NULL
"""

# What loads created has a later id, because ids are UUIDv7.
_RESTORE = (
    "DELETE FROM tasks_task WHERE id > (SELECT last_task_id FROM benchmark.seed)",
    """
    UPDATE tasks_task AS task SET ({columns}) = ROW({targets})
      FROM benchmark.target
     WHERE task.id = target.id AND ROW({tasks}) IS DISTINCT FROM ROW({targets})
    """,
)
# Past the triggers of the table, which would note all of it as changes of today.
_RESTORE_VERSIONED = (
    "ALTER TABLE tasks_task DISABLE TRIGGER USER",
    *_RESTORE,
    "ALTER TABLE tasks_task ENABLE TRIGGER USER",
    # Never back: rows that no load was to change may have later versions.
    "UPDATE todo_project_clock SET purged_version = version WHERE purged_version <> version",
    "TRUNCATE todo_project_change, todo_project_purged, todo_project_idempotencykey",
)
_TIDY = "VACUUM (ANALYZE) tasks_task, todo_project_ratecounter"
_TIDY_VERSIONED = f"{_TIDY}, todo_project_clock, todo_project_change"


_NUMBER_DOOMED = (
    "DROP TABLE IF EXISTS benchmark.pool",
    """
    CREATE TABLE benchmark.pool AS
    SELECT row_number() OVER () AS number, id, user_id
      FROM tasks_task WHERE id > (SELECT last_task_id FROM benchmark.seed)
    """,
    "ALTER TABLE benchmark.pool ADD PRIMARY KEY (number)",
    "DROP SEQUENCE IF EXISTS benchmark.next_in_pool",
    "CREATE SEQUENCE benchmark.next_in_pool",
    "VACUUM (ANALYZE) benchmark.pool, tasks_task",
)


@dataclass(frozen=True)
class Scale:
    """How much data; `heavy_tasks` are those of one more user, where it isn't 0."""

    users: int
    tasks_per_user: int
    heavy_tasks: int = 0

    @property
    def tasks(self) -> int:
        return self.users * self.tasks_per_user + self.heavy_tasks

    @property
    def database(self) -> str:
        heavy = f"_{self.heavy_tasks}" if self.heavy_tasks else ""
        return f"bench_{self.users}_{self.tasks_per_user}{heavy}"

    def __str__(self) -> str:
        heavy = f" and one with {self.heavy_tasks:,}" if self.heavy_tasks else ""
        return f"{self.users:,} users with {self.tasks_per_user:,} tasks each{heavy}"


@dataclass(frozen=True)
class Account:
    """Somebody who is signed in, their lists, and those of their tasks that loads may change."""

    user_id: UUID
    access: str
    tasks: Sequence[tuple[UUID, bool]]  # with is_completed
    lists: Sequence[UUID]


@dataclass(frozen=True)
class Doomed:
    """A task that is there to be deleted; `owner` counts the accounts from 0."""

    owner: int
    task_id: UUID


class OtherDataError(Exception):
    """The database holds something else than the seed that was asked for."""


class Dataset:
    """A seeded database."""

    def __init__(self, url: str, scale: Scale, checkout: Path = service.PROJECT) -> None:
        """Raises OtherDataError where the database is neither empty nor seeded to this scale.

        As seeded to another one counts what was seeded before tasks had their columns of today.

        `checkout`: the one of this project whose database it is.
        """
        self.url = url
        self.scale = scale
        self._checkout = checkout
        # First, so that migrate has nothing to warn of.
        self._manage("set_role_timeouts", stdout=subprocess.DEVNULL)
        self._manage("migrate", "--verbosity", "0")
        with self.connect() as connection:
            found = _seed_of(connection)
            self._is_versioned = _is_versioned(connection)
            self._columns = columns_of(connection, "tasks_task")
            new = found and {*self._columns} - {*columns_of(connection, "benchmark.target")}
        if found is None:
            self._seed()
        elif found != scale:
            raise OtherDataError(f"The database is seeded to {found}, and not to {scale}.")
        elif new:
            raise OtherDataError(f"The database was seeded without {', '.join(sorted(new))}.")
        self.restore()

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """A connection in autocommit mode, without the role's limit on a statement's time."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET statement_timeout = 0")
            yield connection

    def restore(self) -> None:
        """Brings the tasks back to what was seeded, and the tables to a tidy state."""
        with self.connect() as connection:
            with connection.transaction():
                for statement in _RESTORE_VERSIONED if self._is_versioned else _RESTORE:
                    connection.execute(
                        statement.format(
                            columns=", ".join(self._columns),
                            tasks=", ".join(f"task.{column}" for column in self._columns),
                            targets=", ".join(f"target.{column}" for column in self._columns),
                        )
                    )
            connection.execute(_TIDY_VERSIONED if self._is_versioned else _TIDY)

    def sign_in(self) -> list[Account]:
        """Gives every ordinary user one session, which replaces those of earlier runs.

        Tokens are made by the service's own code; the sessions' rows go in by COPY.
        """
        # Those of a release before have no lists.
        list_id = "list_id" if "list_id" in self._columns else "NULL::uuid"
        with self.connect() as connection:
            connection.execute("TRUNCATE accounts_session")
            users = connection.execute(
                f"SELECT user_id, array_remove(array_agg(DISTINCT {list_id}), NULL),"
                " array_agg(id ORDER BY number),"
                " array_agg(completed_at IS NOT NULL ORDER BY number)"
                " FROM benchmark.target GROUP BY user_id ORDER BY min(number)"
            ).fetchall()
            accounts = _sign_in(
                connection,
                [
                    (user_id, list(zip(*tasks, strict=True)), lists)
                    for user_id, lists, *tasks in users
                ],
            )
            connection.execute("VACUUM (ANALYZE) accounts_session")
        return accounts

    def sign_in_heavy(self) -> Account:
        """Gives the heavy user a session more; the account names none of their tasks."""
        with self.connect() as connection:
            newest = "SELECT id FROM accounts_user ORDER BY email DESC LIMIT 1"
            row = connection.execute(newest).fetchone()
            assert row is not None
            return _sign_in(connection, [(row[0], [], [])])[0]

    def time_at(self, account: Account, column: str, share: float) -> date:
        """The time, or day, in `column` before which this share of the account's tasks lies."""
        with self.connect() as connection:
            row = connection.execute(
                f"SELECT percentile_disc(%s) WITHIN GROUP (ORDER BY {column})"
                " FROM tasks_task WHERE user_id = %s",
                (share, account.user_id),
            ).fetchone()
        assert row is not None
        return cast("date", row[0])

    def add_doomed(self, accounts: Sequence[Account], count: int) -> list[Doomed]:
        """Gives tasks to random accounts, for loads to delete. restore() takes what is left."""
        now = datetime.now(UTC)
        # With a version, so that nothing stamps them.
        columns, versions = (", version", (1,)) if self._is_versioned else ("", ())
        columns = f"id, user_id, title, created_at, updated_at{columns}"
        doomed = [Doomed(random.randrange(len(accounts)), uuid7()) for _ in range(count)]
        with (
            self.connect() as connection,
            connection.cursor().copy(f"COPY tasks_task ({columns}) FROM STDIN") as copy,
        ):
            for task in doomed:
                owner = accounts[task.owner].user_id
                copy.write_row((task.task_id, owner, "To be deleted", now, now, *versions))
        return doomed

    def number_doomed(self) -> None:
        """Lists the tasks that were added in benchmark.pool, for pgbench to delete one by one."""
        with self.connect() as connection:
            for statement in _NUMBER_DOOMED:
                connection.execute(statement)

    def count_tasks(self) -> int:
        """Those that live. For the statements of pgbench, which know the trash."""
        query = "SELECT count(*) FROM tasks_task WHERE deleted_at IS NULL"
        with self.connect() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _seed(self) -> None:
        print(f"Seeding {self.scale} ...", flush=True)
        self._seed_users(self.scale.users, self.scale.tasks_per_user)
        with self.connect() as connection:
            if "recurrence" in self._columns:
                connection.execute(_EACH_BY_ITSELF)
            # Before the heavy user comes: loads are of ordinary users.
            connection.execute("CREATE SCHEMA IF NOT EXISTS benchmark")
            connection.execute("DROP TABLE IF EXISTS benchmark.target")
            scale = {"tasks_per_user": self.scale.tasks_per_user, "targets": TARGETS_PER_USER}
            connection.execute(_NUMBER_TARGETS.format(columns=", ".join(self._columns)), scale)
            connection.execute("ALTER TABLE benchmark.target ADD PRIMARY KEY (number)")
        if self.scale.heavy_tasks:
            self._seed_users(1, self.scale.heavy_tasks)
        with self.connect() as connection:
            connection.execute(
                "CREATE TABLE benchmark.seed AS SELECT %s::int AS users, %s::int AS tasks_per_user,"
                " %s::int AS heavy_tasks, id AS last_task_id"
                " FROM tasks_task ORDER BY id DESC LIMIT 1",
                (self.scale.users, self.scale.tasks_per_user, self.scale.heavy_tasks),
            )
            connection.execute("VACUUM (ANALYZE)")

    def _seed_users(self, users: int, tasks_per_user: int) -> None:
        numbers = ("--users", str(users), "--tasks-per-user", str(tasks_per_user))
        self._manage("seed_load", *numbers, "--force")

    def _manage(self, *arguments: str, stdout: int | None = None) -> None:
        service.manage(self.url, *arguments, stdout=stdout, checkout=self._checkout)


def write_accounts(accounts: Sequence[Account], path: Path) -> None:
    """A line for each account: its id, its token, its lists' ids, and its tasks as id:0 or id:1."""
    with path.open("w") as file:
        for account in accounts:
            tasks = (f"{task_id}:{int(completed)}" for task_id, completed in account.tasks)
            print(account.user_id, account.access, *account.lists, *tasks, file=file)


def write_doomed(doomed: Sequence[Doomed], path: Path) -> None:
    """A line for each task: the number of its owner's line in the accounts' file, and its id."""
    with path.open("w") as file:
        for task in doomed:
            print(task.owner + 1, task.task_id, file=file)


def _sign_in(
    connection: psycopg.Connection,
    users: Sequence[tuple[UUID, Sequence[tuple[UUID, bool]], Sequence[UUID]]],
) -> list[Account]:
    """Adds a session for each user, who come with tasks and lists; returns the accounts."""
    from accounts.models import hash_token
    from accounts.session_tokens import Claims, issue_pair

    now = datetime.now(UTC)
    expires_at = now + SESSION_LIFETIME
    accounts = []
    with connection.cursor().copy(
        "COPY accounts_session (id, user_id, refresh_hash, previous_refresh_hash,"
        " created_at, rotated_at, expires_at, user_agent) FROM STDIN"
    ) as copy:
        for user_id, tasks, lists in users:
            session_id = uuid7()
            pair = issue_pair(Claims(user_id, session_id, signed_in_at=now))
            refresh_hash = hash_token(pair.refresh)
            copy.write_row(
                (session_id, user_id, refresh_hash, "", now, now, expires_at, "benchmark")
            )
            accounts.append(Account(user_id, pair.access, tasks, lists))
    return accounts


def columns_of(connection: psycopg.Connection, table: str) -> list[str]:
    """Those that can be written."""
    return [name for (name,) in connection.execute(_COLUMNS, (table,)).fetchall()]


def _is_versioned(connection: psycopg.Connection) -> bool:
    """Whether tasks have versions: those of a release before have none."""
    query = "SELECT to_regclass('todo_project_clock') IS NOT NULL"
    return connection.execute(query).fetchone() == (True,)


def _seed_of(connection: psycopg.Connection) -> Scale | None:
    """The scale to which the database is seeded; None where it is empty."""
    known = connection.execute("SELECT to_regclass('benchmark.seed') IS NOT NULL").fetchone()
    if known == (True,):
        query = "SELECT users, tasks_per_user, heavy_tasks FROM benchmark.seed"
        row = connection.execute(query).fetchone()
        assert row is not None
        return Scale(*row)
    if connection.execute("SELECT 1 FROM accounts_user LIMIT 1").fetchone() is not None:
        raise OtherDataError("The database holds people who are none of the benchmarks' making.")
    return None
