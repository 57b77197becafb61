"""Far more clients than a small server can serve: it stays honest, bounded, and recovers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest

from accounts.models import User
from tests.conftest import begin_session
from tests.system.conftest import KEYS, Server, answers, wait_until

pytestmark = pytest.mark.system

CONNECTIONS = 2000
REQUESTS_EACH = 3
MEMORY_LIMIT_BYTES = 200 * 1024 * 1024


def test_two_thousand_connections(
    serve: Callable[..., Server], alice: User, settings: object
) -> None:
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": KEYS["JWT_SIGNING_KEY"]}  # type: ignore[attr-defined]
    server = serve("--processes", "1")
    access = begin_session(alice).access
    before = max(server.memory_bytes())
    statuses: Counter[object] = Counter()
    peak = 0

    async def client(number: int) -> None:
        method = "POST" if number % 5 == 0 else "GET"
        body = b'{"title": "x"}' if method == "POST" else b""
        request = (
            f"{method} /api/me/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {access}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(REQUESTS_EACH):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            statuses[int(head.split(b" ")[1])] += 1
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
    asyncio.run(asyncio.wait_for(flood(), 180))
    ended = time.monotonic()
    wait_until(lambda: answers(f"{server.url}/readyz"), 3)

    print(  # noqa: T201  # the figure is what `make test-system` shows
        f"{CONNECTIONS} connections, {ended - started:.1f} s: {dict(statuses)}; memory of the "
        f"worker {before / 2**20:.0f} MiB before, {peak / 2**20:.0f} MiB at most"
    )
    assert sum(statuses.values()) == CONNECTIONS * REQUESTS_EACH
    assert set(statuses) <= {200, 201, 429, 503}, statuses
    assert peak < MEMORY_LIMIT_BYTES
