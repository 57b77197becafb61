"""What any page of Django admin may cost: 12 queries, each of which reads a bounded part.

The pages are those of whatever is registered, so that a new one is looked at without being named.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Identity, PersonalToken, Session, User
from tasks.models import Task, TaskList
from tests.conftest import begin_session, personal_token
from tests.test_admin import MakeUser, html, sign_in
from todo_project.admin import LargeTableAdmin
from todo_project.admin.filters import ChoiceFilter

QUERIES_MAX = 12
ROWS = 60
# What Django keeps of the code and of an operator: it has no more rows than these have.
SMALL_TABLES = {
    *("auth_group", "auth_permission", "auth_group_permissions", "django_content_type"),
    *("accounts_user_groups", "accounts_user_user_permissions"),
}
MODELS = [
    pytest.param(model, id=model._meta.label)
    for model in apps.get_models()
    if admin.site.is_registered(model)
]


@pytest.fixture
def many(alice: User, olga: User) -> dict[type[Model], Any]:
    """A row of each kind, among sixty more."""
    User.objects.bulk_create(User(email=f"row{n}@example.com") for n in range(ROWS))
    home = TaskList.objects.create(user=alice, name="Home")
    TaskList.objects.bulk_create(TaskList(user=alice, name="Row") for n in range(ROWS))
    task = Task.objects.create(user=alice, title="Task", list=home)
    Task.objects.bulk_create(
        Task(user=alice, title="Row", list=home, parent=task) for n in range(ROWS)
    )
    begin_session(alice)
    personal_token(alice)
    expires_at = datetime.now(UTC) + timedelta(days=1)
    Session.objects.bulk_create(Session(user=alice, expires_at=expires_at) for n in range(ROWS))
    Identity.objects.bulk_create(
        Identity(user=alice, issuer="https://i", subject=f"row{n}") for n in range(ROWS)
    )
    PersonalToken.objects.bulk_create(
        PersonalToken(user=alice, name="Row", scopes=[], hash=f"{n:064}") for n in range(ROWS)
    )
    group = Group.objects.create(name="Helpers")
    for row in (alice, task, home):
        LogEntry.objects.log_actions(olga.pk, [row] * 20, CHANGE, "Changed.")
    return {
        **{model: model._default_manager.earliest("pk") for model in admin.site._registry},
        User: alice,
        Task: task,
        TaskList: home,
        Group: group,
    }


def pages_of(model: type[Model], row: Model) -> Iterator[str]:
    """All that Django has, and each choice of each filter, alone and with a search."""
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    yield from (path, f"{path}?q=row", f"{path}?q=row0@example.com", f"{path}?q={row.pk}")
    yield from (f"{path}add/", *(f"{path}{row.pk}/{page}/" for page in ("change", "delete")))
    yield from (f"{path}{row.pk}/{page}/?_to_field=" for page in ("change", "delete"))
    yield f"{path}{row.pk}/history/"
    model_admin = admin.site._registry[model]
    for choice in model_admin.list_filter:
        assert isinstance(choice, type)
        assert issubclass(choice, ChoiceFilter)
        for value in values_of(choice, model, model_admin):
            query = {str(choice.parameter_name): value}
            yield f"{path}?{urlencode(query)}"
            yield f"{path}?{urlencode({**query, 'q': 'row'})}"


def values_of(choice: type[ChoiceFilter], model: Any, model_admin: Any) -> list[str]:
    request: Any = type("Request", (), {"user": User(), "GET": {}})()
    found = choice(request, {}, model, model_admin)
    return [*map(str, dict(found.lookup_choices)), "2026-01-02"]


def is_bounded(sql: str) -> bool:
    """Whether what it reads doesn't grow with the tables: by a limit, of named rows, or of few."""
    tables = set(re.findall(r'(?:FROM|JOIN) "(\w+)"', sql))
    named = r'WHERE .*"(?:id|session_key)" (?:= |IN \((?!SELECT))'
    return (
        not sql.lstrip().startswith(("SELECT", "WITH"))
        or " LIMIT " in re.sub(r"\s", " ", sql)
        or tables <= SMALL_TABLES
        or re.search(named, sql) is not None
    )


