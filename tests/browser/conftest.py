"""Pages as people see them: the production server, and a Chromium that is watched.

    page      a tab; at its end the test fails where it asked another host, or its console had
              anything to say
    service   where the pages come from, once at the root of the host and once below a path
    access    a token of somebody who can sign in there

Whatever a test expects to go wrong (a 401, say) it takes off `watch.told`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from django.db import connections
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import chromium
from tests.processes import PATIENCE_S
from tests.serve.conftest import Server, access, database, running  # noqa: F401  # fixtures

# The width of a small laptop.
VIEWPORT = {"width": 1280, "height": 800}


@dataclass
class Service:
    """A server, and the URL that its pages are below."""

    server: Server
    prefix: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}{self.prefix}"


@dataclass
class Watch:
    """What a tab did that its page may not have meant to."""

    asked: list[str] = field(default_factory=list)  # URLs, of the service's own host as well
    told: list[str] = field(default_factory=list)  # by the console

    def see(self, page: Page) -> None:
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", lambda request: self.told.append(f"failed: {request.url}"))
        page.on("console", lambda message: self.told.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.told.append(f"thrown: {error}"))

    def assert_quiet(self, host: str) -> None:
        foreign = [url for url in self.asked if not is_of(host, url)]
        assert (foreign, self.told) == ([], [])


def is_of(host: str, url: str) -> bool:
    """Whether it is the host's, or of no host: what a page made by itself."""
    parts = urlsplit(url.removeprefix("blob:"))
    return parts.scheme in ("about", "data") or parts.netloc == host


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests. What they have to themselves is a context."""
    program = chromium.find()
    assert program is not None, "a test without the marker `browser`"
    with pytest.MonkeyPatch.context() as monkeypatch, sync_playwright() as playwright:
        # Playwright has a loop in this thread, which looks like asynchronous code to Django.
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        expect.set_options(timeout=PATIENCE_S * 1000)
        with playwright.chromium.launch(
            executable_path=program, args=chromium.ARGUMENTS
        ) as launched:
            yield launched
        connections.close_all()  # which Django has made for the loop alone


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def page(browser: Browser, watch: Watch, service: Service) -> Iterator[Page]:
    context = browser.new_context(viewport=VIEWPORT, locale="en-GB")  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    watch.see(page)
    yield page
    context.close()
    watch.assert_quiet(f"127.0.0.1:{service.server.port}")


@pytest.fixture(scope="module", params=["", "/todo"], ids=["root", "below"])
def service(
    request: pytest.FixtureRequest,
    database: str,  # noqa: F811
    access: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """As `make serve` runs it, and below a path."""
    folder = tmp_path_factory.mktemp("browser")
    with running(folder, database, processes=1, PATH_PREFIX=request.param) as server:
        yield Service(server, request.param)
