"""Lines that people see, titles and names: one table of texts, for every place that has one."""

import json
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection

from accounts.models import User
from tasks.models import Task
from tests.client import ApiClient, Browser, assert_error, data_of
from tests.conftest import PASSWORD
from todo_project import text as rules
from todo_project.api.serializers import LineField
from todo_project.text import header_text, is_visible

ABSENT = "0198f000-0000-7000-8000-000000000000"
BLANK, CONTROL = "blank", "control_characters"

# Around them the places trim white space; these have none, and are refused as they stand.
REFUSED = [
    pytest.param("\u200b", BLANK, id="zero width space"),
    pytest.param("\u200c\u200d", BLANK, id="joiners alone"),
    pytest.param("\u202e", BLANK, id="right-to-left override"),
    pytest.param("\u2066\u2069", BLANK, id="isolates"),
    pytest.param("\u2060", BLANK, id="word joiner"),
    pytest.param("\ufeff", BLANK, id="byte order mark"),
    pytest.param("\u00ad", BLANK, id="soft hyphen"),
    pytest.param("\u034f", BLANK, id="combining grapheme joiner"),
    pytest.param("\u061c", BLANK, id="Arabic letter mark"),
    pytest.param("\u115f", BLANK, id="Hangul choseong filler"),
    pytest.param("\u1160", BLANK, id="Hangul jungseong filler"),
    pytest.param("\u3164", BLANK, id="Hangul filler"),
    pytest.param("\uffa0", BLANK, id="halfwidth Hangul filler"),
    pytest.param("\u17b4\u17b5", BLANK, id="Khmer inherent vowels"),
    pytest.param("\u180b\u180e", BLANK, id="Mongolian separators"),
    pytest.param("\u2800", BLANK, id="Braille blank"),
    pytest.param("\ufe0f", BLANK, id="variation selector"),
    pytest.param("\U000e0100", BLANK, id="variation selector supplement"),
    pytest.param("\U000e0001\U000e0041\U000e007f", BLANK, id="tags"),
    pytest.param("\U000e0fff", BLANK, id="last ignorable"),
    pytest.param("\U0001d173", BLANK, id="musical control"),
    pytest.param("\U0001bca0", BLANK, id="shorthand control"),
    pytest.param("\ue000\U000f0000", BLANK, id="private use"),
    pytest.param("\uffff\ufdd0\U0010ffff", BLANK, id="non-characters"),
    pytest.param("\u0378", BLANK, id="unassigned"),
    pytest.param("\u200b \u200b", BLANK, id="white space between invisible"),
    pytest.param("\u200b\u00a0\u3000\u200b", BLANK, id="odd white space between invisible"),
    pytest.param("Buy\nmilk", CONTROL, id="line feed"),
    pytest.param("Buy\r\nmilk", CONTROL, id="CR LF"),
    pytest.param("Buy\tmilk", CONTROL, id="tab"),
    pytest.param("Buy\x0bmilk", CONTROL, id="vertical tab"),
    pytest.param("Buy\x1b[31mmilk", CONTROL, id="escape"),
    pytest.param("Buy\x7fmilk", CONTROL, id="delete"),
    pytest.param("Buy\x85milk", CONTROL, id="next line"),
    pytest.param("Buy\x9bmilk", CONTROL, id="C1"),
    pytest.param("Buy\u2028milk", CONTROL, id="line separator"),
    pytest.param("Buy\u2029milk", CONTROL, id="paragraph separator"),
]

ACCEPTED = [
    pytest.param("Buy milk", id="ASCII"),
    pytest.param(".", id="dot"),
    pytest.param("Café", id="accent"),
    pytest.param("Cafe\u0301", id="combining accent"),
    pytest.param("牛乳を買う", id="Japanese"),
    pytest.param("葛\U000e0100", id="ideograph with selector"),
    pytest.param("خرید\u200cشیر", id="Persian with a non-joiner"),
    pytest.param("क\u094d\u200dष", id="Devanagari with a joiner"),
    pytest.param("👨\u200d👩\u200d👧", id="family"),
    pytest.param("❤\ufe0f", id="emoji with selector"),
    pytest.param("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", id="flag"),
    pytest.param("한글", id="Hangul"),
    pytest.param("a\u00a0b\u3000c", id="odd white space inside"),
    pytest.param("\u2801", id="Braille"),
    pytest.param("\u200bx", id="visible beside invisible"),
    pytest.param("\ufffd", id="replacement character"),
]


