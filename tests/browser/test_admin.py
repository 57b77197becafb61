"""Django admin as operators see it: on narrow screens and in the dark, by itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect
from pytest_django import DjangoDbBlocker

from accounts.models import Session, User
from tasks.models import Task
from tests.browser.conftest import VIEWPORT, Service
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

OPERATOR = "olga-in-a-browser@example.com"
# A narrow phone's.
NARROW = {"width": 390, "height": 800}
USER_AGENT = "Mozilla/5.0 (X11; Linux) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
PAGES = {
    "first page": "",
    "users": "accounts/user/",
    "sessions": "accounts/session/",
    "tasks": "tasks/task/?created=today",
    "lists": "tasks/tasklist/",
    "audit": "admin/logentry/",
}


@pytest.fixture(scope="module")
def operator(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    """Olga, committed, with tasks of her own and sessions to end, as long as they get."""
    with django_db_blocker.unblock():
        olga = User.objects.create_superuser(OPERATOR, PASSWORD, name="Olga " + "x" * 100)
        Task.objects.bulk_create(Task(user=olga, title="x" * 255) for _ in range(3))
        Session.objects.bulk_create(
            Session(
                user=olga,
                expires_at=datetime.now(UTC) + timedelta(days=1),
                user_agent=USER_AGENT,
                address="2001:db8:1234:5678:9abc:def0:1234:5678",
            )
            for _ in range(3)
        )
    yield olga
    with django_db_blocker.unblock():
        olga.delete()


@pytest.fixture
def signed_in(page: Page, service: Service, operator: User) -> Page:
    page.goto(f"{service.url}/admin/login/")
    page.get_by_label("Email").fill(OPERATOR)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    return page


@pytest.mark.parametrize("viewport", [VIEWPORT, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_every_screen(
    scheme: str, viewport: dict[str, int], signed_in: Page, service: Service
) -> None:
    """No page is wider than the screen, and whatever stands there can be told from its ground."""
    signed_in.set_viewport_size(viewport)  # type: ignore[arg-type]
    signed_in.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]

    for name, path in PAGES.items():
        signed_in.goto(f"{service.url}/admin/{path}")

        assert signed_in.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name
        ground = signed_in.evaluate("getComputedStyle(document.body).backgroundColor")
        text = signed_in.evaluate("getComputedStyle(document.querySelector('#content h1')).color")
        assert is_light(ground) == (scheme == "light"), name
        assert is_light(text) != is_light(ground), name


def is_light(colour: str) -> bool:
    """Of `rgb(18, 18, 18)`."""
    channels = [int(text) for text in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    return sum(channels) > 3 * 127


def test_first_page_plots_the_last_days(signed_in: Page, service: Service) -> None:
    """A bar has a size, and leads to what was created on its day."""
    plot = signed_in.locator("figure").filter(has_text="Tasks created")
    bar = plot.locator("a").last
    box = bar.locator(".bar").bounding_box()
    assert box is not None
    assert box["height"] > 10

    bar.click()

    expect(signed_in).to_have_url(f"{service.url}/admin/tasks/task/?created={today()}")
    expect(signed_in.locator("#result_list tbody tr")).to_have_count(3)


def test_day_is_chosen_beside_other_filters(signed_in: Page, service: Service) -> None:
    signed_in.goto(f"{service.url}/admin/tasks/task/?state=open&q={OPERATOR}")
    form = signed_in.locator("form.day-filter").first
    form.locator("input[type=date]").fill(today())

    form.get_by_role("button", name="Show").click()

    expect(signed_in.locator("#result_list tbody tr")).to_have_count(3)
    expect(signed_in.locator(".selected").filter(has_text=today())).to_be_visible()
    assert {"state=open", f"created={today()}"} <= set(signed_in.url.partition("?")[2].split("&"))
    expect(signed_in.locator("#searchbar")).to_have_value(OPERATOR)


def test_session_is_ended_by_its_button(signed_in: Page, service: Service) -> None:
    signed_in.goto(f"{service.url}/admin/accounts/session/?q={OPERATOR}&state=active")
    signed_in.locator("#result_list tbody th a").first.click()

    signed_in.get_by_role("button", name="End session").click()

    expect(signed_in.locator(".messagelist")).to_contain_text("Ended 1 session.")
    expect(signed_in.get_by_role("button", name="End session")).to_have_count(0)


def today() -> str:
    return datetime.now(UTC).date().isoformat()
