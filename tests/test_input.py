"""Input that no client should send: each gets a clear 4xx, and changes nothing."""

import json
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from tasks.fields import TaskSerializer
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from todo_project.api.serializers import StrictSerializer, StringField

LIST = "/api/me/tasks"
ABSENT = "0198f000-0000-7000-8000-000000000000"
PATCH_TYPES = "application/json, application/merge-patch+json"

NOT_OBJECTS = [
    pytest.param(b"{", id="cut off"),
    pytest.param(b"{'title': 'x'}", id="single quotes"),
    pytest.param(b'{"title": "x",}', id="trailing comma"),
    pytest.param(b"title=x", id="a form"),
    pytest.param(b'{"title": "x"} {}', id="two values"),
    pytest.param(b"[]", id="array"),
    pytest.param(b'[{"title": "x"}]', id="array of objects"),
    pytest.param(b'"x"', id="string"),
    pytest.param(b"5", id="number"),
    pytest.param(b"null", id="null"),
    pytest.param(b"true", id="true"),
    pytest.param(b" ", id="white space"),
    pytest.param(b'{"title": NaN}', id="NaN"),
    pytest.param(b'{"title": -Infinity}', id="-Infinity"),
    pytest.param(b'{"title": 01}', id="leading zero"),
    pytest.param(b'{"title": ' + b"9" * 5000 + b"}", id="5,000 digits"),
    pytest.param(b'{"title": "\xff"}', id="not UTF-8"),
    pytest.param('{"title": "x"}'.encode("utf-16"), id="UTF-16"),
    pytest.param(b"\xef\xbb\xbf", id="byte order mark alone"),
    pytest.param(b'\xef\xbb\xbf\xef\xbb\xbf{"title": "x"}', id="two byte order marks"),
    pytest.param(b'{"title": "\x01"}', id="raw control character"),
    pytest.param(b'{"title": "\\ud800"}', id="lone surrogate"),
    pytest.param(b'{"title": "x", "\\udfff": 1}', id="lone surrogate in a key"),
    pytest.param(b'{"title": ' + b"[" * 33 + b"]" * 33 + b"}", id="deeper than 32"),
    pytest.param(b'{"a":' * 33 + b"1" + b"}" * 33, id="objects deeper than 32"),
    pytest.param(b"[" * 100_000, id="100,000 open brackets"),
    pytest.param(b'{"a":' * 40_000, id="40,000 open objects"),
]

BAD_TASKS = [
    pytest.param({}, "title", "required", id="no title"),
    pytest.param({"title": ""}, "title", "blank", id="empty title"),
    pytest.param({"title": " \t\n\u00a0\u2003"}, "title", "blank", id="white title"),
    pytest.param({"title": None}, "title", "null", id="null title"),
    pytest.param({"title": 5}, "title", "invalid", id="number as title"),
    pytest.param({"title": 10**400}, "title", "invalid", id="10^400 as title"),
    pytest.param({"title": 1.5}, "title", "invalid", id="float as title"),
    pytest.param({"title": True}, "title", "invalid", id="boolean as title"),
    pytest.param({"title": ["x"]}, "title", "invalid", id="array as title"),
    pytest.param({"title": {"x": 1}}, "title", "invalid", id="object as title"),
    pytest.param({"title": "a" * 256}, "title", "max_length", id="title too long"),
    pytest.param({"title": "a\x00b"}, "title", "control_characters", id="NUL"),
    pytest.param({"title": "x", "description": 5}, "description", "invalid", id="number"),
    pytest.param(
        {"title": "x", "description": "b" * 20_001}, "description", "max_length", id="too long"
    ),
    pytest.param(
        {"title": "x", "description": "\x00"},
        "description",
        "null_characters_not_allowed",
        id="NUL in description",
    ),
    pytest.param({"title": "x", "is_completed": "true"}, "is_completed", "invalid", id='"true"'),
    pytest.param({"title": "x", "is_completed": 1}, "is_completed", "invalid", id="1"),
    pytest.param({"title": "x", "is_completed": None}, "is_completed", "null", id="null"),
    pytest.param({"title": "x", "is_completed": []}, "is_completed", "invalid", id="array"),
    pytest.param({"title": "x", "done": True}, "done", "unknown", id="unknown field"),
    pytest.param({"title": "x", "Title": "y"}, "Title", "unknown", id="other capitals"),
    pytest.param({"title": "x", "user": "y"}, "user", "unknown", id="name of the model"),
    pytest.param({"title": "x", "": 1}, "", "unknown", id="empty name"),
    pytest.param({"title": "x", "a\x00": 1}, "a\x00", "unknown", id="NUL in a name"),
    pytest.param({"title": "x", "__class__": 1}, "__class__", "unknown", id="dunder"),
]


