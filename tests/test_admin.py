"""Django admin: what operators see, what they may do, and what it costs the database.

Beside the cast: Olaf is an operator with every permission on users, sessions and tasks, but no
superuser, as Olga is.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

import todo_project.admin.tables
from accounts.models import Identity, PersonalToken, RemovedIdentity, Session, User
from tasks.models import PRIORITIES, Task, TaskList
from tests.client import ApiClient, Browser, assert_error, data_of
from tests.conftest import PASSWORD, begin_session, personal_token
from todo_project.environment import Rate

USERS = "/admin/accounts/user/"
SESSIONS = "/admin/accounts/session/"
IDENTITIES = "/admin/accounts/identity/"
PERSONAL_TOKENS = "/admin/accounts/personaltoken/"
TASKS = "/admin/tasks/task/"
TASK_LISTS = "/admin/tasks/tasklist/"
LIST_ID = UUID("0192d7a4-7b1e-7c3a-9f54-5a1d2f6b8c90")
GROUPS = "/admin/auth/group/"
OWNERS = "/admin/autocomplete/?app_label=tasks&model_name=task&field_name=user"
OWN_PASSWORD = "/admin/password_change/"
ME = "/api/auth/me"
NEW_PASSWORD = "staple battery horse correct"
# The lists that hold what is people's.
LISTS = {
    "users": USERS,
    "sessions": SESSIONS,
    "identities": IDENTITIES,
    "personal tokens": PERSONAL_TOKENS,
    "tasks": TASKS,
}
# What the form for a new task has chosen.
DEFAULTS = {"priority": 0, "repeat_from": 0}
NOW_AT = Now()
# Of the request's session and its operator; a superuser's permissions need none.
SIGN_IN_QUERIES = 2

MakeUser = Callable[..., User]
CountQueries = Callable[[int], CaptureQueriesContext]


def sign_in(user: User) -> Client:
    """A browser at admin. A crash is an answer to be looked at."""
    browser = Browser(raise_request_exception=False)
    browser.force_login(user)
    return browser


@pytest.fixture
def olga_admin(olga: User) -> Client:
    return sign_in(olga)


@pytest.fixture
def olaf(make_user: MakeUser) -> User:
    olaf = make_user("olaf@example.com", name="Olaf", is_staff=True)
    apps = ("accounts", "tasks")
    olaf.user_permissions.set(Permission.objects.filter(content_type__app_label__in=apps))
    return olaf


@pytest.fixture
def olaf_admin(olaf: User) -> Client:
    return sign_in(olaf)


@pytest.fixture
def session(alice: User) -> Session:
    """Alice's, with recognisable hashes."""
    begin_session(alice)
    Session.objects.update(refresh_hash="a1" * 32, previous_refresh_hash="b2" * 32)
    return Session.objects.get()


@pytest.fixture
def token(alice: User) -> PersonalToken:
    """Alice's, with a recognisable hash."""
    return PersonalToken.objects.create(
        user=alice, name="Backup", scopes=["tasks:read"], hash="c3" * 32
    )


def html(response: Any, status: int = 200) -> str:
    assert response.status_code == status, (response.status_code, response.content[:500])
    page: str = response.content.decode()
    return page


def assert_saved(response: Any) -> None:
    faults = re.findall(r'errorlist[^>]*"><li>(.*?)</li>', response.content.decode())
    assert response.status_code == 302, (response.status_code, faults)


def act(browser: Client, path: str, action: str, *selected: Any, **data: Any) -> Any:
    """Runs an action of a list on the selected rows."""
    ids = [str(row.pk) for row in selected]
    return browser.post(path, {"action": action, "index": 0, "_selected_action": ids, **data})


def profile(user: User, **changes: Any) -> dict[str, Any]:
    """A user's form as a browser sends it; what is None is left out, as an empty checkbox is."""
    form = {
        "email": user.email,
        "email_verified": "on" if user.email_verified else None,
        "name": user.name,
        "is_active": "on" if user.is_active else None,
        "is_staff": "on" if user.is_staff else None,
        "is_superuser": "on" if user.is_superuser else None,
        **changes,
    }
    return {name: value for name, value in form.items() if value is not None}


def task_form(task: Task, **changes: Any) -> dict[str, Any]:
    """A task's form as a browser sends it."""
    completed_at = task.completed_at
    return {
        "title": task.title,
        "description": (task.description or "").replace("\n", "\r\n"),
        "completed_at_0": f"{completed_at:%Y-%m-%d}" if completed_at else "",
        "completed_at_1": f"{completed_at:%H:%M:%S}" if completed_at else "",
        "priority": task.priority,
        "labels": ", ".join(task.labels),
        "due_on": task.due_on or "",
        "due_time": task.due_time or "",
        "time_zone": task.time_zone or "",
        "start_on": task.start_on or "",
        "repeat_from": task.repeat_from,
        **changes,
    }


def logged(operator: User) -> list[tuple[int, str, str]]:
    """The operator's entries in the admin log, the oldest first."""
    entries = LogEntry.objects.filter(user=operator).order_by("pk")
    return [
        (entry.action_flag, str(entry.object_id), entry.get_change_message()) for entry in entries
    ]


def told(browser: Client, response: Any) -> list[str]:
    """What the page after an action tells the operator."""
    assert_saved(response)
    return [str(message) for message in browser.get(response["Location"]).context["messages"]]


def begun_by(user: User) -> Session:
    begin_session(user)
    return user.sessions.latest("created_at")


def make_tasks(owner: User, count: int) -> None:
    tasks = (Task(user=owner, title=f"Task {n}") for n in range(count))
    Task.objects.bulk_create(tasks, batch_size=1_000)


# --- Every page -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/admin/", 200, id="index"),
        pytest.param("/admin/accounts/", 200, id="app"),
        pytest.param("/admin/password_change/", 200, id="own password"),
        pytest.param("/admin/jsi18n/", 200, id="catalog"),
        pytest.param("/admin/nothing/", 404, id="unknown page"),
        pytest.param(USERS, 200, id="users"),
        pytest.param(f"{USERS}add/", 200, id="add user"),
        pytest.param(f"{USERS}{{user}}/change/", 200, id="user"),
        pytest.param(f"{USERS}{{user}}/password/", 200, id="user's password"),
        pytest.param(f"{USERS}{{user}}/delete/", 200, id="delete user"),
        pytest.param(f"{USERS}{{user}}/history/", 200, id="user's history"),
        pytest.param(SESSIONS, 200, id="sessions"),
        pytest.param(f"{SESSIONS}add/", 403, id="add session"),
        pytest.param(f"{SESSIONS}{{session}}/change/", 200, id="session"),
        pytest.param(f"{SESSIONS}{{session}}/delete/", 403, id="delete session"),
        pytest.param(f"{SESSIONS}{{session}}/history/", 200, id="session's history"),
        pytest.param(IDENTITIES, 200, id="identities"),
        pytest.param(f"{IDENTITIES}add/", 403, id="add identity"),
        pytest.param(f"{IDENTITIES}{{identity}}/change/", 200, id="identity"),
        pytest.param(f"{IDENTITIES}{{identity}}/delete/", 200, id="delete identity"),
        pytest.param(PERSONAL_TOKENS, 200, id="personal tokens"),
        pytest.param(f"{PERSONAL_TOKENS}add/", 403, id="add personal token"),
        pytest.param(f"{PERSONAL_TOKENS}{{token}}/change/", 200, id="personal token"),
        pytest.param(f"{PERSONAL_TOKENS}{{token}}/delete/", 403, id="delete personal token"),
        pytest.param(f"{PERSONAL_TOKENS}{{token}}/history/", 200, id="personal token's history"),
        pytest.param(TASKS, 200, id="tasks"),
        pytest.param(f"{TASKS}add/", 200, id="add task"),
        pytest.param(f"{TASKS}{{task}}/change/", 200, id="task"),
        pytest.param(f"{TASKS}{{task}}/delete/", 200, id="delete task"),
        pytest.param(f"{TASKS}{{task}}/history/", 200, id="task's history"),
        pytest.param(TASK_LISTS, 200, id="lists"),
        pytest.param(f"{TASK_LISTS}add/", 200, id="add list"),
        pytest.param(GROUPS, 200, id="groups"),
        pytest.param(f"{GROUPS}add/", 200, id="add group"),
        pytest.param(f"{GROUPS}{{group}}/change/", 200, id="group"),
        pytest.param(f"{OWNERS}&term=ali", 200, id="owners"),
    ],
)
def test_page_answers(
    path: str,
    status: int,
    olga_admin: Client,
    task: Task,
    session: Session,
    token: PersonalToken,
) -> None:
    identity = Identity.objects.create(user_id=task.user_id, issuer="https://i", subject="ada")
    ids = {"user": task.user_id, "task": task.pk, "session": session.pk, "token": token.pk}
    ids["identity"] = identity.pk
    path = path.format(group=Group.objects.create(name="Helpers").pk, **ids)

    page = html(olga_admin.get(path), status)

    assert session.refresh_hash not in page
    assert session.previous_refresh_hash not in page
    assert token.hash not in page
    assert task.user.password not in page


@pytest.mark.parametrize("list_path", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("?q=%00", 200, id="NUL"),
        pytest.param("?q=%25_%5C%27%22", 200, id="wildcards and quotes"),
        pytest.param(f"?q={'x' * 1000}", 200, id="1000 characters"),
        pytest.param(f"?q={'a@b+' * 250}", 200, id="250 addresses"),
        pytest.param("?q=%20", 200, id="space"),
        pytest.param("?p=999999", 200, id="page too high"),
        pytest.param("?p=-1", 200, id="page too low"),
        pytest.param("?p=zz", 200, id="page not a number"),
        pytest.param("?o=zz", 200, id="order not a number"),
        pytest.param("?o=99.-1", 200, id="order of no column"),
        pytest.param("?e=1", 200, id="error flag"),
        pytest.param("?all=&_facets=True&_popup=1", 200, id="flags"),
        pytest.param("?_to_field=password", 400, id="reference to a secret"),
        pytest.param("?id__gt=zz", 400, id="filter of wrong type"),
        pytest.param("?created_at__year=zz", 400, id="filter by year"),
        pytest.param("?user__password__startswith=a", 400, id="filter by another's secret"),
        pytest.param("?nothing=1", 400, id="filter by nothing"),
        *(
            pytest.param(f"?created={day}", 200, id=f"day {day}")
            for day in ("zz", "%00", "0000-00-00", "1969-12-31", "9999-12-31", "2026-02-30", "")
        ),
    ],
)
def test_list_bears_odd_queries(
    list_path: str, query: str, status: int, olga_admin: Client, task: Task, session: Session
) -> None:
    html(olga_admin.get(list_path + query, follow=True), status)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param(f"{USERS}zz/change/", 302, id="malformed user"),
        pytest.param(f"{USERS}%00/delete/", 302, id="NUL as user"),
        pytest.param(f"{USERS}{uuid4()}/history/", 302, id="unknown user"),
        pytest.param(f"{USERS}zz/password/", 404, id="password of a malformed user"),
        pytest.param(f"{SESSIONS}zz/change/", 302, id="malformed session"),
        pytest.param(f"{TASKS}zz/change/", 302, id="malformed task"),
        pytest.param(f"{TASKS}{uuid4()}/delete/", 302, id="unknown task"),
        pytest.param(f"{TASKS}add/?user=zz&completed_at=zz&title=%00", 200, id="preset task"),
        pytest.param(f"{USERS}add/?email=zz&groups=zz", 200, id="preset user"),
        pytest.param(f"{OWNERS}&term=%00", 200, id="NUL as owner"),
        pytest.param(f"{OWNERS}&term={'x' * 1000}", 200, id="owner of 1000 characters"),
        pytest.param(f"{OWNERS}&term=a&page=999", 404, id="page of owners too high"),
        pytest.param("/admin/autocomplete/", 403, id="choices of nothing"),
    ],
)
def test_page_bears_odd_requests(path: str, status: int, olga_admin: Client) -> None:
    html(olga_admin.get(path), status)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param({"_selected_action": "zz"}, 400, id="malformed id"),
        pytest.param({"_selected_action": uuid4()}, 302, id="unknown id"),
        pytest.param({"_selected_action": uuid4(), "action": "zz"}, 302, id="unknown action"),
        pytest.param({"_selected_action": uuid4(), "index": "-9"}, 302, id="unknown form"),
        pytest.param({"select_across": "zz"}, 302, id="nothing selected"),
    ],
)
@pytest.mark.parametrize(
    ("list_path", "action"),
    [
        (USERS, "deactivate"),
        (SESSIONS, "end"),
        (PERSONAL_TOKENS, "end"),
        (IDENTITIES, "delete_selected"),
        (TASKS, "delete_selected"),
    ],
    ids=LISTS,
)
def test_action_bears_odd_requests(
    list_path: str, action: str, data: dict[str, Any], status: int, olga_admin: Client
) -> None:
    response = olga_admin.post(list_path, {"action": action, "index": 0, "post": "yes", **data})

    html(response, status)


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param('"' + r"\000" * 32 + '"', id="NULs"),
        pytest.param('"' + r"\000" + "a" * 31 + '"', id="a NUL"),
        pytest.param("a" * 33, id="too long"),
        pytest.param("", id="empty"),
    ],
)
@pytest.mark.parametrize(("path", "status"), [("/admin/", 302), ("/admin/login/", 200)])
@pytest.mark.django_db
def test_page_bears_odd_session_keys(path: str, status: int, cookie: str) -> None:
    browser = Client(raise_request_exception=False)

    html(browser.get(path, headers={"cookie": f"todo_session={cookie}"}), status)


