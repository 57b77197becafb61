"""A PostgreSQL with the roles of production: one that owns and migrates, and one that serves.

`docker/10-roles.sh` makes the latter, as it does for compose.yaml. Neither is a superuser, as at
Neon.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.postgres import PrivatePostgres, private_postgres
from tests.processes import PROJECT
from todo_project import embedded_postgres as embedded

OWNER, APP = "owner", "app"
DATABASE = "todo"


@contextmanager
def postgres_with_roles() -> Iterator[PrivatePostgres]:
    """A server that runs as long as the block, with the empty database DATABASE."""
    with private_postgres() as server:
        # What it comes with belongs to the role that is to own nothing.
        server.execute(f"DROP DATABASE {DATABASE}", database="postgres")
        server.execute(f"DROP ROLE {APP}", database="postgres")
        server.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE", database="postgres")
        make_database(server, DATABASE)
        made = subprocess.run(
            [PROJECT / "docker" / "10-roles.sh"],
            env={
                "PATH": f"{_programs(server)}:/usr/bin:/bin",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(server.port),
                "POSTGRES_USER": OWNER,
                "POSTGRES_DB": DATABASE,
                "APP_PASSWORD": 'it\'s a "password"',
            },
            capture_output=True,
            text=True,
        )
        assert (made.returncode, made.stderr) == (0, "")
        yield server


def make_database(postgres: PrivatePostgres, name: str) -> None:
    postgres.execute(f"CREATE DATABASE {name} OWNER {OWNER}", database="postgres")


def url_of(postgres: PrivatePostgres, role: str, database: str = DATABASE) -> str:
    return f"postgresql://{role}@127.0.0.1:{postgres.port}/{database}"


def run_program(postgres: PrivatePostgres, name: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's programs, which must have nothing to say."""
    command = [str(_programs(postgres) / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def _programs(postgres: PrivatePostgres) -> Path:
    return embedded.programs_folder(postgres.folder, embedded.package_folder())
