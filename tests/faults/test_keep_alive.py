"""Whatever is answered, the connection goes on: a proxy's next request isn't lost."""

import time
from http.client import HTTPConnection

import pytest

from tests.processes import PATIENCE_S

from .postgres import PrivatePostgres
from .service import Account, Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

BODY = b'{"title": "x"}'
TASKS = "/api/me/tasks"


def post(connection: HTTPConnection, path: str, access: str) -> int:
    """The body follows the head, as it does through many proxies."""
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.putheader("Authorization", f"Bearer {access}")
    connection.endheaders()
    time.sleep(0.05)
    connection.send(BODY)
    response = connection.getresponse()
    response.read()
    assert response.getheader("Connection") != "close"
    return response.status


@pytest.mark.parametrize(
    ("path", "access", "status"),
    [
        pytest.param("/nowhere", None, 404, id="no route"),
        pytest.param(TASKS, "x", 401, id="no access"),
        pytest.param("/api/someone/tasks", None, 403, id="not the caller's"),
        pytest.param("/api/auth/me", None, 405, id="no method"),
    ],
)
def test_refusal_before_the_body_keeps_the_connection(
    path: str, access: str | None, status: int, service: Service, alice: Account
) -> None:
    connection = HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    try:
        answers = [post(connection, path, access or alice.access) for _ in range(3)]
    finally:
        connection.close()

    assert answers == [status] * 3


def test_outage_keeps_the_connection(
    service: Service, postgres: PrivatePostgres, alice: Account
) -> None:
    connection = HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    try:
        postgres.stop()
        answers = [post(connection, TASKS, alice.access) for _ in range(3)]
        postgres.start()
        answers.append(post(connection, TASKS, alice.access))
    finally:
        connection.close()

    assert answers == [503, 503, 503, 201]