@pytest.mark.parametrize("body", NOT_OBJECTS)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("PATCH", "/{id}"), ("PATCH", "/{id}/complete")]
)
def test_body_that_is_no_json_object_is_refused(
    method: str, path: str, body: bytes, alice_client: ApiClient, task: Task
) -> None:
    response = alice_client.call(method, LIST + path.format(id=task.pk), body)

    assert_error(response, 400, "PARSE_ERROR")
    assert Task.objects.count() == 1


@pytest.mark.parametrize(("body", "field", "code"), BAD_TASKS)
def test_bad_task_is_refused(
    body: dict[str, Any], field: str, code: str, alice_client: ApiClient
) -> None:
    """[B2] [B4]"""
    details = assert_error(alice_client.post(LIST, body), 400, "VALIDATION_ERROR")

    assert details.keys() == {field}
    assert [fault["code"] for fault in details[field]] == [code]
    assert not Task.objects.exists()


def test_unknown_field_names_the_valid_ones(alice_client: ApiClient) -> None:
    """[B4]"""
    details = assert_error(
        alice_client.post(LIST, {"title": "x", "titel": "y"}), 400, "VALIDATION_ERROR"
    )

    valid = ", ".join(sorted(TaskSerializer().fields))
    assert f"Valid fields: {valid}." in details["titel"][0]["message"]


@pytest.mark.parametrize(
    ("body", "cure"),
    [
        pytest.param(b'{"title": 1}', "Must be a string, in quotes.", id="no string"),
        pytest.param(b'{"title": null}', "Must be a string, not null.", id="null"),
        pytest.param(b'{"title": " "}', "Must have a visible character.", id="blank"),
        pytest.param(b'{"is_completed": 1}', "Must be true or false, without quotes.", id="1"),
        pytest.param(b'{"is_completed": null}', "true or false, not null", id="no boolean"),
        pytest.param(b'{"a": 1, "a": 2}', "more than once, give it once: a", id="repeated key"),
        pytest.param(b'{"title": "\xff"}', "Encode its text in UTF-8.", id="not UTF-8"),
        pytest.param(b"[" * 40 + b"]" * 40, "must be a JSON object, such as {}", id="array"),
        pytest.param(b'{"a":' * 40 + b"1" + b"}" * 40, "At most 32 levels", id="too deep"),
        pytest.param(b'{"title": "\\ud800"}', "Send both halves", id="half a pair"),
    ],
)
def test_refusal_says_what_is_valid(body: bytes, cure: str, alice_client: ApiClient) -> None:
    """[B4]"""
    response = alice_client.post(LIST, body)

    assert response.status_code == 400
    assert cure in response.content.decode()


def test_every_fault_is_named_at_once(alice_client: ApiClient) -> None:
    """[B2]"""
    details = assert_error(
        alice_client.post(LIST, {"title": 1, "is_completed": 2, "x": 3}), 400, "VALIDATION_ERROR"
    )

    assert details.keys() == {"title", "is_completed", "x"}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        pytest.param(b'{"title": "a", "title": "b"}', "title", id="title"),
        pytest.param(b'{"title": "a", "\\u0074itle": "b"}', "title", id="written as an escape"),
        pytest.param(b'{"title": "a", "x": {"y": 1, "y": 2}}', "y", id="in an inner object"),
    ],
)
def test_repeated_key_is_named(body: bytes, key: str, alice_client: ApiClient) -> None:
    """[B4]"""
    details = assert_error(alice_client.post(LIST, body), 400, "VALIDATION_ERROR")

    assert details[key][0]["code"] == "duplicate_key"
    assert not Task.objects.exists()


