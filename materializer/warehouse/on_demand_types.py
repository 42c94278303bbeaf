"""What on-demand features may read: the types of their inputs, and request fields brought to them exactly, or refused.

The rules for values are those of join keys (`materializer.warehouse.join_keys`), but that a double may be NaN.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa

from materializer.errors import InputError
from materializer.project.definitions import OnDemand
from materializer.warehouse.arrow import python_value, to_plain
from materializer.warehouse.join_keys import as_key

_FIELDS = {
    "BIGINT": pa.int64(), "INTEGER": pa.int32(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us"),
}  # fmt: skip
_NOT_FINITE = ("nan", "inf", "-inf")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def input_type(dtype: pa.DataType | None) -> pa.DataType | None:
    """The type in which an expression reads values of `dtype`, as the macro `_on_demand_input` casts them; None where
    it cannot."""
    if dtype is None:
        return None
    if pa.types.is_integer(dtype):
        return None if dtype == pa.uint64() else pa.int64()
    if pa.types.is_floating(dtype):
        return pa.float64()
    if pa.types.is_timestamp(dtype):
        return pa.timestamp("us")
    same = pa.types.is_decimal128(dtype) or dtype in (pa.string(), pa.bool_(), pa.date32())
    return dtype if same else None


def sql_type(dtype: pa.DataType) -> str:
    """What DuckDB calls a type of an input, or of a value."""
    if pa.types.is_decimal(dtype):
        return f"DECIMAL({dtype.precision},{dtype.scale})"
    names = {
        pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
        pa.float64(): "DOUBLE", pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN", pa.date32(): "DATE",
        pa.timestamp("us"): "TIMESTAMP",
    }  # fmt: skip
    return names[dtype]


def request_types(how: OnDemand) -> dict[str, pa.DataType]:
    """The `input_type` of every request field of an on-demand feature."""
    found = {name: input_type(field_type(declared)) for name, declared in how.request.items()}
    return {name: dtype for name, dtype in found.items() if dtype is not None}


def field_type(declared: str) -> pa.DataType:
    """The Arrow type of a request field: ``DOUBLE``, ``DECIMAL(10,2)``. KeyError for a type that none may have."""
    if digits := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", declared):
        return pa.decimal128(int(digits[1]), int(digits[2]))
    return _FIELDS[declared]


def field_values(values: Iterable[Any], declared: str, name: str) -> list[Any]:
    """Values of a request field as Python has those of its type; None for NULL. InputError for one that is not exactly
    of the type."""
    dtype = field_type(declared)
    found = []
    for value in values:
        try:
            found.append(_double(value) if dtype == pa.float64() else _other(value, dtype))
        except ValueError:
            raise _refused(name, declared, value) from None
    return found


def cast_field(column: pa.ChunkedArray, declared: str, name: str) -> pa.ChunkedArray | pa.Array:
    """A column of a spine as a request field of its type. InputError for a value that is not exactly of the type."""
    dtype, column = field_type(declared), to_plain(column)
    given = column.type
    quick = (
        pa.types.is_null(given) or given == dtype or (pa.types.is_integer(given) and declared in ("BIGINT", "DOUBLE"))
        or (pa.types.is_floating(given) and declared == "DOUBLE")
        or (pa.types.is_timestamp(given) and declared == "TIMESTAMP")
    )  # fmt: skip
    if quick:
        try:
            return column.cast(dtype)
        except pa.ArrowInvalid:
            pass  # a number that does not fit: which one it is is found below
    return pa.array(field_values(column.to_pylist(), declared, name), dtype)


def _double(value: Any) -> float | None:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # of numpy
        value = value.item()
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str) and (value in _NOT_FINITE or _FLOAT.fullmatch(value)):
        return float(value)
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        try:
            number = float(value)
            same = Decimal(repr(number)) == value if isinstance(value, Decimal) else int(number) == value
        except (ArithmeticError, OverflowError):
            same = False
        if same:
            return number
    if python_value(value) is None:
        return None
    raise ValueError(value)


def _other(value: Any, dtype: pa.DataType) -> Any:
    found = as_key(value, dtype)
    if isinstance(found, str):
        found.encode()  # a text that is no Unicode is none
    return found


def _refused(name: str, declared: str, value: Any) -> InputError:
    text = repr(value)
    text = text if len(text) <= 60 else text[:56] + " ..."
    return InputError(f"Request field '{name}' is of type {declared.lower()}, but {text} was given for it.")
