"""[W1] `/metrics`: who reads it, and that each metric tells of what happens.

What several processes make of it is in tests/serve/test_metrics.py.
"""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import yaml
from django.conf import settings as django_settings
from django.db import InternalError, OperationalError, connection
from psycopg import errors as psycopg_errors

from accounts import hashers, mail
from accounts.models import User
from tasks import import_views
from tasks.models import Task
from tests.client import SECRETS, ApiClient, Browser, assert_error, data_of
from tests.conftest import PASSWORD
from tests.issuer import Issuer
from tests.processes import PATIENCE_S, PROJECT, free_port, production, wait_until
from tests.racing import meeting
from tests.scraped import METRICS_TOKEN, Samples, moved, samples
from todo_project import VERSION, health, metrics
from todo_project.background import JobQueue
from todo_project.environment import Rate
from todo_project.middleware.gate import TURNS_VARIABLE, Gate
from todo_project.watchdog import watchdog

LIST = "/api/me/tasks"
TOKEN = "/api/auth/token"
RESET = "/api/auth/password/reset"
MONITORING = PROJECT / "docs" / "monitoring"
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()
together = pytest.mark.django_db(transaction=True)
# A pooler keeps the client's connection where its own to PostgreSQL is ended.
needs_own_connection = pytest.mark.skipif(
    django_settings.DATABASES["default"]["PORT"] != django_settings.DATABASES["direct"]["PORT"],
    reason="Connections are a pooler's.",
)