@pytest.mark.parametrize("path", ["/admin/", USERS, SESSIONS, TASKS])
def test_admin_is_for_operators(path: str, alice: User) -> None:
    response = sign_in(alice).get(path)

    assert response.status_code == 302
    assert response["Location"] == f"/admin/login/?next={path}"


def test_admin_names_itself(olga_admin: Client) -> None:
    page = html(olga_admin.get("/admin/"))

    assert "<title>Operations | Todo admin</title>" in page
    assert "Todo administration" in page


@pytest.mark.parametrize(
    "path", ["admin/css/base.css", "admin/js/actions.js", "admin/js/vendor/select2/select2.full.js"]
)
def test_static_files_are_served_without_debug(path: str) -> None:
    assert settings.DEBUG is False

    response = Client().get(f"/static/{path}")

    assert response.status_code == 200
    assert len(b"".join(response)) > 1000


# --- The cost of lists ------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize(
    ("path", "queries"),
    [
        # A bounded count and the page.
        pytest.param(USERS, 2, id="users"),
        # The oldest user that is searched.
        pytest.param(f"{USERS}?q=row", 3, id="users by prefix"),
        pytest.param(f"{USERS}?state=active", 3, id="users by a filter"),
        pytest.param(f"{USERS}?created=today", 2, id="users by the day"),
        # Whether there is just this address.
        pytest.param(f"{USERS}?q=row0@example.com", 3, id="user by address"),
        pytest.param(SESSIONS, 2, id="sessions"),
        pytest.param(f"{SESSIONS}?q=row0@example.com", 2, id="sessions of a user"),
        pytest.param(f"{SESSIONS}?state=active", 3, id="sessions by a filter"),
        pytest.param(IDENTITIES, 2, id="identities"),
        pytest.param(f"{IDENTITIES}?q=row0@example.com", 2, id="identities of a user"),
        pytest.param(f"{IDENTITIES}?q=row0", 2, id="identity of a subject"),
        pytest.param(PERSONAL_TOKENS, 2, id="personal tokens"),
        pytest.param(f"{PERSONAL_TOKENS}?q=row0@example.com", 2, id="personal tokens of a user"),
        pytest.param(TASKS, 2, id="tasks"),
        # The oldest task that is searched.
        pytest.param(f"{TASKS}?q=task", 3, id="tasks by title"),
        # The owner.
        pytest.param(f"{TASKS}?q=row0@example.com", 3, id="tasks of an owner"),
        pytest.param(f"{TASKS}?q=row0@example.com+task", 3, id="tasks of an owner by title"),
        pytest.param(f"{TASKS}?trash=no", 2, id="tasks outside of the trash"),
        pytest.param(
            f"{TASKS}?state=open&due=none&priority=none&recurring=no&list=any",
            3,
            id="tasks by all filters",
        ),
        pytest.param(
            f"{TASKS}?q=row0@example.com&state=open", 3, id="tasks of an owner by a filter"
        ),
        # The owner of the list.
        pytest.param(f"{TASKS}?list={LIST_ID}&state=open", 3, id="tasks of a list by a filter"),
        pytest.param(f"{TASKS}?created=week", 2, id="tasks by the day"),
        pytest.param(f"{TASKS}?completed=today", 3, id="tasks by the day of completion"),
        pytest.param(TASK_LISTS, 2, id="lists"),
        pytest.param(f"{TASK_LISTS}?q=home", 3, id="lists by name"),
        pytest.param(f"{OWNERS}&term=row", 3, id="owners"),
    ],
)
def test_list_queries(
    path: str,
    queries: int,
    rows: int,
    olga_admin: Client,
    django_assert_num_queries: CountQueries,
) -> None:
    users = [User(email=f"row{n}@example.com") for n in range(rows)]
    User.objects.bulk_create(users)
    lists = [TaskList(user=user, name="Home") for user in users]
    lists[0].pk = LIST_ID
    TaskList.objects.bulk_create(lists)
    Task.objects.bulk_create(Task(user=one.user, title="Task", list=one) for one in lists)
    expires_at = datetime.now(UTC) + timedelta(days=1)
    Session.objects.bulk_create(Session(user=user, expires_at=expires_at) for user in users)
    for user in users:
        personal_token(user)

    Identity.objects.bulk_create(
        Identity(user=user, issuer="https://i", subject=f"row{n}") for n, user in enumerate(users)
    )

    with django_assert_num_queries(SIGN_IN_QUERIES + queries):
        html(olga_admin.get(path))


