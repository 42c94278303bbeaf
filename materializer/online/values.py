"""Values as text and back, by Arrow type: the public format of docs/online-format.md."""

from __future__ import annotations

import array
import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import DefinitionError, WarehouseError
from materializer.warehouse.arrow import is_list
from materializer.warehouse.join_keys import UHUGEINT, UUID, key_text, limits_of, type_name
from materializer.warehouse.moments import SINCE_EVER, all_stated

# Columns up to this length are decoded value by value.
_FEW = 4
# As which SINCE_EVER is written.
_SINCE_EVER = b"-infinity"
_SINGLE = struct.Struct("<f")
_INTEGERS, _DOUBLES, _BOOLEANS = (msgspec.json.Decoder(list[kind]).decode for kind in (int, float, bool))
_KEYS = (
    pa.types.is_integer, pa.types.is_boolean, pa.types.is_string, pa.types.is_timestamp, pa.types.is_date32,
    pa.types.is_decimal,
)  # fmt: skip


@dataclass(frozen=True)
class Codec:
    """How values of one type are kept online.

    `encode` turns a column (in its plain type) into the bytes that Redis holds, NULL stays NULL. `decode` turns the
    bytes of one value into what Arrow's ``as_py`` gives for it, and raises ValueError for bytes that are none. It is
    lenient: `check` says whether decoded values are of the type, None where they always are. `from_texts` does the same
    for the bytes of many values at once, in a fraction of the time, where all of them are JSON already; it raises
    ValueError where they are not. `to_json` and `from_json` are for a value inside of a list, struct or map; each takes
    None too. `blob` says that the bytes need not be text.
    """

    encode: Callable[[pa.Array], pa.Array]
    decode: Callable[[bytes], Any]
    check: Callable[[list[Any]], bool] | None = None
    to_json: Callable[[Any], Any] = lambda value: value
    from_json: Callable[[Any], Any] = lambda value: value
    from_texts: Callable[[Sequence[bytes]], list[Any]] | None = None
    blob: bool = False


def codec(dtype: pa.DataType, what: str) -> Codec:
    """The codec of a type; DefinitionError, naming the column `what`, for one that cannot be stored online."""
    found = _codec(dtype)
    if found is None:
        raise DefinitionError(f"{what} is of type {dtype}, which cannot be stored online: cast it in the model.")
    return found


def decode_column(codec: Codec, column: Sequence[bytes]) -> list[Any] | None:
    """The values of a column of which nothing is missing; None where one cannot be read."""
    values = decode_at_once(codec, column) if len(column) > _FEW else None
    return decode_each(codec, column) if values is None else values


def decode_at_once(codec: Codec, column: Sequence[bytes]) -> list[Any] | None:
    """The same where all of its texts are JSON already; None where that cannot be said."""
    if codec.from_texts is None:
        return None
    try:
        return _checked(codec, codec.from_texts(column))
    except ValueError:  # foreign texts, NaN, infinities
        return None


def decode_each(codec: Codec, column: Sequence[bytes]) -> list[Any] | None:
    """The same, value by value."""
    try:
        values = list(map(codec.decode, column))
    except Exception:  # whatever a foreign text makes of a decoder
        return None
    return _checked(codec, values)


def _checked(codec: Codec, values: list[Any]) -> list[Any] | None:
    return values if codec.check is None or not values or codec.check(values) else None


def check_key_type(dtype: pa.DataType, what: str) -> None:
    """Stop with a DefinitionError for types that cannot be join keys online: equal floats need not have equal texts,
    and the upper half of the unsigned 128-bit integers does not arrive as it is."""
    if dtype == UHUGEINT or not (dtype == UUID or any(is_type(dtype) for is_type in _KEYS)):
        raise DefinitionError(
            f"{what} is of type {type_name(dtype)}, which cannot be a key online: cast it to an integer or text."
        )


def encode(column: pa.Array) -> pa.Array:
    """A column (in its plain type) as `Codec.encode` gives it: a ``binary`` array of the same length. Raises
    WarehouseError for a moment outside of the years 1 to 9999, or a time of 24:00:00."""
    return codec(column.type, "A column").encode(column)


def encode_all(columns: Sequence[pa.Array]) -> list[pa.Array]:
    """The same of several columns of one length."""
    codecs = [codec(column.type, "A column") for column in columns]
    numbers = [place for place, found in enumerate(codecs) if found.encode is _numbers]
    texts = dict(zip(numbers, _all_numbers([columns[place] for place in numbers]), strict=True))
    return [
        texts[place] if place in texts else found.encode(column)
        for place, (found, column) in enumerate(zip(codecs, columns, strict=True))
    ]


