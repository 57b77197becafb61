"""A service where people sign in at an identity provider alone."""

import json
import re
from collections.abc import Iterator
from importlib import reload
from typing import Any

import pytest
from django.urls import clear_url_caches

import accounts.urls
import todo_project.urls
from accounts.models import Identity, User
from tests.client import ApiClient, Browser, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.issuer import Issuer
from todo_project.api.errors import TokenExpired

GONE = [
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/token"),
    ("POST", "/api/auth/token/refresh"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/password"),
    ("POST", "/api/auth/password/reset"),
    ("POST", "/api/auth/password/reset/confirm"),
    ("POST", "/api/auth/email"),
    ("POST", "/api/auth/email/confirm"),
    ("GET", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions/0198f000-0000-7000-8000-000000000000"),
]


@pytest.fixture
def no_local_accounts(settings: Any, issuer: Issuer, service_alone: None) -> Iterator[None]:
    """As a process that was started with LOCAL_ACCOUNTS=false."""

    def read_routes() -> None:
        reload(accounts.urls)
        reload(todo_project.urls)
        clear_url_caches()

    settings.LOCAL_ACCOUNTS = False
    read_routes()
    yield
    settings.LOCAL_ACCOUNTS = True
    read_routes()


def read_document(client: ApiClient) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(client.get("/api/schema?format=json").content)
    return document


@pytest.mark.parametrize(("method", "path"), GONE, ids=[path for _, path in GONE])
def test_routes_of_local_accounts_are_gone(
    method: str, path: str, no_local_accounts: None, alice_client: ApiClient
) -> None:
    """[A3] With a token and without: 404, as of any other path."""
    for headers in ({}, {"authorization": f"Bearer {alice_client.access}"}):
        # Without the look into the committed document, which has them.
        response: Any = Browser().generic(method, path, headers=headers)
        assert_error(response, 404, "NOT_FOUND")


def test_document_has_no_routes_of_local_accounts(
    no_local_accounts: None, client: ApiClient
) -> None:
    """[A3]"""
    document = read_document(client)
    paths = document["paths"].keys()

    assert not {path for _, path in GONE} & paths
    assert {"/api/auth/me", "/api/auth/identities", "/api/{user_id}/tasks"} <= paths
    tags = [tag["name"] for tag in document["tags"]]
    assert tags == ["tasks", "lists", "labels", "batch", "import", "changes", "trash", "account"]
    assert document["components"]["securitySchemes"].keys() == {"providerToken", "personalToken"}


def test_document_speaks_of_no_local_accounts(no_local_accounts: None, client: ApiClient) -> None:
    """[A3] No text does: of the introduction, a kind of token, a field, an error."""
    text = json.dumps(read_document(client))
    routes = r"/api/auth/(?:register|token|logout|password|email|sessions)(?![\w-])"

    assert re.findall(rf"{routes}|(?i:refresh|register|INVALID_CREDENTIALS)", text) == []


def test_document_has_passwords_only_where_one_from_before_is_asked_for(
    no_local_accounts: None, client: ApiClient
) -> None:
    """[A3]"""
    document = read_document(client)
    schemas = document["components"].pop("schemas")

    asking = [name for name, schema in schemas.items() if "password" in json.dumps(schema)]
    assert asking == ["DeletionRequest", "FieldError", "IdentityLinkRequest"]
    assert "password_" not in json.dumps(schemas["FieldError"])
    info = document["info"]
    info["description"] = info["description"].replace("tries of a password that was set here", "")
    assert "password" not in json.dumps(document)


@pytest.mark.parametrize("is_local", [True, False], ids=["local accounts", "none"])
def test_expired_token_is_told_a_cure_that_there_is(is_local: bool, settings: Any) -> None:
    settings.LOCAL_ACCOUNTS = is_local

    assert ("refresh token" in str(TokenExpired().detail)) is is_local


def test_people_of_the_provider_work(no_local_accounts: None, issuer: Issuer, db: None) -> None:
    """[A3]"""
    client = ApiClient(issuer.token())

    data_of(client.post("/api/me/tasks", {"title": "Mine"}), 201)
    assert client.post("/api/auth/logout-all").status_code == 204


def test_operators_sign_in_to_admin(no_local_accounts: None, olga: User) -> None:
    """[A3]"""
    form = {"username": olga.email, "password": PASSWORD, "next": "/admin/"}

    assert Browser().post("/admin/login/", form)["Location"] == "/admin/"


def test_sessions_from_before_go_on(no_local_accounts: None, alice: User, issuer: Issuer) -> None:
    """Until they would have to be refreshed."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="alice")

    assert data_of(ApiClient(begin_session(alice).access).get("/api/me/tasks")) == []
