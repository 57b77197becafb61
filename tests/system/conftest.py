"""The production server as processes of its own, on the test database."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import pytest
import requests
from django.db import connection

ROOT = Path(__file__).parent.parent.parent
# What docs/operations.md asks of a proxy.
BALANCER = """
global
    maxconn 8000
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
    default_backend servers
backend servers
    option httpchk GET /readyz
    default-server check inter 200ms fall 1 rise 1
{servers}
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
        wait_until(lambda: answers(f"{self.url}/readyz"), 30)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.05)


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
            server.process.wait(60)


@pytest.fixture
def balance(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts HAProxy before some servers; returns its port."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program is not None, "needs haproxy: apt-get install haproxy"
    balancers: list[subprocess.Popen[bytes]] = []

    def start(*servers: Server) -> int:
        port = free_port()
        lines = [f"    server server{s.port} 127.0.0.1:{s.port}" for s in servers]
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(BALANCER.format(port=port, servers="\n".join(lines)))
        balancers.append(subprocess.Popen([program, "-db", "-f", configuration]))
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 30)
        return port

    yield start
    for balancer in balancers:
        balancer.send_signal(signal.SIGTERM)
        balancer.wait(30)
