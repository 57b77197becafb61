"""[W1] `/metrics` of `manage.py serve`: several processes are told of as one."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.processes import wait_until
from tests.scraped import METRICS_TOKEN, Samples, samples
from tests.serve.conftest import THREADS, Server, running

LIST = "/api/me/tasks"
PROCESSES = 3
LISTS = 'todo_http_requests_total{method="GET",route="/api/<user_id>/tasks",status="200"}'
TIMED = (
    "todo_http_request_duration_seconds_count"
    '{method="GET",route="/api/<user_id>/tasks",status="2xx"}'
)


@pytest.fixture
def counting(database: str, access: str, tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, database, processes=PROCESSES, METRICS_TOKEN=METRICS_TOKEN) as server:
        yield server
    server.assert_silent(access)
    assert METRICS_TOKEN not in server.log.read_text()


def scraped(server: Server) -> Samples:
    with closing(server.connect()) as client:
        client.request("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        answer = client.getresponse()
        assert answer.status == 200
        return samples(answer.read().decode())


@contextmanager
def only(worker: Any, server: Server) -> Iterator[None]:
    """The others sleep, so that it answers whatever comes."""
    others = [other for other in server.workers() if other != worker]
    for other in others:
        other.suspend()
    try:
        # A thread that still runs might accept a connection, and keep it.
        wait_until(lambda: all(_sleeps(other) for other in others))
        yield
    finally:
        for other in others:
            other.resume()


def _sleeps(worker: Any) -> bool:
    tasks = Path(f"/proc/{worker.pid}/task").iterdir()
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def told_by_each(server: Server) -> list[Samples]:
    found = []
    for worker in server.workers():
        with only(worker, server):
            found.append(scraped(server))
    return found


def kill(worker: Any, server: Server) -> None:
    """And waits for who takes its place."""
    worker.kill()
    wait_until(lambda: worker not in server.workers() and len(server.workers()) == PROCESSES)
    wait_until(lambda: all(_serves(each) for each in server.workers()))


def _serves(worker: Any) -> bool:
    with suppress(Exception):  # it has just begun, or ended
        return bool(worker.num_threads() > THREADS)
    return False


def is_cumulative(name: str) -> bool:
    return name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))


def test_whichever_process_is_asked_tells_of_all(counting: Server, access: str) -> None:
    """And a worker that dies takes nothing with it."""
    for count, worker in enumerate(counting.workers(), start=1):
        with only(worker, counting):
            for _ in range(count):
                assert counting.status(LIST, Authorization=f"Bearer {access}") == 200
    assert [told[LISTS] for told in told_by_each(counting)] == [6, 6, 6]

    for worker in counting.workers()[:2]:
        kill(worker, counting)
    assert [told[LISTS] for told in told_by_each(counting)] == [6, 6, 6]
    for worker in counting.workers():
        with only(worker, counting):
            assert counting.status(LIST, Authorization=f"Bearer {access}") == 200
    told_after = told_by_each(counting)

    assert [(told[LISTS], told[TIMED]) for told in told_after] == [(9, 9)] * 3
    assert {told["todo_worker_starts_total"] for told in told_after} == {PROCESSES + 2}
    assert {told["todo_workers"] for told in told_after} == {PROCESSES}


def test_numbers_never_go_back(counting: Server, access: str) -> None:
    """While workers die under load, and of no answer that anybody got."""
    is_over = threading.Event()

    def load() -> tuple[int, int]:
        sent = answered = 0
        while not is_over.is_set():
            sent += 1
            with suppress(OSError, HTTPException):
                answered += counting.status(LIST, Authorization=f"Bearer {access}") == 200
        return sent, answered

    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(load) for _ in range(2)]
        try:
            before = scraped(counting)
            for _ in range(2):
                kill(counting.workers()[0], counting)
                after = scraped(counting)
                back = {
                    name: (value, after.get(name))
                    for name, value in before.items()
                    if is_cumulative(name) and after.get(name, -1) < value
                }
                assert back == {}
                before = after
        finally:
            is_over.set()
    sent, answered = (
        sum(counts) for counts in zip(*(load.result() for load in loads), strict=True)
    )

    assert answered <= scraped(counting)[LISTS] <= sent


def test_without_a_token_there_is_no_such_route(server: Server) -> None:
    with closing(server.connect()) as client:
        client.request("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        answer = client.getresponse()
        body = json.loads(answer.read())

    assert (answer.status, body["error"]["code"]) == (404, "NOT_FOUND")
