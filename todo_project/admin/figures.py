"""What admin's first page says of the service: figures, and plots of the last 30 days.

The admin of a table gives them (LargeTableAdmin.figures), and the site shows those of the tables
that an operator may view (accounts/site.py). Each costs one query, of a bounded number of rows.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Model, QuerySet

from .filters import CreatedFilter, first_id, midnight
from .shown import page_of

# Rows that are counted one by one.
EXACT_ROWS = 10_000
# Rows of today that a figure reads, and entries of an index that a plot reads for each day.
TODAYS_ROWS = 20_000
ROWS_OF_A_DAY = 50_000
PLOT_DAYS = 30
PLOT_HEIGHT = 50
BAR_WIDTH = 10


class Figure(NamedTuple):
    """A number and how well it is known, such as "about 1,230,000"; where its rows are listed."""

    label: str
    value: str
    note: str = ""
    url: str = ""


class Bar(NamedTuple):
    """A day in a plot of BAR_WIDTH for each, and PLOT_HEIGHT."""

    day: date
    text: str
    url: str
    x: int
    y: int
    height: int


class Plot(NamedTuple):
    label: str
    total: str
    highest: Bar
    bars: Sequence[Bar]


def table_figure(model: type[Model], label: str) -> Figure:
    """How many rows a table has: counted, or about, as the database itself reckons it."""
    table = connection.ops.quote_name(model._meta.db_table)
    rows, about = one_row(
        f"""
        SELECT (SELECT count(*) FROM (SELECT FROM {table} LIMIT %s) AS counted),
               (SELECT reltuples / greatest(relpages, 1)
                       * (pg_relation_size(oid) / current_setting('block_size')::int)
                  FROM pg_class WHERE oid = %s::regclass)
        """,  # noqa: S608  # a name of a table
        [EXACT_ROWS + 1, table],
    )
    value = f"{rows:,}" if rows <= EXACT_ROWS else f"about {_rounded(max(about, rows)):,}"
    return Figure(label, value, url=page_of("changelist", model))


def capped_figure(queryset: QuerySet[Any], label: str, **options: str) -> Figure:
    """How many rows there are, up to EXACT_ROWS."""
    rows = queryset.order_by()[: EXACT_ROWS + 1].count()
    return Figure(label, at_least(min(rows, EXACT_ROWS), is_all=rows <= EXACT_ROWS), **options)


def todays_figure(sql: str, label: str, **options: str) -> Figure:
    """What a statement counts of today, by the day in UTC, and of how many rows.

    Its parameters are `since`, as a time, `first_id`, as the first id of then, and `rows`, of which
    it reads no more.
    """
    since = midnight(datetime.now(UTC).date())
    parameters = {"since": since, "first_id": first_id(since), "rows": TODAYS_ROWS}
    count, rows = one_row(sql, parameters)
    return Figure(label, at_least(count, is_all=rows < TODAYS_ROWS), **options)


def at_least(count: int, *, is_all: bool) -> str:
    return f"{count:,}" if is_all else f"at least {count:,}"


def plot(model: type[Model], label: str) -> Plot:
    """How many rows a table got on each of the last days, by the time in their ids."""
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=ago) for ago in reversed(range(PLOT_DAYS))]
    edges = [first_id(midnight(day)) for day in (*days, today + timedelta(days=1))]
    meta = model._meta
    table, pk = (connection.ops.quote_name(name) for name in (meta.db_table, meta.pk.attname))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT (SELECT count(*) FROM (
                       SELECT FROM {table} WHERE {pk} >= day.first_id AND {pk} < day.end_id LIMIT %s
                   ) AS counted)
              FROM unnest(%s::uuid[], %s::uuid[]) WITH ORDINALITY AS day (first_id, end_id, number)
             ORDER BY day.number
            """,  # noqa: S608  # names of a table and of its column
            [ROWS_OF_A_DAY + 1, edges[:-1], edges[1:]],
        )
        counts = [count for (count,) in cursor.fetchall()]
    bars = []
    for number, (day, count) in enumerate(zip(days, counts, strict=True)):
        text = at_least(min(count, ROWS_OF_A_DAY), is_all=count <= ROWS_OF_A_DAY)
        height = math.ceil(PLOT_HEIGHT * count / max(*counts, 1))
        url = f"{page_of('changelist', model)}?{CreatedFilter.parameter_name}={day}"
        bars.append(Bar(day, text, url, BAR_WIDTH * number, PLOT_HEIGHT - height, height))
    total = at_least(sum(counts), is_all=max(counts) <= ROWS_OF_A_DAY)
    return Plot(label, total, bars[counts.index(max(counts))], bars)


def _rounded(count: float) -> int:
    """To three digits: the others would be a claim."""
    return round(int(count), 3 - len(str(int(count))))


def one_row(sql: str, parameters: Any) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row: tuple[Any, ...] = cursor.fetchone()
        return row
