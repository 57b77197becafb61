"""A person's own data as one document, which is made page by page while it is read."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from django.core.signals import request_finished
from django.db import OperationalError, close_old_connections, connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Identity, PersonalToken, Session, User
from tasks.models import DESCRIPTION_MAX_CHARACTERS, Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import PASSWORD, begin_session, personal_token
from tests.issuer import Issuer
from tests.resources import everything
from todo_project.api.permissions import Scope
from todo_project.api.streaming import StreamedResponse
from todo_project.environment import Rate
from todo_project.models import Clock
from todo_project.resources import export

pytestmark = pytest.mark.usefixtures("service_alone")

EXPORT = "/api/auth/me/export"
TASKS, LISTS, TRASH = "/api/me/tasks", "/api/me/lists", "/api/me/trash"
CHANGES = "/api/me/changes"
MEMBERS = [
    *("format", "format_version", "exported_at", "version", "since"),
    *("account", "sessions", "tokens", "identities", "lists", "tasks"),
]
UNICODE = 'Ängste "quoted" \\ </script> \N{GRINNING FACE} \N{FAMILY}\N{ZERO WIDTH JOINER}\N{GIRL}'


class Download:
    """An export that is read piece by piece, through all that surrounds a request."""

    def __init__(self, access: str, method: str = "GET") -> None:
        client = Client(headers={"Authorization": f"Bearer {access}"})
        self.response = cast("StreamedResponse", client.generic(method, EXPORT))
        self.text = ""

    def read(self) -> bool:
        """A piece; False at the end."""
        piece = next(iter(self.response), None)
        self.text += (piece or b"").decode()
        return piece is not None

    def read_all(self) -> Any:
        while self.read():
            pass
        return json.loads(self.text)

    def close(self) -> None:
        """As the server does where the reader is gone; and as Django's client does at the end."""
        request_finished.disconnect(close_old_connections)
        self.response.close()
        request_finished.connect(close_old_connections)


@pytest.fixture
def rates(settings: Any) -> Callable[[Rate | None], None]:
    def set_rate(rate: Rate | None) -> None:
        settings.RATE_LIMITS = {**dict.fromkeys(settings.RATE_LIMITS), "exports": rate}

    return set_rate


@pytest.fixture(autouse=True)
def nothing_under_way() -> Iterator[None]:
    yield
    export._under_way.clear()


def without_trash(rows: list[Any]) -> list[Any]:
    """What lives of an export, as its own routes answer it."""
    return [
        {name: value for name, value in row.items() if name != "deleted_at"}
        for row in rows
        if row["deleted_at"] is None
    ]


def of_trash(rows: list[Any], kind: str) -> list[Any]:
    """What doesn't, as the trash answers it, but for the end."""
    return [
        {"type": kind, "id": row["id"], "resource": living, "deleted_at": row["deleted_at"]}
        for row in rows
        if row["deleted_at"] is not None
        for living in [{name: row[name] for name in row if name != "deleted_at"}]
    ]


def by_id(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: row["id"])


def furnish(client: ApiClient, mark: str) -> None:
    """Something of everything, whose texts have a mark."""
    groceries = data_of(client.post(LISTS, {"name": f"{mark} groceries", "color": "#1e90ff"}), 201)
    gone = data_of(client.post(LISTS, {"name": f"{mark} gone"}), 201)
    parent = create(client, f"{mark} parent", list_id=groceries["id"], labels=["a", UNICODE[:6]])
    below = {"list_id": groceries["id"]}
    child = create(client, f"{mark} child", parent_id=parent["id"], **below)
    create(client, f"{mark} grandchild", parent_id=child["id"], **below)
    create(client, f"{mark} {UNICODE}", description=f"{UNICODE}\n\t{UNICODE}")
    weekly = create(
        client,
        f"{mark} weekly",
        due_on="2999-01-31",
        due_time="09:30",
        time_zone="Europe/Berlin",
        start_on="2999-01-30",
        recurrence="FREQ=WEEKLY",
        priority="urgent",
    )
    data_of(client.patch(f"{TASKS}/{weekly['id']}/complete"))
    trashed = create(client, f"{mark} trashed")
    client.delete(f"{TASKS}/{trashed['id']}")
    create(client, f"{mark} with its list", list_id=gone["id"])
    client.delete(f"{LISTS}/{gone['id']}")
    purged = create(client, f"{mark} purged")
    client.delete(f"{TASKS}/{purged['id']}", query={"permanent": "true"})


