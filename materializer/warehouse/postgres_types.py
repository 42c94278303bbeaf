"""PostgreSQL's types in Arrow: what the driver would change is brought another way, or refused by name.

The driver (https://arrow.apache.org/adbc/current/driver/postgresql.html) gives `numeric` as text, with the declared
digits in the metadata, adds the days between 1970 and 2000 to infinity too, and makes one list of a list of lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import WarehouseError
from materializer.project.relation import Column
from materializer.warehouse import quoted
from materializer.warehouse.arrow import ENDLESS, is_list
from materializer.warehouse.moments import ENDLESS_DATE

# Types that their text says wholly.
_AS_TEXT = (
    "uuid", "xml", "inet", "cidr", "macaddr", "macaddr8", "bit", "bit varying", "interval", "time with time zone",
)  # fmt: skip
_MOST_DIGITS = 38
_DIGITS = re.compile(r"numeric\((\d+),(-?\d+)\)")
# What infinity becomes, in microseconds and in days, when 30 years are added to the largest number there is.
_EPOCH_DAYS, _EPOCH = 10_957, 10_957 * 86_400_000_000
_INFINITE = {_EPOCH - 2**63 - 1: ENDLESS, _EPOCH - 2**63: -ENDLESS}
_INFINITE_DAYS = {_EPOCH_DAYS - 2**31 - 1: ENDLESS_DATE, _EPOCH_DAYS - 2**31: -ENDLESS_DATE}
# The first moment of PostgreSQL, in 4714 BC: what is said to be before it is past the last one of Arrow.
_FIRST, _FIRST_DAY = -210_866_803_200_000_000, -2_440_588
# Of types as the driver names them PostgreSQL's name, and `b` for a plain one, `e` an enum, `c` a row ...
Names = Callable[[Sequence[str]], list[tuple[str, str]]]


@dataclass(frozen=True)
class Answer:
    """How to read a query: the SQL to run, the Arrow types of what is given out, and columns that say where a list
    holds lists."""

    sql: str
    schema: pa.Schema
    nested: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, sql: str, given: pa.Schema, names: Names, declared: Callable[[str], Mapping[str, str]], of: str = ""
    ) -> Answer:
        """For a query, of the relation `of` perhaps, whose columns the driver describes as `given`; `declared` tells
        their types with all digits.

        Raises:
            WarehouseError: naming a column of a type that cannot be read.
        """
        known = dict(zip(asked, names(asked), strict=True)) if (asked := _unclear(given)) else {}
        digits: Mapping[str, str] = {}
        if any(is_list(field.type) and _is_numeric(field.type.value_type) for field in given):
            digits = declared(sql)
        fields, columns, nested = [], [], []
        for field in given:
            name, inner = quoted(field.name), field.type.value_type if is_list(field.type) else field.type
            kind = _type_name(field)
            text = inner in (pa.uuid(), pa.month_day_nano_interval()) or known.get(kind, ("", ""))[1] == "e"
            text = text or known.get(kind, ("",))[0] in _AS_TEXT
            if text:
                inner = pa.string()
                columns.append(f"cast({name} as text{'[]' if is_list(field.type) else ''}) as {name}")
            else:
                columns.append(name)
                inner = _plain(field, inner, kind, known, digits, of)
            if is_list(field.type):
                nested.append(f"_fs_nested_{len(nested)}")
                columns.append(f"coalesce(array_ndims({name}), 1) > 1 as {nested[-1]}")
            fields.append(pa.field(field.name, pa.list_(inner) if is_list(field.type) else inner))
        if columns != [quoted(name) for name in given.names]:
            sql = f"select {', '.join(columns)} from (\n{sql}\n) as _fs_query"
        return cls(f"{sql}\n", pa.schema(fields), tuple(nested))

    def exact(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch as it came, in the types of `schema`. Raises WarehouseError naming a column with a value that these
        do not hold."""
        lists = [field.name for field in self.schema if is_list(field.type)]
        for name, check in zip(lists, self.nested, strict=True):
            if pc.any(batch.column(check)).as_py():
                raise _unreadable(name, "holds a list of lists", "flatten it in the model, or cast it to text")
        columns = [column for name, column in zip(batch.schema.names, batch.columns, strict=True)
                   if name not in self.nested]  # fmt: skip
        exact = [_exact(column, field.type, field.name) for column, field in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(exact, schema=self.schema)


def declared(given: pa.Schema, names: Names) -> list[Column]:
    """The columns of a query that the driver describes as `given`, with PostgreSQL's names of types."""
    asked = list(map(_type_name, given))
    found = names(asked) if asked else []
    columns = []
    for field, (name, _) in zip(given, found, strict=True):
        digits = _digits(int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")))
        columns.append(Column(field.name, f"{name}({digits[0]},{digits[1]})" if digits else name))
    return columns


def sql_type(dtype: pa.DataType) -> str:
    """The type of a temporary table's column for values of an Arrow type, plain and `signed`. Raises WarehouseError for
    one that no column has."""
    if is_list(dtype):
        return f"{sql_type(dtype.value_type)}[]"
    if pa.types.is_decimal(dtype):
        return f"numeric({dtype.precision}, {dtype.scale})"
    found = _SQL.get(dtype)
    if found is None:
        raise WarehouseError(f"PostgreSQL has no type for values that are {dtype}: convert the column first.")
    return found


_SQL = {
    pa.int16(): "smallint", pa.int32(): "integer", pa.int64(): "bigint", pa.float32(): "real",
    pa.float64(): "double precision", pa.string(): "text", pa.binary(): "bytea", pa.bool_(): "boolean",
    pa.date32(): "date", pa.time64("us"): "time", pa.timestamp("us"): "timestamp",
    pa.timestamp("us", "UTC"): "timestamp with time zone",
}  # fmt: skip


def _type_name(field: pa.Field) -> str:
    return (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()


def _is_opaque(dtype: pa.DataType) -> bool:
    return isinstance(dtype, pa.OpaqueType)


def _is_numeric(dtype: pa.DataType) -> bool:
    return _is_opaque(dtype) and dtype.type_name == "numeric"


def _unclear(given: pa.Schema) -> list[str]:
    """The types that the driver gives as bytes, or as rows; and money, which it gives as a number of cents."""
    found = {}
    for field in given:
        inner = field.type.value_type if is_list(field.type) else field.type
        name = _type_name(field)
        opaque = _is_opaque(inner) and not _is_numeric(inner)
        if opaque or pa.types.is_struct(inner) or name in ("money", "_money"):
            found[name] = None
    return list(found)


def _plain(
    field: pa.Field, inner: pa.DataType, kind: str, known: Mapping[str, tuple[str, str]], digits: Mapping[str, str],
    of: str,
) -> pa.DataType:  # fmt: skip
    """The type in which a column's values, or what its lists hold, are given out."""
    if kind in known:
        why = f"is of PostgreSQL's type {known[kind][0]}"
        raise _unreadable(field.name, why, "cast it in the model, to text say", of)
    if _is_numeric(inner):
        if is_list(field.type):
            found = _DIGITS.match(digits.get(field.name, ""))
            size = (int(found[1]), int(found[2])) if found else None
        else:
            size = _digits(int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")))
        if size is None:
            wanted = f"numeric(38, 9){'[]' if is_list(field.type) else ''}"
            remedy = f"write cast({quoted(field.name)} as {wanted}) in the model, or a cast to double precision"
            raise _unreadable(field.name, "is numeric without digits", remedy, of)
        precision, scale = size if size[1] >= 0 else (size[0] - size[1], 0)
        if max(precision, scale) > _MOST_DIGITS:
            why = f"is numeric({size[0]}, {size[1]}), more than {_MOST_DIGITS} digits"
            raise _unreadable(field.name, why, "cast it to fewer in the model", of)
        return pa.decimal128(max(precision, scale), scale)
    return inner.storage_type if isinstance(inner, pa.BaseExtensionType) else inner


def _digits(modifier: int) -> tuple[int, int] | None:
    """Precision and scale of a numeric's type modifier: https://doxygen.postgresql.org/numeric_8c.html,
    `make_numeric_typmod`."""
    if modifier < 4:
        return None
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    return precision, scale - 2048 if scale > 1023 else scale


def _exact(array: pa.Array, dtype: pa.DataType, name: str) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if is_list(dtype):
        values = _exact(array.values, dtype.value_type, name)
        return pa.Array.from_buffers(dtype, len(array), array.buffers()[:2], offset=array.offset, children=[values])
    if pa.types.is_decimal(dtype):
        try:
            return array.cast(dtype)
        except pa.ArrowInvalid:
            raise _unreadable(name, "holds NaN or infinity in a numeric", "cast it to double precision") from None
    if pa.types.is_timestamp(dtype):
        return _moments(array, dtype, name, pa.int64(), _FIRST, _INFINITE)
    if pa.types.is_date(dtype):
        return _moments(array, dtype, name, pa.int32(), _FIRST_DAY, _INFINITE_DAYS)
    return array if array.type.equals(dtype) else array.cast(dtype)


def _moments(
    array: pa.Array, dtype: pa.DataType, name: str, number: pa.DataType, first: int, infinite: Mapping[int, int]
) -> pa.Array:  # fmt: skip
    """Dates or timestamps with infinity as Arrow and DuckDB have it."""
    least = pc.min(counted := array.cast(number)).as_py()
    if least is None or least >= first:
        return array
    for wrapped, meant in infinite.items():
        counted = pc.if_else(pc.equal(counted, wrapped), pa.scalar(meant, number), counted)
    low = pc.and_(pc.less(counted, first), pc.not_equal(counted, min(infinite.values())))
    if pc.any(low).as_py():
        raise _unreadable(name, "holds a moment past the year 294,246", "bring it within the model")
    return counted.cast(dtype)


def _unreadable(name: str, why: str, remedy: str, of: str = "") -> WarehouseError:
    return WarehouseError(f"Column '{name}'{f' of {of}' if of else ''} {why}, which cannot be read: {remedy}.")
