"""[N2] Hundreds of clients ask for the largest answers and read none of them."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from accounts.models import User
from tasks.models import DESCRIPTION_MAX_CHARACTERS, Task
from tests.conftest import begin_session
from tests.processes import wait_until
from tests.serve.conftest import running

pytestmark = pytest.mark.django_db  # so that there is a test database

CLIENTS = 500
MEMORY_MAX_BYTES = 512 * 1024 * 1024
FILE = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
PAGE = "/api/me/tasks?limit=200"


@pytest.fixture(scope="module")
def reader(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The access token of somebody with the largest page that there can be."""
    with django_db_blocker.unblock():
        user = User.objects.create(email="reader@example.com")
        text = "\N{GRINNING FACE}" * DESCRIPTION_MAX_CHARACTERS
        Task.objects.bulk_create(
            Task(user_id=user.pk, title="x", description=text) for _ in range(200)
        )
        access = begin_session(user).access
    yield access
    with django_db_blocker.unblock():
        user.delete()


def kernel_bytes(port: int) -> int:
    """What the kernel holds for the connections to `port`, on both sides (proc_net_tcp)."""
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if f"{port:04X}" in (local.partition(":")[2], remote.partition(":")[2]):
            held += sum(int(queue, 16) for queue in queues.split(":"))
    return held


@pytest.mark.parametrize("path", [FILE, PAGE], ids=["file", "page"])
def test_answers_that_nobody_reads(
    path: str, database: str, access: str, reader: str, tmp_path: Path
) -> None:
    head = f"GET {path} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {reader}"
    request = head.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    with running(tmp_path, database, processes=1) as server, ExitStack() as stack:
        (worker,) = server.workers()
        for _ in range(CLIENTS):
            ask(stack.enter_context(socket.socket()), server.port, request)
        # All are answered, or the service would have ended who waits.
        wait_until(lambda: server.log.read_text().count('"request"') >= CLIENTS)

        held = kernel_bytes(server.port)
        used = worker.memory_info().rss + held
        status = server.status("/api/me/tasks?limit=1", Authorization=f"Bearer {access}")

        assert held > CLIENTS * 4096  # they have read nothing
        assert used < MEMORY_MAX_BYTES, (used, held)
        assert status == 200
        assert server.workers() == [worker]


def ask(client: socket.socket, port: int, request: bytes) -> None:
    """Sends a request, and gives the kernel little room for its answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(request)
