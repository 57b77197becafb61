"""An idle service lets its database sleep."""

import os
import time

import pytest

from .postgres import ROLE, PrivatePostgres
from .service import PROCESSES, THREADS, Account, Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

# Neon suspends a compute after 300 idle seconds: set it to 600 to see that there are so many.
IDLE_S = int(os.environ.get("IDLE_S", "30"))


def test_idle_service_sends_the_database_nothing(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    """Neither by itself nor for /livez, which is asked for every second."""

    def heard() -> list[str]:
        lines = postgres.log.read_text().splitlines()
        return [line for line in lines if f"user={ROLE}" in line]

    every_line = {"log_line_prefix": "user=%u ", "log_statement": "all", "log_connections": "on"}
    with postgres.configured(**every_line), service.caller(alice) as caller:
        reads = [("GET", "/api/me/tasks")] * 4 * PROCESSES * THREADS
        assert {answer.status for answer in service.at_once(reads, alice)} == {200}
        before = heard()
        for _ in range(IDLE_S):
            assert caller.call("GET", "/livez").status == 200
            time.sleep(1)
        after = heard()

    assert len(before) >= len(reads)
    assert after == before
