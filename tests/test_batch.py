"""[B6] Many writes at once: in their order, whole or in part, and never twice."""

import io
import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import connection, connections
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import begin_session
from tests.wire import counted_round_trips, needs_prepared_statements
from todo_project.environment import Rate
from todo_project.models import Change, Clock, RateCounter

BATCH = "/api/me/batch"
LIST = "/api/me/tasks"

Operations = Sequence[Mapping[str, Any]]


def create(title: str = "Buy milk", **more: Any) -> Mapping[str, Any]:
    return {"op": "create", "data": {"title": title}, **more}


def send(client: ApiClient, operations: Operations, **more: Any) -> Any:
    headers = more.pop("headers", {})
    return client.post(BATCH, {"operations": operations, **more}, **headers)


def outcomes(client: ApiClient, operations: Operations, **more: Any) -> list[Any]:
    found: list[Any] = data_of(send(client, operations, **more))
    return found


def statuses(found: Sequence[Mapping[str, Any]]) -> list[int]:
    return [outcome["status"] for outcome in found]


def test_operations_are_done_in_their_order(alice_client: ApiClient, alice: User) -> None:
    """[B6] Each sees what those before it did, and answers as its own route would."""
    milk, bread = str(uuid4()), str(uuid4())

    found = outcomes(
        alice_client,
        [
            create("Buy milk", id=milk),
            create("Buy bread", id=bread.upper()),
            {"op": "update", "id": milk, "data": {"title": "Buy oat milk"}},
            {"op": "complete", "id": milk},
            {"op": "delete", "id": bread},
            {"op": "restore", "id": bread},
            {"op": "complete", "id": milk, "data": {"is_completed": False}},
            create("No id"),
        ],
    )

    assert statuses(found) == [201, 201, 200, 200, 204, 200, 200, 201]
    assert found[4] == {"status": 204, "data": None}
    assert found[6]["data"] == data_of(alice_client.get(f"{LIST}/{milk}"))
    assert found[5]["data"] == data_of(alice_client.get(f"{LIST}/{bread}"))
    assert found[7]["data"] == data_of(alice_client.get(f"{LIST}/{found[7]['data']['id']}"))
    assert [found[n]["data"]["title"] for n in (0, 2)] == ["Buy milk", "Buy oat milk"]
    assert found[3]["data"]["is_completed"] is True


def test_versions_rise_with_the_operations(alice_client: ApiClient, alice: User) -> None:
    """[V1] [F1] Creations that follow each other share one; all are in the log."""
    before = Clock.objects.get(user=alice).version
    first, second = str(uuid4()), str(uuid4())

    found = outcomes(
        alice_client,
        [
            create(id=first),
            create(id=second),
            {"op": "complete", "id": first},
            {"op": "complete", "id": first},
            {"op": "delete", "id": second},
        ],
    )

    versions = [(outcome["data"] or {}).get("version") for outcome in found]
    assert versions == [before + 1, before + 1, before + 2, before + 2, None]
    assert Clock.objects.get(user=alice).version == before + 3
    logged = Change.objects.filter(user=alice).order_by("version", "id")
    assert list(logged.values_list("version", "id")) == [
        *sorted([(before + 1, UUID(first)), (before + 1, UUID(second))]),
        (before + 2, UUID(first)),
        (before + 3, UUID(second)),
    ]


@pytest.mark.parametrize("count", [1, 50, 100])
def test_creations_are_one_statement_however_many(
    count: int, alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """[B6] Beside the opening, and the ends of the transaction."""
    with django_assert_num_queries(4):
        found = outcomes(alice_client, [create(f"{n}") for n in range(count)])

    assert len(found) == count
    assert Task.objects.count() == count


@needs_prepared_statements
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "queue"}], ids=["bare", "keyed"])
@pytest.mark.parametrize("count", [1, 20], ids=["5 operations", "100 operations"])
def test_batch_takes_three_round_trips_however_long(
    count: int, headers: dict[str, str], alice_client: ApiClient
) -> None:
    """[B6] All operations together; the answer, where it is kept; and the commit."""
    data_of(alice_client.get(LIST))  # connects
    ids = [str(uuid4()) for _ in range(count)]
    operations = [
        operation
        for row_id in ids
        for operation in (
            create(id=row_id),
            {"op": "update", "id": row_id, "data": {"title": "x"}},
            {"op": "complete", "id": row_id},
            {"op": "delete", "id": row_id},
            {"op": "restore", "id": row_id},
        )
    ]

    with counted_round_trips(connection.connection) as round_trips:
        found = outcomes(alice_client, operations, headers=headers)
        sent = round_trips()

    assert statuses(found) == [201, 200, 200, 204, 200] * count
    assert sent == (3 if headers else 2)


