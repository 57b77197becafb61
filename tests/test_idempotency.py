"""[I1] Idempotency-Key: a write that is repeated gets its first answer, and changes nothing."""

import json
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.racing import at_once, meeting
from todo_project.environment import Rate
from todo_project.models import Change, Clock, IdempotencyKey

LIST = "/api/me/tasks"
KEY = "9b2c1f0e-5d41-4c0a-8f37-2f6f3f1d2a10"
TWINS = 20


@pytest.fixture
def task(alice_client: ApiClient) -> Task:
    """Alice's open task, made by a request without a key."""
    body = {"title": "Buy milk", "description": "Two litres"}
    return Task.objects.get(pk=data_of(alice_client.post(LIST, body), 201)["id"])


@pytest.fixture
def trashed(alice_client: ApiClient, task: Task) -> Task:
    alice_client.delete(f"{LIST}/{task.pk}")
    return task


def state_of(user: User) -> Any:
    """All that a write changes."""
    return (
        Clock.objects.get(user=user).version,
        list(Task.objects.order_by("id").values()),
        list(Change.objects.order_by("version").values()),
        list(IdempotencyKey.objects.order_by("user_id", "key").values()),
    )


def raw_data(response: Any) -> bytes:
    """`data`, byte for byte."""
    head, _, tail = response.content.partition(b',"meta":{"request_id":"')
    assert response.content == b"" or tail
    return bytes(head)


def assert_replayed(again: Any, first: Any) -> None:
    """Asserts that `again` is the answer that `first` was, and says so."""
    assert again.status_code == first.status_code
    assert raw_data(again) == raw_data(first)
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert again["X-Request-ID"] != first["X-Request-ID"]
    for name in ("ETag", "Location", "Content-Type", "Cache-Control", "Vary"):
        assert again.get(name) == first.get(name), name


# Every operation that takes a key, of Alice's task, or of a free id.
OPERATIONS = [
    pytest.param("POST", LIST, {"title": "x"}, {}, False, id="create"),
    pytest.param("PUT", f"{LIST}/{{new}}", {"title": "x"}, {"if_none_match": "*"}, False, id="put"),
    pytest.param("PUT", f"{LIST}/{{task}}", {"title": "x"}, {}, False, id="replace"),
    pytest.param("PATCH", f"{LIST}/{{task}}", {"description": None}, {}, False, id="update"),
    pytest.param("PATCH", f"{LIST}/{{task}}", {}, {}, False, id="update of nothing"),
    pytest.param("PATCH", f"{LIST}/{{task}}/complete", b"", {}, False, id="complete"),
    pytest.param("DELETE", f"{LIST}/{{task}}", b"", {}, False, id="delete"),
    pytest.param("DELETE", f"{LIST}/{{task}}?permanent=true", b"", {}, False, id="for good"),
    pytest.param("DELETE", f"{LIST}/{{task}}?permanent=true", b"", {}, True, id="purge"),
    pytest.param("POST", f"{LIST}/{{task}}/restore", b"", {}, True, id="restore"),
]


@pytest.fixture
def prepared(alice_client: ApiClient, task: Task, is_trashed: bool) -> Task:
    if is_trashed:
        alice_client.delete(f"{LIST}/{task.pk}")
    return task


