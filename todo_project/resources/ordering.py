"""Orders of rows: the query parameter that names one, and the SQL of its pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rest_framework import serializers

ORDERING_KEYS_MAX = 3


@dataclass(frozen=True, kw_only=True)
class SortKey:
    """One of the things that rows are sorted by, nulls last.

    `field` is its name in answers, and `column` where the table has it in the order that is meant;
    `value_sql` makes a value of `column` from the text that answers have, which stands for {}, and
    `parse` raises ValueError for a text that it could not be made from; `read` finds that text in
    an answer, where it is none of its fields. A `nullable` one is of a type that has an infinity.
    """

    field: str
    column: str
    value_sql: str
    parse: Callable[[str], object] = str
    read: Callable[[Mapping[str, Any]], str | None] | None = None
    nullable: bool = False
    descending: bool = False

    def value_of(self, row: Mapping[str, Any]) -> str | None:
        """The value of a row, which is given as the API answers it."""
        found: str | None = row[self.field] if self.read is None else self.read(row)
        return found

    def checked(self, value: object) -> str | None:
        """A value out of a cursor. Raises TypeError or ValueError for what no answer has."""
        if isinstance(value, str):
            self.parse(value)
            return value
        if value is None and self.nullable:
            return None
        raise TypeError(value)

    @property
    def sorted_sql(self) -> str:
        """What rows are sorted by: `column`, never null."""
        return self._with_nulls_last(self.column)

    def after_sql(self, parameter: str) -> str:
        """The same of the row after which a page begins."""
        return self._with_nulls_last(self.value_sql.format(parameter))

    def _with_nulls_last(self, value: str) -> str:
        """A null as what lies beyond all values, so that it compares as any: by an index, too."""
        infinity = "-infinity" if self.descending else "infinity"
        return f"coalesce({value}, '{infinity}')" if self.nullable else value

    @property
    def order_by_sql(self) -> str:
        return f"{self.sorted_sql} {'DESC' if self.descending else 'ASC'}"

    def beyond_sql(self, value: str, among_equals: str) -> str:
        """The condition of rows whose value comes after `value`, or that are `among_equals`."""
        operator = "<" if self.descending else ">"
        equals = f"{self.sorted_sql} = {value} AND {among_equals}"
        return f"({self.sorted_sql} {operator} {value} OR ({equals}))"


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """An order of rows: by some keys, ties broken by `id` in the direction of the last one.

    `name` says which keys, and so is all that tells one order from another.
    """

    name: str
    keys: tuple[SortKey, ...] = field(compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def order_by_sql(self) -> str:
        """What stands behind ORDER BY. An index (…, field DESC, id DESC) serves both directions."""
        direction = "DESC" if self.keys[-1].descending else "ASC"
        return ", ".join([*(key.order_by_sql for key in self.keys), f"id {direction}"])

    def order_by_sql_behind(self, leading: str) -> str:
        """The same, of rows in all of which the column `leading`, if any, is the same."""
        if not leading:
            return self.order_by_sql
        return f"{leading} {'DESC' if self.keys[0].descending else 'ASC'}, {self.order_by_sql}"

    @property
    def after_sql(self) -> str:
        """The condition of the rows after a position, whichever of its values are null.

        Its parameters are those of Position.
        """
        operator = "<" if self.keys[-1].descending else ">"
        values = [key.after_sql(f"%(after_{n})s") for n, key in enumerate(self.keys)]
        first = self.keys[0]
        if all(key.descending is first.descending for key in self.keys):
            # One comparison of rows, which PostgreSQL takes into the index condition whole.
            columns = ", ".join(key.sorted_sql for key in self.keys)
            return f"({columns}, id) {operator} ({', '.join(values)}, %(after_id)s)"
        condition = f"id {operator} %(after_id)s"
        for key, value in zip(reversed(self.keys), reversed(values), strict=True):
            condition = key.beyond_sql(value, condition)
        # For the index condition, into which none of the alternatives goes.
        bound = f"{first.sorted_sql} {'<=' if first.descending else '>='} {values[0]}"
        return f"{bound} AND {condition}"


class OrderingField(serializers.Field[Ordering, str, list[str], Any]):
    """Up to ORDERING_KEYS_MAX different sort keys, separated by commas, each also with `-`."""

    default_error_messages: ClassVar = {
        "invalid_choice": "Not a valid order. Valid: up to {most} of {names}, separated by commas, "
        "each also with - for descending.",
        "repeated": "{field} stands here twice; the second would have no effect.",
    }

    def __init__(self, keys: Sequence[SortKey], *, default: str, **kwargs: Any) -> None:
        self.keys = {key.field: key for key in keys} | {
            f"-{key.field}": replace(key, descending=True) for key in keys
        }
        super().__init__(default=self._ordering(default), **kwargs)

    def to_internal_value(self, data: str) -> Ordering:
        names = data.split(",")
        if len(names) > ORDERING_KEYS_MAX or not self.keys.keys() >= set(names):
            valid = ", ".join(name for name in self.keys if not name.startswith("-"))
            self.fail("invalid_choice", most=ORDERING_KEYS_MAX, names=valid)
        fields = [self.keys[name].field for name in names]
        for name in fields:
            if fields.count(name) > 1:
                self.fail("repeated", field=name)
        return self._ordering(data)

    def to_representation(self, value: Ordering) -> list[str]:
        return value.name.split(",")

    def _ordering(self, name: str) -> Ordering:
        return Ordering(name=name, keys=tuple(self.keys[key] for key in name.split(",")))