FAILURES = [
    pytest.param({"op": "update", "id": str(uuid4()), "data": {"title": "x"}}, 404, id="absent"),
    pytest.param({"op": "complete", "id": "nonsense"}, 404, id="no id"),
    pytest.param({"op": "delete", "id": str(uuid4())}, 404, id="absent deletion"),
    pytest.param({"op": "restore", "id": str(uuid4())}, 404, id="absent restoration"),
    pytest.param({"op": "create", "data": {"title": ""}}, 400, id="blank"),
    pytest.param({"op": "create", "data": {}}, 400, id="nothing"),
    pytest.param({"op": "create", "data": {"title": "x", "color": 1}}, 400, id="unknown field"),
    pytest.param({"op": "create", "id": "x", "data": {"title": "x"}}, 400, id="malformed id"),
    pytest.param(
        {"op": "create", "id": str(UUID(int=0)), "data": {"title": "x"}}, 400, id="nil id"
    ),
    pytest.param({"op": "complete", "id": str(uuid4()), "data": {"is_completed": 1}}, 400, id="1"),
]


@pytest.mark.parametrize(("failing", "status"), FAILURES)
def test_one_failure_undoes_a_whole_batch(
    failing: Mapping[str, Any], status: int, alice_client: ApiClient, alice: User, task: Task
) -> None:
    """[B6] And is named by its place, with the error that its own route has."""
    before = Clock.objects.get(user=alice).version

    response = send(alice_client, [create(), failing, {"op": "delete", "id": str(task.pk)}])

    details = assert_error(response, 409, "CONFLICT")
    ((failed),) = details["operations"]
    assert (failed["index"], failed["status"]) == (1, status)
    assert failed["error"].keys() == {"code", "message", "details"}
    assert list(Task.objects.values_list("pk", "deleted_at")) == [(task.pk, None)]
    assert Clock.objects.get(user=alice).version == before


@pytest.mark.parametrize(("failing", "status"), FAILURES)
def test_others_stand_in_a_batch_that_is_not_atomic(
    failing: Mapping[str, Any], status: int, alice_client: ApiClient, task: Task
) -> None:
    """[B6]"""
    operations = [create(), failing, {"op": "delete", "id": str(task.pk)}]

    found = outcomes(alice_client, operations, atomic=False)

    assert statuses(found) == [201, status, 204]
    assert found[1].keys() == {"status", "error"}
    assert Task.objects.filter(deleted_at=None).values_list("title").get() == ("Buy milk",)
    task.refresh_from_db()
    assert task.deleted_at is not None


def test_several_failures_are_all_named(alice_client: ApiClient) -> None:
    failing = [{"op": "delete", "id": str(uuid4())}, create(""), create()]

    details = assert_error(send(alice_client, failing), 409, "CONFLICT")

    assert [(failed["index"], failed["status"]) for failed in details["operations"]] == [
        (0, 404),
        (1, 400),
    ]


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "update", "data": {"title": "Buy bread"}}, id="update"),
        pytest.param({"op": "complete"}, id="complete"),
        pytest.param({"op": "delete"}, id="delete"),
    ],
)
def test_if_version_is_if_match(
    operation: Mapping[str, Any], alice_client: ApiClient, task: Task
) -> None:
    """[V2] Whoever saw an older version is told the newer one."""
    seen = data_of(alice_client.get(f"{LIST}/{task.pk}"))["version"]
    current = data_of(alice_client.patch(f"{LIST}/{task.pk}", {"title": "Buy cheese"}))
    stale = {**operation, "id": str(task.pk), "if_version": seen}
    fresh = {**stale, "if_version": current["version"]}

    (refused,) = outcomes(alice_client, [stale], atomic=False)
    (done,) = outcomes(alice_client, [fresh], atomic=False)

    assert refused["status"] == 412
    assert refused["error"]["code"] == "PRECONDITION_FAILED"
    assert refused["error"]["details"]["current"] == current
    assert done["status"] in (200, 204)


def test_repeat_of_what_is_done_needs_no_version(alice_client: ApiClient, task: Task) -> None:
    """[V2] RFC 9110, section 13.1.1: the retry finds its own work done."""
    seen = data_of(alice_client.get(f"{LIST}/{task.pk}"))["version"]
    operation = {"op": "complete", "id": str(task.pk), "if_version": seen}

    (first,) = outcomes(alice_client, [operation])
    (second,) = outcomes(alice_client, [operation])

    assert first == second