@pytest.mark.parametrize(("method", "path", "body", "headers", "is_trashed"), OPERATIONS)
def test_repeat_gets_the_first_answer(
    method: str,
    path: str,
    body: Any,
    headers: dict[str, Any],
    is_trashed: bool,
    alice: User,
    alice_client: ApiClient,
    prepared: Task,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """[I1] Whatever became of the task in between. One statement each."""
    path = path.format(task=prepared.pk, new=uuid4())

    def send() -> Any:
        return alice_client.call(method, path, body, idempotency_key=KEY, **headers)

    with django_assert_num_queries(1):
        first = send()
    assert first.status_code in (200, 201, 204)
    state = state_of(alice)

    with django_assert_num_queries(1):
        again = send()
    assert_replayed(again, first)
    assert state_of(alice) == state

    for row in Task.objects.all():
        alice_client.post(f"{LIST}/{row.pk}/restore")
        alice_client.patch(f"{LIST}/{row.pk}", {"title": "another"})
        alice_client.delete(f"{LIST}/{row.pk}")
    state = state_of(alice)
    assert_replayed(send(), first)
    assert state_of(alice) == state


def test_repeat_of_what_text_may_hold(alice_client: ApiClient) -> None:
    """[I1] Kept as it was answered."""
    body = {"title": 'é "quoted" \\ 🎉 %s %(id)s', "description": "a\n\t\x01 \u2028" + "z" * 19_000}

    first, again = (alice_client.post(LIST, body, idempotency_key=KEY) for _ in range(2))

    assert_replayed(again, first)
    assert data_of(again, 201)["description"] == body["description"]
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", LIST, {"title": "y"}, id="another body"),
        pytest.param("POST", LIST, {"title": "x", "description": None}, id="one field more"),
        pytest.param("PUT", f"{LIST}/{{task}}", {"title": "x"}, id="another method and path"),
        pytest.param("DELETE", f"{LIST}/{{task}}", b"", id="a deletion"),
        pytest.param("DELETE", f"{LIST}/{{task}}?permanent=true", b"", id="for good"),
        pytest.param("POST", f"{LIST}/{{task}}/restore", b"", id="a restoration"),
    ],
)
def test_key_of_another_request(
    method: str, path: str, body: Any, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[I1] 422, and nothing done."""
    data_of(alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY), 201)
    state = state_of(alice)

    response = alice_client.call(method, path.format(task=task.pk), body, idempotency_key=KEY)

    assert assert_error(response, 422, "IDEMPOTENCY_KEY_REUSED") == {}
    assert "Idempotent-Replayed" not in response
    assert state_of(alice) == state


@pytest.mark.parametrize(
    ("method", "path", "body", "other_method", "other_path", "other_body"),
    [
        pytest.param(
            *("PATCH", "", {"is_completed": True}, "PATCH", "/complete", {"is_completed": True}),
            id="another route",
        ),
        pytest.param(
            *("PATCH", "", {"title": "x"}, "PUT", "", {"title": "x"}), id="another method"
        ),
        pytest.param(*("DELETE", "?permanent=true", b"", "DELETE", "", b""), id="another query"),
        pytest.param(
            *("PATCH", "/complete", b"", "PATCH", "/complete", {"is_completed": False}),
            id="another body than none",
        ),
    ],
)
def test_requests_that_differ_in_one_thing(
    method: str,
    path: str,
    body: Any,
    other_method: str,
    other_path: str,
    other_body: Any,
    alice_client: ApiClient,
    task: Task,
) -> None:
    """[I1]"""
    address = f"{LIST}/{task.pk}"
    kept = alice_client.call(method, f"{address}{path}", body, idempotency_key=KEY)
    assert kept.status_code in (200, 204)
    is_gone = method == "DELETE"

    response = alice_client.call(
        other_method, f"{address}{other_path}", other_body, idempotency_key=KEY
    )

    # A task that isn't there comes first [E1].
    error = (404, "NOT_FOUND") if is_gone else (422, "IDEMPOTENCY_KEY_REUSED")
    assert_error(response, *error)


def test_another_task_is_another_request(alice_client: ApiClient, task: Task) -> None:
    """[I1]"""
    other = data_of(alice_client.post(LIST, {"title": "x"}), 201)["id"]
    data_of(alice_client.patch(f"{LIST}/{task.pk}", {"title": "y"}, idempotency_key=KEY))

    response = alice_client.patch(f"{LIST}/{other}", {"title": "y"}, idempotency_key=KEY)

    assert_error(response, 422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize(
    "path",
    [
        "/api/me/tasks/{id}",
        "/api/me/tasks/{id}/",
        "/api/{owner}/tasks/{id}",
        "/api/{OWNER}/tasks/{ID}",
        "/users/me/tasks/{id}",
        "/users/{owner}/tasks/{ID}/",
    ],
)
def test_one_path_by_all_its_names(
    path: str, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[I1] [R1] [R2] [R3] [B5] The client that comes back may know its id by now."""
    names = {"id": task.pk, "owner": alice.pk}
    address = path.format(**names, ID=str(task.pk).upper(), OWNER=str(alice.pk).upper())
    first = alice_client.patch(f"{LIST}/{task.pk}", {"title": "y"}, idempotency_key=KEY)

    assert_replayed(alice_client.patch(address, {"title": "y"}, idempotency_key=KEY), first)


@pytest.mark.parametrize(
    "body",
    [
        b'{"title":"x","description":"\xc3\xa9"}',
        b' { "description" : "\\u00e9" , "title" : "x" } ',
        b'\xef\xbb\xbf{"title":"x","description":"\\u00E9"}',
    ],
    ids=["as it was", "other order and spaces", "byte order mark"],
)
def test_one_body_however_it_is_written(body: bytes, alice_client: ApiClient) -> None:
    """[I1] The library that writes JSON may have been brought up to date."""
    first = alice_client.post(LIST, {"title": "x", "description": "é"}, idempotency_key=KEY)

    assert_replayed(alice_client.post(LIST, body, idempotency_key=KEY), first)


def test_conditions_are_not_part_of_the_request(alice_client: ApiClient, task: Task) -> None:
    """[I1] [V2] A replay changes nothing, so that nothing has to be as it was."""
    address = f"{LIST}/{task.pk}"
    tag = alice_client.get(address)["ETag"]
    first = alice_client.patch(address, {"title": "y"}, if_match=tag, idempotency_key=KEY)
    data_of(alice_client.patch(address, {"title": "z"}))

    for headers in ({"if_match": tag}, {"if_match": '"x"'}, {}):
        again = alice_client.patch(address, {"title": "y"}, idempotency_key=KEY, **headers)
        assert_replayed(again, first)
    assert Task.objects.get().title == "z"


@pytest.mark.parametrize(
    "text",
    ["{key}", '"{key}"', "  {key}\t", ' "{key}" '],
    ids=["bare", "quoted", "spaces", "quoted and spaces"],
)
@pytest.mark.parametrize(
    "key",
    ["a", KEY, "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "k" * 255],
    ids=["one", "UUID", "signs", "longest"],
)
def test_quoted_and_bare_are_one_key(key: str, text: str, alice_client: ApiClient) -> None:
    """[I1] As the IETF's draft writes it, and as most services read it."""
    if "\\" in key and '"' in text:
        key = key.replace("\\", "")  # within quotation marks it would be written twice
    first = alice_client.post(LIST, {"title": "x"}, idempotency_key=key)
    data_of(first, 201)

    again = alice_client.post(LIST, {"title": "x"}, idempotency_key=text.replace("{key}", key))

    assert_replayed(again, first)


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        '""',
        '"',
        '"a',
        'a"',
        'a"b',
        '"a"b"',
        "a b",
        "a\tb",
        "k" * 256,
        '"' + "k" * 256 + '"',
        "é",
        "\x7f",
        "\x00",
        '"a\\b"',
        '"a";x=1',
        '"a", "b"',
        "'a b'",
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_update", [False, True], ids=["create", "update"])
def test_malformed_key(
    is_update: bool, key: str, alice: User, alice_client: ApiClient, task: Task
) -> None:
    """[I1] 400 that names the header: else the client would believe to be safe."""
    state = state_of(alice)
    method, path = ("PATCH", f"{LIST}/{task.pk}") if is_update else ("POST", LIST)

    response = alice_client.call(method, path, {"title": "x"}, idempotency_key=key)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["Idempotency-Key"][0]["code"] == "invalid"
    assert state_of(alice) == state


def test_reading_ignores_the_key(alice: User, alice_client: ApiClient, task: Task) -> None:
    """[I1] Clients that send one with everything get what there is."""
    state = state_of(alice)
    for path in (LIST, f"{LIST}/{task.pk}", "/api/me/changes", "/api/me/trash", "/api/auth/me"):
        for key in (KEY, "k" * 256):
            response = alice_client.get(path, idempotency_key=key)
            data_of(response)
            assert "Idempotent-Replayed" not in response
    assert state_of(alice) == state


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/auth/register", {"email": "new@example.com", "password": PASSWORD}),
        ("POST", "/api/auth/token", {"email": "alice@example.com", "password": PASSWORD}),
        ("POST", "/api/auth/password/reset", {"email": "alice@example.com"}),
        ("PATCH", "/api/auth/me", {"name": "Al"}),
        ("POST", "/api/auth/tokens", {"name": "x", "scopes": ["tasks:read"]}),
        ("POST", "/api/auth/logout-all", b""),
        ("DELETE", "/api/auth/me", {"password": PASSWORD}),
    ],
    ids=str,
)
def test_account_routes_take_no_key(
    method: str, path: str, body: Any, alice: User, alice_client: ApiClient
) -> None:
    """[I1] Their answers hold secrets, which aren't kept: 400, rather than done again."""
    response = alice_client.call(method, path, body, idempotency_key=KEY)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["Idempotency-Key"][0]["code"] == "not_supported"
    assert list(User.objects.values_list("name")) == [("Alice",)]
    assert data_of(alice_client.get("/api/auth/me"))["name"] == "Alice"


