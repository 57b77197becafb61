"""Nobody reads or changes what isn't theirs: every route and method of the URL configuration.

A route without a row in ROUTES fails `test_routes_all_stand_in_the_table`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import Identity, PersonalToken, Session, User
from tasks.models import Task, TaskList
from tests.client import MISSING, ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session, personal_token
from tests.issuer import Issuer
from todo_project.api.permissions import Scope
from todo_project.models import Change, Clock, IdempotencyKey, Purged

ABSENT = "0198f000-0000-7000-8000-000000000000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True)
class Route:
    """A route, and who gets in. `owned`: below a person's path; `public`: needs no token."""

    path: str
    kind: str  # "owned", "token", "public", "page"
    methods: tuple[str, ...]
    body: Any = None
    query: dict[str, str] | None = None


TASK_ROUTES = [
    Route("{owner}/tasks", "owned", ("GET", "HEAD", "POST"), {"title": "Mine"}),
    Route(
        "{owner}/tasks/{task}",
        "owned",
        ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
        {"title": "Mine"},
    ),
    Route("{owner}/tasks/{task}/complete", "owned", ("PATCH",), {}),
    Route("{owner}/tasks/{task}/move", "owned", ("POST",), {}),
    Route("{owner}/tasks/{task}/restore", "owned", ("POST",)),
    Route("{owner}/tasks/{task}/skip", "owned", ("POST",), {}),
]

LIST_ROUTES = [
    Route("{owner}/lists", "owned", ("GET", "HEAD", "POST"), {"name": "Mine"}),
    Route(
        "{owner}/lists/{list}",
        "owned",
        ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
        {"name": "Mine"},
    ),
    Route("{owner}/lists/{list}/restore", "owned", ("POST",)),
]

