"""Two people do anything in any order; a model of a few lines says what must come out.

Short by default; `make fuzz` sends 10,000 requests and more, and counts them.
"""

import os
from typing import Any

import pytest
from django.db import transaction
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
from todo_project.text import is_visible

# `make fuzz` sets it. A run of 60 steps sends about 49 requests, which differ from run to run.
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
    """The model: each person's tasks, as the service answered them last, and their sessions."""

    tasks = Bundle("tasks")
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        self.users = {name: User.objects.create(email=f"{name}@example.com") for name in PEOPLE}
        self.owned: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PEOPLE}
        self.live: dict[str, bool] = {}

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.rollback.__exit__(None, None, None)

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
        expected = {**before, **body}
        expected["title"] = expected["title"].strip()
        changed = any(expected[field] != before[field] for field in body)
        expected["updated_at"] = after["updated_at"] if changed else before["updated_at"]
        if expected["is_completed"] != before["is_completed"]:
            expected["completed_at"] = after["updated_at"] if expected["is_completed"] else None
        assert after == expected
        assert after["updated_at"] >= before["updated_at"]
        self.owned[name][task_id] = after

    @rule(session=sessions, task_id=consumes(tasks))
    def delete(self, session: Any, task_id: str) -> None:
        client = self._client(session)
        if client is None:
            return
        response = client.delete(f"/api/me/tasks/{task_id}")
        if self.owned[session[0]].pop(task_id, None) is None:
            assert_error(response, 404, "NOT_FOUND")
        else:
            assert response.status_code == 204

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
        rows = set(Task.objects.values_list("user__email", "id"))
        model = {
            (f"{name}@example.com", task_id) for name in PEOPLE for task_id in self.owned[name]
        }
        assert {(email, str(task_id)) for email, task_id in rows} == model


@pytest.mark.django_db
def test_two_people_never_touch_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """[R1] [T4] [S2] [L2] No cross-user effect, no lost update, no 500."""
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
