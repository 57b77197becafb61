"""The audit page of Django admin: what each operator did, for all to see and for none to change."""

from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

import todo_project.admin.tables
from accounts.models import User
from tasks.models import Task
from tests.test_admin import TASKS, USERS, MakeUser, html, sign_in

AUDIT = "/admin/admin/logentry/"


@pytest.fixture
def olga_admin(olga: User) -> Client:
    return sign_in(olga)


@pytest.fixture
def oskar(make_user: MakeUser) -> User:
    return make_user("oskar@example.com", name="Oskar", is_staff=True, is_superuser=True)


@pytest.fixture
def entries(olga: User, oskar: User, alice: User, task: Task) -> dict[str, LogEntry]:
    """Olga added Alice, Oskar changed her and, long ago, deleted a task."""
    actions: dict[str, tuple[User, Any, int]] = {
        "deleted": (oskar, task, DELETION),
        "added": (olga, alice, ADDITION),
        "changed": (oskar, alice, CHANGE),
    }
    made = {
        name: LogEntry.objects.log_actions(operator.pk, [row], flag, f"{name.title()}.")[0]
        for name, (operator, row, flag) in actions.items()
    }
    LogEntry.objects.filter(pk=made["deleted"].pk).update(action_time="2026-01-02T03:04:05Z")
    return made


def listed(browser: Client, **query: str) -> list[str]:
    response = browser.get(AUDIT, query)
    html(response)
    return [entry.change_message for entry in response.context["cl"].result_list]


def test_audit_tells_who_did_what(
    olga_admin: Client, entries: dict[str, LogEntry], alice: User, task: Task, oskar: User
) -> None:
    """Colleagues included, the newest first; what is still there has a link."""
    page = html(olga_admin.get(AUDIT))

    assert listed(olga_admin) == ["Changed.", "Added.", "Deleted."]
    assert "2026-01-02 03:04 UTC" in page
    assert f'<a href="{AUDIT}?operator={oskar.pk}">oskar@example.com</a>' in page
    assert f'<a href="{USERS}{alice.pk}/change/">alice@example.com</a>' in page
    assert task.title in page
    assert f"{TASKS}{task.pk}" not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"operator": "me"}, ["Added."]),
        ({"operator": "others"}, ["Changed.", "Deleted."]),
        ({"operator": "{oskar}"}, ["Changed.", "Deleted."]),
        ({"action": "deleted"}, ["Deleted."]),
        ({"kind": "accounts.user"}, ["Changed.", "Added."]),
        ({"day": "today"}, ["Changed.", "Added."]),
        ({"day": "2026-01-02"}, ["Deleted."]),
        ({"day": "2026-01-03"}, []),
        ({"operator": "zz", "action": "9", "kind": "x", "day": "y"}, 3 * ["any"]),
        ({"q": "ALICE@example"}, ["Changed.", "Added."]),
        ({"q": "milk"}, ["Deleted."]),
        ({"q": "oskar@example.com"}, ["Changed.", "Deleted."]),
        ({"q": "{alice}"}, ["Changed.", "Added."]),
        ({"q": "{oskar}"}, ["Changed.", "Deleted."]),
        ({"q": "oskar@example.com", "action": "deleted", "day": "2026-01-02"}, ["Deleted."]),
        ({"q": "%"}, []),
    ],
)
def test_audit_is_searched_and_filtered(
    query: dict[str, str],
    found: list[str],
    olga_admin: Client,
    entries: dict[str, LogEntry],
    alice: User,
    oskar: User,
) -> None:
    ids = {"alice": alice.pk, "oskar": oskar.pk}

    shown = listed(olga_admin, **{name: value.format(**ids) for name, value in query.items()})

    assert shown == found or (found == 3 * ["any"] and len(shown) == 3)


def test_audit_is_searched_among_the_newest(
    olga_admin: Client, entries: dict[str, LogEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(todo_project.admin.tables, "SEARCHED_ROWS", 2)

    assert listed(olga_admin, operator="others") == ["Changed."]


@pytest.mark.parametrize("page", ["add", "{entry}/change", "{entry}/delete"])
@pytest.mark.parametrize("operator", ["superuser", "with all permissions"])
def test_audit_is_nobodys_to_change(
    page: str,
    operator: str,
    olga: User,
    entries: dict[str, LogEntry],
    make_user: MakeUser,
) -> None:
    otto = make_user("otto@example.com", is_staff=True)
    otto.user_permissions.set(Permission.objects.all())
    browser = sign_in(olga if operator == "superuser" else otto)
    before = list(LogEntry.objects.values())
    path = f"{AUDIT}{page.format(entry=entries['changed'].pk)}/"

    html(browser.post(path, {"change_message": "", "post": "yes"}), 403)
    browser.post(
        AUDIT,
        {"action": "delete_selected", "_selected_action": entries["changed"].pk, "post": "yes"},
    )

    assert list(LogEntry.objects.values()) == before


def test_audit_shows_an_entry(olga_admin: Client, entries: dict[str, LogEntry]) -> None:
    page = html(olga_admin.get(f"{AUDIT}{entries['changed'].pk}/change/"))

    assert "Changed." in page
    assert "Save" not in page


def test_audit_is_for_whoever_may_view_it(
    entries: dict[str, LogEntry], make_user: MakeUser
) -> None:
    otto = make_user("otto@example.com", is_staff=True)
    assert sign_in(otto).get(AUDIT).status_code == 403
    otto.user_permissions.add(Permission.objects.get(codename="view_logentry"))

    assert listed(sign_in(otto)) == ["Changed.", "Added.", "Deleted."]


def test_actions_and_forms_come_to_the_audit(olga_admin: Client, alice: User) -> None:
    """What an operator does in any list stands there, with where it leads."""
    olga_admin.post(
        USERS, {"action": "deactivate", "index": 0, "_selected_action": [str(alice.pk)]}
    )

    assert listed(olga_admin) == ["Deactivated."]
