"""The SQL of the task routes: one statement for each request, answered by PostgreSQL as JSON.

For views.py. Every statement begins with the caller, the user of a token that counts, and finds and
writes only what is that user's; where it no longer counts it does nothing, and the caller's refusal
is raised. A write is also counted by the statement that does it, and is not done where it is one
too many. So each request takes one round trip.

What PostgreSQL writes is what TaskSerializer would, byte for byte. docs/performance.md says what
this is worth beside Django's ORM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from todo_project.api.callers import Caller
from todo_project.api.limits import COUNT_SQL, Counter, Usage
from todo_project.api.ordering import Ordering
from todo_project.api.pagination import Position, within_bytes

if TYPE_CHECKING:
    from todo_project.postgresql.base import DatabaseWrapper

# RFC 3339, in UTC and microseconds, as settings.REST_FRAMEWORK["DATETIME_FORMAT"].
_TIME = """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS {0}"""
# A task as TaskSerializer writes it: text, because psycopg would read JSON.
_JSON = f"""(
    SELECT row_to_json(answer)::text
      FROM (SELECT task.id, task.user_id, task.title, task.description, task.is_completed,
                   {_TIME.format("completed_at")},
                   {_TIME.format("created_at")},
                   {_TIME.format("updated_at")}) AS answer
)"""

# How many texts of statements a process remembers, of pages and of writes: clients can ask for many
# more, by the filters and orders that they name, and by the fields that they send. So many as five
# threads have statements prepared; some 4 KiB and 2 to 10 microseconds each.
TEXTS_MAX = 1024

# What a page needs of a task: without the folded texts.
_COLUMNS = "id, user_id, title, description, is_completed, completed_at, created_at, updated_at"

# Each of the words stands somewhere. The first, which is the longest, is looked for by strpos():
# it takes half the time of LIKE, and most tasks no further. One statement, however many words.
# Folded once, by subqueries that depend on no row; escaped after that, because the fold makes
# ordinary signs of full-width ones. By CASE, of which the planner expects every second task: of
# LIKE ALL it expects none, and would rather sort all tasks than read the newest in their order.
_FIRST_WORD = "(SELECT tasks_fold((%(search)s::text[])[1]))"
_SEARCH = rf"""
    CASE WHEN strpos(title_folded, {_FIRST_WORD}) > 0
           OR strpos(description_folded, {_FIRST_WORD}) > 0
         THEN title_folded || coalesce(chr(10) || description_folded, '') LIKE ALL ((
             SELECT array_agg(
                        '%%' || regexp_replace(tasks_fold(word), '([\\%%_])', '\\\1', 'g') || '%%'
                    )
               FROM unnest(%(search)s::text[]) AS word
         )::text[])
         ELSE false
    END
"""

_FILTERS: Mapping[str, str] = {
    "is_completed": "is_completed = %(is_completed)s",
    "search": _SEARCH,
    "created_after": "created_at >= %(created_after)s",
    "created_before": "created_at < %(created_before)s",
    "updated_after": "updated_at >= %(updated_after)s",
    "updated_before": "updated_at < %(updated_before)s",
    "completed_after": "completed_at >= %(completed_after)s",
    "completed_before": "completed_at < %(completed_before)s",
}

# Rows until their texts pass PAGE_BYTES_MAX, and the one with which they do: as JSON they have more
# bytes, never fewer, so that the page ends among them. The sum costs a page of 20 some 20
# microseconds, and nothing is fetched for it that stands outside of the table. Pages of the default
# size go without: the longest texts make 6 MiB of 50 tasks, not of 200 tasks 24.
_WEIGHED = f"""
    SELECT * FROM (
        SELECT *, sum(octet_length(title) + coalesce(octet_length(description), 0))
                      OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
          FROM ({{}}) AS task
    ) AS task WHERE bytes_before IS NULL OR bytes_before <= {settings.PAGE_BYTES_MAX}