@pytest.mark.parametrize("path", LISTS.values(), ids=LISTS)
def test_list_counts_no_further_than_its_limit(
    path: str, olga_admin: Client, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    monkeypatch.setattr(todo_project.admin.tables, "COUNT_LIMIT", 4)
    monkeypatch.setattr(todo_project.admin.LargeTableAdmin, "list_per_page", 2)
    User.objects.bulk_create(User(email=f"row{n}@example.com") for n in range(9))
    make_tasks(alice, 9)
    for n in range(9):
        begin_session(alice)
        Identity.objects.create(user=alice, issuer="https://i", subject=f"row{n}")
        personal_token(alice)

    with CaptureQueriesContext(connection) as queries:
        page = html(olga_admin.get(f"{path}?p=2"))

    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 5" in counts[0]
    assert "more than 4" in page
    assert olga_admin.get(f"{path}?p=3").status_code == 302


@pytest.mark.parametrize("path", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("order", ["", "?o=1", "?o=-2.1"])
def test_list_is_in_the_order_of_its_index(
    path: str, order: str, olga_admin: Client, task: Task, session: Session
) -> None:
    with CaptureQueriesContext(connection) as queries:
        page = html(olga_admin.get(path + order))

    assert re.search(
        r'ORDER BY "\w+"\."id" DESC LIMIT|ORDER BY "\w+"\."id" DESC$', queries[-1]["sql"]
    )
    assert "sortable" not in page


@pytest.mark.parametrize(
    ("query", "is_told"),
    [
        ("", False),
        ("?p=1", False),
        ("?p=2", False),
        ("?p=3", True),
        ("?p=100", True),
        ("?p=-1", True),
        ("?q=Task+7&p=2", True),
    ],
)
def test_page_that_is_not_there_is_told(
    query: str, is_told: bool, olga_admin: Client, alice: User
) -> None:
    make_tasks(alice, 150)

    response = olga_admin.get(TASKS + query, follow=True)

    messages = [str(message) for message in response.context["messages"]]
    assert [message.partition(".")[0] for message in messages] == (
        [f"There is no page {query.rpartition('=')[2]}"] if is_told else []
    )


def test_times_tell_their_zone(olga_admin: Client, session: Session, task: Task) -> None:
    """In lists and in forms."""
    created = f"{session.created_at:%Y-%m-%d %H:%M} UTC"

    assert f'field-created_at nowrap">{created}<' in html(olga_admin.get(SESSIONS))
    form = html(olga_admin.get(f"{TASKS}{task.pk}/change/"))
    assert re.search(r'id="id_completed_at_1">.*?class="help">\s*<div>UTC</div>', form, re.DOTALL)


def test_action_takes_no_more_rows_than_its_limit(
    olga_admin: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that stops counting at 1,000 must not let "select all" mean a million."""
    monkeypatch.setattr(todo_project.admin.tables, "ACTION_LIMIT", 3)
    make_tasks(alice, 4)
    everything = {"select_across": "1", "post": "yes"}

    act(olga_admin, TASKS, "delete_selected", alice.tasks.get(title="Task 0"), **everything)
    assert alice.tasks.count() == 4

    act(
        olga_admin, f"{TASKS}?q=2", "delete_selected", alice.tasks.get(title="Task 2"), **everything
    )
    assert set(alice.tasks.values_list("title", flat=True)) == {"Task 0", "Task 1", "Task 3"}


# --- Search -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "found"),
    [
        pytest.param("alice@example.com", {"alice@example.com"}, id="address"),
        pytest.param(" ALICE@Example.com ", {"alice@example.com"}, id="address in capitals"),
        pytest.param(
            "alice@exa", {"alice@example.com", "alice@example.com.au"}, id="prefix with @"
        ),
        pytest.param(
            "AL", {"alice@example.com", "alice@example.com.au", "al_1@example.com"}, id="prefix"
        ),
        pytest.param("al_", {"al_1@example.com"}, id="wildcard"),
        pytest.param(
            "ice@", {"alice@example.com", "alice@example.com.au"}, id="middle, up to the @"
        ),
        pytest.param("ice@example.com", set(), id="middle, with more than the @"),
        pytest.param("com.au", {"alice@example.com.au"}, id="end"),
        pytest.param("OB", {"bob@example.com"}, id="name in capitals"),
        pytest.param(" t. l", {"al_1@example.com"}, id="part of a name"),
        pytest.param("%", set(), id="wildcard of any length"),
    ],
)
def test_user_is_found_by_address_and_name(
    term: str, found: set[str], olga_admin: Client, alice: User, bob: User, make_user: MakeUser
) -> None:
    make_user("alice@example.com.au")
    make_user("al_1@example.com", name="Albert. Left")

    response = olga_admin.get(USERS, {"q": term})

    assert {user.email for user in response.context["cl"].result_list} == found
    owners = olga_admin.get(f"{OWNERS}&{urlencode({'term': term})}").json()["results"]
    assert {owner["text"] for owner in owners} == found


@pytest.mark.parametrize(
    ("term", "found"),
    [
        pytest.param("milk", {"Buy milk", "Drink MILK"}, id="title"),
        pytest.param("buy milk", {"Buy milk"}, id="title of two words"),
        pytest.param("100%", {"100% cotton"}, id="wildcard"),
        pytest.param("bob@example.com", {"Drink MILK"}, id="owner"),
        pytest.param("BOB@example.com milk", {"Drink MILK"}, id="owner and title"),
        pytest.param("bob@example.com buy", set(), id="title of another owner"),
        pytest.param("bob@example", set(), id="part of an owner"),
        pytest.param("bob@example.com alice@example.com", set(), id="two owners"),
    ],
)
def test_task_is_found_by_title_and_owner(
    term: str, found: set[str], olga_admin: Client, task: Task, bob: User
) -> None:
    Task.objects.create(user_id=task.user_id, title="100% cotton")
    Task.objects.create(user_id=bob.pk, title="Drink MILK")

    response = olga_admin.get(TASKS, {"q": term})

    assert {task.title for task in response.context["cl"].result_list} == found


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("task", {"Task 2", "Task 3"}),
        ("alice@example.com task", {f"Task {n}" for n in range(4)}),
        ("3 TÄSK", {"Task 3"}),
        ("3 _", set()),
    ],
    ids=["of all", "of an owner", "[L4] words, folded", "underscore is literal"],
)
def test_title_search_reads_the_newest_tasks(
    term: str,
    found: set[str],
    olga_admin: Client,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(todo_project.admin.tables, "SEARCHED_ROWS", 2)
    make_tasks(alice, 4)

    response = olga_admin.get(TASKS, {"q": term})

    assert {task.title for task in response.context["cl"].result_list} == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=open", {"today", "late", "soon", "later"}),
        ("state=completed", {"done"}),
        ("due=overdue", {"late"}),
        ("due=today", {"today"}),
        ("due=week", {"today", "soon"}),
        ("due=none", {"done"}),
        ("priority=urgent", {"soon"}),
        ("priority=none", {"today", "late", "later", "done"}),
        ("list=inbox", {"late", "soon", "later", "done"}),
        ("list=any", {"today"}),
        ("completed=today", {"done"}),
        ("completed=2026-01-02", set()),
        ("created=today", {"today", "late", "soon", "later", "done"}),
        ("created=2026-01-02", set()),
        (f"list={LIST_ID}", {"today"}),
        ("list=2d23e0ee-4b23-4396-acf7-76094ce9e290", set()),
        ("recurring=yes", {"later"}),
        ("recurring=no", {"today", "late", "soon", "done"}),
        ("due=week&priority=urgent&state=open", {"soon"}),
        (
            "due=x&priority=9&list=%00&state=&recurring=zz",
            {"today", "late", "soon", "later", "done"},
        ),
    ],
)
def test_tasks_are_filtered(query: str, found: set[str], olga_admin: Client, alice: User) -> None:
    """Days are those of UTC; what is no choice filters nothing."""
    days = {"today": 0, "late": -1, "soon": 6, "later": 7, "done": None}
    day = datetime.now(UTC).date()
    fields: dict[str, dict[str, Any]] = {
        "today": {"list": TaskList.objects.create(id=LIST_ID, user=alice, name="Home")},
        "soon": {"priority": PRIORITIES.index("urgent")},
        "later": {"recurrence": "FREQ=DAILY"},
        "done": {"completed_at": timezone.now()},
    }
    Task.objects.bulk_create(
        Task(
            user=alice,
            title=title,
            due_on=None if number is None else day + timedelta(days=number),
            **fields.get(title, {}),
        )
        for title, number in days.items()
    )

    response = olga_admin.get(f"{TASKS}?{query}")

    assert response.status_code == 200
    assert {task.title for task in response.context["cl"].result_list} == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=open", {"Task 2", "Task 3"}),
        ("due=none", {"Task 2", "Task 3"}),
        ("priority=none", {"Task 2", "Task 3"}),
        ("list=any", {"Task 2", "Task 3"}),
        ("recurring=no", {"Task 2", "Task 3"}),
        ("trash=no", {f"Task {n}" for n in range(4)}),
        ("state=open&trash=no", {"Task 2", "Task 3"}),
        ("state=open&q=alice@example.com", {f"Task {n}" for n in range(4)}),
        (f"state=open&list={LIST_ID}", {f"Task {n}" for n in range(4)}),
        (f"q=task&list={LIST_ID}", {f"Task {n}" for n in range(4)}),
    ],
)
def test_filter_reads_the_newest_tasks(
    query: str,
    found: set[str],
    olga_admin: Client,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or all of a person or of a list; what lies in the trash has an index."""
    monkeypatch.setattr(todo_project.admin.tables, "SEARCHED_ROWS", 2)
    make_tasks(alice, 4)
    Task.objects.update(list=TaskList.objects.create(id=LIST_ID, user=alice, name="Home"))

    response = olga_admin.get(f"{TASKS}?{query}")

    assert {task.title for task in response.context["cl"].result_list} == found


def test_filter_reads_the_newest_tasks_of_the_chosen_days(
    olga_admin: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there are as many newer ones as it reads."""
    monkeypatch.setattr(todo_project.admin.tables, "SEARCHED_ROWS", 2)
    for hour in range(3):
        moment = datetime(2026, 1, 2, hour, tzinfo=UTC)
        old = uuid7(nanoseconds=int(moment.timestamp()) * 10**9)
        Task.objects.create(id=old, user=alice, title=f"Old {hour}")
    make_tasks(alice, 4)

    response = olga_admin.get(TASKS, {"created": "2026-01-02", "state": "open"})

    shown = [task.title for task in response.context["cl"].result_list]
    assert shown == ["Old 2", "Old 1"]


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("HOME", {"Home", "Café at home"}),
        ("home cafe", {"Café at home"}),
        ("alice@example.com", {"Home"}),
        ("%", set()),
    ],
)
def test_lists_are_found_by_name_and_owner(
    term: str, found: set[str], olga_admin: Client, alice: User, bob: User
) -> None:
    TaskList.objects.create(user=alice, name="Home")
    TaskList.objects.create(user=bob, name="Café at home")
    TaskList.objects.create(user=bob, name="Garden")

    response = olga_admin.get(TASK_LISTS, {"q": term})

    assert {row.name for row in response.context["cl"].result_list} == found


def test_list_leads_to_its_tasks(olga_admin: Client, alice: User) -> None:
    """From the list of lists, and from its own page."""
    row = TaskList.objects.create(user=alice, name="Home")
    Task.objects.create(user=alice, title="Task", list=row)
    link = f'href="{TASKS}?list={row.pk}"'

    assert link in html(olga_admin.get(TASK_LISTS))
    assert link in html(olga_admin.get(f"{TASK_LISTS}{row.pk}/change/"))
    page = html(olga_admin.get(f"{TASKS}?list={row.pk}"))
    assert "In this list" in page
    assert "1 task" in page


def test_personal_tokens_are_found_by_the_address(
    olga_admin: Client, token: PersonalToken, bob: User
) -> None:
    personal_token(bob)

    response = olga_admin.get(PERSONAL_TOKENS, {"q": "ALICE@example.com"})

    assert list(response.context["cl"].result_list) == [token]


def test_sessions_are_found_by_the_address(olga_admin: Client, session: Session, bob: User) -> None:
    begin_session(bob)

    response = olga_admin.get(SESSIONS, {"q": "ALICE@example.com"})

    assert list(response.context["cl"].result_list) == [session]


@pytest.mark.parametrize("path", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("spell", [str.lower, str.upper], ids=["lower", "capitals"])
def test_row_is_found_by_its_id(
    spell: Callable[[str], str],
    path: str,
    olga_admin: Client,
    session: Session,
    token: PersonalToken,
    task: Task,
) -> None:
    """[B5] As the log or a client has it."""
    rows = {USERS: task.user, SESSIONS: session, PERSONAL_TOKENS: token, TASKS: task}
    rows[IDENTITIES] = Identity.objects.create(user=task.user, issuer="https://i", subject="ada")
    row = rows[path]
    olga = User.objects.get(email="olga@example.com")
    begin_session(olga)
    personal_token(olga)
    Task.objects.create(user_id=task.user_id, title=str(task.pk))

    response = olga_admin.get(path, {"q": f" {spell(str(row.pk))}"})

    assert list(response.context["cl"].result_list) == [row]


# --- Users ------------------------------------------------------------------------------------


def test_add_user(olga: User, olga_admin: Client) -> None:
    """[U1] The address in lower case, the password hashed, and no rights."""
    form = {"email": "Ada@Example.COM", "name": "Ada", "password1": PASSWORD, "password2": PASSWORD}

    response = olga_admin.post(f"{USERS}add/", form)

    assert_saved(response)
    ada = User.objects.get(email="ada@example.com")
    assert ada.check_password(PASSWORD)
    assert ada.password.startswith("argon2$argon2id$")
    assert (ada.name, ada.is_active, ada.is_staff, ada.is_superuser) == ("Ada", True, False, False)
    assert logged(olga) == [(ADDITION, str(ada.pk), "Added.")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"email": "ALICE@example.com"}, "This e-mail address is taken.", id="taken"),
        pytest.param({"email": "\u212aelvin@example.com"}, "Only ASCII letters", id="Kelvin sign"),
        pytest.param({"email": "ada"}, "Enter a valid email address.", id="no address"),
        pytest.param({"email": "a\x00@b.de"}, "Null characters are not allowed.", id="NUL"),
        pytest.param({"name": "x" * 151}, "at most 150 characters", id="long name"),
        pytest.param({"password2": "other"}, "didn’t match", id="different passwords"),
        pytest.param({"password1": "x7!kq", "password2": "x7!kq"}, "too short", id="short"),
        pytest.param(
            {"password1": "x7" * 65, "password2": "x7" * 65}, "at most 128 characters", id="long"
        ),
        pytest.param(
            {"password1": "ada@example.com", "password2": "ada@example.com"},
            "similar",
            id="similar",
        ),
    ],
)
def test_add_user_tells_what_is_wrong(
    changes: dict[str, str], message: str, olga_admin: Client, alice: User
) -> None:
    form = {"email": "ada@example.com", "name": "", "password1": PASSWORD, "password2": PASSWORD}

    page = html(olga_admin.post(f"{USERS}add/", {**form, **changes}))

    assert message in page
    assert User.objects.count() == 2


def test_change_user(olga: User, olga_admin: Client, alice: User) -> None:
    form = profile(alice, email="Alicia@Example.com", name="Alicia", is_staff="on")

    response = olga_admin.post(f"{USERS}{alice.pk}/change/", form)

    assert_saved(response)
    alice.refresh_from_db()
    assert (alice.email, alice.name, alice.is_staff) == ("alicia@example.com", "Alicia", True)
    assert logged(olga) == [(CHANGE, str(alice.pk), "Changed Email, Name and Operator.")]


@pytest.mark.parametrize(
    ("was_verified", "changes", "expected"),
    [
        (False, {"email_verified": "on"}, ("alice@example.com", True, "new@example.com")),
        (True, {"email_verified": None}, ("alice@example.com", False, "new@example.com")),
        (True, {"name": "Alicia"}, ("alice@example.com", True, "new@example.com")),
        # The tick that was there was for the other address.
        (True, {"email": "by-olga@example.com"}, ("by-olga@example.com", False, None)),
        (
            False,
            {"email": "by-olga@example.com", "email_verified": "on"},
            ("by-olga@example.com", True, None),
        ),
        (False, {"email": "by-olga@example.com"}, ("by-olga@example.com", False, None)),
        (True, {"email": ""}, (None, False, None)),
    ],
    ids=["ticked", "unticked", "left", "other", "other, ticked", "other, left", "cleared"],
)
def test_operator_says_whether_an_address_is_verified(
    was_verified: bool,
    changes: dict[str, str | None],
    expected: tuple[str | None, bool, str | None],
    olga_admin: Client,
    alice: User,
) -> None:
    """[A7]"""
    alice.email_verified, alice.pending_email = was_verified, "new@example.com"
    alice.save()

    assert_saved(olga_admin.post(f"{USERS}{alice.pk}/change/", profile(alice, **changes)))

    alice.refresh_from_db()
    assert (alice.email, alice.email_verified, alice.pending_email) == expected


def test_no_address_is_not_verified(olga_admin: Client, alice: User) -> None:
    """[A7]"""
    form = profile(alice, email="", email_verified="on")

    page = html(olga_admin.post(f"{USERS}{alice.pk}/change/", form))

    assert "errorlist" in page
    assert User.objects.get(pk=alice.pk).email == "alice@example.com"


@pytest.mark.parametrize(("ticked", "is_verified"), [({}, False), ({"email_verified": "on"}, True)])
def test_operator_makes_users_with_addresses_that_count(
    ticked: dict[str, str], is_verified: bool, olga_admin: Client
) -> None:
    """[A7]"""
    form = {"email": "ada@example.com", "password1": PASSWORD, "password2": PASSWORD, **ticked}

    assert_saved(olga_admin.post(f"{USERS}add/", form))

    assert User.objects.get(email="ada@example.com").email_verified is is_verified


@pytest.mark.parametrize(
    ("name", "shown"), [("Alice", "Alice (no address)"), ("", "{pk} (no address)")]
)
def test_user_without_an_address_is_shown_and_found(
    name: str, shown: str, olga_admin: Client, alice: User, session: Session, task: Task, bob: User
) -> None:
    """[A7] What is theirs is found by their id."""
    User.objects.filter(pk=alice.pk).update(email=None, name=name)
    begin_session(bob)
    Task.objects.create(user=bob, title="x")

    page = html(olga_admin.get(USERS))
    user_page = html(olga_admin.get(f"{USERS}{alice.pk}/change/"))

    assert f">{shown.format(pk=alice.pk)}</a>" in page
    for path, row in ((SESSIONS, session), (TASKS, task)):
        assert f"{path}?q={alice.pk}" in user_page
        response = olga_admin.get(path, {"q": str(alice.pk)})
        assert list(response.context["cl"].result_list) == [row]


def test_change_user_refuses_a_taken_address(olga_admin: Client, alice: User, bob: User) -> None:
    form = profile(alice, email="BOB@example.com")

    page = html(olga_admin.post(f"{USERS}{alice.pk}/change/", form))

    assert "This e-mail address is taken." in page
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"


def test_change_user_writes_only_what_was_changed(olga_admin: Client, alice: User) -> None:
    """[T4] A password that is set between the form's reading and its writing survives."""
    with CaptureQueriesContext(connection) as queries:
        response = olga_admin.post(f"{USERS}{alice.pk}/change/", profile(alice, name="Alicia"))

    assert_saved(response)
    written = [
        query["sql"] for query in queries if query["sql"].startswith('UPDATE "accounts_user"')
    ]
    assert len(written) == 1
    assert written[0].startswith("""UPDATE "accounts_user" SET "name" = 'Alicia' WHERE""")


def test_operators_password_change_ends_the_sessions(
    olga: User, olga_admin: Client, alice: User, alice_client: ApiClient
) -> None:
    """[S3]"""
    data_of(alice_client.get(ME))
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}

    response = olga_admin.post(f"{USERS}{alice.pk}/password/", {**form, "set-password": "1"})

    assert_saved(response)
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")
    alice.refresh_from_db()
    assert alice.check_password(NEW_PASSWORD)
    assert logged(olga) == [(CHANGE, str(alice.pk), "Changed password.")]


def test_password_form_only_sets_a_password(
    olga_admin: Client, alice: User, alice_client: ApiClient
) -> None:
    """There is no other way to sign in for which one could be taken away."""
    path = f"{USERS}{alice.pk}/password/"
    page = html(olga_admin.get(path))
    assert not re.search(r"disable|single sign|ldap|usable_password\b|unset", page, re.IGNORECASE)
    assert page.count('type="password"') == 2
    assert "required" in page

    page = html(olga_admin.post(path, {"usable_password": "false", "unset-password": "1"}))

    assert page.count("This field is required.") == 2
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    data_of(alice_client.get(ME))


def test_clearing_the_active_checkbox_ends_the_sessions(
    olga_admin: Client, alice: User, alice_client: ApiClient
) -> None:
    """[S3]"""
    data_of(alice_client.get(ME))

    response = olga_admin.post(f"{USERS}{alice.pk}/change/", profile(alice, is_active=None))

    assert_saved(response)
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")
    assert not alice.sessions.live().exists()


def test_deactivate_ends_the_sessions(
    olga: User, olga_admin: Client, alice: User, bob: User, alice_client: ApiClient
) -> None:
    """[S3] Each is logged once; those that are not active anyway are left alone, as is oneself."""
    data_of(alice_client.get(ME))
    User.objects.filter(pk=bob.pk).update(is_active=False)

    response = act(olga_admin, USERS, "deactivate", olga, alice, bob)

    assert_saved(response)
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")
    assert list(User.objects.filter(is_active=True)) == [olga]
    assert not Session.objects.live().exists()
    assert logged(olga) == [(CHANGE, str(alice.pk), "Deactivated.")]


@pytest.mark.parametrize(
    ("operator", "action", "selected", "message"),
    [
        ("olga", "deactivate", ["alice"], "Deactivated 1 user."),
        ("olga", "deactivate", ["alice", "bob"], "Deactivated 2 users."),
        (
            *("olga", "deactivate", ["alice", "ina", "olga"]),
            "Deactivated 1 user. Left alone: 1 (inactive already), 1 (your own account).",
        ),
        (
            *("olaf", "deactivate", ["olga"]),
            "Deactivated 0 users. Left alone: 1 (operators, whom only superusers manage).",
        ),
        ("olga", "activate", ["ina"], "Activated 1 user."),
        (
            *("olga", "activate", ["alice", "bob"]),
            "Activated 0 users. Left alone: 2 (active already).",
        ),
    ],
)
def test_action_tells_what_it_did(
    operator: str,
    action: str,
    selected: list[str],
    message: str,
    alice: User,
    bob: User,
    olga: User,
    olaf: User,
    make_user: MakeUser,
) -> None:
    people = {"alice": alice, "bob": bob, "olga": olga, "olaf": olaf}
    people["ina"] = make_user("ina@example.com", is_active=False)
    browser = sign_in(people[operator])

    response = act(browser, USERS, action, *(people[name] for name in selected))

    assert told(browser, response) == [message]


def test_activate_lets_sign_in_again(
    olga: User, olga_admin: Client, alice: User, bob: User, client: ApiClient
) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)

    response = act(olga_admin, USERS, "activate", alice, bob)

    assert_saved(response)
    data_of(client.post("/api/auth/token", {"email": alice.email, "password": PASSWORD}))
    assert logged(olga) == [(CHANGE, str(alice.pk), "Activated.")]


@pytest.mark.parametrize("count", [2, 20])
def test_deactivate_queries(
    count: int, olga_admin: Client, make_user: MakeUser, django_assert_num_queries: CountQueries
) -> None:
    users = [make_user(f"row{n}@example.com") for n in range(count)]
    for action in ("deactivate", "activate"):
        act(olga_admin, USERS, action, users[0])  # Django remembers content types

    # The list's count; the users, and again in deactivate(); users, sessions, identities and tokens
    # written; the log; two savepoints made and released.
    with django_assert_num_queries(SIGN_IN_QUERIES + 12):
        assert_saved(act(olga_admin, USERS, "deactivate", *users))


# --- The trash --------------------------------------------------------------------------------


def test_trash_can_be_listed(olga_admin: Client, alice: User) -> None:
    """[D1] Beside everything, which is listed where nothing is chosen."""
    make_tasks(alice, 2)
    Task.objects.filter(title="Task 0").update(deleted_at=Now())

    pages = {choice: html(olga_admin.get(f"{TASKS}{choice}")) for choice in ("", *TRASH)}

    shown = {choice: sorted(set(re.findall(r"Task \d", page))) for choice, page in pages.items()}
    both = ["Task 0", "Task 1"]
    assert shown == {"": both, "?trash=yes": ["Task 0"], "?trash=no": ["Task 1"], "?trash=x": both}


TRASH = ("?trash=yes", "?trash=no", "?trash=x")


@pytest.mark.parametrize(
    ("action", "moved", "left", "told_so", "entry"),
    [
        pytest.param(
            "move_to_trash",
            "Task 1",
            "Task 0",
            "Moved to the trash: 1 task. Left alone: 1 (in the trash already).",
            "Moved to the trash.",
            id="move",
        ),
        pytest.param(
            "restore",
            "Task 0",
            "Task 1",
            "Restored 1 task. Left alone: 1 (not in the trash).",
            "Restored.",
            id="restore",
        ),
    ],
)
def test_tasks_move_into_the_trash_and_back(
    action: str,
    moved: str,
    left: str,
    told_so: str,
    entry: str,
    olga: User,
    olga_admin: Client,
    alice: User,
) -> None:
    """[D1] What is there already stays as it is."""
    make_tasks(alice, 2)
    Task.objects.filter(title="Task 0").update(deleted_at=Now())
    before = {task.title: task for task in Task.objects.all()}

    response = act(olga_admin, TASKS, action, *before.values())

    after = {task.title: task for task in Task.objects.all()}
    assert told(olga_admin, response) == [told_so]
    assert (after[moved].deleted_at is None) != (before[moved].deleted_at is None)
    assert after[moved].updated_at == before[moved].updated_at
    assert after[left].deleted_at == before[left].deleted_at
    assert logged(olga) == [(CHANGE, str(after[moved].pk), entry)]


@pytest.mark.parametrize("at_once", [True, False], ids=["in one go", "one by one"])
def test_subtasks_that_are_restored_with_their_task_stay_its_own(
    at_once: bool, olga_admin: Client, alice: User
) -> None:
    """[O4] Also where the database comes to them before it."""
    family: list[Task] = []
    for level in range(3):
        parent = family[-1] if family else None
        family.append(Task.objects.create(user=alice, title=f"Level {level}", parent=parent))
    for task in [family[0]] if at_once else reversed(family):
        Task.objects.filter(pk=task.pk).update(deleted_at=Now())

    response = act(olga_admin, TASKS, "restore", *family)

    assert told(olga_admin, response) == ["Restored 3 tasks."]
    restored = Task.objects.filter(deleted_at=None).order_by("title")
    assert list(restored.values_list("parent__title", flat=True)) == [None, "Level 0", "Level 1"]


def test_subtasks_that_are_trashed_with_their_task_come_back_with_it(
    olga_admin: Client, alice: User
) -> None:
    """[O4] Though they were selected as well."""
    parent = Task.objects.create(user=alice, title="Parent")
    child = Task.objects.create(user=alice, title="Child", parent=parent)
    act(olga_admin, TASKS, "move_to_trash", parent, child)

    act(olga_admin, TASKS, "restore", parent)

    assert Task.objects.filter(deleted_at=None, parent=parent).count() == 1


@pytest.mark.parametrize("count", [2, 20])
def test_trash_queries(
    count: int, olga_admin: Client, make_user: MakeUser, django_assert_num_queries: CountQueries
) -> None:
    for n in range(count):
        make_tasks(make_user(f"row{n}@example.com"), 1)
    tasks = list(Task.objects.all())
    for action in ("move_to_trash", "restore"):
        act(olga_admin, TASKS, action, tasks[0])  # Django remembers content types

    # The list's count; the owners and their clocks; the tasks, read and written; the log; a
    # savepoint made and released.
    with django_assert_num_queries(SIGN_IN_QUERIES + 8):
        assert_saved(act(olga_admin, TASKS, "move_to_trash", *tasks))
    assert Task.objects.filter(deleted_at=None).count() == 0


@pytest.mark.parametrize("action", ["move_to_trash", "restore"])
def test_trash_is_for_whoever_may_change_tasks(
    action: str, olaf: User, olaf_admin: Client, task: Task
) -> None:
    olaf.user_permissions.set(Permission.objects.filter(codename="view_task"))
    Task.objects.update(deleted_at=None if action == "move_to_trash" else Now())
    before = Task.objects.values().get()

    act(olaf_admin, TASKS, action, task)

    assert Task.objects.values().get() == before


def test_nobody_counts_the_whole_trash(olga_admin: Client, task: Task) -> None:
    """Django's facets would, for every page that asks for them."""
    with CaptureQueriesContext(connection) as captured:
        html(olga_admin.get(f"{TASKS}?_facets=True"))

    assert not any("FILTER" in query["sql"] for query in captured)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        pytest.param(f"{TASKS}{{task}}/change/", {"title": "x"}, id="change"),
        pytest.param(f"{TASKS}{{task}}/delete/", {"post": "yes"}, id="delete"),
        *(
            pytest.param(TASKS, {"action": action, "post": "yes"}, id=action)
            for action in ("move_to_trash", "restore", "delete_selected")
        ),
    ],
)
def test_tasks_are_written_under_their_owners_clock(
    path: str, form: dict[str, str], olga_admin: Client, task: Task
) -> None:
    """[V1] Before their rows: as the API does, which would else wait for admin for ever."""
    Task.objects.update(deleted_at=Now() if form.get("action") == "restore" else None)
    whole = {**task_form(task), **form, "_selected_action": str(task.pk)}

    with CaptureQueriesContext(connection) as captured:
        assert_saved(olga_admin.post(path.format(task=task.pk), whole))

    statements = [query["sql"] for query in captured]
    locked = [n for n, sql in enumerate(statements) if "todo_project_clock" in sql]
    written = [
        n
        for n, sql in enumerate(statements)
        if re.match(r'(UPDATE|DELETE FROM) "tasks_task"|SELECT .*"tasks_task".* FOR ', sql)
    ]
    assert len(locked) == 1
    assert locked[0] < written[0]


