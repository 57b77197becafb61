"""Health of the process, and of what it needs.

/livez never touches the database, so that probing it lets Neon sleep; /readyz does.
"""

import logging
import os
from pathlib import Path

from django.db import DatabaseError, InterfaceError, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from .api.envelope import json_response
from .api.errors import ServiceUnavailable, error_response, log_database_fault
from .conditions import unmet_conditions

logger = logging.getLogger(__name__)

# Names the file that `manage.py serve` makes when it begins to drain: its workers are processes
# of their own and share no memory with it.
DRAIN_FILE_VARIABLE = "TODO_DRAIN_FILE"

_OK = {"status": "ok"}
_applied = False


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """200 while the process runs."""
    return json_response(request, _OK)


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the process can serve; 503 when it drains, or its database doesn't do."""
    if is_draining():
        return error_response(request, ServiceUnavailable("The server is draining."))
    try:
        if not _is_migrated():
            logger.error("migrations are missing")
            return error_response(request, ServiceUnavailable("Migrations are missing."))
        unmet = unmet_conditions()
    except (DatabaseError, InterfaceError) as error:
        log_database_fault(error)
        return error_response(request, ServiceUnavailable("The database does not answer."))
    if unmet:
        logger.error("the database can't be used as it is", extra={"reasons": unmet})
        return error_response(request, ServiceUnavailable(" ".join(unmet)))
    return json_response(request, _OK)


def is_draining() -> bool:
    """Whether the server was told to stop and waits for its load balancer to notice."""
    drain_file = os.environ.get(DRAIN_FILE_VARIABLE)
    return drain_file is not None and Path(drain_file).exists()


def _is_migrated() -> bool:
    # Read from the disk, and asked for, until they were seen applied once.
    global _applied
    if not _applied:
        executor = MigrationExecutor(connections["default"])
        _applied = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _applied
