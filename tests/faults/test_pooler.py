"""Faults behind a pooler, which keeps clients waiting instead of refusing them."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings

from .claims import (
    MANY,
    Clients,
    answers_at_once,
    assert_alive,
    assert_back,
    assert_fast,
    assert_no_row_twice,
    assert_unavailable,
    probed,
    requests_of_all_kinds,
)
from .pgbouncer import HOW_TO_INSTALL, carries_prepared_statements, find, pgbouncer
from .postgres import DATABASE, ROLE, PrivatePostgres
from .service import Service

pytestmark = [
    pytest.mark.faults,
    pytest.mark.xdist_group("faults"),
    pytest.mark.skipif(find() is None, reason=HOW_TO_INSTALL),
]


@pytest.fixture(scope="module")
def pooler_url(_postgres: PrivatePostgres) -> Iterator[str]:
    program = find()
    assert program is not None
    settings = {"default_pool_size": "1", "server_login_retry": "1"}
    with pgbouncer(program, _postgres, settings) as port:
        yield f"postgresql://{ROLE}@127.0.0.1:{port}/{DATABASE}"


@pytest.fixture(scope="module")
def pooled_service(pooler_url: str) -> Iterator[Service]:
    is_prepared = carries_prepared_statements(find() or "")
    service = Service(pooler_url, {"DATABASE_PREPARED_STATEMENTS": str(is_prepared).lower()})
    service.start()
    try:
        yield service
    finally:
        service.stop()


def test_exhausted_pool(pooled_service: Service, pooler_url: str) -> None:
    account = pooled_service.register()
    requests = requests_of_all_kinds(pooled_service, account)

    with psycopg.connect(pooler_url) as other:
        # In a transaction, which has the pool's only connection.
        other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        for answer in answers_at_once(pooled_service, requests, account):
            assert_unavailable(answer)
        assert_alive(pooled_service)

    assert_back(pooled_service, account)


def test_livez_answers_while_the_pool_is_exhausted(
    pooled_service: Service, pooler_url: str, postgres: PrivatePostgres
) -> None:
    """Longer than a request may take, and under clients that keep coming."""
    account = pooled_service.register()
    with Clients(pooled_service, account, readers=MANY, writers=MANY) as clients:
        with psycopg.connect(pooler_url) as other, probed(pooled_service):
            other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            time.sleep(settings.REQUEST_TIME_LIMIT_SECONDS + 3)
        assert_back(pooled_service, account)
        assert_fast(pooled_service)

    failed = [answer for answer in clients.answers if not answer.is_success]
    assert failed
    for answer in failed:
        assert_unavailable(answer)
    assert_no_row_twice(postgres, clients.writes)


def test_restart_behind_the_pooler(pooled_service: Service, postgres: PrivatePostgres) -> None:
    account = pooled_service.register()
    requests = requests_of_all_kinds(pooled_service, account)

    postgres.stop()
    for answer in answers_at_once(pooled_service, requests, account):
        assert_unavailable(answer)
    assert_alive(pooled_service)

    postgres.start()
    assert_back(pooled_service, account)