# --- The deletion of users --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "told"), [(3, "3 tasks"), (3_000, "more than 1,000 tasks")], ids=["few", "many"]
)
def test_delete_user_with_tasks(
    count: int,
    told: str,
    olga: User,
    olga_admin: Client,
    alice: User,
    bob: User,
    django_assert_num_queries: CountQueries,
) -> None:
    make_tasks(alice, count)
    make_tasks(bob, 1)
    begin_session(alice)
    personal_token(alice)
    path = f"{USERS}{alice.pk}/delete/"
    ContentType.objects.get_for_model(User)  # Django remembers it

    # The user; whether they acted as an operator; how many go of each kind.
    with django_assert_num_queries(SIGN_IN_QUERIES + 7):
        page = html(olga_admin.get(path))
    assert f"for good: 1 session, 1 personal token and {told}." in page
    assert "Task 1" not in page

    # The same; the log; the clock; groups, permissions and log entries of the user; the user; a
    # savepoint made and released.
    with django_assert_num_queries(SIGN_IN_QUERIES + 15):
        assert_saved(olga_admin.post(path, {"post": "yes"}))
    assert not User.objects.filter(pk=alice.pk).exists()
    assert list(Task.objects.values_list("user", flat=True)) == [bob.pk]
    assert not Session.objects.exists()
    assert logged(olga) == [(DELETION, str(alice.pk), "")]


