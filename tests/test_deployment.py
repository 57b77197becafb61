"""The image and compose.yaml: whether they fit the service, and each other.

The files are read; no engine is needed. tests/test_container.py runs what the image would run. What
an engine alone can show, CI does (.github/workflows/ci.yml).
"""

import json
import os
import re
import subprocess
import sys

import pytest
from django.conf import settings

from tests.image import (
    REQUIRED,
    compose,
    copied,
    environment_of,
    filled_in,
    instructions,
    is_ignored,
    last,
)
from tests.processes import PROJECT
from tests.test_settings import PRODUCTION, load
from todo_project.background import STOP_SECONDS as MAIL_STOP_SECONDS
from todo_project.management.commands.serve import DRAIN_SECONDS_DEFAULT
from todo_project.postgresql.base import STATEMENTS_MAX
from todo_project.server.supervisor import STOP_TIMEOUT_SECONDS

# Of Python and of the image, none of the service's.
OTHER_VARIABLES = {"PATH", "PYTHONDONTWRITEBYTECODE"}


# --- Dockerfile -------------------------------------------------------------------------------


def test_image_is_given_what_it_copies() -> None:
    """It is there, and gets past .dockerignore; and nothing else does."""
    sources = [source for source, _ in copied()]
    allowed = re.findall(r"^!(\S+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)

    assert [source for source in sources if not (PROJECT / source).exists()] == []
    assert [source for source in sources if is_ignored(source)] == []
    assert sorted(allowed) == sorted([*sources, "requirements.txt"])


@pytest.mark.parametrize(
    "path",
    [
        *(".env", "production.env", ".git/config", ".postgres", "tests/conftest.py"),
        *("compose.yaml", "docs/operations.md", "docker/walk.sh"),
        *("accounts/__pycache__/models.cpython-313.pyc", "tasks/x.pyc"),
    ],
)
def test_image_is_not_given(path: str) -> None:
    assert is_ignored(path)


def test_image_has_each_package_of_the_service() -> None:
    sources = {source for source, _ in copied()}
    own = {app.split(".")[0] for app in settings.INSTALLED_APPS if (PROJECT / app).is_dir()}

    assert own - {"tests"} < sources | {"tests"}
    assert {"manage.py", "todo_project", "accounts", "tasks"} < sources


def test_image_runs_as_a_number_without_a_shell() -> None:
    """SIGTERM reaches the server itself; Kubernetes can see that it isn't root."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER"))
    assert json.loads(last("ENTRYPOINT")) == ["python", "manage.py"]
    assert json.loads(last("CMD")) == ["serve"]
    assert not [name for name, _ in instructions() if name == "SHELL"]


def test_base_images_are_pinned_and_the_same() -> None:
    """The virtual environment of the first stage is made for the Python of the last."""
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]

    assert set(bases) == {"python:3.13-slim"}


def test_image_listens_where_it_says() -> None:
    assert int(last("EXPOSE")) == load(PRODUCTION).PORT
    assert "docker/health.py" in last("HEALTHCHECK")


# --- compose.yaml -----------------------------------------------------------------------------


@pytest.fixture
def known_settings() -> set[str]:
    """The names of the variables that the settings read: test_docs.py compares the two."""
    text = (PROJECT / ".env.example").read_text()
    return set(re.findall(r"^#? ?([A-Z_]+)=", text, re.MULTILINE))


def test_every_setting_can_be_set(known_settings: set[str]) -> None:
    """A setting that compose.yaml doesn't name would never reach the service."""
    service, migrate = (
        set(compose()["services"][n]["environment"]) for n in ("service", "migrate")
    )

    assert service == known_settings - {"DEBUG", "DIRECT_DATABASE_URL"}
    assert migrate == service | {"DIRECT_DATABASE_URL"}


def test_image_sets_what_is_known(known_settings: set[str]) -> None:
    names = set(re.findall(r"(\w+)=", last("ENV")))

    assert names <= known_settings | OTHER_VARIABLES


@pytest.mark.parametrize("missing", REQUIRED)
def test_nothing_starts_without(missing: str) -> None:
    """No default stands in for a secret, or for the hosts."""
    variables = {name: value for name, value in REQUIRED.items() if name != missing}
    everything = json.dumps(compose())

    assert filled_in(everything) != everything
    with pytest.raises(KeyError, match=missing):
        filled_in(everything, variables)


def test_secrets_go_where_they_are_needed() -> None:
    """The service never has the owner's password, nor the database's side its keys."""

    def who_has(name: str) -> set[str]:
        services = compose()["services"].items()
        return {service for service, made in services if f"${{{name}:" in json.dumps(made)}

    assert who_has("DATABASE_OWNER_PASSWORD") == {"migrate", "database"}
    assert who_has("DATABASE_APP_PASSWORD") == {"service", "migrate", "database-pooler", "database"}
    assert who_has("SECRET_KEY") == who_has("JWT_SIGNING_KEY") == {"service", "migrate"}


@pytest.mark.parametrize("name", ["service", "migrate", "database-pooler", "database"])
def test_container_may_do_little(name: str) -> None:
    made = compose()["services"][name]

    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert ("cap_add" in made) is (name == "database")
    assert "privileged" not in made
    assert not re.search(r":latest|^\w+$", made["image"]) or made.get("build")


def test_the_service_alone_is_published_and_to_this_machine() -> None:
    ports = {name: made.get("ports") for name, made in compose()["services"].items()}

    assert {name for name, published in ports.items() if published} == {"service"}
    (published,) = map(filled_in, ports["service"])
    assert published == f"127.0.0.1:8000:{last('EXPOSE')}"
    assert compose()["services"]["service"]["environment"]["PORT"] == last("EXPOSE")


def test_service_waits_for_what_it_needs() -> None:
    needs = {name: made.get("depends_on", {}) for name, made in compose()["services"].items()}

    assert needs["service"]["migrate"] == {"condition": "service_completed_successfully"}
    assert needs["service"]["database-pooler"] == {"condition": "service_healthy"}
    assert needs["migrate"]["database-pooler"] == {"condition": "service_healthy"}
    assert needs["database-pooler"]["database"] == {"condition": "service_healthy"}
    assert compose()["services"]["migrate"]["restart"] == "no"


def test_stop_leaves_time_for_the_drain() -> None:
    """And for requests in flight, and the mails that wait."""
    period = int(compose()["services"]["service"]["stop_grace_period"].removesuffix("s"))

    assert period >= DRAIN_SECONDS_DEFAULT + STOP_TIMEOUT_SECONDS + MAIL_STOP_SECONDS
    assert compose()["services"]["service"]["init"] is True


def test_pooler_is_one_that_the_service_knows() -> None:
    """In transaction mode, with prepared statements; and migrate goes around it."""
    pooler = environment_of(compose()["services"]["database-pooler"])
    migrate = environment_of(compose()["services"]["migrate"])
    database = environment_of(compose()["services"]["database"])

    assert pooler["POOL_MODE"] == "transaction"
    assert int(pooler["MAX_PREPARED_STATEMENTS"]) >= STATEMENTS_MAX
    assert migrate["DATABASE_URL"].endswith("@database-pooler/todo")
    assert migrate["DIRECT_DATABASE_URL"].endswith("@database/todo")
    assert (pooler["DB_USER"], pooler["DB_NAME"]) == ("app", database["POSTGRES_DB"])
    assert pooler["DB_PASSWORD"] == database["APP_PASSWORD"]


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        # migrate has a direct URL, which the service needs not.
        pytest.param("service", {"todo.W001"}, id="service"),
        pytest.param("migrate", set(), id="migrate"),
    ],
)
def test_settings_take_what_compose_gives(name: str, warnings: set[str]) -> None:
    """Warned of is, besides: no TLS between containers, and no mail while nobody named a server."""
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **environment_of(compose()["services"][name])},
        capture_output=True,
        text=True,
    )

    assert checked.returncode == 0, checked.stderr
    expected = {"todo.W002", "todo.W006", "todo.W013", *warnings}
    assert set(re.findall(r"\((\w+\.W\d+)\)", checked.stderr)) == expected
