"""[C3] Below a path of a HAProxy, which passes it on whole and has another service at its root."""

import re
import secrets
from collections.abc import Callable
from urllib.parse import urljoin

import pytest
import requests

from accounts.models import User
from tests.conftest import PASSWORD
from tests.processes import PATIENCE_S, wait_until
from tests.system.conftest import Server, answers

pytestmark = pytest.mark.system


@pytest.fixture
def host(serve: Callable[..., Server], balance: Callable[..., int]) -> str:
    """One service at its root and another below /todo, which know nothing of each other."""
    root = serve("--processes", "1", SECRET_KEY=secrets.token_urlsafe(50))
    below = serve("--processes", "1", TRUSTED_PROXIES="1", PATH_PREFIX="/todo")
    host = f"http://127.0.0.1:{balance(root, todo=below)}"
    wait_until(lambda: answers(f"{host}/todo/readyz"))
    return host


def test_every_address_that_is_told_can_be_asked(host: str, alice: User) -> None:
    client = requests.Session()

    def ask(method: str, address: str, **options: object) -> requests.Response:
        url = urljoin(f"{host}/todo/", address)
        response = client.request(method, url, timeout=PATIENCE_S, **options)  # type: ignore[arg-type]
        assert response.status_code < 300, (url, response.text)
        assert response.url.startswith(f"{host}/todo/")
        return response

    credentials = {"email": alice.email, "password": PASSWORD}
    pair = ask("POST", "api/auth/token", json=credentials).json()["data"]
    client.headers["Authorization"] = f"Bearer {pair['access']}"
    for title in ("one", "two"):
        created = ask("POST", "api/me/tasks", json={"title": title})
        location = created.headers["Location"]
        assert ask("GET", location).json()["data"]["title"] == title
    page = ask("GET", "api/me/tasks?limit=1")
    assert ask("GET", page.links["next"]["url"]).json()["data"][0]["title"] == "one"

    for path in ("", "api/redoc", "admin", "admin/login/"):
        html = ask("GET", path).text
        for address in re.findall(r"""(?:src|href|spec-url)=["']([^"'#]+)["']""", html):
            ask("GET", address)
    document = ask("GET", "api/schema?format=json").json()
    [contract] = re.findall(r"\[contract\]\((.+?)\)", document["info"]["description"])
    ask("GET", contract)
    assert ask("GET", f"{document['servers'][0]['url']}/api/me/tasks").json()["data"]


def sign_in(browser: requests.Session, admin: str, operator: User) -> None:
    page = browser.get(f"{admin}login/", timeout=PATIENCE_S).text
    [token] = re.findall(r'csrfmiddlewaretoken" value="(\w+)"', page)
    form = {"username": operator.email, "password": PASSWORD, "csrfmiddlewaretoken": token}
    browser.post(f"{admin}login/", form, timeout=PATIENCE_S, allow_redirects=False)


def test_operator_is_signed_in_to_both(host: str, olga: User) -> None:
    browser = requests.Session()
    admins = [f"{host}/admin/", f"{host}/todo/admin/"]
    for admin in admins:
        sign_in(browser, admin, olga)

    pages = [browser.get(admin, timeout=PATIENCE_S, allow_redirects=False) for admin in admins * 2]

    assert [page.status_code for page in pages] == [200] * 4