def create_task(text: str, client: ApiClient, **_: Any) -> Any:
    return client.post("/api/me/tasks", {"title": text})


def rename_task(text: str, client: ApiClient, task: Task) -> Any:
    return client.patch(f"/api/me/tasks/{task.pk}", {"title": text})


def replace_task(text: str, client: ApiClient, task: Task) -> Any:
    return client.put(f"/api/me/tasks/{task.pk}", {"title": text})


def register(text: str, client: ApiClient, **_: Any) -> Any:
    body = {"email": "ada@example.com", "password": PASSWORD, "name": text}
    return client.post("/api/auth/register", body)


def rename_oneself(text: str, client: ApiClient, **_: Any) -> Any:
    return client.patch("/api/auth/me", {"name": text})


API = [
    pytest.param(create_task, "title", id="task created"),
    pytest.param(rename_task, "title", id="task changed"),
    pytest.param(replace_task, "title", id="task replaced"),
    pytest.param(register, "name", id="person registered"),
    pytest.param(rename_oneself, "name", id="person changed"),
]


CHOSEN = {"priority": 0, "repeat_from": 0}


def add_task(text: str, alice: User, **_: Any) -> tuple[str, dict[str, Any]]:
    return "tasks/task/add/", {"user": alice.pk, "title": text, **CHOSEN}


def change_task(text: str, task: Task, **_: Any) -> tuple[str, dict[str, Any]]:
    return f"tasks/task/{task.pk}/change/", {"title": text, **CHOSEN}


def add_user(text: str, **_: Any) -> tuple[str, dict[str, Any]]:
    password = {"password1": PASSWORD, "password2": PASSWORD}
    return "accounts/user/add/", {"email": "ada@example.com", "name": text, **password}


def change_user(text: str, alice: User, **_: Any) -> tuple[str, dict[str, Any]]:
    return f"accounts/user/{alice.pk}/change/", {"email": alice.email, "name": text}


ADMIN = [
    pytest.param(add_task, "title", id="task added"),
    pytest.param(change_task, "title", id="task changed"),
    pytest.param(add_user, "name", id="person added"),
    pytest.param(change_user, "name", id="person changed"),
]
MODELS = [
    pytest.param(lambda text, alice: Task(user=alice, title=text), "title", id="task"),
    pytest.param(
        lambda text, alice: User(email="ada@example.com", password="x", name=text),
        "name",
        id="person",
    ),
]


@pytest.mark.parametrize(("send", "field"), API)
@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_api_refuses(
    send: Callable[..., Any],
    field: str,
    text: str,
    code: str,
    alice_client: ApiClient,
    task: Task,
) -> None:
    """[T5]"""
    response = send(text, client=alice_client, task=task)

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert [fault["code"] for fault in details[field]] == [code]
    assert not Task.objects.filter(title=text).exists()
    assert not User.objects.filter(name=text).exists()


@pytest.mark.parametrize(("send", "field"), API)
@pytest.mark.parametrize("text", ACCEPTED)
def test_api_accepts(
    send: Callable[..., Any], field: str, text: str, alice_client: ApiClient, task: Task
) -> None:
    """[T5] White space around is trimmed, line ends too."""
    response = send(f" \n\u2028{text}\u00a0\n", client=alice_client, task=task)

    assert data_of(response, response.status_code)[field] == text


@pytest.fixture
def olga_admin(olga: User) -> Browser:
    browser = Browser(raise_request_exception=False)
    browser.force_login(olga)
    return browser


@pytest.mark.parametrize(("form", "field"), ADMIN)
@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_admin_refuses(
    form: Callable[..., tuple[str, dict[str, Any]]],
    field: str,
    text: str,
    code: str,
    olga_admin: Browser,
    alice: User,
    task: Task,
) -> None:
    """[T5]"""
    path, data = form(text, alice=alice, task=task)

    response: Any = olga_admin.post(f"/admin/{path}", data)

    assert response.status_code == 200
    assert [fault.code for fault in response.context["adminform"].errors.as_data()[field]] == [code]


@pytest.mark.parametrize(("form", "field"), ADMIN)
@pytest.mark.parametrize("text", ACCEPTED)
def test_admin_accepts(
    form: Callable[..., tuple[str, dict[str, Any]]],
    field: str,
    text: str,
    olga_admin: Browser,
    alice: User,
    task: Task,
) -> None:
    """[T5]"""
    path, data = form(f" {text} ", alice=alice, task=task)

    assert olga_admin.post(f"/admin/{path}", data).status_code == 302
    model = Task if field == "title" else User
    assert model._default_manager.filter(**{field: text}).exists()


