"""[C3] A service that stands below a path: whatever it says of its own paths has the prefix."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from email.message import Message
from html import unescape
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import requests
from pytest_django import DjangoDbBlocker

from accounts.models import User
from tests.conftest import PASSWORD
from tests.processes import PATIENCE_S
from tests.scraped import METRICS_TOKEN
from tests.serve.conftest import Server, running
from tests.serve.test_development import DevelopmentServer

pytestmark = pytest.mark.django_db  # so that there is a test database

PREFIX = "/todo"
ORIGIN = "https://app.example.com"
OPERATOR = "prefix@example.com"


class Answer(NamedTuple):
    status: int
    headers: Message
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def text(self) -> str:
        return self.content.decode()


def ask(
    server: Server, method: str, path: str, headers: dict[str, str], body: Any = None
) -> Answer:
    """The path as it is written here: client libraries would put some in order first."""
    with closing(server.connect()) as client:
        client.putrequest(method, path, skip_host="Host" in headers)
        content = b"" if body is None else json.dumps(body).encode()
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            client.putheader(name, value)
        client.endheaders(content)
        response: HTTPResponse = client.getresponse()
        return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def below(database: str, access: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("below")
    variables = {
        "PATH_PREFIX": PREFIX,
        "CORS_ALLOWED_ORIGINS": ORIGIN,
        "METRICS_TOKEN": METRICS_TOKEN,
    }
    with running(folder, database, processes=1, **variables) as server:
        yield server


# --- Which paths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/todo/api/me/tasks",
        "/todo/api/me/tasks/",
        "/todo/users/me/tasks",
        "/todo/api/auth/me",
        "/%74odo/api/me/tasks",  # the same path, written otherwise
        "http://127.0.0.1/todo/api/me/tasks",  # RFC 9112, section 3.2.2
        "/livez",
        "/readyz",
        "/todo/livez",
        "/todo/readyz/",
        "/todo/favicon.ico",
        "/todo/static/admin/css/base.css",
    ],
)
def test_path_is_served(path: str, below: Server, headers: dict[str, str]) -> None:
    assert ask(below, "GET", path, headers).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/me/tasks",
        "/users/me/tasks",
        "/api/auth/me",
        "/api/docs",
        "/api/schema",
        "/admin/",
        "/admin",
        "/favicon.ico",
        "/static/admin/css/base.css",
        "/todolist/api/me/tasks",
        "/todo.",
        "/Todo/api/me/tasks",
        "//todo/api/me/tasks",
        "/./todo/api/me/tasks",
        "/x/todo/api/me/tasks",
        "/todo/todo/api/me/tasks",
        "/todo/nope",
        "/todo//api/me/tasks",
        "/todo/../api/me/tasks",
    ],
)
def test_path_is_not_there(path: str, below: Server, headers: dict[str, str]) -> None:
    answer = ask(below, "GET", path, {**headers, "X-Request-ID": "outside"})

    assert (answer.status, answer.json["error"]["code"]) == (404, "NOT_FOUND")
    assert answer.json["meta"]["request_id"] == answer.headers["X-Request-ID"] == "outside"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["without", "with"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_process_itself_is_asked_with_and_without(path: str, prefix: str, below: Server) -> None:
    """By probes and Prometheus, and under any Host."""
    headers = {"Host": "10.0.0.7:8000", "Authorization": f"Bearer {METRICS_TOKEN}"}

    assert ask(below, "GET", f"{prefix}{path}", headers).status == 200


@pytest.mark.parametrize("path", ["/todo/api/me/tasks", "/api/me/tasks"])
def test_host_is_checked(path: str, below: Server, headers: dict[str, str]) -> None:
    answer = ask(below, "GET", path, {**headers, "Host": "evil.example"})

    assert (answer.status, list(answer.json["error"]["details"])) == (400, ["Host"])


def test_no_header_sets_the_prefix(below: Server, headers: dict[str, str]) -> None:
    forged = {**headers, "X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"}

    answer = ask(below, "POST", "/todo/api/me/tasks", forged, {"title": "x"})

    assert answer.headers["Location"].startswith("/todo/api/")
    assert ask(below, "GET", "/evil/api/me/tasks", forged).status == 404


# --- What is said of paths --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/todo", "/todo/api/docs"),
        ("/todo/", "/todo/api/docs"),
        ("/todo/admin", "/todo/admin/"),
        ("/todo/admin/", "/todo/admin/login/?next=/todo/admin/"),
        ("/todo/admin/tasks/task/", "/todo/admin/login/?next=/todo/admin/tasks/task/"),
        ("/todo//evil.example", None),
    ],
)
def test_redirects_stay_below(path: str, location: str | None, below: Server) -> None:
    assert ask(below, "GET", path, {}).headers.get("Location") == location


@pytest.mark.parametrize("segment", ["tasks", "lists"])
@pytest.mark.parametrize("path", ["/todo/api/me", "/todo/users/me"])
def test_what_was_created_is_where_location_says(
    path: str, segment: str, below: Server, headers: dict[str, str]
) -> None:
    body = {"tasks": {"title": "x"}, "lists": {"name": "x"}}[segment]
    if segment == "lists":
        path = "/todo/api/me"  # the other prefix is for tasks alone
    created = ask(below, "POST", f"{path}/{segment}", headers, body)

    assert created.status == 201
    assert re.fullmatch(rf"/todo/api/[0-9a-f-]+/{segment}/[0-9a-f-]+", created.headers["Location"])
    assert (
        ask(below, "GET", created.headers["Location"], headers).json["data"]["id"]
        == (created.json["data"]["id"])
    )


def test_what_was_created_at_a_chosen_id_is_where_location_says(
    below: Server, headers: dict[str, str]
) -> None:
    path = "/todo/api/me/tasks/0198c0de-0000-7000-8000-000000000001"
    new = {**headers, "If-None-Match": "*"}

    created = ask(below, "PUT", path, new, {"title": "x"})

    assert created.status == 201
    assert ask(below, "GET", created.headers["Location"], headers).status == 200


def test_kept_answer_leads_where_the_service_is_now(
    below: Server, server: Server, headers: dict[str, str]
) -> None:
    """The same repeated after a move, or at an instance that stands elsewhere."""
    keyed = {**headers, "Idempotency-Key": "moved"}
    at_the_root = ask(server, "POST", "/api/me/tasks", keyed, {"title": "x"})

    again = ask(below, "POST", "/todo/api/me/tasks", keyed, {"title": "x"})

    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == f"/todo{at_the_root.headers['Location']}"
    assert ask(below, "GET", again.headers["Location"], headers).status == 200


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/todo/api/me/tasks?limit=1&search=x", r"/todo/api/[0-9a-f-]+/tasks\?limit=1&search=x&.+"),
        ("/todo/users/me/tasks?limit=1", r"/todo/api/[0-9a-f-]+/tasks\?limit=1&.+"),
        ("/todo/api/me/labels?limit=1", r"/todo/api/[0-9a-f-]+/labels\?limit=1&.+"),
        ("/todo/api/me/trash?limit=1", r"/todo/api/[0-9a-f-]+/trash\?limit=1&.+"),
    ],
)
def test_next_page_is_where_link_says(
    path: str, expected: str, below: Server, headers: dict[str, str]
) -> None:
    for number in range(2):
        body = {"title": f"x{number}", "labels": [f"x{number}"]}
        created = ask(below, "POST", "/todo/api/me/tasks", headers, body)
        if "trash" in path:
            ask(below, "DELETE", created.headers["Location"], headers)

    page = ask(below, "GET", path, headers)

    [link] = re.findall(r'^<(.+)>; rel="next"$', page.headers["Link"])
    assert re.fullmatch(expected, link)
    next_page = ask(below, "GET", link, headers)
    assert next_page.status == 200
    assert next_page.json["data"][0] not in page.json["data"]


def test_document_says_where_its_paths_stand(below: Server) -> None:
    document = ask(below, "GET", "/todo/api/schema?format=json", {}).json

    assert document["servers"] == [{"url": "/todo"}]
    assert {path.split("/")[1] for path in document["paths"]} == {"api"}
    assert "Every path begins with `/todo`" in document["info"]["description"]
    linked = re.findall(r"\]\((/[^)]+)\)", document["info"]["description"])
    assert "/todo/api/contract" in linked
    for address in linked:
        assert address.startswith("/todo/")
        assert ask(below, "GET", address, {}).status == 200


def addresses_in(html: str) -> set[str]:
    """Absolute ones, with a host or without; the others are below whatever the page is."""
    found = re.findall(r"""(?:(?:src|href|spec-url|action)=|\burl: )["']([^"'#]+)["']""", html)
    return {unescape(address) for address in found if re.match(r"/|\w+:", address)}


def is_below(address: str) -> bool:
    return address == PREFIX or address.startswith(f"{PREFIX}/")


@pytest.mark.parametrize("path", ["/todo/api/docs", "/todo/api/redoc", "/todo/admin/login/"])
def test_pages_name_what_is_below(path: str, below: Server) -> None:
    addresses = addresses_in(ask(below, "GET", path, {}).text)

    assert "/todo/favicon.ico" in addresses
    assert [address for address in addresses if not is_below(address)] == []
    statuses = {address: ask(below, "GET", address, {}).status for address in addresses}
    assert [address for address, status in statuses.items() if status not in (200, 302)] == []


def test_preflights_are_answered_below(below: Server) -> None:
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}

    here = ask(below, "OPTIONS", "/todo/api/me/tasks", preflight)
    elsewhere = ask(below, "OPTIONS", "/api/me/tasks", preflight)

    assert here.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Origin" not in elsewhere.headers


def test_tls_is_asked_for_below(
    database: str, access: str, tmp_path: Path, headers: dict[str, str]
) -> None:
    variables = {"PATH_PREFIX": PREFIX, "TRUSTED_PROXIES": "1", "SECURE_SSL": "true"}
    with running(tmp_path, database, processes=1, **variables) as server:
        plain = ask(server, "GET", "/todo/api/me/tasks?limit=2", headers)
        secure = ask(server, "GET", "/todo/api/me/tasks", {**headers, "X-Forwarded-Proto": "https"})
        probes = [ask(server, "GET", path, {}).status for path in ("/livez", "/todo/livez")]

    assert plain.status == 301
    there = f"https://127.0.0.1:{server.port}/todo/api/me/tasks?limit=2"
    assert plain.headers["Location"] == there
    assert secure.status == 200
    assert "Strict-Transport-Security" in secure.headers
    assert probes == [200, 200]


def test_log_has_routes_as_everywhere(below: Server, headers: dict[str, str]) -> None:
    paths = ("/todo/api/me/tasks", "/todo/livez", "/livez", "/api/me/tasks")
    for path in paths:
        ask(below, "GET", path, {**headers, "X-Request-ID": "logged"})

    lines = [json.loads(line) for line in below.log.read_text().splitlines() if "logged" in line]

    assert [(line["route"], line["status"]) for line in lines] == [
        ("/api/<user_id>/tasks", 200),
        ("/livez", 200),
        ("/livez", 200),
        (None, 404),
    ]


# --- Admin ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def operator(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    with django_db_blocker.unblock():
        user = User.objects.create_superuser(OPERATOR, PASSWORD)
    yield user
    with django_db_blocker.unblock():
        user.delete()


def signed_in(server: Server, operator: User, **others: str) -> requests.Session:
    """A browser at admin; `others` are cookies that the rest of the host has set at its root."""
    browser = requests.Session()
    for name, value in others.items():
        browser.cookies.set(name, value, domain="127.0.0.1", path="/")
    login = f"http://127.0.0.1:{server.port}/todo/admin/login/"
    form = {"username": operator.email, "password": PASSWORD, "next": "/todo/admin/"}
    page = browser.get(login, timeout=PATIENCE_S).text
    [form["csrfmiddlewaretoken"]] = re.findall(r'csrfmiddlewaretoken" value="(\w+)"', page)
    response = browser.post(login, form, timeout=PATIENCE_S)
    assert (response.status_code, urlsplit(response.url).path) == (200, "/todo/admin/")
    return browser


def test_admins_cookies_go_to_admin_alone(below: Server, operator: User) -> None:
    """What else the host has may be made with Django, too: its cookies are not admin's."""
    others = {"sessionid": "a" * 32, "csrftoken": "b" * 32, "messages": "c"}

    browser = signed_in(below, operator, **others)

    paths = {cookie.name: cookie.path for cookie in browser.cookies}
    assert paths == {
        **dict.fromkeys(others, "/"),
        **dict.fromkeys(("todo_session", "todo_csrf"), "/todo/admin/"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "/todo/admin/",
        "/todo/admin/tasks/task/",
        "/todo/admin/accounts/user/",
        "/todo/admin/accounts/user/{user}/change/",
        "/todo/admin/accounts/user/{user}/password/",
        "/todo/admin/accounts/user/{user}/delete/",
        "/todo/admin/password_change/",
        "/todo/admin/nope/",
    ],
)
def test_admins_pages_name_what_is_below(path: str, below: Server, operator: User) -> None:
    browser = signed_in(below, operator)
    page = browser.get(
        f"http://127.0.0.1:{below.port}{path.format(user=operator.pk)}", timeout=PATIENCE_S
    )

    addresses = addresses_in(page.text)

    assert page.status_code == (404 if "nope" in path else 200)
    assert [address for address in addresses if not is_below(address)] == []


