"""The documents: what they show happens, what they name is there, and what there is they name.

`test_documents.py` has the pages that the service serves of itself.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
from django.core.management import get_commands

from tests.blocks import Promises, Step, blocks_of, is_quoted_from, steps_of, words_of
from tests.processes import PATIENCE_S, PROJECT
from tests.serve.conftest import LIMITS_OFF, database, running  # noqa: F401  # a fixture
from tests.test_isolation import ROUTES
from tests.test_settings import PRODUCTION, load
from todo_project import VERSION
from todo_project.api.errors import CODES, FIELD_CODES
from todo_project.environment import Environment

OWN_APPS = {"accounts", "tasks", "todo_project"}


def read(document: str) -> str:
    return (PROJECT / document).read_text(encoding="utf-8")


def section(document: str, title: str) -> str:
    """From the heading to the next one of its level."""
    _, heading, rest = read(document).partition(f"\n## {title}\n")
    assert heading, f"{document} has no section {title!r}"
    return rest.partition("\n## ")[0]


@cache
def project_files() -> list[Path]:
    folders = ["accounts", "benchmarks", "docker", "docs", "examples", "tasks", "tests"]
    folders += ["todo_project", ".ci", ".github"]
    found = [path for folder in folders for path in (PROJECT / folder).rglob("*")]
    found = [path for path in [*PROJECT.iterdir(), *found] if path.is_file()]
    return [path.relative_to(PROJECT) for path in found if "node_modules" not in path.parts]


DOCUMENTS = sorted(str(path) for path in project_files() if path.suffix == ".md")


# --- What documents show ----------------------------------------------------------------------


ADDRESS = "http://127.0.0.1:8000"  # where documents say that the server is
# Each shell block of these documents is run, in its order, but for those that are named here by
# their first line; what a program asks for, such as a password, is read from the input.
LEFT_OUT = {
    "README.md": {
        "git clone <this repository> todo && cd todo": "what is run here is there already",
        "AUTH_ISSUER=https://ep-xx.aws.neon.tech": "settings; they are started with, see below",
        "python3 -m venv .venv && . .venv/bin/activate   # once": "makes what this runs in",
    },
    "docs/clients.md": {},
}
INPUT = {"README.md": "blue bicycle at noon\n", "docs/clients.md": ""}
END_OF_STEP = "\x1e"


@pytest.mark.parametrize("document", LEFT_OUT)
@pytest.mark.django_db(transaction=True)
def test_shell_blocks_print_what_they_promise(
    document: str,
    database: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Against a server with the limits that it has by itself. `tests/blocks.py` has the rule."""
    blocks = [block for block in blocks_of(read(document)) if block.language == "sh"]
    left_out = LEFT_OUT[document]
    steps = [step for b in blocks if b.first_line not in left_out for step in steps_of(b.text)]
    assert left_out.keys() <= {block.first_line for block in blocks}
    assert any(step.promised for step in steps)

    limits = dict.fromkeys(LIMITS_OFF, "")
    with running(tmp_path, database, processes=1, **limits) as server:
        address = f"http://127.0.0.1:{server.port}"
        script = "".join(f"{step.commands}\nprintf '{END_OF_STEP}'\n" for step in steps)
        done = subprocess.run(
            ["bash", "-e", "-c", script.replace(ADDRESS, address)],
            input=INPUT[document],
            cwd=PROJECT,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "TODO_FILE": str(tmp_path / "todo.sqlite3"),
                "no_proxy": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    assert (done.returncode, done.stderr) == (0, ""), done
    promises = Promises()
    for step, printed in zip(steps, done.stdout.split(END_OF_STEP)[:-1], strict=True):
        promises.assert_kept(step, printed.replace(address, ADDRESS))


ID, OTHER_ID = "01a1fc37-8a93-74d0-b381-236a49cd97d2", "01a1fc37-8d71-762a-a37c-e927e6c7baf4"
REAL_ID, REAL_OTHER_ID = ID.replace("0", "1"), OTHER_ID.replace("0", "2")


@pytest.mark.parametrize(
    ("promised", "printed", "is_kept"),
    [
        pytest.param('{"a": "b",\n  "c": 1}', '{"a":"b","c":1}\n', True, id="white space"),
        pytest.param('{"a":1}', '{"a":2}', False, id="another value"),
        pytest.param('{"a":1}', '{"a":1,"b":2}', False, id="more"),
        pytest.param('{"a":1,"b":2}', '{"a":1}', False, id="less"),
        pytest.param('{…,"b":2…} 200', '{"a":1,"b":2,"c":3} 200', True, id="cut"),
        pytest.param('{…,"b":2…} 200', '{"a":1,"b":2,"c":3} 201', False, id="another status"),
        pytest.param(f"{ID} {OTHER_ID}", f"{REAL_ID} {REAL_OTHER_ID}", True, id="ids"),
        pytest.param(f"{ID} … {ID}", f"{REAL_ID} x {REAL_ID}", True, id="an id again"),
        pytest.param(f"{ID} … {ID}", f"{REAL_ID} x {REAL_OTHER_ID}", False, id="another id"),
        pytest.param(f"{ID} {OTHER_ID}", f"{REAL_ID} {REAL_ID}", False, id="one id for two"),
        pytest.param(ID, "7", False, id="no id"),
        pytest.param("2026-11-21T03:47:41.28Z", "2027-01-01T00:00:00.123456Z", True, id="time"),
        pytest.param("2026-11-21T03:47:41.28Z", "null", False, id="no time"),
        pytest.param("2036-01-06", "2036-01-07", False, id="another day"),
        pytest.param('"version":2', '"version":41', True, id="version"),
        pytest.param('"version":2', '"version":null', False, id="no version"),
    ],
)
def test_promises_are_compared_by_the_rule(promised: str, printed: str, is_kept: bool) -> None:
    promises = Promises()

    if is_kept:
        promises.assert_kept(Step("", promised), printed)
        return
    with pytest.raises(AssertionError):
        promises.assert_kept(Step("", promised), printed)


def test_ids_stand_for_the_same_in_later_steps() -> None:
    first, second = steps_of(f"one\n# {ID}\ntwo\n# {ID}\n")
    promises = Promises()

    promises.assert_kept(first, REAL_ID)
    promises.assert_kept(second, REAL_ID)

    with pytest.raises(AssertionError):
        promises.assert_kept(second, REAL_OTHER_ID)


def test_settings_of_the_readme_are_those_of_the_page() -> None:
    """With which `test_identity_providers.py` starts the service."""
    (block,) = (b.text for b in blocks_of(read("README.md")) if b.first_line.startswith("AUTH_"))

    assert is_quoted_from(block, read("docs/identity-providers.md"))


def test_code_of_the_clients_page_is_that_of_the_example() -> None:
    program = read("examples/python/todo.py")
    code = [block for block in blocks_of(read("docs/clients.md")) if block.language != "sh"]

    assert {block.language for block in code} == {"python"}
    assert [block.text for block in code if not is_quoted_from(block.text, program)] == []


@pytest.mark.parametrize(
    ("quote", "is_quoted"),
    [
        pytest.param("b\n  c\n", True, id="lines"),
        pytest.param("a\n# …\nd\n", True, id="with a gap"),
        pytest.param("d\n// …\na\n", False, id="out of order"),
        pytest.param("a\nc\n", False, id="with a gap that isn't shown"),
        pytest.param("a\nx\n", False, id="with a line more"),
    ],
)
def test_quotations_are_whole_lines_in_their_order(quote: str, is_quoted: bool) -> None:
    assert is_quoted_from(quote, "a\n  b\n    c\nd\n") is is_quoted


def test_figures_of_the_readme_are_the_measured_ones() -> None:
    """The processor time of a request beside the peer's: the least and the most of any load."""
    rows = re.findall(
        r"^\| [\d,]+ +\| \w+ +\| +([\d.]+) ", read("benchmarks/RESULTS.md"), re.MULTILINE
    )

    assert len(rows) > 20
    assert f"{min(rows)} to {max(rows)} of the processor time" in read("README.md")


# --- What documents name ----------------------------------------------------------------------


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", read(document))
    dead = []
    for link in links:
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:|/", path):  # of another site, or of the running service
            continue
        target = (PROJECT / document).parent / path if path else PROJECT / document
        text = target.read_text(encoding="utf-8") if anchor and target.is_file() else ""
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        if not target.exists() or (anchor and anchor not in map(_anchor, headings)):
            dead.append(link)

    assert dead == []


# In the documents alone: what of PostgreSQL was weighed and isn't used, what the first run makes,
# and what others have.
NOT_IN_FILES = {
    *("pg_trgm", "jsonb_populate_record", "clock_timestamp()", "pg_snapshot_xmin"),
    "PROMETHEUS_MULTIPROC_DIR",
    *(".postgres/", ".postgres/server.log"),
    *("HTTPS_PROXY", "PIP_INDEX_URL", "authClient.token()"),
}


@cache
def words_of_code() -> set[str]:
    """Whatever is defined stands there: in Python or its SQL, in an example, or as a setting."""
    code = [path for path in project_files() if path.suffix in (".py", ".js")]
    code = [path for path in code if path != Path(__file__).relative_to(PROJECT)]
    texts = [(PROJECT / path).read_text() for path in [*code, Path(".env.example")]]
    return {word for text in texts for word in re.findall(r"\w+", text)}


def names_in(document: str) -> Iterator[str]:
    """Those in backquotes that have the form of a path or of a definition."""
    path = r"[\w.][\w.-]*/[\w./-]*"
    definition = r"[\w.]+\(\)|[\w.]*(?:[A-Za-z]_[A-Za-z]|[a-z][A-Z]|\.py\b)[\w.]*"
    for text in words_of(read(document)):
        if name := re.fullmatch(rf"{path}|{definition}", text):
            yield name[0]


def is_known(name: str) -> bool:
    if "/" in name or name.endswith(".py"):
        return any(f"/{name.strip('/')}/" in f"/{path}/" for path in project_files())
    return set(re.findall(r"\w+", name)) <= words_of_code()


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"),
        *("docs/architecture.md", "docs/clients.md", "docs/threat-model.md"),
        *(document for document in DOCUMENTS if document.startswith("docs/adr/")),
    ],
)
def test_document_names_what_there_is(document: str) -> None:
    """What was renamed or taken away is found here: files, definitions, settings."""
    unknown = {name for name in names_in(document) if not is_known(name)}

    assert unknown - NOT_IN_FILES == set()


