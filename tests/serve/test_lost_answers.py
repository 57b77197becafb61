"""[I1] The answer to a write is lost on its way, and the client tries again."""

import json
import socket
import struct
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from tasks.models import Task
from tests.processes import wait_until
from tests.serve.conftest import Server

pytestmark = pytest.mark.django_db  # so that there is a test database

# What close() then does with a connection: RST, as of a phone that has gone.
RESET = struct.pack("ii", 1, 0)


def test_retry_after_a_cut_connection_makes_no_second_task(
    server: Server, access: str, headers: dict[str, str]
) -> None:
    """[I1] Cut after the commit and before the answer was read: one task, and its answer."""
    key, title = str(uuid4()), f"{uuid4()}"
    body = json.dumps({"title": title}).encode()
    head = (
        f"POST /api/me/tasks HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {access}\n"
        f"Content-Type: application/json\nContent-Length: {len(body)}\nIdempotency-Key: {key}"
    )
    phone = server.send(head, body)
    wait_until(lambda: Task.objects.filter(title=title).exists())
    phone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    phone.close()

    answers: list[Any] = []
    for _ in range(2):
        with closing(server.connect()) as again:
            again.request("POST", "/api/me/tasks", body, {**headers, "Idempotency-Key": key})
            response = again.getresponse()
            answers.append((response.status, response.headers, json.loads(response.read())))

    task = Task.objects.get(title=title)
    for status, answered, content in answers:
        assert (status, answered["Idempotent-Replayed"]) == (201, "true")
        assert content["data"]["id"] == str(task.pk)
        assert answered["Location"].endswith(f"/tasks/{task.pk}")
        assert answered["ETag"] == content["data"]["etag"]
