"""Kinds of fields: what they accept, and their SQL. A resource's serializer is made of them.

Each is a field of REST framework that also knows how its value is kept, answered, changed, filtered
and sorted. Resource (resource.py) joins what they say into statements. The row is named `item`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from rest_framework import serializers

from todo_project.api.serializers import (
    BooleanField,
    ChoiceField,
    DayField,
    LineField,
    StringField,
    TimeField,
    TimeOfDayField,
)
from todo_project.api.views import read_uuid
from todo_project.owners import POSITION_DIGITS

from .lines import FOLD
from .ordering import SortKey
from .parameters import (
    FlagField,
    ReferenceQueryField,
    SomeField,
    WordsField,
    WordsQueryField,
)

# RFC 3339, in UTC and microseconds, as settings.REST_FRAMEWORK["DATETIME_FORMAT"].
TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


class Filter(NamedTuple):
    """A query parameter, and the condition that it stands for: its value has the same name.

    `null_sql` is the condition where the value is None: one that an index serves as well.
    """

    field: "serializers.Field[Any, Any, Any, Any]"
    sql: str
    null_sql: str = "false"

    def condition(self, value: Any) -> str:
        return self.null_sql if value is None else self.sql


class Stored:
    """A field with a column of its own name. The other kinds say where they differ.

    `sorts` lets lists be sorted by it; `if_left_out` is what a row begins with that was created
    without it.
    """

    sql_type: ClassVar[str]
    field_name: str | None
    allow_null: bool
    read_only: bool

    def __init__(self, *, sorts: bool = False, if_left_out: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.sorts = sorts
        self.if_left_out = if_left_out

    @property
    def name(self) -> str:
        assert self.field_name is not None, "a field has its name from its serializer"
        return self.field_name

    @property
    def column(self) -> str:
        return self.name

    @property
    def answer_sql(self) -> str:
        """What an answer has."""
        return f"item.{self.column}"

    @property
    def sent_sql(self) -> str:
        """What a client sent: the parameter of the field's name."""
        return f"%({self.name})s::{self.sql_type}"

    def inserted_sql(self, sent: str) -> str:
        """What a new row's column is, of what was sent."""
        return sent

    def imported_sql(self, brought: str, otherwise: str | None) -> str:
        """What an imported row's column is, of what it brings along, or of what it has `otherwise`.

        For read-only fields; `otherwise` is None where the column's own default says it.
        """
        return brought

    def made_sql(self, place: str) -> str | None:
        """What a new row has of it whatever was sent; None for what clients or defaults say.

        `place` is a text: which of the rows it is that one statement adds, empty for a single one.
        """
        return None

    @property
    def changed_sql(self) -> str:
        """What a change makes of the column."""
        return self.inserted_sql(self.sent_sql)

    @property
    def differs_sql(self) -> str:
        """Whether the change makes a difference to the row."""
        operator = "IS DISTINCT FROM" if self.allow_null else "<>"
        return f"item.{self.column} {operator} {self.changed_sql}"

    @property
    def filters(self) -> Mapping[str, Filter]:
        return {}

    @property
    def sort_key(self) -> SortKey | None:
        if not self.sorts:
            return None
        assert not self.allow_null, "a nullable key needs an infinity"
        return SortKey(field=self.name, column=self.column, value_sql=f"{{}}::{self.sql_type}")


class Identifier(Stored, serializers.UUIDField):
    """A UUID."""

    sql_type = "uuid"


class ReferenceField(serializers.UUIDField):
    """The id of something else of the person's."""

    default_error_messages: ClassVar = {"invalid": "Must be a UUID with hyphens."}

    def to_internal_value(self, data: Any) -> UUID:
        row_id = read_uuid(data) if isinstance(data, str) else None
        if row_id is None:
            self.fail("invalid")
        return row_id