def create(client: ApiClient, title: str = "x", **fields: Any) -> Any:
    return data_of(client.post(TASKS, {"title": title, **fields}), 201)


def exported(client: ApiClient) -> Any:
    response = client.get(EXPORT)
    assert response.status_code == 200, response.content[:500]
    return json.loads(response.content)


def test_document_is_what_the_api_answers(alice: User, alice_client: ApiClient) -> None:
    """[X1] The account by its routes; lists and tasks by theirs and by the trash, no row more."""
    furnish(alice_client, "hers")
    data_of(
        alice_client.post("/api/auth/tokens", {"name": "Backup", "scopes": ["tasks:read"]}), 201
    )
    Identity.objects.create(user=alice, issuer="https://issuer.example", subject="alice")

    document = exported(alice_client)

    assert list(document) == MEMBERS
    assert (document["format"], document["format_version"]) == ("todo-export", 1)
    assert document["version"] == Clock.objects.get(user=alice).version
    assert document["account"] == data_of(alice_client.get("/api/auth/me"))
    assert document["sessions"] == data_of(alice_client.get("/api/auth/sessions"))
    assert document["tokens"] == data_of(alice_client.get("/api/auth/tokens"))
    assert document["identities"] == data_of(alice_client.get("/api/auth/identities"))
    for name in ("sessions", "tokens", "identities"):
        assert len(document[name]) == 1
    for name, kind, path, trashed in (("lists", "list", LISTS, 1), ("tasks", "task", TASKS, 2)):
        rows = document[name]
        assert rows == by_id(rows)
        assert without_trash(rows) == by_id(everything(alice_client, path))
        in_trash = [row for row in everything(alice_client, TRASH) if row["type"] == kind]
        for row in in_trash:
            del row["purge_at"]
        assert of_trash(rows, kind) == by_id(in_trash)
        assert len(in_trash) == trashed


def test_document_of_whoever_has_nothing(alice_client: ApiClient) -> None:
    document = exported(alice_client)

    assert list(document) == MEMBERS
    assert [document[name] for name in ("tokens", "identities", "lists", "tasks")] == [[]] * 4


def test_file_has_a_line_for_each_object(alice_client: ApiClient) -> None:
    """[X1] So that two can be compared by lines."""
    furnish(alice_client, "hers")

    response = alice_client.get(EXPORT)

    document = json.loads(response.content)
    assert response["Content-Type"] == "application/json"
    day = document["exported_at"][:10]
    assert response["Content-Disposition"] == f'attachment; filename="todo-export-{day}.json"'
    assert response["Cache-Control"] == "no-store"
    assert "Content-Length" not in response
    lines = response.content.decode().splitlines()
    objects = [json.loads(line.removesuffix(",")) for line in lines if line.startswith('{"')]
    assert objects == [
        row
        for name in ("sessions", "tokens", "identities", "lists", "tasks")
        for row in document[name]
    ]


