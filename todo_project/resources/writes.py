"""What is written of a resource: each write is one statement (statement.py), and one row's.

A write is also counted by the statement that does it, and is not done where it is one too many.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import IntegrityError

from todo_project import metrics
from todo_project.api.callers import Caller
from todo_project.api.errors import ApiException, Conflict, IdInTrash, IdTaken
from todo_project.api.limits import Counter, Usage

from .idempotency import KEY_RACE_TRIES, Key, Replay, is_key_taken, kept_answer
from .preconditions import MATCHES
from .resource import RESOURCES, Resource, constraint_of
from .statement import (
    TEXTS_MAX,
    Work,
    opened_sql,
    opening_sql,
    row_of_opened,
    rows_of,
    write_sql,
)


class Written(NamedTuple):
    """What a write came to.

    `json` and `tag` are the row's after it, None where nothing was written: because there is no
    such row; because `usage`, how the write counted, is one too many; because the precondition
    doesn't hold for the row, which is then `current`; because the key has an answer, `replay`; or
    because the person is gone (`is_gone`).
    """

    json: str | None
    tag: str | None
    usage: Usage | None
    current: str | None = None
    current_tag: str | None = None
    replay: Replay | None = None
    is_gone: bool = False


def id_taken(json: str | None, tag: str | None, *, is_trashed: bool) -> ApiException:
    """Nothing was created at an id that the client chose: by what has it, None for another's."""
    if json is None:
        return Conflict("This id is taken. Choose another: a random UUID, or a UUIDv7.")
    return (IdInTrash if is_trashed else IdTaken)(json, tag)


class Terms(NamedTuple):
    """On which terms a write is done: what If-Match asks for, and the Idempotency-Key."""

    versions: Sequence[str] | None = None
    key: Key | None = None


NO_TERMS = Terms()

# One may lead to another, and others write meanwhile.
REMEDIES_MAX = 3


def perform(
    caller: Caller,
    counter: Counter | None,
    work: Work,
    parameters: Mapping[str, Any],
    terms: Terms = NO_TERMS,
) -> Written:
    """Does a work, in one round trip; again after the remedy that there is for what is against it.

    Raises IntegrityError where a constraint is against it.
    """
    if terms.versions is not None:
        parameters = {**parameters, "if_match": terms.versions}
    for _ in range(REMEDIES_MAX):
        try:
            return _perform(caller, counter, work, parameters, terms)
        except IntegrityError as error:
            parameters = remedied(caller, RESOURCES[work.type], parameters, error)
    return _perform(caller, counter, work, parameters, terms)


def remedied(
    caller: Caller, resource: Resource, parameters: Mapping[str, Any], error: IntegrityError
) -> Mapping[str, Any]:
    """The parameters by which a work is to be done again. Raises `error` where there is no remedy.

    And whatever stands against the work after all.
    """
    remedy = resource.remedies.get(constraint_of(error) or "")
    if remedy is None:
        raise error
    cured = {**parameters, **remedy(caller, parameters)}
    metrics.RETRIES.add("remedy")
    return cured


def _perform(
    caller: Caller,
    counter: Counter | None,
    work: Work,
    parameters: Mapping[str, Any],
    terms: Terms,
) -> Written:
    is_conditional, key = terms.versions is not None, terms.key
    values = dict(parameters)
    if counter is not None:
        values |= counter.parameters
    if key is not None:
        values |= key.parameters
    send = _sending(
        caller,
        work,
        is_counted=counter is not None,
        is_conditional=is_conditional,
        is_keyed=key is not None,
    )
    hits, reset_seconds, epoch, json, tag, *more = _row(send, values, key)
    usage = None if counter is None else counter.usage(hits, reset_seconds)
    replay = None
    if key is not None:
        replay, more = Replay.of(more[:5]), more[5:]
    current, current_tag = more if is_conditional else (None, None)
    is_admitted = usage is None or not usage.is_exceeded
    is_gone = is_admitted and epoch is None and replay is None
    if key is not None and json is None and is_admitted and not is_gone:
        # A twin may have done the work while this one waited for it, and left nothing to be done.
        replay = replay or kept_answer(caller, key)
    return Written(json, tag, usage, current, current_tag, replay, is_gone)


_Send = Callable[[Mapping[str, Any]], Sequence[Any]]


def _sending(
    caller: Caller, work: Work, *, is_counted: bool, is_conditional: bool, is_keyed: bool
) -> _Send:
    """What sends a work and gives its row: alone, or behind an opening where it has to be."""
    live_sql = caller.live_sql
    if work.beside:
        opening = opening_sql(work.name, live_sql, is_counted=is_counted, of_many=False)
        opened = opened_sql(work, is_conditional=is_conditional, is_keyed=is_keyed)
        return lambda values: row_of_opened(caller, opening, opened, values)
    sql = write_sql(
        live_sql, work, is_counted=is_counted, is_conditional=is_conditional, is_keyed=is_keyed
    )
    return lambda values: rows_of(caller, sql, values)[0]


def _row(send: _Send, values: Mapping[str, Any], key: Key | None) -> Sequence[Any]:
    """The row of a write. Again, where another request with the same key came first meanwhile."""
    for _ in range(KEY_RACE_TRIES if key else 0):
        try:
            return send(values)
        except IntegrityError as error:
            if not is_key_taken(error):
                raise
            metrics.RETRIES.add("key")
    return send(values)


