"""The OpenAPI document: complete, fit for generators, and enforced by the tests' client."""

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.contrib.admindocs.views import simplify_regex
from django.contrib.auth.password_validation import get_default_password_validators
from django.core.management import call_command
from django.http import HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls import path as url
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from jsonschema import Draft202012Validator
from rest_framework.request import Request

from accounts import mail
from accounts.mailed_tokens import make_confirmation_token, make_reset_token
from accounts.models import Identity, User
from tasks.models import Task, TaskList
from tests.client import MISSING, ApiClient, data_of
from tests.conftest import begin_session, personal_token
from tests.issuer import Issuer
from tests.openapi import (
    DOCUMENT,
    field_codes,
    nodes,
    read_document,
    schema_validator,
    validate_response,
)
from tests.processes import PATIENCE_S
from todo_project.api import errors
from todo_project.api.envelope import empty_response
from todo_project.api.serializers import ChoiceField, StrictSerializer, StringField
from todo_project.api.views import StrictInputMixin

# Pages, probes and the service's own description are no operations of the API.
UNDOCUMENTED = {
    *("/", "/livez", "/readyz", "/metrics", "/api/schema", "/api/contract"),
    *("/api/docs", "/api/redoc"),
    "/admin",
}

EVERYWHERE = {"400", "default"}
WITH_CREDENTIALS = EVERYWHERE | {"401"}
OF_CALLER = WITH_CREDENTIALS | {"403"}
OF_TASK = OF_CALLER | {"404"}
LIMITED = {"429"}
KEYED = LIMITED | {"422"}
CONDITIONAL = KEYED | {"412"}
# In the order of use, which pages and generators take over: by tag, then as the document has them.
OPERATIONS = {
    "auth_register": ("POST /api/auth/register", {"201", "202"} | EVERYWHERE | LIMITED),
    "auth_token": ("POST /api/auth/token", {"200"} | WITH_CREDENTIALS | LIMITED),
    "auth_token_refresh": ("POST /api/auth/token/refresh", {"200"} | WITH_CREDENTIALS | LIMITED),
    "auth_logout": ("POST /api/auth/logout", {"204"} | WITH_CREDENTIALS),
    "auth_password_reset": ("POST /api/auth/password/reset", {"202"} | EVERYWHERE | LIMITED),
    "auth_password_reset_confirm": (
        "POST /api/auth/password/reset/confirm",
        {"204"} | EVERYWHERE | LIMITED,
    ),
    "auth_email_confirm": ("POST /api/auth/email/confirm", {"204"} | EVERYWHERE | LIMITED),
    "tasks_create": ("POST /api/{user_id}/tasks", {"201"} | OF_CALLER | KEYED),
    "tasks_list": ("GET /api/{user_id}/tasks", {"200", "304"} | OF_CALLER),
    "tasks_read": ("GET /api/{user_id}/tasks/{task_id}", {"200", "304"} | OF_TASK),
    "tasks_replace": (
        "PUT /api/{user_id}/tasks/{task_id}",
        {"200", "201", "409"} | OF_TASK | CONDITIONAL,
    ),
    "tasks_update": (
        "PATCH /api/{user_id}/tasks/{task_id}",
        {"200", "409"} | OF_TASK | CONDITIONAL,
    ),
    "tasks_delete": ("DELETE /api/{user_id}/tasks/{task_id}", {"204"} | OF_TASK | CONDITIONAL),
    "tasks_complete": (
        "PATCH /api/{user_id}/tasks/{task_id}/complete",
        {"200", "409"} | OF_TASK | CONDITIONAL,
    ),
    "tasks_move": (
        "POST /api/{user_id}/tasks/{task_id}/move",
        {"200", "409"} | OF_TASK | CONDITIONAL,
    ),
    "tasks_restore": (
        "POST /api/{user_id}/tasks/{task_id}/restore",
        {"200"} | OF_TASK | CONDITIONAL,
    ),
    "tasks_skip": (
        "POST /api/{user_id}/tasks/{task_id}/skip",
        {"200", "409"} | OF_TASK | CONDITIONAL,
    ),
    "lists_create": ("POST /api/{user_id}/lists", {"201", "409"} | OF_CALLER | KEYED),
    "lists_list": ("GET /api/{user_id}/lists", {"200", "304"} | OF_CALLER),
    "lists_read": ("GET /api/{user_id}/lists/{list_id}", {"200", "304"} | OF_TASK),
    "lists_replace": (
        "PUT /api/{user_id}/lists/{list_id}",
        {"200", "201", "409"} | OF_TASK | CONDITIONAL,
    ),
    "lists_update": ("PATCH /api/{user_id}/lists/{list_id}", {"200"} | OF_TASK | CONDITIONAL),
    "lists_delete": ("DELETE /api/{user_id}/lists/{list_id}", {"204"} | OF_TASK | CONDITIONAL),
    "lists_restore": (
        "POST /api/{user_id}/lists/{list_id}/restore",
        {"200", "409"} | OF_TASK | CONDITIONAL,
    ),
    "labels_list": ("GET /api/{user_id}/labels", {"200"} | OF_CALLER),
    "labels_rename": ("PATCH /api/{user_id}/labels/{label}", {"200"} | OF_TASK | KEYED),
    "labels_delete": ("DELETE /api/{user_id}/labels/{label}", {"204"} | OF_TASK | KEYED),
    "batch": ("POST /api/{user_id}/batch", {"200", "409"} | OF_CALLER | KEYED),
    "import_file": ("POST /api/{user_id}/import", {"200"} | OF_CALLER | LIMITED),
    "changes_list": ("GET /api/{user_id}/changes", {"200", "304", "410"} | OF_CALLER),
    "trash_list": ("GET /api/{user_id}/trash", {"200"} | OF_CALLER),
    "auth_me_read": ("GET /api/auth/me", {"200"} | OF_CALLER),
    "auth_me_update": ("PATCH /api/auth/me", {"200"} | OF_CALLER | LIMITED),
    "auth_me_delete": ("DELETE /api/auth/me", {"204"} | OF_CALLER | LIMITED),
    "auth_me_export": ("GET /api/auth/me/export", {"200"} | OF_CALLER | LIMITED),
    "auth_me_delete_by_post": ("POST /api/auth/me/delete", {"204"} | OF_CALLER | LIMITED),
    "auth_password_change": ("POST /api/auth/password", {"204"} | OF_CALLER | LIMITED),
    "auth_email_change": ("POST /api/auth/email", {"202"} | OF_CALLER | LIMITED),
    "auth_sessions_list": ("GET /api/auth/sessions", {"200"} | OF_CALLER),
    "auth_sessions_end": (
        "DELETE /api/auth/sessions/{session_id}",
        {"204", "404"} | OF_CALLER,
    ),
    "auth_tokens_create": ("POST /api/auth/tokens", {"201", "409"} | OF_CALLER | LIMITED),
    "auth_tokens_list": ("GET /api/auth/tokens", {"200"} | OF_CALLER),
    "auth_tokens_end": ("DELETE /api/auth/tokens/{token_id}", {"204", "404"} | OF_CALLER),
    "auth_identities_add": ("POST /api/auth/identities", {"201", "409"} | OF_CALLER | LIMITED),
    "auth_identities_list": ("GET /api/auth/identities", {"200"} | OF_CALLER),
    "auth_identities_remove": (
        "DELETE /api/auth/identities/{identity_id}",
        {"204", "404", "409"} | OF_CALLER,
    ),
    "auth_logout_all": ("POST /api/auth/logout-all", {"204"} | OF_CALLER),
}
PUBLIC = {
    "auth_register",
    "auth_token",
    "auth_token_refresh",
    "auth_logout",
    "auth_password_reset",
    "auth_password_reset_confirm",
    "auth_email_confirm",
}
# Those that a personal token may use, and with which scope.
SCOPES = {
    "tasks_create": "tasks:write",
    "tasks_list": "tasks:read",
    "tasks_read": "tasks:read",
    "tasks_replace": "tasks:write",
    "tasks_update": "tasks:write",
    "tasks_delete": "tasks:write",
    "tasks_complete": "tasks:write",
    "tasks_move": "tasks:write",
    "tasks_restore": "tasks:write",
    "tasks_skip": "tasks:write",
    "lists_create": "tasks:write",
    "lists_list": "tasks:read",
    "lists_read": "tasks:read",
    "lists_replace": "tasks:write",
    "lists_update": "tasks:write",
    "lists_delete": "tasks:write",
    "lists_restore": "tasks:write",
    "labels_list": "tasks:read",
    "labels_rename": "tasks:write",
    "labels_delete": "tasks:write",
    "batch": "tasks:write",
    "import_file": "tasks:write",
    "changes_list": "tasks:read",
    "trash_list": "tasks:read",
    "auth_me_read": "account:read",
}


