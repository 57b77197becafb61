"""What every line of the log has, and what none may have. Named in settings.LOGGING."""

import logging
from contextvars import ContextVar

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
