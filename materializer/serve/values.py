"""Values as JSON, as docs/serving.md states them, from the texts that Redis holds.

The texts of integers, finite doubles and booleans are JSON already, and most others need but quotes: such a column
costs no Python object a value.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence

import msgspec
import pyarrow as pa

from materializer.online.values import Codec, decode_column
from materializer.warehouse.join_keys import limits_of

encode = msgspec.json.Encoder().encode
# What is short enough to fit into its type and is written as JSON wants it; a double without a point is read as one.
_DOUBLE = rb"-?(?:0|[1-9]\d{0,17})\.\d{1,25}"
_BOOLEAN = rb"(?:true|false)"
_NOT_PLAIN = re.compile(rb'[^\x20-\x7e]|["\\]')


def json_column(dtype: pa.DataType, codec: Codec) -> Callable[[Sequence[bytes]], list[bytes] | None]:
    """A reader of columns of this type: the stored texts of its values as JSON; None where one cannot be read."""
    ready = _ready(dtype)
    to_json = codec.to_json if not pa.types.is_binary(dtype) else lambda value: base64.b64encode(value).decode()

    def read(column: Sequence[bytes]) -> list[bytes] | None:
        if ready and (texts := ready(column)) is not None:
            return texts
        values = decode_column(codec, column)
        return None if values is None else [encode(to_json(value)) for value in values]

    return read


def _ready(dtype: pa.DataType) -> Callable[[Sequence[bytes]], list[bytes] | None] | None:
    """From texts to JSON at once, which gives None where one may need more than that."""
    if pa.types.is_integer(dtype):
        low, high = limits_of(dtype)
        digits = len(str(high)) - 2  # beside the first; with one more it may not fit
        number = rb"(?:0|%b[1-9]\d{0,%d})" % (b"-?" if low < 0 else b"", max(digits, 0))
        return _all(number)
    if pa.types.is_boolean(dtype):
        return _all(_BOOLEAN)
    if pa.types.is_float64(dtype):
        return _all(_DOUBLE)
    return _quoted if pa.types.is_string(dtype) else None


def _all(text: bytes) -> Callable[[Sequence[bytes]], list[bytes] | None]:
    pattern = re.compile(rb"%b(?:,%b)*" % (text, text))

    def ready(column: Sequence[bytes]) -> list[bytes] | None:
        joined = b",".join(column)
        # A text with a comma in it is one that two would match.
        return list(column) if pattern.fullmatch(joined) and joined.count(b",") == len(column) - 1 else None

    return ready


def _quoted(column: Sequence[bytes]) -> list[bytes] | None:
    return None if _NOT_PLAIN.search(b"".join(column)) else [b'"%b"' % text for text in column]
