"""Where the service stands: at the root of its host, or below settings.PATH_PREFIX."""

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from . import PROBED_PATHS, GetResponse

# The path of a request that is for something else on the host. No route matches it.
NOWHERE = ""


class PathPrefixMiddleware:
    """Takes the prefix off the path, so that whatever follows sees the service as at the root.

    Django puts it before the paths that it makes (FORCE_SCRIPT_NAME), settings and resources before
    theirs. Probes may leave it out. Not used at the root.
    """

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.PATH_PREFIX:
            raise MiddlewareNotUsed
        self.get_response = get_response
        self._prefix: str = settings.PATH_PREFIX

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        request.path = path  # as it came; Django has put the prefix before it once more
        rest = path.removeprefix(self._prefix)
        if rest != path and rest[:1] in ("", "/"):
            request.path_info = rest or "/"
        elif path not in PROBED_PATHS:
            request.path_info = NOWHERE
        return self.get_response(request)
