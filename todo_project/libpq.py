"""Which parameters of a database URL can work. For environment.py."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

# What neither libpq nor Django looks at before a connection is made, and both take for a number.
_INTEGERS = (
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
)

_LIBPQ_PARAMETERS = (
    "sslmode, sslrootcert, channel_binding, connect_timeout and the others of "
    "https://www.postgresql.org/docs/current/libpq-connect.html"
)


def parameter_faults(parameters: Mapping[str, Any]) -> list[str]:
    """What in a database URL's query can't work, as far as it shows without a server."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    unknown = parameters.keys() - known
    if unknown:
        names = ", ".join(map(repr, sorted(unknown)))
        return [f"libpq knows no parameter {names}; remove it. Valid: {_LIBPQ_PARAMETERS}"]
    repeated = [key for key, value in parameters.items() if isinstance(value, list)]
    if repeated:
        return [f"{', '.join(repeated)} stands there more than once; give each parameter once"]
    faults = [
        f"{key}={parameters[key]} is no number; valid: {key}=10, say"
        for key in _INTEGERS
        if key in parameters and not re.fullmatch("[0-9]{1,9}", str(parameters[key]))
    ]
    encoding = str(parameters.get("client_encoding", "UTF8"))
    if encoding.lower() not in ("utf8", "utf-8"):
        faults.append(f"client_encoding={encoding} can't carry every text; valid: UTF8")
    certificates = str(parameters.get("sslrootcert", "system"))
    verifies = str(parameters.get("sslmode")).startswith("verify-")
    if certificates != "system" and verifies and not Path(certificates).is_file():
        faults.append(
            f"sslrootcert={certificates} is no file here; valid: the system's CA bundle, such as "
            "/etc/ssl/certs/ca-certificates.crt"
        )
    refused = _refused_by_libpq(parameters)
    if refused is not None:
        faults.append(f"libpq refuses the URL's parameters: {refused}; valid: {_LIBPQ_PARAMETERS}")
    return faults


def _refused_by_libpq(parameters: Mapping[str, Any]) -> str | None:
    """libpq's reason not even to try to connect with these. No server is asked."""
    nowhere = {"host": "/dev/null", "hostaddr": ""}  # no socket can be below it
    texts = {key: str(value) for key, value in parameters.items()}
    conninfo = psycopg.conninfo.make_conninfo("", **{**texts, **nowhere})
    attempt = psycopg.pq.PGconn.connect_start(conninfo.encode())
    try:
        reason = attempt.get_error_message()
    finally:
        attempt.finish()
    return None if "/dev/null" in reason else " ".join(reason.split())
