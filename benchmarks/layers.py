"""Where the microseconds of a request go: CPU time in process, by layer.

No HTTP server and no load: the WSGI application is called in a loop, by one thread. Figures are
the least of many short turns, taken in turn, because whatever else the machine does can only add.
The child process has the service's production settings; this one has those of the harness.
"""

import io
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from django.conf import settings

from . import command, service
from .dataset import Dataset, Scale
from .report import table

SCALE = Scale(users=1_000, tasks_per_user=100)
TURNS = 40
CALLS = 50  # of a turn
PEOPLE = 100
PERSONAL = ", personal token"
OUTSIDE = ", token of an identity provider"
ISSUER = "https://auth.example.com"


class Request(NamedTuple):
    """One of each person, to their tasks; `body` makes what the turn of a number sends."""

    name: str
    method: str
    path: str
    query: str = ""
    body: Callable[[int], object] | None = None


LIST = Request("list", "GET", "", "limit=20")
READ = Request("read", "GET", "/{}")
PATCH = Request("PATCH", "PATCH", "/{}", body=lambda turn: {"title": f"Number {turn}"})


def main() -> None:
    options = command.parser(__doc__).parse_args()
    with command.open_bench(options.database_url) as bench:
        dataset = bench.dataset(SCALE)
        found = _measure(dataset, bench.folder / "people.json")
        dataset.restore()
    rows = [[name, f"{cpu_us:,.0f}"] for name, cpu_us in found.items()]
    print(f"\n{table(('what runs', 'CPU µs'), rows)}\n")
    ratios = [
        [name, *(f"{found[name + kind] / cpu_us:.3f}" for kind in (PERSONAL, OUTSIDE))]
        for name, cpu_us in found.items()
        if name + PERSONAL in found
    ]
    titles = ("request, to that of a session", "personal token", "token of an identity provider")
    print(f"{table(titles, ratios)}\n")


def _measure(dataset: Dataset, file: Path) -> dict[str, float]:
    """Runs child() with the service's settings."""
    found: dict[str, float] = in_child("benchmarks.layers", dataset, file)
    return found


def in_child(module: str, dataset: Dataset, file: Path, **variables: str) -> Any:
    """What child() of a module prints, as JSON, of people whom it reads from `file`.

    In a process with the service's settings, and `variables` beside them.
    """
    people = [
        (str(account.user_id), account.access, [str(task_id) for task_id, _ in account.tasks])
        for account in dataset.sign_in()[:PEOPLE]
    ]
    file.write_text(json.dumps(people))
    output = subprocess.run(
        [sys.executable, "-c", f"from {module} import child; child({str(file)!r})"],
        cwd=service.PROJECT,
        env={**service.environment(dataset.url), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the access log
        check=True,
    ).stdout
    return json.loads(output)


def child(file: str) -> None:
    """Prints CPU microseconds by layer as JSON."""
    from todo_project.wsgi import application  # sets Django up

    people = json.loads(Path(file).read_text())
    kinds = {
        "": people,
        PERSONAL: _with_personal_tokens(people),
        OUTSIDE: _with_outside_tokens(people),
    }
    works: dict[str, Callable[[], object]] = {
        f"{request.name}, whole request{kind}": by_turns(application, callers, request)
        for kind, callers in kinds.items()
        for request in (LIST, READ, PATCH)
    }
    works |= {
        "/livez: Django, middleware and access log": lambda: _call(application, "/livez"),
        **_parts(people),
    }
    least = dict.fromkeys(works, float("inf"))
    for _ in range(TURNS):
        for name, work in works.items():
            started = time.process_time()
            settings.AUTH_ISSUER = ISSUER if name.endswith(OUTSIDE) else ""
            for _ in range(CALLS):
                work()
            least[name] = min(least[name], (time.process_time() - started) / CALLS * 1e6)
    json.dump(least, sys.stdout)


def _with_personal_tokens(people: Any) -> Any:
    """The same people, each with a personal token, in the place of those of earlier runs."""
    from accounts.models import PersonalToken, hash_token
    from accounts.personal_tokens import make
    from todo_project.api.permissions import Scope

    PersonalToken.objects.all().delete()
    scripts = [(user_id, make(), tasks) for user_id, _, tasks in people]
    PersonalToken.objects.bulk_create(
        PersonalToken(user_id=user_id, name="x", scopes=list(Scope), hash=hash_token(token))
        for user_id, token, _ in scripts
    )
    return scripts


def _with_outside_tokens(people: Any) -> Any:
    """The same people, each with a token of a provider; by a secret, which needs no network."""
    from accounts.models import Identity

    secret = secrets.token_hex()
    settings.AUTH_AUDIENCE, settings.AUTH_ALGORITHMS = ["todo"], ["HS256"]
    settings.AUTH_SHARED_SECRET = secret
    Identity.objects.all().delete()
    Identity.objects.bulk_create(
        Identity(user_id=user_id, issuer=ISSUER, subject=user_id) for user_id, *_ in people
    )
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "todo", "iat": now, "exp": now + 43_200}
    return [
        (user_id, jwt.encode({**claims, "sub": user_id}, secret, algorithm="HS256"), tasks)
        for user_id, _, tasks in people
    ]


def by_turns(application: Any, people: Any, request: Request) -> Callable[[], None]:
    """Sends it for each person in turn."""
    turn = 0

    def send() -> None:
        nonlocal turn
        turn += 1
        user_id, access, tasks = people[turn % len(people)]
        task_path = f"/api/{user_id}/tasks" + request.path.format(tasks[turn % len(tasks)])
        more: dict[str, Any] = {
            "HTTP_AUTHORIZATION": f"Bearer {access}",
            "QUERY_STRING": request.query,
        }
        if request.body is not None:
            content = json.dumps(request.body(turn)).encode()
            more |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(content))}
            more["wsgi.input"] = io.BytesIO(content)
        _call(application, task_path, REQUEST_METHOD=request.method, **more)

    return send


def _call(application: Any, path: str, **more: Any) -> None:
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        **more,
    }
    statuses: list[str] = []
    application(environ, lambda status, headers: statuses.append(status))
    assert statuses[0].startswith("200"), statuses


def _parts(people: Any) -> dict[str, Callable[[], object]]:
    """The largest parts by themselves: warmer than in a request, and so somewhat cheaper."""
    from accounts import session_tokens
    from accounts.callers import SessionCaller
    from tasks.fields import TASK, TaskSerializer
    from todo_project.api import views
    from todo_project.resources import reads
    from todo_project.resources.pages import CursorCodec

    user_id, access, tasks = people[0]
    claims = session_tokens.read_access(access.encode())
    caller = SessionCaller(claims.user_id, claims.session_id)
    query = views.validated(TASK.query_serializer, {"limit": "20"})
    cursors = CursorCodec(query["ordering"], {"owner": user_id})
    row = {"created_at": "2026-01-01T00:00:00.000000Z", "id": user_id}
    return {
        "the statement of a list": lambda: reads.fetch_page(caller, TASK, query),
        "the statement of a read": lambda: reads.fetch(caller, TASK, tasks[0]),
        "a token verified for the first time": lambda: session_tokens.verify_access(
            access.encode()
        ),
        "a body of one field validated": lambda: views.validated(
            TaskSerializer, {"title": "x"}, is_partial=True
        ),
        "a cursor made": lambda: cursors.encode(row),
    }


if __name__ == "__main__":
    command.run(main)