def encode_since(moments: pa.Array) -> pa.Array:
    """Event or created times as `encode` writes timestamps, and ``-infinity`` for those that stand for "since ever"."""
    if pc.min(moments.cast(pa.int64())).as_py() != SINCE_EVER:
        return encode(moments)
    since_ever = pc.fill_null(pc.equal(moments.cast(pa.int64()), SINCE_EVER), False)
    return pc.if_else(since_ever, _SINCE_EVER, encode(pc.if_else(since_ever, None, moments)))


def decode_since(raw: bytes) -> datetime:
    """An event or created time; ``-infinity`` is the first moment that Python has. ValueError for what is no moment."""
    return datetime.min.replace(tzinfo=timezone.utc) if raw == _SINCE_EVER else _moment(raw, timezone.utc)


@lru_cache(maxsize=4096)
def _codec(dtype: pa.DataType) -> Codec | None:
    is_type = pa.types
    if is_type.is_integer(dtype):
        low, high = limits_of(dtype)
        check = lambda values: low <= min(values) and max(values) <= high  # noqa: E731
        return Codec(_texts, int, check, from_texts=partial(_from_texts, _INTEGERS))
    if is_type.is_boolean(dtype):
        return Codec(_texts, _boolean, from_texts=partial(_from_texts, _BOOLEANS))
    if is_type.is_string(dtype):
        return Codec(_texts, bytes.decode)
    if is_type.is_binary(dtype):
        return Codec(lambda column: column, bytes, None, _of_value(bytes.hex), _of_value(bytes.fromhex), blob=True)
    if is_type.is_timestamp(dtype):
        return _scalar(_temporal, partial(_moment, zone=timezone.utc if dtype.tz else None), None, key_text)
    if is_type.is_date32(dtype):
        return _scalar(_temporal, lambda raw: date.fromisoformat(raw.decode()), None, date.isoformat)
    if is_type.is_time64(dtype):
        text = partial(time.isoformat, timespec="microseconds")
        return _scalar(_temporal, lambda raw: time.fromisoformat(raw.decode()), None, text)
    if is_type.is_decimal(dtype):
        encode = _numbers if is_type.is_decimal128(dtype) else _texts
        return _scalar(encode, _decimal, partial(_is_arrow, dtype), key_text)
    if is_type.is_floating(dtype):
        # JSON has no word for those that are not finite.
        found = _scalar(_numbers, _single, None, lambda value: value if value - value == 0 else repr(value))
        if is_type.is_float32(dtype):
            return replace(found, from_texts=_singles)
        return replace(found, decode=float, from_json=_of_value(float), from_texts=partial(_from_texts, _DOUBLES))
    return _nested(dtype)


def _scalar(
    encode: Callable[[pa.Array], pa.Array],
    decode: Callable[[bytes], Any],
    check: Callable[[list[Any]], bool] | None,
    to_json: Callable[[Any], Any],
) -> Codec:
    """A type of which JSON holds the text, or a number that is read as its text."""
    return Codec(encode, decode, check, _of_value(to_json), _of_value(lambda value: decode(str(value).encode())))


