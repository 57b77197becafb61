"""[M1] Files become tasks: each row told of, none lost unsaid, and nothing made twice.

tests/imports has the files, and says whose shapes they have.
"""

import json
import re
import threading
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from accounts.models import Session, User
from tasks import import_views
from tasks.importing import FORMATS, Options, rows, writing
from tasks.importing.human_dates import read_date
from tasks.models import LISTS_MAX, Task, TaskList
from tests.client import ApiClient, assert_error, data_of, meta_of
from tests.conftest import begin_session
from tests.racing import at_once
from todo_project.environment import Rate
from todo_project.models import Change, Clock, RateCounter

pytestmark = pytest.mark.usefixtures("service_alone")

IMPORT = "/api/me/import"
FILES = Path(__file__).parent / "imports"
TODOIST = (FILES / "todoist.csv").read_bytes()
GOOGLE = (FILES / "google-tasks.json").read_bytes()
ICS = (FILES / "tasks.ics").read_bytes()
EACH_FORMAT = [
    pytest.param("todoist", TODOIST, id="todoist"),
    pytest.param("google", GOOGLE, id="google"),
    pytest.param("ics", ICS, id="ics"),
]
HEADER = "TYPE,CONTENT,DESCRIPTION,PRIORITY,INDENT,DATE,DATE_LANG,TIMEZONE,DEADLINE\n"


def send(client: ApiClient, file: bytes | str, file_format: str, **query: Any) -> Any:
    body = file.encode() if isinstance(file, str) else file
    content_type = query.pop("content_type", "application/octet-stream")
    headers = query.pop("headers", {})
    query = {"format": file_format, **query}
    return client.call("POST", IMPORT, body, query=query, content_type=content_type, **headers)


def report(client: ApiClient, file: bytes | str, file_format: str, **query: Any) -> Any:
    return data_of(send(client, file, file_format, **query))


def rows_of(found: Mapping[str, Any], status: str | None = None) -> list[Any]:
    return [row for row in found["rows"] if status in (None, row["status"])]


def tasks_of(client: ApiClient) -> dict[str, Any]:
    """By title."""
    return {task["title"]: task for task in data_of(client.get("/api/me/tasks"))}


def own(**parts: Any) -> bytes:
    """A document of this service's export."""
    return json.dumps({"format": "todo-export", "format_version": 1, **parts}).encode()


def own_task(title: str = "Buy milk", **more: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "title": title, **more}


# --- The formats ------------------------------------------------------------------------------


def test_todoist(alice_client: ApiClient) -> None:
    """[M2] Each trap of the file, once."""
    found = report(alice_client, TODOIST, "todoist", list="Home")

    assert found["counts"] == {"created": 7, "merged": 3, "skipped": 1, "failed": 0}
    assert [row["row"] for row in found["rows"]] == [None, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13]
    assert found["notes"] == ["Columns that aren't taken: “AUTHOR”."]
    (home,) = data_of(alice_client.get("/api/me/lists"))
    tasks = data_of(alice_client.get("/api/me/tasks", query={"ordering": "position"}))
    assert {task["list_id"] for task in tasks} == {home["id"]}
    move, ferns, seeds, ferns_again, call, pack = tasks
    assert (move["title"], move["description"], move["priority"]) == (
        "Move house",
        "Keys on 1 March",
        "none",
    )
    assert call["title"] == "Call the movers"
    assert (call["labels"], call["priority"]) == (["phone", "30min"], "urgent")
    assert (call["due_on"], call["due_time"], call["time_zone"]) == (
        "2027-03-01",
        "18:00",
        "Europe/Berlin",
    )
    assert call["description"] == (
        "They have two vans\nof three tonnes\noffer.pdf: https://files.example/offer.pdf\n\n"
        "Said they would call back"
    )
    assert (call["parent_id"], pack["parent_id"]) == (move["id"], call["id"])
    assert (pack["priority"], pack["due_on"]) == ("high", "2027-02-20")
    assert (ferns["labels"], ferns["recurrence"]) == (["Every week"], "FREQ=WEEKLY;BYDAY=MO")
    assert date.fromisoformat(ferns["due_on"]).weekday() == 0
    assert seeds["title"] == 'Order "heirloom" seeds, the old kind'
    assert (seeds["due_on"], seeds["recurrence"]) == ("2027-10-09", None)
    assert seeds["description"] == "DATE: every 3rd friday"
    assert ferns_again["title"] == "Water the ferns"
    assert ferns_again["id"] != ferns["id"]
    notes = {row["row"]: " ".join(row["notes"]) for row in found["rows"]}
    assert "can't be ticked there" in notes[3]
    assert "Bob (99)" in notes[4]
    assert "30 minute" in notes[4]
    assert "isn't fetched" in notes[5]
    assert "every 3rd friday" in notes[12]


def test_todoist_of_2017(alice_client: ApiClient) -> None:
    """[M2] Columns are found by their names, and dates of other languages kept as they stand."""
    file = (FILES / "todoist-2017.csv").read_bytes()

    found = report(alice_client, file, "todoist")

    assert found["counts"] == {"created": 2, "merged": 1, "skipped": 0, "failed": 0}
    tasks = tasks_of(alice_client)
    written = tasks["Grüße schreiben 😀"]
    assert written["description"] == "DATE: 4. Jan\n\nauch an “Onkel”, der ⚁ mag"
    assert (written["due_on"], written["list_id"]) == (None, None)
    assert tasks['what happens to a “comma"?']["priority"] == "urgent"


def test_google(alice_client: ApiClient) -> None:
    """[M2] The day is the one that was chosen, wherever that was midnight."""
    found = report(alice_client, GOOGLE, "google", time_zone="Asia/Shanghai")

    assert found["counts"] == {"created": 5, "merged": 0, "skipped": 1, "failed": 1}
    assert [row["row"] for row in found["rows"]] == [1, 2, 3, 4, 5, 6, 7]
    lists = data_of(alice_client.get("/api/me/lists"))
    assert [each["name"] for each in lists] == ["My Tasks", "Some day"]
    tasks = tasks_of(alice_client)
    email, numbers, room = (
        tasks[title] for title in ("Email the report", "Find the numbers", "Book the room")
    )
    assert (email["due_on"], numbers["due_on"]) == ("2022-11-01", "2022-10-31")
    assert (email["description"], email["list_id"]) == ("Before noon", lists[0]["id"])
    assert email["created_at"] == "2022-06-13T02:37:08.549574Z"
    assert numbers["parent_id"] == email["id"]
    assert room["completed_at"] == "2022-06-20T08:15:00.000000Z"
    assert room["description"] == "Rooms: https://mail.google.com/mail/#all/1"
    (untitled,) = rows_of(found, "failed")
    assert untitled["errors"]["title"][0]["code"] == "blank"
    (deleted,) = rows_of(found, "skipped")
    assert deleted["title"] == "Gone"


def test_google_without_a_zone_goes_by_utc(alice_client: ApiClient) -> None:
    report(alice_client, GOOGLE, "google")

    assert tasks_of(alice_client)["Email the report"]["due_on"] == "2022-10-31"


def test_ics(alice_client: ApiClient) -> None:
    """[M2] What clients of CalDAV write: folded, escaped, with zones, alarms and overrides."""
    found = report(alice_client, ICS, "ics")

    assert found["counts"] == {"created": 6, "merged": 0, "skipped": 2, "failed": 0}
    (home,) = data_of(alice_client.get("/api/me/lists"))
    assert home["name"] == "Home"
    tasks = tasks_of(alice_client)
    gutters = tasks["Clear the gutters, all of them"]
    assert gutters["description"] == (
        "Ladder is at the neighbours'\nAsk before nine. This line is long enough to be folded; "
        "it goes on."
    )
    assert gutters["labels"] == ["house", "Grün"]
    assert (gutters["due_on"], gutters["due_time"]) == ("2023-04-02", "17:00")
    assert (gutters["time_zone"], gutters["start_on"]) == ("Europe/Berlin", "2023-04-01")
    assert gutters["priority"] == "low"
    assert gutters["created_at"] == "2023-04-02T06:04:51.000000Z"
    ladder = tasks["Borrow the ladder"]
    assert (ladder["parent_id"], ladder["due_time"]) == (gutters["id"], None)
    assert ladder["completed_at"] == "2023-04-01T10:15:00.000000Z"
    tax = tasks["Yearly income tax"]
    assert (tax["due_on"], tax["due_time"], tax["time_zone"]) == (
        "1992-05-16",
        "06:59:59",
        "Europe/Brussels",
    )
    assert (tax["recurrence"], tax["priority"]) == ("FREQ=YEARLY;UNTIL=20300516", "urgent")
    assert tax["description"] == "Location: Town hall"
    drink = tasks["Drink"]
    assert (drink["recurrence"], drink["description"]) == (None, "RRULE: FREQ=HOURLY")
    assert (drink["time_zone"], drink["is_completed"]) == (None, False)
    outlook = tasks["Call Outlook"]
    assert (outlook["time_zone"], outlook["is_completed"]) == ("Europe/Berlin", True)
    override, event = rows_of(found, "skipped")
    assert "series" in override["notes"][0]
    assert (event["kind"], event["title"]) == ("other", "Football")
    notes = {row["title"]: " ".join(row["notes"]) for row in rows_of(found, "created")}
    assert "“out,side”" in notes["Clear the gutters, all of them"]
    assert "reminders" in notes["Clear the gutters, all of them"]
    assert "ATTENDEE" in notes["Yearly income tax"]
    assert "cancelled" in notes["Call Outlook"]


