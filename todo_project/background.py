"""Jobs that run after the answer: from a bounded queue, by one thread of the process.

There is no table to poll, so that the database can sleep. What is lost with the process is asked
for again by whoever misses it.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.util import Finalize

from django.db import DatabaseError, InterfaceError, connections

from . import metrics

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 1000  # jobs; one more is dropped, and the log says so
# Before each try. The first lets the answer leave: work that ran beside it would slow it down, and
# tell what there is to do.
PAUSES_SECONDS = (0.1, 1.0, 10.0)
# How long the end of the process waits for what is left. `manage.py serve` kills workers that take
# longer than 30 seconds, requests in flight included.
STOP_SECONDS = 5.0

# May return the job that is to follow, which takes its place in the queue.
Job = Callable[[], "Job | None"]


@dataclass(order=True)
class _Entry:
    """A job, ordered by when it is due next, on the clock of time.monotonic()."""

    due_at: float
    job: Job = field(compare=False)
    tries: int = field(default=0, compare=False)


class JobQueue:
    """Runs jobs in one thread, which starts with the first of them, as each becomes due.

    Not at import: a server forks or spawns its workers, and threads stay behind. A job that fails
    waits for its next try without holding up the others.

    The log calls the jobs by `name`. `is_permanent` tells of the failure of one whether each try
    would fail so.
    """

    def __init__(
        self,
        name: str,
        *,
        is_permanent: Callable[[Exception], bool] = lambda error: False,
        length: int = QUEUE_LENGTH,
    ) -> None:
        self._name = name
        self._is_permanent = is_permanent
        self._length = length
        self._waiting: list[_Entry] = []  # a heap
        self._unfinished = 0  # those that wait, and the one under way, which keeps its place
        self._is_ending = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, job: Job) -> None:
        """Takes a job and returns at once; drops it where the queue is full."""
        with self._changed:
            if self._unfinished >= self._length:
                logger.error("%s dropped: the queue is full", self._name)
                metrics.JOBS.add("dropped")
                return
            self._unfinished += 1
            metrics.JOBS_WAITING.set(self._unfinished)
            self._schedule(_Entry(time.monotonic() + PAUSES_SECONDS[0], job))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                # Not atexit: a server's workers are children of multiprocessing, which end by
                # os._exit. This runs in them, and in any other process by atexit.
                Finalize(None, self.end, args=(STOP_SECONDS,), exitpriority=1)

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until every job has ended; False where that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._unfinished, timeout_seconds)

    def end(self, timeout_seconds: float) -> None:
        """Tries what is left once, now; the log says how much the time was too short for."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if not self.wait(timeout_seconds):
            logger.error(
                "%s lost: the process ends with %d unfinished", self._name, self._unfinished
            )

    def _schedule(self, entry: _Entry) -> None:
        heapq.heappush(self._waiting, entry)
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            entry = self._next()
            is_over = True  # by a defect, too, which ends this thread
            try:
                is_over = self._try(entry)
            except Exception:
                metrics.JOBS.add("defect")
                raise
            finally:
                connections.close_all()  # the thread may now idle for days
                with self._changed:
                    if is_over:
                        self._unfinished -= 1
                        metrics.JOBS_WAITING.set(self._unfinished)
                        self._changed.notify_all()
                    else:
                        entry.due_at = time.monotonic() + PAUSES_SECONDS[entry.tries]
                        self._schedule(entry)

    def _next(self) -> _Entry:
        """Takes out the job that is due first, when it is."""
        with self._changed:
            while True:
                pause = self._waiting[0].due_at - time.monotonic() if self._waiting else None
                if pause is not None and (pause <= 0 or self._is_ending):
                    return heapq.heappop(self._waiting)
                self._changed.wait(pause)

    def _try(self, entry: _Entry) -> bool:
        """Whether nothing is to follow: neither another try nor another job."""
        entry.tries += 1
        try:
            following = entry.job()
        # Texts of errors may hold what the job is about, such as an address.
        except (OSError, DatabaseError, InterfaceError) as error:
            fault = type(error).__name__
            if self._is_permanent(error) or self._is_ending or entry.tries >= len(PAUSES_SECONDS):
                logger.error("%s given up after %d tries: %s", self._name, entry.tries, fault)  # noqa: TRY400
                metrics.JOBS.add("given_up")
                return True
            logger.warning("%s not done yet: %s", self._name, fault)
            metrics.JOBS.add("retried")
            return False
        except ValueError as error:  # what the job is about can't be, such as an address
            logger.error("%s given up: %s", self._name, type(error).__name__)  # noqa: TRY400
            metrics.JOBS.add("given_up")
            return True
        metrics.JOBS.add("done")
        if following is not None:
            entry.job, entry.tries = following, 0
        return following is None
