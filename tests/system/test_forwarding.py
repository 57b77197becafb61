"""[H2] Through a HAProxy that passes on whatever headers its clients write."""

from collections.abc import Callable

import pytest
import requests

from accounts.models import User
from tests.conftest import PASSWORD
from tests.processes import PATIENCE_S
from tests.system.conftest import Server

pytestmark = pytest.mark.system

FORGED = "203.0.113.9"


@pytest.mark.parametrize("trusted", [0, 1])
@pytest.mark.parametrize(
    "name", ["X_Forwarded_For", "x_forwarded_for", "X-Forwarded_For", "X-Forwarded-For"]
)
def test_address_is_what_the_proxy_saw(
    name: str,
    trusted: int,
    serve: Callable[..., Server],
    balance: Callable[..., int],
    alice: User,
) -> None:
    port = balance(serve("--processes", "1", TRUSTED_PROXIES=str(trusted)))
    api = f"http://127.0.0.1:{port}/api/auth"
    credentials = {"email": alice.email, "password": PASSWORD}

    pair = requests.post(
        f"{api}/token", json=credentials, headers={name: FORGED}, timeout=PATIENCE_S
    )
    access = pair.json()["data"]["access"]
    headers = {"Authorization": f"Bearer {access}"}
    sessions = requests.get(f"{api}/sessions", headers=headers, timeout=PATIENCE_S).json()["data"]

    assert [session["address"] for session in sessions] == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["X_Forwarded_For", "X-Forwarded-For"])
def test_guesses_are_counted_whatever_the_client_writes(
    name: str, serve: Callable[..., Server], balance: Callable[..., int], alice: User
) -> None:
    limit = 3
    port = balance(
        serve("--processes", "1", TRUSTED_PROXIES="1", RATE_LIMIT_SIGN_IN=f"{limit}/hour")
    )
    statuses = [
        requests.post(
            f"http://127.0.0.1:{port}/api/auth/token",
            json={"email": alice.email, "password": "not this one"},
            headers={name: f"203.0.113.{number}"},
            timeout=PATIENCE_S,
        ).status_code
        for number in range(limit + 3)
    ]
    assert statuses == [401] * limit + [429] * 3