def test_ics_goes_where_the_request_says(alice_client: ApiClient) -> None:
    report(alice_client, ICS, "ics", list="Chores", time_zone="America/New_York")

    (chores,) = data_of(alice_client.get("/api/me/lists"))
    assert chores["name"] == "Chores"
    tax = tasks_of(alice_client)["Yearly income tax"]
    assert (tax["due_on"], tax["due_time"], tax["time_zone"]) == (
        "1992-05-16",
        "00:59:59",
        "America/New_York",
    )


TODAY = date(2026, 11, 27)  # a Friday


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2027-01-31", ("2027-01-31", None, None, False)),
        ("2026-10-06 15:30", ("2026-10-06", "15:30:00", None, False)),
        ("2026-10-06T15:30:00", ("2026-10-06", "15:30:00", None, False)),
        ("4 Jan", ("2027-01-04", None, None, True)),
        ("Sep 1", ("2026-09-01", None, None, True)),
        ("29 feb", None),
        ("Jan 4 2026", ("2026-01-04", None, None, False)),
        ("October 5, 2026 9:00 AM", ("2026-10-05", "09:00:00", None, False)),
        ("5th of May", None),
        ("31 Nov 2026", None),
        ("tomorrow 18:00", ("2026-11-28", "18:00:00", None, True)),
        ("in 5 days", ("2026-12-02", None, None, True)),
        ("every day", ("2026-11-27", None, "FREQ=DAILY", True)),
        ("Every Other Week", ("2026-11-27", None, "FREQ=WEEKLY;INTERVAL=2", True)),
        ("every 3 months", ("2026-11-27", None, "FREQ=MONTHLY;INTERVAL=3", True)),
        ("yearly", ("2026-11-27", None, "FREQ=YEARLY", True)),
        ("every mon, wed and friday at 9pm", ("2026-11-27", "21:00:00", None, True)),
        ("every weekday", ("2026-11-27", None, None, True)),
        ("every! monday", ("2026-11-30", None, "FREQ=WEEKLY;BYDAY=MO", True)),
        ("every 3rd friday", None),
        ("every day starting 4 jan", None),
        ("every 0 days", None),
        ("noon", None),
        ("13pm", None),
        ("x" * 10_000, None),
        ("", None),
    ],
)
def test_human_dates(text: str, found: tuple[str, str | None, str | None, bool] | None) -> None:
    """[M2] What is plain is taken, and nothing else."""
    read = read_date(text, TODAY)

    if found is None:
        assert read is None
        return
    assert read is not None
    on, at, rule, is_guess = found
    assert (read.on.isoformat(), read.is_guess) == (on, is_guess)
    assert (None if read.at is None else read.at.isoformat()) == at
    assert rule in (None, read.rule)
    assert read.from_completion is ("!" in text)


TRAPS = [
    pytest.param("task,@errands,,4,1,,,,", {"title": "@errands", "labels": ["errands"]}, id="@"),
    pytest.param(
        'task,"one\ntwo",more,4,1,,,,',
        {"title": "one", "description": "one\ntwo\n\nmore"},
        id="several lines",
    ),
    pytest.param(
        f"task,{'x' * 300},,4,1,,,,",
        {"title": f"{'x' * 254}…", "description": "x" * 300},
        id="long title",
    ),
    pytest.param("task,=1+1,,4,1,,,,", {"title": "=1+1"}, id="formula"),
    pytest.param("task,mail bob@x.example,,,,,,,", {"title": "mail bob@x.example"}, id="address"),
    pytest.param("task,x,,9,x,,,,", {"priority": "none", "parent_id": None}, id="no numbers"),
    pytest.param("task,x,,4,3,,,,", {"parent_id": None}, id="deep alone"),
    pytest.param("TASK,x,,3,1,,,,", {"priority": "medium"}, id="case"),
    pytest.param(
        "task,x,,4,1,every! 2 weeks,en,,",
        {"recurrence": "FREQ=WEEKLY;INTERVAL=2", "repeat_from": "completion"},
        id="from completion",
    ),
    pytest.param(
        "task,x,,4,1,Jan 4 2027,en,,Jan 9 2027",
        {"due_on": "2027-01-04", "description": "DEADLINE: Jan 9 2027"},
        id="two days",
    ),
    pytest.param(
        "task,x,,4,1,4 Jan 2027,de,,",
        {"due_on": None, "description": "DATE: 4 Jan 2027"},
        id="another language",
    ),
    pytest.param("task,x,,4,1,2027-01-04,de,,", {"due_on": "2027-01-04"}, id="ISO in any"),
    pytest.param(
        "task,x,,4,1,Jan 4 2027 9:00,en,Nowhere,",
        {"due_time": "09:00", "time_zone": None},
        id="no zone",
    ),
]


@pytest.mark.parametrize(("line", "expected"), TRAPS)
def test_trap_of_todoist(line: str, expected: Mapping[str, Any], alice_client: ApiClient) -> None:
    """[M2]"""
    found = report(alice_client, HEADER + line, "todoist")

    assert found["counts"]["created"] == 1, found
    (task,) = data_of(alice_client.get("/api/me/tasks"))
    assert {name: task[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["DUE:20270104T090000Z"], {"time_zone": "UTC"}, id="UTC"),
        pytest.param(
            ["DUE;TZID=/example.org/Europe/Berlin:20270104T090000"],
            {"time_zone": "Europe/Berlin"},
            id="path before a zone",
        ),
        pytest.param(
            ["DUE;TZID=Mars/Base:20270104T090000"],
            {"time_zone": None, "due_time": "09:00"},
            id="no zone",
        ),
        pytest.param(["DUE:soon"], {"due_on": None}, id="no time"),
        pytest.param(
            ["DTSTART;VALUE=DATE:20270104", "RRULE:FREQ=DAILY"],
            {"due_on": "2027-01-04", "start_on": None, "recurrence": "FREQ=DAILY"},
            id="rule from the start",
        ),
        pytest.param(
            ["DTSTART;VALUE=DATE:20270105", "DUE;VALUE=DATE:20270104"],
            {"due_on": "2027-01-04", "start_on": None},
            id="start after the end",
        ),
        pytest.param(["RRULE:FREQ=DAILY"], {"description": "RRULE: FREQ=DAILY"}, id="no day"),
        pytest.param(
            ["DUE;VALUE=DATE:20270104", "RRULE:FREQ=DAILY;UNTIL=20260101"],
            {"recurrence": None},
            id="ended rule",
        ),
        pytest.param(
            [
                "DUE;TZID=Asia/Tokyo:20270104T080000",
                "RRULE:FREQ=DAILY;UNTIL=20270110T230000Z",  # the 11th, there
            ],
            {"recurrence": "FREQ=DAILY;UNTIL=20270111"},
            id="end in the east",
        ),
        pytest.param(
            [
                "DUE;TZID=America/Los_Angeles:20270104T200000",
                "RRULE:FREQ=DAILY;UNTIL=20270111T040000Z",
            ],
            {"recurrence": "FREQ=DAILY;UNTIL=20270110"},
            id="end in the west",
        ),
        pytest.param(
            ["DUE:20270104T200000", "RRULE:FREQ=DAILY;UNTIL=20270110T195959"],
            {"recurrence": "FREQ=DAILY;UNTIL=20270109"},
            id="end before the time",
        ),
        pytest.param(
            [
                "DTSTART:20270104T090000",
                "DUE:20270104T200000",
                "RRULE:FREQ=DAILY;UNTIL=20270110T090000",
            ],
            {"recurrence": "FREQ=DAILY;UNTIL=20270110"},
            id="end of the starts",
        ),
        pytest.param(["STATUS:NEEDS-ACTION", "PERCENT-COMPLETE:100"], {"is_completed": False}),
        pytest.param(["PERCENT-COMPLETE:100"], {"is_completed": True}, id="percent alone"),
        pytest.param(["PRIORITY:5"], {"priority": "medium"}, id="medium"),
        pytest.param(["PRIORITY:²"], {"priority": "none"}, id="no digit"),
        pytest.param(["COMPLETED:20230402T074158"], {"is_completed": True}, id="without Z"),
        pytest.param(["CREATED:00010101T000000Z"], {"is_completed": False}, id="year 1"),
        pytest.param(["DUE:99991231T235959Z"], {"due_on": "9999-12-31"}, id="year 9999"),
        pytest.param(["BROKEN LINE", "summary:again"], {"title": "x"}, id="broken line"),
    ],
)
def test_trap_of_ics(
    lines: list[str], expected: Mapping[str, Any], alice_client: ApiClient
) -> None:
    """[M2]"""
    found = report(alice_client, calendar(["UID:1", "SUMMARY:x", *lines]), "ics")

    assert found["counts"]["created"] == 1, found
    (task,) = data_of(alice_client.get("/api/me/tasks"))
    assert {name: task[name] for name in expected} == expected


