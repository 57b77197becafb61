"""[V1] [V2] Versions, entity tags, and requests on condition of them (RFC 9110, section 13)."""

import json
import re
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import Racers, at_once, meeting
from todo_project.environment import Rate
from todo_project.models import Change, Clock, random_epoch

LIST = "/api/me/tasks"
CHANGES = "/api/me/changes"
TRASH = "/api/me/trash"
TAG = re.compile(r'"[0-9a-f]{16}-[0-9a-f]{6}-[0-9]+"')
STALE = '"0123456789abcdef-012345-1"'


@pytest.fixture
def task(alice_client: ApiClient) -> Task:
    """Alice's open task.

    Made by a request: what the database itself stamps in one transaction, which a test is, shares
    a version.
    """
    body = {"title": "Buy milk", "description": "Two litres"}
    return Task.objects.get(pk=data_of(alice_client.post(LIST, body), 201)["id"])


def clock_of(user: User) -> int:
    return Clock.objects.get(user=user).version


def path_of(task: Task) -> str:
    return f"{LIST}/{task.pk}"


def read(client: ApiClient, task: Task) -> Any:
    """The task as it is, in the trash or not."""
    response = client.get(path_of(task))
    if response.status_code == 200:
        return data_of(response)
    (found,) = (row for row in data_of(client.get(TRASH)) if row["id"] == str(task.pk))
    return found["resource"]


def assert_failed(response: Any, current: Any) -> dict[str, Any]:
    """Asserts a 412 that tells what there is, and how to refer to it."""
    details = assert_error(response, 412, "PRECONDITION_FAILED")
    assert details["current"] == current
    assert response["ETag"] == current["etag"]
    return details


# --- Versions ---------------------------------------------------------------------------------

# What changes a task of Alice's that is open, and is called "Buy milk".
WRITES = [
    pytest.param("PUT", "", {"title": "y"}, id="replace"),
    pytest.param("PATCH", "", {"title": "y"}, id="update"),
    pytest.param("PATCH", "", {"title": "y", "description": None}, id="update of two fields"),
    pytest.param("PATCH", "/complete", {}, id="complete"),
    pytest.param("DELETE", "", b"", id="delete"),
    pytest.param("DELETE", "?permanent=true", b"", id="delete for good"),
]


