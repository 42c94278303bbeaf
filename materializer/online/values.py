"""Values as text and back, by Arrow type: the public format of docs/online-format.md."""

from __future__ import annotations

import array
import json
import struct
import threading
from collections.abc import Callable
from datetime import date, datetime, time, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import DefinitionError, WarehouseError
from materializer.warehouse.arrow import is_list
from materializer.warehouse.join_keys import UHUGEINT, UUID, type_name
from materializer.warehouse.moments import SINCE_EVER, all_stated

if TYPE_CHECKING:
    import duckdb

_SCALARS = (
    pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_binary,
    pa.types.is_timestamp, pa.types.is_date32, pa.types.is_time64, pa.types.is_decimal,
)  # fmt: skip
_KEYS = (
    pa.types.is_integer, pa.types.is_boolean, pa.types.is_string, pa.types.is_timestamp, pa.types.is_date32,
    pa.types.is_decimal,
)  # fmt: skip

# As which SINCE_EVER is written.
_SINCE_EVER = b"-infinity"

_threads = threading.local()


def check_key_type(dtype: pa.DataType, what: str) -> None:
    """Stop for types that cannot be join keys online: equal floats need not have equal texts, and the upper half of the
    unsigned 128-bit integers does not arrive as it is.

    Raises:
        DefinitionError: naming the column and its type.
    """
    if dtype == UHUGEINT or not (dtype == UUID or any(is_type(dtype) for is_type in _KEYS)):
        raise DefinitionError(
            f"{what} is of type {type_name(dtype)}, which cannot be a key online: cast it to an integer or text."
        )


def check_value_type(dtype: pa.DataType, what: str) -> None:
    """Stop for types that have no text.

    Raises:
        DefinitionError: naming the column and its type.
    """
    parts = [dtype]
    while parts:
        part = parts.pop()
        if is_list(part):
            parts.append(part.value_type)
        elif pa.types.is_map(part):
            parts += [part.key_type, part.item_type]
        elif pa.types.is_struct(part) and len({field.name for field in part}) == part.num_fields:
            parts += [field.type for field in part]
        elif not any(is_type(part) for is_type in _SCALARS):
            raise DefinitionError(f"{what} is of type {dtype}, which cannot be stored online: cast it in the model.")


def encode(column: pa.Array) -> pa.Array:
    """A column (in its plain type) as the bytes that Redis holds; NULL stays NULL.

    Returns:
        a ``binary`` array of the same length.

    Raises:
        WarehouseError: for a moment outside of the years 1 to 9999, or a time of 24:00:00.
    """
    dtype = column.type
    if pa.types.is_temporal(dtype) and not all_stated(column):
        # Rows that hold such a moment are left out before they come here: this one was not there then.
        raise WarehouseError(f"A {dtype} came that the online format cannot state: run it again.")
    if pa.types.is_binary(dtype):
        return column
    if pa.types.is_timestamp(dtype):
        text = pc.replace_substring(column.cast(pa.timestamp("us")).cast(pa.string()), " ", "T", max_replacements=1)
        text = pc.binary_join_element_wise(text, "Z", "")
    elif pa.types.is_floating(dtype) or pa.types.is_decimal128(dtype):
        # DuckDB writes the shortest text that reads back the same (0.1, 1e-07, -0.0, nan), and decimals in full.
        texts = _duckdb().from_arrow(pa.table({"x": column})).select("cast(x as varchar)")
        text = texts.to_arrow_table().column(0)
        text = text.combine_chunks() if text.num_chunks != 1 else text.chunk(0)
    elif is_list(dtype) and pa.types.is_floating(dtype.value_type):
        return _encode_float_lists(column)
    elif is_list(dtype) or pa.types.is_struct(dtype) or pa.types.is_map(dtype):
        text = pa.array([None if v is None else _to_json(v, dtype) for v in column.to_pylist()], pa.string())
    else:
        text = column.cast(pa.string())
    return text.cast(pa.binary())


def encode_since(moments: pa.Array) -> pa.Array:
    """Event or created times as `encode` writes timestamps, and ``-infinity`` for those that stand for "since ever"."""
    if pc.min(moments.cast(pa.int64())).as_py() != SINCE_EVER:
        return encode(moments)
    since_ever = pc.fill_null(pc.equal(moments.cast(pa.int64()), SINCE_EVER), False)
    return pc.if_else(since_ever, _SINCE_EVER, encode(pc.if_else(since_ever, None, moments)))


def _duckdb() -> duckdb.DuckDBPyConnection:
    """A connection of the thread's own: one that is shared refuses whoever comes second."""
    import duckdb

    if not hasattr(_threads, "connection"):
        _threads.connection = duckdb.connect(":memory:", config={"threads": 1})
    return _threads.connection


def _encode_float_lists(column: pa.Array) -> pa.Array:
    """Lists of floats as little-endian blobs; a list with a NULL inside as JSON.

    A blob's length is a multiple of the float's width and the JSON's is padded not to be, so neither passes for the
    other.
    """
    lists = column.cast(pa.list_(column.type.value_type))
    width = column.type.value_type.bit_width // 8
    offsets = pc.multiply_checked(lists.offsets, pa.scalar(width, pa.int32()))
    validity = pc.is_valid(lists)
    # The values may be a part of a longer array, whose buffer begins before them.
    numbers = lists.values.buffers()[1].slice(lists.values.offset * width)
    blobs = pa.Array.from_buffers(
        pa.binary(), len(lists), [None, offsets.buffers()[1], numbers], offset=offsets.offset
    )  # fmt: skip
    if lists.values.null_count:
        holes = [v is not None and None in v for v in lists.to_pylist()]
        texts = [_padded(_to_json(v, column.type), width) if hole else None
                 for v, hole in zip(lists.to_pylist(), holes, strict=True)]  # fmt: skip
        blobs = pc.if_else(pa.array(holes, pa.bool_()), pa.array(texts, pa.binary()), blobs)
    return pc.if_else(validity, blobs, None)