def test_keys_are_the_callers_own(
    alice: User, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[I1] Also for one and the same request: nobody gets another's answer, or learns of it."""
    alices = alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY)

    bobs = bob_client.post(LIST, {"title": "x"}, idempotency_key=KEY)

    assert "Idempotent-Replayed" not in bobs
    assert data_of(bobs, 201)["id"] != data_of(alices, 201)["id"]
    other = bob_client.post(LIST, {"title": "y"}, idempotency_key=KEY)
    assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")
    assert_replayed(alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY), alices)
    # Wherever she is signed in, or by whatever token.
    elsewhere = ApiClient(begin_session(alice).access)
    assert_replayed(elsewhere.post(LIST, {"title": "x"}, idempotency_key=KEY), alices)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        pytest.param("POST", LIST, {"title": ""}, {}, 400, id="400"),
        pytest.param("PATCH", f"{LIST}/{uuid4()}", {"title": "y"}, {}, 404, id="404"),
        pytest.param("PATCH", "{}", {"title": "y"}, {"if_match": '"x"'}, 412, id="412"),
        pytest.param("PUT", "{}", {"title": "y"}, {"if_none_match": "*"}, 412, id="taken"),
        pytest.param("POST", LIST, b"{", {}, 400, id="no JSON"),
        pytest.param("POST", LIST, b"x", {"content_type": "text/plain"}, 415, id="415"),
    ],
)
def test_errors_are_not_kept(
    method: str,
    path: str,
    body: Any,
    headers: dict[str, Any],
    status: int,
    alice_client: ApiClient,
    task: Task,
) -> None:
    """[I1] The same key does what can be done by now."""
    path = path.format(f"{LIST}/{task.pk}")
    response = alice_client.call(method, path, body, idempotency_key=KEY, **headers)
    assert response.status_code == status
    assert not IdempotencyKey.objects.exists()

    good = alice_client.post(LIST, {"title": "good"}, idempotency_key=KEY)

    data_of(good, 201)
    assert "Idempotent-Replayed" not in good