def documented() -> dict[str, tuple[str, dict[str, Any]]]:
    """Each operation of the document, by its id, with its method and path."""
    return {
        operation["operationId"]: (f"{method.upper()} {path}", operation)
        for path, operations in read_document()["paths"].items()
        for method, operation in operations.items()
    }


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every URL pattern's path, as the document spells paths, and its view."""
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        elif isinstance(pattern, URLPattern):
            path = simplify_regex(route).replace("<", "{").replace(">", "}")
            yield path.rstrip("/") or "/", pattern.callback


def methods(view: Any) -> set[str]:
    """Those of a view of REST framework; a plain one may answer any."""
    if hasattr(view, "actions"):
        return {method.upper() for method in view.actions} - {"HEAD"}
    return set(view.cls().allowed_methods) - {"HEAD"} if hasattr(view, "cls") else {"ANY"}


@pytest.mark.usefixtures("service_alone")
def test_document_is_valid_and_up_to_date(tmp_path: Path) -> None:
    generated = tmp_path / "openapi.yaml"

    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(generated))

    assert DOCUMENT.read_text() == generated.read_text(), "regenerate it: make schema"


def test_routes_and_document_match() -> None:
    """[R2] The prefix /users/ has the same routes of tasks, and is kept out of the document."""
    served = {
        f"{method} {path}"
        for path, view in routes(get_resolver("todo_project.urls"))
        if path not in UNDOCUMENTED and not path.startswith("/admin/")
        for method in methods(view)
    }
    paths = {path for path, _ in documented().values()}
    tasks = {path for path in paths if "/{user_id}/tasks" in path}

    assert served == paths | {path.replace("/api/", "/users/") for path in tasks}


