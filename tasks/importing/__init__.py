"""Imports: files of other services, and of this one's export, become lists and tasks of a person's.

    rows.py          what a file holds, whatever its format, and what becomes of each row
    own_document.py  the formats: each reads a file, and gives its rows
    todoist.py, google_tasks.py, ical.py
    human_dates.py   dates as Todoist writes them
    plan.py          ids, places, order: what is to be written
    writing.py       writes it, by batches

A format knows nothing of ids and of the database; what plans and writes, nothing of formats.
"""

from collections.abc import Mapping

from . import google_tasks, ical, own_document, todoist
from .plan import Ids, Plan
from .rows import Document, Kind, Options, Reader, Row, Status
from .writing import Writer

FORMATS: Mapping[str, Reader] = {
    "todo": own_document.read,
    "todoist": todoist.read,
    "google": google_tasks.read,
    "ics": ical.read,
}
# Those whose files have no lists with names of their own.
WITH_LIST = frozenset({"todoist", "ics"})

__all__ = [
    "FORMATS",
    "WITH_LIST",
    "Document",
    "Ids",
    "Kind",
    "Options",
    "Plan",
    "Reader",
    "Row",
    "Status",
    "Writer",
]
