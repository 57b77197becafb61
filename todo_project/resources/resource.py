"""What belongs to a person, kind by kind: its model and fields, joined into parts of statements.

To make a Resource registers it, so that lists, feed, trash, batch and the walks of the tests know
it. Its table has the owner's key, and what owners.Versioned adds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from django.db import IntegrityError, models
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.serializers import SerializerMetaclass

from todo_project.api.callers import Caller
from todo_project.api.errors import Conflict
from todo_project.api.serializers import StrictSerializer, StringField

from .fields import TIME, Filter, Stored, Tag
from .lines import FOLD
from .ordering import OrderingField, SortKey
from .parameters import IDS_MAX, SEARCH_MAX_CHARACTERS, IdsQueryField, ListQuery, SearchField

if TYPE_CHECKING:
    from .statement import Work

_ORDERING_HELP = (
    "Up to three different keys, separated by commas. `-` sorts downwards. Rows without a value "
    "come last; ties are broken by id, in the direction of the last key. Titles are compared as "
    "for `search`."
)

_FRAME_PARAMETERS = frozenset(
    {
        "id",
        "place",
        "user_id",
        "credential_id",
        "issued_at",
        "key",
        "fingerprint",
        "if_match",
        "known",
    }
)

# Each of the words stands somewhere. The first, which is the longest, is looked for by strpos():
# it takes half the time of LIKE, and most rows no further. One statement, however many words.
# Folded once, by subqueries that depend on no row; escaped after that, because the fold makes
# ordinary signs of full-width ones. By CASE, of which the planner expects every second row: of
# LIKE ALL it expects none, and would rather sort all rows than read the newest in their order.
_FIRST_WORD = f"(SELECT {FOLD}((%(search)s::text[])[1]))"
_SEARCH = r"""
    CASE WHEN {anywhere}
         THEN {together} LIKE ALL ((
             SELECT array_agg(
                        '%%' || regexp_replace({fold}(word), '([\\%%_])', '\\\1', 'g') || '%%'
                    )
               FROM unnest(%(search)s::text[]) AS word
         )::text[])
         ELSE false
    END