def test_operations_are_those_of_the_contract_in_the_order_of_use() -> None:
    tags = [tag["name"] for tag in read_document()["tags"]]
    operations = sorted(documented().items(), key=lambda item: tags.index(item[1][1]["tags"][0]))

    assert [(name, path) for name, (path, _) in operations] == [
        (name, path) for name, (path, _) in OPERATIONS.items()
    ]


def said_of_callers(name: str) -> str:
    if name in SCOPES:
        return f"A personal token needs the scope `{SCOPES[name]}`."
    return "Needs no `Authorization`." if name in PUBLIC else "Not for personal tokens."


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_documented_whole(name: str) -> None:
    _, statuses = OPERATIONS[name]

    _, operation = documented()[name]

    assert set(operation["responses"]) == statuses
    kinds = ["accessToken", "providerToken"] + (["personalToken"] if name in SCOPES else [])
    assert operation["security"] == [{kind: []} for kind in kinds if name not in PUBLIC]
    assert operation["description"].split("\n\n")[-1] == said_of_callers(name)
    area = name.partition("_")[0]
    assert operation["tags"] == [area if area != "auth" or name in PUBLIC else "account"]
    assert operation["summary"]


@pytest.mark.parametrize("name", read_document()["components"]["schemas"])
def test_schema_is_valid(name: str) -> None:
    Draft202012Validator.check_schema(read_document()["components"]["schemas"][name])


def test_references_stand_alone() -> None:
    """openapi-generator makes an empty class of a reference that has anything beside it."""
    crowded = [node for node in nodes(read_document()) if "$ref" in node and len(node) > 1]

    assert crowded == []