"""

# What a change sets a column to, and when that makes a difference.
_CHANGES: Mapping[str, tuple[str, str]] = {
    "title": ("title = %(title)s::text", "task.title <> %(title)s::text"),
    "description": (
        "description = %(description)s",
        "task.description IS DISTINCT FROM %(description)s",
    ),
    # is_completed is generated from completed_at, which stays when a task is completed again.
    "is_completed": (
        """completed_at = CASE WHEN %(is_completed)s
                              THEN coalesce(task.completed_at, statement_timestamp()) END""",
        "task.is_completed <> %(is_completed)s",
    ),
}


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """Tasks as JSON; whether there are more, and how many in all."""

    tasks: Sequence[str]
    has_more: bool
    total: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """A task as JSON after a write, or None where nothing was written, and how the write counted.

    Where it was one too many, nothing was written.
    """

    task: str | None
    usage: Usage | None


def fetch_page(caller: Caller, query: Mapping[str, Any], after: Position | None) -> FetchedPage:
    """The page of `query["limit"]` of the caller's tasks after a position, filtered by `query`."""
    limit = query["limit"]
    shape = _PageShape(
        filters=tuple(name for name in _FILTERS if name in query),
        ordering=query["ordering"],
        is_later=after is not None,
        is_weighed=limit > settings.PAGE_SIZE_DEFAULT,
        with_total=query["total"],
    )
    parameters = {name: query[name] for name in shape.filters}
    if "search" in parameters:
        words = dict.fromkeys(query["search"].split())
        parameters["search"] = sorted(words, key=len, reverse=True)
    if after is not None:
        parameters |= after.parameters
    # The row too many tells of a next page.
    rows = _rows(caller, _page_sql(caller.live_sql, shape), {**parameters, "rows": limit + 1})
    found = [task for task, _ in rows if task is not None]
    tasks = within_bytes(found[:limit])
    return FetchedPage(tasks, has_more=len(tasks) < len(found), total=rows[0][1])


def fetch(caller: Caller, task_id: UUID | None) -> str | None:
    """One of the caller's tasks; None where there is no such."""
    rows = _rows(caller, _fetch_sql(caller.live_sql), {"task_id": task_id})
    task: str | None = rows[0][0]
    return task


def create(
    caller: Caller, counter: Counter | None, task_id: UUID, values: Mapping[str, Any]
) -> Written:
    """Adds a task. Raises IntegrityError where a constraint is against it, or the user is gone."""
    defaults = {"description": None, "is_completed": False}
    return _write(caller, counter, _CREATE, {**defaults, **values, "task_id": task_id})


def change(
    caller: Caller, counter: Counter | None, task_id: UUID | None, changes: Mapping[str, Any]
) -> Written:
    """Changes some fields of a task, and touches no others. Raises IntegrityError.

    What the task has already makes no difference: `updated_at` stays.
    """
    work = _change_sql(tuple(name for name in _CHANGES if name in changes))
    return _write(caller, counter, work, {**changes, "task_id": task_id})


def delete(caller: Caller, counter: Counter | None, task_id: UUID | None) -> Written:
    """Deletes a task, and gives it as it was."""
    return _write(caller, counter, _DELETE, {"task_id": task_id})