def test_admins_notices_stay_with_admin(below: Server, operator: User) -> None:
    browser = signed_in(below, operator)
    users = f"http://127.0.0.1:{below.port}/todo/admin/accounts/user/"
    page = browser.get(users, timeout=PATIENCE_S).text
    [token] = set(re.findall(r'csrfmiddlewaretoken" value="(\w+)"', page))
    form = {"csrfmiddlewaretoken": token, "action": "deactivate", "_selected_action": operator.pk}

    told = browser.post(users, form, timeout=PATIENCE_S, allow_redirects=False)

    assert told.headers["Location"].startswith("/todo/admin/accounts/user/")
    [cookie] = [cookie for cookie in browser.cookies if cookie.name == "messages"]
    assert cookie.path == "/todo/admin/"
    assert 'class="messagelist"' in browser.get(users, timeout=PATIENCE_S).text
    assert "messages" not in browser.cookies


# --- The development server -------------------------------------------------------------------


def test_development_server_stands_below_as_well(
    database: str, tmp_path: Path, headers: dict[str, str]
) -> None:
    server = DevelopmentServer(tmp_path, database, PATH_PREFIX=PREFIX)
    try:
        created = ask(server, "POST", "/todo/api/me/tasks", headers, {"title": "x"})
        there = ask(server, "GET", created.headers["Location"], headers)
        outside = [ask(server, "GET", path, headers) for path in ("/", "/api/me/tasks", "/admin/")]
        told = server.log.read_text()
    finally:
        server.end()

    assert there.json["data"]["id"] == created.json["data"]["id"]
    assert [answer.json["error"]["code"] for answer in outside] == ["NOT_FOUND"] * 3
    assert "POST /todo/api/me/tasks 201" in told
    assert "GET /api/me/tasks 404" in told