def test_depth_of_32_is_read(alice_client: ApiClient) -> None:
    body = b'{"title": ' + b"[" * 31 + b"]" * 31 + b"}"

    details = assert_error(alice_client.post(LIST, body), 400, "VALIDATION_ERROR")

    assert details["title"][0]["code"] == "invalid"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/{id}"), ("DELETE", "/{id}")],
    ids=["list", "read", "delete"],
)
def test_body_where_none_is_read_is_refused(
    method: str, path: str, alice_client: ApiClient, task: Task
) -> None:
    """[B4]"""
    response = alice_client.call(method, LIST + path.format(id=task.pk), {"force": True})

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["force"][0]["code"] == "unknown"
    assert Task.objects.filter(pk=task.pk).exists()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {"title": "x"}),
        ("GET", "/{id}", b""),
        ("PUT", "/{id}", {"title": "x"}),
        ("PATCH", "/{id}", {"title": "x"}),
        ("DELETE", "/{id}", b""),
        ("PATCH", "/{id}/complete", {}),
    ],
    ids=["create", "read", "replace", "update", "delete", "complete"],
)
def test_unknown_parameter_is_refused(
    method: str, path: str, body: Any, alice_client: ApiClient, task: Task
) -> None:
    """[B4]"""
    path = f"{LIST}{path.format(id=task.pk)}?dry_run=true"

    details = assert_error(alice_client.call(method, path, body), 400, "VALIDATION_ERROR")

    assert details["dry_run"][0]["code"] == "unknown"
    assert list(Task.objects.values_list("title", flat=True)) == ["Buy milk"]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/merge-patch+json",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "json",
        "/",
        "application/json/x",
    ],
)
def test_other_media_types_are_refused(content_type: str, alice_client: ApiClient) -> None:
    response = alice_client.post(LIST, b'{"title": "x"}', content_type=content_type)

    assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
    ],
)
def test_json_media_types_are_read(content_type: str, alice_client: ApiClient) -> None:
    response = alice_client.post(LIST, b'{"title": "x"}', content_type=content_type)

    assert response.status_code == 201


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/xml", "application/json;q=0", "garbage", "/", "a/b/c", ";"],
)
def test_other_answers_are_not_acceptable(accept: str, alice_client: ApiClient) -> None:
    response = alice_client.get(LIST, accept=accept)

    assert_error(response, 406, "NOT_ACCEPTABLE")


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "application/json",
        "text/html, */*;q=0.1",
        "application/json; q=0.5",
        "application/json; charset=utf-8",
        "",
    ],
)
def test_json_is_acceptable(accept: str, alice_client: ApiClient) -> None:
    assert alice_client.get(LIST, accept=accept).status_code == 200


@pytest.mark.parametrize("size", [256 * 1024 + 1, 3 * 1024 * 1024], ids=["one too many", "3 MB"])
def test_large_bodies_are_refused(size: int, alice_client: ApiClient) -> None:
    body = json.dumps({"title": "x", "description": ""}).encode().ljust(size)

    assert_error(alice_client.post(LIST, body), 413, "PAYLOAD_TOO_LARGE")
    assert not Task.objects.exists()


def test_body_of_256_kib_is_read(alice_client: ApiClient) -> None:
    body = json.dumps({"title": "x"}).encode().ljust(256 * 1024)

    assert alice_client.post(LIST, body).status_code == 201


@pytest.mark.parametrize(
    "length",
    ["-1", "x", "1e3", "9" * 400, "9" * 5000],
    ids=["negative", "text", "exponent", "long", "too long for int()"],
)
def test_nonsensical_content_length_is_refused(length: str, alice_client: ApiClient) -> None:
    response = alice_client.generic(
        "POST",
        LIST,
        b"{}",
        content_type="application/json",
        CONTENT_LENGTH=length,
        headers={"authorization": f"Bearer {alice_client.access}"},
    )

    assert 400 <= response.status_code < 500


@pytest.mark.parametrize("host", ["evil.example.com", "a b", "x" * 300, "[::1", "", "\x00"])
def test_unknown_host_is_refused(host: str, client: ApiClient) -> None:
    """[B3]"""
    details = assert_error(client.get(LIST, host=host), 400, "VALIDATION_ERROR")

    assert details.keys() == {"Host"}


