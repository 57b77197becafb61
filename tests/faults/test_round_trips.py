"""How often a request goes to the database and back: counted on the wire, BEGIN included."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.proxy import DelayingProxy, delaying_proxy

from .claims import TASKS
from .postgres import PrivatePostgres
from .service import Account, Caller, Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

ONE = f"{TASKS}/{{}}"
STEADY_REQUESTS = 8  # so many in a row
MOST_REQUESTS = 60  # until each thread, the one to spare too, has connected and prepared


@pytest.fixture(scope="module")
def proxied(_postgres: PrivatePostgres) -> Iterator[tuple[DelayingProxy, Service]]:
    """A service with one thread that works, limits on, and the proxy before its database."""
    with delaying_proxy(_postgres.url) as (proxy, url):
        proxy.delay_s = 0.001  # with a delay the count is exact
        service = Service(url, {"RATE_LIMIT_WRITES": "1000/minute"})
        service.start("--processes", "1", "--threads", "1")
        try:
            yield proxy, service
        finally:
            service.stop()


@pytest.fixture
def caller(proxied: tuple[DelayingProxy, Service], alice: Account) -> Iterator[Caller]:
    with proxied[1].caller(alice) as caller:
        yield caller


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", TASKS, None, id="list"),
        pytest.param("GET", f"{TASKS}?total=true", None, id="list with total"),
        pytest.param("GET", ONE, None, id="read"),
        pytest.param("POST", TASKS, {"title": "x"}, id="create"),
        pytest.param("PUT", ONE, {"title": "y"}, id="replace"),
        pytest.param("PATCH", ONE, {"title": "z"}, id="update"),
        pytest.param("PATCH", f"{ONE}/complete", {}, id="complete"),
        pytest.param("DELETE", ONE, None, id="delete"),
        pytest.param("DELETE", f"{ONE}?permanent=true", None, id="purge"),
        pytest.param("POST", f"{ONE}/restore", None, id="restore"),
        pytest.param("GET", "/api/me/changes", None, id="changes"),
        pytest.param("GET", "/api/me/trash", None, id="trash"),
    ],
)
def test_one_round_trip(
    method: str,
    path: str,
    body: Any,
    caller: Caller,
    proxied: tuple[DelayingProxy, Service],
) -> None:
    """The session's check, the count of a write and the work."""
    proxy, _ = proxied
    counts: list[int] = []
    steady = [1] * STEADY_REQUESTS
    while counts[-STEADY_REQUESTS:] != steady and len(counts) < MOST_REQUESTS:
        task = caller.call("POST", TASKS, {"title": "x"}).data["id"]
        before = proxy.round_trips
        assert caller.call(method, path.format(task), body).is_success
        counts.append(proxy.round_trips - before)

    assert counts[-STEADY_REQUESTS:] == steady, counts
