"""What a role's settings do to requests: nothing, or /readyz and `check` name them."""

from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from .claims import answers_at_once, requests_of_all_kinds
from .pgbouncer import HOW_TO_INSTALL, carries_prepared_statements, find, pgbouncer
from .postgres import DATABASE, ROLE, PrivatePostgres
from .service import Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

SetRole = Callable[[str, str], None]

MET = {
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Pacific/Apia",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "escape_string_warning": "off",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
}
UNMET = [
    pytest.param(
        "default_transaction_isolation", "serializable", "are serializable", id="serializable"
    ),
    pytest.param(
        "default_transaction_isolation",
        "repeatable read",
        "are repeatable read",
        id="repeatable read",
    ),
    pytest.param("default_transaction_read_only", "on", "are read-only", id="read-only"),
    pytest.param("search_path", "pg_catalog", "doesn't see accounts_identity,", id="search_path"),
]


@pytest.fixture
def set_role(postgres: PrivatePostgres) -> Iterator[SetRole]:
    """Gives ROLE a setting for the length of the test; connections begin anew with it."""
    names: list[sql.Identifier] = []

    def set_(name: str, value: str) -> None:
        names.append(sql.Identifier(name))
        postgres.set_role(**{name: value})
        postgres.terminate_connections()

    yield set_
    for name in names:
        postgres.execute(sql.SQL("ALTER ROLE {} RESET {}").format(sql.Identifier(ROLE), name))
    postgres.terminate_connections()


@pytest.fixture(scope="module")
def behind_pooler(_postgres: PrivatePostgres) -> Iterator[Service]:
    program = find()
    if program is None:
        pytest.skip(HOW_TO_INSTALL)
    is_prepared = carries_prepared_statements(program)
    with pgbouncer(program, _postgres, {"server_login_retry": "1"}) as port:
        service = Service(
            f"postgresql://{ROLE}@127.0.0.1:{port}/{DATABASE}",
            {"DATABASE_PREPARED_STATEMENTS": str(is_prepared).lower()},
        )
        service.start()
        try:
            yield service
        finally:
            service.stop()


@pytest.mark.parametrize("server", ["service", "behind_pooler"], ids=["direct", "PgBouncer"])
@pytest.mark.parametrize("name", MET)
def test_setting_that_makes_no_difference(
    name: str, server: str, set_role: SetRole, request: pytest.FixtureRequest
) -> None:
    """[C1] Texts beyond Latin-1, times, errors and sign-ins are as ever."""
    service: Service = request.getfixturevalue(server)
    set_role(name, MET[name])

    account = service.register()
    requests = requests_of_all_kinds(service, account)
    answers = answers_at_once(service, requests, account)
    title = {"title": r"日本 \\ \n ' 🐘"}
    with service.caller(account) as caller:
        created = caller.call("POST", "/api/me/tasks", title)
        found = caller.call("GET", "/api/me/tasks?search=%5C%5C&created_after=2020-01-01T00:00:00Z")

    assert [str(answer) for answer in answers if not answer.is_success] == []
    assert created.data["title"] == title["title"]
    assert created.data["created_at"].endswith("Z")
    assert [task["id"] for task in found.data] == [created.data["id"]]
    assert service.defects() == []


@pytest.mark.parametrize(("name", "value", "reason"), UNMET)
def test_setting_with_which_requests_fail(
    name: str,
    value: str,
    reason: str,
    service: Service,
    postgres: PrivatePostgres,
    set_role: SetRole,
) -> None:
    """[C1] Also where the process was ready before."""
    with service.caller() as caller:
        before = caller.call("GET", "/readyz")
        set_role(name, value)
        during = caller.call("GET", "/readyz")
        alive = caller.call("GET", "/livez")

    assert (before.status, during.status, alive.status) == (200, 503, 200)
    assert reason in during.body["error"]["message"]
    assert "ALTER ROLE ... SET " in during.body["error"]["message"]


def test_check_names_them_and_the_command_sets_them_right(
    service: Service, bare_role: None, set_role: SetRole
) -> None:
    """[C1] Though the command itself is run by a read-only role."""
    set_role("default_transaction_isolation", "serializable")
    set_role("default_transaction_read_only", "on")

    before = service.manage("check", "--database", "default")
    service.manage("set_role_timeouts")
    after = service.manage("check", "--database", "default")

    assert before.count("todo.W010") == 2
    assert "todo.W010" not in after


def test_encoding_of_the_database(postgres: PrivatePostgres) -> None:
    """[C1]"""
    options = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    postgres.execute(f"CREATE DATABASE latin OWNER {ROLE} {options}")
    try:
        checked = Service(postgres.url_of("latin")).manage("check", "--database", "default")
    finally:
        postgres.execute("DROP DATABASE latin WITH (FORCE)")

    assert "encoding is LATIN1" in checked
