"""This project's `manage.py`, run as production runs it."""

import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

PROJECT = Path(__file__).resolve().parent.parent
# Never reached, but every write is counted against it.
WRITES_LIMIT = "999999999/minute"


def environment(database_url: str) -> dict[str, str]:
    """Production settings. SECURE_SSL is off because TLS ends at the proxy before the service."""
    return {
        "PATH": os.environ["PATH"],
        "DEBUG": "false",
        "SECRET_KEY": settings.SECRET_KEY,
        "JWT_SIGNING_KEY": settings.JWT_SIGNING_KEY,
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL": "false",
        "DATABASE_URL": database_url,
        "RATE_LIMIT_WRITES": WRITES_LIMIT,
    }


def manage(
    database_url: str, *arguments: str, stdout: int | None = None, checkout: Path = PROJECT
) -> None:
    """Runs a command to its end; what it prints goes where the harness prints, or to `stdout`.

    `checkout`: another one of this project, whose command it is.
    """
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=checkout, env=environment(database_url), stdout=stdout, check=True)