def test_chunks_are_not_ignored(alice_client: ApiClient, task: Task) -> None:
    """[B4] `manage.py serve` reads them; the development server can't, and says so."""
    response = alice_client.patch(f"{LIST}/{task.pk}/complete", transfer_encoding="chunked")

    assert_error(response, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ""), ("PUT", "/{id}"), ("PATCH", "/{id}")],
    ids=["create", "replace", "update"],
)
def test_byte_order_mark_is_skipped(
    method: str, path: str, alice_client: ApiClient, task: Task
) -> None:
    """Whoever sends it sees nothing of it in their editor."""
    body = b'\xef\xbb\xbf{"title": "\xef\xbb\xbfMarked"}'

    response = alice_client.call(method, LIST + path.format(id=task.pk), body)

    assert data_of(response, response.status_code)["title"] == "\ufeffMarked"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/me/tasks/{id}", {"description": None}, {"title": "Buy milk", "description": None}),
        ("/api/me/tasks/{id}", {}, {"title": "Buy milk", "description": "Two litres"}),
        ("/api/me/tasks/{id}/complete", {"is_completed": True}, {"is_completed": True}),
        ("/api/auth/me", {"name": "Alicia"}, {"name": "Alicia"}),
    ],
    ids=["null", "nothing", "complete", "account"],
)
@pytest.mark.parametrize(
    "content_type", ["application/merge-patch+json", "Application/Merge-Patch+JSON; charset=utf-8"]
)
def test_merge_patch_is_what_a_patch_does(
    content_type: str,
    path: str,
    body: dict[str, Any],
    expected: dict[str, Any],
    alice_client: ApiClient,
    task: Task,
) -> None:
    """[B5] RFC 7396: null removes, what is left out stays."""
    response = alice_client.patch(path.format(id=task.pk), body, content_type=content_type)

    assert data_of(response).items() >= expected.items()


def test_merge_patch_removes_no_title(alice_client: ApiClient, task: Task) -> None:
    """[B5]"""
    response = alice_client.patch(
        f"{LIST}/{task.pk}", {"title": None}, content_type="application/merge-patch+json"
    )

    assert assert_error(response, 400, "VALIDATION_ERROR")["title"][0]["code"] == "null"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", LIST),
        ("PUT", f"{LIST}/{{id}}"),
        ("DELETE", "/api/auth/me"),
        ("POST", "/api/auth/token"),
    ],
)
def test_merge_patch_is_for_patch_alone(
    method: str, path: str, alice_client: ApiClient, task: Task
) -> None:
    """[B5]"""
    response = alice_client.call(
        method, path.format(id=task.pk), b"{}", content_type="application/merge-patch+json"
    )

    assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert "Accept-Patch" not in response


WITH_BODY = [
    ("POST", LIST),
    ("PUT", f"{LIST}/{{id}}"),
    ("PATCH", f"{LIST}/{{id}}"),
    ("PATCH", f"{LIST}/{{id}}/complete"),
    ("PATCH", "/api/auth/me"),
    ("DELETE", "/api/auth/me"),
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/token"),
    ("POST", "/api/auth/token/refresh"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/password"),
    ("POST", "/api/auth/password/reset"),
    ("POST", "/api/auth/password/reset/confirm"),
]


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "\xe9"])
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_encoded_bodies_are_refused(
    method: str, path: str, encoding: str, alice_client: ApiClient, task: Task
) -> None:
    """[B5] RFC 9110, section 15.5.16; it says how to send the body."""
    response = alice_client.call(
        method, path.format(id=task.pk), b"\x1f\x8b", content_encoding=encoding
    )

    assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert response["Accept-Encoding"] == "identity"
    assert response.get("Accept-Patch") == (PATCH_TYPES if method == "PATCH" else None)


