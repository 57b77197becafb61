"""What stands on a person's tasks as labels. No table has them: a label is there while a task is.

To list them reads all of the person's tasks that aren't in the trash, whatever the page: how many
these are is what it costs. To rename one, or to take it off, reads all their tasks, and writes
those that have it.
"""

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

from rest_framework import serializers

from todo_project.api.callers import Caller
from todo_project.api.serializers import StrictSerializer, WordField
from todo_project.resources.statement import Work, read_sql, rows_of


class LabelSerializer(StrictSerializer):
    """A label."""

    examples: ClassVar = {"name": "errands"}

    name = WordField(help_text="One line, with something to see and no comma. Kept as NFC.")
    open_tasks = serializers.IntegerField(
        read_only=True, min_value=0, help_text="How many open tasks have it."
    )


def fetch_labels(caller: Caller, limit: int, after: str | None) -> Sequence[tuple[str, int]]:
    """The names after one, and how many open tasks have each: one more than `limit` at most."""
    sql = _labels_sql(caller.live_sql, is_later=after is not None)
    rows = rows_of(caller, sql, {"rows": limit + 1, "after": after})
    return [(name, open_tasks) for name, open_tasks in rows if name is not None]


@cache
def _labels_sql(live_sql: str, *, is_later: bool) -> str:
    beyond = 'AND name COLLATE "C" > %(after)s' if is_later else ""
    return read_sql(
        "label.list",
        live_sql,
        f"""
        SELECT label.name, label.open_tasks
          FROM caller
          LEFT JOIN (
              SELECT name, count(*) FILTER (WHERE task.completed_at IS NULL) AS open_tasks
                FROM tasks_task AS task, unnest(task.labels) AS name
               WHERE task.user_id = %(user_id)s AND task.deleted_at IS NULL {beyond}
               GROUP BY name
               ORDER BY name COLLATE "C"
               LIMIT %(rows)s
          ) AS label ON true
        """,
    )


def _of_its_tasks(name: str, written_sql: str, labels_sql: str, differs: str = "true") -> Work:
    """A work on all tasks that have `label`, in one version; with those in the trash.

    `written_sql` gives its row where a task outside of the trash has the label. `labels_sql` is
    what becomes of the labels of each task.
    """
    changed = f"""
        changed AS (
            UPDATE tasks_task AS task
               SET labels = {labels_sql}, version = written.version,
                   updated_at = statement_timestamp()
              FROM written
             WHERE task.user_id = %(user_id)s AND {_HAS_LABEL} AND {differs}
            RETURNING task.id, task.version
        )
    """
    return Work(
        name=f"label.{name}",
        type="task",
        written_sql=written_sql,
        beside=(changed,),
        logged="changed",
    )


_HAS_LABEL = "task.labels @> ARRAY[%(label)s::text]"
_DIFFERS = "%(label)s::text <> %(name)s::text"

# Where a task has both, `name` stays in place of the first of them. Where nothing differs the
# version is the one that there is.
RENAMING = _of_its_tasks(
    "rename",
    f"""
        SELECT CASE WHEN {_DIFFERS} THEN clock.version ELSE clock.version - 1 END AS version,
               NULL AS tag,
               (
                   SELECT row_to_json(answer)::text
                     FROM (SELECT %(name)s::text AS name, found.open_tasks) AS answer
               ) AS json
          FROM clock CROSS JOIN LATERAL (
              SELECT count(*) FILTER (WHERE task.completed_at IS NULL) AS open_tasks,
                     bool_or({_HAS_LABEL}) AS is_there
                FROM tasks_task AS task
               WHERE task.user_id = clock.user_id AND task.deleted_at IS NULL
                 AND task.labels && ARRAY[%(label)s::text, %(name)s::text]
          ) AS found
         WHERE found.is_there
    """,
    """
        CASE WHEN array_position(task.labels, %(name)s) < array_position(task.labels, %(label)s)
             THEN array_remove(task.labels, %(label)s)
             ELSE array_replace(array_remove(task.labels, %(name)s), %(label)s, %(name)s) END
    """,
    _DIFFERS,
)

REMOVAL = _of_its_tasks(
    "remove",
    f"""
        SELECT clock.version, NULL AS tag, '' AS json
          FROM clock
         WHERE EXISTS (
                   SELECT FROM tasks_task AS task
                    WHERE task.user_id = clock.user_id AND task.deleted_at IS NULL
                      AND {_HAS_LABEL}
               )
    """,
    "array_remove(task.labels, %(label)s)",
)
