"""`manage.py seed_demo` and `manage.py seed_load`, on the database of the tests."""

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.core.management import call_command, load_command_class
from django.core.management.base import CommandError
from django.db import connections

from accounts.models import User
from tasks.days import due_at
from tasks.management.commands import seed_load
from tasks.models import PRIORITIES, Task, TaskList
from tasks.recurrence import Rule
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import begin_session
from todo_project import development

DEMO = "demo@example.com"
ME = "/api/auth/me"
TOKEN = "/api/auth/token"


def run(*arguments: Any, **options: Any) -> str:
    """What the command prints."""
    printed = options.pop("stdout", None) or io.StringIO()
    call_command(*map(str, arguments), stdout=printed, **options)
    text: str = printed.getvalue()
    return text


def made_at(uuid: UUID) -> datetime:
    """The time in a UUIDv7, in milliseconds (RFC 9562, section 5.7)."""
    return datetime.fromtimestamp((uuid.int >> 80) / 1000, UTC)


def assert_plausible(tasks: list[Task], *, oldest: timedelta) -> None:
    """Past times in their order, ids to match."""
    now = datetime.now(UTC)
    for task in tasks:
        assert now - oldest < task.created_at <= task.updated_at <= now
        assert task.completed_at is None or task.created_at <= task.completed_at <= task.updated_at
        assert abs(made_at(task.pk) - task.created_at) < timedelta(milliseconds=2)


# --- seed_demo --------------------------------------------------------------------------------


def credentials(printed: str) -> dict[str, str]:
    found = re.search(r"-d '(\{.*\})'", printed)
    assert found
    read: dict[str, str] = json.loads(found[1])
    return read


def test_demo_makes_a_list_and_tells_how_to_sign_in(client: ApiClient) -> None:
    printed = run("seed_demo")

    assert "Made demo@example.com. Added 34 tasks." in printed
    assert "/api/auth/token" in printed
    access = data_of(client.post(TOKEN, credentials(printed)))["access"]
    tasks = data_of(ApiClient(access).get("/api/me/tasks"))
    assert len(tasks) == 34
    assert {task["is_completed"] for task in tasks} == {True, False}
    assert {task["description"] is None for task in tasks} == {True, False}
    demo = User.objects.get()
    assert (demo.email, demo.is_staff, demo.is_superuser) == (DEMO, False, False)


@pytest.mark.django_db
def test_demo_tasks_are_plausible() -> None:
    run("seed_demo")

    tasks = list(Task.objects.all())

    assert_plausible(tasks, oldest=timedelta(days=60))
    assert len({task.title for task in tasks}) == len(tasks) - 2  # but for the routine
    assert all(task.updated_at == task.completed_at for task in tasks if task.is_completed)
    edited = {task.updated_at > task.created_at for task in tasks if not task.is_completed}
    assert edited == {True, False}


def test_demo_shows_what_tasks_can_have(client: ApiClient) -> None:
    """[O1] And what is answered is taken back, and is no change."""
    access = data_of(client.post(TOKEN, credentials(run("seed_demo"))))["access"]
    demo = ApiClient(access)
    today = datetime.now(UTC).date().isoformat()

    tasks = data_of(demo.get("/api/me/tasks"))

    open_tasks = [task for task in tasks if not task["is_completed"]]
    due = [task for task in open_tasks if task["due_on"]]
    lists = {one["name"]: one["id"] for one in data_of(demo.get("/api/me/lists"))}
    assert set(lists) == {"Home", "Work", "Trip to Lisbon"}
    assert {task["list_id"] for task in tasks} == {None, *lists.values()}
    assert {task["priority"] for task in open_tasks} == set(PRIORITIES)
    assert len({label for task in open_tasks for label in task["labels"]}) > 5
    assert {task["due_on"] < today for task in due} == {True, False}
    assert any(task["due_on"] == today and task["due_time"] for task in due)
    assert any(task["due_at"] for task in due)
    assert any(task["start_on"] for task in due)
    assert [data_of(demo.put(f"/api/me/tasks/{task['id']}", task)) for task in tasks] == tasks


