"""[H2] What is believed of forwarding headers, over real sockets: only what proxies wrote.

The session that a sign-in begins keeps the address, which its owner then reads.
"""

import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from accounts.models import User
from tests.conftest import PASSWORD
from tests.serve.conftest import Server, read_answer, running

pytestmark = pytest.mark.django_db  # so that there is a test database

EMAIL = "forwarded@example.com"
PROXY = "X-Forwarded-For: 192.0.2.1"  # of the proxy, which is the client here
FORGED = "203.0.113.9"
SPELLINGS = [
    "X_Forwarded_For",
    "x_forwarded_for",
    "X-Forwarded_For",
    "X_Forwarded-For",
    "x-forwarded_for",
]


@pytest.fixture(scope="module")
def person(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    with django_db_blocker.unblock():
        user = User.objects.create_user(EMAIL, PASSWORD)
    yield user
    with django_db_blocker.unblock():
        user.delete()


@pytest.fixture(scope="module", params=[0, 1, 2], ids=lambda proxies: f"{proxies} proxies")
def trusting(
    request: pytest.FixtureRequest,
    database: str,
    access: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, int]]:
    """A server, and how many proxies it trusts."""
    folder = tmp_path_factory.mktemp("forwarding")
    with running(folder, database, TRUSTED_PROXIES=str(request.param)) as server:
        yield server, request.param


def address_of_sign_in(server: Server, lines: list[str]) -> Any:
    body = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()
    head = ["POST /api/auth/token HTTP/1.1", "Host: 127.0.0.1", *lines]
    head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    status, content = read_answer(server.send("\n".join(head), body))
    assert status == 200, content
    access = json.loads(content)["data"]["access"]
    ask = f"GET /api/auth/sessions HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {access}"
    sessions = json.loads(read_answer(server.send(ask))[1])["data"]
    return next(session["address"] for session in sessions if session["is_current"])


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("name", SPELLINGS)
def test_underscores_are_never_believed(name: str, trusting: tuple[Server, int]) -> None:
    """In any order with what the proxies wrote; nor by itself."""
    server, proxies = trusting
    forged = f"{name}: {FORGED}"
    expected = {0: "127.0.0.1", 1: "192.0.2.1", 2: "192.0.2.1"}[proxies]
    honest = [PROXY] if proxies < 2 else [PROXY, "X-Forwarded-For: 198.51.100.7"]
    for lines in permutations([forged, *honest]):
        if lines.index(honest[0]) < lines.index(honest[-1]) or len(honest) == 1:
            assert address_of_sign_in(server, list(lines)) == expected
    assert address_of_sign_in(server, [forged] * 3) == "127.0.0.1"


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["203.0.113.9", "192.0.2.1"], {1: "192.0.2.1", 2: "203.0.113.9"}, id="two"),
        pytest.param(["203.0.113.9, 192.0.2.1"], {1: "192.0.2.1", 2: "203.0.113.9"}, id="one"),
        pytest.param(
            ["10.0.0.1, 203.0.113.9", "192.0.2.1"],
            {1: "192.0.2.1", 2: "203.0.113.9"},
            id="both ways",
        ),
        pytest.param(["192.0.2.1"], {1: "192.0.2.1", 2: "127.0.0.1"}, id="too few"),
        pytest.param([], {1: "127.0.0.1", 2: "127.0.0.1"}, id="none"),
    ],
)
def test_lines_are_one_list_in_their_order(
    lines: list[str], expected: dict[int, str], trusting: tuple[Server, int]
) -> None:
    server, proxies = trusting
    found = address_of_sign_in(server, [f"x-forwarded-for: {line}" for line in lines])
    assert found == {0: "127.0.0.1", **expected}[proxies]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([], 301, id="nothing"),
        pytest.param(["X_Forwarded_Proto: https"], 301, id="underscores"),
        pytest.param(["X-Forwarded_Proto: https"], 301, id="an underscore"),
        pytest.param(
            ["X_Forwarded_Proto: https", "X-Forwarded-Proto: http"], 301, id="before the proxy's"
        ),
        pytest.param(
            ["X-Forwarded-Proto: http", "X_Forwarded_Proto: https"], 301, id="behind the proxy's"
        ),
        pytest.param(
            ["X_Forwarded_Proto: http", "X-Forwarded-Proto: https"], 401, id="to its disadvantage"
        ),
        pytest.param(["X-Forwarded-Proto: https"], 401, id="the proxy's"),
        pytest.param(
            ["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"], 301, id="added by the proxy"
        ),
        pytest.param(["X-Forwarded-Proto: https, http"], 301, id="added to the client's line"),
        pytest.param(
            ["X-Forwarded-Proto: http", "X-Forwarded-Proto: https"], 401, id="TLS after all"
        ),
    ],
)
def test_scheme_is_the_proxys_to_tell(lines: list[str], status: int, secure_server: Server) -> None:
    head = "\n".join(["GET /api/me/tasks HTTP/1.1", "Host: 127.0.0.1", *lines])
    assert read_answer(secure_server.send(head))[0] == status


@pytest.fixture(scope="module")
def secure_server(
    database: str, access: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("secure")
    with running(folder, database, TRUSTED_PROXIES="1", SECURE_SSL="true") as server:
        yield server


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("trusting", [1], indirect=True, ids=["1 proxy"])
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("Content_Length: 5", id="length"),
        pytest.param("Transfer_Encoding: chunked", id="coding"),
        pytest.param("Content_Type: text/plain", id="type"),
        pytest.param("Host_: elsewhere.example", id="host"),
    ],
)
def test_no_other_header_is_spelled_with_an_underscore(
    line: str, trusting: tuple[Server, int]
) -> None:
    assert address_of_sign_in(trusting[0], [line]) == "127.0.0.1"
