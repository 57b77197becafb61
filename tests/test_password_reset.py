"""A forgotten password: the mail, its link, and what nobody learns from it."""

import threading
from functools import partial
from typing import Any

import pytest
from django.core import mail as outbox
from django.db import connection

from accounts import letters, mail
from accounts.mailed_tokens import make_reset_token
from accounts.models import User
from tests.calls import count_calls
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from tests.mails import sent, token_of
from tests.processes import PATIENCE_S
from tests.smtp import MailServer, mail_server
from todo_project import background
from todo_project.background import JobQueue
from todo_project.environment import Rate

RESET = "/api/auth/password/reset"
CONFIRM = "/api/auth/password/reset/confirm"
NEW_PASSWORD = "staple battery horse correct"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quick_mail")]


@pytest.fixture(autouse=True)
def unlimited(settings: Any) -> None:
    settings.RATE_LIMITS = dict.fromkeys(settings.RATE_LIMITS)


def _use(server: MailServer, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@Example.com"])
def test_mail_leads_to_a_new_password(email: str, alice: User, client: ApiClient) -> None:
    """[S3] Ends every session."""
    elsewhere = begin_session(alice)

    assert client.post(RESET, {"email": email}).status_code == 202
    (message,) = sent()
    response = client.post(CONFIRM, {"token": token_of(message), "new_password": NEW_PASSWORD})

    assert message.to == ["alice@example.com"]
    assert (response.status_code, response.content) == (204, b"")
    assert_error(ApiClient(elsewhere.access).get("/api/auth/me"), 401, "TOKEN_INVALID")
    old = {"email": alice.email, "password": PASSWORD}
    assert_error(client.post("/api/auth/token", old), 401, "INVALID_CREDENTIALS")
    assert data_of(client.post("/api/auth/token", {**old, "password": NEW_PASSWORD}))


def test_link_never_comes_from_the_host(alice: User, client: ApiClient, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.PASSWORD_RESET_URL = "https://app.example.com/reset?token={token}&x=1"

    client.post(RESET, {"email": alice.email}, host="evil.example", x_forwarded_host="evil.example")

    (message,) = sent()
    assert "https://app.example.com/reset?token=" in message.body
    assert "evil" not in message.body


@pytest.mark.parametrize(
    "email",
    ["nobody@example.com", "inactive@example.com", "barred@example.com", "no address"],
)
def test_unknown_addresses_get_the_same_answer_and_no_mail(
    email: str, alice: User, make_user: Any, client: ApiClient
) -> None:
    make_user("inactive@example.com", is_active=False)
    barred = make_user("barred@example.com")
    barred.set_unusable_password()
    barred.save()
    known = client.post(RESET, {"email": alice.email}, x_request_id="same")

    unknown = client.post(RESET, {"email": email}, x_request_id="same")

    assert unknown.content == known.content
    assert dict(unknown.headers) == dict(known.headers)
    assert [message.to for message in sent()] == [[alice.email]]


def test_the_same_is_done_for_unknown_addresses(
    alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many calls, of Python's functions and of C's, but for one in two hundred.

    Not the time that they take, which says more of the machine. The mails leave later.
    """
    monkeypatch.setattr(background, "PAUSES_SECONDS", (0.02,))
    calls: dict[str, list[int]] = {alice.email: [], "other@example.com": []}
    for _ in range(5):
        for email, counts in calls.items():
            counts.append(count_calls(partial(client.post, RESET, {"email": email})))

    # The least: the garbage collector and the first of all requests call more. The queue calls a
    # few more where its thread waits.
    known, unknown = map(min, calls.values())
    assert abs(known - unknown) < 0.005 * known
    assert mail.queue.wait(PATIENCE_S)


def test_request_asks_the_database_nothing(
    alice: User, client: ApiClient, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        client.post(RESET, {"email": alice.email})


def _bad_tokens(alice: User, bob: User, settings: Any) -> dict[str, str]:
    good = make_reset_token(alice)
    return {
        "used": good,
        "tampered": good[:-1] + ("a" if good[-1] != "a" else "b"),
        "another person's": f"{make_reset_token(bob).partition('.')[0]}.{good.partition('.')[2]}",
        "no id": f".{good.partition('.')[2]}",
        "no signature": good.partition(".")[0],
        "nonsense": "nonsense",
        "dots": "...",
        "not ASCII": "é.é",
    }


@pytest.mark.parametrize(
    "case",
    [
        "used",
        "tampered",
        "another person's",
        "no id",
        "no signature",
        "nonsense",
        "dots",
        "not ASCII",
    ],
)
def test_bad_tokens_are_refused(
    case: str, alice: User, bob: User, client: ApiClient, settings: Any
) -> None:
    token = _bad_tokens(alice, bob, settings)[case]
    if case == "used":
        client.post(CONFIRM, {"token": token, "new_password": NEW_PASSWORD})
    before = list(User.objects.order_by("id").values_list("password", flat=True))

    response = client.post(CONFIRM, {"token": token, "new_password": "yet another password"})

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details.keys() == {"token"}
    assert list(User.objects.order_by("id").values_list("password", flat=True)) == before


def test_token_expires(alice: User, client: ApiClient, settings: Any) -> None:
    token = make_reset_token(alice)
    settings.PASSWORD_RESET_TIMEOUT = -1

    response = client.post(CONFIRM, {"token": token, "new_password": NEW_PASSWORD})

    assert_error(response, 400, "VALIDATION_ERROR")


def test_token_dies_with_the_password(alice: User, client: ApiClient) -> None:
    token = make_reset_token(alice)
    alice.set_password("changed meanwhile")
    alice.save()

    response = client.post(CONFIRM, {"token": token, "new_password": NEW_PASSWORD})

    assert_error(response, 400, "VALIDATION_ERROR")


def test_token_of_an_inactive_account_is_refused(alice: User, client: ApiClient) -> None:
    token = make_reset_token(alice)
    alice.is_active = False
    alice.save()

    response = client.post(CONFIRM, {"token": token, "new_password": NEW_PASSWORD})

    assert_error(response, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("password", "code"),
    [("qwertyuiop", "password_too_common"), ("alice@example.com", "password_too_similar")],
)
def test_bad_password_leaves_the_token_good(
    password: str, code: str, alice: User, client: ApiClient
) -> None:
    token = make_reset_token(alice)

    details = assert_error(
        client.post(CONFIRM, {"token": token, "new_password": password}), 400, "VALIDATION_ERROR"
    )

    assert details["new_password"][0]["code"] == code
    good = client.post(CONFIRM, {"token": token, "new_password": NEW_PASSWORD})
    assert good.status_code == 204


@pytest.mark.usefixtures("roomy_hashing")
def test_token_is_good_for_one_of_simultaneous_uses(alice: User) -> None:
    token = make_reset_token(alice)
    barrier = threading.Barrier(6)
    statuses: list[int] = []

    def confirm(number: int) -> None:
        barrier.wait(PATIENCE_S)
        body = {"token": token, "new_password": f"{NEW_PASSWORD} {number}"}
        statuses.append(ApiClient().post(CONFIRM, body).status_code)
        connection.close()

    threads = [threading.Thread(target=confirm, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert sorted(statuses) == [204, 400, 400, 400, 400, 400]


def test_mail_is_tried_again(
    alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    tries: list[int] = []
    send = outbox.send_mail

    def flaky(*args: Any, **kwargs: Any) -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionRefusedError("alice@example.com")
        return send(*args, **kwargs)

    monkeypatch.setattr(mail, "send_mail", flaky)

    client.post(RESET, {"email": alice.email})

    assert len(sent()) == 1
    assert len(tries) == 3
    assert "alice" not in caplog.text


def test_mail_that_nobody_can_have_holds_up_no_other(
    alice: User, make_user: Any, client: ApiClient, caplog: Any
) -> None:
    make_user(f"a@{'ü' * 60}.com")  # as it could be registered before its domain was checked
    client.post(RESET, {"email": f"a@{'ü' * 60}.com"})

    client.post(RESET, {"email": alice.email})

    assert [message.to for message in sent()] == [[alice.email]]


def test_mail_server_that_is_away_holds_nobody_up(
    alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> int:
        raise ConnectionRefusedError

    monkeypatch.setattr(mail, "send_mail", refuse)

    assert client.post(RESET, {"email": alice.email}).status_code == 202

    assert sent() == []
    assert "given up" in caplog.text


def test_no_mail_leaves_without_a_link(
    alice: User, client: ApiClient, settings: Any, caplog: Any
) -> None:
    settings.PASSWORD_RESET_URL = ""

    assert client.post(RESET, {"email": alice.email}).status_code == 202

    assert sent() == []
    assert "PASSWORD_RESET_URL" in caplog.text


def test_mailbox_is_not_filled_from_many_networks(
    alice: User, bob: User, client: ApiClient, settings: Any
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "reset": Rate(2, 3600)}
    settings.TRUSTED_PROXIES = 1

    answers = [
        client.post(RESET, {"email": email}, x_request_id="same", x_forwarded_for=f"192.0.2.{n}")
        for n, email in enumerate([*[alice.email] * 4, bob.email])
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {
        (202, answers[0].content)
    }
    assert [message.to[0] for message in sent()] == [alice.email, alice.email, bob.email]


def test_tries_of_one_mail_count_once(
    alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "reset": Rate(1, 3600)}
    tries = iter([ConnectionRefusedError, ConnectionRefusedError])
    send = outbox.send_mail

    def flaky(*args: Any, **kwargs: Any) -> int:
        for error in tries:
            raise error
        return send(*args, **kwargs)

    monkeypatch.setattr(mail, "send_mail", flaky)

    client.post(RESET, {"email": alice.email})

    assert [message.to for message in sent()] == [[alice.email]]


@pytest.mark.parametrize(
    ("answer", "tries"), [("550 no such mailbox", 1), ("451 come again", 3)], ids=["550", "451"]
)
def test_mailbox_that_refuses_holds_up_no_other(
    answer: str,
    tries: int,
    alice: User,
    bob: User,
    client: ApiClient,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    monkeypatch.setattr(background, "PAUSES_SECONDS", (0.0, 4.0, 0.0))
    both_wait = threading.Event()
    asked: list[str] = []

    def answer_recipient(address: str) -> str:
        asked.append(address)
        return answer if address == alice.email else "250 fine"

    def hold() -> None:
        both_wait.wait(PATIENCE_S)

    with mail_server(answer_recipient) as server:
        _use(server, settings)
        mail.queue.put(hold)
        client.post(RESET, {"email": alice.email})
        client.post(RESET, {"email": bob.email})
        both_wait.set()
        assert mail.queue.wait(PATIENCE_S)
        assert server.recipients() == [bob.email]

    assert asked == [alice.email, bob.email, *[alice.email] * (tries - 1)]
    assert "given up" in caplog.text
    assert "alice" not in caplog.text


def test_mail_keeps_its_place_in_a_full_queue(
    alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "queue", JobQueue("mail", length=1))

    client.post(RESET, {"email": alice.email})

    assert [message.to for message in sent()] == [[alice.email]]


def test_queue_that_ends_sends_what_waits(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(background, "PAUSES_SECONDS", (3600.0, 3600.0))
    sent: list[int] = []
    queue = JobQueue("mail")
    for number in range(3):
        queue.put(partial(sent.append, number))

    queue.end(PATIENCE_S)

    assert sent == [0, 1, 2]
    assert caplog.text == ""


def test_queue_that_ends_tells_what_is_lost(caplog: Any) -> None:
    gate = threading.Event()
    queue = JobQueue("mail")

    def hang() -> None:
        gate.wait(PATIENCE_S)

    for _ in range(3):
        queue.put(hang)

    queue.end(0.1)
    gate.set()

    assert "mail lost: the process ends with 3 unfinished" in caplog.text


def test_full_queue_drops_and_says_so(
    alice: User, client: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(mail, "queue", small := JobQueue("mail", length=2))
    monkeypatch.setattr(
        letters, "_prepare_password_reset", lambda email: gate.wait(PATIENCE_S) and None
    )

    statuses = [client.post(RESET, {"email": alice.email}).status_code for _ in range(6)]
    gate.set()

    assert statuses == [202] * 6
    assert "dropped" in caplog.text
    assert small.wait(PATIENCE_S)