def test_demo_shows_subtasks(client: ApiClient) -> None:
    demo = ApiClient(data_of(client.post(TOKEN, credentials(run("seed_demo"))))["access"])
    tasks = {task["id"]: task for task in data_of(demo.get("/api/me/tasks"))}

    subtasks = [task for task in tasks.values() if task["parent_id"]]

    assert len(subtasks) == 5
    for task in subtasks:
        parent = tasks[task["parent_id"]]
        assert (parent["list_id"], parent["is_completed"]) == (task["list_id"], False)
        assert parent["created_at"] < task["created_at"]
    assert {task["is_completed"] for task in subtasks} == {True, False}


@pytest.mark.django_db(transaction=True)
def test_demo_shows_a_routine_that_goes_on(client: ApiClient) -> None:
    """[Q1] Two occurrences that are done, and one that isn't; and then the one after it."""
    demo = ApiClient(data_of(client.post(TOKEN, credentials(run("seed_demo"))))["access"])
    query = {"is_recurring": "true", "ordering": "due"}

    first, second, third = data_of(demo.get("/api/me/tasks", query=query))

    series = (first, second, third)
    assert [task["is_completed"] for task in series] == [True, True, False]
    assert [task["next_task_id"] for task in series] == [second["id"], third["id"], None]
    assert {task["series_id"] for task in series} == {first["id"]}
    assert {task["series_start_on"] for task in series} == {first["due_on"]}
    days = [date.fromisoformat(task["due_on"]) for task in series]
    assert [task["occurrence_on"] for task in series] == [f"{day}" for day in days]
    assert days[0] + timedelta(14) == days[1] + timedelta(7) == days[2]
    done = data_of(demo.patch(f"/api/me/tasks/{third['id']}/complete", {}))
    fourth = data_of(demo.get(f"/api/me/tasks/{done['next_task_id']}"))
    assert fourth["due_on"] == f"{days[2] + timedelta(7)}"


def test_demo_again_keeps_what_people_wrote(client: ApiClient) -> None:
    """Sessions and password, too."""
    first = credentials(run("seed_demo"))
    demo = User.objects.get()
    access = begin_session(demo).access
    Task.objects.exclude(title="Groceries").delete()
    Task.objects.update(title="Groceries for two")
    before = list(Task.objects.values())

    printed = run("seed_demo")

    assert "demo@example.com was there. Left its tasks as they are." in printed
    assert credentials(printed) == first
    assert list(Task.objects.values()) == before
    assert User.objects.get().pk == demo.pk
    data_of(ApiClient(access).get(ME))
    data_of(client.post(TOKEN, first))


def test_demo_sets_its_password_back(client: ApiClient) -> None:
    """Whoever prints a password has to make sure that it is the right one."""
    first = credentials(run("seed_demo"))
    demo = User.objects.get()
    demo.set_password("somebody changed it")
    demo.save()
    access = begin_session(demo).access

    printed = run("seed_demo")

    assert "Set its password back, and ended its sessions." in printed
    assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")
    data_of(client.post(TOKEN, first))


@pytest.mark.django_db
def test_demo_password_is_of_this_installation(settings: Any) -> None:
    first = credentials(run("seed_demo"))

    settings.SECRET_KEY = "k" * 50

    assert credentials(run("seed_demo")) != first


