"""The documentation in a browser: all of it, by itself, and what can be pressed there works."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Service
from tests.openapi import read_document

pytestmark = [pytest.mark.browser, pytest.mark.django_db]


def operations() -> list[str]:
    """The ids of all, in the order in which pages show them: by tag, then as in the document."""
    document = read_document()
    tags = [tag["name"] for tag in document["tags"]]
    found = [each for path in document["paths"].values() for each in path.values()]
    found.sort(key=lambda each: tags.index(each["tags"][0]))
    return [each["operationId"] for each in found]


def operation(page: Page, operation_id: str) -> Locator:
    """An operation in Swagger UI."""
    return page.locator(f".opblock[id$='-{operation_id}']")


def open_to_try(page: Page, operation_id: str) -> Locator:
    block = operation(page, operation_id)
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    return block


def authorize(page: Page, token: str) -> None:
    """By the keyboard, as soon as the dialog is there."""
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".modal-ux")
    expect(dialog.get_by_label("auth-bearer-value").first).to_be_focused()
    page.keyboard.insert_text(token)
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Close").first.click()


def test_swagger_ui_shows_every_operation(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/api/docs")
    expect(page.locator(".opblock")).to_have_count(len(operations()))

    shown = [block.get_attribute("id") for block in page.locator(".opblock").all()]

    assert [re.sub(r"^operations-[a-z]+-", "", str(name)) for name in shown] == operations()


def test_task_is_created_and_listed_by_hand(page: Page, service: Service, access: str) -> None:
    page.goto(f"{service.url}/api/docs")
    authorize(page, access)

    create = open_to_try(page, "tasks_create")
    create.get_by_role("button", name="Execute").click()
    expect(create.locator(".live-responses-table .response-col_status").nth(1)).to_have_text("201")
    listing = open_to_try(page, "tasks_list")
    listing.get_by_role("button", name="Execute").click()
    expect(listing.locator(".live-responses-table .response-col_status").nth(1)).to_have_text("200")

    asked = listing.locator(".request-url")
    expect(asked).to_contain_text(f"{service.url}/api/me/tasks")
    expect(listing.locator(".live-responses-table")).to_contain_text('"title": "Buy milk"')


def test_redoc_shows_every_operation(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/api/redoc")
    sections = page.locator("[data-section-id*='/operation/']")
    expect(sections).to_have_count(len(operations()))

    shown = [str(section.get_attribute("data-section-id")) for section in sections.all()]

    assert [name.rpartition("/")[2] for name in shown] == operations()