ROUTES: dict[str, Route] = {
    r"^\Z": Route("/", "page", ("GET", "HEAD")),
    r"^livez/?\Z": Route("/livez", "page", ("GET", "HEAD")),
    r"^readyz/?\Z": Route("/readyz", "page", ("GET", "HEAD")),
    r"^metrics/?\Z": Route("/metrics", "page", ("GET", "HEAD")),
    r"^api/contract/?\Z": Route("/api/contract", "page", ("GET", "HEAD")),
    r"^api/schema/?\Z": Route("/api/schema", "page", ("GET", "HEAD")),
    r"^api/docs/?\Z": Route("/api/docs", "page", ("GET", "HEAD")),
    r"^api/redoc/?\Z": Route("/api/redoc", "page", ("GET", "HEAD")),
    r"api/auth/^register/?\Z": Route("/api/auth/register", "public", ("POST",)),
    r"api/auth/^token/?\Z": Route("/api/auth/token", "public", ("POST",)),
    r"api/auth/^token/refresh/?\Z": Route("/api/auth/token/refresh", "public", ("POST",)),
    r"api/auth/^logout/?\Z": Route("/api/auth/logout", "public", ("POST",)),
    r"api/auth/^me/?\Z": Route("/api/auth/me", "token", ("GET", "HEAD", "PATCH", "DELETE"), {}),
    r"api/auth/^me/export/?\Z": Route("/api/auth/me/export", "token", ("GET", "HEAD")),
    r"api/auth/^me/delete/?\Z": Route("/api/auth/me/delete", "token", ("POST",), {}),
    r"api/auth/^password/?\Z": Route("/api/auth/password", "token", ("POST",), {}),
    r"api/auth/^password/reset/?\Z": Route("/api/auth/password/reset", "public", ("POST",)),
    r"api/auth/^password/reset/confirm/?\Z": Route(
        "/api/auth/password/reset/confirm", "public", ("POST",)
    ),
    r"api/auth/^email/confirm/?\Z": Route("/api/auth/email/confirm", "public", ("POST",)),
    r"api/auth/^email/?\Z": Route("/api/auth/email", "token", ("POST",), {}),
    r"api/auth/^tokens/?\Z": Route(
        "/api/auth/tokens",
        "token",
        ("GET", "HEAD", "POST"),
        {"name": "x", "scopes": ["tasks:read"]},
    ),
    r"api/auth/^tokens/(?P<token_id>[^/]+)/?\Z": Route(
        "/api/auth/tokens/{token}", "token", ("DELETE",)
    ),
    r"api/auth/^identities/?\Z": Route(
        "/api/auth/identities",
        "token",
        ("GET", "HEAD", "POST"),
        {"token": "x", "password": "x"},
    ),
    r"api/auth/^identities/(?P<identity_id>[^/]+)/?\Z": Route(
        "/api/auth/identities/{identity}", "token", ("DELETE",)
    ),
    r"api/auth/^logout-all/?\Z": Route("/api/auth/logout-all", "token", ("POST",)),
    r"api/auth/^sessions/?\Z": Route("/api/auth/sessions", "token", ("GET", "HEAD")),
    r"api/auth/^sessions/(?P<session_id>[^/]+)/?\Z": Route(
        "/api/auth/sessions/{session}", "token", ("DELETE",)
    ),
    **{
        pattern.format(prefix=prefix): Route(
            f"/{prefix}/{route.path}", route.kind, route.methods, route.body
        )
        for prefix in ("api", "users")
        for pattern, route in zip(
            (
                r"^{prefix}/(?P<user_id>[^/]+)/tasks/?\Z",
                r"^{prefix}/(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/?\Z",
                r"^{prefix}/(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/complete/?\Z",
                r"^{prefix}/(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/move/?\Z",
                r"^{prefix}/(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/restore/?\Z",
                r"^{prefix}/(?P<user_id>[^/]+)/tasks/(?P<task_id>[^/]+)/skip/?\Z",
            ),
            TASK_ROUTES,
            strict=True,
        )
    },
    **{
        pattern: Route(f"/api/{route.path}", route.kind, route.methods, route.body)
        for pattern, route in zip(
            (
                r"^api/(?P<user_id>[^/]+)/lists/?\Z",
                r"^api/(?P<user_id>[^/]+)/lists/(?P<list_id>[^/]+)/?\Z",
                r"^api/(?P<user_id>[^/]+)/lists/(?P<list_id>[^/]+)/restore/?\Z",
            ),
            LIST_ROUTES,
            strict=True,
        )
    },
    r"^api/(?P<user_id>[^/]+)/labels/?\Z": Route("/api/{owner}/labels", "owned", ("GET", "HEAD")),
    r"^api/(?P<user_id>[^/]+)/labels/(?P<label>.+)\Z": Route(
        "/api/{owner}/labels/{label}", "owned", ("PATCH", "DELETE"), {"name": "Mine"}
    ),
    r"^api/(?P<user_id>[^/]+)/changes/?\Z": Route("/api/{owner}/changes", "owned", ("GET", "HEAD")),
    r"^api/(?P<user_id>[^/]+)/batch/?\Z": Route(
        "/api/{owner}/batch",
        "owned",
        ("POST",),
        {"operations": [{"op": "create", "data": {"title": "Mine"}}]},
    ),
    r"^api/(?P<user_id>[^/]+)/import/?\Z": Route(
        "/api/{owner}/import",
        "owned",
        ("POST",),
        {
            "format": "todo-export",
            "format_version": 1,
            "tasks": [{"id": ABSENT, "title": "Mine"}],
        },
        {"format": "todo"},
    ),
    r"^api/(?P<user_id>[^/]+)/trash/?\Z": Route("/api/{owner}/trash", "owned", ("GET", "HEAD")),
    r"admin/r/<path:rest>": Route("/admin/r/1/x/", "page", ()),
    r"^admin\Z": Route("/admin", "page", ("GET", "HEAD")),
    r"": Route("/no/such/route", "page", ()),
}

OWNED = [
    pytest.param(route, method, id=f"{method} {route.path}")
    for route in ROUTES.values()
    if route.kind == "owned"
    for method in route.methods
]
NEEDS_TOKEN = [
    pytest.param(route, method, id=f"{method} {route.path}")
    for route in ROUTES.values()
    if route.kind in ("owned", "token")
    for method in route.methods
]
REFUSED_METHODS = [
    pytest.param(route, method, id=f"{method} {route.path}")
    for route in ROUTES.values()
    if route.kind in ("owned", "token", "public")
    for method in METHODS
    if method not in route.methods
]


@pytest.fixture
def task(alice: User) -> Task:
    """Alice's open task, which comes every day, in a list of hers, with a label."""
    own = TaskList.objects.create(user=alice, name="Groceries")
    days = [date(2999, 12, day) for day in (1, 2, 3)]
    return Task.objects.create(
        user=alice,
        title="Buy milk",
        list=own,
        due_on=days[0],
        recurrence="FREQ=DAILY",
        upcoming=days[1:],
        upcoming_of=f"FREQ=DAILY from {days[0]}",
        labels=["errands"],
    )


