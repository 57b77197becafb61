"""A host has several addresses, as Neon's have, and some of them are silent."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import dj_database_url
import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from tests.processes import free_port
from todo_project.api.errors import log_database_fault

from .postgres import PrivatePostgres

pytestmark = [
    pytest.mark.faults,
    pytest.mark.xdist_group("faults"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 has to be set up"),
]

HOST = "ep-x.example.com"
SILENT = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
# Two addresses that don't share the time take twice as long.
TIME_LIMIT_S = 2 * settings.CONNECT_TIMEOUT_SECONDS


@pytest.fixture
def connect(
    postgres: PrivatePostgres, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Any, float]]]:
    """Connects to a host that has these addresses; returns the wrapper, and the seconds it took.

    The silent ones take connections, and never say a word.
    """
    wrapper = ConnectionHandler({"default": _database(postgres, HOST)})["default"]

    def connect_to(addresses: list[str]) -> tuple[Any, float]:
        def look_up(host: str, *args: Any, **kwargs: Any) -> list[Any]:
            assert host == HOST
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        started = time.monotonic()
        try:
            wrapper.ensure_connection()
        except OperationalError as error:
            return error, time.monotonic() - started
        return wrapper, time.monotonic() - started

    with ExitStack() as listeners, django_db_blocker.unblock():
        for address in SILENT:
            listener = listeners.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, postgres.port))
            listener.listen()
        yield connect_to
        wrapper.close()


def _database(postgres: PrivatePostgres, host: str) -> dict[str, Any]:
    return {
        **settings.DATABASES["default"],
        **dj_database_url.parse(postgres.url),
        "ENGINE": settings.DATABASES["default"]["ENGINE"],
        "HOST": host,
    }


@pytest.mark.parametrize("addresses", [SILENT[:1], SILENT[:2], SILENT], ids=len)
def test_silent_addresses_share_the_time(
    addresses: list[str], connect: Callable[..., tuple[Any, float]]
) -> None:
    error, seconds = connect(addresses)

    assert isinstance(error, OperationalError)
    assert "timeout expired" in str(error)
    assert seconds < TIME_LIMIT_S


def test_address_after_a_silent_one_is_tried(connect: Callable[..., tuple[Any, float]]) -> None:
    wrapper, seconds = connect([SILENT[0], "127.0.0.1"])

    assert wrapper.connection.info.hostaddr == "127.0.0.1"
    assert wrapper.connection.info.host == HOST  # which `sslmode=verify-full` compares
    assert seconds < TIME_LIMIT_S


def test_name_that_nobody_knows(
    postgres: PrivatePostgres, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    wrapper = ConnectionHandler({"default": _database(postgres, HOST)})["default"]

    with django_db_blocker.unblock(), pytest.raises(OperationalError, match=HOST):
        wrapper.ensure_connection()


def test_failure_tells_the_host_and_no_password(
    postgres: PrivatePostgres, django_db_blocker: DjangoDbBlocker, caplog: pytest.LogCaptureFixture
) -> None:
    database = {**_database(postgres, "127.0.0.1"), "PASSWORD": "correct horse battery staple"}
    database["PORT"] = str(free_port())
    wrapper = ConnectionHandler({"default": database})["default"]

    with django_db_blocker.unblock(), pytest.raises(OperationalError) as failure:
        wrapper.ensure_connection()
    log_database_fault(failure.value)

    told = caplog.records[-1].__dict__
    assert "127.0.0.1" in told["reason"]
    assert "Connection refused" in told["reason"]
    assert "correct horse" not in f"{told}"


@pytest.mark.parametrize("host", ["socket", "hostaddr"])
def test_what_is_no_name_is_not_looked_up(
    host: str,
    postgres: PrivatePostgres,
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = _database(postgres, str(postgres.folder))
    database["USER"] = "postgres"
    if host == "hostaddr":
        database = _database(postgres, HOST)
        database["OPTIONS"] = {**database["OPTIONS"], "hostaddr": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", None)
    wrapper = ConnectionHandler({"default": database})["default"]

    with django_db_blocker.unblock():
        wrapper.ensure_connection()
        assert isinstance(wrapper.connection, psycopg.Connection)
        wrapper.close()
