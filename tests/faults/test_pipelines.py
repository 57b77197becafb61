"""Pipelines through a pooler in transaction mode, and counted on the wire."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, IntegrityError, OperationalError, connections, transaction

from benchmarks.proxy import delaying_proxy
from tests.test_pipeline import ONE, SEQUENCES, few_statements, random_pipelines
from todo_project.postgresql.base import DatabaseWrapper
from todo_project.watchdog import watchdog

from .pgbouncer import HOW_TO_INSTALL, carries_prepared_statements, find, pgbouncer
from .postgres import PrivatePostgres

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

needs_pgbouncer = pytest.mark.skipif(find() is None, reason=HOW_TO_INSTALL)
NO_PREPARED_STATEMENTS = "This PgBouncer carries no prepared statements: 1.21 is needed."
COUNTER = "pipeline_counter"
ADD = f"INSERT INTO {COUNTER} VALUES (%(n)s::int) RETURNING n"


@contextmanager
def opened(url: str, *, is_prepared: bool) -> Iterator[DatabaseWrapper]:
    """The service's kind of connection to the database of `url`."""
    parameters = psycopg.conninfo.conninfo_to_dict(url)
    configured = deepcopy(settings.DATABASES[DEFAULT_DB_ALIAS])
    configured |= {
        "HOST": parameters["host"],
        "PORT": parameters["port"],
        "USER": parameters["user"],
        "NAME": parameters["dbname"],
    }
    configured["OPTIONS"] |= {
        "server_side_binding": is_prepared,
        "prepare_threshold": 1 if is_prepared else None,
    }
    alias = "pipelined"
    database = DatabaseWrapper({**connections[DEFAULT_DB_ALIAS].settings_dict, **configured}, alias)
    connections[alias] = database
    try:
        yield database
    finally:
        database.close()
        del connections[alias]


@pytest.fixture
def counter(postgres: PrivatePostgres, django_db_blocker: Any) -> Iterator[None]:
    postgres.execute(f"CREATE TABLE {COUNTER} (n int PRIMARY KEY)")
    postgres.execute(f"GRANT ALL ON {COUNTER} TO PUBLIC")
    try:
        with django_db_blocker.unblock():
            yield
    finally:
        postgres.execute(f"DROP TABLE {COUNTER}")


@pytest.fixture(params=[True, False], ids=["prepared", "not prepared"])
def pooled(
    request: pytest.FixtureRequest, counter: None, postgres: PrivatePostgres
) -> Iterator[list[DatabaseWrapper]]:
    """Two clients that take turns on one server connection."""
    program = find()
    assert program is not None
    if request.param and not carries_prepared_statements(program):
        pytest.skip(NO_PREPARED_STATEMENTS)
    pool = {"default_pool_size": "1", "server_login_retry": "1"}
    with pgbouncer(program, postgres, pool) as port:
        url = postgres.url.replace(f":{postgres.port}/", f":{port}/")
        with opened(url, is_prepared=request.param) as database:
            other = DatabaseWrapper(database.settings_dict, "other")
            connections["other"] = other
            try:
                yield [database, other]
            finally:
                other.close()
                del connections["other"]


def stored(postgres: PrivatePostgres) -> list[int]:
    return [n for (n,) in postgres.execute(f"SELECT n FROM {COUNTER} ORDER BY n")]


@needs_pgbouncer
@pytest.mark.parametrize("is_atomic", [False, True], ids=["implicit", "atomic"])
def test_pooled_pipeline_is_all_or_none(
    is_atomic: bool, pooled: list[DatabaseWrapper], postgres: PrivatePostgres
) -> None:
    """Whoever uses the server's connection next finds it sound."""
    for n in range(0, 60, 3):
        for database in pooled:
            way = transaction.atomic(using=database.alias) if is_atomic else nullcontext()
            with pytest.raises(IntegrityError), way:
                database.fetch_each([(ADD, {"n": n}), ONE, (ADD, {"n": n}), (ADD, {"n": n + 1})])
        database = pooled[n % 2]
        with transaction.atomic(using=database.alias) if is_atomic else nullcontext():
            rows = database.fetch_each([(ADD, {"n": n}), ONE, (ADD, {"n": n + 1})])
        assert rows == [[(n,)], [(1,)], [(n + 1,)]]

    assert stored(postgres) == [n for n in range(60) if n % 3 < 2]


@needs_pgbouncer
def test_pooled_pipelines_stay_in_step(
    pooled: list[DatabaseWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    for database in pooled:
        database.ensure_connection()
        few_statements(database, monkeypatch)

    for seed in range(SEQUENCES):
        random_pipelines(pooled[seed % 2], random.Random(seed), lambda: None)


@needs_pgbouncer
@pytest.mark.parametrize(
    "failing",
    [
        pytest.param("SELECT pg_terminate_backend(pg_backend_pid())", id="connection lost"),
        pytest.param("SELECT pg_sleep(3)", id="watchdog"),
    ],
)
def test_pooled_pipeline_that_breaks_off_leaves_nothing(
    failing: str, pooled: list[DatabaseWrapper], postgres: PrivatePostgres, settings: Any
) -> None:
    settings.REQUEST_TIME_LIMIT_SECONDS = 0.5
    for n, database in enumerate([*pooled, *pooled]):
        database.ensure_connection()
        with pytest.raises(OperationalError), watched(database):
            # The server has all of it, and would do it after the client has gone, but for its end.
            database.fetch_each([(ADD, {"n": n}), (failing, {}), ("SELECT 1 / 0", {})])
        database.close_if_unusable_or_obsolete()
        for other in pooled:
            assert other.fetch_each([ONE, ONE]) == [[(1,)], [(1,)]]

    assert stored(postgres) == []


@contextmanager
def watched(database: DatabaseWrapper) -> Iterator[None]:
    """By the watchdog, which looks at the default database."""
    default = connections[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = database
    try:
        with watchdog:
            yield
    finally:
        connections[DEFAULT_DB_ALIAS] = default


@needs_pgbouncer
def test_pooled_pipeline_takes_long_texts(pooled: list[DatabaseWrapper]) -> None:
    texts = [f"{n}".ljust(200_000, "x") for n in range(100)]
    for _ in range(3):
        rows = pooled[0].fetch_each([("SELECT %(text)s::text", {"text": text}) for text in texts])
        assert [row[0][0] for row in rows] == texts


@pytest.mark.parametrize(("is_atomic", "round_trips"), [(False, 1), (True, 2)])
def test_round_trips_on_the_wire(
    is_atomic: bool, round_trips: int, counter: None, postgres: PrivatePostgres
) -> None:
    """A hundred writes: as many as one. BEGIN goes with them, COMMIT is another."""
    with delaying_proxy(postgres.url) as (proxy, url), opened(url, is_prepared=True) as database:
        proxy.delay_s = 0.02  # with a delay the count is exact
        database.ensure_connection()
        for n in range(3):
            statements = [(ADD, {"n": n * 100 + i}) for i in range(100)]
            before = proxy.round_trips
            with transaction.atomic(using=database.alias) if is_atomic else nullcontext():
                database.fetch_each(statements)
            assert proxy.round_trips - before == round_trips

    assert stored(postgres) == [*range(300)]