@pytest.fixture(params=["session", "personal", "outside"])
def token_of(request: pytest.FixtureRequest) -> Callable[[User], str]:
    """Makes a token of a person, of each of the kinds that people come by."""
    if request.param == "session":
        return lambda user: begin_session(user).access
    if request.param == "personal":
        return personal_token
    issuer: Issuer = request.getfixturevalue("issuer")

    def token(user: User) -> str:
        subject = f"subject of {user.email}"
        Identity.objects.get_or_create(user=user, issuer=issuer.name, subject=subject)
        return issuer.token(subject)

    return token


SCOPE_SETS = [
    pytest.param(scopes, id=" ".join(scopes) or "no scope")
    for count in range(len(Scope) + 1)
    for scopes in combinations(Scope, count)
]


def _needed_scope(route: Route, method: str) -> str | None:
    """What a personal token needs; None where it gets nowhere."""
    if route.kind == "owned":
        return "tasks:read" if method in ("GET", "HEAD") else "tasks:write"
    is_profile = route.path == "/api/auth/me" and method in ("GET", "HEAD")
    return "account:read" if is_profile else None


def _patterns(resolver: URLResolver, prefix: str = "") -> list[str]:
    found: list[str] = []
    for entry in resolver.url_patterns:
        text = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            found.append(text)
        elif text != "admin/":  # Django admin has its own tests
            found.extend(_patterns(entry, text))
    return found


def _send(client: ApiClient, route: Route, method: str, *, owner: object, task: Task) -> Any:
    """To the task, its list or its label."""
    path = route.path.format(
        owner=owner,
        task=task.pk,
        list=task.list_id,
        label=task.labels[0],
        session=ABSENT,
        token=ABSENT,
        identity=ABSENT,
    )
    takes_body = method in ("POST", "PUT", "PATCH") or (method, route.kind) == ("DELETE", "token")
    if takes_body and route.body is not None:
        return client.call(method, path, route.body, query=route.query)
    return client.call(method, path)


def _rows() -> list[Any]:
    """Everything of everybody's; but not that a token was used."""
    return [
        *Task.objects.order_by("id").values(),
        *TaskList.objects.order_by("id").values(),
        *Clock.objects.order_by("user_id").values(),
        *Change.objects.order_by("user_id", "version").values(),
        *Purged.objects.order_by("user_id", "id").values(),
        *IdempotencyKey.objects.order_by("user_id", "key").values(),
        *User.objects.order_by("id").values(),
        *Session.objects.order_by("id").values(),
        *Identity.objects.order_by("id").values(),
        *PersonalToken.objects.order_by("id").values("id", "name", "scopes", "expires_at"),
    ]


def test_routes_all_stand_in_the_table() -> None:
    assert sorted(_patterns(get_resolver("todo_project.urls"))) == sorted(ROUTES)


@pytest.mark.parametrize(("route", "method"), OWNED)
def test_owner_is_let_in(
    route: Route, method: str, token_of: Callable[[User], str], alice: User, task: Task
) -> None:
    client = ApiClient(token_of(alice))

    response = _send(client, route, method, owner=alice.pk, task=task)

    assert response.status_code in (200, 201, 204), response.content


@pytest.mark.parametrize(("route", "method"), NEEDS_TOKEN)
def test_no_token_is_refused(
    route: Route, method: str, alice: User, client: ApiClient, task: Task
) -> None:
    before = _rows()

    response = _send(client, route, method, owner=alice.pk, task=task)

    if method == "HEAD":
        assert response.status_code == 401
    else:
        assert_error(response, 401, "NOT_AUTHENTICATED")
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'
    assert _rows() == before


@pytest.mark.parametrize(("route", "method"), NEEDS_TOKEN)
def test_bad_token_is_refused(
    route: Route, method: str, token_of: Callable[[User], str], alice: User, task: Task
) -> None:
    """Of a forger, who has the form of one and knows another's."""
    token = token_of(alice)
    forger = ApiClient(f"{token[:-9]}{token[-9:][::-1]}")
    before = _rows()

    response = _send(forger, route, method, owner=alice.pk, task=task)

    if method == "HEAD":
        assert response.status_code == 401
    else:
        assert_error(response, 401, "TOKEN_INVALID")
    assert 'error="invalid_token"' in response["WWW-Authenticate"]
    assert _rows() == before


@pytest.mark.parametrize("intruder", ["bob", "olga"])
@pytest.mark.parametrize(("route", "method"), OWNED)
def test_another_persons_token_is_refused_on_the_owners_path(
    route: Route,
    method: str,
    intruder: str,
    token_of: Callable[[User], str],
    alice: User,
    task: Task,
    request: pytest.FixtureRequest,
) -> None:
    """[R1] Operators have no special access to the API either."""
    client = ApiClient(token_of(request.getfixturevalue(intruder)))
    before = _rows()

    response = _send(client, route, method, owner=alice.pk, task=task)

    if method == "HEAD":
        assert response.status_code == 403
    else:
        assert_error(response, 403, "PERMISSION_DENIED")
    assert _rows() == before