"""


class IndexHint(NamedTuple):
    """What the statement of a list says for an index. Which rows it gives, and how, stays the same.

    `condition` is that of a partial index, and holds for all rows that are asked for; `leading` is
    a column that is the same in all of them, and stands before the order's own in an index.
    """

    condition: str = ""
    leading: str = ""


@dataclass(frozen=True)
class Command:
    """A write that has a name of its own: what it takes, and which values it writes by that.

    `work` makes its work of the values; left out, it is a change of these fields.
    """

    serializer_class: type[StrictSerializer]
    values: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    work: "Callable[[Mapping[str, Any]], Work] | None" = None


# What has to be done or found out before a work can be done that a rule of the table was against.
# It gets the caller and the work's parameters, and gives those that are to be others.
Remedy = Callable[[Caller, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Resource:
    """One kind of what belongs to a person.

    `name` is its `type` in feed, trash and batch; `segment` stands in paths. `searched` are its
    texts in which `search` looks, with a folded column each. `faults` says, by the name of a
    constraint of the table, which field is wrong, and how; `conflicts` what else stands against it,
    in the operations that are `conflicting`;
    `commands`, what else can be done; `imported` are read-only fields whose values come along where
    rows are imported; `more_filters` and `more_keys` are those that are not of a
    single field, and `hint` finds what to say to the planner for a list's query. `inner` are
    columns that no client sees, and `derive` their values: of what is written and of the request's
    headers. `remedies` are those of rules, by name.
    """

    model: type[models.Model]
    serializer_class: type[StrictSerializer]
    name: str
    segment: str
    default_ordering: str = "-created_at"
    searched: Sequence[str] = ()
    faults: Mapping[str, tuple[str, ErrorDetail]] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)
    conflicting: Collection[str] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    imported: Sequence[str] = ()
    more_filters: Mapping[str, Filter] = field(default_factory=dict)
    more_keys: Sequence[SortKey] = ()
    inner: Mapping[str, Stored] = field(default_factory=dict)
    derive: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] | None = None
    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    hint: Callable[[Mapping[str, Any]], IndexHint] = lambda _: IndexHint()

    registered: ClassVar[dict[str, "Resource"]] = {}

    def __post_init__(self) -> None:
        for name, kind in self.inner.items():
            kind.field_name = name
        self.registered[self.name] = self

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @cached_property
    def fields(self) -> Mapping[str, Stored]:
        return dict(self.serializer_class().fields)  # type: ignore[arg-type]  # all are Stored

    @cached_property
    def written(self) -> Mapping[str, Stored]:
        """The fields that clients write. Statements have parameters of these names."""
        written = {name: kind for name, kind in self.fields.items() if not kind.read_only}
        assert not _FRAME_PARAMETERS & written.keys(), "the frame's statements have such parameters"
        return written

    @cached_property
    def settable(self) -> Mapping[str, Stored]:
        """Those, and the inner ones: what a write may set."""
        return {**self.written, **self.inner}

    @cached_property
    def made(self) -> Mapping[str, Stored]:
        """The fields that no client writes and every new row has all the same."""
        return {name: kind for name, kind in self.fields.items() if kind.made_sql("''") is not None}

    @cached_property
    def json_sql(self) -> str:
        """An `item` as its serializer would write it, byte for byte. Text: psycopg reads JSON.

        For statements that have a CTE `clock`, with the person's epoch.
        """
        return _as_json(self._answer_sql)

    @cached_property
    def exported_json_sql(self) -> str:
        """The same with `deleted_at`, of whatever an export has: the trash, too."""
        return _as_json(f"{self._answer_sql}, {TIME.format('item.deleted_at')} AS deleted_at")

    @cached_property
    def _answer_sql(self) -> str:
        answers = [
            f"{self.tag_sql if isinstance(field, Tag) else field.answer_sql} AS {name}"
            for name, field in self.fields.items()
        ]
        return ", ".join(answers)

    @cached_property
    def revision(self) -> str:
        """Another for each shape of the answer, so that no old one is taken for it."""
        shape = [
            (name, type(field).__name__, field.answer_sql) for name, field in self.fields.items()
        ]
        return sha256(repr(shape).encode()).hexdigest()[:6]

    @cached_property
    def list_revision(self) -> str:
        """Another also for each way to filter and to sort."""
        found = [(name, each.sql, each.null_sql) for name, each in self.filters.items()]
        shape = [self.revision, *found, *((key.column, key.value_sql) for key in self.sort_keys)]
        return sha256(repr(shape).encode()).hexdigest()[:6]

    @cached_property
    def tag_sql(self) -> str:
        return f"""'"' || (SELECT epoch FROM clock) || '-{self.revision}-' || item.version || '"'"""

    @cached_property
    def columns_sql(self) -> str:
        """What a page needs of a row: without the folded texts."""
        columns = dict.fromkeys(
            column
            for name, field in self.fields.items()
            if not isinstance(field, Tag)
            for column in (name, field.column)
        )
        return ", ".join(columns)

    @cached_property
    def weight_sql(self) -> str:
        """How many bytes the longest parts of a row have: as JSON it has more, never fewer."""
        return " + ".join(["0", *(f"coalesce(octet_length({t}), 0)" for t in self.searched)])

    @cached_property
    def filters(self) -> Mapping[str, Filter]:
        """By the query parameter."""
        found: dict[str, Filter] = {}
        for kind in self.fields.values():
            found |= kind.filters
        found |= self.more_filters
        found["ids"] = Filter(
            IdsQueryField(required=False, help_text=f"Up to {IDS_MAX}, separated by commas."),
            "id = ANY(%(ids)s::uuid[])",
        )
        if self.searched:
            found["search"] = Filter(
                SearchField(
                    required=False,
                    max_length=SEARCH_MAX_CHARACTERS,
                    help_text="Words, separated by white space. Each stands somewhere in "
                    f"{' or '.join(self.searched)}, in any order, whatever its case and accents. "
                    "`%` and `_` mean themselves.",
                ),
                self._search_sql,
            )
        return found

    @property
    def _search_sql(self) -> str:
        folded = [f"{name}_folded" for name in self.searched]
        return _SEARCH.format(
            anywhere=" OR ".join(f"strpos({column}, {_FIRST_WORD}) > 0" for column in folded),
            together=" || ".join(f"coalesce({column} || chr(10), '')" for column in folded),
            fold=FOLD,
        )

    @cached_property
    def sort_keys(self) -> Sequence[SortKey]:
        keys = [kind.sort_key for kind in self.fields.values()]
        return [*(key for key in keys if key is not None), *self.more_keys]

    @cached_property
    def query_serializer(self) -> type[ListQuery]:
        """The query parameters of its lists."""
        ordering = OrderingField(
            self.sort_keys,
            default=self.default_ordering,
            help_text=_ORDERING_HELP,
        )
        parameters = {name: found.field for name, found in self.filters.items()}
        name = f"{self.model.__name__}ListQuery"
        members = {"ordering": ordering, **parameters, "__doc__": ListQuery.__doc__}
        return cast("type[ListQuery]", SerializerMetaclass(name, (ListQuery,), members))

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """What a new row has where its maker says nothing."""
        return {name: field.if_left_out for name, field in self.settable.items()}

    def with_derived(
        self, values: Mapping[str, Any], headers: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What is written, with what follows from it. `headers` as WSGI has them.

        Raises ValidationError.
        """
        return values if self.derive is None else {**values, **self.derive(values, headers)}

    def refusal(self, error: IntegrityError) -> APIException | None:
        """What a rule of the table says to clients; None where it is none that is named here."""
        constraint = constraint_of(error) or ""
        if constraint in self.conflicts:
            return Conflict(self.conflicts[constraint])
        if constraint in self.faults:
            name, fault = self.faults[constraint]
            return ValidationError({name: [fault]})
        return None

    def changed_fields(self, names: Collection[str]) -> tuple[str, ...]:
        """Those of `names` that change columns, in the order of the fields: one shape for a set."""
        return tuple(name for name in self.settable if name in names)


def _as_json(answer_sql: str) -> str:
    return f"(SELECT row_to_json(answer)::text FROM (SELECT {answer_sql}) AS answer)"


def constraint_of(error: IntegrityError) -> str | None:
    """The name of the database's rule that is broken."""
    name: str | None = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    return name


RESOURCES: Mapping[str, Resource] = Resource.registered


class KindField(StringField):
    """The name of one of the resources."""

    default_error_messages: ClassVar = {"invalid_choice": "Not a valid choice. Valid: {names}."}

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if name not in RESOURCES:
            self.fail("invalid_choice", names=", ".join(RESOURCES))
        return name


class ResourceField(serializers.Field[Any, Any, Any, Any]):
    """Any of the resources, as its own route answers it."""