@pytest.mark.parametrize("is_trashed", [False, True], ids=["living", "trashed"])
def test_id_of_ones_own_is_taken(is_trashed: bool, alice_client: ApiClient, task: Task) -> None:
    """[V2] As its own route says it, with what has the id, and where that is."""
    if is_trashed:
        alice_client.delete(f"{LIST}/{task.pk}")
    own = alice_client.put(f"{LIST}/{task.pk}", {"title": "x"}, if_none_match="*")

    (found,) = outcomes(alice_client, [create(id=str(task.pk))], atomic=False)

    assert found["status"] == own.status_code == 412
    assert found["error"] == json.loads(own.content)["error"]
    assert found["error"]["details"].get("deleted", False) is is_trashed


def test_stale_restoration_says_that_it_is_in_the_trash(
    alice_client: ApiClient, task: Task
) -> None:
    """[V2] [D1]"""
    alice_client.delete(f"{LIST}/{task.pk}")

    (found,) = outcomes(
        alice_client, [{"op": "restore", "id": str(task.pk), "if_version": 0}], atomic=False
    )

    assert found["error"]["details"]["deleted"] is True


@pytest.mark.parametrize("header", ["if_match", "if_none_match"])
def test_conditions_of_a_whole_batch_are_refused(header: str, alice_client: ApiClient) -> None:
    """[B4] They would have no effect."""
    response = send(alice_client, [create()], headers={header: "*"})

    assert_error(response, 400, "VALIDATION_ERROR")
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_version_from_before_a_restore_is_stale(alice_client: ApiClient, task: Task) -> None:
    """[V2] Though the clock came by the same number again, without new_epochs."""
    seen = data_of(alice_client.patch(f"{LIST}/{task.pk}", {"title": "Seen"}))["version"]
    Clock.objects.update(version=seen - 1)
    Task.objects.update(version=seen - 1)
    call_command("new_epochs", stdout=io.StringIO())
    data_of(alice_client.patch(f"{LIST}/{task.pk}", {"title": "Written since"}))
    operation = {"op": "complete", "id": str(task.pk), "if_version": seen}

    (found,) = outcomes(alice_client, [operation], atomic=False)

    assert found["status"] == 412


def test_id_of_somebody_else_is_a_conflict(bob_client: ApiClient, task: Task) -> None:
    """[V2] And nothing of theirs is told, nor changed."""
    found = outcomes(bob_client, [create("Mine", id=str(task.pk)), create("Other")], atomic=False)

    assert statuses(found) == [409, 201]
    assert "Two litres" not in json.dumps(found)
    task.refresh_from_db()
    assert (task.title, task.version) == ("Buy milk", task.version)


@pytest.mark.parametrize("name", ["update", "complete", "delete", "restore"])
def test_tasks_of_others_are_not_there(name: str, bob_client: ApiClient, task: Task) -> None:
    operation: dict[str, Any] = {"op": name, "id": str(task.pk)}
    if name == "update":
        operation["data"] = {"title": "Mine"}

    (found,) = outcomes(bob_client, [operation], atomic=False)

    assert found["status"] == 404
    task.refresh_from_db()
    assert (task.title, task.completed_at, task.deleted_at) == ("Buy milk", None, None)


def test_same_id_twice_is_made_once(alice_client: ApiClient) -> None:
    row_id = str(uuid4())

    found = outcomes(alice_client, [create(id=row_id), create("Other", id=row_id)], atomic=False)

    assert statuses(found) == [201, 412]
    assert Task.objects.get().title == "Buy milk"


