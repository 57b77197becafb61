"""A deploy that nobody notices: servers behind a real load balancer, restarted in turn."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from accounts.models import User
from tests.conftest import begin_session
from tests.processes import PATIENCE_S, wait_until
from tests.system.conftest import KEYS, Server, has_all_servers

pytestmark = pytest.mark.system

CLIENTS = 6
# Until the balancer has noticed, which asks five times a second, on however busy a machine.
DRAIN_SECONDS = "6"


def test_restarts_in_turn_fail_no_request(
    serve: Callable[..., Server],
    balance: Callable[..., int],
    balancer_socket: Path,
    alice: User,
    settings: object,
) -> None:
    settings.JWT_SIGNING_KEY = KEYS["JWT_SIGNING_KEY"]  # type: ignore[attr-defined]
    options = ("--processes", "1", "--drain-seconds", DRAIN_SECONDS)
    behind = {"RATE_LIMIT_WRITES": "off", "TRUSTED_PROXIES": "1"}
    servers = [serve(*options, **behind) for _ in range(2)]
    port = balance(*servers)
    done = threading.Event()
    statuses: Counter[object] = Counter()
    access = begin_session(alice).access

    def work(number: int) -> None:
        client = requests.Session()
        client.headers["Authorization"] = f"Bearer {access}"
        turn = 0
        while not done.is_set():
            turn += 1
            method = "POST" if turn % 4 == 0 else "GET"
            body = {"title": f"{number}.{turn}"} if method == "POST" else None
            try:
                url = f"http://127.0.0.1:{port}/api/me/tasks"
                statuses[
                    client.request(method, url, json=body, timeout=PATIENCE_S).status_code
                ] += 1
            except requests.RequestException as error:
                statuses[repr(error)] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    try:
        for thread in threads:
            thread.start()
        exits = []
        for server in servers * 2:
            exits.append(server.stop())
            server.start()
            wait_until(lambda: has_all_servers(balancer_socket))
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE_S)

    assert exits == [0] * 4
    assert set(statuses) == {200, 201}, statuses
    assert alice.tasks.count() == statuses[201]
