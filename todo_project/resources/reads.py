"""What is read of a resource: one row, or a page of them, answered by PostgreSQL as JSON.

Each is one statement, which begins with the caller and finds only what is the caller's
(statement.py). What PostgreSQL writes is what the serializer would, byte for byte.
docs/performance.md says what this is worth beside Django's ORM.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from todo_project.api.callers import Caller

from .ordering import Ordering
from .pages import Position, within_bytes
from .preconditions import list_tag_sql, unless_known
from .resource import IndexHint, Resource
from .statement import TEXTS_MAX, page_json_sql, read_sql, rows_of, weighed_sql


class FetchedPage(NamedTuple):
    """Rows as JSON in UTF-8; whether there are more, and how many in all; the list's tag.

    The tag is without `W/`. Where the client knows the tag, nothing else was read.
    """

    rows: Sequence[bytes]
    has_more: bool
    total: int | None
    tag: str
    is_known: bool


class Fetched(NamedTuple):
    """A row as JSON, None where the client knows its tag."""

    json: str | None
    tag: str
    is_trashed: bool


def fetch_page(
    caller: Caller,
    resource: Resource,
    query: Mapping[str, Any],
    after: Position | None = None,
    known: Sequence[str] | None = None,
) -> FetchedPage:
    """The page of `query["limit"]` of the caller's rows after a position, filtered by `query`."""
    limit = query["limit"]
    values = {name: query[name] for name in resource.filters if name in query}
    shape = _PageShape(
        conditions=tuple(resource.filters[name].condition(values[name]) for name in values),
        ordering=query["ordering"],
        hint=resource.hint(query),
        is_later=after is not None,
        is_weighed=limit > settings.PAGE_SIZE_DEFAULT,
        with_total=query["total"],
        is_conditional=known is not None,
    )
    parameters = {name: value for name, value in values.items() if value is not None}
    if "search" in parameters:
        words = dict.fromkeys(query["search"].split())
        parameters["search"] = sorted(words, key=len, reverse=True)
    if after is not None:
        parameters |= after.parameters
    if known is not None:
        parameters["known"] = known
    # The row too many tells of a next page.
    parameters["rows"] = limit + 1
    rows = rows_of(caller, _page_sql(caller.live_sql, resource, shape), parameters)
    found = [json for json, _, _ in rows if json is not None]
    page = within_bytes(found[:limit])
    _, total, tag = rows[0]
    is_known = known is not None and (tag in known or "*" in known)
    return FetchedPage(page, len(page) < len(found), total, tag, is_known)


def fetch(
    caller: Caller,
    resource: Resource,
    row_id: UUID | None,
    known: Sequence[str] | None = None,
    *,
    among_trashed: bool = False,
) -> Fetched | None:
    """One of the caller's rows; None where there is no such."""
    sql = _row_sql(
        caller.live_sql, resource, is_conditional=known is not None, among_trashed=among_trashed
    )
    parameters = {"id": row_id} if known is None else {"id": row_id, "known": known}
    ((json, tag, is_trashed),) = rows_of(caller, sql, parameters)
    return None if tag is None else Fetched(json, tag, is_trashed)


@lru_cache(maxsize=TEXTS_MAX)
def _row_sql(
    live_sql: str, resource: Resource, *, is_conditional: bool, among_trashed: bool
) -> str:
    unless_trashed = "" if among_trashed else "AND item.deleted_at IS NULL"
    json = resource.json_sql
    if is_conditional:
        json = f"CASE WHEN NOT ARRAY[{resource.tag_sql}, '*'] && %(known)s::text[] THEN {json} END"
    return read_sql(
        f"{resource.name}.read",
        live_sql,
        f"""
        SELECT item.json, item.tag, item.is_trashed
          FROM caller
          LEFT JOIN LATERAL (
              SELECT {json} AS json, {resource.tag_sql} AS tag,
                     item.deleted_at IS NOT NULL AS is_trashed
                FROM {resource.table} AS item
               WHERE item.id = %(id)s AND item.user_id = caller.user_id {unless_trashed}
          ) AS item ON true
        """,
    )


class _PageShape(NamedTuple):
    """What the text of a page's statement depends on; everything else is a parameter."""

    conditions: tuple[str, ...]
    ordering: Ordering
    hint: IndexHint
    is_later: bool
    is_weighed: bool
    with_total: bool
    is_conditional: bool


@lru_cache(maxsize=TEXTS_MAX)
def _page_sql(live_sql: str, resource: Resource, shape: _PageShape) -> str:
    tag = list_tag_sql(resource.list_revision)
    # The caller's id as a value: from the row of `caller` the planner couldn't tell a user with
    # very many rows, and would sort them all.
    conditions = ["user_id = %(user_id)s", "deleted_at IS NULL", *shape.conditions]
    if shape.hint.condition:
        conditions.append(shape.hint.condition)
    if shape.is_conditional:
        conditions.append(unless_known(tag))
    matching = " AND ".join(conditions)
    counted = f"SELECT count(*) AS total FROM {resource.table} WHERE {matching}"
    beyond = f" AND {shape.ordering.after_sql}" if shape.is_later else ""
    rows = f"""
        SELECT {resource.columns_sql} FROM {resource.table}
         WHERE {matching}{beyond}
         ORDER BY {shape.ordering.order_by_sql_behind(shape.hint.leading)}
         LIMIT %(rows)s
    """
    if shape.is_weighed:
        rows = weighed_sql(rows, resource.weight_sql)
    # The row of the caller is joined to the page by a nested loop, which keeps its order: there is
    # no condition by which to join otherwise.
    return read_sql(
        f"{resource.name}.list",
        live_sql,
        f"""
        SELECT {page_json_sql("page.json")}, counted.total, {tag}
          FROM caller
          CROSS JOIN clock
          CROSS JOIN ({counted if shape.with_total else "SELECT NULL AS total"}) AS counted
          LEFT JOIN (
              SELECT {resource.json_sql} AS json FROM ({rows}) AS item
          ) AS page ON true
        """,
    )