def test_delete_user_who_has_nothing(olga_admin: Client, alice: User) -> None:
    page = html(olga_admin.get(f"{USERS}{alice.pk}/delete/"))

    assert "for good: nothing else." in page


@pytest.mark.parametrize(
    ("selected", "told"),
    [(["Level 0"], "2 subtasks"), (["Level 0", "Level 1"], "1 subtask"), (["Level 2"], "0")],
    ids=["task", "task and its subtask", "lowest"],
)
def test_delete_task_tells_of_its_subtasks(
    selected: list[str], told: str, olga_admin: Client, alice: User
) -> None:
    """[O4] The database deletes them, and Django doesn't know."""
    family: list[Task] = []
    for level in range(3):
        parent = family[-1] if family else None
        family.append(Task.objects.create(user=alice, title=f"Level {level}", parent=parent))
    tasks = [task for task in family if task.title in selected]

    page = html(act(olga_admin, TASKS, "delete_selected", *tasks))

    assert f"Deleted for good, not into the trash; with {told}" in page
    if len(tasks) == 1:
        assert f"with {told}" in html(olga_admin.get(f"{TASKS}{tasks[0].pk}/delete/"))


def test_delete_list_tells_of_its_tasks(olga_admin: Client, alice: User) -> None:
    """[O2]"""
    row = TaskList.objects.create(user=alice, name="Home")
    Task.objects.bulk_create(Task(user=alice, title="Task", list=row) for _ in range(3))

    page = html(olga_admin.get(f"{TASK_LISTS}{row.pk}/delete/"))

    assert "Deleted for good, not into the trash; with 3 tasks." in page


def test_delete_selected_users(olga: User, olga_admin: Client, alice: User, bob: User) -> None:
    make_tasks(alice, 2)
    make_tasks(bob, 2)

    page = html(act(olga_admin, USERS, "delete_selected", alice, bob))
    assert "4 tasks" in page
    assert User.objects.count() == 3

    assert_saved(act(olga_admin, USERS, "delete_selected", alice, bob, post="yes"))
    assert list(User.objects.all()) == [olga]
    assert not Task.objects.exists()
    assert {entry[:2] for entry in logged(olga)} == {
        (DELETION, str(alice.pk)),
        (DELETION, str(bob.pk)),
    }


def test_operator_who_acted_is_not_deleted(
    olga_admin: Client, olaf: User, olaf_admin: Client, task: Task
) -> None:
    """What they did would go from the admin log with them."""
    assert_saved(olaf_admin.post(f"{TASKS}{task.pk}/change/", task_form(task, title="Buy oats")))
    path = f"{USERS}{olaf.pk}/delete/"

    assert "admin log" in html(olga_admin.get(path))
    html(olga_admin.post(path, {"post": "yes"}))
    html(act(olga_admin, USERS, "delete_selected", olaf, post="yes"))

    assert len(logged(olaf)) == 1


# --- Rights -----------------------------------------------------------------------------------

NEW_PASSWORDS = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "set-password": "1"}
EVERY_RIGHT = {"is_staff": "on", "is_superuser": "on"}


@pytest.fixture
def cast(olga: User, olaf: User, alice: User, make_user: MakeUser) -> dict[str, Any]:
    """Ids by name. Otto and Oleg are operators, too; Oleg was deactivated.

    Olaf has even the permission to write groups, and is a member of one.
    """
    otto = make_user("otto@example.com", is_staff=True)
    oleg = make_user("oleg@example.com", is_staff=True, is_active=False)
    group = Group.objects.create(name="Helpers")
    olaf.groups.add(group)
    olaf.user_permissions.add(*Permission.objects.filter(content_type__app_label="auth"))
    permission = Permission.objects.get(codename="delete_logentry")
    people = {"olga": olga, "olaf": olaf, "otto": otto, "oleg": oleg, "alice": alice}
    return {
        name: row.pk for name, row in {**people, "group": group, "permission": permission}.items()
    }


def rights() -> list[Any]:
    """What an operator who is no superuser must not be able to change."""
    operators = User.objects.filter(email__startswith="o").order_by("email")
    return [
        list(operators.values("email", "name", "password", "is_active")),
        set(User.objects.filter(is_staff=True).values_list("email", flat=True)),
        set(User.objects.filter(is_superuser=True).values_list("email", flat=True)),
        set(User.user_permissions.through.objects.values_list("user", "permission")),
        set(User.groups.through.objects.values_list("user", "group")),
        set(Group.permissions.through.objects.values_list("group", "permission")),
        set(Group.objects.values_list("name", flat=True)),
    ]


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        pytest.param(f"{USERS}{{alice}}/change/", EVERY_RIGHT, 302, id="raise another"),
        pytest.param(
            f"{USERS}{{alice}}/change/",
            {"groups": "{group}", "user_permissions": "{permission}"},
            302,
            id="give groups and permissions",
        ),
        pytest.param(f"{USERS}{{olaf}}/change/", EVERY_RIGHT, 403, id="raise oneself"),
        pytest.param(f"{USERS}{{olaf}}/password/", NEW_PASSWORDS, 403, id="own password"),
        pytest.param(f"{USERS}{{olga}}/change/", {"is_active": ""}, 403, id="change a superuser"),
        pytest.param(f"{USERS}{{olga}}/password/", NEW_PASSWORDS, 403, id="superuser's password"),
        pytest.param(f"{USERS}{{olga}}/delete/", {"post": "yes"}, 403, id="delete a superuser"),
        pytest.param(f"{USERS}{{otto}}/change/", EVERY_RIGHT, 403, id="change an operator"),
        pytest.param(f"{USERS}{{otto}}/password/", NEW_PASSWORDS, 403, id="operator's password"),
        pytest.param(f"{USERS}{{otto}}/delete/", {"post": "yes"}, 403, id="delete an operator"),
        pytest.param(
            f"{USERS}add/",
            {**EVERY_RIGHT, **NEW_PASSWORDS, "email": "new@example.com"},
            302,
            id="add a superuser",
        ),
        pytest.param(
            USERS,
            {"action": "delete_selected", "_selected_action": "{olga}", "post": "yes"},
            403,
            id="delete a selected superuser",
        ),
        pytest.param(
            USERS,
            {"action": "deactivate", "_selected_action": "{olga}", "index": "0"},
            302,
            id="deactivate a superuser",
        ),
        pytest.param(
            USERS,
            {"action": "deactivate", "_selected_action": "{otto}", "index": "0"},
            302,
            id="deactivate an operator",
        ),
        pytest.param(
            USERS,
            {"action": "activate", "_selected_action": "{oleg}", "index": "0"},
            302,
            id="activate an operator",
        ),
        pytest.param(
            f"{GROUPS}{{group}}/change/",
            {"name": "Helpers", "permissions": "{permission}"},
            403,
            id="give a group permissions",
        ),
        pytest.param(f"{GROUPS}add/", {"name": "New"}, 403, id="add a group"),
        pytest.param(f"{GROUPS}{{group}}/delete/", {"post": "yes"}, 403, id="delete a group"),
    ],
)
def test_operator_gains_no_rights(
    path: str, form: dict[str, str], status: int, olaf_admin: Client, cast: dict[str, Any]
) -> None:
    before = rights()
    form = {"email": "alice@example.com", "is_active": "on", **form}

    response = olaf_admin.post(
        path.format(**cast), {name: value.format(**cast) for name, value in form.items()}
    )

    assert response.status_code == status
    assert rights() == before