@lru_cache(maxsize=TEXTS_MAX)
def creation(resource: Resource, *, at_chosen_id: bool = False) -> Work:
    """Adds a row with all fields that clients write, by their names, and `id`.

    At an id that the client chose nothing is written where that is taken.
    """
    fields = resource.settable.values()
    columns = ", ".join(field.column for field in (*fields, *resource.made.values()))
    sent = [field.inserted_sql(field.sent_sql) for field in fields]
    values = ", ".join([*sent, *(str(field.made_sql("''")) for field in resource.made.values())])
    unless_taken = "ON CONFLICT (id) DO NOTHING" if at_chosen_id else ""
    return Work(
        name=f"{resource.name}.create",
        type=resource.name,
        written_sql=f"""
            INSERT INTO {resource.table} AS item (id, user_id, {columns}, version)
            SELECT %(id)s, clock.user_id, {values}, clock.version FROM clock
            {unless_taken}
            RETURNING {returned(resource)}
        """,
        is_revival=at_chosen_id,
    )


@lru_cache(maxsize=TEXTS_MAX)
def change(resource: Resource, fields: tuple[str, ...]) -> Work:
    """Changes some fields of a row, and touches no others.

    What the row has already makes no difference: `updated_at` and `version` stay. It sets what was
    sent, and is one of many for it. A single one for all fields would set them all: the folded
    texts would be computed anew by each change. docs/performance.md has the figures.
    """
    returning = returned(resource)
    if not fields:  # nothing is asked for; what is there is read under its lock
        return of_one_row(
            resource,
            "change",
            lambda sources, found: (
                f"""
                SELECT {returning} FROM {resource.table} AS item, {sources} WHERE {found}
                   FOR NO KEY UPDATE OF item
            """
            ),
            differs="false",
        )
    changed = [resource.settable[name] for name in fields]
    differs = " OR ".join(field.differs_sql for field in changed)
    settings = ", ".join(f"{field.column} = {field.changed_sql}" for field in changed)
    return of_one_row(
        resource,
        "change",
        lambda sources, found: (
            f"""
            UPDATE {resource.table} AS item
               SET {settings},
                   version = CASE WHEN {differs} THEN clock.version ELSE item.version END,
                   updated_at = CASE WHEN {differs} THEN statement_timestamp()
                                     ELSE item.updated_at END
              FROM {sources} WHERE {found}
            RETURNING {returning}
        """
        ),
        differs=differs,
    )


@lru_cache(maxsize=TEXTS_MAX)
def trashing(resource: Resource) -> Work:
    """Takes a row out of lists and reads, into the trash."""
    return of_one_row(
        resource,
        "trash",
        lambda sources, found: (
            f"""
            UPDATE {resource.table} AS item
               SET deleted_at = statement_timestamp(), version = clock.version
              FROM {sources} WHERE {found}
            RETURNING {_DONE}
        """
        ),
    )


@lru_cache(maxsize=TEXTS_MAX)
def restoration(resource: Resource) -> Work:
    """Takes a row out of the trash, as it was. One that isn't there stays as it is."""
    return of_one_row(
        resource,
        "restore",
        lambda sources, found: (
            f"""
            UPDATE {resource.table} AS item
               SET deleted_at = NULL,
                   version = CASE WHEN item.deleted_at IS NULL THEN item.version
                                  ELSE clock.version END
              FROM {sources} WHERE {found}
            RETURNING {returned(resource)}
        """
        ),
        differs="item.deleted_at IS NOT NULL",
        among_trashed=True,
    )


@lru_cache(maxsize=TEXTS_MAX)
def purge(resource: Resource) -> Work:
    """Deletes a row for good, from the trash, too. The table's triggers leave its tombstone."""
    work = of_one_row(
        resource,
        "purge",
        lambda sources, found: (
            f"""
            DELETE FROM {resource.table} AS item USING {sources} WHERE {found}
            RETURNING {_DONE}
        """
        ),
        among_trashed=True,
    )
    return replace(work, stamps=False)


def of_one_row(
    resource: Resource,
    name: str,
    statement: Callable[[str, str], str],
    *,
    differs: str = "true",
    among_trashed: bool = False,
) -> Work:
    """A work on the row `id`: a `statement` of its sources, and of the condition of the row.

    With a precondition, it depends on that, unless the row already is what is asked for: the retry
    of a request whose answer was lost finds its own work done (RFC 9110, section 13.1.1).
    """
    found = "item.id = %(id)s AND item.user_id = clock.user_id"
    if not among_trashed:
        found += " AND item.deleted_at IS NULL"
    is_met = f"item.id = current.id AND ({MATCHES} OR NOT ({differs}))"
    return Work(
        name=f"{resource.name}.{name}",
        type=resource.name,
        written_sql=statement("clock", found),
        written_sql_if=statement("clock, current", f"{found} AND {is_met}"),
        found_sql=f"FROM {resource.table} AS item, clock WHERE {found}",
        json_sql=f"{resource.json_sql} AS json, {resource.tag_sql} AS tag",
    )


# Of a row that no answer shows.
_DONE = "item.id, item.version, '' AS tag, '' AS json"


def returned(resource: Resource) -> str:
    """What a work gives of the row that it wrote."""
    return f"item.id, item.version, {resource.tag_sql} AS tag, {resource.json_sql} AS json"
