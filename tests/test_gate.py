"""Who may work and who is refused: turns, and what a proxy says of how long a request has waited.

What the gate does while a database hangs is in tests/faults.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.client import ApiClient, assert_error
from tests.processes import PATIENCE_S
from todo_project.middleware.gate import TURNS_VARIABLE, Gate

LIST = "/api/me/tasks"
FORMATS: dict[str, Callable[[float], str]] = {
    "seconds": lambda at: f"{at:.0f}",
    "seconds, as nginx writes them": lambda at: f"t={at:.3f}",
    "milliseconds": lambda at: f"{at * 1e3:.0f}",
    "milliseconds, as HAProxy may write them": lambda at: f"t={at * 1e3:.0f}",
    "microseconds": lambda at: f"{at * 1e6:.0f}",
    "microseconds, as Apache writes them": lambda at: f"t={at * 1e6:.0f}",
}
NONSENSE = ["", "t=", "0", "-1700000000", "yesterday", "1e9", "nan", "t=t=1700000000", "1" * 18]


@pytest.fixture
def behind_a_proxy(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1


@pytest.mark.parametrize("written", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("age_seconds", "status"),
    [
        pytest.param(7, 503, id="too old"),
        pytest.param(3, 200, id="young enough"),
        pytest.param(-3600, 200, id="in the future"),
    ],
)
@pytest.mark.usefixtures("behind_a_proxy")
def test_request_that_waited_too_long_is_refused(
    age_seconds: float,
    status: int,
    written: Callable[[float], str],
    alice_client: ApiClient,
) -> None:
    response = alice_client.get(LIST, x_request_start=written(time.time() - age_seconds))

    assert response.status_code == status
    if status == 503:
        assert_error(response, 503, "SERVICE_UNAVAILABLE")
        assert int(response["Retry-After"]) > 0


@pytest.mark.usefixtures("behind_a_proxy")
def test_write_that_waited_too_long_is_not_carried_out(alice: Any, alice_client: ApiClient) -> None:
    response = alice_client.post(LIST, {"title": "x"}, x_request_start=str(time.time() - 60))

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert not alice.tasks.exists()


@pytest.mark.parametrize("sent", NONSENSE)
@pytest.mark.usefixtures("behind_a_proxy")
def test_nonsense_of_a_proxy_is_ignored(sent: str, alice_client: ApiClient) -> None:
    assert alice_client.get(LIST, x_request_start=sent).status_code == 200


def test_client_itself_is_not_believed(alice_client: ApiClient) -> None:
    assert alice_client.get(LIST, x_request_start="t=1700000000").status_code == 200


@pytest.mark.usefixtures("behind_a_proxy")
def test_livez_is_never_refused(client: ApiClient) -> None:
    assert client.get("/livez", x_request_start="t=1700000000").status_code == 200


@pytest.mark.usefixtures("behind_a_proxy")
def test_refusal_can_be_read_by_a_browser(settings: Any, alice_client: ApiClient) -> None:
    """With the headers of every other answer."""
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]

    response = alice_client.get(
        LIST, x_request_start="t=1700000000", origin="https://app.example.com"
    )

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert response["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert response["X-Content-Type-Options"] == "nosniff"


def test_turns(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits in vain is refused, and the next ones at once, until a request ends well."""
    monkeypatch.setenv(TURNS_VARIABLE, "1")
    gate = Gate()

    def is_refused(*, after_seconds: float) -> bool:
        settings.TURN_TIME_LIMIT_SECONDS = after_seconds or PATIENCE_S
        started = time.monotonic()
        assert not gate.enter()
        seconds = time.monotonic() - started
        return seconds >= after_seconds if after_seconds else seconds < PATIENCE_S

    assert gate.enter()
    assert is_refused(after_seconds=0.2)
    assert is_refused(after_seconds=0)
    gate.leave(has_ended_well=False)
    assert gate.enter()
    assert is_refused(after_seconds=0)
    gate.leave(has_ended_well=True)
    assert gate.enter()
    assert is_refused(after_seconds=0.2)


def test_turn_that_another_takes_first(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One gets it; and whoever doesn't keeps to the time limit, though waked up for nothing."""
    settings.TURN_TIME_LIMIT_SECONDS = 0.1
    monkeypatch.setenv(TURNS_VARIABLE, "1")
    gate = Gate()
    assert gate.enter()
    with ThreadPoolExecutor(1) as pool, slow_to_give_way():
        waiting = pool.submit(gate.enter)
        time.sleep(0.02)
        gate.leave(has_ended_well=True)
        has_turn = gate.enter()
        works_until = time.monotonic() + 0.2
        while time.monotonic() < works_until:
            pass
        try:
            assert waiting.result(PATIENCE_S) is not has_turn
        finally:
            gate.leave(has_ended_well=True)


@contextmanager
def slow_to_give_way() -> Iterator[None]:
    """Threads that compute give others no time by themselves."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
