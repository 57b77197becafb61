"""[X5] Operators download a person's data for them, and it is written down."""

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db.models import QuerySet
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User
from tasks.models import Task
from tests.client import ApiClient, Browser
from tests.conftest import begin_session
from todo_project.api.streaming import StreamedResponse

pytestmark = pytest.mark.usefixtures("service_alone")

ABSENT = "0198f000-0000-7000-8000-000000000000"
BUTTON = 'value="Export data"'
# Of the request's session and its operator.
SIGN_IN_QUERIES = 2
# What stands in the file.
SEEN = [
    *("view_user", "view_session", "view_identity", "view_personaltoken"),
    *("view_task", "view_tasklist"),
]


def permissions(codenames: list[str]) -> QuerySet[Permission]:
    return Permission.objects.filter(
        codename__in=codenames, content_type__app_label__in=("accounts", "tasks")
    )


@pytest.fixture
def olaf(make_user: Callable[..., User]) -> User:
    """An operator who sees all that is in the file, and changes nothing."""
    olaf = make_user("olaf@example.com", is_staff=True)
    olaf.user_permissions.set(permissions(SEEN))
    return olaf


def signed_in(operator: User) -> Browser:
    browser = Browser()
    browser.force_login(operator)
    return browser


def page(user: User) -> str:
    return f"/admin/accounts/user/{user.pk}/change/"


def address(user_id: object) -> str:
    return f"/admin/accounts/user/{user_id}/export/"


def document_of(response: Any) -> Any:
    assert response.status_code == 200
    return json.loads(b"".join(response))


def test_operator_gets_what_the_person_would(alice: User, bob: User, olaf: User) -> None:
    """[X5]"""
    for owner in (alice, bob):
        Task.objects.create(user=owner, title=f"of {owner.email}")
    hers = json.loads(ApiClient(begin_session(alice).access).get("/api/auth/me/export").content)

    response = signed_in(olaf).post(address(alice.pk))

    theirs = document_of(response)
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"].startswith("attachment")
    assert "no-store" in response["Cache-Control"]
    for document in (hers, theirs):
        del document["exported_at"]
        for session in document["sessions"]:
            del session["is_current"]
    assert theirs == hers
    (entry,) = LogEntry.objects.all()
    assert (entry.user, entry.object_id) == (olaf, str(alice.pk))
    assert entry.get_change_message() == "Exported the data."


@pytest.mark.parametrize("missing", SEEN)
def test_whoever_may_not_see_all_of_it_gets_none(missing: str, alice: User, olaf: User) -> None:
    """[X5] No way around the permissions: not for what they may see elsewhere, either."""
    olaf.user_permissions.remove(*permissions([missing]))
    browser = signed_in(olaf)

    response = browser.post(address(alice.pk))

    assert response.status_code == 403
    assert LogEntry.objects.count() == 0
    assert BUTTON not in browser.get(page(alice)).content.decode()


def test_button_stands_on_the_page(alice: User, olaf: User) -> None:
    browser = signed_in(olaf)

    content = browser.get(page(alice)).content.decode()

    assert BUTTON in content
    assert f'action="{address(alice.pk)}"' in content
    assert BUTTON not in signed_in(alice_as_operator(alice)).get("/admin/").content.decode()


def alice_as_operator(alice: User) -> User:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    return User.objects.get(pk=alice.pk)


def test_link_of_another_site_gets_nothing(alice: User, olaf: User) -> None:
    """[X5] Nor does one that a browser opens ahead."""
    forged = Browser(enforce_csrf_checks=True)
    forged.force_login(olaf)

    assert forged.post(address(alice.pk)).status_code == 403
    assert forged.get(address(alice.pk)).status_code == 405
    assert LogEntry.objects.count() == 0


@pytest.mark.parametrize(
    ("user_id", "status"), [(ABSENT, 404), ("x", 302)], ids=["absent", "malformed"]
)
def test_nobodys_data(user_id: str, status: int, olaf: User) -> None:
    """A malformed id is an object's page to admin, which sends whoever asks for one back."""
    response = signed_in(olaf).post(address(user_id))

    assert response.status_code == status
    assert LogEntry.objects.count() == 0


def test_it_ends_with_the_operators_rights(alice: User, olaf: User, settings: Any) -> None:
    """[X5] At the next page."""
    settings.EXPORT_PAGE_ROWS = 1
    Task.objects.bulk_create(Task(user=alice, title=title) for title in ("first", "second"))
    response = cast("StreamedResponse", signed_in(olaf).post(address(alice.pk)))
    pieces = iter(response)
    next(pieces)
    User.objects.filter(pk=olaf.pk).update(is_staff=False)

    with pytest.raises(ConnectionAbortedError):
        next(pieces)


def test_it_leaves_the_persons_own_alone(alice: User, olaf: User) -> None:
    """[X4] Both at once; the limit is not touched, and no session is the operator's."""
    access = begin_session(alice).access
    first = ApiClient(access).get("/api/auth/me/export")
    document = document_of(signed_in(olaf).post(address(alice.pk)))
    second = ApiClient(access).get("/api/auth/me/export")

    used = int(first["RateLimit-Remaining"]) - int(second["RateLimit-Remaining"])
    assert used == 1
    assert [session["is_current"] for session in document["sessions"]] == [False]
    assert Session.objects.count() == 1


@pytest.mark.parametrize("count", [1, 50])
def test_queries_are_as_many_as_pages(
    count: int, alice: User, olga: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    Task.objects.bulk_create(Task(user=alice, title=str(number)) for number in range(count))
    browser = signed_in(olga)

    # The person, the beginning, three of the account, the log; the lists, the tasks.
    with django_assert_num_queries(SIGN_IN_QUERIES + 8):
        document = document_of(browser.post(address(alice.pk)))

    assert len(document["tasks"]) == count
