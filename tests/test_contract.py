"""Every requirement of the contract has a test that names it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"\[([A-Z][0-9])\]")


def test_every_requirement_is_named_by_a_test() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    promised = set(REQUIREMENT.findall(contract))

    assert len(promised) > 20
    assert promised - set(REQUIREMENT.findall(tests)) == set()
