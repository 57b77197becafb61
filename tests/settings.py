"""The service's settings, in development mode: tests need no environment and read no .env."""

import os

os.environ.setdefault("DEBUG", "true")

from todo_project.settings import *  # noqa: F403