def test_every_answer_has_version_and_tag(alice: User, alice_client: ApiClient) -> None:
    """[V1] [V2] In the body as in the header, and the same ones wherever the task is read."""
    created = alice_client.post(LIST, {"title": "x"})
    task = data_of(created, 201)
    path = f"{LIST}/{task['id']}"
    answers = [
        created,
        alice_client.get(path),
        alice_client.put(path, {"title": "y"}),
        alice_client.patch(path, {"title": "z"}),
        alice_client.patch(path, {}),
        alice_client.patch(f"{path}/complete"),
        alice_client.post(f"{path}/restore"),
    ]

    versions = []
    for answer in answers:
        data = json.loads(answer.content)["data"]
        assert TAG.fullmatch(data["etag"])
        assert answer["ETag"] == data["etag"]
        assert data["etag"].endswith(f'-{data["version"]}"')
        versions.append(data["version"])
    first = versions[0]
    assert versions == [first, first, first + 1, first + 2, first + 2, first + 3, first + 3]
    assert clock_of(alice) == first + 3
    now = data_of(alice_client.get(path))
    assert data_of(alice_client.get(LIST)) == [now]
    assert [change["resource"] for change in data_of(alice_client.get(CHANGES))] == [now]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_advances_the_clock_by_one(
    method: str, path: str, body: Any, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[V1] And stamps what it changed, and tells of it."""
    before = clock_of(alice)

    response = alice_client.call(method, f"{path_of(task)}{path}", body)

    assert response.status_code in (200, 204)
    assert clock_of(alice) == before + 1
    assert list(Change.objects.filter(version=before + 1).values_list("id")) == [(task.pk,)]
    if response.status_code == 200:
        assert data_of(response)["version"] == before + 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("PATCH", "", {}, 200, id="empty"),
        pytest.param("PATCH", "", {"title": "  Buy milk "}, 200, id="the same title"),
        pytest.param("PUT", "", {"title": "Buy milk"}, 200, id="the same"),
        pytest.param("PATCH", "/complete", {"is_completed": False}, 200, id="open already"),
        pytest.param("POST", "/restore", b"", 200, id="not in the trash"),
        pytest.param("PATCH", "", {"title": ""}, 400, id="refused"),
        pytest.param("PATCH", "x", {"title": "y"}, 404, id="no such task"),
    ],
)
def test_write_that_changes_nothing_advances_nothing(
    method: str, path: str, body: Any, status: int, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[V1]"""
    before, changes = read(alice_client, task), Change.objects.count()
    clock = clock_of(alice)

    response = alice_client.call(method, f"{path_of(task)}{path}", body)

    assert response.status_code == status
    assert status != 200 or data_of(response) == before
    assert read(alice_client, task) == before
    assert (clock_of(alice), Change.objects.count()) == (clock, changes)


def test_clocks_of_people_are_their_own(
    alice: User, alice_client: ApiClient, bob: User, task: Task
) -> None:
    """[V1]"""
    before = clock_of(bob)

    data_of(alice_client.patch(path_of(task), {"title": "y"}))

    assert clock_of(bob) == before


@pytest.mark.django_db(transaction=True)
def test_versions_of_simultaneous_writes_are_all_there(alice: User) -> None:
    """[V1] Each write has its own, none is left out, and the log has them in their order."""
    client = ApiClient(begin_session(alice).access)
    before = clock_of(alice)
    ids = [data_of(client.post(LIST, {"title": f"{n}"}), 201)["id"] for n in range(4)]

    def write(row_id: str) -> list[int]:
        path, own = f"{LIST}/{row_id}", ApiClient(client.access)
        return [data_of(own.patch(path, {"title": f"{n} times"}))["version"] for n in range(10)]

    versions = at_once(*(partial(write, row_id) for row_id in ids))

    assert all(sorted(own) == own for own in versions)
    every = sorted(version for own in versions for version in own)
    assert every == list(range(before + 5, before + 45))
    assert list(Change.objects.order_by("version").values_list("version", flat=True)) == [
        *range(before + 1, before + 45)
    ]


# --- If-Match ---------------------------------------------------------------------------------

# As WRITES, and what else takes If-Match; done to a task in the trash where `is_trashed`.
CONDITIONAL = [
    *(pytest.param(*case.values, False, id=str(case.id)) for case in WRITES),
    pytest.param("POST", "/restore", b"", True, id="restore"),
    pytest.param("DELETE", "?permanent=true", b"", True, id="purge"),
]


@pytest.fixture
def prepared(alice_client: ApiClient, task: Task, is_trashed: bool) -> Task:
    if is_trashed:
        assert alice_client.delete(path_of(task)).status_code == 204
    return task


def write_after(client: ApiClient, task: Task) -> Any:
    """What another device writes, and the task after it."""
    path = path_of(task)
    is_trashed = client.get(path).status_code == 404
    if is_trashed:
        client.post(f"{path}/restore")
    client.patch(path, {"description": "theirs"})
    if is_trashed:
        client.delete(path)
    return read(client, task)


@pytest.mark.parametrize(("method", "path", "body", "is_trashed"), CONDITIONAL)
@pytest.mark.parametrize(
    "header",
    [
        pytest.param("{tag}", id="its tag"),
        pytest.param(' "x" ,\t{tag}', id="a list"),
        pytest.param('W/"x", {tag}, {stale}', id="a list with a weak one"),
        pytest.param('"a,b", ,{tag},', id="a list with empty elements"),
        pytest.param("*", id="any"),
        pytest.param("{older}", id="of an older revision"),
    ],
)
def test_if_match_lets_through(
    header: str,
    method: str,
    path: str,
    body: Any,
    is_trashed: bool,
    alice: User,
    alice_client: ApiClient,
    prepared: Task,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[V2] A release that answers differently stands in nobody's way. One statement, as without."""
    tag = read(alice_client, prepared)["etag"]
    epoch, _, version = tag.strip('"').split("-")
    older = f'"{epoch}-000000-{version}"'
    before = clock_of(alice)

    with django_assert_num_queries(1):
        response = alice_client.call(
            method,
            f"{path_of(prepared)}{path}",
            body,
            if_match=header.format(tag=tag, stale=STALE, older=older),
        )

    assert response.status_code in (200, 204)
    is_purge = is_trashed and method == "DELETE"  # known as deleted already
    assert clock_of(alice) == before + (0 if is_purge else 1)


@pytest.mark.parametrize(("method", "path", "body", "is_trashed"), CONDITIONAL)
def test_if_match_tells_what_another_wrote(
    method: str,
    path: str,
    body: Any,
    is_trashed: bool,
    alice: User,
    alice_client: ApiClient,
    prepared: Task,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[V2] And changes nothing. With the tag that the answer has it goes through."""
    seen = read(alice_client, prepared)
    theirs = write_after(alice_client, prepared)
    before = clock_of(alice)
    address = f"{path_of(prepared)}{path}"

    with django_assert_num_queries(1):
        response = alice_client.call(method, address, body, if_match=seen["etag"])

    assert_failed(response, theirs)
    assert theirs["description"] == "theirs"
    assert read(alice_client, prepared) == theirs
    assert clock_of(alice) == before
    again = alice_client.call(method, address, body, if_match=response["ETag"])
    assert again.status_code in (200, 204)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("W/{tag}", id="weak"),
        pytest.param("{bare}", id="without quotation marks"),
        pytest.param("'{bare}'", id="in other quotation marks"),
        pytest.param('"{bare}', id="half a tag"),
        pytest.param("{tag} {tag}", id="no comma"),
        pytest.param("{tag}, *", id="any among others"),
        pytest.param("", id="empty"),
        pytest.param(",", id="nothing but a comma"),
        pytest.param('"{bare}-gzip"', id="of a proxy that compresses"),
        pytest.param('"{version}"', id="the version alone"),
        pytest.param('"x{bare}"', id="something before"),
        pytest.param(STALE, id="another epoch"),
        pytest.param('"\x80\xff"', id="bytes that are no text"),
        pytest.param('"' + "9" * 60 + '"', id="long"),
        pytest.param('"{epoch}-{revision}-99999999999999999999"', id="beyond all versions"),
        pytest.param('"' + 400 * "a," + '"', id="commas inside"),
    ],
)
@pytest.mark.parametrize(("method", "path", "body", "is_trashed"), CONDITIONAL)
def test_if_match_of_another_tag(
    header: str,
    method: str,
    path: str,
    body: Any,
    is_trashed: bool,
    alice_client: ApiClient,
    prepared: Task,
) -> None:
    """[V2] A weak or malformed tag never matches; that is no 400, which a proxy may have made."""
    current = read(alice_client, prepared)
    bare = current["etag"].strip('"')
    epoch, revision, version = bare.split("-")
    sent = header.format(
        tag=current["etag"], bare=bare, epoch=epoch, revision=revision, version=version
    )

    response = alice_client.call(method, f"{path_of(prepared)}{path}", body, if_match=sent)

    assert_failed(response, current)
    assert read(alice_client, prepared) == current


def test_if_match_that_cannot_match_says_what_to_send(alice_client: ApiClient, task: Task) -> None:
    """[V2] Whoever forgot the quotation marks isn't told that somebody changed the task."""
    tag = read(alice_client, task)["etag"]

    def message(header: str) -> str:
        response = alice_client.patch(path_of(task), {"title": "y"}, if_match=header)
        assert_error(response, 412, "PRECONDITION_FAILED")
        text: str = json.loads(response.content)["error"]["message"]
        return text

    for header in (tag.strip('"'), f"W/{tag}"):
        assert "`etag`" in message(header)
        assert "quotation marks" in message(header)
    assert "changed" in message(STALE)


@pytest.mark.parametrize("is_bobs", [False, True], ids=["another task", "another person"])
def test_if_match_of_something_else_with_the_same_version(
    is_bobs: bool, alice: User, alice_client: ApiClient, bob: User, bob_client: ApiClient
) -> None:
    """[V2] No two people have a tag alike; two tasks have, where one statement wrote both."""
    alices = data_of(alice_client.post(LIST, {"title": "x"}), 201)
    other = data_of((bob_client if is_bobs else alice_client).post(LIST, {"title": "y"}), 201)
    if is_bobs:
        assert other["version"] == alices["version"]
    assert other["etag"] != alices["etag"]

    response = alice_client.patch(f"{LIST}/{alices['id']}", {"title": "z"}, if_match=other["etag"])

    assert_failed(response, alices)


def test_new_epoch_lets_no_tag_match(alice: User, alice_client: ApiClient, task: Task) -> None:
    """[V2] A database that was put back never repeats one, of a row, a list or the feed."""
    path = path_of(task)
    before = read(alice_client, task)
    tags = {url: alice_client.get(url)["ETag"] for url in (path, LIST, CHANGES)}
    Clock.objects.filter(user=alice).update(epoch=random_epoch())

    for url, tag in tags.items():
        response = alice_client.get(url, if_none_match=tag)
        assert response.status_code == 200
        assert response["ETag"] != tag
    now = read(alice_client, task)
    assert (now["version"], now["etag"] != before["etag"]) == (before["version"], True)
    assert_failed(alice_client.patch(path, {"title": "y"}, if_match=before["etag"]), now)


@pytest.mark.parametrize(
    ("method", "path", "body", "is_trashed"),
    [
        pytest.param("PUT", "", {"title": "y"}, False, id="replace"),
        pytest.param("PATCH", "", {"title": "y"}, False, id="update"),
        pytest.param("PATCH", "/complete", {}, False, id="complete"),
        pytest.param("POST", "/restore", b"", True, id="restore"),
    ],
)
def test_retry_finds_its_work_done(
    method: str,
    path: str,
    body: Any,
    is_trashed: bool,
    alice: User,
    alice_client: ApiClient,
    prepared: Task,
) -> None:
    """[V2] The first answer was lost, and the tag is of before it (RFC 9110, section 13.1.1)."""
    tag = read(alice_client, prepared)["etag"]
    address = f"{path_of(prepared)}{path}"
    first = data_of(alice_client.call(method, address, body, if_match=tag))
    before = clock_of(alice)

    again = alice_client.call(method, address, body, if_match=tag)

    assert data_of(again) == first
    assert again["ETag"] == first["etag"]
    assert clock_of(alice) == before


@pytest.mark.parametrize("path", ["", "?permanent=true"], ids=["into the trash", "for good"])
def test_retry_of_a_deletion_finds_nothing(path: str, alice_client: ApiClient, task: Task) -> None:
    """[D1] [V2] A second DELETE is 404, whatever its tag: to a client that is as good as 204."""
    tag = read(alice_client, task)["etag"]
    assert alice_client.delete(f"{path_of(task)}{path}", if_match=tag).status_code == 204

    assert_error(alice_client.delete(f"{path_of(task)}{path}", if_match=tag), 404, "NOT_FOUND")


def test_without_if_match_the_last_write_wins(alice_client: ApiClient, task: Task) -> None:
    """[V2] As before."""
    write_after(alice_client, task)

    assert data_of(alice_client.patch(path_of(task), {"title": "y"}))["title"] == "y"


@pytest.mark.parametrize(
    ("method", "path", "body", "header"),
    [
        pytest.param("POST", LIST, {"title": "x"}, "If-Match", id="create"),
        pytest.param("POST", LIST, {"title": "x"}, "If-None-Match", id="create if none"),
        pytest.param("PATCH", "{}", {"title": "x"}, "If-None-Match", id="update"),
        pytest.param("PATCH", "{}/complete", {}, "If-None-Match", id="complete"),
        pytest.param("DELETE", "{}", b"", "If-None-Match", id="delete"),
        pytest.param("POST", "{}/restore", b"", "If-None-Match", id="restore"),
    ],
)
def test_condition_that_would_be_ignored_is_refused(
    method: str, path: str, body: Any, header: str, alice_client: ApiClient, task: Task
) -> None:
    """[B4] Nobody believes to be protected who isn't."""
    before = read(alice_client, task)
    address = path.format(path_of(task))
    for value in ("*", before["etag"]):
        sent: dict[str, Any] = {header.lower().replace("-", "_"): value}
        response = alice_client.call(method, address, body, **sent)

        details = assert_error(response, 400, "VALIDATION_ERROR")
        assert details[header][0]["code"] == "not_supported"
    assert data_of(alice_client.get(LIST)) == [before]


# --- If-Match, at the same time ---------------------------------------------------------------

RACES = 25
# Each pair begins with the same tag. `None` for what the loser is told: that it isn't there.
PAIRS = [
    pytest.param(("PATCH", "", {"title": "a"}), ("PATCH", "", {"title": "b"}), False, id="update"),
    pytest.param(("PUT", "", {"title": "a"}), ("PUT", "", {"title": "b"}), False, id="replace"),
    pytest.param(
        ("PATCH", "", {"title": "a"}), ("PUT", "", {"title": "b"}), False, id="update or replace"
    ),
    pytest.param(
        ("PATCH", "/complete", {}), ("PATCH", "", {"title": "b"}), False, id="complete or update"
    ),
    pytest.param(("DELETE", "", b""), ("PATCH", "", {"title": "b"}), False, id="delete or update"),
    pytest.param(
        ("DELETE", "?permanent=true", b""),
        ("PUT", "", {"title": "b"}),
        False,
        id="delete for good or replace",
    ),
    pytest.param(
        ("POST", "/restore", b""),
        ("DELETE", "?permanent=true", b""),
        True,
        id="restore or delete for good",
    ),
    pytest.param(("DELETE", "", b""), ("DELETE", "", b""), False, id="delete twice"),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("one", "other", "is_trashed"), PAIRS)
@pytest.mark.parametrize("is_limited", [False, True], ids=["no limit", "limit"])
def test_of_two_with_one_tag_exactly_one_wins(
    is_limited: bool, one: Any, other: Any, is_trashed: bool, alice: User, settings: Any
) -> None:
    """[V2] And the other is told what it wrote. 25 races of each pair, 400 in all.

    With the limit they meet at its counter, without at the clock.
    """
    rate = Rate(1_000_000, 3600) if is_limited else None
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": rate}
    access = begin_session(alice).access
    reader = ApiClient(access)

    def send(address: str, write: Any, tag: str) -> Any:
        method, path, body = write
        return ApiClient(access).call(method, f"{address}{path}", body, if_match=tag)

    with Racers(2) as racers:
        for _ in range(RACES):
            task = Task.objects.create(user=alice, title="x")
            if is_trashed:
                reader.delete(path_of(task))
            tag = read(reader, task)["etag"]
            works = [partial(send, path_of(task), write, tag) for write in (one, other)]
            answers = racers.race(*works)
            won = [answer for answer in answers if answer.status_code in (200, 204)]
            (lost,) = (answer for answer in answers if answer not in won)
            assert len(won) == 1
            if won[0].status_code == 204:
                assert_error(lost, 404, "NOT_FOUND")
            else:
                assert_failed(lost, data_of(won[0]))
                assert read(reader, task) == data_of(won[0])
            Task.objects.filter(pk=task.pk).delete()


@pytest.mark.django_db(transaction=True)
def test_loser_that_began_before_the_winner_wrote_is_told(alice: User, task: Task) -> None:
    """[V2] What a statement saw at its beginning isn't what is compared."""
    access = begin_session(alice).access
    tag = read(ApiClient(access), task)["etag"]

    def patch(title: str) -> Any:
        return ApiClient(access).patch(path_of(task), {"title": title}, if_match=tag)

    answers = meeting([alice], lambda: patch("a"), lambda: patch("b"))

    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert_failed(lost, data_of(won))


@pytest.mark.django_db(transaction=True)
def test_twin_of_a_conditional_write_finds_its_work_done(alice: User, task: Task) -> None:
    """[V2] The retry comes while the first is still at work."""
    access = begin_session(alice).access
    tag = read(ApiClient(access), task)["etag"]
    before = clock_of(alice)

    def patch() -> Any:
        return ApiClient(access).patch(path_of(task), {"title": "y"}, if_match=tag)

    one, other = meeting([alice], patch, patch)

    assert data_of(one) == data_of(other)
    assert clock_of(alice) == before + 1


# --- If-None-Match on GET ---------------------------------------------------------------------

READS = [
    pytest.param("{}", {}, id="row"),
    pytest.param(LIST, {}, id="list"),
    pytest.param(LIST, {"limit": 2}, id="page"),
    pytest.param(LIST, {"limit": 200}, id="large page"),
    pytest.param(LIST, {"search": "milk", "ordering": "title"}, id="filtered"),
    pytest.param(LIST, {"is_completed": "false", "total": "true"}, id="counted"),
    pytest.param(CHANGES, {}, id="changes"),
    pytest.param(CHANGES, {"limit": 1}, id="page of changes"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "header",
    ["{tag}", "{weak}", '"x", {tag}', "{tag},", "*"],
    ids=["as it came", "weak", "a list", "a comma behind", "any"],
)
@pytest.mark.parametrize(("path", "query"), READS)
def test_not_modified(
    path: str,
    query: dict[str, Any],
    header: str,
    method: str,
    alice: User,
    alice_client: ApiClient,
    task: Task,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[V2] 304 without a body, and with what a 200 would have had that caches need."""
    Task.objects.bulk_create(Task(user=alice, title=f"Milk {n}") for n in range(3))
    path = path.format(path_of(task))
    fresh = alice_client.get(path, query=query)
    tag = fresh["ETag"]
    weak = f"W/{tag.removeprefix('W/')}"

    with django_assert_num_queries(1):
        response = alice_client.call(
            method, path, query=query, if_none_match=header.format(tag=tag, weak=weak)
        )

    assert (response.status_code, response.content) == (304, b"")
    for name in ("ETag", "Cache-Control", "Vary"):
        assert response[name] == fresh[name]
    assert "Authorization" in response["Vary"]
    assert response["Cache-Control"] == "private, no-cache"
    assert "Content-Type" not in response
    assert "Content-Length" not in response
    assert "Link" not in response
    assert response["X-Request-ID"]


@pytest.mark.parametrize(("path", "query"), READS)
def test_modified(
    path: str, query: dict[str, Any], alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[V2] By whatever way it was changed."""
    path = path.format(path_of(task))
    tags: set[str] = set()
    for write in (
        lambda: None,
        lambda: data_of(alice_client.patch(path_of(task), {"title": "Milk"})),
        lambda: Task.objects.filter(pk=task.pk).update(description="by hand"),
        lambda: data_of(alice_client.patch(f"{path_of(task)}/complete")),
    ):
        write()
        for tag in tags:
            assert alice_client.get(path, query=query, if_none_match=tag).status_code == 200
        response = alice_client.get(path, query=query)
        assert response["ETag"] not in tags
        tags.add(response["ETag"])


@pytest.mark.parametrize(
    "header", ["{bare}", "", ",", '"{bare}', STALE, "{older}", "{tag} {tag}"], ids=str
)
@pytest.mark.parametrize(("path", "query"), READS)
def test_if_none_match_of_another_tag(
    path: str, query: dict[str, Any], header: str, alice_client: ApiClient, task: Task
) -> None:
    """[V2] A release that answers differently keeps no old shape alive."""
    path = path.format(path_of(task))
    fresh = alice_client.get(path, query=query)
    bare = fresh["ETag"].removeprefix("W/").strip('"')
    epoch, _, version = bare.split("-")
    older = f'"{epoch}-000000-{version}"'
    sent = header.format(tag=fresh["ETag"], bare=bare, older=older)

    response = alice_client.get(path, query=query, if_none_match=sent)

    assert data_of(response) == data_of(fresh)
    assert response["ETag"] == fresh["ETag"]


def test_tag_of_what_depends_on_everything_is_weak(alice_client: ApiClient, task: Task) -> None:
    """[V2] It is of the clock: a change of another task changes it."""
    strong = alice_client.get(path_of(task))["ETag"]
    weak = [alice_client.get(path)["ETag"] for path in (LIST, CHANGES)]
    alice_client.post(LIST, {"title": "another"})

    assert TAG.fullmatch(strong)
    assert all(tag.startswith("W/") and TAG.fullmatch(tag[2:]) for tag in weak)
    assert alice_client.get(path_of(task))["ETag"] == strong
    assert [alice_client.get(path)["ETag"] for path in (LIST, CHANGES)] != weak


def test_if_none_match_of_a_task_that_is_gone(alice_client: ApiClient, task: Task) -> None:
    """[E1] 404, for a tag and for any."""
    tag = alice_client.get(path_of(task))["ETag"]
    alice_client.delete(path_of(task))

    for header in (tag, "*"):
        response = alice_client.get(path_of(task), if_none_match=header)
        assert_error(response, 404, "NOT_FOUND")


@pytest.mark.parametrize(("path", "query"), READS)
def test_ended_session_comes_before_not_modified(
    path: str, query: dict[str, Any], alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[S3]"""
    path = path.format(path_of(task))
    tag = alice_client.get(path, query=query)["ETag"]
    Session.objects.filter(user=alice).end()

    for header in (tag, "*"):
        response = alice_client.get(path, query=query, if_none_match=header)
        assert_error(response, 401, "TOKEN_INVALID")


def test_two_people_behind_one_browser(
    alice_client: ApiClient, bob_client: ApiClient, task: Task
) -> None:
    """[V2] The browser asks with what it has of the other, at the same address: `me`."""
    for path in (LIST, CHANGES):
        alices = alice_client.get(path)
        assert "Authorization" in alices["Vary"]

        bobs = bob_client.get(path, if_none_match=alices["ETag"])

        assert data_of(bobs) == []
        assert "Authorization" in bobs["Vary"]
        assert bob_client.get(path, if_none_match=bobs["ETag"]).status_code == 304
        assert alice_client.get(path, if_none_match=bobs["ETag"]).status_code == 200
    assert_error(
        bob_client.get(path_of(task), if_none_match=alice_client.get(path_of(task))["ETag"]),
        404,
        "NOT_FOUND",
    )


# --- PUT with If-None-Match: * ----------------------------------------------------------------


def create_at(client: ApiClient, row_id: object, title: str = "x", **headers: str) -> Any:
    return client.put(f"{LIST}/{row_id}", {"title": title}, if_none_match="*", **headers)


def test_put_creates_under_the_clients_id(
    alice: User, alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[V2] Answered as by POST, in one statement."""
    row_id = uuid4()
    before = clock_of(alice)

    with django_assert_num_queries(1):
        response = create_at(alice_client, row_id)

    data = data_of(response, 201)
    assert data["id"] == str(row_id)
    assert data["version"] == before + 1 == clock_of(alice)
    assert response["Location"] == f"/api/{alice.pk}/tasks/{row_id}"
    assert response["ETag"] == data["etag"]
    posted = data_of(alice_client.post(LIST, {"title": "x"}), 201)
    assert posted.keys() == data.keys()
    assert data_of(alice_client.get(response["Location"])) == data


@pytest.mark.parametrize(
    "row_id",
    [
        "0190f1a2-0000-1000-8000-000000000001",
        "0190f1a2-0000-4000-8000-000000000001",
        "0190f1a2-0000-7000-8000-000000000001",
        "0190f1a2-0000-8000-8000-000000000001",
        "00000000-0000-0000-0000-000000000001",
        "ffffffff-ffff-ffff-ffff-fffffffffffe",
        "0190F1A2-0000-7000-8000-00000000ABCD",
    ],
    ids=["v1", "v4", "v7", "v8", "after nil", "before max", "upper case"],
)
def test_put_creates_under_any_id(row_id: str, alice: User, alice_client: ApiClient) -> None:
    """[V2] [B5] Swift's are upper case; answered in lower case."""
    response = create_at(alice_client, row_id)

    assert data_of(response, 201)["id"] == row_id.lower()
    assert response["Location"] == f"/api/{alice.pk}/tasks/{row_id.lower()}"
    assert data_of(alice_client.get(f"{LIST}/{row_id}"))["id"] == row_id.lower()
    assert_error(create_at(alice_client, row_id.swapcase()), 412, "PRECONDITION_FAILED")


@pytest.mark.parametrize(
    "row_id",
    [
        str(UUID(int=0)),
        str(UUID(int=2**128 - 1)),
        str(UUID(int=2**128 - 1)).upper(),
        "1",
        "0190f1a2000070008000000000000001",
        "{0190f1a2-0000-7000-8000-000000000001}",
        "urn:uuid:0190f1a2-0000-7000-8000-000000000001",
        "0190f1a2-0000-7000-8000-00000000000g",
    ],
)
def test_put_creates_under_no_other_id(row_id: str, alice_client: ApiClient) -> None:
    """[V2] [B5]"""
    details = assert_error(create_at(alice_client, row_id), 400, "VALIDATION_ERROR")

    assert list(details) == ["id"]
    assert not Task.objects.exists()


def test_put_creates_completed(alice_client: ApiClient) -> None:
    body = {"title": "x", "description": "y", "is_completed": True}
    path = f"{LIST}/{uuid4()}"

    data = data_of(alice_client.put(path, body, if_none_match=" * "), 201)

    assert {name: data[name] for name in body} == body


def test_put_at_an_id_of_ones_own(
    alice: User, alice_client: ApiClient, task: Task, django_assert_num_queries: Any
) -> None:
    """[V2] The retry of a creation whose answer was lost learns what is there."""
    before, clock = read(alice_client, task), clock_of(alice)

    with django_assert_num_queries(2):  # one more, to say what is there
        response = create_at(alice_client, task.pk)

    assert "deleted" not in assert_failed(response, before)
    assert read(alice_client, task) == before
    assert clock_of(alice) == clock


def test_put_at_an_id_in_the_trash(alice: User, alice_client: ApiClient, task: Task) -> None:
    """[V2] [D1] It says so, for a GET would be 404; and how it comes back."""
    alice_client.delete(path_of(task))
    before = read(alice_client, task)

    response = create_at(alice_client, task.pk)

    assert assert_failed(response, before)["deleted"] is True
    message = json.loads(response.content)["error"]["message"]
    assert "trash" in message
    assert "restore" in message
    back = alice_client.post(f"{path_of(task)}/restore", if_match=response["ETag"])
    assert data_of(back)["title"] == "Buy milk"


@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "in the trash"])
def test_put_at_an_id_of_somebody_else(
    is_trashed: bool, alice_client: ApiClient, bob_client: ApiClient, prepared: Task
) -> None:
    """[V2] 409, which tells nothing of it."""
    before = read(alice_client, prepared)

    response = create_at(bob_client, prepared.pk)

    assert assert_error(response, 409, "CONFLICT") == {}
    assert "ETag" not in response
    assert "Buy milk" not in response.content.decode()
    assert read(alice_client, prepared) == before
    assert data_of(bob_client.get(LIST)) == []


def test_put_at_an_id_that_was_purged(
    alice: User, alice_client: ApiClient, bob_client: ApiClient, task: Task
) -> None:
    """[V2] [D1] [F1] It is free again, for anybody; and no tombstone any more."""
    begin = meta_of(alice_client.get(CHANGES))["next_since"]
    alice_client.delete(f"{path_of(task)}?permanent=true")

    data = data_of(create_at(alice_client, task.pk), 201)

    (change,) = data_of(alice_client.get(CHANGES, query={"since": begin}))
    assert (change["deleted"], change["resource"]) == (False, data)
    alice_client.delete(f"{path_of(task)}?permanent=true")
    data_of(create_at(bob_client, task.pk), 201)
    (change,) = data_of(alice_client.get(CHANGES, query={"since": begin}))
    assert (change["deleted"], change["resource"]) == (True, None)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"if_none_match": '"x"'}, "If-None-Match"),
        ({"if_none_match": ""}, "If-None-Match"),
        ({"if_none_match": "*, *"}, "If-None-Match"),
        ({"if_none_match": "*", "if_match": "*"}, "If-Match"),
        ({"if_none_match": "*", "if_match": STALE}, "If-Match"),
    ],
    ids=str,
)
def test_put_with_other_conditions(
    headers: dict[str, str], field: str, alice_client: ApiClient, task: Task
) -> None:
    """[B4]"""
    response = alice_client.put(path_of(task), {"title": "y"}, **headers)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details[field][0]["code"] == "not_supported"
    assert read(alice_client, task)["title"] == "Buy milk"


