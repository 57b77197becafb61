"""The floor: the same answers without a framework, which no framework can be faster than.

One WSGI callable under the service's server, one statement for each request, prepared; PostgreSQL
makes the JSON of the tasks. A token is checked by PyJWT once, and trusted without a look at its
session. Fields are validated, but by the shortest code that does, and what has to fit other columns
by the table's constraints; what isn't measured isn't there: other errors than a status, filters,
limits, logs, clocks. A row's version is a number of its own, so that of the table's triggers only
those have something to do which say when a task is due, where it stands and whether its list lives.
"""

import os
import re
import sys
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from functools import lru_cache
from typing import Any
from unicodedata import normalize
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import jwt
import orjson
import psycopg
from uuid_utils.compat import uuid7

from tasks.days import ZONES
from todo_project.server.supervisor import Drain, Supervisor, listening
from todo_project.server.worker import Options

_SIGNING_KEY = os.environ["JWT_SIGNING_KEY"]
_PATH = re.compile(r"/api/([^/]+)/tasks(?:/([0-9a-f-]{36})(/complete)?)?")
_GIVEN_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BREAKS_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_TIME = """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_RANKS = {"none": 0, "low": 1, "medium": 2, "high": 3, "urgent": 4}
_REPEATS_FROM = {"due": 0, "completion": 1}
# row_to_json() of a subquery takes PostgreSQL less than half of json_build_object()'s time.
_JSON = f"""
    (SELECT row_to_json(answer)::text
       FROM (SELECT id, user_id, title, description, is_completed,
                    {_TIME.format("completed_at")} AS completed_at,
                    (string_to_array('{",".join(_RANKS)}', ','))[priority + 1] AS priority,
                    labels, due_on,
                    to_char(due_time, CASE WHEN extract(second FROM due_time) = 0
                                      THEN 'HH24:MI' ELSE 'HH24:MI:SS' END) AS due_time,
                    time_zone, {_TIME.format("due_at")} AS due_at, start_on, list_id, parent_id,
                    position, recurrence,
                    (string_to_array('{",".join(_REPEATS_FROM)}', ','))[repeat_from + 1]
                    AS repeat_from,
                    series_id, next_task_id, occurrence_on, series_start_on,
                    {_TIME.format("created_at")} AS created_at,
                    {_TIME.format("updated_at")} AS updated_at,
                    version, '"' || version || '"' AS etag) AS answer)
"""
_PAGE = "SELECT {json}, created_at::text, id::text FROM tasks_task \
WHERE user_id = %s AND deleted_at IS NULL {after} ORDER BY created_at DESC, id DESC LIMIT %s"
_FIRST_PAGE = _PAGE.format(json=_JSON, after="")
_NEXT_PAGE = _PAGE.format(json=_JSON, after="AND (created_at, id) < (%s, %s)")
_OWN = "id = %(id)s AND user_id = %(user_id)s AND deleted_at IS NULL"
_READ = f"SELECT {_JSON} FROM tasks_task WHERE {_OWN}"
_CREATE = f"""
    INSERT INTO tasks_task (id, user_id, {{columns}}, created_at, updated_at, version)
    VALUES (%(id)s, %(user_id)s, {{values}}, now(), now(), 1) RETURNING {_JSON}
"""
_CHANGE = f"""
    UPDATE tasks_task SET {{changes}} updated_at = now(), version = version + 1
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
            values = {**fields, "id": new_id, "user_id": user_id}
            return 201, _one(_creation(tuple(fields)), values), ""
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
    values = {**fields, "id": task_id, "user_id": user_id}
    return 200, _one(_change(tuple(fields)), values), ""


@lru_cache(maxsize=64)
def _creation(fields: tuple[str, ...]) -> str:
    written = _written(fields, "now()")
    return _CREATE.format(columns=", ".join(written), values=", ".join(written.values()))


@lru_cache(maxsize=64)
def _change(fields: tuple[str, ...]) -> str:
    written = _written(fields, "coalesce(completed_at, now())")
    return _CHANGE.format(changes="".join(f"{name} = {sql}, " for name, sql in written.items()))


def _written(fields: tuple[str, ...], completed_at: str) -> dict[str, str]:
    """What the columns get, by their names."""
    written = {name: f"%({name})s" for name in fields}
    if sent := written.pop("is_completed", None):
        written["completed_at"] = f"CASE WHEN {sent} THEN {completed_at} END"
    return written


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
        sent = orjson.loads(body) if body else {}
        if required and "title" not in sent:
            raise RefusedError(400)
        return {
            name: None if value is None and name in _NULLABLE else _READERS[name](value)
            for name, value in sent.items()
        }
    except (ValueError, KeyError, AttributeError, TypeError):
        raise RefusedError(400) from None


# What reads a value; it raises ValueError, KeyError, AttributeError or TypeError for a bad one.
_Reader = Callable[[Any], Any]


def _line(most: int) -> _Reader:
    def read(value: Any) -> str:
        text: str = value.strip()
        if not 1 <= len(text) <= most or _BREAKS_LINE.search(text):
            raise ValueError
        return text

    return read


def _of_form(form: str, read: _Reader) -> _Reader:
    matches = re.compile(form).fullmatch

    def read_matching(value: Any) -> Any:
        if not matches(value):
            raise ValueError
        return read(value)

    return read_matching


def _description(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 20_000:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004  # all faults are the same here
    return value


def _labels(values: Any) -> list[str]:
    if not isinstance(values, list) or len(values) > 50:
        raise ValueError
    labels = [normalize("NFC", _label(value)) for value in values]
    if "," in "".join(labels) or len({*labels}) < len(labels):
        raise ValueError
    return labels


_label = _line(50)
_day = _of_form("[0-9]{4}-[0-9]{2}-[0-9]{2}", date.fromisoformat)
_READERS: Mapping[str, _Reader] = {
    "title": _line(255),
    "description": _description,
    "is_completed": _flag,
    "priority": _RANKS.__getitem__,
    "labels": _labels,
    "due_on": _day,
    "due_time": _of_form("[0-9]{2}:[0-9]{2}(:[0-9]{2})?", time.fromisoformat),
    "time_zone": dict(zip(ZONES, ZONES, strict=True)).__getitem__,
    "start_on": _day,
    "list_id": UUID,
    "parent_id": UUID,
    "recurrence": _of_form("FREQ=[A-Z]+(;[A-Z]+=[A-Z0-9,+-]+)*", str),
    "repeat_from": _REPEATS_FROM.__getitem__,
}
_NULLABLE = _READERS.keys() - {"title", "is_completed", "priority", "labels", "repeat_from"}


def _one(statement: str, values: Any) -> str:
    try:
        row = _execute(statement, values).fetchone()
    except (psycopg.IntegrityError, psycopg.DataError):
        raise RefusedError(400) from None
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
        Supervisor(listener, lambda _: application, options, processes=1, drain=drain).run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
