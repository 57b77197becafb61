#!/usr/bin/env python
"""Django's command line. Starts the embedded PostgreSQL for commands that need a database."""

import os
import sys
from pathlib import Path

# These work without a database, and must not make one.
WITHOUT_DATABASE = frozenset(
    {"check", "diffsettings", "findstatic", "help", "spectacular", "version", "--help", "--version"}
)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "todo_project.settings")
    read_dotenv()
    from django.conf import settings
    from django.core.management import execute_from_command_line

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    if command not in WITHOUT_DATABASE and settings.EMBEDDED_POSTGRES:
        from todo_project import embedded_postgres

        embedded_postgres.start()
    execute_from_command_line(sys.argv)


def read_dotenv() -> None:
    """Reads .env in development: not where the environment itself says that DEBUG is off."""
    if os.environ.get("DEBUG", "true").strip().lower() in ("true", "1", "yes"):
        try:
            from dotenv import load_dotenv
        except ModuleNotFoundError:  # a tool of development only
            return
        load_dotenv(Path(__file__).parent / ".env")


if __name__ == "__main__":
    main()
