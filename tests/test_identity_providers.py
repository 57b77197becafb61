"""docs/identity-providers.md: what it tells people to set is what the service starts with."""

import re
from io import StringIO

import pytest
from dotenv import dotenv_values

from tests.processes import PROJECT
from tests.test_settings import PRODUCTION, load

PAGE = (PROJECT / "docs" / "identity-providers.md").read_text()
# By the heading above them.
BLOCKS = {
    section.partition("\n")[0]: block[1]
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)
    if (block := re.search(r"^```sh\n(AUTH_.+?)^```", section, re.MULTILINE | re.DOTALL))
}


def test_page_has_ten_providers_and_the_shared_secret() -> None:
    assert len(BLOCKS) == 11


@pytest.mark.parametrize("provider", BLOCKS)
def test_service_starts_with_what_the_page_says(provider: str) -> None:
    """[A1]"""
    variables = {
        name: str(value) for name, value in dotenv_values(stream=StringIO(BLOCKS[provider])).items()
    }

    settings = load({**PRODUCTION, **variables})

    assert variables["AUTH_ISSUER"] == settings.AUTH_ISSUER
    assert settings.AUTH_AUDIENCE or settings.AUTH_REQUIRED_CLAIMS
    for name in variables:
        assert hasattr(settings, name)
