"""[V2] Behind an nginx that compresses, and so weakens the header: the body keeps the tag."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from accounts.models import User
from tests.conftest import PASSWORD
from tests.processes import PATIENCE_S, free_port, wait_until
from tests.system.conftest import Server, answers

pytestmark = pytest.mark.system

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_min_length 1;
    gzip_proxied any;
    gzip_types application/json;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@pytest.fixture
def compress(tmp_path: Path) -> Iterator[Callable[[Server], str]]:
    """Starts nginx before a server; returns the URL."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program is not None, "needs nginx: apt-get install nginx"
    started: list[subprocess.Popen[bytes]] = []

    def start(server: Server) -> str:
        port = free_port()
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(NGINX.format(folder=tmp_path, port=port, upstream=server.port))
        command = [program, "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
        started.append(subprocess.Popen([*command, "-c", str(configuration)]))
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait(PATIENCE_S)


def test_tags_hold_behind_a_proxy_that_compresses(
    serve: Callable[..., Server], compress: Callable[[Server], str], alice: User
) -> None:
    """The tag of the body goes into If-Match, and what the header became into If-None-Match."""
    url = compress(serve("--processes", "1"))
    client = requests.Session()
    credentials = {"email": alice.email, "password": PASSWORD}
    pair = client.post(f"{url}/api/auth/token", json=credentials, timeout=PATIENCE_S).json()
    client.headers["Authorization"] = f"Bearer {pair['data']['access']}"
    created = client.post(f"{url}/api/me/tasks", json={"title": "Buy milk"}, timeout=PATIENCE_S)
    task = created.json()["data"]
    path = f"{url}/api/me/tasks/{task['id']}"

    read = client.get(path, timeout=PATIENCE_S)
    header = read.headers.get("ETag", "")
    again = client.get(path, headers={"If-None-Match": header}, timeout=PATIENCE_S)
    changed = client.patch(
        path, json={"title": "Oats"}, headers={"If-Match": task["etag"]}, timeout=PATIENCE_S
    )
    stale = client.patch(
        path, json={"title": "Rye"}, headers={"If-Match": task["etag"]}, timeout=PATIENCE_S
    )
    listed = client.get(f"{url}/api/me/tasks", timeout=PATIENCE_S)
    unchanged = client.get(
        f"{url}/api/me/tasks",
        headers={"If-None-Match": listed.headers["ETag"]},
        timeout=PATIENCE_S,
    )

    assert read.headers["Content-Encoding"] == "gzip"
    assert header == f"W/{task['etag']}"  # no good for If-Match, and good enough here
    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200
    assert stale.status_code == 412
    assert stale.json()["error"]["details"]["current"]["title"] == "Oats"
    assert unchanged.status_code == 304