def test_nothing_of_anothers_is_in_it(
    alice: User, bob: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[X1] Nor a word of theirs, whoever is exporting beside them."""
    furnish(alice_client, "hers")
    furnish(bob_client, "his")
    hers, his = (Download(begin_session(user).access) for user in (alice, bob))

    while hers.read() | his.read():
        pass

    assert str(bob.pk) not in hers.text
    assert "his " not in hers.text
    assert str(alice.pk) not in his.text
    assert "hers " not in his.text
    for text, user in ((hers.text, alice), (his.text, bob)):
        document = json.loads(text)
        assert {row["user_id"] for row in document["lists"] + document["tasks"]} == {str(user.pk)}
        assert len(document["tasks"]) == Task.objects.filter(user=user).count()


def test_no_secret_is_in_it(alice: User, alice_client: ApiClient) -> None:
    """[X1] Neither passwords nor tokens, nor what is kept of them."""
    furnish(alice_client, "hers")
    pair = begin_session(alice)
    token = personal_token(alice)
    rows = [
        *User.objects.filter(pk=alice.pk).values("password"),
        *Session.objects.values("refresh_hash", "previous_refresh_hash"),
        *PersonalToken.objects.values("hash"),
    ]
    kept: list[Any] = [value for row in rows for value in row.values() if value]
    forms = [
        form
        for value in kept
        for form in ([value] if isinstance(value, str) else [bytes(value).hex()])
    ]

    text = alice_client.get(EXPORT).content.decode()

    assert len(forms) >= 4
    secrets = [*forms, PASSWORD, pair.access, pair.refresh, token, str(alice_client.access)]
    assert [secret for secret in secrets if secret in text] == []
    assert not re.search(r'"[^"]*(hash|password|secret|refresh)[^"]*":', text)


def test_many_pages_have_each_row_once(
    alice: User, alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[X1] 3,000 tasks, a third of them in the trash; a statement for each page."""
    now = timezone.now()
    Task.objects.bulk_create(
        (
            Task(user=alice, title=f"{number} {UNICODE}", deleted_at=None if number % 3 else now)
            for number in range(3000)
        ),
        batch_size=500,
    )
    Task.objects.filter(user=alice).update(created_at=now)
    pages = 3000 // 200

    # The caller, the limit, the beginning, three of the account, the lists.
    with django_assert_num_queries(7 + pages):
        document = exported(alice_client)

    ids = [row["id"] for row in document["tasks"]]
    assert ids == [str(pk) for pk in Task.objects.order_by("id").values_list("id", flat=True)]
    assert without_trash(document["tasks"]) == by_id(everything(alice_client, TASKS, limit=200))
    assert sum(row["deleted_at"] is not None for row in document["tasks"]) == 1000


def test_page_has_no_more_than_a_mebibyte(alice: User) -> None:
    """[X4] However long the texts are; no task is lost where a page ends by them."""
    text = "\N{GRINNING FACE}" * DESCRIPTION_MAX_CHARACTERS
    Task.objects.bulk_create(
        Task(user=alice, title=str(number), description=text) for number in range(40)
    )
    download = Download(begin_session(alice).access)
    sizes = [len(piece) for piece in iter(lambda: take(download), b"")]

    titles = [row["title"] for row in json.loads(download.text)["tasks"]]
    assert max(sizes) < 1024 * 1024 + 2000
    assert titles == [str(number) for number in range(40)]


def take(download: Download) -> bytes:
    before = len(download.text)
    download.read()
    return download.text[before:].encode()


def test_whoever_goes_on_from_it_misses_nothing(
    alice: User, alice_client: ApiClient, settings: Any
) -> None:
    """[X2] What is written while it is made, before and behind where it is."""
    settings.EXPORT_PAGE_ROWS = 3
    tasks = [create(alice_client, str(number)) for number in range(12)]
    for number in (2, 10):
        alice_client.delete(f"{TASKS}/{tasks[number]['id']}")
    early, late = "01000000-0000-7000-8000-000000000000", "ffffffff-0000-7000-8000-000000000000"
    download = Download(begin_session(alice).access)
    for _ in range(3):  # the lists, and six tasks
        download.read()
    for number in (1, 11):
        data_of(alice_client.patch(f"{TASKS}/{tasks[number]['id']}", {"title": "changed"}))
    for number in (3, 8):
        alice_client.delete(f"{TASKS}/{tasks[number]['id']}")
    for number in (4, 9):
        alice_client.delete(f"{TASKS}/{tasks[number]['id']}", query={"permanent": "true"})
    for number in (2, 10):
        data_of(alice_client.post(f"{TASKS}/{tasks[number]['id']}/restore"))
    for chosen in (early, late):
        response = alice_client.put(f"{TASKS}/{chosen}", {"title": chosen}, if_none_match="*")
        data_of(response, 201)
    data_of(alice_client.post(LISTS, {"name": "new"}), 201)

    document = download.read_all()
    have = {row["id"]: row for name in ("lists", "tasks") for row in without_trash(document[name])}
    since, has_more = document["since"], True
    while has_more:
        response = alice_client.get(CHANGES, query={"since": since, "limit": 2})
        for change in data_of(response):
            have.pop(change["id"], None)
            if not change["deleted"]:
                have[change["id"]] = change["resource"]
        since, has_more = meta_of(response)["next_since"], meta_of(response)["has_more"]

    there = [*everything(alice_client, LISTS), *everything(alice_client, TASKS)]
    assert by_id(list(have.values())) == by_id(there)
    assert len(there) == 11


def test_position_tells_only_what_is_new(alice_client: ApiClient) -> None:
    """[X2] Whoever has the document needs nothing of it again."""
    furnish(alice_client, "hers")
    document = exported(alice_client)

    response = alice_client.get(CHANGES, query={"since": document["since"]})

    assert data_of(response) == []
    assert meta_of(response)["has_more"] is False


def test_another_account_takes_it_in(alice_client: ApiClient, bob_client: ApiClient) -> None:
    """[X1] As it came: everything that lives."""
    furnish(alice_client, "hers")
    document = alice_client.get(EXPORT).content

    response = bob_client.post("/api/me/import", document, query={"format": "todo"})

    assert data_of(response)["counts"]["failed"] == 0
    for path, text in ((LISTS, "name"), (TASKS, "title")):
        hers, his = everything(alice_client, path), everything(bob_client, path)
        assert sorted(row[text] for row in his) == sorted(row[text] for row in hers)


def _end_session(alice: User) -> None:
    Session.objects.filter(user=alice).end()


def _deactivate(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)


def _delete(alice: User) -> None:
    alice.delete()


@pytest.mark.parametrize("end", [_end_session, _deactivate, _delete], ids=lambda end: end.__name__)
def test_it_breaks_off_where_the_session_ends(
    end: Callable[[User], None], alice: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """[X3] At the next page, and is seen to be no document."""
    settings.EXPORT_PAGE_ROWS = 1
    Task.objects.bulk_create(Task(user=alice, title=title) for title in ("first", "second"))
    download = Download(begin_session(alice).access)
    download.read()
    download.read()
    end(alice)

    with pytest.raises(ConnectionAbortedError):
        download.read()

    assert '"title":"first"' in download.text
    with pytest.raises(json.JSONDecodeError):
        json.loads(download.text)
    (record,) = [each for each in caplog.records if each.name.endswith("middleware.requests")]
    assert (record.levelname, record.getMessage()[:19]) == ("WARNING", "an answer breaks of")


def test_person_of_an_identity_provider(alice: User, issuer: Issuer) -> None:
    """[X3] Theirs is as anybody's, and ends with their identity."""
    Identity.objects.create(user=alice, issuer=issuer.name, subject="alice")
    access = issuer.token("alice")
    document = Download(access).read_all()
    download = Download(access)
    download.read()
    Identity.objects.filter(user=alice).delete()

    with pytest.raises(ConnectionAbortedError):
        download.read()

    assert [row["is_current"] for row in document["identities"]] == [True]
    assert document["sessions"] == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_personal_token_is_refused(method: str, alice: User) -> None:
    """[X3] Whatever it may do: the document has more than any scope."""
    response = ApiClient(personal_token(alice, tuple(Scope))).call(method, EXPORT)

    assert response.status_code == 403
    if method == "GET":
        assert_error(response, 403, "PERMISSION_DENIED")


def test_it_takes_no_parameters(alice_client: ApiClient) -> None:
    assert "limit" in assert_error(
        alice_client.get(EXPORT, query={"limit": 1}), 400, "VALIDATION_ERROR"
    )


def test_limit_is_of_a_person(
    alice_client: ApiClient, bob_client: ApiClient, rates: Callable[[Rate | None], None]
) -> None:
    """[X4] HEAD counts as well; writes don't count for it, and it doesn't for writes."""
    rates(Rate(limit=2, period_seconds=3600))
    create(alice_client)

    first = alice_client.get(EXPORT)
    second = alice_client.call("HEAD", EXPORT)
    third = alice_client.get(EXPORT)

    assert [first.status_code, second.status_code] == [200, 200]
    assert [first["RateLimit-Remaining"], second["RateLimit-Remaining"]] == ["1", "0"]
    assert_error(third, 429, "RATE_LIMITED")
    assert 0 < int(third["Retry-After"]) <= 3600
    assert bob_client.get(EXPORT).status_code == 200


def test_so_many_at_once_and_no_more(
    alice: User, bob: User, bob_client: ApiClient, settings: Any
) -> None:
    """[X4] A place is free again when its reader has everything, or is gone."""
    settings.EXPORTS_AT_ONCE = 1
    access = begin_session(alice).access
    gone = Download(access)

    refused = bob_client.get(EXPORT)
    gone.close()
    of_bob = Download(begin_session(bob).access)
    documents = [of_bob.read_all()]
    of_alice = Download(access)
    documents.append(of_alice.read_all())
    after = bob_client.get(EXPORT)

    assert_error(refused, 503, "SERVICE_UNAVAILABLE")
    assert int(refused["Retry-After"]) > 0
    assert [list(document) for document in documents] == [MEMBERS, MEMBERS]
    assert after.status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_finds_no_place_has_not_used_a_try(
    method: str,
    alice: User,
    bob_client: ApiClient,
    settings: Any,
    rates: Callable[[Rate | None], None],
) -> None:
    """[X4] However often they come again, as Retry-After tells them to."""
    rates(Rate(limit=1, period_seconds=3600))
    settings.EXPORTS_AT_ONCE = 1
    first = Download(begin_session(alice).access)

    refused = [bob_client.call(method, EXPORT).status_code for _ in range(3)]
    first.close()
    after = bob_client.get(EXPORT)

    assert refused == [503] * 3
    assert after.status_code == 200


def test_further_one_ends_the_one_before(alice: User, settings: Any) -> None:
    """[X3] Whose connection may be lost already, without anybody's knowing."""
    settings.EXPORTS_AT_ONCE = 1
    access = begin_session(alice).access
    lost = Download(access)
    lost.read()

    document = Download(access).read_all()

    assert list(document) == MEMBERS
    with pytest.raises(ConnectionAbortedError):
        lost.read()


def test_head_ends_no_export(
    alice: User, alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[X4] It reads no page."""
    download = Download(begin_session(alice).access)

    with django_assert_num_queries(6):
        response = alice_client.call("HEAD", EXPORT)

    assert response["Content-Disposition"].startswith("attachment")
    assert response.content == b""
    assert list(download.read_all()) == MEMBERS


def test_it_breaks_off_after_its_time(alice: User, settings: Any) -> None:
    """[X3] Whoever reads slowly keeps no place for ever."""
    download = Download(begin_session(alice).access)
    download.read()
    settings.EXPORT_TIME_LIMIT_SECONDS = -1
    late = Download(begin_session(alice).access)

    with pytest.raises(ConnectionAbortedError):
        late.read()


def test_it_breaks_off_where_the_database_is_away(alice: User) -> None:
    """[X3] Between two pages; the next export has another connection."""
    download = Download(begin_session(alice).access)
    download.read()
    with connection.execute_wrapper(_lost), pytest.raises(ConnectionAbortedError):
        download.read()


def _lost(*args: Any) -> Any:
    raise OperationalError("the connection is lost")
