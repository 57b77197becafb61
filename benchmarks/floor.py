"""The floor: the same answers without a framework, which no framework can be faster than.

One WSGI callable under the service's server, one statement for each request, prepared; PostgreSQL
makes the JSON of the tasks. A token is checked by PyJWT once, and trusted without a look at its
session. Fields are validated, but by the shortest code that does; what isn't measured isn't there:
other errors than a status, filters, limits, logs, clocks. A row's version is a number of its own,
so that the table's triggers have nothing to do.
"""

import os
import re
import sys
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import jwt
import orjson
import psycopg
from uuid_utils.compat import uuid7

from todo_project.server.supervisor import Drain, Supervisor, listening
from todo_project.server.worker import Options

_SIGNING_KEY = os.environ["JWT_SIGNING_KEY"]
_PATH = re.compile(r"/api/([^/]+)/tasks(?:/([0-9a-f-]{36})(/complete)?)?")
_GIVEN_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_TIME = """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
# row_to_json() of a subquery takes PostgreSQL less than half of json_build_object()'s time.
_JSON = f"""
    (SELECT row_to_json(answer)::text
       FROM (SELECT id, user_id, title, description, is_completed,
                    {_TIME.format("completed_at")} AS completed_at,
                    {_TIME.format("created_at")} AS created_at,
                    {_TIME.format("updated_at")} AS updated_at) AS answer)
"""
_PAGE = "SELECT {json}, created_at::text, id::text FROM tasks_task \
WHERE user_id = %s AND deleted_at IS NULL {after} ORDER BY created_at DESC, id DESC LIMIT %s"
_FIRST_PAGE = _PAGE.format(json=_JSON, after="")
_NEXT_PAGE = _PAGE.format(json=_JSON, after="AND (created_at, id) < (%s, %s)")
_OWN = "id = %(id)s AND user_id = %(user_id)s AND deleted_at IS NULL"
_READ = f"SELECT {_JSON} FROM tasks_task WHERE {_OWN}"
_CREATE = f"""
    INSERT INTO tasks_task
           (id, user_id, title, description, completed_at, created_at, updated_at, version)
    VALUES (%s, %s, %s, %s, CASE WHEN %s THEN now() END, now(), now(), 1) RETURNING {_JSON}
"""
# NULL stands for a field that wasn't sent; a description can be sent as null.
_CHANGE = f"""
    UPDATE tasks_task
       SET title = coalesce(%(title)s, title),
           description = CASE WHEN %(describes)s THEN %(description)s ELSE description END,
           completed_at = CASE coalesce(%(is_completed)s, is_completed)
                          WHEN true THEN coalesce(completed_at, now()) END,
           updated_at = now(), version = version + 1
     WHERE {_OWN} RETURNING {_JSON}
