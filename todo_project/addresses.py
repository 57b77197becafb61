"""Where a request comes from, as far as the proxies before the service can be believed."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str | None:
    """The client's IP address; None where it can't be told (a Unix socket, a malformed header).

    Each trusted proxy appends the address that it was called from to X-Forwarded-For, so the
    client's stands TRUSTED_PROXIES places from the end; whatever stands before it was written by
    the client itself and is not believed.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        header = request.META.get("HTTP_X_FORWARDED_FOR")
        forwarded = [] if header is None else header.split(",")
        if len(forwarded) >= settings.TRUSTED_PROXIES:
            address = _without_port(forwarded[-settings.TRUSTED_PROXIES].strip())
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None


def is_forwarded_from_tls(header: str) -> bool:
    """Whether a client of the outermost trusted proxy spoke TLS, by X-Forwarded-Proto.

    Proxies set it, or add to what was there already: so of the last entries, as many as there are
    proxies, none may say otherwise.
    """
    entries = [entry.strip().lower() for entry in header.split(",")]
    return all(entry == "https" for entry in entries[-settings.TRUSTED_PROXIES :])


def _without_port(forwarded: str) -> str:
    """An entry of X-Forwarded-For without the port that some load balancers add to it."""
    if forwarded.startswith("["):
        return forwarded[1:].partition("]")[0]
    host, _, port = forwarded.partition(":")
    return forwarded if ":" in port else host  # an IPv6 address without brackets has no port


def client_network(request: HttpRequest) -> str:
    """What counts as one client in limits: its IPv4 address, or the /64 that an IPv6 host has.

    Clients whose address can't be told are counted together.
    """
    address = client_address(request)
    return "unknown" if address is None else network_of(address)


def network_of(address: str) -> str:
    """The network of an IP address, as `client_network` has it."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
