"""The whole suite through PgBouncer: `python -m tests.pooled [arguments of pytest]`.

Requests go through a pool in transaction mode, as at Neon, and what needs a session of its own
through DIRECT_DATABASE_URL. PgBouncer before 1.21 carries no prepared statements; they are on
where it does. REQUIRE_PREPARED_STATEMENTS=true refuses such a one.

PostgreSQL and PgBouncer run as long as the tests. The test databases go with them: to drop one,
PostgreSQL would first have to be rid of the connections that the pool keeps open to it.
"""

import os
import signal
import subprocess
import sys
from types import FrameType

from tests.faults.pgbouncer import HOW_TO_INSTALL, carries_prepared_statements, find, pgbouncer
from tests.faults.postgres import private_postgres

# Several test workers, each with its threads, as in embedded_postgres.
SERVER_SETTINGS = {"max_connections": "300", "shared_buffers": "256MB"}
# For each test worker's database: more than a test has requests at once.
POOL_SETTINGS = {"default_pool_size": "30"}
# Those that bring servers of their own, and don't look at DATABASE_URL.
NOT_OF_THE_DATABASE = "not faults and not system"


def main() -> int:
    program = find()
    if program is None:
        sys.stderr.write(f"{HOW_TO_INSTALL}\n")
        return 1
    signal.signal(signal.SIGTERM, _end)
    has_prepared_statements = carries_prepared_statements(program)
    sys.stderr.write(f"Prepared statements: {'on' if has_prepared_statements else 'off'}\n")
    if not has_prepared_statements and os.environ.get("REQUIRE_PREPARED_STATEMENTS") == "true":
        sys.stderr.write("This PgBouncer is too old: 1.21 is needed.\n")
        return 1
    with (
        private_postgres(**SERVER_SETTINGS) as postgres,
        pgbouncer(program, postgres, POOL_SETTINGS) as port,
    ):
        # Superuser, as in the embedded server.
        url = "postgresql://postgres@127.0.0.1:{}/todo"
        environment = {
            **os.environ,
            "DATABASE_URL": url.format(port),
            "DIRECT_DATABASE_URL": url.format(postgres.port),
            "DATABASE_PREPARED_STATEMENTS": str(has_prepared_statements).lower(),
        }
        pytest = [sys.executable, "-m", "pytest", "--reuse-db", "-m", NOT_OF_THE_DATABASE]
        return subprocess.run([*pytest, *sys.argv[1:]], env=environment).returncode


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
