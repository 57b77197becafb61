"""What every line of the log has, and what none may have. Named in settings.LOGGING."""

import logging
from contextvars import ContextVar

from pythonjsonlogger.core import RESERVED_ATTRS

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestFilter(logging.Filter):
    """Gives each line the id of the request that it was written for.

    Of Django's own lines about requests only those with a traceback are kept: the access log has
    the others already. Django hangs the request itself onto its lines, whose URL may hold what
    somebody searched for; it is taken off.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        record.__dict__.pop("request", None)
        if record.name == "django.request":
            return record.exc_info is not None
        return True


class DevelopmentFormatter(logging.Formatter):
    """Lines to be read by a person. A request is one: `GET /api/me/tasks?limit=2 200 8 ms`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        fields = {k: v for k, v in record.__dict__.items() if k not in _NOT_SHOWN}
        if record.name == "todo.access":
            fields.setdefault("path", fields["route"])
            return "{method} {path} {status} {duration_ms:.0f} ms".format(**fields)
        shown = [record.levelname, f"{record.name}:", record.message]
        return " ".join([*shown, *(f"{name}={value}" for name, value in fields.items())])


_NOT_SHOWN = {*RESERVED_ATTRS, "request_id"}
