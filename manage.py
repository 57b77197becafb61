#!/usr/bin/env python
"""Django's command line. Starts the embedded PostgreSQL for commands that need a database.

What the person who typed the command can mend is told without a traceback.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

# These work without a database, and must not make one.
WITHOUT_DATABASE = frozenset(
    {"check", "diffsettings", "findstatic", "help", "spectacular", "version", "--help", "--version"}
)
PROJECT = Path(__file__).resolve().parent


def main() -> None:
    if importlib.util.find_spec("django") is None:
        sys.exit(f"Django is not installed for {sys.executable}. {advice()}")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "todo_project.settings")
    read_dotenv()
    from todo_project.environment import EnvironmentRefused

    try:
        run()
    except EnvironmentRefused as refusal:
        sys.exit(str(refusal))


def run() -> None:
    from django.conf import settings
    from django.core.management import execute_from_command_line

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    if command not in WITHOUT_DATABASE and settings.EMBEDDED_POSTGRES:
        from todo_project import embedded_postgres

        try:
            embedded_postgres.start()
        except RuntimeError as error:  # says what to do
            sys.exit(str(error))
    execute_from_command_line(sys.argv)


def read_dotenv() -> None:
    """Reads .env in development: not where the environment itself says that DEBUG is off."""
    if os.environ.get("DEBUG", "true").strip().lower() in ("true", "1", "yes"):
        try:
            from dotenv import load_dotenv
        except ModuleNotFoundError:  # a tool of development only
            return
        load_dotenv(PROJECT / ".env")


def advice() -> str:
    """How to run this with Django."""
    if (PROJECT / ".venv" / "bin" / "python").exists():
        return f"Use .venv: .venv/bin/python {' '.join(sys.argv)}"
    return "`make run` makes .venv, and installs it there."


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