@pytest.mark.parametrize("encoding", ["identity", "Identity"])
def test_identity_is_no_encoding(encoding: str, alice_client: ApiClient) -> None:
    """[B5]"""
    assert alice_client.post(LIST, {"title": "x"}, content_encoding=encoding).status_code == 201


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json-patch+json", "application/json; charset=x"]
)
@pytest.mark.parametrize("path", [f"{LIST}/{{id}}", f"{LIST}/{{id}}/complete", "/api/auth/me"])
def test_patch_says_what_it_takes(
    path: str, content_type: str, alice_client: ApiClient, task: Task
) -> None:
    """[B5] RFC 5789, section 2.2"""
    response = alice_client.patch(path.format(id=task.pk), b"{}", content_type=content_type)

    assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert response["Accept-Patch"] == PATCH_TYPES
    assert "Accept-Encoding" not in response


@pytest.mark.parametrize("value", ["\xe4\xff", "\xc3\xa4\xe6\x97\xa5", "a\x85b"])
@pytest.mark.parametrize(
    "header",
    [
        "accept",
        "authorization",
        "content_encoding",
        "content_type",
        "cookie",
        "host",
        "origin",
        "referer",
        "user_agent",
        "x_forwarded_for",
        "x_request_id",
        "x_request_start",
    ],
)
def test_headers_beyond_ascii_are_no_defect(
    header: str, value: str, alice_client: ApiClient, settings: Any
) -> None:
    """Bytes as PEP 3333 has them. What an id of a request or a type can't be is no such."""
    settings.TRUSTED_PROXIES = 1
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]

    response = alice_client.post(LIST, {"title": "x"}, **{header: value})

    assert response.status_code < 500
    assert response["X-Request-ID"].isascii()


class Conventions(StrictSerializer):
    """What REST framework's serializers understand, and these must not drop in silence."""

    renamed = StringField(source="inside")
    checked = StringField()
    made = StringField(default=lambda: "made")
    read = StringField(read_only=True, default="read")

    def validate_checked(self, value: str) -> str:
        if value == "bad":
            raise ValidationError("No.", code="bad")
        return value.upper()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/auth/register", {"email": "x@example.com", "password": "a fine old barn"}),
        ("POST", "/api/auth/token", {"email": "alice@example.com", "password": "x"}),
        ("POST", "/api/auth/logout", {"refresh": "x"}),
        ("POST", "/api/auth/logout-all", {}),
        ("PATCH", "/api/auth/me", {"name": "Alicia"}),
        ("DELETE", "/api/auth/me", {"password": "x"}),
        ("POST", "/api/auth/tokens", {"name": "x", "scopes": ["tasks:read"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("key", ["9b2c1f0e-5d41-4c0a-8f37-2f6f3f1d2a10", ""], ids=["key", "empty"])
def test_key_is_refused_where_a_repeat_would_be_done_again(
    key: str, method: str, path: str, body: dict[str, Any], alice_client: ApiClient
) -> None:
    """[B4] Whoever sends a key counts on it. Nothing is done."""
    response = alice_client.call(method, path, body, idempotency_key=key)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert {name: [fault["code"] for fault in faults] for name, faults in details.items()} == {
        "Idempotency-Key": ["not_supported"]
    }
    profile = data_of(alice_client.get("/api/auth/me", idempotency_key=key))
    assert profile["name"] == "Alice"


def test_key_is_refused_after_what_comes_first(alice_client: ApiClient) -> None:
    """[E1] As everything that is 400."""
    body = b"x" * (256 * 1024 + 1)

    absent = alice_client.delete(f"/api/auth/tokens/{ABSENT}", idempotency_key="x")
    large = alice_client.patch("/api/auth/me", body, idempotency_key="x")

    assert_error(absent, 404, "NOT_FOUND")
    assert_error(large, 413, "PAYLOAD_TOO_LARGE")


def test_strict_serializers_heed_the_conventions() -> None:
    values = Conventions().run_validation({"renamed": "x", "checked": "y", "read": "sent"})

    assert values == {"inside": "x", "checked": "Y", "made": "made"}


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        pytest.param({}, [("renamed", "required"), ("checked", "required")], id="in order"),
        pytest.param({"renamed": "x", "checked": "bad"}, [("checked", "bad")], id="validate_"),
    ],
)
def test_strict_serializers_name_each_fault(
    data: dict[str, str], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(ValidationError) as raised:
        Conventions().run_validation(data)

    codes: Any = raised.value.get_codes()
    assert [(field, code) for field, (code,) in codes.items()] == faults
