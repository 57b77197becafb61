"""Lets so many requests work at once, and refuses those that would wait in vain.

Requests that hang with a database that doesn't answer would soon hold every thread of the process:
nothing else were answered any more, /livez included. So there is a thread that never works: it
waits here for a turn, and refuses where none becomes free. While requests end well nobody is
refused, however many there are.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from todo_project import metrics
from todo_project.api.errors import ServiceUnavailable, error_response
from todo_project.api.streaming import StreamedResponse

from . import UNGATED_PATHS, GetResponse

# How many requests may work at once in this process; `manage.py serve` sets it. The development
# server makes a thread for each connection.
TURNS_VARIABLE = "TODO_TURNS"
TURNS_DEFAULT = 64

_REQUEST_START = re.compile(r"(?:t=)?([0-9]{10,17}(?:\.[0-9]{1,9})?)")


class GateMiddleware:
    """Gives each request a turn to work, or refuses it.

    What is above this asks the database nothing.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._gate = Gate()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in UNGATED_PATHS:
            return self.get_response(request)
        if has_waited_too_long(request):
            metrics.REFUSALS.add("queue")
            return error_response(request, ServiceUnavailable())
        if not self._gate.enter():
            metrics.REFUSALS.add("turn")
            return error_response(request, ServiceUnavailable())
        status = 503
        try:
            response = self.get_response(request)
            status = response.status_code
        finally:
            self._gate.leave(has_ended_well=status != 503)
        if isinstance(response, StreamedResponse):
            response.within(self._turn)
        return response

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """For a piece of an answer. Raises ServiceUnavailable."""
        if not self._gate.enter():
            raise ServiceUnavailable()
        has_ended_well = False
        try:
            yield
            has_ended_well = True
        finally:
            self._gate.leave(has_ended_well=has_ended_well)


class Gate:
    """Turns to work."""

    def __init__(self) -> None:
        # Of multiprocessing, because threading's semaphores are written in Python, which takes a
        # tenth of the processor's time where every request waits; and queue.SimpleQueue, which
        # isn't, forgets its time limit up to Python 3.12 when another thread is faster.
        turns = int(os.environ.get(TURNS_VARIABLE, TURNS_DEFAULT))
        self._turns = get_context("fork").BoundedSemaphore(turns)
        self._is_stuck = False

    def enter(self) -> bool:
        """Waits for a turn; False where none becomes free in settings.TURN_TIME_LIMIT_SECONDS.

        After that nobody waits any more, until a request has ended well.
        """
        if self._turns.acquire(block=False):
            return True
        patience = 0 if self._is_stuck else settings.TURN_TIME_LIMIT_SECONDS
        started = time.perf_counter()
        has_turn = self._turns.acquire(timeout=patience)
        if has_turn:
            metrics.TURN_WAITS.observe(time.perf_counter() - started)
        else:
            self._is_stuck = True
        return has_turn

    def leave(self, *, has_ended_well: bool) -> None:
        """Gives the turn back."""
        if has_ended_well:
            self._is_stuck = False
        self._turns.release()


def has_waited_too_long(request: HttpRequest) -> bool:
    """Whether the request waited so long on its way here that its client has likely gone.

    By the header X-Request-Start of a trusted proxy: Unix time in seconds, milli- or microseconds,
    with or without `t=` before it, as nginx, HAProxy and hosting platforms write it.
    """
    if not settings.TRUSTED_PROXIES:
        return False
    match = _REQUEST_START.fullmatch(request.META.get("HTTP_X_REQUEST_START", ""))
    if match is None:
        return False
    started_at = float(match[1])
    while started_at > 1e11:  # the year 5138 in seconds
        started_at /= 1000
    return time.time() - started_at > settings.QUEUE_TIME_LIMIT_SECONDS
