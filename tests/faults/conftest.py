"""One PostgreSQL and one service for the whole folder; each test gets them sound."""

from collections.abc import Iterator

import pytest

from .postgres import ROLE, PrivatePostgres, private_postgres
from .service import Account, Service

# Shorter than the service's own, so that tests need not wait for those; and longer than a busy
# machine lets a sound transaction wait.
SHORT_TIMEOUTS = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "4s",
}


@pytest.fixture(scope="package")
def _postgres() -> Iterator[PrivatePostgres]:
    with private_postgres() as server:
        Service(server.url).manage("migrate", "--verbosity", "0")
        server.set_role(**SHORT_TIMEOUTS)
        yield server


@pytest.fixture(scope="package")
def _service(_postgres: PrivatePostgres) -> Iterator[Service]:
    service = Service(_postgres.url)
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def postgres(_postgres: PrivatePostgres) -> PrivatePostgres:
    if not _postgres.is_running:
        _postgres.start()
    return _postgres


@pytest.fixture
def service(_service: Service, postgres: PrivatePostgres) -> Iterator[Service]:
    """The service; afterwards its log must know of no defect."""
    known = len(_service.defects())
    yield _service
    assert _service.defects()[known:] == []


@pytest.fixture(scope="package")
def alice(_service: Service) -> Account:
    return _service.register()


@pytest.fixture
def bare_role(postgres: PrivatePostgres) -> Iterator[None]:
    """The role has no settings of its own as long as the test runs."""
    saved = postgres.execute("SELECT unnest(rolconfig) FROM pg_roles WHERE rolname = %s", ROLE)
    postgres.execute(f"ALTER ROLE {ROLE} RESET ALL")
    try:
        yield
    finally:
        postgres.execute(f"ALTER ROLE {ROLE} RESET ALL")
        postgres.set_role(**dict(setting.split("=", 1) for (setting,) in saved))