def test_put_without_the_condition_creates_nothing(alice_client: ApiClient) -> None:
    for headers in ({}, {"if_match": "*"}, {"if_match": STALE}):
        response = alice_client.put(f"{LIST}/{uuid4()}", {"title": "x"}, **headers)
        assert_error(response, 404, "NOT_FOUND")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_bobs", [False, True], ids=["one person", "two people"])
@pytest.mark.parametrize("is_limited", [False, True], ids=["no limit", "limit"])
def test_simultaneous_puts_of_one_id(
    is_limited: bool, is_bobs: bool, alice: User, bob: User, settings: Any
) -> None:
    """[V2] One creates; the other is told what is there, or that it is somebody else's."""
    rate = Rate(1_000_000, 3600) if is_limited else None
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": rate}
    people = [alice, bob if is_bobs else alice]
    clients = [ApiClient(begin_session(person).access) for person in people]
    titles = iter("ab" * RACES)

    for _ in range(5):
        row_id = uuid4()
        works = [partial(create_at, client, row_id, next(titles)) for client in clients]
        answers = meeting(people, *works)

        won, lost = sorted(answers, key=lambda answer: answer.status_code)
        created = data_of(won, 201)
        if is_bobs:
            assert_error(lost, 409, "CONFLICT")
        else:
            assert_failed(lost, created)
        winner = clients[answers.index(won)]
        assert data_of(winner.get(f"{LIST}/{row_id}")) == created