def schemas_of_bodies() -> list[str]:
    contents = [
        operation["requestBody"]["content"]["application/json"]
        for _, operation in documented().values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    return sorted({content["schema"]["$ref"].rpartition("/")[2] for content in contents})


@pytest.mark.parametrize("name", schemas_of_bodies())
def test_body_is_closed_to_generators(name: str) -> None:
    """[B4] A typo must not compile: any keyword but `properties` opens the type in TypeScript."""
    schema = read_document()["components"]["schemas"][name]

    assert schema["additionalProperties"] is False
    assert schema.keys() <= {
        *("type", "description", "properties", "required", "additionalProperties")
    }


def test_no_field_is_of_one_direction() -> None:
    """hey-api writes a second type of every schema that has such a field."""
    assert [n for n in nodes(read_document()) if {"readOnly", "writeOnly"} & n.keys()] == []


def test_names_are_fit_for_code() -> None:
    """None shadows what a language has or tells of PATCH, and each choice has one."""
    names = read_document()["components"]["schemas"].keys()
    enums = [node for node in nodes(read_document()) if isinstance(node.get("enum"), list)]
    constants: list[list[str]] = [e.get("x-enum-varnames") or e["enum"] for e in enums]

    assert {"TaskUpdate", "ProfileUpdate", "Completion", "ApiError"} <= names
    assert {"Priority", "RepeatFrom", "Resource", "ResourceType", "Scope"} <= names
    assert [name for name in names if name.startswith("Patched") or name == "Error"] == []
    assert [name for name in itertools.chain(*constants) if not name.isidentifier()] == []
    assert [len(named) for named in constants] == [len(enum["enum"]) for enum in enums]


def test_every_error_code_is_documented() -> None:
    """[B2]"""
    documented = read_document()["components"]["schemas"]["ErrorCode"]["enum"]

    assert sorted(documented) == sorted(errors.CODES)


# Of REST framework's fields, and of none here: strings are no numbers and times have a rule of
# their own, nothing takes files or nests, and the JSON parser refuses halves of surrogate pairs.
UNREACHABLE = {
    *("max_string_length", "date", "datetime", "make_aware", "overflow"),
    *("surrogate_characters_not_allowed",),
}


def raised_codes(source: str) -> Iterator[str]:
    """Those that code gives to the faults of a field, where it names them."""
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if name in ("ErrorDetail", "ValidationError"):
            values += node.args[1:2]
        elif name == "fail":
            values = node.args[:1]
        else:
            continue
        yield from (str(value.value) for value in values if isinstance(value, ast.Constant))


def codes_of_fields() -> Iterator[str]:
    """What the fields of every body and query may complain of, by their messages and validators."""
    views = {getattr(view, "cls", None) for _, view in routes(get_resolver("todo_project.urls"))}
    tables = [
        table
        for view in views
        if isinstance(view, type) and issubclass(view, StrictInputMixin)
        for table in (view.body_serializers, view.query_serializers)
    ]
    for serializer in {serializer for table in tables for serializer in table.values()}:
        for field in serializer().fields.values():
            if not field.read_only:
                yield from field.error_messages
                yield from (getattr(validator, "code", "invalid") for validator in field.validators)


def test_every_field_code_is_documented() -> None:
    """[B2] Forms translate them. The client of the tests looks at each answer, too."""
    project = Path(errors.__file__).parents[3]
    sources = [
        path.read_text()
        for package in ("accounts", "tasks", "todo_project")
        for path in sorted((project / package).rglob("*.py"))
        if not {"admin", "admin.py", "site.py", "migrations", "management"} & set(path.parts)
    ]
    validators: list[Any] = get_default_password_validators()
    sources += [inspect.getsource(type(getattr(v, "_validator", v))) for v in validators]
    raised = {code for source in sources for code in raised_codes(source)}

    codes = raised | set(codes_of_fields()) - UNREACHABLE

    assert {"wrong_password", "rfc3339", "password_too_common", "null"} <= codes  # it finds some
    assert codes - field_codes() == set()


def field_examples() -> Iterator[Any]:
    for name, schema in read_document()["components"]["schemas"].items():
        for field, definition in schema.get("properties", {}).items():
            pointer = f"/components/schemas/{name}/properties/{field}"
            for example in definition.get("examples", []):
                yield pytest.param(pointer, example, id=f"{name}-{field}")


def error_examples() -> Iterator[Any]:
    for name, response in read_document()["components"]["responses"].items():
        pointer = f"/components/responses/{name}/content/application~1json/schema"
        content = response.get("content", {"application/json": {"examples": {}}})
        for code, example in content["application/json"]["examples"].items():
            yield pytest.param(pointer, example["value"], id=code)


@pytest.mark.parametrize(("pointer", "example"), [*field_examples(), *error_examples()])
def test_example_is_valid(pointer: str, example: object) -> None:
    schema_validator(pointer).validate(example)


def strict_serializers(kind: type[StrictSerializer]) -> Iterator[type[StrictSerializer]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from strict_serializers(subclass)


def test_examples_are_of_fields() -> None:
    """Of another name they would be left out without a word."""
    stray = {
        (serializer.__name__, name)
        for serializer in strict_serializers(StrictSerializer)
        for name in serializer.examples.keys() - serializer().fields.keys()
    }

    assert stray == set()


# What somebody chooses where a page asks for a file.
FILE = b'{"format": "todo-export", "format_version": 1}'


def sample(schema: dict[str, Any]) -> Any:
    """What Swagger UI puts into a body."""
    if "$ref" in schema:
        schema = read_document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    return {name: sample(field) for name, field in schema.get("properties", {}).items()} or None


@pytest.mark.usefixtures("service_alone")
@pytest.mark.parametrize("name", OPERATIONS)
def test_prefilled_request_works(
    name: str, client: ApiClient, issuer: Issuer, transactional_db: None
) -> None:
    """As a page shows it, after the first steps; only tokens and ids of one's own are filled in."""
    path, operation = documented()[name]
    credentials = sample({"$ref": "#/components/schemas/CredentialsRequest"})
    own: dict[str, Any] = {}
    if name != "auth_register":
        user = User.objects.create_user(**credentials, pending_email=credentials["email"])
        make_token = make_confirmation_token if "email" in name else make_reset_token
        pair = begin_session(user)
        personal_token(user)
        days = [date(2999, 12, day) for day in (1, 2)]
        recurring = {
            "due_on": days[0],
            "recurrence": "FREQ=DAILY",
            "upcoming": days[1:],
            "upcoming_of": f"FREQ=DAILY from {days[0]}",
        }
        task = Task.objects.create(user_id=user.pk, title="x", labels=["errands"], **recurring)
        own_list = TaskList.objects.create(user_id=user.pk, name="x")
        other = Task.objects.create(user_id=user.pk, title="y", list=own_list)
        client = ApiClient(pair.access)
        identity = Identity.objects.create(user=user, issuer=issuer.name, subject="alice")
        is_identity = name == "auth_identities_add"
        own = {
            "refresh": pair.refresh,
            "token": issuer.token("another") if is_identity else make_token(user),
            "identity_id": str(identity.pk),
            "task_id": str(task.pk),
            "before": str(other.pk),
            "list_id": str(own_list.pk),
            "session_id": str(user.sessions.get().pk),
            "token_id": str(user.personal_tokens.get().pk),
        }
    method, _, template = path.partition(" ")
    parameters = operation.get("parameters", [])
    places = {
        p["name"]: p.get("example") or own[p["name"]] for p in parameters if p["in"] == "path"
    }
    required = [p for p in parameters if p["in"] == "query" and p["required"]]
    query = {p["name"]: p["schema"]["enum"][0] for p in required}
    content = operation.get("requestBody", {}).get("content", {"application/json": {"schema": {}}})
    ((content_type, media),) = list(content.items())[:1]
    body = FILE if content_type == "application/octet-stream" else sample(media["schema"])
    if isinstance(body, dict):
        body = {field: own.get(field, value) for field, value in body.items()}

    response = client.call(
        method,
        template.format(**places),
        MISSING if body is None else body,
        query=query,
        content_type=content_type,
    )

    assert str(response.status_code) == min(operation["responses"])
    if name == "tasks_create":
        assert data_of(response, 201)["is_completed"] is False
    if name == "tasks_complete":
        assert data_of(response)["is_completed"] is True
    assert mail.queue.wait(PATIENCE_S)


def test_first_steps_are_the_same_everywhere() -> None:
    """Who came by the README can go on with the pages, and the other way round."""
    readme = DOCUMENT.with_name("README.md").read_text()
    example = sample({"$ref": "#/components/schemas/CredentialsRequest"})

    passwords = set(re.findall(r'"email": "([^"]+)", "password": "([^"]+)"', readme))

    assert (example["email"], example["password"]) in passwords
    assert [p for e, p in passwords if e == example["email"]] == [example["password"]]


class ThingSerializer(StrictSerializer):
    """A thing."""

    name = StringField()


class LoudThingSerializer(StrictSerializer):
    """A thing."""

    volume = ChoiceField(["loud", "quiet"])


class LouderThingSerializer(StrictSerializer):
    """A thing."""

    volume = ChoiceField(["loud", "louder"])


def test_choices_of_one_name_are_one_type() -> None:
    class View(StrictInputMixin):
        body_serializers: ClassVar = {"post": LoudThingSerializer}

        @extend_schema(operation_id="things_turn_up", responses=LouderThingSerializer)
        def post(self, request: Request) -> HttpResponse:
            """Turn up a thing."""
            return empty_response()

    patterns = [url("api/things", View.as_view())]

    with pytest.raises(ValueError, match="Two schemas have the name Volume"):
        SchemaGenerator(patterns=patterns).get_schema(public=True)  # type: ignore[no-untyped-call]


class VersionedView(StrictInputMixin):
    """A view of the tests', which declares all that a view can."""

    body_serializers: ClassVar = {"put": ThingSerializer, "patch": ThingSerializer}
    has_etag = frozenset({"get", "put", "patch"})
    conditional = frozenset({"put", "patch", "delete"})
    keyed = frozenset({"put", "delete"})

    @extend_schema(operation_id="things_read", responses=ThingSerializer)
    def get(self, request: Request, thing_id: str) -> HttpResponse:
        """Read a thing."""
        return empty_response()

    @extend_schema(
        operation_id="things_replace", responses={200: ThingSerializer, 201: ThingSerializer}
    )
    def put(self, request: Request, thing_id: str) -> HttpResponse:
        """Replace a thing."""
        return empty_response()

    @extend_schema(operation_id="things_update", responses=ThingSerializer)
    def patch(self, request: Request, thing_id: str) -> HttpResponse:
        """Change a thing."""
        return empty_response()

    @extend_schema(operation_id="things_delete", responses={204: None, 409: None, 410: None})
    def delete(self, request: Request, thing_id: str) -> HttpResponse:
        """Delete a thing."""
        return empty_response()


@pytest.mark.parametrize(
    ("method", "statuses", "sent", "answered"),
    [
        ("get", {"200", "304"}, ["If-None-Match"], {"ETag"}),
        (
            "put",
            {"200", "201", "412", "422"},
            ["If-Match", "If-None-Match", "Idempotency-Key"],
            {"ETag", "Idempotent-Replayed"},
        ),
        ("patch", {"200", "412"}, ["If-Match"], {"ETag"}),
        (
            "delete",
            {"204", "409", "410", "412", "422"},
            ["If-Match", "Idempotency-Key"],
            {"Idempotent-Replayed"},
        ),
    ],
    ids=["read", "replace", "change", "delete"],
)
def test_document_has_what_a_view_declares(
    method: str, statuses: set[str], sent: list[str], answered: set[str]
) -> None:
    """[V2] [I1] Preconditions and keys, by the tables that the view has them in."""
    patterns = [url("api/things/<str:thing_id>", VersionedView.as_view())]
    document = SchemaGenerator(patterns=patterns).get_schema(public=True)  # type: ignore[no-untyped-call]

    operation = document["paths"]["/api/things/{thing_id}"][method]

    headers = [p for p in operation["parameters"] if p["in"] == "header"]
    assert [header["name"] for header in headers] == sent
    assert not any(header["required"] for header in headers)
    assert set(operation["responses"]) == statuses | OF_TASK
    for status in statuses & {"200", "201", "204"}:
        assert set(operation["responses"][status]["headers"]) == {"X-Request-ID"} | answered
    for reference in (node["$ref"] for node in nodes(operation) if "$ref" in node):
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind]


def named_operations(text: str) -> set[str]:
    named = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", text)
    return {name.replace("/me/", "/{user_id}/") for name in named}


def test_introduction_names_what_there_is() -> None:
    document = read_document()
    introduction = document["info"]["description"]
    codes = document["components"]["schemas"]["ErrorCode"]["enum"]

    assert len(named_operations(introduction)) >= 4
    assert set(re.findall(r"`([A-Z]+_[A-Z_]+)`", introduction)) <= set(codes)
    assert set(re.findall(r"`((?:RateLimit|X|Retry)-[\w-]+)`", introduction)) <= set(
        document["components"]["headers"]
    )
    assert not re.search(r"\{%|\{\{|%\}", introduction)


def test_document_names_operations_that_there_are() -> None:
    """In whatever text: of a field, of a kind of token, of an error."""
    assert named_operations(json.dumps(read_document())) <= {
        path for path, _ in documented().values()
    }


TASK: dict[str, Any] = {
    "id": "019c1389-02a4-7e51-8d33-5b6c7d8e9f00",
    "user_id": "019c1388-5d7b-7c3e-9b0a-4c1d2e3f4a5b",
    "title": "Buy milk",
    "description": None,
    "is_completed": False,
    "completed_at": None,
    "priority": "none",
    "labels": [],
    "due_on": None,
    "due_time": None,
    "time_zone": None,
    "due_at": None,
    "start_on": None,
    "list_id": None,
    "parent_id": None,
    "position": "00000000002a",
    "recurrence": None,
    "repeat_from": "due",
    "series_id": None,
    "next_task_id": None,
    "occurrence_on": None,
    "series_start_on": None,
    "created_at": "2026-01-31T09:30:00.123456Z",
    "updated_at": "2026-01-31T09:30:00.123456Z",
    "version": 42,
    "etag": errors.EXAMPLE_ETAG,
}


@pytest.mark.parametrize(
    ("request_body", "is_valid"),
    [
        pytest.param({"title": "x"}, True, id="title alone"),
        # The service takes it; types that offer it would offer what has no effect.
        pytest.param({"title": "x", "id": TASK["id"]}, False, id="read-only field"),
        pytest.param({**TASK, "colour": "red"}, False, id="unknown field"),
        pytest.param({}, False, id="without title"),
        pytest.param({"title": " \t\n"}, False, id="blank title"),
        pytest.param({"title": "\n Buy milk\t"}, True, id="white space around the title"),
        pytest.param({"title": "Buy\nmilk"}, False, id="title of two lines"),
        pytest.param({"title": "Buy\x07milk"}, False, id="title with a control character"),
        pytest.param({"title": "Buy\u2028milk"}, False, id="title of two lines in Unicode"),
        pytest.param({"title": "x" * 256}, False, id="long title"),
        pytest.param({"title": None}, False, id="null title"),
        pytest.param({"title": "x", "description": "x" * 20_001}, False, id="long description"),
        pytest.param({"title": "x", "is_completed": None}, False, id="null is_completed"),
    ],
)
def test_document_says_what_a_task_may_be(request_body: object, is_valid: bool) -> None:
    """[T1] [B4]"""
    validator = schema_validator("/components/schemas/TaskRequest")

    assert validator.is_valid(request_body) is is_valid


@pytest.mark.parametrize(
    ("request_body", "is_valid"),
    [({}, True), ({"title": "x"}, True), ({"title": ""}, False), ({"colour": "red"}, False)],
)
def test_document_requires_no_field_of_a_patch(request_body: object, is_valid: bool) -> None:
    validator = schema_validator("/components/schemas/TaskUpdate")

    assert validator.is_valid(request_body) is is_valid


HEADERS = {
    "X-Request-ID": "x",
    "Content-Type": "application/json",
    "ETag": f"W/{errors.EXAMPLE_ETAG}",
}
META = {"request_id": "x"}
TASKS = {"data": [TASK], "meta": {**META, "limit": 50, "next_cursor": None}}


def answer(body: object, status: int = 200, **headers: str | None) -> HttpResponse:
    """As the service would make it; a header that is None is left out."""
    changes = {name.replace("_", "-"): value for name, value in headers.items()}
    present = {name: value for name, value in (HEADERS | changes).items() if value is not None}
    return HttpResponse(json.dumps(body), status=status, headers=present)


def error(code: str, **details: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": "x", "details": details}, "meta": META}


@pytest.mark.parametrize(
    ("method", "path", "response"),
    [
        pytest.param("GET", "/api/me/tasks", answer(TASKS), id="page"),
        pytest.param("GET", "/users/me/tasks/?limit=1", answer(TASKS), id="other prefix and slash"),
        pytest.param("HEAD", "/api/me/tasks", HttpResponse(headers=HEADERS), id="head"),
        pytest.param("GET", "/api/me/tasks", answer(error("PARSE_ERROR"), 400), id="error"),
        pytest.param(
            "POST",
            "/api/me/tasks",
            answer(error("INSUFFICIENT_SCOPE", scope="tasks:write"), 403),
            id="scope",
        ),
        pytest.param(
            "POST", "/api/me/tasks/x", answer(error("METHOD_NOT_ALLOWED"), 405), id="wrong method"
        ),
        pytest.param("GET", "/users/auth/me", answer(error("NOT_FOUND"), 404), id="no route"),
        pytest.param("GET", "/admin/", HttpResponse("<html>", status=404), id="no API"),
    ],
)
def test_validator_accepts(method: str, path: str, response: HttpResponse) -> None:
    validate_response(method, path, response)


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        pytest.param(answer(TASKS, 202), "documented are 200, 304, 400", id="status"),
        pytest.param(answer(TASKS, X_Request_ID=None), "without X-Request-ID", id="no header"),
        pytest.param(answer(TASKS, X_Request_ID="a b"), "X-Request-ID, but", id="header"),
        pytest.param(answer(TASKS, ETag=None), "without ETag", id="no tag"),
        pytest.param(answer(TASKS, Content_Type="text/html"), "as text/html", id="type"),
        pytest.param(HttpResponse("<html>", headers=HEADERS), "not in JSON", id="no JSON"),
        pytest.param(answer({**TASKS, "debug": 1}), "'debug'", id="unknown property"),
        pytest.param(answer({"data": []}), "'meta' is a required property", id="no meta"),
        pytest.param(
            answer({**TASKS, "data": [{**TASK, "created_at": "2026-01-31T09:30:00Z"}]}),
            r"\$.data\[0\].created_at",
            id="time without microseconds",
        ),
        pytest.param(
            answer({**TASKS, "data": [{**TASK, "id": TASK["id"].upper()}]}),
            r"\$.data\[0\].id",
            id="UUID in capitals",
        ),
        pytest.param(answer(error("NOT_FOUND"), 400), r"\$.error.code", id="code"),
        pytest.param(answer(error("NO_SUCH_CODE"), 400), r"\$.error.code", id="no such code"),
        pytest.param(answer(error("NOT_FOUND"), 404), "documented are 200", id="error"),
        pytest.param(answer(error("NOT_ACCEPTABLE"), 413), r"\$.error.code", id="rare code"),
        pytest.param(
            answer(error("VALIDATION_ERROR", limit=[{"code": "odd", "message": "x"}]), 400),
            "odd",
            id="field code",
        ),
        pytest.param(answer(error("PARSE_ERROR", x="x"), 400), r"details.x", id="details"),
        pytest.param(answer(error("TOKEN_INVALID"), 401), "WWW-Authenticate", id="no challenge"),
        pytest.param(
            answer(error("SERVICE_UNAVAILABLE"), 503, Retry_After="soon"), "Retry", id="no seconds"
        ),
        pytest.param(answer(error("SERVICE_UNAVAILABLE"), 503), "Retry-After", id="no time"),
    ],
)
def test_validator_refuses(response: HttpResponse, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        validate_response("GET", "/api/me/tasks", response)


@pytest.mark.parametrize(
    ("method", "path", "response", "complaint"),
    [
        ("GET", "/users/me/tasks/?limit=1", answer(TASKS, 202), "documented are 200, 304, 400"),
        ("POST", "/api/me/tasks/x", answer(TASKS), "no such method"),
        ("HEAD", "/api/me/tasks", answer(TASKS), "with a body"),
        ("DELETE", "/api/auth/me", answer({}, 204), "with a body"),
        ("POST", "/api/me/tasks", answer({}, 201, Location="http://x/"), "Location"),
        ("GET", "/nowhere", answer({}, 404), "'error' is a required property"),
    ],
    ids=[
        "other path",
        "unknown operation",
        "HEAD with a body",
        "204 with a body",
        "host",
        "error out of shape",
    ],
)
def test_validator_refuses_elsewhere(
    method: str, path: str, response: HttpResponse, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        validate_response(method, path, response)
