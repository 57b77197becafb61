"""The pages about the service: served whole, and without asking any other host."""

import json
import re
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.test import Client

from tests.client import ApiClient, assert_error
from tests.openapi import read_document

YAML = "application/vnd.oai.openapi; charset=utf-8"
JSON = "application/vnd.oai.openapi+json"


@pytest.mark.usefixtures("service_alone")
@pytest.mark.parametrize("path", ["/api/schema", "/api/schema/"])
@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "*/*", YAML),
        ("", "application/yaml", "application/yaml; charset=utf-8"),
        ("", "application/json", "application/json"),
        ("", "application/vnd.oai.openapi+json", JSON),
        ("?format=json", "*/*", JSON),
        ("?format=yaml", "*/*", YAML),
        ("?format=json", "text/html, application/yaml", JSON),
    ],
)
def test_schema_is_served_as_asked(query: str, accept: str, content_type: str, path: str) -> None:
    """Without the database: pytest-django would refuse it."""
    response = Client().get(path + query, headers={"accept": accept})

    assert response.status_code == 200
    assert response["Content-Type"] == content_type
    load = json.loads if content_type.endswith("json") else yaml.safe_load
    assert load(response.content) == read_document()


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("?format=xml", "format", "invalid_choice"),
        ("?format=", "format", "empty"),
        ("?format=json&format=yaml", "format", "repeated"),
        ("?fromat=json", "fromat", "unknown"),
        ("?version=2", "version", "unknown"),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_schema_ignores_no_parameter(
    query: str, field: str, code: str, accept: str, client: ApiClient
) -> None:
    """[B4]"""
    response = client.get(f"/api/schema{query}", accept=accept)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert {name: [fault["code"] for fault in faults] for name, faults in details.items()} == {
        field: [code]
    }


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs", "/api/redoc", "/api/contract"])
@pytest.mark.parametrize("slash", ["", "/"], ids=["no slash", "slash"])
def test_head_of_a_page_answers_as_get(path: str, slash: str) -> None:
    response = Client().head(path + slash)

    assert response.status_code == 200
    assert response.content == b""
    assert response["Content-Type"] == Client().get(path + slash)["Content-Type"]


def test_document_leads_to_the_contract() -> None:
    (link,) = re.findall(r"\[contract\]\((.*?)\)", read_document()["info"]["description"])

    response = Client().get(link)

    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.content == (Path(settings.BASE_DIR) / "docs" / "contract.md").read_bytes()


def fetch(address: str) -> str:
    response = Client().get(address)
    assert response.status_code == 200, address
    return response.getvalue().decode(errors="replace")


def addresses_in(html: str) -> list[str]:
    return re.findall(r"""(?:(?:src|href|spec-url)=|\burl: )["']([^"']+)["']""", html)


@pytest.mark.parametrize(
    ("path", "kinds"),
    [("/api/docs", {".css", ".ico", ".js", "schema"}), ("/api/redoc", {".ico", ".js", "schema"})],
)
def test_docs_need_no_other_host(path: str, kinds: set[str]) -> None:
    html = fetch(path)
    assert re.findall(r"""["'(=\s](?:https?:)?//[\w.]+""", html) == []

    addresses = addresses_in(html)

    assert {re.search(r"\.?\w+$", address)[0] for address in addresses} == kinds  # type: ignore[index]
    assert all(fetch(address) for address in addresses)


@pytest.mark.parametrize(
    ("path", "images"),
    [("/api/docs", []), ("/api/redoc", ["https://cdn.redoc.ly/redoc/logo-mini.svg"])],
)
def test_scripts_of_the_docs_show_no_image_of_another_host(path: str, images: list[str]) -> None:
    """ReDoc would, so its page sees to it that no such address is ever an image's."""
    html = fetch(path)
    scripts = [fetch(address) for address in addresses_in(html) if address.endswith(".js")]

    assert re.findall(r'\bsrc:"(https?://[^"]+)"', "".join(scripts)) == images
    guards = ['defineProperty(image, "src"', "image.setAttribute = "]
    assert all(guard in html.partition("<script src=")[0] for guard in guards) or not images


def test_swagger_ui_asks_no_validator_and_shows_no_csrf_token() -> None:
    html = fetch("/api/docs")
    settings_of_page, _, rest = html.partition("const schemaAuthNames")

    assert "validatorUrl: null" in settings_of_page
    assert "requestInterceptor: (request) => request," in settings_of_page
    # Whatever stands before them is overridden.
    assert rest.index("requestInterceptor,") < rest.index("...swaggerSettings")


@pytest.mark.parametrize("path", ["/api/docs", "/api/redoc", "/admin/login/"])
def test_pages_have_an_icon(path: str) -> None:
    """It lies where browsers look for one by themselves, too."""
    [icon] = re.findall(r'<link rel="(?:shortcut )?icon" href="([^"]+)">', fetch(path))

    assert icon == "/favicon.ico"
    response = Client().get(icon)
    assert response["Content-Type"] == "image/x-icon"
    assert response.getvalue().startswith(b"\x00\x00\x01\x00")
