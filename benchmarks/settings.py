"""Settings of the harness, which signs tokens itself; the servers that it measures have their own.

Tokens live for 12 hours instead of 15 minutes, longer than any run, because signing 10,000 anew
between two measurements would take as long as they do. What a server does to check one is the same.
"""

import os
import secrets
from datetime import timedelta

os.environ["DEBUG"] = "true"  # so that nothing else is needed
os.environ["JWT_SIGNING_KEY"] = secrets.token_urlsafe(50)  # of this run; the servers get it too

from todo_project.settings import *  # noqa: F403
from todo_project.settings import SIMPLE_JWT

ACCESS_TOKEN_LIFETIME = timedelta(hours=12)
SIMPLE_JWT = {**SIMPLE_JWT, "ACCESS_TOKEN_LIFETIME": ACCESS_TOKEN_LIFETIME}