@pytest.mark.parametrize(("route", "method"), OWNED)
def test_newcomer_of_the_provider_is_refused_on_the_owners_path(
    route: Route, method: str, alice: User, task: Task, issuer: Issuer
) -> None:
    """[R1] [A3] Whose account is made by this very request."""
    client = ApiClient(issuer.token("newcomer"))

    response = _send(client, route, method, owner=alice.pk, task=task)

    assert response.status_code == 403
    assert list(Task.objects.values_list("pk", "title")) == [(task.pk, task.title)]
    assert not User.objects.exclude(pk=alice.pk).get().tasks.exists()


@pytest.mark.parametrize("intruder", ["bob", "olga"])
@pytest.mark.parametrize("own_path", ["me", "id"])
@pytest.mark.parametrize(
    ("route", "method"), [row for row in OWNED if re.search("{task}|{list}|{label}", str(row.id))]
)
def test_another_persons_row_is_absent_below_ones_own_path(
    route: Route,
    method: str,
    own_path: str,
    intruder: str,
    token_of: Callable[[User], str],
    task: Task,
    request: pytest.FixtureRequest,
) -> None:
    user: User = request.getfixturevalue(intruder)
    client = ApiClient(token_of(user))
    before = _rows()

    response = _send(client, route, method, owner="me" if own_path == "me" else user.pk, task=task)

    if method == "HEAD":
        assert response.status_code == 404
    else:
        assert_error(response, 404, "NOT_FOUND")
    assert _rows() == before


@pytest.mark.parametrize("scopes", SCOPE_SETS)
@pytest.mark.parametrize(("route", "method"), NEEDS_TOKEN)
def test_personal_token_gets_as_far_as_its_scopes(
    route: Route, method: str, scopes: tuple[str, ...], alice: User, task: Task
) -> None:
    """[A5] Never to sign in, to make tokens or to change the account, whatever its scopes."""
    client = ApiClient(personal_token(alice, scopes))
    needed = _needed_scope(route, method)
    before = _rows()

    response = _send(client, route, method, owner=alice.pk, task=task)

    if needed in scopes:
        assert response.status_code in (200, 201, 204), response.content
        return
    assert response.status_code == 403
    assert _rows() == before
    challenge = f'Bearer realm="api", error="insufficient_scope", scope="{needed}"'
    assert response.get("WWW-Authenticate") == (challenge if needed else None)
    if method != "HEAD":
        code = "INSUFFICIENT_SCOPE" if needed else "PERMISSION_DENIED"
        details = assert_error(response, 403, code)
        assert details == ({"scope": needed} if needed else {})
        message = json.loads(response.content)["error"]["message"]
        assert (needed or "Sign in") in message


@pytest.mark.parametrize(
    "path_owner",
    [
        pytest.param("0198f000-0000-7000-8000-000000000000", id="unknown"),
        pytest.param("not-a-uuid", id="malformed"),
        pytest.param("ME", id="me in capitals"),
        pytest.param("{hex}", id="own id without dashes"),
        pytest.param("%7B{own}%7D", id="own id in braces"),
        pytest.param("%20me", id="white space"),
        pytest.param("me%00", id="NUL"),
    ],
)
def test_owner_of_the_path_has_one_spelling(
    path_owner: str, token_of: Callable[[User], str], alice: User
) -> None:
    """[R1] Another's, unknown or malformed: all alike."""
    path_owner = path_owner.format(own=alice.pk, hex=alice.pk.hex)

    response = ApiClient(token_of(alice)).get(f"/api/{path_owner}/tasks")

    assert_error(response, 403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "task_id",
    [
        pytest.param("{bobs}", id="someone else's"),
        pytest.param("0198f000-0000-7000-8000-000000000000", id="absent"),
        pytest.param("17", id="malformed"),
        pytest.param("{hex}", id="own without dashes"),
        pytest.param("%7B{own}%7D", id="own in braces"),
        pytest.param("{own}%0A", id="own with a line feed"),
        pytest.param("%00", id="NUL"),
    ],
)
def test_missing_tasks_are_answered_alike(
    task_id: str, bob: User, task: Task, alice_client: ApiClient
) -> None:
    bobs = Task.objects.create(user_id=bob.pk, title="Bob's")
    task_id = task_id.format(bobs=bobs.pk, own=task.pk, hex=task.pk.hex)
    reference = alice_client.get(f"/api/me/tasks/{UUID(int=0)}", x_request_id="same")

    response = alice_client.get(f"/api/me/tasks/{task_id}", x_request_id="same")

    assert_error(response, 404, "NOT_FOUND")
    assert response.content == reference.content