# --- The order of errors ----------------------------------------------------------------------


def test_order_of_errors(alice: User, alice_client: ApiClient, task: Task, settings: Any) -> None:
    """[E1] 401, 429, 404, 415, 400, 422, 412: each as soon as what comes before is put right."""
    path, missing = path_of(task), f"{LIST}/{uuid4()}"
    good = {"title": "y"}
    data_of(alice_client.patch(path, {"title": "x"}, idempotency_key="spent"))
    stale = {"if_match": STALE, "idempotency_key": "spent"}

    def patch(address: str, body: Any, **headers: str) -> Any:
        return alice_client.patch(address, body, **headers)

    assert_error(patch(missing, {"title": 1}, **stale), 404, "NOT_FOUND")
    assert_error(patch(missing, good, **stale), 404, "NOT_FOUND")
    assert_error(
        patch(path, good, content_type="text/plain", **stale), 415, "UNSUPPORTED_MEDIA_TYPE"
    )
    assert_error(patch(path, {"title": 1}, **stale), 400, "VALIDATION_ERROR")
    assert_error(patch(path, good, if_match=STALE, idempotency_key="a b"), 400, "VALIDATION_ERROR")
    assert_error(patch(path, good, **stale), 422, "IDEMPOTENCY_KEY_REUSED")
    assert_error(patch(path, good, if_match=STALE), 412, "PRECONDITION_FAILED")
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(1, 3600)}
    data_of(alice_client.patch(path, {}))
    assert_error(patch(missing, {"title": 1}, **stale), 429, "RATE_LIMITED")
    Session.objects.filter(user=alice).end()
    assert_error(patch(missing, {"title": 1}, **stale), 401, "TOKEN_INVALID")
    assert Task.objects.get().title == "x"