# --- What there is, both ways -----------------------------------------------------------------


@cache
def commands() -> dict[str, set[str]]:
    """What can be typed, by its tool."""
    targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
    return {"make": set(targets), "manage.py": set(get_commands())}


def commands_in(document: str) -> set[tuple[str, str]]:
    """Tool and command, of what a document shows as code."""
    text = read(document)
    shell = [block.text for block in blocks_of(text) if block.language == "sh"]
    code = "\n".join([*shell, *words_of(text)])
    return set(re.findall(r"\b(make|manage\.py) ([a-z][\w-]*)", code))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_documents_name_are_there(document: str) -> None:
    unknown = {(t, name) for t, name in commands_in(document) if name not in commands()[t]}

    assert unknown == set()


def test_every_command_is_documented() -> None:
    """Where people look: in the README, or in what it calls the way to run and to change it."""
    where = ("README.md", "docs/operations.md", "CONTRIBUTING.md")
    named = set().union(*(commands_in(document) for document in where))
    own = {name for name, app in get_commands().items() if app in OWN_APPS}
    targets = set(re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)[1].split())  # type: ignore[index]

    assert {("manage.py", name) for name in own} - named == set()
    assert {("make", name) for name in targets - {"help"}} - named == set()
    assert set(
        re.findall(r"^\t@echo 'make ([\w-]+)", read("Makefile"), re.MULTILINE)
    ) == targets - {"help"}