class Reference(Stored, ReferenceField):
    """The id of something else of the person's, or null, which lists are filtered by.

    `nothing` is what asks for null there. A foreign key of the table keeps people apart.
    """

    sql_type = "uuid"
    default_error_messages: ClassVar = {"invalid": "Must be a UUID with hyphens, or null."}

    def __init__(self, *, nothing: str, filter_help: str, **options: Any) -> None:
        super().__init__(allow_null=True, required=False, **options)
        self.nothing = nothing
        self.filter_help = filter_help

    @property
    def filters(self) -> Mapping[str, Filter]:
        field = ReferenceQueryField(
            nothing=self.nothing, required=False, help_text=self.filter_help
        )
        matches = f"{self.column} = %({self.name})s::uuid"
        return {self.name: Filter(field, matches, f"{self.column} IS NULL")}


class Position(Stored, serializers.CharField):
    """Where a row stands among the others: a text of the server's, by code point.

    What is new stands last, by the clock's version, which only grows: no neighbour has to be read.
    The table's trigger says the same for whoever leaves it out (owners.Placed).
    """

    sql_type = "text"

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, sorts=True, **options)

    def made_sql(self, place: str) -> str:
        return f"lpad(to_hex(clock.version), {POSITION_DIGITS}, '0') || {place}"


class Color(Stored, StringField):
    """A color as `#rrggbb`, kept in lower case."""

    sql_type = "text"
    default_error_messages: ClassVar = {"color": "Not a color, such as #1e90ff."}
    _COLOR = re.compile(r"#[0-9a-fA-F]{6}")

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not self._COLOR.fullmatch(text):
            self.fail("color")
        return text.lower()


class Text(Stored, StringField):
    """A text of any lines."""

    sql_type = "text"


class Line(Stored, LineField):
    """A line that people see. Sorted as `search` compares, by the column that has it folded."""

    sql_type = "text"

    @property
    def sort_key(self) -> SortKey | None:
        if not self.sorts:
            return None
        # Folded once, and not for each row.
        folded = f"(SELECT {FOLD}({{}}))"
        return SortKey(field=self.name, column=f"{self.name}_folded", value_sql=folded)


class Number(Stored, serializers.IntegerField):
    """A whole number."""

    sql_type = "bigint"


