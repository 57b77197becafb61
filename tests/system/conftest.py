"""The production server as processes of its own, on the test database."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import pytest
import requests
from django.db import connection

from tests.processes import PATIENCE_S, free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
# What docs/operations.md asks of a proxy.
BALANCER = """
global
    maxconn 8000
    stats socket {socket} mode 600 level operator
defaults
    mode http
    option forwardfor
    option abortonclose
    option redispatch
    timeout http-request 5s
    timeout queue 5s
    timeout connect 5s
    timeout check 5s
    timeout client 60s
    timeout server 60s
frontend all
    bind 127.0.0.1:{port}
    http-request set-header X-Request-Start t=%[date(0,ms)]
{routes}
    default_backend servers
backend servers
    option httpchk GET /readyz
    default-server check inter 200ms fall 1 rise 1
{servers}
"""
ROUTE = "    use_backend server{port} if {{ path {prefix} }} or {{ path_beg {prefix}/ }}"
BACKEND = """
backend server{port}
    option httpchk GET /readyz
    server server{port} 127.0.0.1:{port} check inter 200ms fall 1 rise 1
"""
KEYS = {"SECRET_KEY": secrets.token_urlsafe(50), "JWT_SIGNING_KEY": secrets.token_urlsafe(50)}


class Server:
    """`manage.py serve` with production settings."""

    def __init__(self, *options: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self._environment = environment
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--host", "127.0.0.1", *self._options],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "DEBUG": "false",
                "PORT": str(self.port),
                "DATABASE_URL": database_url(),
                "ALLOWED_HOSTS": "127.0.0.1",
                "SECURE_SSL": "false",
                **KEYS,
                **self._environment,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: answers(f"{self.url}/readyz"))

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def memory_bytes(self) -> list[int]:
        """Resident memory of each worker."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child.memory_info().rss for child in children]


def database_url() -> str:
    """The URL of the test database."""
    database: dict[str, Any] = connection.settings_dict
    credentials = quote(database["USER"], safe="")
    if database["PASSWORD"]:
        credentials += f":{quote(database['PASSWORD'], safe='')}"
    host = quote(database["HOST"], safe="")
    port = f":{database['PORT']}" if database["PORT"] else ""
    return f"postgresql://{credentials}@{host}{port}/{database['NAME']}"


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


@pytest.fixture
def serve(transactional_db: None) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*options: str, **environment: str) -> Server:
        servers.append(Server(*options, **environment))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PATIENCE_S)


@pytest.fixture
def balancer_socket() -> Iterator[Path]:
    """Where HAProxy answers questions. Not in tmp_path, which is too long for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="todo-") as folder:
        yield Path(folder) / "haproxy"


def has_all_servers(balancer_socket: Path) -> bool:
    """Whether HAProxy would send requests to each of its servers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(balancer_socket))
        client.sendall(b"show stat -1 4 -1 json\n")
        with client.makefile("rb") as answer:
            servers = json.load(answer)
    return all(
        field["value"]["value"] == "UP"
        for server in servers
        for field in server
        if field["field"]["name"] == "status"
    )


@pytest.fixture
def balance(balancer_socket: Path, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts HAProxy before some servers, and others below paths; returns its port."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program is not None, "needs haproxy: apt-get install haproxy"
    balancers: list[subprocess.Popen[bytes]] = []

    def start(*servers: Server, **below: Server) -> int:
        port = free_port()
        lines = [f"    server server{s.port} 127.0.0.1:{s.port}" for s in servers]
        routes = [ROUTE.format(port=s.port, prefix=f"/{name}") for name, s in below.items()]
        text = BALANCER.format(
            port=port,
            socket=balancer_socket,
            servers="\n".join(lines),
            routes="\n".join(routes),
        )
        backends = [BACKEND.format(port=s.port) for s in below.values()]
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text("".join([text, *backends]))
        balancers.append(subprocess.Popen([program, "-db", "-f", configuration]))
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        return port

    yield start
    for balancer in balancers:
        balancer.send_signal(signal.SIGTERM)
        balancer.wait(PATIENCE_S)