def test_purged_id_comes_back_in_the_feed_once(alice_client: ApiClient, task: Task) -> None:
    """[F1] It is no tombstone any more."""
    since = json.loads(alice_client.get("/api/me/changes").content)["meta"]["next_since"]
    alice_client.delete(f"{LIST}/{task.pk}", query={"permanent": "true"})

    outcomes(alice_client, [create("Again", id=str(task.pk))])

    changes = data_of(alice_client.get("/api/me/changes", query={"since": since}))
    assert [(change["id"], change["deleted"]) for change in changes] == [(str(task.pk), False)]


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        pytest.param({}, "operations", "required", id="nothing"),
        pytest.param({"operations": []}, "operations", "empty", id="none"),
        pytest.param({"operations": {}}, "operations", "invalid", id="no list"),
        pytest.param({"operations": [create()] * 101}, "operations", "max_length", id="101"),
        pytest.param({"operations": ["x"]}, "operations", "invalid", id="no object"),
        pytest.param({"operations": [{"op": "drop"}]}, "operations", "invalid_choice", id="op"),
        pytest.param({"operations": [{"op": "create"}]}, "operations", "required", id="no data"),
        pytest.param({"operations": [{"op": "delete"}]}, "operations", "required", id="no id"),
        pytest.param(
            {"operations": [create(type="note")]}, "operations", "invalid_choice", id="type"
        ),
        pytest.param({"operations": [create(color=1)]}, "operations", "unknown", id="unknown"),
        pytest.param(
            {"operations": [create(if_version=1)]}, "operations", "not_supported", id="if_version"
        ),
        pytest.param(
            {"operations": [{"op": "complete", "id": str(uuid4()), "if_version": "1"}]},
            "operations",
            "invalid",
            id="version as text",
        ),
        pytest.param(
            {"operations": [{"op": "delete", "id": str(uuid4()), "data": {"x": 1}}]},
            "operations",
            "unknown",
            id="data of a deletion",
        ),
        pytest.param({"operations": [create()], "atomic": "yes"}, "atomic", "invalid", id="atomic"),
        pytest.param({"operations": [create()], "dry": True}, "dry", "unknown", id="unknown key"),
    ],
)
def test_what_is_no_batch_is_refused(
    body: Any, field: str, code: str, alice_client: ApiClient
) -> None:
    """[B4] Whole, whether it is atomic or not, and says which operation it is."""
    details = assert_error(alice_client.post(BATCH, body), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details[field]] == [code]
    assert not Task.objects.exists()


def test_faults_name_the_operation(alice_client: ApiClient) -> None:
    bad = [create(), {"op": "drop"}, create(id=5)]

    details = assert_error(send(alice_client, bad), 400, "VALIDATION_ERROR")

    first, second = (fault["message"] for fault in details["operations"])
    assert first.startswith("Operation 1, op: ")
    assert second.startswith("Operation 2, id: ")


def test_body_of_a_mebibyte_is_read(alice_client: ApiClient) -> None:
    """[B6] Four times that of other routes."""
    text = "x" * 20_000
    operations = [{"op": "create", "data": {"title": "x", "description": text}}] * 50

    assert len(outcomes(alice_client, operations)) == 50
    over = [{"op": "create", "data": {"title": "x", "description": text}}] * 53
    assert_error(send(alice_client, over), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "not atomic"])
@pytest.mark.parametrize("more", [{}, {"if_version": 0}], ids=["tasks", "what they are now"])
@pytest.mark.parametrize("character", ["\x01", "🎉"], ids=["escaped", "four bytes"])
def test_answer_has_a_bound(
    character: str,
    more: Mapping[str, Any],
    atomic: bool,
    alice_client: ApiClient,
    alice: User,
) -> None:
    """[B6] Nothing is done of what would answer with more, and it counts as what it is."""
    tasks = Task.objects.bulk_create(
        Task(user=alice, title="x", description=character * 20_000) for _ in range(60)
    )
    completions = [{"op": "complete", "id": str(task.pk), **more} for task in tasks]

    response = send(alice_client, completions, atomic=atomic)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details["operations"][0]["code"] == "max_length"
    assert not Task.objects.exclude(completed_at=None).exists()
    assert RateCounter.objects.get().hits == 60


