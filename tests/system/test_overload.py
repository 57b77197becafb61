"""Far more clients than a small server can serve: it stays honest, bounded, and recovers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
import requests
from django.conf import settings as service_settings
from django.db import connection

from accounts.models import User
from tests.conftest import begin_session
from tests.processes import wait_until
from tests.system.conftest import KEYS, Server, answers

pytestmark = pytest.mark.system

CONNECTIONS = 2000
REQUESTS_EACH = 3
# Of 1,200 writes some succeed and some don't, in however many minutes.
WRITES_PER_MINUTE = 100
MEMORY_LIMIT_BYTES = 200 * 1024 * 1024
PROBES = ("/livez", "/readyz")
PATIENCE_S = 2
# After the last client has left: what waits in the proxy for longer is refused; what waits for less
# may still wait for a turn, and then be stored.
LATE_S = service_settings.QUEUE_TIME_LIMIT_SECONDS + service_settings.TURN_TIME_LIMIT_SECONDS


@pytest.fixture
def access(alice: User, settings: object) -> str:
    settings.JWT_SIGNING_KEY = KEYS["JWT_SIGNING_KEY"]  # type: ignore[attr-defined]
    return begin_session(alice).access


def request_of(method: str, access: str) -> bytes:
    body = b'{"title": "x"}' if method == "POST" else b""
    head = (
        f"{method} /api/me/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {access}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ")[1])


def test_two_thousand_connections(serve: Callable[..., Server], alice: User, access: str) -> None:
    options = ("--processes", "1", "--threads", "2")
    server = serve(*options, RATE_LIMIT_WRITES=f"{WRITES_PER_MINUTE}/minute")
    before = max(server.memory_bytes())
    statuses: Counter[object] = Counter()
    seconds: list[float] = []
    peak = 0

    async def client(number: int) -> None:
        request = request_of("POST" if number % 5 == 0 else "GET", access)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(REQUESTS_EACH):
            sent_at = time.monotonic()
            writer.write(request)
            statuses[await read_status(reader)] += 1
            seconds.append(time.monotonic() - sent_at)
        writer.close()

    async def flood() -> None:
        nonlocal peak
        clients = asyncio.gather(
            *(client(number) for number in range(CONNECTIONS)), return_exceptions=True
        )
        while not clients.done():
            peak = max(peak, *server.memory_bytes())
            await asyncio.wait([clients], timeout=0.5)
        for result in await clients:
            if isinstance(result, BaseException):
                statuses[repr(result)] += 1

    started = time.monotonic()
    asyncio.run(asyncio.wait_for(flood(), 600))
    ended = time.monotonic()
    wait_until(lambda: answers(f"{server.url}/readyz"))

    print(  # noqa: T201  # the figure is what `make test-system` shows
        f"{CONNECTIONS} connections, {ended - started:.1f} s: {dict(statuses)}; an answer took "
        f"{median(seconds):.1f} s in the middle, {max(seconds):.1f} s at most; memory of the "
        f"worker {before / 2**20:.0f} MiB before, {peak / 2**20:.0f} MiB at most"
    )
    assert sum(statuses.values()) == CONNECTIONS * REQUESTS_EACH
    assert {200, 201, 429} <= set(statuses) <= {200, 201, 429, 503}, statuses
    assert alice.tasks.count() == statuses[201]
    assert peak < MEMORY_LIMIT_BYTES


@pytest.fixture
def slow_writes(transactional_db: None) -> Iterator[None]:
    """Two threads store a hundred tasks a second at most, on however fast a machine."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER slow AFTER INSERT ON tasks_task FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        yield
        cursor.execute("DROP FUNCTION slow CASCADE")


@pytest.mark.usefixtures("slow_writes")
def test_clients_that_give_up(
    serve: Callable[..., Server], balance: Callable[..., int], alice: User, access: str
) -> None:
    """What they left behind is refused and not worked off, by the time that the proxy wrote."""
    options = ("--processes", "1", "--threads", "2")
    server = serve(*options, RATE_LIMIT_WRITES="off", TRUSTED_PROXIES="1")
    port = balance(server)
    statuses: Counter[object] = Counter()
    request = request_of("POST", access)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        try:
            statuses[await asyncio.wait_for(read_status(reader), PATIENCE_S)] += 1
        except TimeoutError:
            statuses["gave up"] += 1
        finally:
            writer.close()

    async def flood() -> None:
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))

    def is_well() -> bool:
        urls = [f"http://127.0.0.1:{p}{path}" for p in (port, server.port) for path in PROBES]
        try:
            return all(requests.get(url, timeout=1).status_code == 200 for url in urls)
        except requests.RequestException:
            return False

    asyncio.run(asyncio.wait_for(flood(), 600))
    left_at = datetime.now(UTC)
    wait_until(is_well)
    recovery = datetime.now(UTC) - left_at
    time.sleep(LATE_S)
    stored_at = sorted(alice.tasks.values_list("created_at", flat=True))

    unheard = sum(at > left_at for at in stored_at)
    print(  # noqa: T201  # the figure is what `make test-system` shows
        f"{CONNECTIONS} clients with {PATIENCE_S} s of patience: {dict(statuses)}; well again "
        f"{recovery.total_seconds():.1f} s after they left; of {len(stored_at)} tasks stored "
        f"{unheard} after that, the last {(stored_at[-1] - left_at).total_seconds():+.1f} s"
    )
    assert statuses["gave up"] > CONNECTIONS / 2
    assert len(stored_at) >= statuses[201] > 0
    assert [at for at in stored_at if at > left_at + timedelta(seconds=LATE_S)] == []
