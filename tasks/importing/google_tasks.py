"""Google Takeout's `Tasks.json`: lists with their tasks, as Google's API has them, in one document.

The shape of tasks is that of lianaling/tasks-migration (`request_tasks.json`), the outer one that
of n9v9/google-tasks-to-tasks-org (`google_task.go`) and of abrignoni/RLEAPP
(`scripts/artifacts/googleTasks.py`).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from io import BytesIO
from typing import Any

from rest_framework.exceptions import ParseError, ValidationError

from tasks.days import in_zone
from todo_project.api.parsers import StrictJSONParser
from todo_project.api.serializers import TimeField

from .rows import (
    Document,
    Kind,
    Options,
    Row,
    Sources,
    add_to_description,
    check_count,
    quote,
    set_name,
    set_title,
    short,
    shown,
)

_KIND = "tasks#taskLists"

# What says nothing to people, or is read below.
_READ = frozenset(
    {
        *("kind", "id", "etag", "selfLink", "webViewLink", "title", "notes", "status", "due"),
        *("created", "updated", "completed", "parent", "position", "hidden", "deleted", "links"),
        "task_type",
    }
)


def read(file: bytes, options: Options) -> Document:
    """Raises ParseError for what is no such document, ValidationError for one that is too long."""
    document = StrictJSONParser().parse(BytesIO(file))
    lists = document.get("items")
    if document.get("kind") != _KIND or not isinstance(lists, list):
        raise ParseError(
            f'The file is no Tasks.json of Google Takeout: it has no "kind" of "{_KIND}", or no '
            '"items".'
        )
    tasks = [_items(each) for each in lists]
    check_count(len(lists) + sum(map(len, tasks)))
    return Document(list(_rows(lists, tasks, options)))


def _items(tasks: Any) -> list[Any]:
    """Those of a list; an empty one has no `items` at all."""
    items = tasks.get("items", []) if isinstance(tasks, dict) else []
    return items if isinstance(items, list) else []


def _rows(lists: list[Any], tasks: list[list[Any]], options: Options) -> Iterator[Row]:
    sources, number = Sources(), 0
    for sent_list, items in zip(lists, tasks, strict=True):
        number += 1
        own_list = _list(number, sent_list, sources)
        yield own_list
        for sent in items:
            number += 1
            yield _task(number, sent, own_list, sources, options)


def _list(number: int, sent: Any, sources: Sources) -> Row:
    row = Row(number, Kind.LIST, "")
    if not isinstance(sent, dict):
        row.skip("It is no list of Google's.")
        return row
    title = shown(sent.get("title"))
    row.source = _source(sent, sources, "list", title)
    set_name(row, title)
    return row


def _task(number: int, sent: Any, own_list: Row, sources: Sources, options: Options) -> Row:
    row = Row(number, Kind.TASK, "", in_list=own_list.source or None)
    if not isinstance(sent, dict):
        row.skip("It is no task of Google's.")
        return row
    row.source = _source(sent, sources, own_list.source, shown(sent.get("title")))
    row.title = shown(sent.get("title"))
    if sent.get("deleted") is True:
        row.skip("It is deleted there.")
        return row
    row.below = short(sent["parent"]) if isinstance(sent.get("parent"), str) else None
    row.rank = shown(sent.get("position"))
    if isinstance(sent.get("notes"), str):
        row.data["description"] = sent["notes"] or None
    set_title(row, sent["title"] if isinstance(sent.get("title"), str) else "")
    row.data["is_completed"] = sent.get("status") == "completed"
    _read_times(row, sent, options)
    _read_rest(row, sent)
    return row


def _read_times(row: Row, sent: Mapping[str, Any], options: Options) -> None:
    times = {name: _instant(row, sent, name) for name in ("due", "created", "completed")}
    if (due := times["due"]) is not None:
        row.data["due_on"] = _day(due, options.time_zone).isoformat()
    row.past = {"created_at": times["created"]}
    if row.data["is_completed"]:
        row.past["completed_at"] = times["completed"]


def _day(due: datetime, zone: str | None) -> date:
    """The day that somebody chose.

    Google's API has midnight of UTC, and Takeout also that of wherever the person is, written in
    UTC: 16:00 is the next day in Shanghai.
    """
    if due.timetz() == time(tzinfo=UTC):
        return due.date()
    return (in_zone(zone or "UTC", due) or due).date()


def _instant(row: Row, sent: Mapping[str, Any], name: str) -> datetime | None:
    value = sent.get(name)
    if value is None or value == "":
        return None
    try:
        return TimeField().to_internal_value(value)
    except ValidationError:
        row.notes.append(f"{name} {quote(str(value))} is no time, and was left out.")
        return None


def _read_rest(row: Row, sent: Mapping[str, Any]) -> None:
    links = sent.get("links")
    left_out = 0
    for link in links if isinstance(links, list) else []:
        text = _link(link)
        if text is None or not add_to_description(row, text):
            left_out += 1
    if left_out:
        row.notes.append(f"Links that were left out: {left_out}.")
    if sent.get("task_type") not in (None, "PERSONAL_TASK"):
        row.notes.append(f"It is of the type {quote(str(sent['task_type']))}, which isn't taken.")
    others = sorted(name for name in sent.keys() - _READ if sent[name])
    if others:
        row.notes.append(f"Not taken: {', '.join(quote(name) for name in others)}.")


def _link(link: Any) -> str | None:
    if not isinstance(link, dict) or not isinstance(link.get("link"), str):
        return None
    text = link.get("description")
    return f"{text}: {link['link']}" if isinstance(text, str) and text else str(link["link"])


def _source(sent: Mapping[str, Any], sources: Sources, *otherwise: str) -> str:
    given = sent.get("id")
    return short(given) if isinstance(given, str) and given else sources.name(*otherwise)