def test_each_operation_counts_as_a_write(alice_client: ApiClient, settings: Any) -> None:
    """[B6] What is too much is refused whole, and leaves room for what fits."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(10, 3600)}

    response = send(alice_client, [create()] * 6)
    assert response["RateLimit-Remaining"] == "4"
    assert_error(send(alice_client, [create()] * 5), 429, "RATE_LIMITED")
    assert data_of(send(alice_client, [create()] * 4))
    assert_error(send(alice_client, [create()]), 429, "RATE_LIMITED")

    assert Task.objects.count() == 10


def test_batch_over_the_whole_limit_says_what_fits(alice_client: ApiClient, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(10, 3600)}

    details = assert_error(send(alice_client, [create()] * 11), 400, "VALIDATION_ERROR")

    assert "10" in details["operations"][0]["message"]


def test_undone_batch_counts_as_well(alice_client: ApiClient, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": Rate(10, 3600)}

    assert_error(send(alice_client, [create(), create("")]), 409, "CONFLICT")

    assert RateCounter.objects.get().hits == 2


def test_nothing_is_done_for_an_ended_session(alice_client: ApiClient, alice: User) -> None:
    """[S3]"""
    Session.objects.filter(user=alice).end()

    assert_error(send(alice_client, [create()]), 401, "TOKEN_INVALID")

    assert not Task.objects.exists()
    assert not RateCounter.objects.exists()


def test_refusal_is_that_of_the_other_routes(db: None, issuer: Any) -> None:
    """[A1] [S3] Of people of a provider, too, whose refusal asks the database."""
    access = issuer.token(sub="ada")
    client = ApiClient(access)
    data_of(client.get(LIST))
    User.objects.update(is_active=False)

    refused = client.post(LIST, {"title": "x"})
    batch = send(client, [create()])

    assert batch.status_code == refused.status_code == 403
    assert json.loads(batch.content)["error"] == json.loads(refused.content)["error"]


def test_limits_may_be_off(alice_client: ApiClient, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "writes": None}

    assert statuses(outcomes(alice_client, [create()])) == [201]


def test_title_that_the_database_refuses_fails_alone(
    alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[T2] Where the input's rule lets pass what the table's doesn't."""
    monkeypatch.setattr("todo_project.text._BREAKS_LINE", re.compile("(?!)"))
    operations = [create("Before"), create("a\x1fb"), create("After")]

    found = outcomes(alice_client, operations, atomic=False)
    response = send(alice_client, operations)

    assert statuses(found) == [201, 400, 201]
    assert found[1]["error"]["details"]["title"][0]["code"] == "control_characters"
    details = assert_error(response, 409, "CONFLICT")
    assert [failed["index"] for failed in details["operations"]] == [1]
    assert sorted(Task.objects.values_list("title", flat=True)) == ["After", "Before"]


# --- Idempotency-Key --------------------------------------------------------------------------

KEY = {"headers": {"idempotency_key": "queue-1"}}


def test_repeat_with_a_key_gets_the_same_answer(alice_client: ApiClient) -> None:
    """[I1] Byte for byte, and nothing is done."""
    operations = [create(), create("")]
    first = send(alice_client, operations, atomic=False, **KEY)
    second = send(alice_client, operations, atomic=False, **KEY)

    assert data_of(first) == data_of(second)
    assert second["Idempotent-Replayed"] == "true"
    assert first.content.partition(b',"meta"')[0] == second.content.partition(b',"meta"')[0]
    assert Task.objects.count() == 1


def test_key_of_another_batch_is_refused(alice_client: ApiClient) -> None:
    """[I1] [E1]"""
    outcomes(alice_client, [create()], **KEY)

    assert_error(send(alice_client, [create("x")], **KEY), 422, "IDEMPOTENCY_KEY_REUSED")
    assert Task.objects.count() == 1
    assert RateCounter.objects.get().hits == 2


def test_replays_count_as_writes(alice_client: ApiClient) -> None:
    """[I1]"""
    outcomes(alice_client, [create(), create()], **KEY)
    outcomes(alice_client, [create(), create()], **KEY)

    assert RateCounter.objects.get().hits == 4


def test_answer_of_an_undone_batch_is_not_kept(alice_client: ApiClient) -> None:
    """[I1] Errors are not kept."""
    row_id = str(uuid4())
    operations = [create(), {"op": "complete", "id": row_id}]
    assert_error(send(alice_client, operations, **KEY), 409, "CONFLICT")
    alice_client.put(f"{LIST}/{row_id}", {"title": "x"}, if_none_match="*")

    assert statuses(outcomes(alice_client, operations, **KEY)) == [201, 200]


@pytest.mark.django_db(transaction=True)
def test_simultaneous_batches_with_one_key_are_one(alice: User) -> None:
    """[I1] The second waits, and gets the first one's answer."""
    access = begin_session(alice).access
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        try:
            client = ApiClient(access)
            barrier.wait()
            response = send(client, [create("a"), create("b")], **KEY)
            found.append(response.content.partition(b',"meta"')[0])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert Task.objects.count() == 2


def test_batches_prepare_few_statements(alice_client: ApiClient, alice: User) -> None:
    """One for each kind of operation, however many rows and whichever values."""
    texts = set[str]()

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        texts.add(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        for count in (1, 3, 50):
            outcomes(alice_client, [create(f"{n}") for n in range(count)])

    assert len([text for text in texts if "INSERT INTO tasks_task" in text]) == 1