@pytest.mark.parametrize("url", ["http://127.0.0.1:8201", "http://[::1]:8000"])
@pytest.mark.django_db
def test_demo_names_the_server_that_runs_here(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(development, "_NOTE", tmp_path / "note")
    assert f"http://127.0.0.1:{settings.PORT}/api/auth/token" in run("seed_demo")

    development.note_server(url)

    assert f"{url}/api/auth/token" in run("seed_demo")


@pytest.mark.django_db
def test_demo_names_the_path_that_the_server_stands_below(settings: Any) -> None:
    """[C3]"""
    settings.PATH_PREFIX = "/todo"

    told = run("seed_demo")

    assert re.findall(r"https?://[^/]+(/\S*)/api/", told) == ["/todo", "/todo"]


@pytest.mark.django_db
def test_demo_fills_an_empty_list_again() -> None:
    run("seed_demo")
    Task.objects.all().delete()

    assert "Added 34 tasks." in run("seed_demo")

    assert Task.objects.count() == 34
    assert TaskList.objects.count() == 3


@pytest.mark.django_db
def test_demo_leaves_a_deactivated_account_alone() -> None:
    run("seed_demo")
    User.objects.get_queryset().deactivate()
    before = User.objects.values().get()

    with pytest.raises(CommandError, match=r"demo@example.com is deactivated"):
        run("seed_demo")

    assert User.objects.values().get() == before


# --- seed_load --------------------------------------------------------------------------------

# It runs on a connection of its own, which does not see what a test's transaction holds back.
on_real_tables = pytest.mark.django_db(transaction=True, databases=["default", "direct"])

# Neither ids nor times, which go by the hour of the run.
SEEDED = (
    *("title", "description", "priority", "labels", "due_time", "time_zone", "position"),
    *("recurrence", "repeat_from", "list__name", "parent__position"),
)


@on_real_tables
def test_load_makes_users_with_tasks() -> None:
    printed = run("seed_load", "--users", 3, "--tasks-per-user", 40, force=True)

    users = list(User.objects.order_by("email"))
    assert [user.email for user in users] == [f"load-00000{n}@example.com" for n in (1, 2, 3)]
    assert {user.tasks.count() for user in users} == {40}
    assert "Users added: 3, load-000001@example.com to load-000003@example.com." in printed
    assert "Tasks added: 120." in printed
    assert len({user.password for user in users}) == 1
    password = re.search(r"password of all these users: (\S+)", printed)
    assert password
    assert check_password(password[1], users[0].password)
    assert all(user.created_at <= user.tasks.earliest("created_at").created_at for user in users)


@on_real_tables
def test_load_tasks_are_plausible() -> None:
    run("seed_load", "--users", 2, "--tasks-per-user", 500, force=True)

    tasks = list(Task.objects.all())
    now = datetime.now(UTC)

    assert_plausible(tasks, oldest=timedelta(days=366))
    assert 0.3 < sum(task.is_completed for task in tasks) / len(tasks) < 0.5
    assert 0.2 < sum(task.description is not None for task in tasks) / len(tasks) < 0.5
    assert len({len(task.title) for task in tasks}) > 20
    assert max(len(task.title) for task in tasks) > 200
    assert all(task.title == task.title.strip() for task in tasks)
    due = [task for task in tasks if task.due_on]
    days = [(task.due_on - (task.completed_at or now).date()).days for task in tasks if task.due_on]
    timed = [task for task in due if task.due_time]
    assert 0.3 < len(due) / len(tasks) < 0.5
    assert 0.2 < len(timed) / len(due) < 0.5
    assert 0.1 < sum(task.time_zone is not None for task in timed) / len(timed) < 0.6
    assert 0.1 < sum(task.start_on is not None for task in due) / len(due) < 0.3
    assert all(-10 <= number <= 45 for number in days)
    assert {number < 0 for number in days} == {True, False}
    assert 0.6 < sum(task.priority == 0 for task in tasks) / len(tasks) < 0.9
    assert {task.priority for task in tasks} == set(range(len(PRIORITIES)))
    assert {len(task.labels) for task in tasks} == {0, 1, 2, 3}
    assert 0.4 < sum(task.list_id is None for task in tasks) / len(tasks) < 0.6


@on_real_tables
def test_load_makes_what_clients_may_write() -> None:
    """[T2] What is answered is taken back, and is no change."""
    run("seed_load", "--users", 1, "--tasks-per-user", 60, force=True)
    client = ApiClient(begin_session(User.objects.get()).access)
    tasks = data_of(client.get("/api/me/tasks", query={"limit": 60}))

    taken = [data_of(client.put(f"/api/me/tasks/{task['id']}", task)) for task in tasks]

    assert taken == tasks


@on_real_tables
def test_load_computes_when_tasks_are_due() -> None:
    """[T2] As for whoever writes."""
    run("seed_load", "--users", 1, "--tasks-per-user", 500, force=True)

    found = {task.pk: task.due_at for task in Task.objects.all()}
    assert found == {
        task.pk: task.due_on and due_at(task.due_on, task.due_time, task.time_zone)
        for task in Task.objects.all()
    }
    assert any(found.values())


@on_real_tables
def test_load_makes_lists_and_labels_of_each_person() -> None:
    """[O1] Of their own, in which some of their tasks are, placed as they were made."""
    run("seed_load", "--users", 2, "--tasks-per-user", 200, force=True)

    for user in User.objects.all():
        lists = list(user.task_lists.order_by("position"))
        tasks = list(user.tasks.order_by("created_at"))
        assert 3 <= len(lists) <= 6
        assert {task.list_id for task in tasks} == {None, *(one.pk for one in lists)}
        assert len({one.name for one in lists}) == len(lists)
        assert all(one.created_at <= tasks[0].created_at for one in lists)
        positions = [task.position for task in tasks]
        assert positions == sorted(set(positions))
        assert len({label for task in tasks for label in task.labels}) == 8


@on_real_tables
def test_load_makes_subtasks() -> None:
    """[O4] Of an earlier open task of the same list, on two levels."""
    run("seed_load", "--users", 2, "--tasks-per-user", 500, force=True)

    subtasks = list(Task.objects.filter(parent__isnull=False).select_related("parent"))

    assert 0.07 < len(subtasks) / Task.objects.count() < 0.13
    for task in subtasks:
        assert task.parent
        assert (task.parent.user_id, task.parent.list_id) == (task.user_id, task.list_id)
        assert (task.parent.is_completed, task.parent.parent_id) == (False, None)
        assert task.parent.created_at < task.created_at
    assert {task.is_completed for task in subtasks} == {True, False}
    assert {task.list_id is None for task in subtasks} == {True, False}


@on_real_tables
def test_load_makes_recurring_tasks_whose_next_one_comes() -> None:
    """[Q1] By rules that clients may write, in the spelling that is answered."""
    run("seed_load", "--users", 2, "--tasks-per-user", 500, force=True)
    recurring = list(Task.objects.filter(recurrence__isnull=False))
    assert 0.01 < len(recurring) / 1_000 < 0.04
    for task in recurring:
        assert str(Rule.parse(task.recurrence or "")) == task.recurrence
        assert (task.series_id, task.completed_at) == (task.pk, None)
        assert task.series_start_on == task.occurrence_on == task.due_on
    assert {task.repeat_from for task in recurring} == {0, 1}
    client = ApiClient(begin_session(recurring[0].user).access)

    completed = data_of(client.patch(f"/api/me/tasks/{recurring[0].pk}/complete", {}))

    assert Task.objects.get(pk=completed["next_task_id"]).recurrence == recurring[0].recurrence


@on_real_tables
def test_load_is_the_same_on_an_equal_database() -> None:
    """But for ids and times."""
    seen = []
    for _ in range(2):
        run("seed_load", "--users", 2, "--tasks-per-user", 50, force=True)
        ordered = Task.objects.order_by("user__email", "position")
        seen.append(list(ordered.values_list(*SEEDED)))
        User.objects.get_queryset().delete()

    assert seen[0] == seen[1]


@on_real_tables
def test_load_again_adds_further_users() -> None:
    run("seed_load", "--users", 2, "--tasks-per-user", 1, force=True)
    before = list(User.objects.order_by("id").values())
    User.objects.create_user("load-1@example.com", None)
    User.objects.create_user("load-999999x@example.com", None)

    printed = run("seed_load", "--users", 1, "--tasks-per-user", 2, force=True)

    assert "Users added: 1, load-000003@example.com to load-000003@example.com." in printed
    assert User.objects.get(email="load-000003@example.com").tasks.count() == 2
    earlier = User.objects.filter(email__in=["load-000001@example.com", "load-000002@example.com"])
    assert list(earlier.order_by("id").values()) == before
    assert Task.objects.filter(user__in=earlier).count() == 2


@on_real_tables
def test_load_takes_a_password() -> None:
    printed = run(
        "seed_load",
        "--users",
        1,
        "--tasks-per-user",
        1,
        "--password",
        "plough-4-fields",
        force=True,
    )

    assert "The password of all these users: plough-4-fields" in printed
    assert check_password("plough-4-fields", User.objects.get().password)


@on_real_tables
def test_interrupted_load_leaves_no_half_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted amid the tasks of the third of five users; the next run goes on."""
    monkeypatch.setattr(seed_load, "BATCH_TASKS", 10)
    task_rows = seed_load._task_rows

    def interrupted(person: seed_load.Person, count: int, random: Random) -> Iterator[Any]:
        rows = task_rows(person, count, random)
        if person.user.email == "load-000003@example.com":
            yield next(rows)
            raise KeyboardInterrupt
        yield from rows

    monkeypatch.setattr(seed_load, "_task_rows", interrupted)
    printed = io.StringIO()
    with pytest.raises(CommandError, match=r"Interrupted. Users added: 2,") as raised:
        run("seed_load", "--users", 5, "--tasks-per-user", 10, force=True, stdout=printed)
    assert raised.value.returncode == 130
    assert "The password of all these users: " in printed.getvalue()
    assert (User.objects.count(), Task.objects.count()) == (2, 20)

    monkeypatch.setattr(seed_load, "_task_rows", task_rows)
    run("seed_load", "--users", 2, "--tasks-per-user", 10, force=True)
    assert (User.objects.count(), Task.objects.count()) == (4, 40)


@on_real_tables
def test_load_works_under_a_tight_statement_timeout() -> None:
    """Such as the role of the service has; and it stays in force for others on the connection."""
    with connections["direct"].cursor() as cursor:
        cursor.execute("SET statement_timeout = 100")
        try:
            run("seed_load", "--users", 1, "--tasks-per-user", 20_000, force=True)
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("100ms",)
        finally:
            cursor.execute("RESET statement_timeout")
    assert Task.objects.count() == 20_000


@on_real_tables
def test_load_tells_the_planner() -> None:
    run("seed_load", "--users", 2, "--tasks-per-user", 50, force=True)

    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT reltuples FROM pg_class"
            " WHERE relname IN ('accounts_user', 'tasks_list', 'tasks_task') ORDER BY relname"
        )
        assert cursor.fetchall() == [(2,), (TaskList.objects.count(),), (100,)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@on_real_tables
@pytest.mark.parametrize(
    ("output", "reports"), [(io.StringIO, 10), (Terminal, 20)], ids=["file", "terminal"]
)
def test_load_shows_its_progress(
    output: type[io.StringIO], reports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_load, "BATCH_TASKS", 1)

    printed = run("seed_load", "--users", 20, "--tasks-per-user", 1, force=True, stdout=output())

    assert len(re.findall(r"\d of 20 tasks", printed)) == reports
    assert ("\r[########" in printed) == (output is Terminal)
    assert re.search(r"20 of 20 tasks.*\nUsers added: 20", printed)


@pytest.mark.parametrize("command", ["seed_demo", "seed_load"])
def test_help_tells_what_happens(command: str) -> None:
    text = load_command_class("tasks", command).create_parser("manage.py", command).format_help()

    assert "Run again" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--users", "0"], "valid: 1 to 999,999", id="no users"),
        pytest.param(["--users", "-1"], "valid: 1 to 999,999", id="negative"),
        pytest.param(["--users", "1e3"], "valid: 1 to 999,999", id="exponent"),
        pytest.param(["--users", "٣"], "valid: 1 to 999,999", id="other digits"),
        pytest.param(["--users", "1000000"], "valid: 1 to 999,999", id="too many users"),
        pytest.param(["--tasks-per-user", "0"], "valid: 1 to 1,000,000", id="no tasks"),
        pytest.param(["--tasks-per-user", "1000001"], "valid: 1 to 1,000,000", id="too many each"),
        pytest.param(["--tasks-per-user", "334"], "more than 1,000 tasks", id="too many tasks"),
        pytest.param(["--password", "x7!kq"], "too short", id="short password"),
        pytest.param(["--password", "x7" * 65], "at most 128 characters", id="long password"),
    ],
)
@on_real_tables
def test_load_refuses_nonsense(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_load, "MAX_TASKS", 1_000)

    with pytest.raises(CommandError, match=message):
        run("seed_load", "--users=3", "--tasks-per-user=3", *arguments, force=True)

    assert not User.objects.exists()


@on_real_tables
def test_load_refuses_more_users_than_numbers() -> None:
    User.objects.create_user("load-999998@example.com", None)

    with pytest.raises(CommandError, match=r"2 more users don't fit"):
        run("seed_load", "--users", 2, "--tasks-per-user", 1, force=True)

    assert User.objects.count() == 1


def test_load_refuses_a_database_that_people_use(settings: Any) -> None:
    """DEBUG is off in tests, too."""
    assert settings.DEBUG is False

    with pytest.raises(CommandError, match=r"DEBUG is off"):
        run("seed_load", "--users", 1, "--tasks-per-user", 1)


@on_real_tables
def test_load_survives_an_address_that_is_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_load, "_highest_number", lambda: 0)
    monkeypatch.setattr(seed_load, "BATCH_TASKS", 1)
    User.objects.create_user("load-000002@example.com", None)

    with pytest.raises(CommandError, match=r"Users added: 1,.*taken: run it again"):
        run("seed_load", "--users", 3, "--tasks-per-user", 1, force=True)

    assert (User.objects.count(), Task.objects.count()) == (2, 1)