def calendar(*components: list[str]) -> str:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0"]
    for properties in components:
        lines += ["BEGIN:VTODO", *properties, "END:VTODO"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def test_sections_are_labels(alice_client: ApiClient) -> None:
    """[M2] Where they can be; and end what tasks are below each other."""
    lines = ["task,a,,4,1,,,,", 'section,"Home, garden",,,,,,,', "task,b,,4,2,,,,"]
    lines += [f"section,{'x' * 60},,,,,,,", "note,on a section,,,,,,,", "task,c,,4,1,,,,"]

    found = report(alice_client, HEADER + "\n".join(lines), "todoist")

    labels = {title: task["labels"] for title, task in tasks_of(alice_client).items()}
    assert labels == {"a": [], "b": ["Home garden"], "c": []}
    assert tasks_of(alice_client)["b"]["parent_id"] is None
    statuses = [row["status"] for row in found["rows"]]
    assert statuses == ["created", "merged", "created", "skipped", "skipped", "created"]


def test_levels_that_lack_are_no_ones(alice_client: ApiClient) -> None:
    """[M2] Tasks of one level stand side by side, whether there is one above it or not."""
    levels = {"a": 3, "b": 3, "c": 1, "d": 3, "e": 3, "f": 4, "g": 2}
    lines = [f"task,{title},,4,{level},,,," for title, level in levels.items()]

    report(alice_client, HEADER + "\n".join(lines), "todoist")

    tasks = tasks_of(alice_client)
    titles = {task["id"]: title for title, task in tasks.items()}
    parents = {title: titles.get(tasks[title]["parent_id"]) for title in levels}
    assert parents == {"a": None, "b": None, "c": None, "d": "c", "e": "c", "f": "e", "g": "c"}


def test_comments_follow_their_task(alice_client: ApiClient) -> None:
    """[M1] What becomes of it becomes of them; what has no room is told."""
    text = "x" * 15_000
    lines = ["task,a,,4,1,,,,", f"note,{text},,,,,,,", f"note,{text},,,,,,,"]
    lines += ["task,,,4,1,,,,", "note,b,,,,,,,"]

    found = report(alice_client, HEADER + "\n".join(lines), "todoist")

    statuses = [row["status"] for row in found["rows"]]
    assert statuses == ["created", "merged", "skipped", "failed", "failed"]
    assert found["rows"][4]["notes"] == ["See its task, row 5: failed."]


def test_attachment_without_an_address_stands_as_it_is() -> None:
    """[M1] However deep it is nested: what can just be read can't always be written."""
    for depth in range(1, 1100):
        nested = "[" * depth + "]" * depth
        line = f'note,"[[file {{""a"": {nested}}}]]",,,,,,,'

        found = FORMATS["todoist"](f"{HEADER}task,x,,,,,,,\n{line}".encode(), Options(None, None))

        assert nested in found.rows[0].data["description"]


def test_names_of_rows_stay_short() -> None:
    """[M7] Of a thousand tasks below each other as well."""
    sources, name = rows.Sources(), ""
    for _ in range(1000):
        name = sources.name(name, "x" * 1000)

    assert len(name) == 64


LONG = "x" * 100_000


@pytest.mark.parametrize("file_format", ["google", "ics"])
def test_long_names_of_a_file_are_read_once(file_format: str, alice_client: ApiClient) -> None:
    """[M7] Not once more for each of the thousands that may belong there; and nothing twice."""
    above = {"id": LONG, "title": "above"}
    tasks = [above, {"id": f"{LONG}1", "title": "below", "parent": LONG}]
    lists = [{"id": LONG, "title": "x", "items": tasks}]
    file = json.dumps({"kind": "tasks#taskLists", "items": lists})
    if file_format == "ics":
        parent, child = f"RELATED-TO:{LONG}", f"RELATED-TO;RELTYPE=CHILD:{LONG}2"
        file = calendar(
            [f"UID:{LONG}", "SUMMARY:above", child],
            [f"UID:{LONG}1", "SUMMARY:below", parent],
            [f"UID:{LONG}2", "SUMMARY:also below"],
        ).replace("VERSION:2.0", f"X-WR-CALNAME:{LONG}")

    found = FORMATS[file_format](file.encode(), Options(None, None))

    names = [(row.source, row.in_list or "", row.below or "") for row in found.rows]
    assert all(len(name) < 300 for each in names for name in each)
    assert report(alice_client, file, file_format)["counts"]["created"] == len(names)
    above_id = tasks_of(alice_client)["above"]["id"]
    assert tasks_of(alice_client)["below"]["parent_id"] == above_id
    assert report(alice_client, file, file_format)["counts"]["skipped"] == len(names)


def test_labels_beyond_the_limit_are_told(alice_client: ApiClient) -> None:
    """[M2] Of some by name, and of more than that by saying so."""
    words = ",".join(str(number) for number in range(200))

    found = report(alice_client, calendar(["UID:1", "SUMMARY:x", f"CATEGORIES:{words}"]), "ics")

    notes = found["rows"][0]["notes"]
    assert len(data_of(alice_client.get("/api/me/tasks"))[0]["labels"]) == 50
    assert (len(notes), notes[-1]) == (51, "Further labels were left out.")


def test_relations_that_cannot_be(alice_client: ApiClient) -> None:
    """[M3] Circles fail; what is too deep moves up; a parent that isn't there is no parent."""
    chain = [["UID:0", "SUMMARY:0"]]
    chain += [[f"UID:{n}", f"SUMMARY:{n}", f"RELATED-TO:{n - 1}"] for n in range(1, 7)]
    circle = [
        ["UID:a", "SUMMARY:a", "RELATED-TO:b"],
        ["UID:b", "SUMMARY:b", "RELATED-TO:a"],
        ["UID:c", "SUMMARY:c", "RELATED-TO:b"],
    ]
    others = [
        ["UID:lost", "SUMMARY:lost", "RELATED-TO:nobody"],
        ["UID:self", "SUMMARY:self", "RELATED-TO:self"],
        ["UID:up", "SUMMARY:up", "RELATED-TO;RELTYPE=CHILD:down"],
        ["UID:down", "SUMMARY:down", "RELATED-TO;RELTYPE=SIBLING:lost"],
    ]

    found = report(alice_client, calendar(*chain, *circle, *others), "ics")

    failed = {
        row["title"]: row["errors"]["parent_id"][0]["code"] for row in rows_of(found, "failed")
    }
    assert failed == {"a": "circle", "b": "circle", "c": "absent", "self": "circle"}
    tasks = tasks_of(alice_client)
    parents = {task["id"]: task["title"] for task in tasks.values()}
    assert [parents.get(tasks[str(n)]["parent_id"]) for n in range(7)] == [
        *(None, "0", "1", "2", "3"),
        *("3", "3"),
    ]
    assert tasks["lost"]["parent_id"] is None
    assert parents[tasks["down"]["parent_id"]] == "up"


# --- Nothing twice, and nothing by a dry run --------------------------------------------------


@pytest.mark.parametrize(("file_format", "file"), EACH_FORMAT)
def test_same_file_twice_makes_nothing_twice(
    file_format: str, file: bytes, alice_client: ApiClient
) -> None:
    """[M3] And nothing advances."""
    first = report(alice_client, file, file_format)
    rows = list(Task.objects.order_by("id").values())
    version = Clock.objects.values_list("version", flat=True).get()

    second = report(alice_client, file, file_format)

    assert second["counts"]["created"] == 0
    ids = {row["id"] for row in rows_of(first, "created")}
    assert ids <= {row["id"] for row in rows_of(second, "skipped")}
    assert list(Task.objects.order_by("id").values()) == rows
    assert Clock.objects.values_list("version", flat=True).get() == version


@pytest.mark.parametrize(("file_format", "file"), EACH_FORMAT)
def test_dry_run_writes_nothing_and_says_the_same(
    file_format: str, file: bytes, alice_client: ApiClient
) -> None:
    """[M4]"""
    before = Clock.objects.values_list("version", flat=True).get()

    dry = report(alice_client, file, file_format, dry_run="true")

    assert not Task.objects.exists()
    assert not TaskList.objects.exists()
    assert not Change.objects.exists()
    assert Clock.objects.values_list("version", flat=True).get() == before
    real = report(alice_client, file, file_format, dry_run="false")
    assert dry == {**real, "dry_run": True}


def test_dry_run_says_what_the_database_refuses(alice_client: ApiClient) -> None:
    """[M4] It has asked it."""
    series = {"series_id": str(uuid4()), "occurrence_on": "2027-01-04"}
    series |= {"series_start_on": "2027-01-04", "recurrence": "FREQ=DAILY", "due_on": "2027-01-04"}
    tasks = [own_task("a", **series), own_task("b", **series), own_task("c", due_time="09:00")]
    tasks.append(own_task("d", parent_id=tasks[1]["id"]))

    dry = report(alice_client, own(tasks=tasks), "todo", dry_run="true")

    assert not Task.objects.exists()
    assert dry["counts"] == {"created": 1, "merged": 0, "skipped": 0, "failed": 3}
    assert report(alice_client, own(tasks=tasks), "todo") == {**dry, "dry_run": False}


def test_added_row_is_the_only_one_that_is_made(alice_client: ApiClient) -> None:
    """[M3] Rows are known by what they say and where they stand, not by their number."""
    report(alice_client, HEADER + "task,a,,4,1,,,,\ntask,b,,4,2,,,,\n", "todoist")

    file = HEADER + "task,new,,4,1,,,,\ntask,a,,4,1,,,,\ntask,b,,4,2,,,,\ntask,b,,4,2,,,,\n"
    found = report(alice_client, file, "todoist")

    assert [row["row"] for row in rows_of(found, "created")] == [2, 5]


def test_deleted_and_moved_tasks_stay_so(alice_client: ApiClient) -> None:
    """[M3] Nothing is resurrected, nor put back where it was."""
    report(alice_client, TODOIST, "todoist", list="Home")
    tasks = tasks_of(alice_client)
    alice_client.delete(f"/api/me/tasks/{tasks['Call the movers']['id']}")
    moved = tasks["Water the ferns"]["id"]
    alice_client.patch(f"/api/me/tasks/{moved}", {"list_id": None, "title": "Mine"})

    found = report(alice_client, TODOIST, "todoist", list="Home")

    assert found["counts"]["created"] == 0
    notes = {row["title"]: row["notes"][-1] for row in rows_of(found, "skipped")}
    assert "trash" in notes["Call the movers"]
    assert "Call the movers" not in tasks_of(alice_client)
    assert data_of(alice_client.get(f"/api/me/tasks/{moved}"))["title"] == "Mine"


def test_new_subtask_comes_to_where_its_task_is_by_now(alice_client: ApiClient) -> None:
    """[M3]"""
    report(alice_client, calendar(["UID:1", "SUMMARY:a"]), "ics", list="Home")
    (task,) = data_of(alice_client.get("/api/me/tasks"))
    alice_client.patch(f"/api/me/tasks/{task['id']}", {"list_id": None})
    file = calendar(["UID:1", "SUMMARY:a"], ["UID:2", "SUMMARY:b", "RELATED-TO:1"])

    found = report(alice_client, file, "ics", list="Home")

    assert found["counts"] == {"created": 1, "merged": 0, "skipped": 2, "failed": 0}
    below = tasks_of(alice_client)["b"]
    assert (below["parent_id"], below["list_id"]) == (task["id"], None)


@pytest.mark.parametrize("what", ["list", "parent"])
def test_what_belongs_into_the_trash_fails(what: str, alice_client: ApiClient) -> None:
    """[M3] Where its list or parent was deleted since."""
    report(alice_client, calendar(["UID:1", "SUMMARY:a"]), "ics", list="Home")
    (task,) = data_of(alice_client.get("/api/me/tasks"))
    path = f"lists/{task['list_id']}" if what == "list" else f"tasks/{task['id']}"
    alice_client.delete(f"/api/me/{path}")
    file = calendar(["UID:2", "SUMMARY:b", "RELATED-TO:1"])

    found = report(alice_client, file, "ics", list="Home")

    (failed,) = rows_of(found, "failed")
    field = "list_id" if what == "list" else "parent_id"
    assert failed["errors"][field][0]["code"] == "absent"
    assert "Restore" in failed["errors"][field][0]["message"]


@pytest.mark.django_db(transaction=True)
def test_same_file_at_once_makes_nothing_twice(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[M3] Whoever comes second finds what the first has made, row by row."""
    monkeypatch.setattr(import_views, "_places", threading.BoundedSemaphore(4))
    access = begin_session(alice).access
    one = lambda: report(ApiClient(access), TODOIST, "todoist", list="Home")  # noqa: E731

    found = at_once(*[one] * 4)

    assert sum(each["counts"]["created"] for each in found) == 7
    assert [each["counts"]["failed"] for each in found] == [0] * 4
    assert (Task.objects.count(), TaskList.objects.count()) == (6, 1)


# --- The document of this service -------------------------------------------------------------


def document(client: ApiClient) -> dict[str, Any]:
    """What the export answers."""
    found: dict[str, Any] = json.loads(client.get("/api/auth/me/export").content)
    return found


def belongings(client: ApiClient) -> dict[str, Any]:
    """Lists and tasks, those in the trash as well."""
    found = document(client)
    return {segment: found[segment] for segment in ("lists", "tasks")}


def furnish(client: ApiClient) -> None:
    """Makes what has every field, order and relation."""
    shop = data_of(client.post("/api/me/lists", {"name": "Shop", "color": "#1e90ff"}), 201)
    data_of(client.post("/api/me/lists", {"name": "Old", "is_archived": True}), 201)
    first = data_of(
        client.post(
            "/api/me/tasks",
            {
                "title": "Buy milk",
                "description": "Two\nlitres",
                "priority": "high",
                "labels": ["errands", "food"],
                "due_on": "2027-01-04",
                "due_time": "18:30",
                "time_zone": "Europe/Berlin",
                "start_on": "2027-01-01",
                "list_id": shop["id"],
            },
        ),
        201,
    )
    below = {"list_id": shop["id"], "parent_id": first["id"]}
    for title in ("b", "a"):
        data_of(client.post("/api/me/tasks", {"title": title, **below}), 201)
    last = data_of(client.post("/api/me/tasks", {"title": "c", **below}), 201)
    sibling = tasks_of(client)["b"]["id"]
    data_of(client.post(f"/api/me/tasks/{last['id']}/move", {"before": sibling}))
    rule = {"recurrence": "FREQ=WEEKLY;COUNT=9", "due_on": "2027-01-04"}
    recurring = data_of(client.post("/api/me/tasks", {"title": "Water", **rule}), 201)
    data_of(client.patch(f"/api/me/tasks/{recurring['id']}/complete", {}))
    trashed = data_of(client.post("/api/me/tasks", {"title": "Gone"}), 201)
    client.delete(f"/api/me/tasks/{trashed['id']}")


def compared(client: ApiClient) -> dict[str, list[Any]]:
    """All that there is but for ids, versions and the moment, with names in place of ids."""
    found = {
        segment: [each for each in rows if each["deleted_at"] is None]
        for segment, rows in belongings(client).items()
    }
    names = {each["id"]: each["name"] for each in found["lists"]}
    names |= {each["id"]: f"{each['title']} {each['due_on']}" for each in found["tasks"]}
    own_only = ("id", "user_id", "version", "etag", "updated_at", "position")
    references = ("list_id", "parent_id", "series_id", "next_task_id")

    def plain(row: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name not in own_only}
        return kept | {name: names.get(row[name]) for name in references if name in row}

    return {
        segment: [plain(row) for row in sorted(rows, key=lambda row: (row["position"], row["id"]))]
        for segment, rows in found.items()
    }


def in_their_places(tasks: list[Any]) -> list[Any]:
    """The order of siblings counts, and no other."""
    return sorted(tasks, key=lambda task: (str(task["list_id"]), str(task["parent_id"])))


def test_document_of_one_account_makes_the_same_in_another(
    alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[M5] Times, series, order and relations included; ids are others."""
    furnish(alice_client)
    file = json.dumps(document(alice_client)).encode()

    found = report(bob_client, file, "todo")

    assert found["counts"] == {"created": 8, "merged": 0, "skipped": 1, "failed": 0}
    assert found["notes"] == ["Not taken: account, identities, sessions, tokens."]
    here, there = compared(alice_client), compared(bob_client)
    assert there["lists"] == here["lists"]
    assert in_their_places(there["tasks"]) == in_their_places(here["tasks"])
    assert not {each["id"] for each in tasks_of(alice_client).values()} & {
        each["id"] for each in tasks_of(bob_client).values()
    }
    (trashed,) = rows_of(found, "skipped")
    assert "trash" in trashed["notes"][0]


def furnish_by_chance(client: ApiClient, seed: int) -> None:
    """Lists and tasks, of any fields and in any places, some of them done, moved or deleted."""
    chance = Random(seed)
    path = "/api/me/tasks"
    lists = [
        data_of(client.post("/api/me/lists", {"name": f"List {number}"}), 201)["id"]
        for number in range(chance.randint(0, 3))
    ]
    made: list[Any] = []
    for number in range(25):
        day = f"20{chance.randint(26, 30)}-0{chance.randint(1, 9)}-1{chance.randint(0, 9)}"
        fields: dict[str, Any] = {
            "title": f"Task {number}",
            "priority": chance.choice(["none", "low", "medium", "high", "urgent"]),
            "labels": chance.sample(["a", "b", "c"], chance.randint(0, 3)),
            "description": chance.choice([None, "", " two\nlines "]),
            "is_completed": chance.random() < 0.2,
            "list_id": chance.choice([None, *lists]),
        }
        if chance.random() < 0.6:
            fields |= {"due_on": day, "start_on": chance.choice([None, "2026-01-01"])}
            if chance.random() < 0.5:
                fields |= {"due_time": "09:30:15", "time_zone": chance.choice([None, "Asia/Tokyo"])}
            if chance.random() < 0.5:
                fields["recurrence"] = chance.choice(["FREQ=DAILY;COUNT=3", "FREQ=MONTHLY"])
                fields["repeat_from"] = chance.choice(["due", "completion"])
        if made and chance.random() < 0.4:
            above = chance.choice(made)
            fields |= {"parent_id": above["id"], "list_id": above["list_id"]}
        created = client.post(path, fields)
        if created.status_code == 201:  # on a sixth level it isn't
            made.append(data_of(created, 201))
    for task in chance.sample(made, 6):
        client.patch(f"{path}/{task['id']}/complete", {})
    for task, other in zip(chance.sample(made, 4), chance.sample(made, 4), strict=True):
        client.post(f"{path}/{task['id']}/move", {"before": other["id"]})
    for task in chance.sample(made, 3):
        client.delete(f"{path}/{task['id']}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(6))
def test_any_document_makes_the_same_in_another_account(
    seed: int, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[M5] Whatever was done to it there."""
    furnish_by_chance(alice_client, seed)

    found = report(bob_client, json.dumps(document(alice_client)).encode(), "todo")

    assert rows_of(found, "failed") == []
    here, there = compared(alice_client), compared(bob_client)
    assert there["lists"] == here["lists"]
    assert in_their_places(there["tasks"]) == in_their_places(here["tasks"])
    assert (
        report(bob_client, json.dumps(document(alice_client)).encode(), "todo")["counts"]["created"]
        == 0
    )


def test_series_goes_on_after_an_import(alice_client: ApiClient, bob_client: ApiClient) -> None:
    """[M5] COUNT counts from the first day of the series, which is before the open task's."""
    furnish(alice_client)
    report(bob_client, json.dumps(document(alice_client)).encode(), "todo")
    ends = []
    for client in (alice_client, bob_client):
        open_ones = data_of(client.get("/api/me/tasks", query={"is_recurring": "true"}))
        while open_task := next((t for t in open_ones if not t["is_completed"]), None):
            data_of(client.patch(f"/api/me/tasks/{open_task['id']}/complete", {}))
            open_ones = data_of(client.get("/api/me/tasks", query={"is_recurring": "true"}))
        ends.append(sorted(task["due_on"] for task in open_ones))

    assert len(ends[0]) == 9
    assert ends[0] == ends[1]


@pytest.mark.parametrize("repeat_from", ["due", "completion"])
def test_skip_goes_on_from_the_imported_occurrence(
    repeat_from: str, alice_client: ApiClient
) -> None:
    """[Q2] And not from the beginning of its series, which was long before."""
    series = {
        "series_id": str(uuid4()),
        "occurrence_on": "2036-12-20",
        "series_start_on": "2036-12-01",
        "recurrence": "FREQ=DAILY",
        "repeat_from": repeat_from,
    }
    report(alice_client, own(tasks=[own_task(due_on="2036-12-20", **series)]), "todo")
    (task,) = data_of(alice_client.get("/api/me/tasks"))

    days = [
        data_of(alice_client.post(f"/api/me/tasks/{task['id']}/skip", {}))["due_on"]
        for _ in range(2)
    ]

    assert days == ["2036-12-21", "2036-12-22"]


def test_own_document_into_ones_own_account_changes_nothing(alice_client: ApiClient) -> None:
    """[M5] What is there is known by its own id."""
    furnish(alice_client)
    before = belongings(alice_client)

    found = report(alice_client, json.dumps(document(alice_client)).encode(), "todo")

    assert found["counts"] == {"created": 0, "merged": 0, "skipped": 9, "failed": 0}
    assert belongings(alice_client) == before


def test_purged_task_comes_back_under_another_id(alice_client: ApiClient) -> None:
    """[M5] Once: the second time it is there."""
    furnish(alice_client)
    file = json.dumps(document(alice_client)).encode()
    milk = tasks_of(alice_client)["Buy milk"]
    alice_client.delete(f"/api/me/tasks/{milk['id']}", query={"permanent": "true"})

    found = report(alice_client, file, "todo")

    assert {row["title"] for row in rows_of(found, "created")} == {"Buy milk", "a", "b", "c"}
    again = tasks_of(alice_client)["Buy milk"]
    assert again["id"] != milk["id"]
    assert again["list_id"] == milk["list_id"]
    assert report(alice_client, file, "todo")["counts"]["created"] == 0


def test_purged_occurrence_finds_the_next_one_that_is_there(alice_client: ApiClient) -> None:
    """[M5] The next one has the series by its own id."""
    rule = {"title": "a", "due_on": "2036-01-04", "recurrence": "FREQ=DAILY"}
    task = data_of(alice_client.post("/api/me/tasks", rule), 201)
    done = data_of(alice_client.patch(f"/api/me/tasks/{task['id']}/complete", {}))
    file = json.dumps(document(alice_client)).encode()
    alice_client.delete(f"/api/me/tasks/{task['id']}", query={"permanent": "true"})

    found = report(alice_client, file, "todo")

    (made,) = rows_of(found, "created")
    again = data_of(alice_client.get(f"/api/me/tasks/{made['id']}"))
    assert again["next_task_id"] == done["next_task_id"] is not None


def test_document_in_parts(bob_client: ApiClient) -> None:
    """[M5] Lists first, and tasks in files of their own."""
    shop, milk = {"id": str(uuid4()), "name": "Shop"}, own_task(list_id=None)
    milk["list_id"] = shop["id"]
    below = own_task("oat", list_id=shop["id"], parent_id=milk["id"])

    report(bob_client, own(lists=[shop]), "todo")
    report(bob_client, own(tasks=[milk]), "todo")
    report(bob_client, own(tasks=[below]), "todo")

    tasks = tasks_of(bob_client)
    assert tasks["oat"]["parent_id"] == tasks["Buy milk"]["id"]
    (own_list,) = data_of(bob_client.get("/api/me/lists"))
    assert {task["list_id"] for task in tasks.values()} == {own_list["id"]}


ODD_TASKS = [
    pytest.param({"title": ""}, {"title": "blank"}, id="no title"),
    pytest.param({"title": 5}, {"title": "invalid"}, id="title of a number"),
    pytest.param({"id": None}, {"id": "invalid"}, id="no id"),
    pytest.param({"id": 5}, {"id": "invalid"}, id="id of a number"),
    pytest.param({"color": "#fff"}, {"color": "unknown"}, id="unknown field"),
    pytest.param({"created_at": 5}, {"created_at": "rfc3339"}, id="no time"),
    pytest.param({"series_id": "x"}, {"series_id": "invalid"}, id="no series"),
    pytest.param({"occurrence_on": []}, {"occurrence_on": "day"}, id="no day"),
    pytest.param({"list_id": "inbox"}, {"list_id": "invalid"}, id="no list"),
    pytest.param({"parent_id": {}}, {"parent_id": "invalid"}, id="no parent"),
    pytest.param({"due_time": "09:00"}, {"due_time": "invalid"}, id="time without a day"),
    pytest.param({"time_zone": "UTC"}, {"time_zone": "invalid"}, id="zone without a time"),
    pytest.param({"recurrence": "FREQ=DAILY"}, {"recurrence": "invalid"}, id="rule without a day"),
    pytest.param(
        {"due_on": "2027-01-04", "recurrence": "FREQ=HOURLY"}, {"recurrence": "rule"}, id="rule"
    ),
    pytest.param(
        {"due_on": "2027-01-04", "start_on": "2027-01-05"}, {"start_on": "invalid"}, id="start"
    ),
    pytest.param({"description": "\x00"}, {"description": "null_characters_not_allowed"}, id="NUL"),
]


@pytest.mark.parametrize(("odd", "codes"), ODD_TASKS)
def test_wrong_row_fails_alone(
    odd: Mapping[str, Any], codes: Mapping[str, str], alice_client: ApiClient
) -> None:
    """[M1] With the errors that its own route would answer; what is below it fails with it."""
    wrong = {**own_task("wrong"), **odd}
    below = own_task("below", parent_id=wrong["id"] if isinstance(wrong["id"], str) else None)

    found = report(alice_client, own(tasks=[own_task("a"), wrong, below, own_task("z")]), "todo")

    (failed, *others) = rows_of(found, "failed")
    assert {name: faults[0]["code"] for name, faults in failed["errors"].items()} == codes
    assert failed["id"] is None
    assert [row["errors"]["parent_id"][0]["code"] for row in others] == ["absent" for row in others]
    assert len(others) == ("id" not in odd)
    assert {"a", "z"} <= tasks_of(alice_client).keys()


def test_times_that_lie_ahead_are_now(alice_client: ApiClient) -> None:
    """[M5]"""
    ahead = "2999-01-01T00:00:00Z"
    task = own_task(is_completed=True, created_at=ahead, completed_at=ahead)

    found = report(alice_client, own(tasks=[task]), "todo")

    assert len(found["rows"][0]["notes"]) == 2
    (made,) = data_of(alice_client.get("/api/me/tasks"))
    assert made["created_at"] == made["completed_at"] == made["updated_at"]


@pytest.mark.parametrize("file_format", ["todo", "google"])
def test_times_of_the_first_year_are_read(file_format: str, alice_client: ApiClient) -> None:
    """Some services write it where they have none; west of Greenwich it is no year at all."""
    first = "0001-01-01T00:00:01Z"
    completed = {"id": str(uuid4()), "title": "x", "status": "completed", "due": first}
    file = own(tasks=[own_task(is_completed=True, completed_at=first)])
    if file_format == "google":
        items = [{"title": "My Tasks", "items": [{**completed, "completed": first}]}]
        file = json.dumps({"kind": "tasks#taskLists", "items": items}).encode()

    found = report(alice_client, file, file_format, time_zone="America/New_York")

    assert found["counts"]["failed"] == 0
    (task,) = data_of(alice_client.get("/api/me/tasks"))
    assert task["completed_at"] == "0001-01-01T00:00:01.000000Z"


def test_open_task_brings_no_completion(alice_client: ApiClient) -> None:
    """[T2] Whatever else the row says."""
    task = own_task(is_completed=False, completed_at="2020-01-01T00:00:00Z")

    report(alice_client, own(tasks=[task]), "todo")

    assert data_of(alice_client.get("/api/me/tasks"))[0]["completed_at"] is None


@pytest.mark.parametrize(
    "more",
    [
        {"series_id": str(uuid4())},
        {"series_id": str(uuid4()), "occurrence_on": "2027-01-04", "series_start_on": "2027-01-04"},
    ],
    ids=["in part", "without a rule"],
)
def test_series_that_is_none_is_left_out(more: Mapping[str, Any], alice_client: ApiClient) -> None:
    found = report(alice_client, own(tasks=[own_task(due_on="2027-01-04", **more)]), "todo")

    assert found["counts"]["created"] == 1
    assert "series" in found["rows"][0]["notes"][0]
    assert data_of(alice_client.get("/api/me/tasks"))[0]["series_id"] is None


def test_series_that_begins_on_the_last_day_fails_no_others(alice_client: ApiClient) -> None:
    """[M1] No day comes after it."""
    last = own_task("last", due_on="9999-12-31", recurrence="FREQ=DAILY")

    found = report(alice_client, own(tasks=[own_task("first"), last]), "todo")

    assert found["counts"]["created"] == 2


@pytest.mark.parametrize("is_series", [True, False], ids=["of a series", "of none"])
def test_file_makes_nothing_that_is_there_a_next_one(
    is_series: bool, alice_client: ApiClient
) -> None:
    """[M3] Reopening takes the next one back, and it isn't of that series."""
    kept = data_of(alice_client.post("/api/me/tasks", {"title": "kept"}), 201)
    days = dict.fromkeys(("due_on", "occurrence_on", "series_start_on"), "2027-01-04")
    series = {**days, "series_id": str(uuid4()), "recurrence": "FREQ=DAILY"} if is_series else {}
    done = own_task("done", is_completed=True, next_task_id=kept["id"], **series)

    found = report(alice_client, own(tasks=[done]), "todo")

    task = f"/api/me/tasks/{found['rows'][0]['id']}"
    assert data_of(alice_client.get(task))["next_task_id"] is None
    data_of(alice_client.patch(f"{task}/complete", {"is_completed": False}))
    assert data_of(alice_client.get(f"/api/me/tasks/{kept['id']}")) == kept


def test_two_of_one_day_of_a_series_are_told(alice_client: ApiClient) -> None:
    """[Q2]"""
    series = {
        "series_id": str(uuid4()),
        "occurrence_on": "2027-01-04",
        "series_start_on": "2027-01-04",
        "recurrence": "FREQ=DAILY",
        "due_on": "2027-01-04",
    }

    found = report(
        alice_client, own(tasks=[own_task("a", **series), own_task("b", **series)]), "todo"
    )

    assert found["counts"] == {"created": 1, "merged": 0, "skipped": 0, "failed": 1}
    (failed,) = rows_of(found, "failed")
    assert failed["errors"]["non_field_errors"][0]["code"] == "CONFLICT"


def test_same_row_twice_in_a_file_is_made_once(alice_client: ApiClient) -> None:
    task = own_task()

    found = report(alice_client, own(tasks=[task, task]), "todo")

    assert found["counts"] == {"created": 1, "merged": 0, "skipped": 1, "failed": 0}
    assert "row 1" in found["rows"][1]["notes"][0]


def test_series_behind_its_changed_occurrence_is_taken(alice_client: ApiClient) -> None:
    """[M2] They have one UID, and any order."""
    day = "DUE;VALUE=DATE:20270104"
    changed = ["UID:1", "SUMMARY:changed", "RECURRENCE-ID;VALUE=DATE:20270105", day]

    file = calendar(changed, ["UID:1", "SUMMARY:series", day, "RRULE:FREQ=DAILY"])
    found = report(alice_client, file, "ics")

    assert [row["status"] for row in found["rows"]] == ["skipped", "created"]
    assert tasks_of(alice_client)["series"]["recurrence"] == "FREQ=DAILY"
    assert report(alice_client, file, "ics")["counts"]["created"] == 0


def test_wrong_row_leaves_its_id_to_a_right_one(alice_client: ApiClient) -> None:
    """[M1] Wherever it stands."""
    task = own_task()

    found = report(alice_client, own(tasks=[{**task, "created_at": 5}, task]), "todo")

    assert [row["status"] for row in found["rows"]] == ["failed", "created"]


# --- Whose ------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["list_id", "parent_id"])
def test_nothing_comes_to_what_is_anothers(
    field: str, alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[M6] Nor does the report say that there is such a thing."""
    furnish(alice_client)
    milk = tasks_of(alice_client)["Buy milk"]
    theirs = {"list_id": milk["list_id"], "parent_id": milk["id"]}[field]
    before = belongings(alice_client)
    reports = [
        report(bob_client, own(tasks=[own_task(**{field: place})]), "todo", dry_run="true")
        for place in (theirs, str(uuid4()))
    ]

    report(bob_client, own(tasks=[own_task(**{field: theirs})]), "todo")

    told = [[{**row, "id": None} for row in each["rows"]] for each in reports]
    assert told[0] == told[1]
    assert data_of(bob_client.get("/api/me/tasks"))[0][field] is None
    assert belongings(alice_client) == before


def test_ids_of_others_are_no_ones_own(alice_client: ApiClient, bob_client: ApiClient) -> None:
    """[M6] Of two who import one file each has their own."""
    furnish(alice_client)
    file = json.dumps(document(alice_client)).encode()
    before = belongings(alice_client)

    report(bob_client, file, "todo")
    report(bob_client, TODOIST, "todoist")
    found = report(alice_client, TODOIST, "todoist")

    assert found["counts"]["created"] == 6
    assert before["lists"] == belongings(alice_client)["lists"]
    ids = [
        set(Task.objects.filter(user__email=f"{name}@example.com").values_list("id", flat=True))
        for name in ("alice", "bob")
    ]
    assert not ids[0] & ids[1]


def test_id_that_another_has_taken_is_told_as_taken(
    alice_client: ApiClient, bob_client: ApiClient
) -> None:
    """[M6] Who knows another's id and file can be in their way, and no more."""
    dry = report(alice_client, HEADER + "task,x,,4,1,,,,", "todoist", dry_run="true")
    row_id = dry["rows"][0]["id"]
    data_of(bob_client.put(f"/api/me/tasks/{row_id}", {"title": "Mine"}, if_none_match="*"), 201)

    found = report(alice_client, HEADER + "task,x,,4,1,,,,\ntask,y,,4,1,,,,", "todoist")

    assert [row["status"] for row in found["rows"]] == ["failed", "created"]
    assert found["rows"][0]["errors"]["non_field_errors"][0]["code"] == "CONFLICT"
    assert "Mine" not in json.dumps(found)


def test_nothing_is_written_for_a_session_that_ends_meanwhile(
    alice_client: ApiClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[S3] Each batch looks at the token again."""
    perform = writing.Writer._perform

    def end_before(writer: Any, batch: Any) -> None:
        Session.objects.filter(user=alice).end()
        perform(writer, batch)

    monkeypatch.setattr(writing.Writer, "_perform", end_before)

    assert_error(send(alice_client, TODOIST, "todoist"), 401, "TOKEN_INVALID")

    assert not Task.objects.exists()


# --- Limits -----------------------------------------------------------------------------------


NO_FILES = [
    pytest.param("todo", b"{", id="no JSON"),
    pytest.param("todo", b"[]", id="no object"),
    pytest.param("todo", b"{}", id="no export"),
    pytest.param("todo", b'{"format": "todo-export"}', id="no version"),
    pytest.param("todo", b'{"format": "todo-export", "format_version": 2}', id="later version"),
    pytest.param("todo", own(tasks={}), id="no list of tasks"),
    pytest.param("todo", b"[" * 100_000, id="deep"),
    pytest.param("todo", b'{"format": "todo-export", "format": 1}', id="twice"),
    pytest.param("todo", GOOGLE, id="Google's"),
    pytest.param("google", own(), id="not Google's"),
    pytest.param("google", b'{"kind": "tasks#taskLists", "items": {}}', id="no items"),
    pytest.param("todoist", GOOGLE, id="no CSV"),
    pytest.param("todoist", b"a,b\nc,d\n", id="other CSV"),
    pytest.param("todoist", b'TYPE,CONTENT\ntask,"x\n', id="open quotation"),
    pytest.param("todoist", b"TYPE,CONTENT\ntask," + b"x" * 200_000, id="huge cell"),
    pytest.param("todoist", HEADER.encode("utf-16"), id="UTF-16"),
    pytest.param("todoist", b"TYPE,CONTENT\ntask,caf\xe9", id="Latin-1"),
    pytest.param("ics", b"BEGIN:VTODO\nEND:VTODO\n", id="no calendar"),
    pytest.param("ics", b"BEGIN:VCALENDAR\nBEGIN:VTODO\nEND:VCALENDAR\n", id="crossed"),
    pytest.param("ics", b"BEGIN:VCALENDAR\nBEGIN:VTODO\n", id="no end"),
    pytest.param("ics", b"END:VCALENDAR\n", id="an end alone"),
    pytest.param("ics", b"hello\n", id="a letter"),
    pytest.param("ics", b"\n\n", id="empty lines"),
    pytest.param("ics", b"BEGIN:X\n" * 100_000, id="deep calendar"),
]


@pytest.mark.parametrize(("file_format", "file"), NO_FILES)
def test_what_is_no_such_file_is_refused(
    file_format: str, file: bytes, alice_client: ApiClient
) -> None:
    """[M1] Whole, and says why."""
    response = send(alice_client, file, file_format)

    error = json.loads(response.content)["error"]
    assert response.status_code == 400, error
    assert error["code"] in ("PARSE_ERROR", "VALIDATION_ERROR")
    assert not Task.objects.exists()


def test_empty_body_is_no_file(alice_client: ApiClient) -> None:
    assert_error(send(alice_client, b"", "todo"), 400, "PARSE_ERROR")


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(("todo", own(tasks=[{}] * 5001)), id="todo"),
        pytest.param(("todoist", HEADER + "task,x,,,,,,,\n" * 5001), id="todoist"),
        pytest.param(
            (
                "google",
                json.dumps({"kind": "tasks#taskLists", "items": [{"items": [{}] * 5000}]}),
            ),
            id="google",
        ),
        pytest.param(("ics", calendar(*[["UID:1"]] * 5001)), id="ics"),
        pytest.param(("ics", calendar(["A:1"] * 250_001)), id="lines of ics"),
    ],
)
def test_too_many_rows_are_refused(file: tuple[str, Any], alice_client: ApiClient) -> None:
    """[M7] With advice, and before anything is made."""
    details = assert_error(send(alice_client, file[1], file[0]), 400, "VALIDATION_ERROR")

    (fault,) = details["non_field_errors"]
    assert fault["code"] == "max_length"
    assert "parts" in fault["message"]
    assert not Task.objects.exists()


def test_file_of_five_mebibytes_is_read(alice_client: ApiClient) -> None:
    """[M7]"""
    size = 5 * 1024 * 1024
    file = own(tasks=[own_task()])

    assert report(alice_client, file + b" " * (size - len(file)), "todo")["counts"]["created"] == 1
    over = send(alice_client, file + b" " * (size - len(file) + 1), "todo")
    assert_error(over, 413, "PAYLOAD_TOO_LARGE")


HUGE = 1_000_000
DEAR = [
    pytest.param("todoist", 'task,"' + "@a " * 40_000 + '",,,,,,,\n', id="labels"),
    pytest.param(
        "todoist", "task,x,,,,,,,\n" + 'note,"' + "[[file {" * 16_000 + '",,,,,,,\n', id="files"
    ),
    pytest.param("todoist", "task,x" + "," * HUGE, id="cells"),
    pytest.param("todoist", "\n" * HUGE + "task,x,,,,,,,", id="blank lines"),
    pytest.param("ics", "CATEGORIES:" + "a," * HUGE, id="categories"),
    pytest.param("ics", "DESCRIPTION;" + "X=1;" * HUGE + ":y", id="parameters"),
    pytest.param("ics", "DESCRIPTION:" + "x\n " * 80_000, id="folds"),
    pytest.param("ics", "RRULE:FREQ=DAILY;" + "BYDAY=MO," * 100_000, id="rule"),
    pytest.param("ics", "DUE:1\n" * 100_000, id="days"),
]


def unknown_fields(count: int) -> bytes:
    return own(tasks=[own_task() | {str(number): 0 for number in range(count)}])


def links(count: int) -> bytes:
    task = {"id": "1", "title": "x", "notes": "x" * 1_000_000, "links": [{"link": "a"}] * count}
    items = [{"title": "My Tasks", "items": [task]}]
    return json.dumps({"kind": "tasks#taskLists", "items": items}).encode()


@pytest.mark.parametrize(
    ("file_format", "file", "note"),
    [
        pytest.param("todo", unknown_fields(10_000), "Further unknown fields: 9997.", id="fields"),
        pytest.param("google", links(10_000), "Links that were left out: 10000.", id="links"),
    ],
)
def test_report_of_one_row_stays_short(
    file_format: str, file: bytes, note: str, alice_client: ApiClient
) -> None:
    """[M7] Of what comes in thousands it says how many."""
    found = report(alice_client, file, file_format)

    assert len(json.dumps(found)) < 10_000
    assert found["rows"][-1]["notes"] == [note]
    assert rows_of(found, "failed") == [found["rows"][-1]]


@pytest.mark.parametrize(("file_format", "text"), DEAR)
def test_dear_file_is_answered(file_format: str, text: str, alice_client: ApiClient) -> None:
    """[M7] What is too much of one row is said in its notes, or fails it."""
    file = HEADER + text if file_format == "todoist" else calendar(["UID:1", "SUMMARY:x", text])

    found = report(alice_client, file, file_format)

    assert len(found["rows"]) <= 2
    assert len(json.dumps(found)) < 100_000


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({"format": None}, "format", "required"),
        ({"format": "csv"}, "format", "invalid_choice"),
        ({"dry_run": "1"}, "dry_run", "invalid_choice"),
        ({"time_zone": "Berlin"}, "time_zone", "time_zone"),
        ({"list": "x"}, "list", "not_supported"),
        ({"atomic": "true"}, "atomic", "unknown"),
    ],
    ids=["none", "format", "dry_run", "time_zone", "list", "unknown"],
)
def test_wrong_parameters_are_refused(
    query: Mapping[str, Any], field: str, code: str, alice_client: ApiClient
) -> None:
    """[B4]"""
    query = {name: value for name, value in {"format": "todo", **query}.items() if value}
    response = alice_client.call(
        "POST", IMPORT, own(), query=query, content_type="application/octet-stream"
    )

    details = assert_error(response, 400, "VALIDATION_ERROR")
    assert details[field][0]["code"] == code


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "text/csv; charset=utf-8", "text/calendar", ""),
        "application/x-www-form-urlencoded",  # of curl --data-binary
    ],
)
def test_file_may_have_any_fitting_name(content_type: str, alice_client: ApiClient) -> None:
    """[M1]"""
    found = report(alice_client, TODOIST, "todoist", content_type=content_type)

    assert found["counts"]["created"] == 6


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data; boundary=x", "text/csv; charset=iso-8859-1", "application/zip"],
)
def test_forms_and_other_encodings_are_refused(content_type: str, alice_client: ApiClient) -> None:
    response = send(alice_client, TODOIST, "todoist", content_type=content_type)

    assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert "--data-binary" in json.loads(response.content)["error"]["message"]


@pytest.mark.parametrize("header", ["if_match", "if_none_match", "idempotency_key"])
def test_headers_without_effect_are_refused(header: str, alice_client: ApiClient) -> None:
    """[B4] It can be sent again without a key."""
    response = send(alice_client, TODOIST, "todoist", headers={header: "*"})

    assert_error(response, 400, "VALIDATION_ERROR")
    assert not Task.objects.exists()


def test_files_are_counted_and_not_their_rows(alice_client: ApiClient, settings: Any) -> None:
    """[M7] Dry runs among them; before the file is looked at."""
    limits = {"imports": Rate(2, 3600), "writes": Rate(1, 3600)}
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, **limits}

    first = send(alice_client, TODOIST, "todoist", dry_run="true")
    assert (first.status_code, first["RateLimit-Remaining"]) == (200, "1")
    report(alice_client, TODOIST, "todoist")
    assert_error(send(alice_client, b"x", "todoist"), 429, "RATE_LIMITED")

    assert Task.objects.count() == 6
    assert RateCounter.objects.get().hits == 3


def test_one_file_at_a_time_in_a_process(
    alice_client: ApiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[M7] The next is refused, and can be sent again: it wasn't counted."""
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "imports": Rate(1, 3600)}
    monkeypatch.setattr(import_views, "_places", threading.BoundedSemaphore(1))
    with import_views._places:
        response = send(alice_client, TODOIST, "todoist")

    assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert response["Retry-After"] == "3"
    assert not RateCounter.objects.exists()
    assert report(alice_client, TODOIST, "todoist")["counts"]["created"] == 6


def test_what_there_was_no_time_for_is_made_by_the_next(
    alice_client: ApiClient, settings: Any
) -> None:
    """[M7] The report says which rows; nothing is lost, and nothing made twice."""
    settings.IMPORT_TIME_LIMIT_SECONDS = -1

    found = report(alice_client, TODOIST, "todoist")

    assert found["counts"] == {"created": 0, "merged": 1, "skipped": 1, "failed": 8}
    errors = rows_of(found, "failed")[0]["errors"]
    assert errors["non_field_errors"][0]["code"] == "unfinished"
    settings.IMPORT_TIME_LIMIT_SECONDS = 7
    assert report(alice_client, TODOIST, "todoist")["counts"]["created"] == 6


def test_lists_beyond_the_limit_fail_with_their_tasks(alice_client: ApiClient, alice: User) -> None:
    """[O1] And the others come in."""
    TaskList.objects.bulk_create(
        TaskList(user=alice, name=str(number)) for number in range(LISTS_MAX - 1)
    )
    lists = [{"id": str(uuid4()), "name": name} for name in ("fits", "too many")]
    tasks = [own_task(each["name"], list_id=each["id"]) for each in lists]

    found = report(alice_client, own(lists=lists, tasks=tasks), "todo")

    assert [row["status"] for row in found["rows"]] == ["created", "failed", "created", "failed"]
    assert found["rows"][1]["errors"]["non_field_errors"][0]["code"] == "CONFLICT"
    assert found["rows"][3]["errors"]["list_id"][0]["code"] == "absent"


def test_batches_fit_their_answers(alice_client: ApiClient) -> None:
    """[M7] A hundred of the dearest rows would be more than a batch may answer."""
    text = "\x01" * 20_000
    tasks = [own_task(str(number), description=text) for number in range(40)]

    found = report(alice_client, own(tasks=tasks), "todo")

    assert found["counts"]["created"] == 40


def test_long_rows_that_were_made_meanwhile_are_there(
    alice_client: ApiClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[M3] Whatever another copy of the file had in them: they are told in batches that fit."""
    file = own(tasks=[own_task(str(number)) for number in range(100)])
    ids = [row["id"] for row in report(alice_client, file, "todo", dry_run="true")["rows"]]
    perform = writing.Writer._perform

    def make_before(writer: Any, batch: Any) -> None:
        if not Task.objects.exists():
            Task.objects.bulk_create(
                Task(id=each, user=alice, title="x", description="😀" * 20_000) for each in ids
            )
        perform(writer, batch)

    monkeypatch.setattr(writing.Writer, "_perform", make_before)

    found = report(alice_client, file, "todo")

    assert found["counts"]["skipped"] == 100
    assert [row["id"] for row in found["rows"]] == ids


@pytest.mark.parametrize("kind", ["list", "task"])
def test_what_another_import_has_made_meanwhile_is_a_place(
    kind: str, alice_client: ApiClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[M3] Also for what comes in later batches."""
    level = 1 if kind == "list" else 2
    lines = ["task,above,,4,1,,,,", *(f"task,{number},,4,{level},,,," for number in range(150))]
    file = HEADER + "\n".join(lines)
    dry = report(alice_client, file, "todoist", list="Home", dry_run="true")
    home, above, *_ = (row["id"] for row in dry["rows"])
    perform = writing.Writer._perform

    def make_before(writer: Any, batch: Any) -> None:
        if not TaskList.objects.exists():
            TaskList.objects.create(id=home, user=alice, name="Home")
            if kind == "task":
                Task.objects.create(id=above, user=alice, title="above", list_id=home)
        perform(writer, batch)

    monkeypatch.setattr(writing.Writer, "_perform", make_before)

    found = report(alice_client, file, "todoist", list="Home")

    assert found["counts"]["skipped"] == (1 if kind == "list" else 2)
    tasks = Task.objects.exclude(id=above)
    assert tasks.count() == 150
    parent_id = None if kind == "list" else UUID(above)
    assert set(tasks.values_list("list_id", "parent_id")) == {(UUID(home), parent_id)}


def test_imported_tasks_are_told_to_devices(alice_client: ApiClient) -> None:
    """[F1] [V1] As of any other write; a batch is one version of each kind."""
    since = meta_of(alice_client.get("/api/me/changes"))["next_since"]

    report(alice_client, TODOIST, "todoist", list="Home")

    changes = data_of(alice_client.get("/api/me/changes", query={"since": since}))
    assert [change["type"] for change in changes] == ["list", *["task"] * 6]
    assert len({change["version"] for change in changes}) == 2


def test_row_that_the_database_refuses_fails_alone(
    alice_client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[T2] Where the input's rule lets pass what the table's doesn't."""
    monkeypatch.setattr("todo_project.text._BREAKS_LINE", re.compile("(?!)"))
    tasks = [own_task("Before"), own_task("a\x1fb"), own_task("After")]

    found = report(alice_client, own(tasks=tasks), "todo")

    assert [row["status"] for row in found["rows"]] == ["created", "failed", "created"]
    assert found["rows"][1]["errors"]["title"][0]["code"] == "control_characters"


@pytest.mark.parametrize("count", [1, 50], ids=["one row", "fifty rows"])
def test_rows_take_few_statements(count: int, alice_client: ApiClient) -> None:
    """A look at the token, the count, what is there of tasks, and a batch of two."""
    texts: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        texts.append(sql)
        return execute(sql, params, many, context)

    file = HEADER + "".join(f"task,{number},,4,1,,,,\n" for number in range(count))
    with connection.execute_wrapper(note):
        report(alice_client, file, "todoist")

    assert len([text for text in texts if "SAVEPOINT" not in text]) == 5