@pytest.mark.parametrize(("make", "field"), MODELS)
@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_models_refuse(
    make: Callable[..., Any], field: str, text: str, code: str, alice: User
) -> None:
    """[T5]"""
    with pytest.raises(ValidationError) as raised:
        make(text, alice).full_clean()

    assert [fault.code for fault in raised.value.error_dict[field]] == [code]


@pytest.mark.parametrize(("make", "field"), MODELS)
@pytest.mark.parametrize("text", ACCEPTED)
def test_models_accept(make: Callable[..., Any], field: str, text: str, alice: User) -> None:
    """[T5]"""
    make(text, alice).full_clean()


@pytest.mark.parametrize("text", ["", " ", "\u3000\n"])
def test_name_may_be_empty(text: str, alice_client: ApiClient) -> None:
    """[T5]"""
    assert data_of(alice_client.patch("/api/auth/me", {"name": text}))["name"] == ""


def test_every_control_and_separator_breaks_a_line() -> None:
    """[T5] By the categories; that NO_LINE lists them all is for the database's sake."""
    every = map(chr, range(0x110000))
    broken = {c for c in every if unicodedata.category(c) in ("Cc", "Zl", "Zp")}

    assert {c for c in map(chr, range(0x110000)) if rules._BREAKS_LINE.match(c)} == broken


def test_no_white_space_is_visible() -> None:
    """[T5]"""
    assert not is_visible("".join(c for c in map(chr, range(0x110000)) if c.isspace()))


def test_default_ignorable_characters_are_as_many_as_in_unicode() -> None:
    """[T5] "Total code points: 4174", says DerivedCoreProperties.txt; those reserved included."""
    ignorable = [c for c in map(chr, range(0x110000)) if rules._DEFAULT_IGNORABLE.match(c)]

    assert len(ignorable) == 4174
    assert not is_visible("".join(ignorable))


# --- The database -----------------------------------------------------------------------------

WRITERS = [
    pytest.param("INSERT INTO tasks_task (id, user_id, title) VALUES (%(id)s, %(user)s, %(text)s)"),
    pytest.param("UPDATE tasks_task SET title = %(text)s"),
    pytest.param(
        "INSERT INTO accounts_user (id, email, password, name, is_active, is_staff, is_superuser)"
        " VALUES (%(id)s, 'ada@example.com', '', %(text)s, true, false, false)"
    ),
    pytest.param("UPDATE accounts_user SET name = %(text)s"),
]
WRITER_IDS = ["task inserted", "task updated", "person inserted", "person updated"]
UNICODE_SPACES = [" ", "\u00a0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u202f", "\u205f"]


@pytest.mark.parametrize("sql", WRITERS, ids=WRITER_IDS)
@pytest.mark.parametrize(
    "text",
    [
        *(parameter.values[0] for parameter in REFUSED if parameter.values[1] == CONTROL),
        *("a\x01", "a\x1f", "a\x80", "a\x9f"),
        pytest.param("".join([*UNICODE_SPACES, "\u3000"]), id="white space"),
    ],
)
def test_database_refuses(sql: str, text: str, alice: User, task: Task) -> None:
    """[T2] [T5] Whoever writes, whatever the locale; and it quotes nothing of the row."""
    values: dict[str, Any] = {"id": ABSENT, "user": alice.pk, "text": text}

    with pytest.raises(IntegrityError) as raised, connection.cursor() as cursor:
        cursor.execute(sql, values)

    diagnosis = getattr(raised.value.__cause__, "diag", None)
    assert diagnosis is not None
    name = "tasks_task_title" if "tasks_task" in sql else "accounts_user_name"
    assert diagnosis.constraint_name in (f"{name}_line", f"{name}_visible")
    assert diagnosis.constraint_name.endswith("_line") == (diagnosis.message_detail is None)


@pytest.mark.parametrize("sql", WRITERS, ids=WRITER_IDS)
@pytest.mark.parametrize("text", ACCEPTED)
def test_database_accepts(sql: str, text: str, alice: User, task: Task) -> None:
    """[T2] [T5]"""
    values: dict[str, Any] = {"id": ABSENT, "user": alice.pk, "text": text}

    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        assert cursor.rowcount == 1


