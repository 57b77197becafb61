"""`/metrics`: what Prometheus reads, or whoever else has METRICS_TOKEN.

It asks the database nothing and needs no turn, so that it is answered when little else is. Of
several processes whichever is asked tells of all.
"""

import hmac
import os
from collections.abc import Iterator
from contextlib import suppress
from platform import python_version
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from rest_framework.exceptions import APIException, NotAuthenticated, NotFound

from . import VERSION, metrics, processes
from .api.errors import TokenInvalid, error_response

if TYPE_CHECKING:
    from prometheus_client import Metric


def scrape(request: HttpRequest) -> HttpResponse:
    """The metrics. 404 without METRICS_TOKEN, else 401 without that token; then 405 [E1]."""
    if not settings.METRICS_TOKEN:
        return error_response(request, NotFound())
    refusal = _refusal(request.META.get("HTTP_AUTHORIZATION", ""))
    return _exposition(request) if refusal is None else error_response(request, refusal)


def _refusal(authorization: str) -> APIException | None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return NotAuthenticated()
    # As bytes: it refuses texts with other characters than ASCII.
    if hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
        return None
    return TokenInvalid("The token is not the one of METRICS_TOKEN.")


@require_safe
def _exposition(request: HttpRequest) -> HttpResponse:
    """In the format of OpenMetrics where that is asked for, else in Prometheus's own."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics

    # prometheus_client's own choice fails where the version that is asked for is no number.
    if "application/openmetrics-text" in request.META.get("HTTP_ACCEPT", ""):
        text = openmetrics.generate_latest(_All())  # type: ignore[no-untyped-call]
        content_type = openmetrics.CONTENT_TYPE_LATEST
    else:
        text, content_type = exposition.generate_latest(_All()), exposition.CONTENT_TYPE_PLAIN_0_0_4
    return HttpResponse(text, content_type=content_type)


class _All:
    """What prometheus_client takes metrics from."""

    def collect(self) -> "Iterator[Metric]":
        """What is counted, and what is looked up when somebody asks."""
        yield from metrics.families()
        yield _build()
        with suppress(OSError):
            yield from _processes()


def _build() -> "Metric":
    from prometheus_client.core import InfoMetricFamily

    return InfoMetricFamily(
        "todo_build",
        "What runs.",
        {"version": VERSION, "python": python_version(), "django": django.get_version()},
    )


def _processes() -> "Iterator[Metric]":
    """Of the parent of `manage.py serve` with its workers, or of the only process that there is."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    is_worker = metrics.WORKER_VARIABLE in os.environ
    first = os.getppid() if is_worker else os.getpid()
    workers = processes.children(first) if is_worker else [first]
    yield GaugeMetricFamily("todo_workers", "Processes that serve.", len(workers))
    yield CounterMetricFamily(
        "todo_cpu_seconds",
        "Processor time of all processes of the service, those that have ended included.",
        processes.cpu_seconds(first),
    )
    yield GaugeMetricFamily(
        "todo_memory_bytes",
        "Memory of all processes of the service; what they share counts once.",
        processes.memory_bytes([*{first, *workers}]),
    )
