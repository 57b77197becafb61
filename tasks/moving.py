"""Moves: into another list, below another task, to another place among its siblings."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from django.db import connection, transaction
from rest_framework.exceptions import ErrorDetail, ValidationError

from todo_project.api.callers import Caller
from todo_project.api.serializers import StrictSerializer
from todo_project.clock import lock_clocks
from todo_project.owners import POSITION_DIGITS
from todo_project.resources import writes
from todo_project.resources.fields import ReferenceField
from todo_project.resources.preconditions import MATCHES, expected_version
from todo_project.resources.resource import RESOURCES
from todo_project.resources.statement import Work


class MoveSerializer(StrictSerializer):
    """Where a task shall be. What is left out follows from the rest, or stays."""

    examples: ClassVar = {
        "list_id": None,
        "parent_id": None,
        "before": "0192d7a4-7b1e-7c3a-9f54-5a1d2f6b8c90",
        "after": None,
    }

    list_id = ReferenceField(
        allow_null=True, required=False, help_text="The list, or null: the inbox."
    )
    parent_id = ReferenceField(
        allow_null=True, required=False, help_text="The task of which it is a part, or null."
    )
    before = ReferenceField(
        allow_null=True, required=False, help_text="The sibling that shall come after it."
    )
    after = ReferenceField(
        allow_null=True,
        required=False,
        help_text="The sibling that shall come before it. Without one it comes last.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("before") and attrs.get("after"):
            message = "Name one neighbour: before or after."
            raise ValidationError({"after": [ErrorDetail(message, code="invalid")]})
        return attrs


def place(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of `moving`."""
    return {
        "names_list": "list_id" in data,
        "list_id": data.get("list_id"),
        "names_parent": "parent_id" in data,
        "parent_id": data.get("parent_id"),
        "neighbour_id": data.get("before") or data.get("after"),
        "is_before": data.get("before") is not None,
    }


@cache
def moving() -> Work:
    """Moves a task, with what is below it. Where it is already, it stays as it is.

    The database finds its place (migration 0028), and refuses circles and what is too deep (0025):
    both look at what others did while this waited for the clock.
    """
    resource = RESOURCES["task"]
    goal = """tasks_goal(
        clock.user_id, %(id)s, clock.version,
        %(names_list)s, %(list_id)s::uuid, %(names_parent)s, %(parent_id)s::uuid,
        %(neighbour_id)s::uuid, %(is_before)s, {is_admitted}
    ) AS goal"""
    differs = """ROW(item.list_id, item.parent_id, item.position)
        IS DISTINCT FROM ROW(goal.list_id, goal.parent_id, goal.place)"""

    def statement(sources: str, found: str) -> str:
        # Nothing is numbered anew for what a precondition is against.
        of_current = MATCHES.replace("item.", "current.")
        is_admitted = of_current if "current" in sources else "true"
        return f"""
            UPDATE {resource.table} AS item
               SET list_id = goal.list_id, parent_id = goal.parent_id, position = goal.place,
                   version = CASE WHEN {differs} THEN clock.version ELSE item.version END,
                   updated_at = CASE WHEN {differs} THEN statement_timestamp()
                                     ELSE item.updated_at END
              FROM {sources}, {goal.format(is_admitted=is_admitted)} WHERE {found}
            RETURNING {writes.returned(resource)}
        """

    return writes.of_one_row(resource, "move", statement, differs=differs)


# In their order, behind all that there is and before all that comes: by the version, then by their
# number. `updated_at` stays: nobody has done anything to them. Those in the trash have their place,
# too. Gives the new version of the task that is to be moved, where it is one of them and as the
# request's precondition has it.
_RENUMBER = f"""/* task.renumber */
    WITH clock AS (
        SELECT user_id, epoch, version + 1 AS version
          FROM todo_project_clock WHERE user_id = %(user_id)s
    ), siblings AS (
        SELECT sibling.id, row_number() OVER (ORDER BY sibling.position, sibling.id) AS number
          FROM tasks_task AS neighbour JOIN tasks_task AS sibling USING (user_id)
         WHERE neighbour.user_id = %(user_id)s AND neighbour.id = %(neighbour_id)s
           AND sibling.parent_id IS NOT DISTINCT FROM neighbour.parent_id
           AND (sibling.parent_id IS NOT NULL
                OR sibling.list_id IS NOT DISTINCT FROM neighbour.list_id)
    ), written AS (
        UPDATE tasks_task AS task
           SET position = lpad(to_hex(clock.version), {POSITION_DIGITS}, '0')
                          || lpad(to_hex(siblings.number), 6, '0'),
               version = clock.version
          FROM siblings, clock WHERE task.id = siblings.id AND task.user_id = clock.user_id
        RETURNING task.user_id, task.version, task.id
    ), logged AS (
        INSERT INTO todo_project_change (user_id, version, type, id)
        SELECT user_id, version, 'task', id FROM written
    ), advanced AS (
        UPDATE todo_project_clock AS clock SET version = written.version
          FROM (SELECT DISTINCT user_id, version FROM written) AS written
         WHERE clock.user_id = written.user_id
    )
    SELECT written.version FROM written JOIN tasks_task AS item USING (id)
     WHERE id = %(id)s AND {MATCHES}
"""


def renumber(caller: Caller, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Makes room where there is none between two siblings: all of them get new positions.

    That is one version of theirs. It is so after some two hundred moves to the same place, and
    where tasks have no position because they are from before there were any.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        lock_clocks([caller.user_id])
        values = {"if_match": None, **parameters, "user_id": caller.user_id}
        cursor.execute(_RENUMBER, values)
        row = cursor.fetchone()
    return {} if row is None else {"if_match": expected_version(row[0])}
