"""Clients by openapi-generator: no error, every error of the API typed, and the Python one works.

Kotlin's and Swift's are generated and looked at; their compilers are not here.
"""

import re
import sys
from pathlib import Path
from shutil import copy

import pytest

from tests.clients.conftest import MadeOnce, Walk, run
from tests.openapi import DOCUMENT, read_document
from tests.processes import PROJECT

WALK = PROJECT / "tests" / "clients" / "openapi_generator" / "walk.py"
# What it says of any document of OpenAPI 3.1, of `additionalProperties: false`, of `true`, and of
# a parameter for which it looks for the name of a model, and makes none.
ITS_OWN = (
    "OpenAPI 3.1 support is still in beta",
    "Failed to get the schema name: null",
    "Codegen property is null (e.g. map/dict of undefined type)",
    "TimeZone (reserved word) cannot be used as model name",
)
# Kotlin's other library of JSON has no unions: changes, trash and batch couldn't be read.
OPTIONS = {"kotlin": "serializationLibrary=gson,generateOneOfAnyOfWrappers=true"}
# How each writes that an error's envelope has an error, that this has a code, and so on.
TYPED = {
    "python": (
        "openapi_client/models",
        {
            "error_envelope.py": "error: ApiError",
            "api_error.py": "code: ErrorCode",
            "error_code.py": "RATE_LIMITED = 'RATE_LIMITED'",
            "error_details.py": "current: Optional[ErrorDetailsCurrent]",
            "meta.py": "request_id: StrictStr",
        },
    ),
    "typescript-fetch": (
        "models",
        {
            "ErrorEnvelope.ts": "error: ApiError;",
            "ApiError.ts": "code: ErrorCode;",
            "ErrorCode.ts": "RateLimited: 'RATE_LIMITED'",
            "ErrorDetails.ts": "current?: ErrorDetailsCurrent | null;",
            "Meta.ts": "requestId: string;",
        },
    ),
    "kotlin": (
        "src/main/kotlin/org/openapitools/client/models",
        {
            "ErrorEnvelope.kt": "val error: ApiError",
            "ApiError.kt": "val code: ErrorCode",
            "ErrorCode.kt": 'RATE_LIMITED("RATE_LIMITED")',
            "ErrorDetails.kt": "val current: ErrorDetailsCurrent?",
            "Meta.kt": "val requestId: kotlin.String",
        },
    ),
    "swift6": (
        "Sources/OpenAPIClient/Models",
        {
            "ErrorEnvelope.swift": "var error: ApiError",
            "ApiError.swift": "var code: ErrorCode",
            "ErrorCode.swift": 'rateLimited = "RATE_LIMITED"',
            "ErrorDetails.swift": "var current: ErrorDetailsCurrent?",
            "Meta.swift": "var requestId: String",
        },
    ),
}


@pytest.fixture
def generated(made_once: MadeOnce, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A generator, and the folder of what it made; `log` is what it said."""
    generator = request.param

    def make(folder: Path) -> None:
        program = Path(sys.executable).with_name("openapi-generator-cli")
        command = [program, "generate", "-g", generator, "-i", DOCUMENT, "-o", folder]
        options = [f"--additional-properties={OPTIONS[generator]}"] if generator in OPTIONS else []
        done = run([*command, *options], folder)
        assert done.returncode == 0, done.stderr
        (folder / "log").write_text(done.stdout + done.stderr)

    return generator, made_once(f"openapi_generator_{generator}", make)


every_generator = pytest.mark.parametrize("generated", TYPED, indirect=True)


@every_generator
def test_generator_complains_of_nothing(generated: tuple[str, Path]) -> None:
    _, folder = generated
    complaints = re.findall(r"^.*\b(?:WARN|ERROR)\b.*$", (folder / "log").read_text(), re.MULTILINE)

    assert [line for line in complaints if not any(known in line for known in ITS_OWN)] == []


@every_generator
def test_errors_are_typed(generated: tuple[str, Path]) -> None:
    generator, folder = generated
    models, lines = TYPED[generator]

    found = {name: (folder / models / name).read_text() for name in lines}

    assert [name for name, line in lines.items() if line not in found[name]] == []


@pytest.mark.parametrize("generated", ["python"], indirect=True)
def test_every_error_of_an_operation_is_the_envelope(generated: tuple[str, Path]) -> None:
    """As an exception's `data`."""
    _, folder = generated
    sources = [path.read_text() for path in (folder / "openapi_client" / "api").glob("*_api.py")]
    types = re.findall(r"^ +'([45]\d\d)': (.*),$", "".join(sources), re.MULTILINE)

    assert {kind for _, kind in types} == {'"ErrorEnvelope"'}
    documented = read_document()["components"]["responses"]
    assert len({status for status, _ in types}) == len(documented) - 2  # of 304, and of the rest


@pytest.mark.parametrize("generated", ["python"], indirect=True)
@pytest.mark.django_db(transaction=True)
def test_walk(generated: tuple[str, Path], walk: Walk) -> None:
    _, folder = generated
    copy(WALK, folder)

    walk([sys.executable, "walk.py"], folder)
