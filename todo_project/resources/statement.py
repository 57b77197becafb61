"""The frame of every statement: its parts by name, each with one home, and how it is sent.

A request is one statement, so that it takes one round trip. The parts, as common table expressions:

    caller    the user of a token that counts, else no row (todo_project.api.callers)
    clock     the person's clock: epoch and version
    counted   how often the caller has written in this window (todo_project.api.limits)
    writer    the caller, unless that is too often
    kept      the answer that an Idempotency-Key stands for already (idempotency.py)
    current   the row that a precondition is about, locked
    written   the resource's own work (writes.py)
    advanced  the clock, where the work changed anything
    logged    the change, for the feed
    kept_now  the answer, for the key

A write locks the clock before it reads any row, and keeps it until it commits: so versions of one
person commit in their order. What a statement reads *beside* the rows that it locks is as of its
start, before it waited for the clock: so `current` is locked, too. The order of locks is always
the limit's counter, the clock, rows: whoever takes them in another may wait for ever.

A work that reads rows beside its own is a statement of its own, behind an opening one that has the
parts up to `clock`. Sent with it, in one round trip and one transaction, it sees what was committed
while the opening waited. It finds the writer in a setting of the transaction, which the opening
makes, and does nothing without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from todo_project.api.callers import Caller
from todo_project.api.limits import count_sql, reservation_sql, reserved_sql

if TYPE_CHECKING:
    from todo_project.postgresql.base import DatabaseWrapper

# How many texts of statements a process remembers, of pages and of writes: clients can ask for many
# more, by the filters and orders that they name, and by the fields that they send. So many as five
# threads have statements prepared; some 4 KiB and 2 to 10 microseconds each.
TEXTS_MAX = 1024

# Of the transaction: whose rows may be written, and nobody's else.
WRITER = "nullif(current_setting('todo.writer', true), '')::uuid"

_CLOCK_READ = (
    "SELECT epoch, version, purged_version FROM todo_project_clock WHERE user_id = %(user_id)s"
)


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What a write does to one row, as SQL, by name for whoever reads the database's statistics.

    `written_sql` reads `clock`, whose version is the next one, and gives id, version, tag and json
    of the row. `found_sql` is the row that must be there before (FROM and WHERE, as `item`), None
    where there is none; a precondition locks it as `current`, and `written_sql_if` is the work that
    depends on it. `stamps`: the frame advances the clock and logs; else the table's triggers do.
    `is_revival`: the row's id may be one that was purged. `beside`: further parts, which read
    `written` and write other rows; such a work needs an opening. `logged`: the part whose rows, by
    id and version, the frame logs. Whoever makes one remembers it: it is equal to itself alone.
    """

    name: str
    type: str
    written_sql: str
    found_sql: str | None = None
    written_sql_if: str | None = None
    json_sql: str = ""
    stamps: bool = True
    is_revival: bool = False
    beside: tuple[str, ...] = ()
    logged: str = "written"


def read_sql(name: str, live_sql: str, select: str) -> str:
    """A statement that reads, of a caller whose token counts."""
    return f"""/* {name} */
        WITH caller AS ({live_sql}),
             clock AS ({_CLOCK_READ})
        {select}
    """


@lru_cache(maxsize=TEXTS_MAX)
def write_sql(
    live_sql: str, work: Work, *, is_counted: bool, is_conditional: bool, is_keyed: bool
) -> str:
    """A statement that writes, of a caller whose token counts.

    Its row: hits and reset_seconds of the limit; the clock's epoch; json and tag of what was
    written; then, where they are asked for, the columns of `kept`, and json and tag of `current`.
    """
    begun = _Begun(
        parts=_counting_parts(live_sql, is_counted=is_counted),
        answers=["counted.hits, counted.reset_seconds"],
        source="counted",
    )
    return _written_sql(work, begun, is_conditional=is_conditional, is_keyed=is_keyed)


@lru_cache(maxsize=TEXTS_MAX)
def opened_sql(work: Work, *, is_conditional: bool, is_keyed: bool) -> str:
    """The same behind an opening statement, which answers for the limit."""
    begun = _Begun([f"writer AS (SELECT {WRITER} AS user_id)"], answers=[], source="writer")
    return _written_sql(work, begun, is_conditional=is_conditional, is_keyed=is_keyed)