def test_order_of_errors_of_a_creation(
    alice_client: ApiClient, bob_client: ApiClient, task: Task
) -> None:
    """[E1] No 404, for nothing need be there: 400, 422, and then what stands against the id."""
    nil = UUID(int=0)
    assert_error(
        alice_client.put(path_of(task), {"title": ""}, if_none_match="*"), 400, "VALIDATION_ERROR"
    )
    assert_error(create_at(alice_client, nil, idempotency_key="k" * 256), 400, "VALIDATION_ERROR")
    data_of(bob_client.post(LIST, {"title": "x"}, idempotency_key="spent"), 201)
    assert_error(
        create_at(bob_client, task.pk, idempotency_key="spent"), 422, "IDEMPOTENCY_KEY_REUSED"
    )
    assert_error(create_at(bob_client, task.pk), 409, "CONFLICT")


def test_condition_counts_as_a_write(alice_client: ApiClient, task: Task, settings: Any) -> None:
    """Also where it doesn't hold."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(3, 3600)}

    answers = [
        alice_client.patch(path_of(task), {"title": "y"}, if_match=STALE),
        create_at(alice_client, task.pk),
        create_at(alice_client, UUID(int=0)),
    ]

    assert [answer.status_code for answer in answers] == [412, 412, 400]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0"]
    assert_error(create_at(alice_client, uuid4()), 429, "RATE_LIMITED")


def test_tag_that_looks_like_sql_is_text(alice_client: ApiClient, task: Task) -> None:
    tag = '"\'; DROP TABLE tasks_task; --%s%(id)s"'

    assert alice_client.get(path_of(task), if_none_match=tag).status_code == 200
    assert alice_client.get(LIST, if_none_match=tag).status_code == 200
    response = alice_client.patch(path_of(task), {"title": "y"}, if_match=tag)
    assert_error(response, 412, "PRECONDITION_FAILED")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tasks_task")
        assert cursor.fetchone() == (1,)
