"""The client of the tests: speaks to the service as a stranger would, and checks every answer.

Each response is validated against the committed OpenAPI document.
"""

import json
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from tests.openapi import validate_response
from todo_project.api.streaming import StreamedResponse

MISSING = object()

# What the present test sent or was given that no log may hold; see conftest.log_tells_no_secrets.
SECRETS: set[str] = set()
SECRET_FIELDS = (
    *("password", "current_password", "new_password", "access", "refresh", "token"),
    *("password1", "password2", "old_password", "new_password1", "new_password2"),  # admin's forms
)
SECRET_MIN_CHARACTERS = 8  # shorter ones stand in ordinary words


class ApiClient(Client):
    """Sends JSON, with an access token where it was given one."""

    def __init__(self, access: str | None = None) -> None:
        # A crash is an answer to be looked at, as it is for a real client.
        super().__init__(raise_request_exception=False)
        self.access = access
        remember_secrets({"access": access})

    def call(
        self,
        method: str,
        path: str,
        body: Any = MISSING,
        *,
        query: dict[str, Any] | None = None,
        **headers: str,
    ) -> HttpResponse:
        """Sends `body` as JSON, or as it is where it is bytes; headers as `content_type="..."`."""
        if self.access is not None:
            headers.setdefault("authorization", f"Bearer {self.access}")
        content_type = headers.pop("content_type", "application/json")
        data = b"" if body is MISSING else body
        remember_secrets(data)
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        if query:
            path = f"{path}?{urlencode(query)}"
        response = self.generic(
            method,
            path,
            data,
            content_type=content_type if data else "",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        if isinstance(response, StreamedResponse):
            response = _read(response)
        validate_response(method, path, response)
        if response.get("Content-Type") == "application/json" and response.content:
            remember_secrets(json.loads(response.content).get("data"))
        return cast("HttpResponse", response)

    def get(self, path: str, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return self.call("GET", path, **kwargs)

    def post(self, path: str, body: Any = MISSING, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return self.call("POST", path, body, **kwargs)

    def put(self, path: str, body: Any = MISSING, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return self.call("PUT", path, body, **kwargs)

    def patch(self, path: str, body: Any = MISSING, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return self.call("PATCH", path, body, **kwargs)

    def delete(self, path: str, body: Any = MISSING, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return self.call("DELETE", path, body, **kwargs)


def _read(response: StreamedResponse) -> HttpResponse:
    """An answer as it is when it was read to its end, at which Django's client closes it."""
    return HttpResponse(b"".join(response), status=response.status_code, headers=response.headers)


class Browser(Client):
    """Of an operator, at admin. Sends forms and keeps cookies."""

    def post(self, path: str, data: Any = None, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        remember_secrets(data)
        return super().post(path, data, *args, **kwargs)

    def request(self, **request: Any) -> Any:
        response = super().request(**request)
        cookie = self.cookies.get(settings.SESSION_COOKIE_NAME)
        remember_secrets({"token": cookie and cookie.value})
        return response


def remember_secrets(body: Any, secrets: set[str] = SECRETS) -> None:
    """Adds what the log must not hold of a body that was sent or received."""
    if isinstance(body, dict):
        values = (body.get(field) for field in SECRET_FIELDS)
        secrets.update(
            value
            for value in values
            if isinstance(value, str) and len(value) >= SECRET_MIN_CHARACTERS
        )


def assert_error(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """Asserts status, shape and code of an error; returns its `details`."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"] == "application/json"
    body = json.loads(response.content)
    assert body.keys() == {"error", "meta"}
    assert body["error"].keys() == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["meta"] == {"request_id": response["X-Request-ID"]}
    if status == 401:
        assert response["WWW-Authenticate"].startswith("Bearer")
    details: dict[str, Any] = body["error"]["details"]
    assert isinstance(details, dict)
    return details


def data_of(response: HttpResponse, status: int = 200) -> Any:
    """Asserts status and shape of a success; returns its `data`."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"] == "application/json"
    body = json.loads(response.content)
    assert body.keys() == {"data", "meta"}
    assert body["meta"]["request_id"] == response["X-Request-ID"]
    return body["data"]


def meta_of(response: HttpResponse) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads(response.content)["meta"]
    return meta
