"""Join keys however they are typed, brought to the type that a view has for them: exactly, or refused.

The rules are those of the macro `_key` (macros/cross_db/_key.sql), which casts a spine's keys inside the warehouse:

- text that spells a number is that number ('007' is 7), and a number is the text that it prints as (7 is '7');
- a number of another type counts where it is the same number: 1.0 is 1, 1.5 is no integer;
- a date is its midnight, a moment without a zone is in UTC, and a UUID may be written in any of its forms;
- whatever else would have to be rounded, cut or guessed is no key: True for 1, 'abc' for an integer.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timezone
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import InputError
from materializer.warehouse.arrow import plain_type, python_value, to_plain

# DuckDB's 128-bit integers, as Arrow has them.
HUGEINT = pa.decimal128(38, 0)
UHUGEINT = pa.decimal256(39, 0)
UUID = pa.uuid()

_INTEGER = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}(:[0-9]{2})?)?)?"
)
_UUID_DIGITS = r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32}"
_UUID_TEXT = re.compile(rf"{_UUID_DIGITS}|\{{({_UUID_DIGITS})\}}")
# Up to here every whole number is a double.
_WHOLE_DOUBLES = 2**53


class OutOfRangeError(ValueError):
    """A whole number that the type is too small for: an entity that a view of this type cannot have."""


def as_key(value: Any, dtype: pa.DataType) -> Any:
    """A value as a key of type `dtype`, in Python's own type; None for NULL and NaN. Raises OutOfRangeError for a whole
    number beyond an integer type; ValueError for what is not exactly a value of the type."""
    value = python_value(value)
    try:
        if isinstance(value, bytes) and not (dtype == UUID or pa.types.is_binary(dtype)):
            value = value.decode()
        return None if value is None else _reader(dtype)(value)
    except (ArithmeticError, TypeError, pa.ArrowException):
        raise ValueError(value) from None


def key_text(value: Any) -> str | None:
    """What `as_key` gave, as text in the names of keys online."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value if value is None or isinstance(value, str) else str(value)


def cast_keys(column: pa.ChunkedArray | pa.Array, dtype: pa.DataType, name: str) -> pa.ChunkedArray | pa.Array:
    """A column of keys in the type `dtype`, UUIDs and 128-bit integers as text. Raises InputError naming the key, its
    type and a value that is none of that type.

    NaN becomes NULL, and so do whole numbers beyond an integer type.
    """
    column = normal(column)
    target = carrier(dtype)
    if column.type.equals(target) and target == plain_type(dtype):
        return column
    if pa.types.is_null(column.type):
        return column.cast(target)
    quick = _quick_cast(column, dtype, target)
    if quick is not None:
        return quick
    if pa.types.is_nested(column.type) or pa.types.is_nested(dtype):
        raise refused(name, dtype, next(iter(column.drop_null().to_pylist()), None))
    # Keys come many times each: every value is looked at once.
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = encoded.dictionary_encode()
    values = []
    for value in encoded.dictionary.to_pylist():
        try:
            key = as_key(value, dtype)
        except OutOfRangeError:
            key = None
        except ValueError:
            raise refused(name, dtype, value) from None
        values.append(key_text(key) if pa.types.is_string(target) and key is not None else key)
    return pa.array(values, target).take(encoded.indices)


def cast_for_all(
    column: pa.ChunkedArray | pa.Array, dtypes: Sequence[pa.DataType], name: str
) -> list[pa.ChunkedArray | pa.Array]:
    """A column of keys as `cast_keys` gives it for each of the types that views have for the key. Raises InputError as
    there, and for a whole number that is beyond all of them: no view could have it."""
    column = normal(column)
    casts = [cast_keys(column, dtype, name) for dtype in dtypes]
    lost = pc.is_valid(column)
    for cast in casts:
        if cast.null_count == column.null_count:
            return casts
        lost = pc.and_(lost, pc.is_null(cast))
    beyond = column.filter(lost)
    if len(beyond):
        raise refused(name, dtypes[0], beyond[0].as_py())
    return casts


def portable(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column of keys as it was given, in a type that the warehouse reads: integers beyond 64 bits as text."""
    column = normal(column)
    if pa.types.is_decimal(column.type) and column.type.scale == 0:
        return cast_keys(column, pa.string(), "")
    return column


def refused(name: str, dtype: pa.DataType, value: Any) -> InputError:
    """The sentence for a value that is no key of the type."""
    return InputError(f"Join key '{name}' is of type {type_name(dtype)}, but {value!r} was given for it.")


def normal(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column of keys without its encoding (dictionaries, views of strings, UUIDs as bytes); NULL for NaN."""
    chunks = [_decoded(chunk) for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])]
    parts = (
        chunks[0]
        if isinstance(column, pa.Array)
        else pa.chunked_array(chunks, chunks[0].type if chunks else carrier(column.type))
    )
    if pa.types.is_floating(parts.type):
        return pc.if_else(pc.is_nan(parts), None, parts)
    return to_plain(parts)


def carrier(dtype: pa.DataType) -> pa.DataType:
    """The Arrow type that a key of type `dtype` reaches the warehouse in, which casts text to the rest of the way."""
    if dtype in (UUID, HUGEINT, UHUGEINT):
        return pa.string()
    return plain_type(dtype)


def type_name(dtype: pa.DataType) -> str:
    """A type in words: Arrow's own, but for two that it has none for."""
    return {UUID: "uuid", UHUGEINT: "uhugeint"}.get(dtype, str(dtype))


