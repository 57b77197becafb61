"""[N2] Hundreds of clients of a proxy ask for the largest answers and read none of them."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import requests

from accounts.models import User
from tasks.models import DESCRIPTION_MAX_CHARACTERS, Task
from tests.conftest import begin_session
from tests.serve.test_unread_answers import CLIENTS, FILE, MEMORY_MAX_BYTES, PAGE, ask
from tests.system.conftest import KEYS, Server

pytestmark = pytest.mark.system


@pytest.mark.parametrize("path", [FILE, PAGE], ids=["file", "page"])
def test_answers_that_nobody_reads(
    path: str,
    serve: Callable[..., Server],
    balance: Callable[..., int],
    alice: User,
    settings: object,
) -> None:
    settings.JWT_SIGNING_KEY = KEYS["JWT_SIGNING_KEY"]  # type: ignore[attr-defined]
    text = "\N{GRINNING FACE}" * DESCRIPTION_MAX_CHARACTERS
    Task.objects.bulk_create(
        Task(user_id=alice.pk, title="x", description=text) for _ in range(200)
    )
    access = begin_session(alice).access
    server = serve("--processes", "1", TRUSTED_PROXIES="1")
    port = balance(server)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {access}\r\n\r\n"

    with ExitStack() as stack:
        for _ in range(CLIENTS):
            ask(stack.enter_context(socket.socket()), port, head.encode())
        peak = 0
        for _ in range(40):
            time.sleep(0.5)
            peak = max(peak, *server.memory_bytes())
        tasks = requests.get(
            f"http://127.0.0.1:{port}/api/me/tasks?limit=1",
            headers={"Authorization": f"Bearer {access}"},
            timeout=10,
        )

    print(f"{CLIENTS} clients that read nothing: {peak / 2**20:.0f} MiB at most")  # noqa: T201
    assert tasks.status_code == 200
    assert peak < MEMORY_MAX_BYTES