def _nested(dtype: pa.DataType) -> Codec | None:
    """Lists, maps and structs as JSON; lists of floats as blobs."""
    if is_list(dtype):
        item = _codec(dtype.value_type)
        if item is None:
            return None
        to_json = _of_value(lambda value: list(map(item.to_json, value)))
        from_json = _of_value(lambda value: list(map(item.from_json, value)))
    elif pa.types.is_map(dtype):
        key, item = _codec(dtype.key_type), _codec(dtype.item_type)
        if key is None or item is None:
            return None
        to_json = _of_value(lambda value: [[key.to_json(k), item.to_json(v)] for k, v in value])
        from_json = _of_value(lambda value: [(key.from_json(k), item.from_json(v)) for k, v in value])
    elif pa.types.is_struct(dtype):
        parts = {field.name: _codec(field.type) for field in dtype}
        if len(parts) < dtype.num_fields or None in parts.values():
            return None
        to_json = _of_value(lambda value: {name: part.to_json(value[name]) for name, part in parts.items()})
        from_json = _of_value(lambda value: {name: part.from_json(value[name]) for name, part in parts.items()})
    else:
        return None

    def dumps(value: Any) -> str:
        return json.dumps(to_json(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def loads(raw: bytes) -> Any:
        try:
            return from_json(json.loads(raw))
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"the JSON is not of {dtype}: {error}") from None

    def encode(column: pa.Array) -> pa.Array:
        texts = [None if value is None else dumps(value) for value in column.to_pylist()]
        return pa.array(texts, pa.string()).cast(pa.binary())

    if is_list(dtype) and pa.types.is_floating(dtype.value_type):
        letter = "f" if pa.types.is_float32(dtype.value_type) else "d"
        width = array.array(letter).itemsize
        return Codec(
            partial(_float_lists, dumps),
            lambda raw: loads(raw) if len(raw) % width else array.array(letter, raw).tolist(),
            None, to_json, from_json, blob=True,
        )  # fmt: skip
    return Codec(encode, loads, partial(_is_arrow, dtype), to_json, from_json)


def _of_value(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else function(value)


def _is_arrow(dtype: pa.DataType, values: list[Any]) -> bool:
    try:
        pa.array(values, dtype)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


# Columns as bytes.


def _texts(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()).cast(pa.binary())


def _temporal(column: pa.Array) -> pa.Array:
    if not all_stated(column):
        # Rows that hold such a moment are left out before they come here: this one was not there then.
        raise WarehouseError(f"A {column.type} came that the online format cannot state: run it again.")
    if not pa.types.is_timestamp(column.type):
        return _texts(column)
    texts = column.cast(pa.timestamp("us")).cast(pa.string())
    texts = pc.replace_substring(texts, " ", "T", max_replacements=1)
    return pc.binary_join_element_wise(texts, "Z", "").cast(pa.binary())


def _numbers(column: pa.Array) -> pa.Array:
    return _all_numbers([column])[0]


def _all_numbers(columns: Sequence[pa.Array]) -> list[pa.Array]:
    if not columns:
        return []
    from materializer.warehouse.exact import number_texts  # a reader needs no DuckDB

    return [texts.cast(pa.binary()) for texts in number_texts(columns)]


def _float_lists(to_text: Callable[[Any], str], column: pa.Array) -> pa.Array:
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
    buffers = [None, offsets.buffers()[1], numbers]
    blobs = pa.Array.from_buffers(pa.binary(), len(lists), buffers, offset=offsets.offset)
    if lists.values.null_count:
        values = lists.to_pylist()
        holes = [value is not None and None in value for value in values]
        texts = [to_text(value) if hole else None for value, hole in zip(values, holes, strict=True)]
        padded = [text and (text + " " if len(text) % width == 0 else text).encode() for text in texts]
        blobs = pc.if_else(pa.array(holes, pa.bool_()), pa.array(padded, pa.binary()), blobs)
    return pc.if_else(validity, blobs, None)


# Columns from bytes.


def _from_texts(decode: Callable[[bytes], list[Any]], column: Sequence[bytes]) -> list[Any]:
    texts = b",".join(column)
    if b"-0," in texts or texts.endswith(b"-0"):
        raise ValueError("an integer of JSON's has no negative zero")
    values = decode(b"[%b]" % texts)
    if len(values) != len(column):
        raise ValueError("a text has a comma in it")
    return values


def _singles(column: Sequence[bytes]) -> list[float]:
    values = array.array("f", _from_texts(_DOUBLES, column)).tolist()
    if math.inf in values or -math.inf in values:
        raise ValueError("a number does not fit into 32 bits")
    return values


# Single values from bytes.


def _moment(raw: bytes, zone: timezone | None) -> datetime:
    moment = datetime.fromisoformat(raw.decode())
    if offset := moment.utcoffset():  # of a row that was pushed: ours end in Z
        try:
            moment -= offset
        except OverflowError:
            raise ValueError(f"{raw!r} is before the year 1 or after 9999 in UTC") from None
    return moment.replace(tzinfo=zone)


def _single(raw: bytes) -> float:
    try:
        return _SINGLE.unpack(_SINGLE.pack(float(raw)))[0]
    except OverflowError:
        raise ValueError(f"{raw!r} does not fit into 32 bits") from None


def _boolean(raw: bytes) -> bool:
    if raw not in (b"true", b"false"):
        raise ValueError(f"{raw!r} is neither true nor false")
    return raw == b"true"


def _decimal(raw: bytes) -> Decimal:
    try:
        number = Decimal(raw.decode())
    except ArithmeticError:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"{raw!r} is no decimal number")
    return number
