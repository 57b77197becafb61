"""What a list is to clients: its fields, each once. Statements, filters and orders follow."""

from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

from rest_framework.exceptions import ErrorDetail

from todo_project.api.serializers import StrictSerializer
from todo_project.resources.fields import (
    Color,
    Identifier,
    Instant,
    Line,
    Number,
    Position,
    Since,
    Tag,
)
from todo_project.resources.resource import Resource
from todo_project.resources.statement import Work
from todo_project.text import validate_marks

from .models import LIST_NAME_MAX_CHARACTERS, LISTS_MAX, TaskList


class TaskListSerializer(StrictSerializer):
    """A list of tasks."""

    examples: ClassVar = {
        "name": "Groceries",
        "color": "#1e90ff",
        "position": "00000000002a",
        "is_archived": False,
    }

    id = Identifier(read_only=True)
    user_id = Identifier(read_only=True, help_text="The owner.")
    name = Line(
        max_length=LIST_NAME_MAX_CHARACTERS,
        sorts=True,
        validators=[validate_marks],
        help_text="One line, with something to see.",
    )
    color = Color(allow_null=True, required=False, help_text="Kept in lower case.")
    position = Position(help_text="The manual order, by code point. What is new comes last.")
    is_archived = Since(
        of="archived_at",
        required=False,
        filter_help="Archived lists only, or the others.",
        help_text="Out of the way. Nothing else follows from it.",
    )
    created_at = Instant(read_only=True, sorts=True)
    updated_at = Instant(read_only=True, sorts=True)
    version = Number(
        read_only=True, help_text="The owner's clock when the list last changed. Only grows."
    )
    etag = Tag(read_only=True, help_text="The entity tag, as in the header `ETag`. For If-Match.")


LIST = Resource(
    model=TaskList,
    serializer_class=TaskListSerializer,
    name="list",
    segment="lists",
    default_ordering="position",
    imported=("created_at",),
    faults={
        "tasks_list_name_line": (
            "name",
            ErrorDetail("The name is no line, or has nothing to see.", code="blank"),
        ),
    },
    conflicting={"create", "restore"},
    conflicts={
        "tasks_list_most": f"You have {LISTS_MAX} lists already, the most that there can be. "
        "Delete one before.",
    },
)


@lru_cache
def keeping_tasks(work: Work) -> Work:
    """A deletion of a list that moves its tasks to the inbox before.

    Else they go with it, by the table's triggers (migration 0016), whoever writes.
    """
    stamps = "version = written.version," if work.stamps else ""
    moved = f"""
        moved AS (
            UPDATE tasks_task AS task
               SET list_id = NULL, {stamps} updated_at = statement_timestamp()
              FROM written
             WHERE task.user_id = %(user_id)s AND task.list_id = written.id
               AND task.deleted_at IS NULL
            RETURNING task.user_id, task.version, task.id
        )
    """
    logged = """
        moved_logged AS (
            INSERT INTO todo_project_change (user_id, version, type, id)
            SELECT user_id, version, 'task', id FROM moved
        )
    """
    parts = (moved, logged) if work.stamps else (moved,)
    return replace(work, name=f"{work.name}_alone", beside=parts)