@pytest.fixture
def old_task(task: Task) -> Task:
    """From before the rule."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tasks_task DISABLE TRIGGER tasks_task_title_line")
        Task.objects.filter(pk=task.pk).update(title="Buy\tmilk")
        cursor.execute("ALTER TABLE tasks_task ENABLE TRIGGER tasks_task_title_line")
    return task


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/complete", {}),
        ("PATCH", "", {"description": "Three litres"}),
        ("PATCH", "", {"is_completed": True}),
        ("DELETE", "", {}),
    ],
    ids=["complete", "describe", "complete by PATCH", "delete"],
)
def test_title_from_before_hinders_nothing(
    method: str, path: str, body: dict[str, Any], alice_client: ApiClient, old_task: Task
) -> None:
    """[T5] A CHECK would ask every UPDATE of the row."""
    response = alice_client.call(method, f"/api/me/tasks/{old_task.pk}{path}", body)

    assert response.status_code in (200, 204)


def test_title_from_before_is_refused_when_it_is_written_anew(
    alice_client: ApiClient, old_task: Task
) -> None:
    """[T5]"""
    path = f"/api/me/tasks/{old_task.pk}"
    read = data_of(alice_client.get(path))

    details = assert_error(alice_client.put(path, read), 400, "VALIDATION_ERROR")

    assert details["title"][0]["code"] == CONTROL


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("text", "code"), [("Buy\tmilk", CONTROL), ("   ", BLANK)])
@pytest.mark.parametrize("send", [create_task, rename_task, replace_task])
def test_refusal_of_the_database_is_told(
    send: Callable[..., Any],
    text: str,
    code: str,
    alice_client: ApiClient,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[T5] 400, and no defect, where it knows better than Python."""
    monkeypatch.setattr(LineField, "run_validation", lambda self, data: data)

    details = assert_error(send(text, client=alice_client, task=task), 400, "VALIDATION_ERROR")

    assert [fault["code"] for fault in details["title"]] == [code]


# --- Headers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("curl/8.5.0", "curl/8.5.0", id="ASCII"),
        pytest.param("AufgabenÃ¼bersicht/1", "Aufgabenübersicht/1", id="UTF-8"),
        pytest.param("Aufgaben\xfcbersicht/1", "Aufgabenübersicht/1", id="Latin-1"),
        pytest.param("a\x00b\tc\x9bd", "abcd", id="controls"),
        pytest.param("日本", "日本", id="no bytes"),
    ],
)
def test_header_is_read_as_it_was_meant(
    value: str, text: str, alice: User, client: ApiClient
) -> None:
    """PEP 3333 hands bytes over as Latin-1."""
    credentials = {"email": alice.email, "password": PASSWORD}

    data_of(client.post("/api/auth/token", credentials, user_agent=value))

    assert header_text(value) == text
    assert alice.sessions.get().user_agent == text


def test_label_of_marks_alone_costs_nothing(alice_client: ApiClient) -> None:
    """[T5] Normalised as a whole, what fits into a body would keep the process busy for seconds."""
    labels = ["\u0316\u0301" * 60_000]
    body = json.dumps({"title": "x", "labels": labels}, ensure_ascii=False).encode()
    started = time.process_time()

    response = alice_client.post("/api/me/tasks", body)

    fault = assert_error(response, 400, "VALIDATION_ERROR")["labels"][0]
    assert fault["code"] == "max_length"
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        pytest.param("e" + "\u0301" * 30, False, id="as many as may be"),
        pytest.param("e" + "\u0301" * 31, True, id="one too many"),
        pytest.param("\u0316\u0301" * 10_000, True, id="out of their order"),
        pytest.param("\u0f73" * 31, True, id="pairs of marks that count as letters"),
        pytest.param(("e" + "\u0301" * 30) * 600, False, id="on many letters"),
        pytest.param("\u0e19\u0e49\u0e33" * 6_000, False, id="Thai"),
    ],
)
def test_marks_in_a_row(text: str, is_refused: bool, alice_client: ApiClient) -> None:
    """[T5] 20,000 of them would keep PostgreSQL busy for seconds, which folds them for searches."""
    response = alice_client.post("/api/me/tasks", {"title": "x", "description": text})

    if is_refused:
        fault = assert_error(response, 400, "VALIDATION_ERROR")["description"][0]
        assert fault["code"] == "combining_marks"
    else:
        assert data_of(response, 201)["description"] == text