@pytest.mark.parametrize("name", ["olga", "otto"])
def test_operator_sees_other_operators_but_no_way_in(
    name: str, olaf_admin: Client, cast: dict[str, Any]
) -> None:
    page = html(olaf_admin.get(f"{USERS}{cast[name]}/change/"))

    assert f"{name}@example.com" in page
    assert "argon2" not in page
    assert "password/" not in page.replace("/admin/password_change/", "")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param(USERS, 200, id="users"),
        pytest.param(f"{USERS}{{user}}/change/", 200, id="user"),
        pytest.param(f"{USERS}{{user}}/password/", 200, id="user's password"),
        pytest.param(f"{USERS}{{user}}/delete/", 200, id="delete user"),
        pytest.param(SESSIONS, 200, id="sessions"),
        pytest.param(PERSONAL_TOKENS, 200, id="personal tokens"),
        pytest.param(f"{TASKS}{{task}}/change/", 200, id="task"),
        pytest.param(f"{OWNERS}&term=a", 200, id="owners"),
        pytest.param(GROUPS, 403, id="groups"),
    ],
)
def test_operator_does_the_daily_work(
    path: str, status: int, olaf_admin: Client, task: Task
) -> None:
    html(olaf_admin.get(path.format(user=task.user_id, task=task.pk)), status)


@pytest.mark.parametrize(
    "path", [*LISTS.values(), GROUPS, f"{TASKS}{{task}}/change/", f"{OWNERS}&term=a"]
)
def test_operator_without_permissions_sees_nothing(
    path: str, make_user: MakeUser, task: Task
) -> None:
    browser = sign_in(make_user("otto@example.com", is_staff=True))

    html(browser.get(path.format(task=task.pk)), 403)


# --- Sessions ---------------------------------------------------------------------------------


def test_end_sessions(
    olga: User, olga_admin: Client, alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[S3]"""
    session = alice.sessions.get()
    data_of(alice_client.get(ME))

    first = told(olga_admin, act(olga_admin, SESSIONS, "end", session))
    both = told(olga_admin, act(olga_admin, SESSIONS, "end", session, begun_by(alice)))
    again = told(olga_admin, act(olga_admin, SESSIONS, "end", session))

    assert (first, both, again) == (
        ["Ended 1 session."],
        ["Ended 1 session. Left alone: 1 (ended already)."],
        ["Ended 0 sessions. Left alone: 1 (ended already)."],
    )
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")
    data_of(bob_client.get(ME))
    other = alice.sessions.exclude(pk=session.pk).get()
    assert logged(olga) == [(CHANGE, str(pk), "Ended.") for pk in (session.pk, other.pk)]


@pytest.mark.parametrize(
    ("fields", "state", "has_button"),
    [
        ({}, "Active", True),
        ({"ended_at": NOW_AT}, "Ended", False),
        ({"expires_at": NOW_AT}, "Expired", True),
        ({"expires_at": NOW_AT, "ended_at": NOW_AT}, "Ended", False),
    ],
    ids=["active", "ended", "expired", "ended, then expired"],
)
def test_session_tells_its_state(
    fields: dict[str, Any], state: str, has_button: bool, olga_admin: Client, session: Session
) -> None:
    """By a tick in the list, and as a word where there is none; each filter finds its own."""
    Session.objects.update(**fields)

    row = html(olga_admin.get(SESSIONS)).partition('class="field-active">')[2].partition("</td>")[0]
    page = html(olga_admin.get(f"{SESSIONS}{session.pk}/change/"))

    assert row == state or (state == "Active" and 'alt="Yes"' in row)
    assert f'<div class="readonly">{state}</div>' in page
    assert (f"{SESSIONS}{session.pk}/end/" in page) == has_button
    found = [
        name
        for name in ("active", "ended", "expired")
        if olga_admin.get(SESSIONS, {"state": name}).context["cl"].result_list
    ]
    assert found == [state.lower()]


def test_session_is_shown_as_people_know_it(
    olga_admin: Client, session: Session, alice: User
) -> None:
    """By whose it is and where it began; its id stands on its page alone, its times alike."""
    told = "Mozilla/5.0 (X11; Linux) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131 Safari/537"
    since = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    Session.objects.update(
        user_agent=told, address="203.0.113.7", created_at=since, rotated_at=since
    )

    row = html(olga_admin.get(SESSIONS)).partition("<tbody>")[2]
    page = html(olga_admin.get(f"{SESSIONS}{session.pk}/change/"))

    assert re.search(rf'<th[^>]*><a href="{SESSIONS}{session.pk}/change/">{alice.email}</a>', row)
    assert '<td class="field-device">(X11; Linux) Chrome/131 Safari/537</td>' in row
    assert f">{session.pk}<" not in row
    assert "alice@example.com at 203.0.113.7 since 2026-01-02 03:04 UTC" in page
    assert told in page
    assert f">{session.pk}<" in page
    assert page.count(">2026-01-02 03:04 UTC</div>") == 2


def test_session_is_ended_on_its_page(
    olga: User, olga_admin: Client, alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[S3] Once."""
    session = alice.sessions.get()
    path = f"{SESSIONS}{session.pk}/end/"
    data_of(alice_client.get(ME))

    first = olga_admin.post(path)
    again = olga_admin.post(path)

    assert first["Location"] == f"{SESSIONS}{session.pk}/change/"
    assert told(olga_admin, again) == [
        "Ended 1 session.",
        "Ended 0 sessions. Left alone: 1 (ended already).",
    ]
    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")
    data_of(bob_client.get(ME))
    assert logged(olga) == [(CHANGE, str(session.pk), "Ended.")]


@pytest.mark.parametrize(
    ("row_id", "status"), [("zz", 302), (uuid4(), 302)], ids=["malformed", "unknown"]
)
def test_ending_what_is_not_there_ends_nothing(
    row_id: Any, status: int, olga_admin: Client, session: Session
) -> None:
    response = olga_admin.post(f"{SESSIONS}{row_id}/end/")

    assert response.status_code == status
    assert Session.objects.live().exists()


def test_session_is_ended_by_the_button_alone(
    olga_admin: Client, session: Session, make_user: MakeUser
) -> None:
    """No link does it, no other page's form, and nobody without the permission."""
    path = f"{SESSIONS}{session.pk}/end/"
    otto = make_user("otto@example.com", is_staff=True)
    otto.user_permissions.add(
        Permission.objects.get(codename="view_session", content_type__app_label="accounts")
    )
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(email="olga@example.com"))

    assert olga_admin.get(path).status_code == 405
    assert strict.post(path).status_code == 403
    assert sign_in(otto).post(path).status_code == 403
    assert path not in html(sign_in(otto).get(f"{SESSIONS}{session.pk}/change/"))
    assert Client().post(path)["Location"] == f"/admin/login/?next={path}"

    assert Session.objects.live().exists()


def test_session_is_not_written(olga_admin: Client, session: Session) -> None:
    form = {"user_agent": "other", "refresh_hash": "0" * 64, "expires_at_0": "2099-01-01"}

    html(olga_admin.post(f"{SESSIONS}{session.pk}/change/", form), 403)

    before = session.expires_at
    session.refresh_from_db()
    assert (session.user_agent, session.refresh_hash, session.expires_at) == ("", "a1" * 32, before)


def test_end_sessions_needs_the_permission(session: Session, make_user: MakeUser) -> None:
    otto = make_user("otto@example.com", is_staff=True)
    otto.user_permissions.add(
        Permission.objects.get(codename="view_session", content_type__app_label="accounts")
    )
    browser = sign_in(otto)

    assert "End selected" not in html(browser.get(SESSIONS))
    act(browser, SESSIONS, "end", session)

    assert Session.objects.live().exists()


# --- Personal tokens --------------------------------------------------------------------------


def test_end_personal_tokens(olga: User, olga_admin: Client, alice: User, bob: User) -> None:
    """[A5] The log says whose they were."""
    client, bobs = ApiClient(personal_token(alice)), ApiClient(personal_token(bob))
    data_of(client.get(ME))
    token = alice.personal_tokens.get()
    personal_token(alice)

    first = told(olga_admin, act(olga_admin, PERSONAL_TOKENS, "end", token))
    both = told(olga_admin, act(olga_admin, PERSONAL_TOKENS, "end", *alice.personal_tokens.all()))

    assert (first, both) == (["Ended 1 personal token."], ["Ended 1 personal token."])
    assert_error(client.get(ME), 401, "TOKEN_INVALID")
    data_of(bobs.get(ME))
    assert [message for _, _, message in logged(olga)] == ["Ended."] * 2
    entry = LogEntry.objects.order_by("pk")[0]
    assert (entry.action_flag, entry.object_id) == (DELETION, str(token.pk))
    assert entry.object_repr == "Backup of alice@example.com"
    assert entry.object_repr in html(olga_admin.get("/admin/"))


def test_personal_token_is_ended_on_its_page(
    olga: User, olga_admin: Client, token: PersonalToken
) -> None:
    """[A5] It is gone with it, so that the list comes next."""
    path = f"{PERSONAL_TOKENS}{token.pk}/end/"
    assert path in html(olga_admin.get(f"{PERSONAL_TOKENS}{token.pk}/change/"))

    response = olga_admin.post(path)

    assert response["Location"] == PERSONAL_TOKENS
    assert told(olga_admin, response) == ["Ended 1 personal token."]
    assert not PersonalToken.objects.exists()
    assert logged(olga) == [(DELETION, str(token.pk), "Ended.")]


def test_personal_token_is_not_written(olga_admin: Client, token: PersonalToken) -> None:
    """[A5]"""
    form = {"name": "other", "scopes": "tasks:write", "hash": "0" * 64}

    html(olga_admin.post(f"{PERSONAL_TOKENS}{token.pk}/change/", form), 403)

    token.refresh_from_db()
    assert (token.name, token.scopes, token.hash) == ("Backup", ["tasks:read"], "c3" * 32)


def test_end_personal_tokens_needs_the_permission(
    token: PersonalToken, make_user: MakeUser
) -> None:
    """[A5]"""
    otto = make_user("otto@example.com", is_staff=True)
    otto.user_permissions.add(Permission.objects.get(codename="view_personaltoken"))
    browser = sign_in(otto)

    assert "End selected" not in html(browser.get(PERSONAL_TOKENS))
    act(browser, PERSONAL_TOKENS, "end", token)

    assert PersonalToken.objects.live().exists()


def test_user_page_leads_to_the_personal_tokens(
    olga_admin: Client, alice: User, token: PersonalToken
) -> None:
    """[A5]"""
    page = html(olga_admin.get(f"{USERS}{alice.pk}/change/"))

    links = re.findall(rf'"({PERSONAL_TOKENS}\?q=[^"]+)"', page)
    assert len(links) == 1
    assert "Backup" in html(olga_admin.get(links[0]))


# --- Tasks ------------------------------------------------------------------------------------