def _decoded(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.DictionaryArray):
        return _decoded(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        return _decoded(pc.run_end_decode(array))
    if isinstance(array, pa.ExtensionArray):
        if array.type == UUID:
            return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
        return _decoded(array.storage)
    return array.cast(pa.string()) if pa.types.is_string_view(array.type) else array


def _quick_cast(column: Any, dtype: pa.DataType, target: pa.DataType) -> Any:
    """The casts that Arrow makes by our rules, whole columns at once; None for any other, and where one fails."""
    source = column.type
    integer = pa.types.is_integer(dtype) or (target != plain_type(dtype) and dtype != UUID)
    if dtype == UHUGEINT:
        right = False
    elif pa.types.is_integer(source):
        right = integer or pa.types.is_string(dtype)
    elif pa.types.is_string(source):
        right = integer and pc.all(pc.match_substring_regex(column, r"^-?(0|[1-9][0-9]{0,17})$")).as_py() is not False
    elif pa.types.is_floating(source):
        right = pa.types.is_integer(dtype)
    else:
        right = pa.types.is_timestamp(dtype) and (pa.types.is_timestamp(source) or pa.types.is_date(source))
    try:
        return column.cast(target) if right else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


@lru_cache(maxsize=256)
def _reader(dtype: pa.DataType) -> Callable[[Any], Any]:
    """The function that reads a Python value, neither None nor bytes that are text, as one of a type."""
    if pa.types.is_dictionary(dtype):
        return _reader(dtype.value_type)
    if dtype == UUID:
        return lambda value: str(_uuid(value))
    if pa.types.is_integer(dtype) or dtype in (HUGEINT, UHUGEINT):
        low, high = limits_of(dtype)
        return lambda value: _within(_integer(value), low, high)
    if pa.types.is_decimal(dtype):
        return lambda value: _decimal(value, dtype.precision, dtype.scale)
    if pa.types.is_timestamp(dtype):
        zone = timezone.utc if dtype.tz else None
        return lambda value: _moment(value).replace(tzinfo=zone)
    if pa.types.is_floating(dtype):
        return lambda value: _float(value, dtype)
    kind = plain_type(dtype)
    readers = {pa.string(): _text, pa.bool_(): _boolean, pa.date32(): _date, pa.binary(): _binary}
    return readers.get(kind, lambda value: _alike(value, dtype))


def limits_of(dtype: pa.DataType) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    bits = 128 if dtype in (HUGEINT, UHUGEINT) else dtype.bit_width
    signed = pa.types.is_signed_integer(dtype) or dtype == HUGEINT
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _alike(value: Any, dtype: pa.DataType) -> Any:
    if isinstance(value, (int, float, Decimal)):  # Arrow would count with it: 7 is 00:00:00.000007
        raise ValueError(value)
    return pa.array([value], dtype)[0].as_py()


def _within(number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise OutOfRangeError(number)
    return number


def _integer(value: Any) -> int:
    number = int(_matching(_INTEGER, value)) if isinstance(value, str) else _number(value)
    if int(number) != number:
        raise ValueError(value)
    return int(number)


def _decimal(value: Any, precision: int, scale: int) -> Decimal:
    if isinstance(value, str):
        number = Decimal(_matching(_DECIMAL, value))
    else:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(_number(value))
    exact = number.quantize(Decimal(1).scaleb(-scale), context=Context(prec=400))
    if exact != number or abs(exact) >= 10 ** (precision - scale):
        raise ValueError(value)
    return exact


def _float(value: Any, dtype: pa.DataType) -> float:
    exact = float(_matching(_FLOAT, value)) if isinstance(value, str) else _number(value)
    number = pa.scalar(float(exact), dtype).as_py()
    if not isinstance(value, str) and number != exact:
        raise ValueError(value)
    return number


def _text(value: Any) -> str:
    match value:
        case str():
            return str.__str__(value)
        case bool():
            return "true" if value else "false"
        case float() if abs(value) < _WHOLE_DOUBLES and value == int(value):
            return str(int(value))
        case int():
            return str(int(value))
        case Decimal() if value.is_finite():
            return f"{value:f}"
        case uuid.UUID():
            return str(value)
        case date() if not isinstance(value, datetime):
            return value.isoformat()
    raise ValueError(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(value)


def _date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(_matching(_DATE, value))
    if isinstance(value, datetime):
        moment = _moment(value)
        if moment.time() != time():
            raise ValueError(value)
        return moment.date()
    if isinstance(value, date):
        return value
    raise ValueError(value)


def _moment(value: Any) -> datetime:
    """In UTC, without a zone."""
    if isinstance(value, str):
        value = datetime.fromisoformat(_matching(_MOMENT, value))
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(timezone.utc).replace(tzinfo=None)
        return datetime(*value.timetuple()[:6], value.microsecond)
    if isinstance(value, date):
        return datetime.combine(value, time())
    raise ValueError(value)


def _uuid(value: Any) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, bytes):
        if len(value) == 16:
            return uuid.UUID(bytes=value)
        value = value.decode()
    if isinstance(value, str):
        return uuid.UUID(hex=_matching(_UUID_TEXT, value))
    raise ValueError(value)


def _binary(value: Any) -> bytes:
    if isinstance(value, (bytes, str)):
        return value.encode() if isinstance(value, str) else value
    raise ValueError(value)


def _number(value: Any) -> int | float | Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError(value)
    return value


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text
