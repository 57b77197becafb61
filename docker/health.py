"""The health check of the image: whether the server answers. Python's library alone starts fast.

Asks /livez and so no database: a database that is away is mended by no restart.
"""

import os
import sys
from http.client import HTTPConnection

TIMEOUT_SECONDS = 4  # less than the engine's own, so that it ends by itself

connection = HTTPConnection(
    "127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=TIMEOUT_SECONDS
)
connection.request("GET", "/livez")
sys.exit(connection.getresponse().status != 200)
