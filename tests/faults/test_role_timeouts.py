"""The timeouts of requests stand on the role; what takes longer by right sets its own."""

from collections.abc import Iterator

import pytest
from django.conf import settings

from .postgres import ROLE, PrivatePostgres
from .service import Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

DATABASE = "commands"
# Makes one step of the migrations take longer than the role's statement_timeout.
SLOW_STEP = """
    CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands()
                   WHERE object_identity LIKE '%tasks_task_user_id') THEN
            PERFORM pg_sleep(0.6);
            ASSERT current_setting('idle_in_transaction_session_timeout') = '0';
        END IF;
    END $$;
    CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE INDEX')
        EXECUTE FUNCTION slow()
"""
EXPIRED = """
    INSERT INTO todo_project_ratecounter
    VALUES (gen_random_uuid(), 1, 1, now() - '1 hour'::interval)
"""


@pytest.fixture
def operator(postgres: PrivatePostgres) -> Iterator[Service]:
    """Commands on an empty database; the role's settings there are of no concern elsewhere."""
    postgres.create_database(DATABASE)
    try:
        yield Service(postgres.url_of(DATABASE))
    finally:
        postgres.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def test_command_sets_them_and_the_check_asks_for_them(
    operator: Service, bare_role: None, postgres: PrivatePostgres
) -> None:
    before = operator.manage("check", "--database", "default")
    migrated = operator.manage("migrate", "--verbosity", "0")
    printed = operator.manage("set_role_timeouts")
    after = operator.manage("check", "--database", "default")

    assert "todo.W005" in before
    assert "todo.W005" in migrated
    assert "todo.W005" not in after
    rows = postgres.execute("SELECT unnest(rolconfig) FROM pg_roles WHERE rolname = %s", ROLE)
    assert {row[0].lower() for row in rows} == {
        *(f"{name}={value}" for name, value in settings.ROLE_TIMEOUTS.items()),
        *(f"{name}={value}".lower() for name, value in settings.ROLE_SETTINGS.items()),
    }
    assert f"role {ROLE}" in printed
    assert "statement_timeout = 8s" in printed


def test_migrate_and_purge_take_longer_than_requests_may(
    operator: Service, postgres: PrivatePostgres
) -> None:
    alter = f"ALTER ROLE {ROLE} IN DATABASE {DATABASE} SET"
    postgres.execute(f"{alter} statement_timeout = '300ms'")
    postgres.execute(f"{alter} idle_in_transaction_session_timeout = '1min'")
    postgres.execute(SLOW_STEP, database=DATABASE)

    operator.manage("migrate", "--verbosity", "0")
    postgres.execute(EXPIRED, database=DATABASE)
    slow = "PERFORM pg_sleep(0.6);"
    with postgres.trigger("todo_project_ratecounter", "", slow, database=DATABASE):
        purged = operator.manage("purge_expired")

    assert "RateCounter: 1 deleted" in purged