@pytest.fixture
def switched_on(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, as the process that serves begins them; nothing of it outlives the test."""
    settings.METRICS_TOKEN = METRICS_TOKEN
    monkeypatch.setattr(metrics, "_memory", None)
    for metric in metrics.ALL:
        monkeypatch.setattr(metric, "_row", None)
    metrics.begin()
    SECRETS.add(METRICS_TOKEN)


def scrape(client: ApiClient | None = None, **headers: str) -> Any:
    headers.setdefault("authorization", f"Bearer {METRICS_TOKEN}")
    return (client or ApiClient()).get("/metrics", **headers)


def scraped() -> Samples:
    response = scrape()
    assert response.status_code == 200
    return samples(response.content.decode())


# --- Who reads it -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_without_a_token_there_is_nothing(method: str, path: str) -> None:
    """As if there were no such route."""
    response = ApiClient().call(method, path, authorization=f"Bearer {METRICS_TOKEN}")

    assert response.status_code == 404
    if method != "HEAD":
        assert_error(response, 404, "NOT_FOUND")
    other = ApiClient().call(method, "/nope", x_request_id=response["X-Request-ID"])
    assert other.content == response.content


@pytest.mark.parametrize("token", ["", METRICS_TOKEN], ids=["off", "on"])
def test_process_that_serves_counts_with_a_token_alone(token: str) -> None:
    """And loads prometheus_client when somebody asks, at the earliest."""
    program = (
        "import sys; from todo_project import metrics; from todo_project.wsgi import application;"
        "print('prometheus_client' in sys.modules, metrics.REQUESTS._row is not None)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env={
            **production(DATABASE_URL="postgresql://app@127.0.0.1:1/none", METRICS_TOKEN=token),
            "DJANGO_SETTINGS_MODULE": "todo_project.settings",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed.strip() == f"False {bool(token)}"


def test_without_a_token_nothing_is_counted(client: ApiClient) -> None:
    client.get("/livez")
    metrics.REQUESTS.observe_request("GET", "/livez", 200, 0.1)
    metrics.REFUSALS.add("turn")
    metrics.JOBS_WAITING.set(1)
    metrics.TURN_WAITS.observe(1)

    assert metrics._memory is None


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        pytest.param("", "NOT_AUTHENTICATED", id="nothing"),
        pytest.param(f"Basic {METRICS_TOKEN}", "NOT_AUTHENTICATED", id="another scheme"),
        pytest.param(METRICS_TOKEN, "NOT_AUTHENTICATED", id="no scheme"),
        pytest.param("Bearer", "TOKEN_INVALID", id="no token"),
        pytest.param("Bearer ", "TOKEN_INVALID", id="an empty one"),
        pytest.param(f"Bearer {METRICS_TOKEN[:-1]}", "TOKEN_INVALID", id="too short"),
        pytest.param(f"Bearer {METRICS_TOKEN}x", "TOKEN_INVALID", id="too long"),
        pytest.param(f"Bearer {METRICS_TOKEN.upper()}", "TOKEN_INVALID", id="capitals"),
        pytest.param(f"Bearer {METRICS_TOKEN},{METRICS_TOKEN}", "TOKEN_INVALID", id="twice"),
        pytest.param("Bearer \u00fc\u00df", "TOKEN_INVALID", id="no ASCII"),
        pytest.param(f"Bearer {'x' * 10_000}", "TOKEN_INVALID", id="a long one"),
    ],
)
@pytest.mark.usefixtures("switched_on")
def test_wrong_token_is_refused(authorization: str, code: str) -> None:
    response = scrape(authorization=authorization)

    assert_error(response, 401, code)
    assert b"todo_" not in response.content


@pytest.mark.usefixtures("switched_on")
def test_access_token_is_refused(olga_client: ApiClient) -> None:
    """Of an operator, too: the token is the scraper's alone."""
    assert_error(olga_client.get("/metrics"), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
@pytest.mark.usefixtures("switched_on")
def test_token_lets_in(path: str, scheme: str) -> None:
    """Under any Host, in plain HTTP, and without the database: pytest-django would refuse it."""
    response = ApiClient().get(path, authorization=f"{scheme}{METRICS_TOKEN}", host="10.0.0.7:80")

    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response["Cache-Control"] == "private, no-cache"
    assert samples(response.content.decode())


@pytest.mark.usefixtures("switched_on")
def test_plain_http_is_not_redirected(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    assert scrape().status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.usefixtures("switched_on")
def test_other_methods_come_after_the_token(method: str) -> None:
    """[E1]"""
    allowed = ApiClient().call(method, "/metrics", authorization=f"Bearer {METRICS_TOKEN}")

    assert_error(allowed, 405, "METHOD_NOT_ALLOWED")
    assert allowed["Allow"] == "GET, HEAD"
    assert_error(ApiClient().call(method, "/metrics"), 401, "NOT_AUTHENTICATED")


@pytest.mark.usefixtures("switched_on")
def test_head_is_a_get_without_a_body() -> None:
    response = ApiClient().call("HEAD", "/metrics", authorization=f"Bearer {METRICS_TOKEN}")

    assert (response.status_code, response.content) == (200, b"")
    assert int(response["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param("*/*", False, id="anything"),
        pytest.param("text/html", False, id="a browser"),
        pytest.param("text/plain;version=0.0.4", False, id="plain"),
        pytest.param("text/plain;version=x", False, id="no number"),
        pytest.param("application/openmetrics-text;version=x", True, id="OpenMetrics of no number"),
        pytest.param("application/openmetrics-text", True, id="OpenMetrics"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
            "*/*;q=0.2",
            True,
            id="Prometheus 3",
        ),
    ],
)
@pytest.mark.usefixtures("switched_on")
def test_format_is_the_one_asked_for(accept: str, is_openmetrics: bool) -> None:
    response = scrape(accept=accept)

    assert response.status_code == 200
    kind = "application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain"
    assert response["Content-Type"].startswith(kind)
    assert response.content.endswith(b"# EOF\n") is is_openmetrics


@pytest.fixture
def only_turn(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Callable[[Callable[[ApiClient], int]], int]:
    """Takes the only turn that there is, and asks what it is told to meanwhile, in vain at once."""
    settings.TURN_TIME_LIMIT_SECONDS = 0
    monkeypatch.setenv(TURNS_VARIABLE, "1")
    client = ApiClient()

    def ask_meanwhile(ask: Callable[[ApiClient], int]) -> int:
        answers: list[int] = []

        def conditions() -> list[str]:
            with ThreadPoolExecutor(1) as thread:
                answers.append(thread.submit(ask, client).result(PATIENCE_S))
            return ["It is asked meanwhile."]

        monkeypatch.setattr(health, "_applied", True)
        monkeypatch.setattr(health, "unmet_conditions", conditions)
        assert client.get("/readyz").status_code == 503
        return answers[0]

    return ask_meanwhile


@pytest.mark.usefixtures("switched_on")
def test_scrape_needs_no_turn(only_turn: Any, settings: Any) -> None:
    """Nor does it matter how long it waited: an overload is when it is asked for."""
    settings.TRUSTED_PROXIES = 1

    assert only_turn(lambda client: client.get("/nope").status_code) == 503
    assert only_turn(lambda client: scrape(client).status_code) == 200
    assert scrape(x_request_start="t=1700000000").status_code == 200


# --- What it tells ----------------------------------------------------------------------------


@pytest.mark.usefixtures("switched_on")
def test_requests_are_told_by_route_and_status(
    alice: User, alice_client: ApiClient, task: Task
) -> None:
    before = scraped()
    for path in (LIST, f"/api/{alice.pk}/tasks", f"{LIST}?x=1", f"{LIST}/{task.pk}", "/no/such"):
        alice_client.get(path)
    alice_client.call("PURGE", LIST)
    ApiClient().get(LIST)

    after = scraped()

    rows = "/api/<user_id>/tasks"
    counted = {
        ("GET", "200", rows): 2,
        ("GET", "400", rows): 1,
        ("GET", "401", rows): 1,
        ("GET", "200", f"{rows}/<task_id>"): 1,
        ("GET", "404", "none"): 1,
        ("other", "405", rows): 1,
    }
    for (method, status, route), count in counted.items():
        name = f'todo_http_requests_total{{method="{method}",route="{route}",status="{status}"}}'
        assert after[name] - before.get(name, 0) == count, name
    of_faults = f'{{method="GET",route="{rows}",status="4xx"}}'
    assert after[f"todo_http_request_duration_seconds_count{of_faults}"] == 2
    assert after[f"todo_http_request_duration_seconds_sum{of_faults}"] > 0
    everything = f'{{le="+Inf",method="GET",route="{rows}",status="2xx"}}'
    assert after[f"todo_http_request_duration_seconds_bucket{everything}"] == 2


@pytest.mark.usefixtures("switched_on")
def test_labels_tell_of_nobody(alice: User, alice_client: ApiClient, task: Task) -> None:
    """And no client makes new ones: whatever it calls is one of few routes and methods."""
    known = len(scraped())
    for n in range(20):
        alice_client.call(f"METHOD{n}", f"/api/{alice.pk}/tasks/{task.pk}?search=secret{n}")
        alice_client.get(f"/{n}/{task.pk}")

    text = scrape().content.decode()

    assert not re.search(rf"{alice.pk}|{task.pk}|secret|METHOD|example\.com", text)
    of_a_route = len(metrics.DURATION_BUCKETS_SECONDS) + 4
    assert len(samples(text)) - known <= 3 * of_a_route  # /metrics itself is the third


@pytest.mark.usefixtures("switched_on")
def test_build_is_told() -> None:
    (name,) = (name for name in scraped() if name.startswith("todo_build_info"))

    assert f'version="{VERSION}"' in name


@pytest.mark.usefixtures("switched_on")
def test_process_is_told() -> None:
    """The only one, where there is no server."""
    found = scraped()

    assert found["todo_workers"] == found["todo_worker_starts_total"] == 1
    assert found["todo_cpu_seconds_total"] > 0
    assert 10_000_000 < found["todo_memory_bytes"] < 10_000_000_000


# Makes one thing happen.
Cause = Callable[["Stage"], object]


class Stage:
    """Who and what a cause may need."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.fixture = request.getfixturevalue
        self.alice: User = self.fixture("alice")
        self.client: ApiClient = self.fixture("alice_client")
        self.settings: Any = self.fixture("settings")
        self.monkeypatch: pytest.MonkeyPatch = self.fixture("monkeypatch")

    def limit(self, scope: str, tries: int | None) -> None:
        rate = None if tries is None else Rate(tries, 3600)
        self.settings.RATE_LIMITS = {**self.settings.RATE_LIMITS, scope: rate}


@pytest.fixture
def stage(request: pytest.FixtureRequest, quick_mail: None, switched_on: None) -> Stage:
    return Stage(request)


def sign_in(stage: Stage, password: str = PASSWORD) -> int:
    body = {"email": stage.alice.email, "password": password}
    return ApiClient().post(TOKEN, body).status_code


def sign_in_wrongly(stage: Stage) -> None:
    assert sign_in(stage, "something else") == 401


def sign_in_inactive(stage: Stage) -> None:
    User.objects.update(is_active=False)
    assert sign_in(stage) == 401


def sign_in_unverified(stage: Stage) -> None:
    stage.settings.REQUIRE_VERIFIED_EMAIL = True
    assert sign_in(stage) == 401


def sign_in_too_often(stage: Stage) -> None:
    stage.limit("sign-in-address", 1)
    assert [sign_in(stage), sign_in(stage)] == [200, 429]


def guess_too_often(stage: Stage) -> None:
    stage.limit("sign-in-account", 1)
    assert [sign_in(stage, "something else"), sign_in(stage)] == [401, 429]


def sign_in_to_admin(stage: Stage, password: str = PASSWORD) -> None:
    olga: User = stage.fixture("olga")
    Browser().post("/admin/login/", {"username": olga.email, "password": password})


def sign_in_to_admin_too_often(stage: Stage) -> None:
    stage.limit("sign-in-address", 1)
    sign_in_to_admin(stage)
    sign_in_to_admin(stage)


def send_nothing_to_admin(stage: Stage) -> None:
    Browser().post("/admin/login/", {"username": "", "password": ""})


def write_too_often(stage: Stage) -> None:
    stage.limit("writes", 1)
    statuses = [stage.client.post(LIST, {"title": "x"}).status_code for _ in range(2)]
    assert statuses == [201, 429]


def ask_for_a_mail(stage: Stage, network: int = 1) -> None:
    stage.settings.PASSWORD_RESET_URL = "https://app.example.com/{token}"
    client = ApiClient()
    client.defaults["REMOTE_ADDR"] = f"203.0.{network}.1"
    assert client.post(RESET, {"email": stage.alice.email}).status_code == 202
    assert mail.queue.wait(PATIENCE_S)


def ask_for_too_many_mails(stage: Stage) -> None:
    """Of one account, from two networks: the route lets both through."""
    stage.limit("reset", 1)
    ask_for_a_mail(stage, network=1)
    ask_for_a_mail(stage, network=2)


def wait_in_the_proxy(stage: Stage) -> None:
    stage.settings.TRUSTED_PROXIES = 1
    assert stage.client.get(LIST, x_request_start="t=1700000000").status_code == 503


def find_no_turn(stage: Stage) -> None:
    only_turn = stage.fixture("only_turn")
    assert only_turn(lambda client: client.get("/nope").status_code) == 503


def find_no_place_to_hash(stage: Stage) -> None:
    stage.monkeypatch.setattr(hashers, "_places", threading.Semaphore(0))
    assert sign_in(stage) == 503


def find_no_place_to_import(stage: Stage) -> None:
    stage.monkeypatch.setattr(import_views, "_places", threading.Semaphore(0))
    path = "/api/me/import?format=todoist"
    answer = stage.client.post(path, b"TYPE,CONTENT\n", content_type="text/csv")
    assert answer.status_code == 503


def find_no_place_to_export(stage: Stage) -> None:
    stage.settings.EXPORTS_AT_ONCE = 0
    assert stage.client.get("/api/auth/me/export").status_code == 503


def need_keys_of_an_issuer_that_fails(stage: Stage) -> None:
    issuer: Issuer = stage.fixture("issuer")
    issuer.mode = "status"
    assert ApiClient(issuer.token("somebody")).get(LIST).status_code == 503


def connect(stage: Stage) -> None:
    other = connection.copy()
    other.ensure_connection()
    other.close()


def connect_in_vain(stage: Stage) -> None:
    other = connection.copy()
    other.settings_dict = {**other.settings_dict, "HOST": "127.0.0.1", "PORT": str(free_port())}
    with pytest.raises(OperationalError):
        other.ensure_connection()


def connect_to_no_host(stage: Stage) -> None:
    other = connection.copy()
    other.settings_dict = {**other.settings_dict, "HOST": "no-such-host.invalid"}
    with pytest.raises(OperationalError):
        other.ensure_connection()


def end_backend() -> None:
    """Of the connection that requests use here."""
    connection.ensure_connection()
    with closing(connection.copy()) as other, other.cursor() as cursor:
        ended = connection.connection.info.backend_pid
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [ended])


def lose_an_idle_connection(stage: Stage) -> None:
    end_backend()
    connection.close_if_unusable_or_obsolete()
    assert stage.client.get(LIST).status_code == 200


def read_by_a_connection_that_broke(stage: Stage) -> None:
    end_backend()
    assert stage.client.get(LIST).status_code == 200


def write_by_a_connection_that_broke(stage: Stage) -> None:
    end_backend()
    assert stage.client.post(LIST, {"title": "x"}).status_code == 503
    connection.close()


def ask_a_database_that_hangs(stage: Stage) -> None:
    stage.settings.REQUEST_TIME_LIMIT_SECONDS = 0.1

    def ask() -> None:
        try:
            with watchdog, connection.cursor() as cursor:
                # PostgreSQL notices that nobody listens any more, and ends.
                cursor.execute("SET client_connection_check_interval = '100ms'")
                with pytest.raises(OperationalError):
                    cursor.execute("SELECT pg_sleep(60)")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(ask).result(PATIENCE_S)


def write_beside_a_twin(stage: Stage) -> None:
    stage.limit("writes", None)
    send = partial(ApiClient(stage.client.access).post, LIST, {"title": "x"}, idempotency_key="k")
    assert {answer.status_code for answer in meeting([stage.alice], send, send)} == {201}


def write_with_a_key_again(stage: Stage) -> None:
    for _ in range(2):
        response = stage.client.post(LIST, {"title": "x"}, idempotency_key="k")
        assert response.status_code == 201


def send_a_batch_with_a_key_again(stage: Stage) -> None:
    body = {"operations": [{"op": "create", "data": {"title": "x"}}]}
    for _ in range(2):
        assert stage.client.post("/api/me/batch", body, idempotency_key="k").status_code == 200


def move_where_there_is_no_room(stage: Stage) -> None:
    ids = [data_of(stage.client.post(LIST, {"title": "x"}), 201)["id"] for _ in range(3)]
    Task.objects.update(position="")
    response = stage.client.post(f"{LIST}/{ids[2]}/move", {"before": ids[1]})
    assert response.status_code == 200


def send_a_batch_that_breaks_a_rule(stage: Stage) -> None:
    data = {"title": "x", "list_id": "0198f000-0000-7000-8000-000000000000"}
    body = {"operations": [{"op": "create", "data": data}]}
    assert stage.client.post("/api/me/batch", body).status_code == 409


def do_a_job_that_fails(stage: Stage, error: Exception, **options: Any) -> None:
    stage.monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def fail() -> None:
        raise error

    queue = JobQueue("mail", **options)
    queue.put(fail)
    assert queue.wait(PATIENCE_S)


CAUSES = [
    pytest.param(sign_in, {'sign_ins_total{outcome="ok"}': 1}, id="sign-in"),
    pytest.param(sign_in_wrongly, {'sign_ins_total{outcome="wrong"}': 1}, id="wrong password"),
    pytest.param(sign_in_inactive, {'sign_ins_total{outcome="wrong"}': 1}, id="inactive account"),
    pytest.param(
        sign_in_unverified, {'sign_ins_total{outcome="unverified"}': 1}, id="unverified address"
    ),
    pytest.param(
        sign_in_too_often,
        {
            'sign_ins_total{outcome="ok"}': 1,
            'sign_ins_total{outcome="limited"}': 1,
            'limits_hit_total{limit="sign-in-address"}': 1,
        },
        id="too many sign-ins",
    ),
    pytest.param(
        guess_too_often,
        {
            'sign_ins_total{outcome="wrong"}': 1,
            'sign_ins_total{outcome="limited"}': 1,
            'limits_hit_total{limit="sign-in-account"}': 1,
        },
        id="too many guesses",
    ),
    pytest.param(sign_in_to_admin, {'sign_ins_total{outcome="ok"}': 1}, id="admin's sign-in"),
    pytest.param(
        partial(sign_in_to_admin, password="something else"),
        {'sign_ins_total{outcome="wrong"}': 1},
        id="wrong password in admin",
    ),
    pytest.param(
        sign_in_to_admin_too_often,
        {
            'sign_ins_total{outcome="ok"}': 1,
            'sign_ins_total{outcome="limited"}': 1,
            'limits_hit_total{limit="sign-in-address"}': 1,
        },
        id="too many sign-ins to admin",
    ),
    pytest.param(send_nothing_to_admin, {}, id="empty form in admin"),
    pytest.param(write_too_often, {'limits_hit_total{limit="writes"}': 1}, id="too many writes"),
    pytest.param(
        ask_for_a_mail,
        {
            'jobs_total{outcome="done"}': 2,
            "mails_sent_total": 1,
            'database_connections_total{outcome="made"}': 1,  # to look the address up
        },
        id="mail",
        marks=together,
    ),
    pytest.param(
        ask_for_too_many_mails,
        {
            'jobs_total{outcome="done"}': 3,
            "mails_sent_total": 1,
            'limits_hit_total{limit="reset"}': 1,
            'database_connections_total{outcome="made"}': 2,
        },
        id="too many mails",
        marks=together,
    ),
    pytest.param(
        partial(do_a_job_that_fails, error=OSError()),
        {'jobs_total{outcome="retried"}': 2, 'jobs_total{outcome="given_up"}': 1},
        id="mail server away",
    ),
    pytest.param(
        partial(do_a_job_that_fails, error=OSError(), is_permanent=lambda error: True),
        {'jobs_total{outcome="given_up"}': 1},
        id="mail server refuses",
    ),
    pytest.param(
        partial(do_a_job_that_fails, error=ValueError()),
        {'jobs_total{outcome="given_up"}': 1},
        id="no address",
    ),
    pytest.param(
        partial(do_a_job_that_fails, error=RuntimeError()),
        {'jobs_total{outcome="defect"}': 1},
        id="defect of a job",
    ),
    pytest.param(
        partial(do_a_job_that_fails, error=OSError(), length=0),
        {'jobs_total{outcome="dropped"}': 1},
        id="full queue",
    ),
    pytest.param(wait_in_the_proxy, {'refusals_total{cause="queue"}': 1}, id="proxy's queue"),
    pytest.param(find_no_turn, {'refusals_total{cause="turn"}': 1}, id="no turn"),
    pytest.param(find_no_place_to_hash, {'refusals_total{cause="hashing"}': 1}, id="no place"),
    pytest.param(find_no_place_to_import, {'refusals_total{cause="import"}': 1}, id="no import"),
    pytest.param(find_no_place_to_export, {'refusals_total{cause="export"}': 1}, id="no export"),
    pytest.param(
        need_keys_of_an_issuer_that_fails, {'refusals_total{cause="issuer"}': 1}, id="no keys"
    ),
    pytest.param(
        connect, {'database_connections_total{outcome="made"}': 1}, id="connection", marks=together
    ),
    *(
        pytest.param(
            cause,
            {'database_connections_total{outcome="failed"}': 1},
            id=f"no connection, {what}",
            marks=together,
        )
        for what, cause in (("port", connect_in_vain), ("host", connect_to_no_host))
    ),
    pytest.param(
        lose_an_idle_connection,
        {
            "database_connections_lost_total": 1,
            'database_connections_total{outcome="made"}': 2,  # one that ends the other
        },
        id="idle connection lost",
        marks=[together, needs_own_connection],
    ),
    pytest.param(
        read_by_a_connection_that_broke,
        {
            'database_faults_total{kind="connection"}': 1,
            'database_connections_total{outcome="made"}': 2,
            'retries_total{what="read"}': 1,
        },
        id="read tried again",
        marks=[together, needs_own_connection],
    ),
    pytest.param(
        write_by_a_connection_that_broke,
        {
            'database_faults_total{kind="connection"}': 1,
            'database_connections_total{outcome="made"}': 1,
        },
        id="write not tried again",
        marks=[together, needs_own_connection],
    ),
    pytest.param(
        ask_a_database_that_hangs,
        {"watchdog_cuts_total": 1, 'database_connections_total{outcome="made"}': 1},
        id="watchdog",
        marks=together,
    ),
    pytest.param(
        write_beside_a_twin,
        {
            'retries_total{what="key"}': 1,
            "replays_total": 1,
            'database_connections_total{outcome="made"}': 3,  # the twins' and who holds them up
        },
        id="twin",
        marks=together,
    ),
    pytest.param(write_with_a_key_again, {"replays_total": 1}, id="replay"),
    pytest.param(send_a_batch_with_a_key_again, {"replays_total": 1}, id="replay of a batch"),
    pytest.param(
        move_where_there_is_no_room,
        {'retries_total{what="remedy"}': 1},
        id="remedy",
        marks=together,
    ),
    pytest.param(
        send_a_batch_that_breaks_a_rule,
        {'retries_total{what="batch"}': 1},
        id="batch one by one",
        marks=together,
    ),
]


@pytest.mark.parametrize(("cause", "expected"), CAUSES)
def test_what_happens_moves_its_metric(
    cause: Cause, expected: Mapping[str, float], stage: Stage
) -> None:
    """And no other."""
    before = scraped()

    cause(stage)

    named = {f"todo_{name}": difference for name, difference in expected.items()}
    assert moved(before, scraped()) == named


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        pytest.param(None, "connection", id="no answer"),
        pytest.param(psycopg_errors.AdminShutdown(), "connection", id="restart"),
        pytest.param(psycopg_errors.ConnectionFailure(), "connection", id="broken"),
        pytest.param(psycopg_errors.QueryCanceled(), "timeout", id="statement"),
        pytest.param(psycopg_errors.LockNotAvailable(), "timeout", id="lock"),
        pytest.param(psycopg_errors.IdleInTransactionSessionTimeout(), "timeout", id="idle"),
        pytest.param(psycopg_errors.TooManyConnections(), "room", id="connections"),
        pytest.param(psycopg_errors.DiskFull(), "room", id="disk"),
        pytest.param(psycopg_errors.OutOfMemory(), "room", id="memory"),
        pytest.param(psycopg_errors.ReadOnlySqlTransaction(), "other", id="read-only"),
        pytest.param(psycopg_errors.DeadlockDetected(), "other", id="deadlock"),
    ],
)
@pytest.mark.usefixtures("switched_on")
def test_database_fault_has_a_kind(
    cause: Exception | None, kind: str, alice_client: ApiClient
) -> None:
    is_internal = isinstance(cause, psycopg_errors.InternalError)
    fault = (InternalError if is_internal else OperationalError)("x")
    fault.__cause__ = cause
    before = scraped()

    def fail(*args: Any) -> Any:
        raise fault

    with connection.execute_wrapper(fail):
        assert_error(alice_client.post(LIST, {"title": "x"}), 503, "SERVICE_UNAVAILABLE")

    assert moved(before, scraped()) == {f'todo_database_faults_total{{kind="{kind}"}}': 1}


@pytest.mark.usefixtures("switched_on")
def test_turn_that_was_waited_for_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TURNS_VARIABLE, "1")
    gate = Gate()

    def has_waited() -> bool:
        assert gate.enter()
        with ThreadPoolExecutor(1) as thread:
            other = thread.submit(gate.enter)
            time.sleep(0.01)
            gate.leave(has_ended_well=True)
            assert other.result(PATIENCE_S)
        gate.leave(has_ended_well=True)
        return scraped()["todo_turn_wait_seconds_count"] > 0

    assert scraped()["todo_turn_wait_seconds_count"] == 0
    wait_until(has_waited)

    assert scraped()["todo_turn_wait_seconds_sum"] > 0


@together
@pytest.mark.usefixtures("switched_on")
def test_waiting_jobs_are_told() -> None:
    gate = threading.Event()
    queue = JobQueue("mail")

    def hang() -> None:
        gate.wait(PATIENCE_S)

    for _ in range(3):
        queue.put(hang)

    waiting = scraped()["todo_jobs_waiting"]
    gate.set()
    assert queue.wait(PATIENCE_S)

    assert (waiting, scraped()["todo_jobs_waiting"]) == (3, 0)


@pytest.mark.usefixtures("switched_on")
def test_limits_are_all_there() -> None:
    """From the beginning, or Prometheus would miss the first rise."""
    found = scraped()

    for limit in django_settings.RATE_LIMITS:
        assert found[f'todo_limits_hit_total{{limit="{limit}"}}'] == 0


# --- What is made of it -----------------------------------------------------------------------

NAME = re.compile(r"\btodo_[a-z_]+\b")


def exposed() -> set[str]:
    """Every metric, by the names that expressions have."""
    return {name.partition("{")[0] for name in scraped()}


def alerts() -> list[Any]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    rules: list[Any] = group["rules"]
    return rules


def expressions_of_the_dashboard() -> str:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return "\n".join(target["expr"] for target in targets)


@pytest.mark.usefixtures("switched_on")
def test_dashboard_and_alerts_ask_for_what_there_is(client: ApiClient) -> None:
    """And of what there is the dashboard shows everything."""
    client.get("/livez")
    names = exposed()
    shown = set(NAME.findall(expressions_of_the_dashboard()))
    of_alerts = set(NAME.findall("\n".join(rule["expr"] for rule in alerts())))

    assert shown - names == set()
    assert of_alerts - names == set()
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in names}
    assert families - {re.sub("_(bucket|count|sum)$", "", name) for name in shown} == set()


@pytest.mark.usefixtures("switched_on")
def test_values_of_labels_that_are_asked_for_exist(client: ApiClient, alice_client: Any) -> None:
    """Of the labels whose values are known from the beginning."""
    text = "\n".join([expressions_of_the_dashboard(), *(rule["expr"] for rule in alerts())])
    known = set(re.findall(r'(\w+)="(\w+)"', "\n".join(scraped())))

    asked = re.findall(r'(cause|kind|outcome|what|limit)[!=]~?"([^"$]+)"', text)

    assert asked
    for label, values in asked:
        for value in values.split("|"):
            assert (label, value) in known


@pytest.mark.usefixtures("switched_on")
def test_document_has_every_metric(client: ApiClient) -> None:
    """Both ways."""
    client.get("/livez")
    section = OPERATIONS.partition("### Metrics\n")[2].partition("\n### ")[0]
    rows = "\n".join(re.findall(r"^\| (`todo_.*?) \|", section, re.MULTILINE))

    families = {re.sub("_(bucket|count|sum)$", "", name) for name in exposed()}

    assert set(NAME.findall(rows)) == families


def test_document_says_what_to_do_for_each_alert() -> None:
    """Both ways."""
    names = [rule["alert"] for rule in alerts()]
    section = OPERATIONS.partition("### Alerts\n")[2].partition("\n### ")[0]

    assert len(names) == 5
    assert re.findall(r"^#### (\w+)$", section, re.MULTILINE) == names


def test_each_alert_is_shown_to_fire() -> None:
    """By `promtool test rules`, which is no tool of this project."""
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    fired = [
        shown["alertname"]
        for test in tests
        for shown in test["alert_rule_test"]
        if shown["exp_alerts"]
    ]

    assert fired == [rule["alert"] for rule in alerts()]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alert_is_whole(rule: Any) -> None:
    """As Prometheus wants it: https://prometheus.io/docs/prometheus/latest/configuration/."""
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"].keys() == {"severity"}
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert rule["expr"].count("(") == rule["expr"].count(")")


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