def assert_cheap(browser: Client, path: str) -> None:
    with CaptureQueriesContext(connection) as captured:
        response = browser.get(path)

    statements = [query["sql"] for query in captured]
    assert response.status_code in (200, 403, 404), path
    assert len(statements) <= QUERIES_MAX, (path, statements)
    assert [sql for sql in statements if not is_bounded(sql)] == [], path


@pytest.mark.parametrize("model", MODELS)
def test_pages_are_cheap(model: type[Model], many: dict[type[Model], Any], olga: User) -> None:
    browser = sign_in(olga)

    for path in pages_of(model, many[model]):
        assert_cheap(browser, path)


@pytest.mark.parametrize("path", ["", "accounts/", "tasks/", "admin/", "auth/", "password_change/"])
@pytest.mark.parametrize("is_superuser", [True, False], ids=["superuser", "operator"])
def test_pages_of_the_site_are_cheap(
    path: str, is_superuser: bool, many: dict[type[Model], Any], make_user: MakeUser
) -> None:
    """The permissions of an operator who is no superuser take two queries."""
    otto = make_user("otto@example.com", is_staff=True, is_superuser=is_superuser)
    otto.user_permissions.set(Permission.objects.all())

    assert_cheap(sign_in(otto), f"/admin/{path}")


@pytest.mark.parametrize(
    "model",
    [Session, Identity, PersonalToken, Task, TaskList, User],
    ids=lambda model: model.__name__,
)
def test_lists_lead_to_pages_and_pages_to_what_else_is_theirs(
    model: type[Model], many: dict[type[Model], Any], olga: User
) -> None:
    """From a row to its user, and to all other rows of that user; from the user to all of them."""
    browser = sign_in(olga)
    row = many[model]
    user = row if isinstance(row, User) else row.user
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"

    page = html(browser.get(f"{path}{row.pk}/change/"))

    for other, other_admin in admin.site._registry.items():
        if isinstance(other_admin, LargeTableAdmin) and other is not User:
            others = f"/admin/{other._meta.app_label}/{other._meta.model_name}/"
            assert f'href="{others}?q={user.pk}"' in page
            html(browser.get(f"{others}?q={user.pk}"))
    if row is not user:
        assert f'href="/admin/accounts/user/{user.pk}/change/"' in page


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param("tasks/task", {"title": "x"}, id="tasks"),
        pytest.param("accounts/session", {"expires_at": datetime.now(UTC)}, id="sessions"),
    ],
)
def test_date_filter_reads_the_days_alone(
    path: str, fields: dict[str, Any], alice: User, olga: User
) -> None:
    """By the primary key, in its order, however many rows there are of other days."""
    model = apps.get_model(path.replace("/", "."))
    model._default_manager.bulk_create(model(user=alice, **fields) for _ in range(2_000))
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {model._meta.db_table}")
    browser = sign_in(olga)

    with CaptureQueriesContext(connection) as captured:
        html(browser.get(f"/admin/{path}/?created=2026-01-02"))

    table = model._meta.db_table
    statements = [query["sql"] for query in captured if f'FROM "{table}"' in query["sql"]]
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            scan = next(node for node in nodes(cursor.fetchone()[0][0]["Plan"], table))
            assert scan["Index Name"] == f"{table}_pkey"
            assert "id >=" in scan["Index Cond"].replace('"', "")
            assert "id <" in scan["Index Cond"].replace('"', "")
            assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) == 0
    assert len(statements) == 2


def nodes(node: dict[str, Any], table: str) -> Iterator[dict[str, Any]]:
    if node.get("Relation Name") == table:
        yield node
    for child in node.get("Plans", []):
        yield from nodes(child, table)