class Instant(Stored, TimeField):
    """A point in time.

    Lists are filtered by one that `is_filter`: by `done_at` with `done_after` and `done_before`.
    """

    sql_type = "timestamptz"

    def __init__(self, *, is_filter: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.is_filter = is_filter

    def imported_sql(self, brought: str, otherwise: str | None) -> str:
        """What happens now may have happened before; what hasn't happened has not."""
        if otherwise is None and self.allow_null:
            return brought
        now = otherwise or "statement_timestamp()"
        return f"CASE WHEN {now} IS NOT NULL THEN coalesce({brought}, {now}) END"

    @property
    def answer_sql(self) -> str:
        return TIME.format(super().answer_sql)

    @property
    def filters(self) -> Mapping[str, Filter]:
        if not self.is_filter:
            return {}
        stem = self.name.removesuffix("_at")
        return {
            f"{stem}_{side}": Filter(
                TimeField(required=False, help_text=help_text),
                f"{self.column} {operator} %({stem}_{side})s",
            )
            for side, operator, help_text in (
                ("after", ">=", "Inclusive."),
                ("before", "<", "Exclusive."),
            )
        }

    @property
    def sort_key(self) -> SortKey | None:
        if not self.sorts:
            return None
        return SortKey(
            field=self.name,
            column=self.column,
            value_sql="{}::timestamptz",
            parse=datetime.fromisoformat,
            nullable=self.allow_null,
        )


class Day(Stored, DayField):
    """A day of the calendar."""

    sql_type = "date"

    @property
    def sort_key(self) -> SortKey | None:
        if not self.sorts:
            return None
        return SortKey(
            field=self.name,
            column=self.column,
            value_sql="{}::date",
            parse=date.fromisoformat,
            nullable=self.allow_null,
        )


class TimeOfDay(Stored, TimeOfDayField):
    """A time on the clock, to the second; answered without seconds where there are none."""

    sql_type = "time"

    def to_representation(self, value: Any) -> Any:
        return value.isoformat("seconds").removesuffix(":00")

    @property
    def answer_sql(self) -> str:
        column = f"item.{self.column}"
        return (
            f"to_char({column}, CASE WHEN extract(second FROM {column}) = 0"
            " THEN 'HH24:MI' ELSE 'HH24:MI:SS' END)"
        )


class Choice(Stored, ChoiceField):
    """One of some texts, which lists are sorted by in the order of the choices.

    Kept as its place among them. With `filter_help` lists are filtered by some of them, separated
    by commas.
    """

    sql_type = "text"

    def __init__(
        self, choices: Sequence[str], *, filter_help: str | None = None, **options: Any
    ) -> None:
        super().__init__(choices=choices, if_left_out=choices[0], **options)
        self.filter_help = filter_help

    def to_representation(self, value: Any) -> Any:
        return list(self.choices)[value]

    @property
    def _array_sql(self) -> str:
        return f"string_to_array('{','.join(self.choices)}', ',')"

    @property
    def answer_sql(self) -> str:
        return f"({self._array_sql})[item.{self.column} + 1]"

    def inserted_sql(self, sent: str) -> str:
        return f"array_position({self._array_sql}, {sent}) - 1"

    @property
    def filters(self) -> Mapping[str, Filter]:
        if self.filter_help is None:
            return {}
        field = SomeField(list(self.choices), required=False, help_text=self.filter_help)
        ranks = (
            f"SELECT array_position({self._array_sql}, name) - 1"
            f" FROM unnest(%({self.name})s::text[]) AS name"
        )
        return {self.name: Filter(field, f"{self.column} IN ({ranks})")}

    @property
    def sort_key(self) -> SortKey | None:
        if not self.sorts:
            return None
        return SortKey(
            field=self.name,
            column=self.column,
            value_sql=f"(array_position({self._array_sql}, {{}}) - 1)",
            parse=list(self.choices).index,
        )


class Words(Stored, WordsField):
    """Some words, such as labels. Lists are filtered by all of some, by any, and by having any."""

    sql_type = "text[]"

    def __init__(self, **options: Any) -> None:
        super().__init__(if_left_out=[], **options)

    @property
    def filters(self) -> Mapping[str, Filter]:
        name = self.name
        return {
            name: Filter(
                WordsQueryField(required=False, help_text="All of these, separated by commas."),
                f"{name} @> %({name})s::text[]",
            ),
            f"{name}_any": Filter(
                WordsQueryField(required=False, help_text="One of these, separated by commas."),
                f"{name} && %({name}_any)s::text[]",
            ),
            f"has_{name}": Filter(
                FlagField(required=False, help_text="Those that have some, or that have none."),
                f"({name} <> '{{}}') = %(has_{name})s",
            ),
        }


class Since(Stored, BooleanField):
    """Whether something is so; kept as the time since when, in the column `of`, else null.

    The table has a generated column of the field's own name. The time stays when it is said again.
    """

    sql_type = "boolean"

    def __init__(self, *, of: str, filter_help: str, **options: Any) -> None:
        super().__init__(if_left_out=False, **options)
        self.of = of
        self.filter_help = filter_help

    @property
    def column(self) -> str:
        return self.of

    @property
    def answer_sql(self) -> str:
        return f"item.{self.name}"

    def inserted_sql(self, sent: str) -> str:
        return f"CASE WHEN {sent} THEN statement_timestamp() END"

    @property
    def changed_sql(self) -> str:
        kept = f"coalesce(item.{self.of}, statement_timestamp())"
        return f"CASE WHEN {self.sent_sql} THEN {kept} END"

    @property
    def differs_sql(self) -> str:
        return f"item.{self.name} <> {self.sent_sql}"

    @property
    def filters(self) -> Mapping[str, Filter]:
        flag = FlagField(required=False, help_text=self.filter_help)
        return {self.name: Filter(flag, f"{self.name} = %({self.name})s")}


class Tag(Stored, serializers.CharField):
    """The entity tag of the answer that it stands in, for proxies drop or weaken the header's."""

    sql_type = "text"
