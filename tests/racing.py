"""Requests that really meet: threads with connections of their own, begun at the same time.

For tests whose transactions others see: `@pytest.mark.django_db(transaction=True)`.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

from django.db import connection

from accounts.models import User
from tests.processes import PATIENCE_S, wait_until

Result = TypeVar("Result")


class Racers:
    """Some threads, for as many races as are wanted."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self._pool = ThreadPoolExecutor(count)

    def race(self, *works: Callable[[], Result]) -> list[Result]:
        """What the works come to, which begin at the same time, one in each thread."""
        return [future.result(PATIENCE_S) for future in self.start(*works)]

    def start(self, *works: Callable[[], Result]) -> list[Future[Result]]:
        assert len(works) == self._barrier.parties

        def run(work: Callable[[], Result]) -> Result:
            self._barrier.wait(PATIENCE_S)
            return work()

        return [self._pool.submit(run, work) for work in works]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        close = lambda: connection.close()  # noqa: E731, PLW0108  # each thread's own
        self.race(*[close] * self._barrier.parties)
        self._pool.shutdown()


def at_once(*works: Callable[[], Result]) -> list[Result]:
    """One race."""
    with Racers(len(works)) as racers:
        return racers.race(*works)


def meeting(people: Sequence[User], *works: Callable[[], Result]) -> list[Result]:
    """The same for writes of these people, which all wait before they see what the others do.

    Their statements have begun, and with them what they see, when the first of them goes on.
    """
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor, Racers(len(works)) as racers:
            try:
                cursor.execute(
                    "SELECT FROM todo_project_clock WHERE user_id = ANY(%s) ORDER BY user_id"
                    " FOR NO KEY UPDATE",
                    [[person.pk for person in people]],
                )
                futures = racers.start(*works)
                wait_until(lambda: _waiting() >= len(works))
            finally:
                other.rollback()
            return [future.result(PATIENCE_S) for future in futures]
    finally:
        other.close()


def _waiting() -> int:
    """How many connections wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        count: int = cursor.fetchone()[0]
    return count
