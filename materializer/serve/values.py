"""Values as JSON, as docs/serving.md states them, from the texts that Redis holds.

The texts of integers, finite doubles and booleans are JSON already, and most others need but quotes: such a column
costs no Python object a value.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pyarrow as pa

from materializer.online.request import ReadColumn
from materializer.online.values import Codec, decode_at_once, decode_column, decode_each
from materializer.online.values import codec as codec_of

encode = msgspec.json.Encoder().encode
_NOT_PLAIN = re.compile(rb'[^\x20-\x7e]|["\\]')


def json_column(dtype: pa.DataType, codec: Codec) -> ReadColumn:
    """A reader of columns of this type: the stored texts of its values as JSON; None where one cannot be read."""
    to_json = _to_json(dtype, codec)
    same = pa.types.is_integer(dtype) or pa.types.is_boolean(dtype) or pa.types.is_float64(dtype)
    quoted = pa.types.is_string(dtype)

    def read(column: Sequence[bytes]) -> list[bytes] | None:
        if quoted and not _NOT_PLAIN.search(b"".join(column)):
            return [b'"%b"' % text for text in column]
        if same and decode_at_once(codec, column) is not None:
            return list(column)
        values = decode_each(codec, column) if same else decode_column(codec, column)
        return None if values is None else [encode(to_json(value)) for value in values]

    return read


def json_values(dtype: pa.DataType, values: Sequence[Any]) -> list[bytes | None]:
    """Values as Python has them in the same form; NULL stays None."""
    to_json = _to_json(dtype, codec_of(dtype, "A feature"))
    return [None if value is None else encode(to_json(value)) for value in values]


def _to_json(dtype: pa.DataType, codec: Codec) -> Callable[[Any], Any]:
    return (lambda value: base64.b64encode(value).decode()) if pa.types.is_binary(dtype) else codec.to_json


def filled(values: list[bytes | None]) -> list[bytes]:
    """What `json_column` read, with JSON's word for what is missing."""
    return [b"null" if value is None else value for value in values] if None in values else values


def arrow_of(dtype: pa.DataType, values: list[bytes | None]) -> pa.Array:
    """What `json_column` read, as an Arrow array."""
    found = msgspec.json.decode(b"[%b]" % b",".join(filled(values)))
    if pa.types.is_binary(dtype):
        return pa.array([None if text is None else base64.b64decode(text) for text in found], dtype)
    if pa.types.is_primitive(dtype) or pa.types.is_string(dtype):
        with suppress(pa.ArrowException, TypeError):  # of moments, or a double that is not finite
            return pa.array(found, dtype)
    return pa.array(list(map(codec_of(dtype, "A feature").from_json, found)), dtype)