"""
_DELETE = f"UPDATE tasks_task SET deleted_at = now(), version = version + 1 WHERE {_OWN}"

_STATUS = {
    200: "200 OK",
    201: "201 Created",
    204: "204 No Content",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
}

_thread = threading.local()


class RefusedError(Exception):
    """The answer is this status."""

    def __init__(self, status: int) -> None:
        self.status = status


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    given = environ.get("HTTP_X_REQUEST_ID", "")
    request_id = given if _GIVEN_REQUEST_ID.fullmatch(given) else str(uuid4())
    headers = [("Content-Type", "application/json"), ("X-Request-ID", request_id)]
    try:
        status, data, meta = _dispatch(environ, headers)
    except RefusedError as refusal:
        status, data, meta = refusal.status, "", ""
    body = b""
    if data:
        body = f'{{"data":{data},"meta":{{"request_id":"{request_id}"{meta}}}}}'.encode()
    headers.append(("Content-Length", str(len(body))))
    start_response(_STATUS[status], headers)
    return (body,)


def _dispatch(environ: dict[str, Any], headers: list[tuple[str, str]]) -> tuple[int, str, str]:
    """Returns the status, the JSON of `data`, and that of the further members of `meta`."""
    match = _PATH.fullmatch(environ["PATH_INFO"])
    if match is None:
        raise RefusedError(404)
    path_user, task_id, completes = match.groups()
    user_id = _caller(environ)
    if path_user not in (user_id, "me"):
        raise RefusedError(403)
    match environ["REQUEST_METHOD"], task_id, completes:
        case "GET", None, _:
            return 200, *_list(user_id, environ["QUERY_STRING"])
        case "POST", None, _:
            new_id, fields = uuid7(), _fields(environ, required=True)
            headers.append(("Location", f"/api/{user_id}/tasks/{new_id}"))
            completed = fields.get("is_completed", False)
            values = (new_id, user_id, fields["title"], fields.get("description"), completed)
            return 201, _one(_CREATE, values), ""
        case "GET", _, None:
            return 200, _one(_READ, {"id": task_id, "user_id": user_id}), ""
        case "PATCH", _, "/complete":
            fields = {"is_completed": True, **_fields(environ)}
        case "PUT" | "PATCH" as method, _, None:
            fields = _fields(environ, required=method == "PUT")
        case "DELETE", _, None:
            if not _execute(_DELETE, {"id": task_id, "user_id": user_id}).rowcount:
                raise RefusedError(404)
            return 204, "", ""
        case _:
            raise RefusedError(405)
    absent = {"title": None, "description": None, "is_completed": None}
    describes = "description" in fields
    changes = {**absent, **fields, "describes": describes, "id": task_id, "user_id": user_id}
    return 200, _one(_CHANGE, changes), ""


def _list(user_id: str, query_string: str) -> tuple[str, str]:
    query = dict(parse_qsl(query_string))
    try:
        limit = int(query.get("limit", "50"))
        if "cursor" in query:
            created_at, task_id = urlsafe_b64decode(query["cursor"]).decode().split("|")
            rows = _execute(_NEXT_PAGE, (user_id, created_at, UUID(task_id), limit + 1)).fetchall()
        else:
            rows = _execute(_FIRST_PAGE, (user_id, limit + 1)).fetchall()
    except ValueError:
        raise RefusedError(400) from None
    cursor = "null"
    if len(rows) > limit:
        rows.pop()
        position = urlsafe_b64encode("|".join(rows[-1][1:]).encode()).decode()
        cursor = f'"{position}"'
    tasks = ",".join([row[0] for row in rows])
    return f"[{tasks}]", f',"limit":{limit},"next_cursor":{cursor}'


def _caller(environ: dict[str, Any]) -> str:
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        claims = _verified(token)
    except jwt.InvalidTokenError:
        raise RefusedError(401) from None
    if scheme.lower() != "bearer" or claims.get("token_type") != "access":
        raise RefusedError(401)
    return str(claims["sub"])


@lru_cache(maxsize=16384)
def _verified(token: str) -> dict[str, Any]:
    """As many tokens are remembered as in the service."""
    claims: dict[str, Any] = jwt.decode(
        token, _SIGNING_KEY, algorithms=["HS256"], issuer="todo-api", audience="todo-api"
    )
    return claims


def _fields(environ: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        fields = orjson.loads(body) if body else {}
        if required or "title" in fields:
            fields["title"] = fields["title"].strip()
            if not 1 <= len(fields["title"]) <= 255:
                raise RefusedError(400)
        if len(fields.get("description") or "") > 20_000:
            raise RefusedError(400)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise RefusedError(400) from None
    if fields.keys() - {"title", "description", "is_completed"}:
        raise RefusedError(400)
    if not isinstance(fields.get("is_completed", True), bool):
        raise RefusedError(400)
    return dict(fields)


def _one(statement: str, values: Any) -> str:
    row = _execute(statement, values).fetchone()
    if row is None:
        raise RefusedError(404)
    return str(row[0])


def _execute(statement: str, values: Any) -> psycopg.Cursor[Any]:
    """On the thread's own connection, which is made at its first request and kept."""
    try:
        cursor: psycopg.Cursor[Any] = _thread.cursor
    except AttributeError:
        connection = psycopg.connect(
            os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=0
        )
        cursor = _thread.cursor = connection.cursor()
    return cursor.execute(statement, values)


def main(port: int, threads: int) -> None:
    """Serves until SIGTERM comes."""
    options = Options(threads=threads, keep_alive_seconds=75, body_max_bytes=256 * 1024)
    with listening("127.0.0.1", port) as listener:
        drain = Drain(0, lambda: None)
        Supervisor(listener, lambda: application, options, processes=1, drain=drain).run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
