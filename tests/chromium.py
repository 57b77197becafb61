"""Chromium for the tests that need it: the system's, so that nothing is downloaded.

A test marked `browser` needs it. Without it the test is skipped by name, or fails where
REQUIRE_BROWSER=true asks for it, as CI does.
"""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_INSTALL = "apt-get install chromium"
# It asks nobody for news, so that what it sends is what the page asks for.
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def prepare(test: str) -> None:
    """Skips or fails `test` where there is no browser."""
    if find() is not None:
        return
    fault = f"{test}: there is no {', '.join(NAMES)} here; {HOW_TO_INSTALL}"
    if os.environ.get("REQUIRE_BROWSER") == "true":
        pytest.fail(fault, pytrace=False)
    pytest.skip(fault)
