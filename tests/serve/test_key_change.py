"""[A6] The steps of docs/operations.md, taken with two real servers that are restarted in turn.

People work all the while, each request at one of the two; whatever one has made the other is shown.
"""

import json
import random
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from django.conf import settings
from pytest_django import DjangoDbBlocker

from accounts.models import User
from tasks.models import Task
from tests.conftest import PASSWORD
from tests.processes import PATIENCE_S, wait_until
from tests.serve.conftest import Server

pytestmark = pytest.mark.django_db  # so that there is a test database

PEOPLE = 3
PAUSE_S = 0.01  # of a person between two rounds: other tests run, too
TASKS = 5
CROSSING = ("access token", "cursor", "lost answer", "refresh token")
OLD = {"JWT_SIGNING_KEY": settings.JWT_SIGNING_KEY, "SECRET_KEY": settings.SECRET_KEY}
NEW = {name: secrets.token_urlsafe(50) for name in OLD}
LISTS = {"JWT_SIGNING_KEY": "JWT_PREVIOUS_SIGNING_KEYS", "SECRET_KEY": "SECRET_KEY_FALLBACKS"}


def environment(key: dict[str, str], known: dict[str, str] | None = None) -> dict[str, Any]:
    return {**key, **{LISTS[name]: value for name, value in (known or {}).items()}}


# What the environment says before and after each step.
STEPS = [environment(OLD), environment(OLD, NEW), environment(NEW, OLD), environment(NEW)]


@dataclass(eq=False)
class Instance:
    """A server as it was started at some step."""

    step: int
    place: int  # of the two
    server: Server

    def __str__(self) -> str:
        return f"{self.step}.{self.place}"

    def ask(
        self, method: str, path: str, access: str | None = None, **body: Any
    ) -> tuple[int, Any]:
        """Status and body of the answer."""
        headers = {"Content-Type": "application/json"}
        if access is not None:
            headers["Authorization"] = f"Bearer {access}"
        with closing(self.server.connect()) as client:
            client.request(method, path, json.dumps(body) if body else None, headers)
            answer = client.getresponse()
            return answer.status, json.loads(answer.read())


class Crossing(NamedTuple):
    """What one instance made is used at the other."""

    what: str
    made: Instance
    used: Instance


class Service:
    """Two places, and the instances that stand there: a load balancer's view."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder, self._database = folder, database
        self._changed = threading.Condition()
        self._busy: list[Instance] = []
        self.instances: list[Instance] = []
        self.servers: list[Server] = []  # all that there ever were
        self.crossings: set[Crossing] = set()

    def begin(self, step: int, place: int) -> None:
        folder = self._folder / f"{step}.{place}"
        folder.mkdir()
        server = Server(folder, self._database, processes=1, **STEPS[step])
        self.servers.append(server)
        with self._changed:
            self.instances.append(Instance(step, place, server))

    def end(self, place: int) -> None:
        """Takes an instance out, and ends it when nobody uses it any more."""
        with self._changed:
            (instance,) = (i for i in self.instances if i.place == place)
            self.instances.remove(instance)
            assert self._changed.wait_for(lambda: instance not in self._busy, PATIENCE_S)
        instance.server.process.terminate()
        assert instance.server.process.wait(PATIENCE_S) == 0

    @contextmanager
    def two(self) -> Iterator[tuple[Instance, Instance]]:
        """Two in random order, which stay for so long; one twice, while the other is restarted."""
        with self._changed:
            two = random.sample(self.instances, len(self.instances))
            self._busy += two
        try:
            yield two[0], two[-1]
        finally:
            with self._changed:
                for instance in two:
                    self._busy.remove(instance)
                self._changed.notify_all()


def expect(status: int, answer: tuple[int, Any]) -> Any:
    assert answer[0] == status, answer
    return answer[1]


def first_page(access: str, at: Instance) -> str:
    """The cursor of the next one."""
    body = expect(200, at.ask("GET", "/api/me/tasks?limit=2", access))
    cursor: str = body["meta"]["next_cursor"]
    return cursor


def page(cursor: str, access: str, at: Instance) -> tuple[int, Any]:
    return at.ask("GET", f"/api/me/tasks?limit=2&cursor={cursor}", access)


def refreshed(refresh: str, at: Instance) -> dict[str, str]:
    pair: dict[str, str] = expect(200, at.ask("POST", "/api/auth/token/refresh", refresh=refresh))[
        "data"
    ]
    return pair


@dataclass
class Person:
    """Somebody who is signed in, and works."""

    access: str
    refresh: str
    refresh_made: Instance
    rounds: int = 0
    secrets: list[str] = field(default_factory=list)

    def work(self, service: Service, done: threading.Event) -> None:
        while not done.wait(PAUSE_S):
            with service.two() as (here, there):
                self.list_tasks(service, here, there)
                self.renew_tokens(service, here, there)
            self.rounds += 1

    def list_tasks(self, service: Service, here: Instance, there: Instance) -> None:
        """To the end; each page at the other instance than the one before."""
        cursor, seen = first_page(self.access, here), 2
        while cursor is not None:
            here, there = there, here
            body = expect(200, page(cursor, self.access, here))
            service.crossings.add(Crossing("cursor", made=there, used=here))
            cursor, seen = body["meta"]["next_cursor"], seen + len(body["data"])
        assert seen == TASKS

    def renew_tokens(self, service: Service, here: Instance, there: Instance) -> None:
        """Here, where the answer is lost; asks for it again there."""
        lost = refreshed(self.refresh, here)
        service.crossings.add(Crossing("refresh token", self.refresh_made, here))
        again = refreshed(self.refresh, there)
        service.crossings.add(Crossing("lost answer", made=here, used=there))
        assert (again["access"], again["refresh"]) == (lost["access"], lost["refresh"])
        self.access, self.refresh, self.refresh_made = again["access"], again["refresh"], here
        expect(200, there.ask("GET", "/api/auth/me", self.access))
        service.crossings.add(Crossing("access token", made=here, used=there))
        self.secrets += [self.access, self.refresh]


class Operator:
    """A browser at admin."""

    def __init__(self, email: str, at: Instance) -> None:
        self._browser = requests.Session()
        form = {"username": email, "password": PASSWORD}
        self._browser.get(f"{_admin(at)}login/")
        form["csrfmiddlewaretoken"] = self._browser.cookies["todo_csrf"]
        self._browser.post(f"{_admin(at)}login/", form)
        assert "todo_session" in self._browser.cookies

    def is_signed_in(self, at: Instance) -> bool:
        return self._browser.get(_admin(at), allow_redirects=False).status_code == 200


def _admin(at: Instance) -> str:
    return f"http://127.0.0.1:{at.server.port}/admin/"


@pytest.fixture(scope="module")
def olga(database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    """Has tasks and is an operator, too. The servers' own connections see her."""
    with django_db_blocker.unblock():
        user = User.objects.create_superuser("olga-keys@example.com", PASSWORD)
        Task.objects.bulk_create(Task(user=user, title=f"{n}") for n in range(TASKS))
    yield user
    with django_db_blocker.unblock():
        user.delete()


