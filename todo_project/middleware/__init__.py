"""What happens to every request, whichever view answers it. Each file has one duty.

Settings name the classes in MIDDLEWARE. Nothing imports them; `manage.py serve` imports only the
name of the variable by which it tells the gate how many requests may work.
"""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# They need no turn, and are answered by the thread that never gets one.
UNGATED_PATHS = ("/livez", "/livez/", "/metrics", "/metrics/")
# Asked of the process itself, in plain HTTP and under whatever Host.
PROBED_PATHS = (*UNGATED_PATHS, "/readyz", "/readyz/")