def test_add_task(olga: User, olga_admin: Client, alice: User) -> None:
    form = {"user": alice.pk, "title": "  Buy milk\t", "description": " two\r\nlitres ", **DEFAULTS}
    completed = {"completed_at_0": "2026-01-02", "completed_at_1": "03:04:05"}

    response = olga_admin.post(f"{TASKS}add/", {**form, **completed})

    assert_saved(response)
    task = Task.objects.get()
    assert (task.user, task.title, task.description) == (alice, "Buy milk", " two\nlitres ")
    assert task.completed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert task.is_completed
    assert abs(datetime.now(UTC) - task.created_at) < timedelta(minutes=1)
    assert task.updated_at == task.created_at
    assert logged(olga) == [(ADDITION, str(task.pk), "Added.")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"title": " \t"}, "This field is required.", id="blank title"),
        pytest.param({"title": "\x1c\x85"}, "This field is required.", id="odd white space"),
        pytest.param({"title": "x" * 256}, "at most 255 characters", id="long title"),
        pytest.param({"title": "a\x00"}, "Null characters are not allowed.", id="NUL in title"),
        pytest.param({"description": "x" * 20_001}, "at most 20000 characters", id="long"),
        pytest.param({"description": "\x00"}, "Null characters are not allowed.", id="NUL"),
        pytest.param({"completed_at_0": "zz"}, "Enter a valid date.", id="no date"),
        pytest.param({"completed_at_0": "2026-01-01"}, "Enter a valid time.", id="no time"),
        pytest.param({"user": "zz"}, "is not a valid UUID.", id="malformed owner"),
        pytest.param({"user": "\x00"}, "Null characters are not allowed.", id="NUL as owner"),
        pytest.param({"user": str(uuid4())}, "not one of the available choices", id="no owner"),
        pytest.param({"user": ""}, "This field is required.", id="empty owner"),
    ],
)
def test_add_task_tells_what_is_wrong(
    changes: dict[str, str], message: str, olga_admin: Client, alice: User
) -> None:
    form = {"user": alice.pk, "title": "Buy milk", "description": "", **DEFAULTS}

    page = html(olga_admin.post(f"{TASKS}add/", {**form, **changes}))

    assert message in page
    assert not Task.objects.exists()


# Each is of several fields; the database keeps them.
FAULTS = [
    pytest.param({"due_time": "09:30"}, "due_time", "It needs a day", id="time without a day"),
    pytest.param(
        {"due_on": "2026-12-01", "time_zone": "Europe/Berlin"},
        "time_zone",
        "It needs a time",
        id="zone without a time",
    ),
    pytest.param(
        {"due_on": "2026-12-01", "start_on": "2026-12-02"},
        "start_on",
        "It is after due_on",
        id="start after the day",
    ),
    pytest.param({"priority": "9"}, "priority", "not one of the available", id="no priority"),
    pytest.param({"repeat_from": "due"}, "repeat_from", "not one of the available", id="no choice"),
    pytest.param({"labels": "a, A, a"}, "labels", "a stands here more than once", id="twice"),
    pytest.param({"labels": "a,,b"}, "labels", "one character that can be seen", id="no label"),
    pytest.param({"labels": "a\tb"}, "labels", "on one line", id="tab in a label"),
    pytest.param({"labels": "a\x00"}, "labels", "on one line", id="NUL in a label"),
    pytest.param({"labels": "x" * 51}, "labels", "At most 50 characters", id="long label"),
    pytest.param({"labels": ",".join(map(str, range(51)))}, "labels", "At most 50", id="51"),
]


@pytest.mark.parametrize(("changes", "field", "message"), FAULTS)
@pytest.mark.parametrize("page", ["add", "change"])
def test_task_form_tells_what_does_not_fit(
    page: str, changes: dict[str, str], field: str, message: str, olga_admin: Client, task: Task
) -> None:
    """[T2] [O3] Beside the field."""
    before = list(Task.objects.values())
    path = f"{TASKS}add/" if page == "add" else f"{TASKS}{task.pk}/change/"

    response = olga_admin.post(path, {"user": task.user_id, **task_form(task), **changes})

    assert message in html(response)
    assert message in response.context["adminform"].form.errors[field][0]
    assert list(Task.objects.values()) == before


def test_task_form_writes_all_fields(olga: User, olga_admin: Client, task: Task) -> None:
    """[O3] Labels as the API keeps them; and only those of the form, whatever is sent."""
    form = {
        "priority": 3,
        "labels": " Cafe\u0301,errands ",
        "due_on": "2026-12-01",
        "due_time": "09:30",
    }
    form |= {"time_zone": "Europe/Berlin", "start_on": "2026-11-30", "repeat_from": 1}
    others = {"recurrence": "FREQ=DAILY", "list": LIST_ID, "parent": task.pk, "series_id": LIST_ID}

    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/change/", task_form(task, **form, **others)))

    changed = Task.objects.get()
    assert (changed.priority, changed.labels) == (3, ["Caf\xe9", "errands"])
    assert (changed.due_on, changed.due_time) == (date(2026, 12, 1), time(9, 30))
    assert (changed.time_zone, changed.start_on) == ("Europe/Berlin", date(2026, 11, 30))
    assert changed.repeat_from == 1
    assert (changed.recurrence, changed.list_id, changed.parent_id) == (None, None, None)
    page = html(olga_admin.get(f"{TASKS}{task.pk}/change/"))
    assert 'name="labels" value="Caf\xe9, errands"' in page
    again = task_form(changed, labels="")
    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/change/", again))
    assert Task.objects.get().labels == []
    assert logged(olga)[-1] == (CHANGE, str(task.pk), "Changed labels.")


@pytest.fixture
def routine(alice: User) -> Task:
    """Alice's, due three days ago; nobody has reckoned its next days."""
    home = TaskList.objects.create(user=alice, name="Home")
    above = Task.objects.create(user=alice, title="Household", list=home)
    day = datetime.now(UTC).date() - timedelta(days=3)
    fields: dict[str, Any] = {"list": home, "parent": above, "due_on": day}
    made = Task.objects.create(user=alice, title="Bins", recurrence="FREQ=WEEKLY", **fields)
    return Task.objects.get(pk=made.pk)


NOW = {"completed_at_0": "2026-01-02", "completed_at_1": "03:04:05"}


@pytest.mark.parametrize("repeat_from", [0, 1], ids=["due", "completion"])
@pytest.mark.parametrize("changed", ["it alone", "the base as well"])
def test_completing_a_routine_makes_the_next_one(
    changed: str, repeat_from: int, olga_admin: Client, routine: Task
) -> None:
    """[Q1] Though its days have to be reckoned before; in one version, and once."""
    before = repeat_from if changed == "it alone" else 1 - repeat_from
    Task.objects.filter(pk=routine.pk).update(repeat_from=before)
    path = f"{TASKS}{routine.pk}/change/"

    assert_saved(olga_admin.post(path, task_form(routine, **NOW, repeat_from=repeat_from)))

    done = Task.objects.get(pk=routine.pk)
    assert done.next_task_id
    following = Task.objects.get(pk=done.next_task_id)
    assert done.due_on
    base = done.completed_on if repeat_from else done.due_on
    assert base
    assert done.completed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert done.repeat_from == following.repeat_from == repeat_from
    assert (following.due_on, following.completed_at) == (base + timedelta(days=7), None)
    assert (following.list_id, following.parent_id) == (done.list_id, done.parent_id)
    assert following.version == done.version
    assert done.updated_at > routine.updated_at
    page = html(olga_admin.get(path))
    assert f'<a href="{TASKS}{following.pk}/change/">' in page
    assert f'<a href="{TASKS}{done.parent_id}/change/">Household</a>' in page
    assert f'<a href="{TASK_LISTS}{done.list_id}/change/">Home</a>' in page
    assert "FREQ=WEEKLY" in page
    assert Task.objects.count() == 3


def test_reopening_a_routine_takes_the_next_one_back(olga_admin: Client, routine: Task) -> None:
    """[Q1]"""
    path = f"{TASKS}{routine.pk}/change/"
    assert_saved(olga_admin.post(path, task_form(routine, **NOW)))
    done = Task.objects.get(pk=routine.pk)

    assert_saved(olga_admin.post(path, task_form(done, completed_at_0="", completed_at_1="")))

    assert Task.objects.get(pk=routine.pk).next_task_id is None
    assert done.next_task_id
    assert not Task.objects.filter(pk=done.next_task_id).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"due_on": ""}, "recurrence: It needs a day", id="no day"),
        pytest.param(NOW, "The task has more than 100 subtasks", id="too many copies"),
    ],
)
def test_routine_form_tells_what_does_not_fit(
    changes: dict[str, str], message: str, olga_admin: Client, routine: Task
) -> None:
    """[T2] Of what the form can't change: above the fields."""
    Task.objects.bulk_create(
        Task(user_id=routine.user_id, title="Part", list_id=routine.list_id, parent=routine)
        for _ in range(101)
    )
    before = Task.objects.filter(pk=routine.pk).values().get()

    response = olga_admin.post(f"{TASKS}{routine.pk}/change/", task_form(routine, **changes))

    html(response)
    assert response.context["adminform"].form.non_field_errors()[0].startswith(message)
    assert Task.objects.filter(pk=routine.pk).values().get() == before
    assert Task.objects.count() == 103


def test_rule_that_is_none_is_told(olga_admin: Client, routine: Task) -> None:
    """[T2] Written past the API, where nothing reads rules."""
    Task.objects.filter(pk=routine.pk).update(recurrence="every week")

    response = olga_admin.post(f"{TASKS}{routine.pk}/change/", task_form(routine, **NOW))

    assert "recurrence: RRULE" in html(response)
    assert Task.objects.get(pk=routine.pk).completed_at is None


@pytest.mark.parametrize(
    ("changes", "queries"),
    [
        # The task, its owner, its list and the task above.
        pytest.param(None, 4, id="form"),
        # The task, the clock, the task written, the log; three savepoints made and released, of the
        # page, the form and the first try.
        pytest.param({"title": "Bins out"}, 10, id="save"),
        # And back to the last one; the task read again, and written with the days.
        pytest.param(NOW, 13, id="completion"),
    ],
)
def test_task_page_queries(
    changes: dict[str, str] | None,
    queries: int,
    olga_admin: Client,
    routine: Task,
    django_assert_num_queries: CountQueries,
) -> None:
    path = f"{TASKS}{routine.pk}/change/"
    assert_saved(olga_admin.post(path, task_form(routine, title="Bins")))  # content types

    with django_assert_num_queries(SIGN_IN_QUERIES + queries):
        if changes is None:
            html(olga_admin.get(path))
        else:
            assert_saved(olga_admin.post(path, task_form(routine, **changes)))


def test_change_task(olga: User, olga_admin: Client, task: Task) -> None:
    """[T1] `updated_at` by the database's clock; the description remains null."""
    Task.objects.update(description=None)
    task.refresh_from_db()
    form = task_form(task, title=" Buy oats ", completed_at_0="2026-01-02", completed_at_1="03:04")

    response = olga_admin.post(f"{TASKS}{task.pk}/change/", form)

    assert_saved(response)
    changed = Task.objects.get()
    assert (changed.title, changed.description, changed.is_completed) == ("Buy oats", None, True)
    assert changed.updated_at > task.updated_at
    assert changed.created_at == task.created_at
    assert logged(olga) == [(CHANGE, str(task.pk), "Changed Title and Completed at.")]


def test_empty_description_is_null(olga_admin: Client, task: Task) -> None:
    """[T1]"""
    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/change/", task_form(task, description="")))

    task.refresh_from_db()
    assert task.description is None


def test_open_task_has_no_sign_of_an_error(olga_admin: Client, alice: User) -> None:
    """Nor has whoever is no operator, or a list that isn't archived."""
    TaskList.objects.create(user=alice, name="Home")
    make_tasks(alice, 1)

    for path in (TASKS, TASK_LISTS, USERS, f"{TASKS}{alice.tasks.get().pk}/change/"):
        assert "icon-no" not in html(olga_admin.get(path))