def _rows(caller: Caller, sql: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """What a statement gives, whose first rows depend on the caller alone: at least one."""
    database = cast("DatabaseWrapper", connections[DEFAULT_DB_ALIAS])
    rows = database.fetch_all(sql, {**parameters, **caller.parameters})
    if not rows:
        raise caller.refusal()
    caller.note_use()
    return rows


@cache
def _fetch_sql(live_sql: str) -> str:
    return f"""
        WITH caller AS ({live_sql})
        SELECT task.json
          FROM caller
          LEFT JOIN LATERAL (
              SELECT {_JSON} AS json FROM tasks_task AS task
               WHERE task.id = %(task_id)s AND task.user_id = caller.user_id
          ) AS task ON true
    """


class _PageShape(NamedTuple):
    """What the text of a page's statement depends on; everything else is a parameter."""

    filters: tuple[str, ...]
    ordering: Ordering
    is_later: bool
    is_weighed: bool
    with_total: bool


@lru_cache(maxsize=TEXTS_MAX)
def _page_sql(live_sql: str, shape: _PageShape) -> str:
    # The caller's id as a value: from the row of `caller` the planner couldn't tell a user with
    # very many tasks, and would sort them all.
    matching = " AND ".join(["user_id = %(user_id)s", *(_FILTERS[name] for name in shape.filters)])
    counted = f"SELECT count(*) AS total FROM tasks_task WHERE {matching}"
    beyond = f" AND {shape.ordering.after_sql}" if shape.is_later else ""
    rows = f"""
        SELECT {_COLUMNS} FROM tasks_task
         WHERE {matching}{beyond}
         ORDER BY {shape.ordering.order_by_sql}
         LIMIT %(rows)s
    """
    if shape.is_weighed:
        rows = _WEIGHED.format(rows)
    # The row of the caller is joined to the page by a nested loop, which keeps its order: there is
    # no condition by which to join otherwise.
    return f"""
        WITH caller AS ({live_sql})
        SELECT page.json, counted.total
          FROM caller
          CROSS JOIN ({counted if shape.with_total else "SELECT NULL AS total"}) AS counted
          LEFT JOIN (
              SELECT {_JSON} AS json FROM ({rows}) AS task
          ) AS page ON true
    """


_CREATE = f"""
    INSERT INTO tasks_task AS task (id, user_id, title, description, completed_at)
    SELECT %(task_id)s, writer.user_id, %(title)s, %(description)s,
           CASE WHEN %(is_completed)s THEN statement_timestamp() END
      FROM writer
    RETURNING {_JSON} AS json
"""

_DELETE = f"""
    DELETE FROM tasks_task AS task USING writer
     WHERE task.id = %(task_id)s AND task.user_id = writer.user_id
    RETURNING {_JSON} AS json
"""


# It sets what was sent, and is one of many for it. A single one for all fields would set them all:
# the folded texts would be computed anew by each change. docs/performance.md has the figures.
@lru_cache(maxsize=TEXTS_MAX)
def _change_sql(fields: tuple[str, ...]) -> str:
    if not fields:
        return f"""
            SELECT {_JSON} AS json FROM tasks_task AS task, writer
             WHERE task.id = %(task_id)s AND task.user_id = writer.user_id
        """
    changes = [_CHANGES[field] for field in fields]
    return f"""
        UPDATE tasks_task AS task
           SET {", ".join(setting for setting, _ in changes)},
               updated_at = CASE WHEN {" OR ".join(difference for _, difference in changes)}
                                 THEN statement_timestamp() ELSE task.updated_at END
          FROM writer
         WHERE task.id = %(task_id)s AND task.user_id = writer.user_id
        RETURNING {_JSON} AS json
    """


def _write(
    caller: Caller, counter: Counter | None, work: str, parameters: Mapping[str, Any]
) -> Written:
    sql = _write_sql(caller.live_sql, work, is_counted=counter is not None)
    if counter is None:
        ((_, _, task),) = _rows(caller, sql, parameters)
        return Written(task, usage=None)
    counting = {**counter.parameters, "hits_max": counter.rate.limit}
    ((hits, reset_seconds, task),) = _rows(caller, sql, {**parameters, **counting})
    return Written(task, counter.usage(hits, reset_seconds))


@lru_cache(maxsize=TEXTS_MAX)
def _write_sql(live_sql: str, work: str, *, is_counted: bool) -> str:
    count = COUNT_SQL.format(source="caller")
    admitted = "WHERE counted.hits <= %(hits_max)s"
    if not is_counted:
        count = "SELECT NULL AS hits, NULL AS reset_seconds FROM caller"
        admitted = ""
    return f"""
        WITH caller AS MATERIALIZED ({live_sql}),
             counted AS ({count}),
             writer AS (SELECT caller.user_id FROM caller, counted {admitted}),
             written AS ({work})
        SELECT counted.hits, counted.reset_seconds, (SELECT json FROM written) FROM counted
    """