def _padded(text: str, width: int) -> bytes:
    return (text + " " if len(text) % width == 0 else text).encode()


def _to_json(value: Any, dtype: pa.DataType) -> str:
    return json.dumps(_jsonable(value, dtype), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _jsonable(value: Any, dtype: pa.DataType) -> Any:
    """JSON's own null, booleans, integers, finite floats, strings, arrays and objects; everything else as its text."""
    if value is None or pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_string(dtype):
        return value
    if is_list(dtype):
        return [_jsonable(item, dtype.value_type) for item in value]
    if pa.types.is_map(dtype):
        return [[_jsonable(k, dtype.key_type), _jsonable(v, dtype.item_type)] for k, v in value]
    if pa.types.is_struct(dtype):
        return {field.name: _jsonable(value[field.name], field.type) for field in dtype}
    if pa.types.is_floating(dtype) and value - value == 0:
        return value
    if pa.types.is_binary(dtype):
        return value.hex()
    return encode(pa.array([value], dtype))[0].as_py().decode()


@lru_cache(maxsize=4096)
def decoder(dtype: pa.DataType) -> Callable[[bytes], Any]:
    """The function that turns what Redis holds of a value of this type into what Arrow's ``as_py`` gives for it.

    It raises ValueError for bytes that are no such value.
    """
    if pa.types.is_integer(dtype):
        return int
    if pa.types.is_float64(dtype):
        return float
    if pa.types.is_float32(dtype):
        return _single
    if pa.types.is_boolean(dtype):
        return _boolean
    if pa.types.is_string(dtype):
        return bytes.decode
    if pa.types.is_binary(dtype):
        return bytes
    if pa.types.is_timestamp(dtype):
        zone = timezone.utc if dtype.tz else None
        return lambda raw: _moment(raw, zone)
    if pa.types.is_date32(dtype):
        return lambda raw: date.fromisoformat(raw.decode())
    if pa.types.is_time64(dtype):
        return lambda raw: time.fromisoformat(raw.decode())
    if pa.types.is_decimal(dtype):
        return _decimal
    if is_list(dtype) and pa.types.is_floating(dtype.value_type):
        return _float_list_decoder(dtype)
    return lambda raw: _from_json(raw, dtype)


def decode_since(raw: bytes) -> datetime:
    """An event or created time; ``-infinity`` is the first moment that Python has.

    Raises:
        ValueError: for what is no moment.
    """
    return datetime.min.replace(tzinfo=timezone.utc) if raw == _SINCE_EVER else _moment(raw, timezone.utc)


def _moment(raw: bytes, zone: timezone | None) -> datetime:
    moment = datetime.fromisoformat(raw.decode())
    if offset := moment.utcoffset():  # of a row that was pushed: ours end in Z
        try:
            moment -= offset
        except OverflowError:
            raise ValueError(f"{raw!r} is before the year 1 or after 9999 in UTC") from None
    return moment.replace(tzinfo=zone)


_SINGLE = struct.Struct("<f")


def _single(raw: bytes) -> float:
    try:
        return _SINGLE.unpack(_SINGLE.pack(float(raw)))[0]
    except OverflowError:
        raise ValueError(f"{raw!r} does not fit into 32 bits") from None


def _boolean(raw: bytes) -> bool:
    if raw == b"true":
        return True
    if raw == b"false":
        return False
    raise ValueError(f"{raw!r} is neither true nor false")


def _decimal(raw: bytes) -> Decimal:
    try:
        number = Decimal(raw.decode())
    except ArithmeticError:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"{raw!r} is no decimal number")
    return number


def _float_list_decoder(dtype: pa.DataType) -> Callable[[bytes], Any]:
    code = "f" if pa.types.is_float32(dtype.value_type) else "d"
    width = array.array(code).itemsize

    def decode(raw: bytes) -> list[float | None]:
        if len(raw) % width:
            return _from_json(raw, dtype)
        return array.array(code, raw).tolist()

    return decode


def _from_json(raw: bytes, dtype: pa.DataType) -> Any:
    try:
        return _from_jsonable(json.loads(raw), dtype)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"the JSON is not of {dtype}: {error}") from None


def _from_jsonable(value: Any, dtype: pa.DataType) -> Any:
    if value is None or pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_string(dtype):
        return value
    if is_list(dtype):
        return [_from_jsonable(item, dtype.value_type) for item in value]
    if pa.types.is_map(dtype):
        return [(_from_jsonable(k, dtype.key_type), _from_jsonable(v, dtype.item_type)) for k, v in value]
    if pa.types.is_struct(dtype):
        return {field.name: _from_jsonable(value[field.name], field.type) for field in dtype}
    if pa.types.is_binary(dtype):
        return bytes.fromhex(value)
    if pa.types.is_float64(dtype):
        return float(value)
    return decoder(dtype)(str(value).encode())