@pytest.fixture
def read_names() -> Iterator[set[str]]:
    """Names of the variables that the settings read meanwhile."""
    names: set[str] = set()
    text = Environment.text

    def recording(self: Environment, name: str, default: str = "") -> str:
        names.add(name)
        return text(self, name, default)

    with patch.object(Environment, "text", recording):
        yield names


@pytest.mark.parametrize(
    ("document", "title", "pattern"),
    [
        (".env.example", None, r"^#? ?([A-Z_]+)="),
        ("docs/operations.md", "Environment variables", r"^\| `([A-Z_]+)` \|"),
        ("docs/contract.md", "8. Configuration", r"`([A-Z][A-Z_]+)`"),
    ],
)
def test_every_setting_is_documented(
    document: str, title: str | None, pattern: str, read_names: set[str]
) -> None:
    load(PRODUCTION)

    text = section(document, title) if title else read(document)
    assert set(re.findall(pattern, text, re.MULTILINE)) == read_names


METHOD_OR_PATH = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)\b|`(/[^`]*)`")


def routes_in(text: str) -> set[tuple[str, str]]:
    """Of the tables' first cells, in which methods stand before their path, or before several."""
    routes = set()
    for cell in re.findall(r"^\|([^|]+)\|", text, re.MULTILINE):
        methods: list[str] = []
        has_path = False
        for method, path in METHOD_OR_PATH.findall(cell):
            if path:
                routes |= {(each, _shape(path)) for each in methods}
            else:
                methods = [method] if has_path else [*methods, method]
            has_path = bool(path)
    return routes


def _shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


@pytest.mark.parametrize(
    ("document", "title"), [("README.md", "Routes"), ("docs/contract.md", "2. Routes")]
)
def test_every_route_is_documented(document: str, title: str) -> None:
    """With its methods. The second spelling of tasks' routes is told in a sentence."""
    there = {
        (method, _shape(route.path))
        for route in ROUTES.values()
        for method in route.methods
        if method != "HEAD" and not route.path.startswith("/users/")
    }
    lead_elsewhere = {("GET", "/"), ("GET", "/admin")}

    assert routes_in(section(document, title)) - lead_elsewhere == there - lead_elsewhere
    assert "`/users/{user_id}/tasks`" in section(document, title)


def test_every_error_code_is_in_the_contract() -> None:
    """[B2] With its status."""
    codes = {
        code: status
        for statuses, cell in re.findall(
            r"^\| ([\d, ]+) \| ([^|]+) \|", section("docs/contract.md", "4. Errors"), re.MULTILINE
        )
        for status, code in zip(
            _as_many(statuses.split(", "), cell), re.findall(r"`([A-Z_]+)`", cell), strict=True
        )
    }

    assert codes == {code: str(kind.status_code) for code, kind in CODES.items()}


def _as_many(statuses: list[str], cell: str) -> list[str]:
    """One status for each code of a cell."""
    return statuses * (cell.count("`") // 2) if len(statuses) == 1 else statuses


def test_every_error_code_has_advice() -> None:
    """What a client does about it."""
    table = re.findall(r"^\| (`.+?) \|", section("docs/clients.md", "Errors"), re.MULTILINE)
    codes = [code for cell in table for code in re.findall(r"`([A-Z_]+)`", cell)]

    assert sorted(codes) == sorted(CODES)


def test_every_code_of_a_field_is_in_the_contract() -> None:
    """[B2] With its meaning."""
    _, _, text = section("docs/contract.md", "4. Errors").partition("Codes of fields")

    assert dict(re.findall(r"`(\w+)` \(([^)]+)\)", text)) == FIELD_CODES


def test_changelog_begins_with_this_version() -> None:
    released = re.findall(r"^## (\d\S+) \(\d{4}-\d\d-\d\d\)$", read("CHANGELOG.md"), re.MULTILINE)

    assert released[0] == VERSION
