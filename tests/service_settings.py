"""The service's settings in development mode, for tests and checks: they need no environment."""

import os

os.environ["DEBUG"] = "true"

from todo_project.settings import *  # noqa: F403
from todo_project.settings import INSTALLED_APPS

# A tool of `make check`: the service itself runs without it.
INSTALLED_APPS = [*INSTALLED_APPS, "django_migration_linter"]

# A registration sends no mail but where a test asks for it: the thread would outlive the test.
EMAIL_CONFIRMATION_URL = ""