def test_reopen_task(olga_admin: Client, alice: User) -> None:
    task = Task.objects.create(user_id=alice.pk, title="Buy milk", completed_at=timezone.now())
    form = task_form(task, completed_at_0="", completed_at_1="")

    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/change/", form))

    task.refresh_from_db()
    assert (task.completed_at, task.is_completed) == (None, False)


@pytest.mark.parametrize(
    "description",
    [None, "", " two\nlitres\n\n", "two\r\nlitres", "\n"],
    ids=["null", "empty", "lines", "lines of another system", "one newline"],
)
def test_saving_an_unchanged_task_changes_nothing(
    description: str | None, olga_admin: Client, alice: User
) -> None:
    """[T1]"""
    task = Task.objects.create(
        user_id=alice.pk, title="Buy milk", description=description, completed_at=timezone.now()
    )
    before = Task.objects.values().get()
    form = task_form(task)
    form["description"] = re.sub(r"\r?\n", "\r\n", description or "")

    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/change/", form))

    assert Task.objects.values().get() == before


def test_change_task_writes_only_what_was_changed(olga_admin: Client, task: Task) -> None:
    """[T4]"""
    with CaptureQueriesContext(connection) as queries:
        assert_saved(
            olga_admin.post(f"{TASKS}{task.pk}/change/", task_form(task, title="Buy oats"))
        )

    written = [query["sql"] for query in queries if query["sql"].startswith('UPDATE "tasks_task"')]
    assert len(written) == 1
    columns = re.findall(r'"(\w+)" = ', written[0].partition(" WHERE ")[0])
    assert columns == ["title", "updated_at"]


def test_task_stays_its_owners(olga_admin: Client, task: Task, bob: User) -> None:
    form = task_form(task, user=bob.pk, title="Buy oats", id=uuid4(), is_completed="on")

    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/change/", form))

    changed = Task.objects.get()
    assert (changed.pk, changed.user_id, changed.is_completed) == (task.pk, task.user_id, False)


def test_delete_task(olga: User, olga_admin: Client, task: Task) -> None:
    assert_saved(olga_admin.post(f"{TASKS}{task.pk}/delete/", {"post": "yes"}))

    assert not Task.objects.exists()
    assert logged(olga) == [(DELETION, str(task.pk), "")]


@pytest.mark.parametrize("page", ["add", "{task}/change"])
def test_task_form_has_no_select_box_of_users(
    page: str, olga_admin: Client, task: Task, bob: User
) -> None:
    assert bob.email not in html(olga_admin.get(f"{TASKS}{page.format(task=task.pk)}/"))


# --- The operator's own account ---------------------------------------------------------------


def assert_told_to_wait(response: Any) -> None:
    assert "Too many tries. Wait" in html(response, 429)
    assert 0 < int(response["Retry-After"]) <= 3600


def own_password(**changes: str) -> dict[str, str]:
    """The form as a browser sends it."""
    new = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    return {"old_password": PASSWORD, **new, **changes}


def test_own_password_change(olga: User, olga_admin: Client, olga_client: ApiClient) -> None:
    """[S3] Signs the operator out everywhere but here."""
    elsewhere = sign_in(olga)

    response = olga_admin.post(OWN_PASSWORD, own_password())

    assert (response.status_code, response["Location"]) == (302, f"{OWN_PASSWORD}done/")
    html(olga_admin.get(response["Location"]))
    html(olga_admin.get("/admin/"))
    assert elsewhere.get("/admin/").status_code == 302
    assert_error(olga_client.get(ME), 401, "TOKEN_INVALID")
    olga.refresh_from_db()
    assert olga.check_password(NEW_PASSWORD)
    assert logged(olga) == [(CHANGE, str(olga.pk), "Changed password.")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"old_password": "a wrong guess"}, "was entered incorrectly", id="wrong"),
        pytest.param({"new_password2": "another one"}, "didn’t match", id="not repeated"),
        pytest.param(
            {"new_password1": "qwertyuiop", "new_password2": "qwertyuiop"}, "common", id="common"
        ),
    ],
)
def test_own_password_change_refuses(
    changes: dict[str, str], message: str, olga: User, olga_admin: Client
) -> None:
    assert message in html(olga_admin.post(OWN_PASSWORD, own_password(**changes)))

    olga.refresh_from_db()
    assert olga.check_password(PASSWORD)
    assert logged(olga) == []


def test_own_password_change_gives_back_no_rights(
    olga: User, olga_admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[S3] They are taken away after the request has read them."""
    check_password = User.check_password

    def strip_and_check(user: User, password: str) -> bool:
        User.objects.filter(pk=olga.pk).update(
            is_active=False, is_staff=False, is_superuser=False, name="Former"
        )
        return check_password(user, password)

    monkeypatch.setattr(User, "check_password", strip_and_check)

    assert_saved(olga_admin.post(OWN_PASSWORD, own_password()))

    olga.refresh_from_db()
    assert (olga.is_active, olga.is_staff, olga.is_superuser) == (False, False, False)
    assert olga.name == "Former"


def test_own_password_is_tried_as_often_as_a_sign_in(
    olga: User, olga_admin: Client, settings: Any
) -> None:
    settings.RATE_LIMITS = {**dict.fromkeys(settings.RATE_LIMITS), "sign-in": Rate(3, 3600)}
    client = ApiClient()
    for _ in range(2):
        html(olga_admin.post(OWN_PASSWORD, own_password(old_password="a wrong guess")))
    client.post("/api/auth/token", {"email": olga.email, "password": "a wrong guess"})

    response = olga_admin.post(OWN_PASSWORD, own_password())
    api = client.post("/api/auth/token", {"email": olga.email, "password": PASSWORD})

    assert_told_to_wait(response)
    assert api.status_code == 429
    olga.refresh_from_db()
    assert olga.check_password(PASSWORD)


def test_sign_in_is_limited_together_with_the_api(olga: User, settings: Any) -> None:
    off = dict.fromkeys(settings.RATE_LIMITS)
    settings.RATE_LIMITS = {**off, "sign-in": Rate(3, 3600)}
    browser, client = Client(), ApiClient()
    guess = {"username": olga.email, "password": "a wrong guess"}
    for _ in range(2):
        browser.post("/admin/login/", guess)
    client.post("/api/auth/token", {"email": olga.email, "password": "a wrong guess"})

    response = browser.post("/admin/login/", {**guess, "password": PASSWORD})
    api = client.post("/api/auth/token", {"email": olga.email, "password": PASSWORD})

    assert_told_to_wait(response)
    assert "todo_session" not in browser.cookies
    assert api.status_code == 429


def test_sign_in_is_limited_for_an_address(olga: User, settings: Any) -> None:
    off = dict.fromkeys(settings.RATE_LIMITS)
    settings.RATE_LIMITS = {**off, "sign-in-address": Rate(2, 3600)}
    browser = Browser()
    for number in range(2):
        guess = {"username": f"{number}@example.com", "password": "a wrong guess"}
        browser.post("/admin/login/", guess)

    response = browser.post("/admin/login/", {"username": olga.email, "password": PASSWORD})

    assert_told_to_wait(response)


def test_wrong_sign_in_is_told(olga: User, alice: User) -> None:
    """Addresses have no case; whether there is such an operator is not told."""
    pages = [
        html(Browser().post("/admin/login/", {"username": email, "password": password}))
        for email, password in ((olga.email, "a wrong guess"), (alice.email, PASSWORD))
    ]

    for page in pages:
        assert "case-sensitive" not in page
        assert "The e-mail address or the password is wrong, or not an operator" in page


def test_sign_in(olga: User) -> None:
    browser = Browser()

    response = browser.post("/admin/login/", {"username": olga.email, "password": PASSWORD})

    assert response.status_code == 302
    assert browser.get("/admin/").status_code == 200


# --- Identities ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "found"),
    [
        pytest.param("ada", ["ada"], id="subject"),
        pytest.param("0198f000-0000-7000-8000-00000000000a", ["UUID"], id="subject that is a UUID"),
        pytest.param("alice@example.com", ["ada"], id="user's address"),
        pytest.param("Ada", [], id="another subject"),
    ],
)
def test_identities_are_found(
    term: str, found: list[str], olga_admin: Client, alice: User, bob: User, settings: Any
) -> None:
    settings.AUTH_ISSUER = "https://i"
    subjects = {"ada": "ada", "UUID": "0198f000-0000-7000-8000-00000000000a"}
    for user, subject in ((alice, "ada"), (bob, subjects["UUID"])):
        Identity.objects.create(user=user, issuer="https://i", subject=subject)

    response = olga_admin.get(IDENTITIES, {"q": term})

    shown = [identity.subject for identity in response.context["cl"].result_list]
    assert shown == [subjects[name] for name in found]


def test_identity_is_taken_away(olga_admin: Client, alice: User, olga: User) -> None:
    """[A3]"""
    identity = Identity.objects.create(user=alice, issuer="https://i", subject="ada")
    path = f"{IDENTITIES}{identity.pk}/delete/"
    assert "deactivate the user instead" in html(olga_admin.get(path))

    assert_saved(olga_admin.post(path, {"post": "yes"}))

    assert not alice.identities.exists()
    assert RemovedIdentity.objects.exists()
    assert [flag for flag, _, _ in logged(olga)] == [DELETION]


def test_identity_of_an_operator_is_a_superusers_to_take(
    olaf_admin: Client, olga: User, alice: User
) -> None:
    identity = Identity.objects.create(user=olga, issuer="https://i", subject="olga")
    others = Identity.objects.create(user=alice, issuer="https://i", subject="alice")
    assert olaf_admin.get(f"{IDENTITIES}{others.pk}/delete/").status_code == 200

    assert olaf_admin.get(f"{IDENTITIES}{identity.pk}/delete/").status_code == 403
    olaf_admin.post(
        IDENTITIES,
        {"action": "delete_selected", "_selected_action": [str(identity.pk)], "post": "yes"},
    )
    assert olga.identities.exists()


@pytest.mark.parametrize("page", ["change/", "password/", "delete/", "history/"])
def test_pages_of_a_user_without_an_address(page: str, olga_admin: Client, db: None) -> None:
    """[U1]"""
    user = User.objects.create(name="Ada", password=make_password(None))
    Identity.objects.create(user=user, issuer="https://i", subject="ada")

    assert "Ada (no address)" in html(olga_admin.get(f"{USERS}{user.pk}/{page}"))


@pytest.mark.parametrize("path", [SESSIONS, IDENTITIES, PERSONAL_TOKENS, TASKS])
def test_rows_of_a_user_without_an_address_are_found(
    path: str, olga_admin: Client, db: None
) -> None:
    """By the link on the user's page."""
    user = User.objects.create(name="Ada", password=make_password(None))
    Identity.objects.create(user=user, issuer="https://i", subject="ada")
    begin_session(user)
    personal_token(user)
    make_tasks(user, 1)
    assert f"{path}?q={user.pk}" in html(olga_admin.get(f"{USERS}{user.pk}/change/"))

    response = olga_admin.get(path, {"q": str(user.pk)})

    assert [row.user_id for row in response.context["cl"].result_list] == [user.pk]


def test_new_user_needs_an_address(olga_admin: Client, db: None) -> None:
    """[U1] Whoever is made in admin signs in by one."""
    form = {"email": "", "name": "Ada", "password1": PASSWORD, "password2": PASSWORD}

    html(olga_admin.post(f"{USERS}add/", form))

    assert not User.objects.filter(name="Ada").exists()
