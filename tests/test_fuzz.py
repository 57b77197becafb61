"""Two people do anything in any order; a model of a few lines says what must come out.

Short by default; `make fuzz` sends 10,000 requests and more, and counts them.
"""

import os
from typing import Any

import pytest
from django.http import HttpResponse
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from todo_project.models import Clock, RateCounter
from todo_project.text import is_visible

# `make fuzz` sets it. A run of 60 steps sends about 44 requests, which differ from run to run.
RUNS = int(os.environ.get("FUZZ_RUNS", "8"))
MANY_RUNS = 250
MANY_REQUESTS = 10_000
STEPS = 60

PEOPLE = ("alice", "bob")
titles = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=40
).filter(is_visible)
descriptions = st.none() | st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60
)
changes = st.fixed_dictionaries(
    {}, optional={"title": titles, "description": descriptions, "is_completed": st.booleans()}
)


class CountingClient(ApiClient):
    """Counts the requests of all its instances."""

    sent = 0

    def call(self, *args: Any, **kwargs: Any) -> HttpResponse:
        CountingClient.sent += 1
        return super().call(*args, **kwargs)


class TwoPeople(RuleBasedStateMachine):
    """The model: each person's tasks, as the service answered them last, and their sessions.

    Also their trash, their clock, and a device that now and then asks what has changed.
    """

    tasks = Bundle("tasks")
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.users = {name: User.objects.create(email=f"{name}@example.com") for name in PEOPLE}
        self.owned: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PEOPLE}
        self.trashed: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PEOPLE}
        self.clocks = dict.fromkeys(PEOPLE, 1)
        self.devices: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PEOPLE}
        self.positions: dict[str, dict[str, str]] = {name: {} for name in PEOPLE}
        self.live: dict[str, bool] = {}

    def teardown(self) -> None:
        User.objects.all().delete()
        RateCounter.objects.all().delete()

    @initialize(target=sessions)
    def both_sign_in(self) -> Any:
        return multiple(*(self._sign_in(name) for name in PEOPLE))

    def _sign_in(self, name: str) -> tuple[str, dict[str, Any]]:
        pair = begin_session(self.users[name])
        session = {"access": pair.access, "refresh": pair.refresh, "spent": [], "live": True}
        return name, session

    def _client(self, session: tuple[str, dict[str, Any]]) -> CountingClient | None:
        """The client of a session; None after asserting that an ended one is refused."""
        client = CountingClient(session[1]["access"])
        if session[1]["live"]:
            return client
        assert_error(client.get("/api/me/tasks"), 401, "TOKEN_INVALID")
        return None

    @rule(target=sessions, name=st.sampled_from(PEOPLE))
    def sign_in(self, name: str) -> Any:
        return self._sign_in(name)

    @rule(session=sessions)
    def refresh(self, session: Any) -> None:
        _, state = session
        response = CountingClient().post("/api/auth/token/refresh", {"refresh": state["refresh"]})
        if not state["live"]:
            assert_error(response, 401, "TOKEN_INVALID")
            return
        data = data_of(response)
        state["spent"].append(state["refresh"])
        state.update(access=data["access"], refresh=data["refresh"])

    @rule(session=sessions)
    def refresh_with_a_spent_token(self, session: Any) -> None:
        _, state = session
        if not state["spent"]:
            return
        response = CountingClient().post("/api/auth/token/refresh", {"refresh": state["spent"][0]})
        if state["live"] and len(state["spent"]) == 1:
            data = data_of(response)
            assert (data["access"], data["refresh"]) == (state["access"], state["refresh"])
            return
        assert_error(response, 401, "TOKEN_INVALID")
        state["live"] = False  # older than the predecessor: stolen

    @rule(session=sessions)
    def log_out(self, session: Any) -> None:
        _, state = session
        response = CountingClient().post("/api/auth/logout", {"refresh": state["refresh"]})
        assert response.status_code == 204
        state["live"] = False

    @rule(target=tasks, session=sessions, title=titles, description=descriptions)
    def create(self, session: Any, title: str, description: str | None) -> Any:
        client = self._client(session)
        if client is None:
            return multiple()
        body = {"title": title, "description": description}
        data = data_of(client.post("/api/me/tasks", body), 201)
        assert data["title"] == title.strip()
        assert data["description"] == description
        self._advanced(session[0], data)
        self.owned[session[0]][data["id"]] = data
        return data["id"]

    @rule(session=sessions, task_id=tasks)
    def read(self, session: Any, task_id: str) -> None:
        client = self._client(session)
        if client is None:
            return
        response = client.get(f"/api/me/tasks/{task_id}")
        expected = self.owned[session[0]].get(task_id)
        if expected is None:
            assert_error(response, 404, "NOT_FOUND")
        else:
            assert data_of(response) == expected

    @rule(session=sessions, task_id=tasks, body=changes)
    def change(self, session: Any, task_id: str, body: dict[str, Any]) -> None:
        client = self._client(session)
        if client is None:
            return
        self._changed(session[0], task_id, body, client.patch(f"/api/me/tasks/{task_id}", body))

    @rule(session=sessions, task_id=tasks, body=changes, saw_another=st.booleans())
    def change_what_was_seen(
        self, session: Any, task_id: str, body: dict[str, Any], saw_another: bool
    ) -> None:
        """[V2] Whoever saw another version is told, unless the task is as they want it."""
        name, client = session[0], self._client(session)
        before = self.owned[name].get(task_id)
        if client is None or before is None:
            return
        stale = f'{before["etag"][:-1]}0"'
        tag = stale if saw_another else before["etag"]
        response = client.patch(f"/api/me/tasks/{task_id}", body, if_match=tag)
        is_done = all(before[field] == _kept(field, value) for field, value in body.items())
        if saw_another and not is_done:
            details = assert_error(response, 412, "PRECONDITION_FAILED")
            assert details["current"] == before
        else:
            self._changed(name, task_id, body, response)

    @rule(session=sessions, task_id=tasks, body=changes, title=titles)
    def replace(self, session: Any, task_id: str, body: dict[str, Any], title: str) -> None:
        client = self._client(session)
        if client is None:
            return
        body = {**body, "title": title}
        self._changed(session[0], task_id, body, client.put(f"/api/me/tasks/{task_id}", body))

    @rule(session=sessions, task_id=tasks, is_completed=st.booleans())
    def complete(self, session: Any, task_id: str, is_completed: bool) -> None:
        client = self._client(session)
        if client is None:
            return
        body = {"is_completed": is_completed}
        response = client.patch(f"/api/me/tasks/{task_id}/complete", body)
        self._changed(session[0], task_id, body, response)

    def _changed(self, name: str, task_id: str, body: dict[str, Any], response: Any) -> None:
        """[T4] Exactly the fields that were sent have changed, and no others."""
        before = self.owned[name].get(task_id)
        if before is None:
            assert_error(response, 404, "NOT_FOUND")
            return
        after = data_of(response)
        expected = {**before, **{field: _kept(field, value) for field, value in body.items()}}
        if any(expected[field] != before[field] for field in body):
            self._advanced(name, after)
            expected |= {field: after[field] for field in ("updated_at", "version", "etag")}
        if expected["is_completed"] != before["is_completed"]:
            expected["completed_at"] = after["updated_at"] if expected["is_completed"] else None
        assert after == expected
        assert after["updated_at"] >= before["updated_at"]
        self.owned[name][task_id] = after

    def _advanced(self, name: str, after: dict[str, Any]) -> None:
        """[V1] [V2] Each change by one, which the task and its tag have then."""
        self.clocks[name] += 1
        assert after["version"] == self.clocks[name]
        assert after["etag"].endswith(f'-{after["version"]}"')

    @rule(session=sessions, task_id=tasks)
    def delete(self, session: Any, task_id: str) -> None:
        """[D1]"""
        name, client = session[0], self._client(session)
        if client is None:
            return
        response = client.delete(f"/api/me/tasks/{task_id}")
        if task_id not in self.owned[name]:
            assert_error(response, 404, "NOT_FOUND")
            return
        assert response.status_code == 204
        self.trashed[name][task_id] = self.owned[name].pop(task_id)
        self.clocks[name] += 1

    @rule(session=sessions, task_id=tasks)
    def restore(self, session: Any, task_id: str) -> None:
        """[D1] As it was, but for the version."""
        name, client = session[0], self._client(session)
        if client is None:
            return
        response = client.post(f"/api/me/tasks/{task_id}/restore")
        if task_id in self.owned[name]:
            assert data_of(response) == self.owned[name][task_id]
        elif task_id in self.trashed[name]:
            after, before = data_of(response), self.trashed[name].pop(task_id)
            self._advanced(name, after)
            assert after == {**before, "version": after["version"], "etag": after["etag"]}
            self.owned[name][task_id] = after
        else:
            assert_error(response, 404, "NOT_FOUND")

    @rule(session=sessions, task_id=consumes(tasks))
    def purge(self, session: Any, task_id: str) -> None:
        """[D1] [F1] What lay in the trash was told of as deleted already."""
        name, client = session[0], self._client(session)
        if client is None:
            return
        response = client.delete(f"/api/me/tasks/{task_id}", query={"permanent": "true"})
        if self.owned[name].pop(task_id, None) is not None:
            self.clocks[name] += 1
        elif self.trashed[name].pop(task_id, None) is None:
            assert_error(response, 404, "NOT_FOUND")
            return
        assert response.status_code == 204

    @rule(session=sessions, limit=st.integers(1, 5))
    def look_into_the_trash(self, session: Any, limit: int) -> None:
        name, client = session[0], self._client(session)
        if client is None:
            return
        query: dict[str, Any] = {"limit": limit}
        seen: list[str] = []
        while query.get("cursor", "") is not None:
            response = client.get("/api/me/trash", query=query)
            seen += [row["id"] for row in data_of(response)]
            query["cursor"] = meta_of(response)["next_cursor"]
        assert sorted(seen) == sorted(self.trashed[name])

    @rule(session=sessions, limit=st.integers(1, 5))
    def pull_changes(self, session: Any, limit: int) -> None:
        """[F1] [F2] At the end the device has exactly what is there."""
        name, client = session[0], self._client(session)
        if client is None:
            return
        device, has_more = self.devices[name], True
        while has_more:
            query = {"limit": limit, **self.positions[name]}
            response = client.get("/api/me/changes", query=query)
            for change in data_of(response):
                device.pop(change["id"], None)
                if not change["deleted"]:
                    device[change["id"]] = change["resource"]
            has_more = meta_of(response)["has_more"]
            self.positions[name] = {"since": meta_of(response)["next_since"]}
        assert device == self.owned[name]

    @rule(
        session=sessions,
        limit=st.integers(1, 5),
        ordering=st.sampled_from(
            ["created_at", "-updated_at", "title,-created_at", "-completed_at,title"]
        ),
        is_completed=st.none() | st.booleans(),
    )
    def page_through(
        self, session: Any, limit: int, ordering: str, is_completed: bool | None
    ) -> None:
        client = self._client(session)
        if client is None:
            return
        query: dict[str, Any] = {"limit": limit, "ordering": ordering, "total": "true"}
        if is_completed is not None:
            query["is_completed"] = str(is_completed).lower()
        expected = {
            task_id: row
            for task_id, row in self.owned[session[0]].items()
            if is_completed in (None, row["is_completed"])
        }
        seen: dict[str, Any] = {}
        while True:
            response = client.get("/api/me/tasks", query=query)
            for row in data_of(response):
                assert row["id"] not in seen
                seen[row["id"]] = row
            meta = meta_of(response)
            assert meta["total"] == len(expected)
            if meta["next_cursor"] is None:
                break
            query["cursor"] = meta["next_cursor"]
        assert seen == expected

    @rule(session=sessions, task_id=tasks)
    def reach_for_the_others_path(self, session: Any, task_id: str) -> None:
        name, _ = session
        client = self._client(session)
        if client is None:
            return
        other = self.users["bob" if name == "alice" else "alice"].pk
        for response in (
            client.get(f"/api/{other}/tasks"),
            client.delete(f"/api/{other}/tasks/{task_id}"),
            client.patch(f"/users/{other}/tasks/{task_id}/complete"),
        ):
            assert_error(response, 403, "PERMISSION_DENIED")

    @invariant()
    def table_is_as_the_model(self) -> None:
        rows = Task.objects.values_list("user__email", "id", "deleted_at")
        model = {
            (f"{name}@example.com", task_id, is_trashed)
            for is_trashed, tasks in ((False, self.owned), (True, self.trashed))
            for name in PEOPLE
            for task_id in tasks[name]
        }
        found = {(email, str(task_id), deleted is not None) for email, task_id, deleted in rows}
        assert found == model

    @invariant()
    def clocks_are_as_the_model(self) -> None:
        """[V1] They advance by what changes something, and by nothing else."""
        for name, user in self.users.items():
            assert Clock.objects.get(user=user).version == self.clocks[name]


def _kept(field: str, value: Any) -> Any:
    """What becomes of a value that is sent."""
    return value.strip() if field == "title" else value


# Each request is a transaction of its own: triggers advance a clock once for each.
@pytest.mark.django_db(transaction=True)
def test_two_people_never_touch_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """[R1] [T4] [S2] [L2] [V1] [V2] [D1] [F1] No cross-user effect, no lost update, no 500."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        TwoPeople,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="FUZZ_RUNS" not in os.environ,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    with capsys.disabled():
        print(f"{CountingClient.sent:,} requests in {RUNS} runs")  # noqa: T201  # a figure
    if RUNS >= MANY_RUNS:
        assert CountingClient.sent >= MANY_REQUESTS