@lru_cache(maxsize=TEXTS_MAX)
def opening_sql(name: str, live_sql: str, *, is_counted: bool, of_many: bool) -> str:
    """What stands before statements that write, in one transaction with them. Locks the clock.

    `of_many` writes, as many as the parameter `tries` says, which are counted together or not at
    all. Its row: hits and reset_seconds of the limit, the clock's epoch, and the caller, who is
    null where the token doesn't count.
    """
    parts = _counting_parts(live_sql, is_counted=is_counted, of_many=of_many)
    parts.append("""clock AS (
        SELECT clock.user_id, clock.epoch
          FROM todo_project_clock AS clock JOIN writer USING (user_id) FOR NO KEY UPDATE OF clock
    )""")
    return f"""/* {name}.open */
        WITH {", ".join(parts)}
        SELECT counted.hits, counted.reset_seconds, clock.epoch, caller.user_id, setting.writer
          FROM (
              SELECT set_config(
                         'todo.writer', coalesce((SELECT user_id::text FROM clock), ''), true
                     ) AS writer
          ) AS setting
          LEFT JOIN caller ON true LEFT JOIN counted ON true LEFT JOIN clock ON true
    """


def _counting_parts(live_sql: str, *, is_counted: bool, of_many: bool = False) -> list[str]:
    parts = [f"caller AS MATERIALIZED ({live_sql})"]
    admitted = "WHERE counted.hits <= %(counter_limit)s" if is_counted else ""
    if not is_counted:
        parts.append("counted AS (SELECT NULL AS hits, NULL AS reset_seconds FROM caller)")
    elif of_many:
        parts.append(f"reserved AS ({reserved_sql('caller', '%(tries)s')})")
        parts.append(f"counted AS ({reservation_sql('caller')})")
    else:
        parts.append(f"counted AS ({count_sql('caller')})")
    return [*parts, f"writer AS (SELECT caller.user_id FROM caller, counted {admitted})"]


class _Begun(NamedTuple):
    """How a statement that writes begins: up to `writer`, and its row with `source`."""

    parts: Sequence[str]
    answers: Sequence[str]
    source: str


def _written_sql(work: Work, begun: _Begun, *, is_conditional: bool, is_keyed: bool) -> str:
    parts = [*begun.parts]
    answers = [*begun.answers, "clock.epoch, written.json, written.tag"]
    sources = [begun.source, "LEFT JOIN clock ON true", "LEFT JOIN written ON true"]
    unless_kept = ""
    if is_keyed:
        parts.append(f"kept AS ({_KEPT})")
        unless_kept = "WHERE NOT EXISTS (SELECT FROM kept)"
        answers.append(KEPT_COLUMNS)
        sources.append("LEFT JOIN kept ON true")
    parts.append(f"""clock AS (
            SELECT clock.user_id, clock.epoch, clock.version + 1 AS version
              FROM todo_project_clock AS clock JOIN writer USING (user_id) {unless_kept}
               FOR NO KEY UPDATE OF clock
        )""")
    if is_conditional:
        answers.append("found.json, found.tag")
        sources.append(f"LEFT JOIN ({found_sql(work)}) AS found ON true")
    parts += work_parts(work, is_conditional=is_conditional)
    if is_keyed:
        parts += [f"expired AS ({_EXPIRED})", f"kept_now AS ({_KEPT_NOW})"]
    return f"""/* {work.name} */
        WITH {", ".join(parts)}
        SELECT {", ".join(answers)} FROM {" ".join(sources)}
    """


def work_parts(work: Work, *, is_conditional: bool) -> Sequence[str]:
    """What does the work, once there is a `clock`, and what stamps it."""
    parts = []
    written_sql = work.written_sql
    if is_conditional:
        assert work.written_sql_if is not None
        parts.append(f"current AS (SELECT item.* {work.found_sql} FOR NO KEY UPDATE OF item)")
        written_sql = work.written_sql_if
    parts += [f"written AS ({written_sql})", *work.beside]
    if work.stamps:
        parts += [f"advanced AS ({_ADVANCED})", f"logged AS ({_logged(work)})"]
    if work.is_revival:
        parts.append(f"revived AS ({_revived(work.type)})")
    return parts