@pytest.mark.parametrize("spell", [str.upper, str.title], ids=["capitals", "mixed"])
@pytest.mark.parametrize("prefix", ["/api", "/users"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", MISSING),
        ("POST", "", {"title": "x"}),
        ("GET", "/{task}", MISSING),
        ("PUT", "/{task}", {"title": "x"}),
        ("PATCH", "/{task}", {"title": "x"}),
        ("PATCH", "/{task}/complete", MISSING),
        ("POST", "/{task}/move", MISSING),
        ("POST", "/{task}/restore", MISSING),
        ("POST", "/{task}/skip", MISSING),
        ("DELETE", "/{task}", MISSING),
    ],
    ids=[
        *("list", "create", "read", "replace", "update", "complete"),
        *("move", "restore", "skip", "delete"),
    ],
)
def test_ids_are_read_in_any_case_and_answered_in_lower(
    method: str,
    path: str,
    body: Any,
    prefix: str,
    spell: Callable[[str], str],
    alice: User,
    alice_client: ApiClient,
    task: Task,
) -> None:
    """[B5]"""
    path = path.format(task=spell(str(task.pk)))

    response = alice_client.call(method, f"{prefix}/{spell(str(alice.pk))}/tasks{path}", body)

    assert response.status_code in (200, 201, 204), response.content
    if response.content:
        data = data_of(response, response.status_code)
        for row in data if isinstance(data, list) else [data]:
            assert row["user_id"] == str(alice.pk)
            assert row["id"] == str(UUID(row["id"]))
    if response.status_code == 201:
        assert response["Location"].startswith(f"/api/{alice.pk}/tasks/")


def test_cursor_is_good_for_ones_id_in_any_case(alice: User, alice_client: ApiClient) -> None:
    """[B5] [L1] It holds ids that the server made, and is bound to the caller, not to the path."""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    first = alice_client.get("/api/me/tasks", query={"limit": "2"})
    cursor = meta_of(first)["next_cursor"]

    second = alice_client.get(
        f"/api/{str(alice.pk).upper()}/tasks", query={"limit": "2", "cursor": cursor}
    )

    assert len(data_of(second)) == 1
    assert f"</api/{alice.pk}/tasks?" in first["Link"]


def test_lists_hold_ones_own_tasks_only(
    token_of: Callable[[User], str], alice: User, bob: User, task: Task
) -> None:
    Task.objects.create(user_id=bob.pk, title="Bob's")

    response = ApiClient(token_of(alice)).get("/api/me/tasks", query={"total": "true"})

    body = json.loads(response.content)
    assert [row["id"] for row in body["data"]] == [str(task.pk)]
    assert body["meta"]["total"] == 1


def test_owner_in_a_body_is_ignored(alice: User, bob: User, alice_client: ApiClient) -> None:
    """[T1] `user_id` is read-only: accepted, without effect."""
    response = alice_client.post("/api/me/tasks", {"title": "Mine", "user_id": str(bob.pk)})

    assert json.loads(response.content)["data"]["user_id"] == str(alice.pk)
    assert not Task.objects.filter(user=bob).exists()


@pytest.mark.parametrize(("route", "method"), REFUSED_METHODS)
def test_other_methods_are_refused(
    route: Route, method: str, alice: User, alice_client: ApiClient, task: Task
) -> None:
    response = _send(alice_client, route, method, owner="me", task=task)

    assert response.status_code == 405
    allowed = {name.strip() for name in response["Allow"].split(",")}
    assert allowed == set(route.methods)


@pytest.mark.parametrize(
    "row", [row for row in ROUTES.values() if row.kind == "public"], ids=lambda row: row.path
)
@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic eDp5", "Bearer"])
def test_public_routes_ignore_a_token(row: Route, header: str, client: ApiClient) -> None:
    response = client.post(row.path, {}, authorization=header)

    assert_error(response, 400, "VALIDATION_ERROR")


def test_deleted_persons_tokens_are_dead(token_of: Callable[[User], str], alice: User) -> None:
    spare = ApiClient(token_of(alice))
    alice.delete()

    assert_error(spare.get("/api/me/tasks"), 401, "TOKEN_INVALID")
