"""Tests that need a browser find it, or say by name what is missing."""

from pathlib import Path

import pytest

from tests import chromium


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REQUIRE_BROWSER", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", chromium.NAMES)
def test_browser_is_found_by_name(name: str, programs: Path) -> None:
    (programs / name).touch(mode=0o755)

    chromium.prepare("test_of_something")

    assert chromium.find() == str(programs / name)


def test_missing_browser_is_told_by_name(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = r"^test_of_something: there is no chromium, .+ here; apt-get install chromium$"

    with pytest.raises(pytest.skip.Exception, match=fault):
        chromium.prepare("test_of_something")
    monkeypatch.setenv("REQUIRE_BROWSER", "true")
    with pytest.raises(pytest.fail.Exception, match=fault):
        chromium.prepare("test_of_something")
