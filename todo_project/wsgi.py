"""The application for WSGI servers; `manage.py serve` runs it."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import (
    close_old_connections,
    connection,
    connections,
    reset_queries,
)
from django.http.response import HttpResponseBase

from todo_project.api.streaming import StreamedResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "todo_project.settings")
if settings.METRICS_TOKEN:
    from todo_project import metrics

    metrics.begin()
_django = get_wsgi_application()
if not settings.DEBUG:
    # What Django does before and after each request for any number of databases, for caches, a log
    # of queries, and other routes than ROOT_URLCONF's: 100 microseconds. Requests use one database,
    # whose connection is looked after below, and nothing of the rest.
    request_started.disconnect(close_old_connections)
    request_started.disconnect(reset_queries)
    request_finished.disconnect(close_old_connections)
    request_finished.disconnect(reset_urlconf)
    request_finished.disconnect(close_caches)
_this_thread = threading.local()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    _look_after_connection()
    response = _django(environ, start_response)
    if isinstance(response, StreamedResponse):
        response.within(_connected)
        return response
    return [_whole_body(response)]


def _look_after_connection() -> None:
    """Of the thread that works now, before it does."""
    if not hasattr(_this_thread, "database"):
        _this_thread.database = _Database()
    _this_thread.database.connection.close_if_unusable_or_obsolete()


@contextmanager
def _connected() -> Iterator[None]:
    _look_after_connection()
    yield


class _Database:
    """The connection of the thread that it is stored in, closed when the thread ends.

    Some servers end idle threads. The connection is part of a reference cycle and would stay open,
    and its slot taken, until the garbage collector comes by, which in an idle process may be never.
    """

    def __init__(self) -> None:
        self.connection = connections[connection.alias]

    def __del__(self) -> None:
        self.connection.inc_thread_sharing()  # at the end of the process another thread does this
        self.connection.close()


def _whole_body(response: HttpResponseBase) -> bytes:
    """An answer in one piece, which the server sends by itself, in one packet where it fits.

    Piece by piece a file would cost a wake-up for each. The longest, a page of tasks, is in memory
    anyway.
    """
    try:
        return b"".join(response)
    finally:
        response.close()
