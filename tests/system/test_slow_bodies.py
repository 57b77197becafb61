"""Clients that send their bodies as slowly as they like harm nobody, through a proxy or not."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import requests

from accounts.models import User
from tests.conftest import begin_session
from tests.processes import PATIENCE_S
from tests.system.conftest import KEYS, Server

pytestmark = pytest.mark.system

CLIENTS = 40


@pytest.mark.parametrize(
    ("length", "sent"),
    [
        pytest.param(50, 1, id="short"),
        pytest.param(256 * 1024, 256 * 1024 - 1, id="long, but for a byte"),
    ],
)
@pytest.mark.parametrize("is_proxied", [True, False], ids=["proxy", "direct"])
def test_service_goes_on(
    is_proxied: bool,
    length: int,
    sent: int,
    serve: Callable[..., Server],
    balance: Callable[..., int],
    alice: User,
    settings: object,
) -> None:
    settings.JWT_SIGNING_KEY = KEYS["JWT_SIGNING_KEY"]  # type: ignore[attr-defined]
    server = serve("--processes", "1", TRUSTED_PROXIES="1")
    port = balance(server) if is_proxied else server.port
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {begin_session(alice).access}"}
    head = f"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"

    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.sendall(head.encode() + b"x" * sent)
        time.sleep(0.5)  # the service has what was sent
        started = time.monotonic()
        for _ in range(5):
            assert requests.get(f"{url}/livez", timeout=PATIENCE_S).status_code == 200
            tasks = requests.get(f"{url}/api/me/tasks", headers=headers, timeout=PATIENCE_S)
            assert tasks.status_code == 200
        seconds = time.monotonic() - started
        given_up, _, _ = select.select(clients, [], [], 0)

    print(f"ten requests beside {CLIENTS} slow bodies: {seconds:.2f} s")  # noqa: T201
    assert given_up == []  # nor was any of them answered: the ten did not wait for that
