"""What happens to every request, whichever view answers it. Each file has one duty.

Settings name the classes in MIDDLEWARE. Nothing imports them; `manage.py serve` imports only the
name of the variable by which it tells the gate how many requests may work.
"""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponseBase]

LIVENESS_PATHS = ("/livez", "/livez/")
HEALTH_PATHS = (*LIVENESS_PATHS, "/readyz", "/readyz/")
