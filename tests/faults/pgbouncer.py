"""PgBouncer in transaction mode, as it stands before PostgreSQL at Neon."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psycopg

from tests.processes import free_port, wait_until
from todo_project import embedded_postgres as embedded

from .postgres import ROLE, PrivatePostgres, server_user

HOW_TO_INSTALL = "pgbouncer is missing: apt-get install pgbouncer, or brew install pgbouncer."
SEARCH_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"
FIRST_WITH_PREPARED_STATEMENTS = (1, 21)
SETTINGS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "trust",
    "pool_mode": "transaction",
    "default_pool_size": "20",
    "max_client_conn": "1000",
}


def find() -> str | None:
    """The program's path, where it is installed."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path=SEARCH_PATH)


def carries_prepared_statements(program: str) -> bool:
    """Whether this version hands those on that are prepared by the protocol."""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"PgBouncer (\d+)\.(\d+)", output.stdout)
    assert found is not None, output.stdout
    return (int(found[1]), int(found[2])) >= FIRST_WITH_PREPARED_STATEMENTS


@contextmanager
def pgbouncer(
    program: str, postgres: PrivatePostgres, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[int]:
    """Runs as long as the block, before all databases of `postgres`; its port."""
    port, folder = free_port(), postgres.folder
    all_settings = {**SETTINGS, **settings, "listen_port": str(port)}
    if carries_prepared_statements(program):
        all_settings["max_prepared_statements"] = "200"
    sections = {
        "databases": {"*": f"host=127.0.0.1 port={postgres.port}"},
        "pgbouncer": {**all_settings, "auth_file": str(folder / "users.txt")},
    }
    lines = [f'"{user}" ""' for user in (ROLE, "postgres")]
    _write(folder / "users.txt", lines)
    configuration = folder / f"pgbouncer-{port}.ini"
    lines = [
        line
        for section, pairs in sections.items()
        for line in (f"[{section}]", *(f"{name} = {value}" for name, value in pairs.items()))
    ]
    _write(configuration, lines)
    with (folder / f"pgbouncer-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [program, configuration], stdout=log, stderr=log, cwd=folder, **server_user()
        )
    try:
        _wait(process, port, Path(log.name))
        yield port
    finally:
        process.kill()
        process.wait()


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
    if embedded.is_root():
        embedded.give_to_nobody(path)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    def takes_connections() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(psycopg.OperationalError):
            psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
            return True
        return False

    wait_until(takes_connections)
