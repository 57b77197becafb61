"""What is counted, for Prometheus: every metric that there is, and what it means.

Whatever happens is counted by one call, where it happens. Nothing is counted before begin(), which
the process that serves calls where METRICS_TOKEN is set.

    kinds.py   what kinds of metrics there are, and what each tells
    rows.py    where they count: shared memory with a row for each process

`manage.py serve` has several processes, and whichever is asked adds up the rows of all. A row
belongs to the number of a worker: who takes the place of a dead one counts on where that one
stopped, so that no sum ever goes back. prometheus_client writes the result; its own way with
several processes is files, and nearly ten times as dear (docs/adr/0018-metrics.md).

The values of labels are bounded: a route is a pattern, a method one of a few, and a person none.
"""

import mmap
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import orjson
from django.conf import settings

from .kinds import Count, Durations, Kind, Labels, Level, Requests
from .rows import Row, new_rows, sums

if TYPE_CHECKING:
    from prometheus_client import Metric

# Which worker of `manage.py serve` this process is.
WORKER_VARIABLE = "TODO_WORKER"

# The promised 95 % of requests within 200 and 500 ms are told exactly, and 5 ms is what most take.
DURATION_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
WAIT_BUCKETS_SECONDS = (0.005, 0.02, 0.1, 0.5, 1.0)  # at most settings.TURN_TIME_LIMIT_SECONDS

# Of all workers; None where there is but one process, until that begins.
_memory: mmap.mmap | None = None


def share(workers: int) -> None:
    """Makes room for so many, which are forked from now on."""
    global _memory
    _memory = new_rows(workers)


def begin() -> None:
    """From now on this process counts."""
    global _memory
    if _memory is None:
        _memory = new_rows(1)
    row = Row(_memory, int(os.environ.get(WORKER_VARIABLE, "0")))
    for metric in ALL:
        metric.begin(row)
    WORKER_STARTS.add()


def families() -> "Iterator[Metric]":
    """What all processes have counted, for prometheus_client."""
    assert _memory is not None
    found: dict[str, dict[Labels, Sequence[float]]] = defaultdict(dict)
    sizes = {metric.name: metric.size for metric in ALL}
    for (key, count), numbers in sums(_memory).items():
        name, *values = orjson.loads(key)
        if sizes.get(name) == count:  # or it is another release's
            found[name][tuple(values)] = numbers
    for metric in ALL:
        yield from metric.families(found[metric.name])


def _each(*values: str) -> Iterable[Labels]:
    return [(value,) for value in values]


REQUESTS = Requests(
    "todo_http_request_duration_seconds",
    "How long requests took inside of the application, waiting for a turn included.",
    buckets=DURATION_BUCKETS_SECONDS,
    answered=("todo_http_requests_total", "Requests that the application answered."),
)
TURN_WAITS = Durations(
    "todo_turn_wait_seconds",
    "How long requests waited for their turn to work, of those that had to wait and got one.",
    buckets=WAIT_BUCKETS_SECONDS,
)
REFUSALS = Count(
    "todo_refusals_total",
    "Requests refused with 503 because there was too much to do, by what they would have had to "
    "wait for: a turn to work, the proxy's queue (they had waited there too long), a place to hash "
    "a password, to import a file, or to export, the identity provider's keys.",
    ("cause",),
    _each("turn", "queue", "hashing", "import", "export", "issuer"),
)
LIMITS_HIT = Count(
    "todo_limits_hit_total",
    "Tries that were one too many for a limit, by the limit's name.",
    ("limit",),
    _each(*settings.RATE_LIMITS),
)
DATABASE_FAULTS = Count(
    "todo_database_faults_total",
    "Times that the database could not do its work, by kind: no connection, or a broken one; a "
    "statement or a lock that took too long; no room (connections, memory, disk); anything else.",
    ("kind",),
    _each("connection", "timeout", "room", "other"),
)
DATABASE_CONNECTIONS = Count(
    "todo_database_connections_total",
    "Connections to the database that were begun, by whether they came about. Each thread replaces "
    "its own after a minute of use.",
    ("outcome",),
    _each("made", "failed"),
)
DATABASE_CONNECTIONS_LOST = Count(
    "todo_database_connections_lost_total",
    "Connections closed before a request would have used them, because they were found broken or "
    "had failed.",
)
WATCHDOG_CUTS = Count(
    "todo_watchdog_cuts_total",
    "Connections cut because the database did not answer a request in its time.",
)
RETRIES = Count(
    "todo_retries_total",
    "What was tried once more, by what: a read whose connection broke; a write that met its twin "
    "with the same Idempotency-Key; one that the database refused until something was put right; "
    "a batch, operation by operation.",
    ("what",),
    _each("read", "key", "remedy", "batch"),
)
REPLAYS = Count(
    "todo_replays_total", "Writes answered as the first with their Idempotency-Key was."
)
SIGN_INS = Count(
    "todo_sign_ins_total",
    "Tries to sign in with a password, admin's included, by outcome: ok; wrong (address or "
    "password, or an account that may not); unverified (the address); limited.",
    ("outcome",),
    _each("ok", "wrong", "unverified", "limited"),
)
JOBS = Count(
    "todo_jobs_total",
    "Jobs after the answer, which are mails and what has to be looked up for them, by what became "
    "of each: done; retried; given up; dropped, because the queue was full; defect.",
    ("outcome",),
    _each("done", "retried", "given_up", "dropped", "defect"),
)
JOBS_WAITING = Level("todo_jobs_waiting", "Jobs that wait for their turn or their next try.")
MAILS_SENT = Count("todo_mails_sent_total", "Mails that the mail server took.")
WORKER_STARTS = Count(
    "todo_worker_starts_total", "Processes that began to serve: more than run means that some died."
)

ALL: tuple[Kind, ...] = (
    REQUESTS,
    TURN_WAITS,
    REFUSALS,
    LIMITS_HIT,
    DATABASE_FAULTS,
    DATABASE_CONNECTIONS,
    DATABASE_CONNECTIONS_LOST,
    WATCHDOG_CUTS,
    RETRIES,
    REPLAYS,
    SIGN_INS,
    JOBS,
    JOBS_WAITING,
    MAILS_SENT,
    WORKER_STARTS,
)
