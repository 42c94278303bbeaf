"""Types: what a value may be, brought to the few Arrow types that mean the same offline and online."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """The type that values of `dtype` are given back as.

    Encodings are undone (dictionaries, large and view layouts), timestamps are in microseconds and zoned ones in UTC.
    """
    if pa.types.is_dictionary(dtype):
        return plain_type(dtype.value_type)
    if pa.types.is_timestamp(dtype):
        return pa.timestamp("us", "UTC" if dtype.tz else None)
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return pa.string()
    if pa.types.is_large_binary(dtype) or pa.types.is_binary_view(dtype) or pa.types.is_fixed_size_binary(dtype):
        return pa.binary()
    if pa.types.is_date64(dtype):
        return pa.date32()
    if pa.types.is_time(dtype):
        return pa.time64("us")
    if pa.types.is_struct(dtype):
        return pa.struct([(field.name, plain_type(field.type)) for field in dtype])
    if pa.types.is_map(dtype):
        return pa.map_(plain_type(dtype.key_type), plain_type(dtype.item_type))
    if is_list(dtype):
        return pa.list_(plain_type(dtype.value_type))
    return dtype


def is_list(dtype: pa.DataType) -> bool:
    """Whether values are lists, of fixed length or not."""
    return (
        pa.types.is_list(dtype)
        or pa.types.is_large_list(dtype)
        or pa.types.is_fixed_size_list(dtype)
        or pa.types.is_list_view(dtype)
    )


def to_plain(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column in its plain type. Nanoseconds are truncated downwards, as everywhere."""
    dtype = column.type
    target = plain_type(dtype)
    if dtype.equals(target):
        return column
    if pa.types.is_timestamp(dtype) and dtype.unit == "ns":
        column = pc.floor_temporal(column, 1, "microsecond")
    return column.cast(target)