def test_request_that_was_one_too_many_is_not_kept(
    alice_client: ApiClient, task: Task, settings: Any
) -> None:
    """[I1] 429 says to try again: with the same key."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(1, 3600)}
    data_of(alice_client.patch(f"{LIST}/{task.pk}", {}))
    refused = alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY)
    assert_error(refused, 429, "RATE_LIMITED")

    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(9, 3600)}
    response = alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY)

    data_of(response, 201)
    assert "Idempotent-Replayed" not in response


def test_replays_count_as_writes(alice_client: ApiClient, settings: Any) -> None:
    """[I1] As they cost nearly as much; and what is one too many tells nothing that was kept."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(3, 3600)}

    answers = [alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY) for _ in range(3)]
    reused = alice_client.post(LIST, {"title": "y"}, idempotency_key=KEY)
    refused = alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY)

    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0"]
    assert_error(reused, 429, "RATE_LIMITED")
    assert_error(refused, 429, "RATE_LIMITED")
    assert "Idempotent-Replayed" not in refused
    assert Task.objects.count() == 1


# --- Time -------------------------------------------------------------------------------------


def age(hours: float) -> None:
    created_at = timezone.now() - timedelta(hours=hours)
    assert IdempotencyKey.objects.update(created_at=created_at)


