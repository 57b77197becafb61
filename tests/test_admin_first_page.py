"""What the first page of admin says of the service: figures and plots, and what they may cost."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from uuid_utils.compat import uuid7

import todo_project.admin.figures
from accounts.admin import users as admin_of_users
from accounts.models import Session, User
from tasks.admin import tasks as admin_of_tasks
from tasks.models import Task
from tests.conftest import begin_session
from tests.test_admin import TASKS, USERS, MakeUser, html, make_tasks, sign_in
from todo_project.admin.figures import TODAYS_ROWS
from todo_project.admin.filters import first_id, midnight

FIRST_PAGE = "/admin/"
OLD_CHANGES = 60_000


@pytest.fixture
def olga_admin(olga: User) -> Client:
    return sign_in(olga)


def figures(browser: Client) -> dict[str, str]:
    """As the page shows them."""
    page = html(browser.get(FIRST_PAGE))
    found = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)<(?:span|/dd)", page, re.DOTALL)
    return {label: re.sub(r"<.*?>", "", value).strip() for label, value in found}


def days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def made_at(moment: datetime) -> Any:
    """An id as the service made it then."""
    return uuid7(nanoseconds=int(moment.timestamp() * 1_000) * 1_000_000)


def test_first_page_says_how_the_service_is(
    olga_admin: Client, alice: User, bob: User, make_user: MakeUser
) -> None:
    """Alice signed in, Bob did two of his tasks; someone else did nothing today."""
    make_user("carol@example.com")
    begin_session(alice)
    begin_session(alice)
    Session.objects.filter(pk=alice.sessions.latest("pk").pk).end()
    make_tasks(bob, 3)
    Task.objects.exclude(title="Task 0").update(completed_at=Now())

    assert figures(olga_admin) == {
        "Users": "4",
        "Active today": "2",
        "Active sessions": "1",
        "Tasks": "3",
        "Done today": "2",
    }


def test_today_is_not_yesterday(olga_admin: Client, alice: User) -> None:
    """By what is kept of it: when a change was, a task was completed, a session began."""
    expires_at = datetime.now(UTC) + timedelta(days=9)
    Session.objects.create(id=made_at(days_ago(1)), user=alice, expires_at=expires_at)
    make_tasks(alice, 2)
    Task.objects.update(completed_at=days_ago(1))
    assert figures(olga_admin)["Done today"] == "0"
    assert figures(olga_admin)["Active today"] == "1"  # changed it today

    with connection.cursor() as cursor:
        cursor.execute("UPDATE todo_project_change SET changed_at = %s", [days_ago(1)])

    assert figures(olga_admin)["Active today"] == "0"


def test_figures_say_how_well_they_are_known(
    olga_admin: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be counted in time is what the database reckons, or at least so many."""
    monkeypatch.setattr(todo_project.admin.figures, "EXACT_ROWS", 100)
    monkeypatch.setattr(todo_project.admin.figures, "TODAYS_ROWS", 50)
    monkeypatch.setattr(todo_project.admin.figures, "ROWS_OF_A_DAY", 70)
    make_tasks(alice, 1_234)
    for _ in range(101):
        begin_session(alice)
    Task.objects.update(completed_at=Now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_task")

    shown = figures(olga_admin)

    about = re.fullmatch(r"about ([\d,]+)", shown["Tasks"])
    assert about
    assert 1_000 < int(about[1].replace(",", "")) < 3_000  # dead rows count until the next vacuum
    assert shown["Done today"].startswith("at least ")
    assert shown["Active today"].startswith("at least ")
    assert shown["Active sessions"] == "at least 100"
    assert "Tasks created: at least 1,234" not in html(olga_admin.get(FIRST_PAGE))
    assert "Tasks created: at least 7" in html(olga_admin.get(FIRST_PAGE))


def test_plot_has_a_bar_for_each_of_the_last_30_days(olga_admin: Client, alice: User) -> None:
    """That leads to what was created on it."""
    ages = [0, 0, 29, 30, 400]
    Task.objects.bulk_create(
        Task(id=made_at(days_ago(days)), user=alice, title=f"{days} days ago") for days in ages
    )
    first, last = f"{days_ago(29):%Y-%m-%d}", f"{days_ago(0):%Y-%m-%d}"

    page = html(olga_admin.get(FIRST_PAGE))

    assert "Tasks created: 3 in 30 days" in page
    assert f"(most on {last}: 2)" in page
    bars = re.findall(rf'<a href="{TASKS}\?created=(\S+)" aria-label="\1: (\d+)">', page)
    assert len(bars) == 30
    assert [bars[0], bars[-1]] == [(first, "1"), (last, "2")]
    assert {count for _, count in bars[1:-1]} == {"0"}
    listed = olga_admin.get(TASKS, {"created": first}).context["cl"].result_list
    assert [task.title for task in listed] == ["29 days ago"]


def test_first_page_loads_nothing_from_elsewhere(olga_admin: Client) -> None:
    page = html(olga_admin.get(FIRST_PAGE))

    assert "<svg" in page
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', page) == []


def test_figures_are_for_whoever_may_view_the_rows(
    make_user: MakeUser, olga: User, alice: User
) -> None:
    make_tasks(alice, 1)
    otto = make_user("otto@example.com", is_staff=True)
    assert figures(sign_in(otto)) == {}
    otto.user_permissions.add(Permission.objects.get(codename="view_task"))

    page = html(sign_in(otto).get(FIRST_PAGE))

    assert set(figures(sign_in(otto))) == {"Tasks", "Done today"}
    assert "Tasks created" in page
    assert "Users who joined" not in page
    assert USERS not in page


@pytest.fixture
def long_log(alice: User) -> User:
    """Alice's: 60,000 changes of the last two months, in the order of time, and ten of today."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO todo_project_change (user_id, version, type, id, changed_at)
            SELECT %s, n, 'task', gen_random_uuid(), now() - interval '60 days'
                   + n * interval '58 days' / %s
              FROM generate_series(1, %s) AS n
            """,
            [alice.pk, OLD_CHANGES, OLD_CHANGES],
        )
        cursor.execute(
            """
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT %s, %s + n, 'task', gen_random_uuid() FROM generate_series(1, 10) AS n
            """,
            [alice.pk, OLD_CHANGES],
        )
        cursor.execute("SELECT brin_summarize_new_values('todo_change_changed_at')")
        cursor.execute("ANALYZE todo_project_change")
    return alice


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(admin_of_users._ACTIVE, id="active"),
        pytest.param(admin_of_tasks._DONE, id="done"),
    ],
)
def test_todays_figures_read_no_more_of_the_log_than_today(sql: str, long_log: User) -> None:
    """And of a table at rest no more than a range of the BRIN index beside it."""
    since = midnight(datetime.now(UTC).date())
    parameters: dict[str, Any] = {"since": since, "first_id": first_id(since), "rows": TODAYS_ROWS}
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", parameters)
        plan = cursor.fetchone()[0][0]["Plan"]
        cursor.execute("SELECT relpages FROM pg_class WHERE relname = 'todo_project_change'")
        (pages,) = cursor.fetchone()

    assert "todo_change_changed_at" in str(plan)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < pages / 2


def test_todays_figures_stop_at_their_limit(long_log: User) -> None:
    since = datetime.now(UTC) - timedelta(days=90)
    parameters: dict[str, Any] = {"since": since, "first_id": first_id(since), "rows": 100}
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {admin_of_users._ACTIVE}", parameters)
        plan = cursor.fetchone()[0][0]["Plan"]

    def rows(node: dict[str, Any]) -> Iterator[float]:
        if node.get("Relation Name") == "todo_project_change":
            yield node["Actual Rows"]
        for child in node.get("Plans", []):
            yield from rows(child)

    assert 0 < sum(rows(plan)) <= 100