def found_sql(work: Work) -> str:
    return f"SELECT {work.json_sql} FROM current AS item"


def page_json_sql(json: str) -> str:
    """The JSON of a page's row as bytes: as text it would be decoded, to be encoded again."""
    return f"convert_to({json}, 'UTF8')"


def weighed_sql(rows: str, weight: str) -> str:
    """These rows until their weights pass PAGE_BYTES_MAX, and the one with which they do.

    By what a row weighs before it is JSON, which has more bytes and never fewer: the page ends
    among them. The sum costs a page of 20 some 20 microseconds. Pages of the default size go
    without: the longest texts make 6 MiB of 50 tasks, not of 200 tasks 24.
    """
    return f"""
        SELECT * FROM (
            SELECT *, sum({weight}) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                          AS bytes_before
              FROM ({rows}) AS item
        ) AS item WHERE bytes_before IS NULL OR bytes_before <= {settings.PAGE_BYTES_MAX}
    """


# Where nothing changed, the row has the version that it had, and the clock stays.
_ADVANCED = """
    UPDATE todo_project_clock AS clock SET version = written.version FROM written
     WHERE clock.user_id = %(user_id)s AND clock.version < written.version
"""


def _logged(work: Work) -> str:
    return f"""
        INSERT INTO todo_project_change (user_id, version, type, id)
        SELECT clock.user_id, clock.version, '{work.type}', changed.id
          FROM {work.logged} AS changed JOIN clock ON clock.version = changed.version
    """


def _revived(resource_type: str) -> str:
    """What has come back is no tombstone any more."""
    return f"""
        DELETE FROM todo_project_purged AS purged USING written
         WHERE purged.user_id = %(user_id)s AND purged.type = '{resource_type}'
           AND purged.id = written.id
    """


KEPT_COLUMNS = "kept.fingerprint, kept.status, kept.body, kept.location, kept.etag"
_KEPT = f"""
    SELECT {KEPT_COLUMNS}
      FROM todo_project_idempotencykey AS kept JOIN writer USING (user_id)
     WHERE kept.key = %(key)s AND kept.created_at > statement_timestamp() - %(key_kept_for)s
"""
# The purge may not have come by. Before the key is taken anew, in the same statement.
_EXPIRED = """
    DELETE FROM todo_project_idempotencykey AS kept USING writer
     WHERE kept.user_id = writer.user_id AND kept.key = %(key)s
       AND kept.created_at <= statement_timestamp() - %(key_kept_for)s
    RETURNING 1
"""
# Without ON CONFLICT: of two at once the second has waited at the clock, and doesn't see the key of
# the first. It fails as a whole, count of the limit included, and is tried again.
_KEPT_NOW = """
    INSERT INTO todo_project_idempotencykey
           (user_id, key, fingerprint, status, body, location, etag, created_at)
    SELECT clock.user_id, %(key)s, %(fingerprint)s, %(key_status)s,
           CASE WHEN %(key_status)s <> 204 THEN written.json END, %(key_location)s,
           CASE WHEN %(key_status)s <> 204 THEN written.tag END, statement_timestamp()
      FROM written, clock, (SELECT count(*) FROM expired) AS expired
"""


def rows_of(caller: Caller, sql: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """What a statement gives, whose first rows depend on the caller alone: at least one.

    Raises the caller's refusal.
    """
    rows = database().fetch_all(sql, {**parameters, **caller.parameters})
    if not rows:
        raise caller.refusal()
    caller.note_use()
    return rows


def row_of_opened(
    caller: Caller, opening: str, sql: str, parameters: Mapping[str, Any]
) -> Sequence[Any]:
    """The row of a write behind its opening: as that of write_sql(). One round trip.

    Raises the caller's refusal.
    """
    values = {**parameters, **caller.parameters}
    ((opened,), (row,)) = database().fetch_each([(opening, values), (sql, values)])
    hits, reset_seconds, _, caller_id, _ = opened
    if caller_id is None:
        raise caller.refusal()
    caller.note_use()
    return (hits, reset_seconds, *row)


def database() -> "DatabaseWrapper":
    return cast("DatabaseWrapper", connections[DEFAULT_DB_ALIAS])