def sign_in(user: User, at: Instance) -> Person:
    credentials = {"email": user.email, "password": PASSWORD}
    pair = expect(200, at.ask("POST", "/api/auth/token", **credentials))["data"]
    return Person(pair["access"], pair["refresh"], refresh_made=at)


@pytest.fixture
def service(database: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, database)
    yield service
    for server in service.servers:
        server.end()


def wait_until_all_crosses(
    service: Service, people: list[Person], working: list[Future[None]]
) -> None:
    """Until whatever either instance makes was used at the other, and each has new tokens."""
    wanted = {
        Crossing(what, made, used)
        for made, used in permutations(service.instances, 2)
        for what in CROSSING
    }
    # One round may have begun before; the tokens of the next are of these instances.
    rounds = [person.rounds + 2 for person in people]

    def has_crossed() -> bool:
        for future in working:
            if future.done():
                future.result()  # raises what has stopped it
        enough = all(p.rounds >= n for p, n in zip(people, rounds, strict=True))
        return enough and wanted <= service.crossings

    wait_until(has_crossed)


def test_keys_change_while_people_work(service: Service, olga: User) -> None:
    """[A6] Both keys. Not one request of anybody is refused; afterwards the old keys are worthless.

    Somebody who was away from before the first step until before the last comes back, too.
    """
    for place in (0, 1):
        service.begin(0, place)
    first = service.instances[0]
    away, stolen, *people = (sign_in(olga, first) for _ in range(2 + PEOPLE))
    cursor = first_page(away.access, first)
    operator = Operator(str(olga.email), first)
    done = threading.Event()
    with ThreadPoolExecutor(PEOPLE) as pool:
        try:
            working = [pool.submit(person.work, service, done) for person in people]
            wait_until_all_crosses(service, people, working)
            for step in (1, 2, 3):
                if step == 3:
                    for instance in service.instances:
                        expect(200, instance.ask("GET", "/api/auth/me", away.access))
                        expect(200, page(cursor, away.access, instance))
                    away.access = refreshed(away.refresh, service.instances[0])["access"]
                for place in (0, 1):
                    service.end(place)
                    service.begin(step, place)
                    wait_until_all_crosses(service, people, working)
                    for instance in service.instances * 2:
                        assert operator.is_signed_in(instance)
        finally:
            done.set()
    for future in working:
        future.result()

    for instance in service.instances:
        expect(200, instance.ask("GET", "/api/auth/me", away.access))
        expect(400, page(cursor, away.access, instance))
        expect(401, instance.ask("GET", "/api/auth/me", stolen.access))
        expect(401, instance.ask("POST", "/api/auth/token/refresh", refresh=stolen.refresh))
    hidden = {*OLD.values(), *NEW.values(), *(s for person in people for s in person.secrets)}
    logs = [server.log.read_text() for server in service.servers]
    assert [secret for secret in hidden if any(secret in log for log in logs)] == []
