"""A deploy that nobody notices: servers behind a real load balancer, restarted in turn."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest
import requests

from accounts.models import User
from tests.conftest import begin_session
from tests.system.conftest import KEYS, Server, answers, wait_until

pytestmark = pytest.mark.system

CLIENTS = 6


def test_restarts_in_turn_fail_no_request(
    serve: Callable[..., Server], balance: Callable[..., int], alice: User, settings: object
) -> None:
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": KEYS["JWT_SIGNING_KEY"]}  # type: ignore[attr-defined]
    options = ("--processes", "1", "--drain-seconds", "2")
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
                statuses[client.request(method, url, json=body, timeout=30).status_code] += 1
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
            wait_until(lambda server=server: answers(f"{server.url}/readyz"), 30)  # type: ignore[misc]
            threading.Event().wait(1)  # the balancer has seen it
    finally:
        done.set()
        for thread in threads:
            thread.join(60)

    assert exits == [0] * 4
    assert set(statuses) == {200, 201}, statuses
    assert alice.tasks.count() == statuses[201]
