"""By which host and over which transport the service may be called."""

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.middleware.security import SecurityMiddleware
from rest_framework.exceptions import ErrorDetail, ValidationError

from todo_project.addresses import is_forwarded_from_tls
from todo_project.api.errors import error_response

from . import PROBED_PATHS


class HostAndTransportMiddleware(SecurityMiddleware):
    """Django's SecurityMiddleware, and the check of the Host, which it answers in JSON.

    Probes call the process by whatever address it has, so their Host isn't checked.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        if request.path_info in PROBED_PATHS:
            return None
        proto = request.META.get("HTTP_X_FORWARDED_PROTO")
        if proto is not None and proto != "https" and settings.TRUSTED_PROXIES:
            # Django would believe the first of several entries, which is the client's.
            scheme = "https" if is_forwarded_from_tls(proto) else "http"
            request.META["HTTP_X_FORWARDED_PROTO"] = scheme
        try:
            request.get_host()
        except DisallowedHost:
            message = "This host is not served. ALLOWED_HOSTS has to name it, without a port."
            fault = ErrorDetail(message, code="invalid")
            return error_response(request, ValidationError({"Host": [fault]}))
        return super().process_request(request)
