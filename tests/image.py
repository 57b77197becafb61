"""What the Dockerfile, .dockerignore and compose.yaml say, as the tests of deployment read them."""

import re
import string
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.processes import PROJECT

# What somebody has to say before compose.yaml starts anything.
REQUIRED = {
    "SECRET_KEY": string.ascii_letters + string.digits,
    "JWT_SIGNING_KEY": string.digits + string.ascii_letters,
    "ALLOWED_HOSTS": "127.0.0.1",
    "DATABASE_OWNER_PASSWORD": "0123456789abcdef",
    "DATABASE_APP_PASSWORD": "fedcba9876543210",
}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, each on one line."""
    text = re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", "").splitlines() if line.strip()]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def last(name: str) -> str:
    return [rest for found, rest in stages()[-1] if found == name][-1]


def copied() -> list[tuple[str, str]]:
    """What the last stage takes from the checkout, and where to."""
    copies = [rest.split() for name, rest in stages()[-1] if name == "COPY"]
    return [(source, to) for source, to in (c for c in copies if len(c) == 2)]


def is_ignored(path: str) -> bool:
    """By .dockerignore: the last pattern that fits decides, of the path or a folder above it."""
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    above = [path, *(str(folder) for folder in Path(path).parents if str(folder) != ".")]
    ignored = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        names = [name.rpartition("/")[2] for name in above] if bare.startswith("**/") else above
        if any(fnmatch(name, bare.removeprefix("**/")) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    return loaded


def filled_in(value: Any, variables: Mapping[str, str] = REQUIRED) -> str:
    """As compose fills it in. Raises KeyError where what it needs is not set."""

    def fill(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        return variables.get(name, rest) if operator == ":-" else variables[name]

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", fill, str(value))


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What the container gets."""
    return {name: filled_in(value) for name, value in service["environment"].items()}