def test_answers_are_kept_for_a_day(alice_client: ApiClient) -> None:
    """[I1] From the first request, not from the last repeat."""
    first = alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY)
    age(23.99)

    assert_replayed(alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY), first)
    age(24.01)
    anew = alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY)

    assert data_of(anew, 201)["id"] != data_of(first, 201)["id"]
    assert "Idempotent-Replayed" not in anew
    assert_replayed(alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY), anew)
    assert Task.objects.count() == 2
    assert IdempotencyKey.objects.count() == 1


def test_key_that_has_expired_is_good_for_another_request(
    alice_client: ApiClient, task: Task
) -> None:
    """[I1] Though no purge came by."""
    data_of(alice_client.post(LIST, {"title": "x"}, idempotency_key=KEY), 201)
    age(25)
    path = f"{LIST}/{task.pk}"

    first = alice_client.patch(path, {"title": "y"}, idempotency_key=KEY)

    assert "Idempotent-Replayed" not in first
    assert_replayed(alice_client.patch(path, {"title": "y"}, idempotency_key=KEY), first)


# --- At the same time -------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["no limit", "limit"])
def limit(request: pytest.FixtureRequest, settings: Any) -> None:
    """With it requests of one person meet at its counter, without at the clock."""
    rate = Rate(1_000_000, 3600) if request.param else None
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": rate}


def assert_one_write(answers: list[Any]) -> Any:
    """Asserts that one of the answers is the first, and the others are its replays."""
    (first,) = (answer for answer in answers if "Idempotent-Replayed" not in answer)
    for answer in answers:
        if answer is not first:
            assert_replayed(answer, first)
    return first


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("method", "path", "body", "headers", "is_trashed"), OPERATIONS)
@pytest.mark.parametrize("is_expired", [False, True], ids=["new", "expired"])
def test_twins_are_one_write(
    is_expired: bool,
    method: str,
    path: str,
    body: Any,
    headers: dict[str, Any],
    is_trashed: bool,
    alice: User,
    alice_client: ApiClient,
    prepared: Task,
) -> None:
    """[I1] The second waits, and gets the first one's answer: whatever it would find by then."""
    path = path.format(task=prepared.pk, new=uuid4())
    if is_expired:
        data_of(alice_client.post(LIST, {"title": "old"}, idempotency_key=KEY), 201)
        age(25)
    before, rows = Clock.objects.get(user=alice).version, Task.objects.count()
    access = str(alice_client.access)

    def send() -> Any:
        return ApiClient(access).call(method, path, body, idempotency_key=KEY, **headers)

    first = assert_one_write(meeting([alice], send, send, send))

    assert first.status_code in (200, 201, 204)
    made, purged = first.status_code == 201, "permanent" in path
    assert Task.objects.count() == rows + made - purged
    assert Clock.objects.get(user=alice).version - before in (0, 1)
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("limit")
def test_twenty_at_once_are_one_write(alice: User) -> None:
    """[I1]"""
    access = begin_session(alice).access
    send = partial(ApiClient(access).post, LIST, {"title": "x"}, idempotency_key=KEY)

    answers = at_once(*[send] * TWINS)

    data_of(assert_one_write(answers), 201)
    assert Task.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("limit")
def test_different_requests_with_one_key_at_once(alice: User) -> None:
    """[I1] One is done; the other is told, as it would have been a moment later."""
    access = begin_session(alice).access

    def send(title: str) -> Any:
        return ApiClient(access).post(LIST, {"title": title}, idempotency_key=KEY)

    answers = meeting([alice], partial(send, "a"), partial(send, "b"))

    done, refused = sorted(answers, key=lambda answer: answer.status_code)
    assert_error(refused, 422, "IDEMPOTENCY_KEY_REUSED")
    assert Task.objects.get().title == data_of(done, 201)["title"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("limit")
def test_keys_of_two_people_do_not_meet(alice: User, bob: User) -> None:
    """[I1]"""
    sends = [
        partial(
            ApiClient(begin_session(person).access).post, LIST, {"title": "x"}, idempotency_key=KEY
        )
        for person in (alice, bob)
    ]

    answers = meeting([alice, bob], *sends)

    assert {json.loads(answer.content)["data"]["user_id"] for answer in answers} == {
        str(alice.pk),
        str(bob.pk),
    }
    assert not any("Idempotent-Replayed" in answer for answer in answers)
