"""Types: what a value may be, brought to the few Arrow types that mean the same offline and online."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import InputError
from materializer.warehouse import quoted

# A moment without end, in any unit, as DuckDB and Arrow hold it; the other way it is this, negative.
ENDLESS = 2**63 - 1


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
    """A column in its plain type. Nanoseconds are truncated downwards, as everywhere; all NaN become one."""
    target = plain_type(column.type)
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([_plain(chunk, target) for chunk in column.chunks], target)
    return _plain(column, target)


def _plain(array: pa.Array, target: pa.DataType) -> pa.Array:
    dtype = array.type
    if pa.types.is_dictionary(dtype):
        return _plain(array.dictionary_decode(), target)
    if pa.types.is_floating(dtype):
        return _with_one_nan(array)
    if pa.types.is_timestamp(dtype) and dtype.unit != "us":
        return _microseconds(array, target)
    if pa.types.is_time64(dtype) and dtype.unit == "ns":
        return pc.divide(array.cast(pa.int64()), 1000).cast(target)
    if pa.types.is_struct(dtype):
        parts = [_plain(array.field(place), field.type) for place, field in enumerate(target)]
        return pa.StructArray.from_arrays(parts, fields=list(target), mask=array.is_null()) if parts else array
    if pa.types.is_map(dtype):
        pairs = [_plain(array.keys, target.key_type), _plain(array.items, target.item_type)]
        pairs = pa.StructArray.from_arrays(pairs, fields=[target.key_field, target.item_field])
        return pa.Array.from_buffers(target, len(array), array.buffers()[:2], offset=array.offset, children=[pairs])
    if is_list(dtype):
        lists = array if pa.types.is_list(dtype) else array.cast(pa.list_(dtype.value_type))
        items = lists.values
        values = _plain(items, target.value_type)
        if values is items and lists.type.equals(target):
            return lists
        return pa.Array.from_buffers(target, len(lists), lists.buffers()[:2], offset=lists.offset, children=[values])
    return array if dtype.equals(target) else array.cast(target)


def _with_one_nan(numbers: pa.Array) -> pa.Array:
    """Of the many bit patterns that are NaN (0.0 / 0.0 gives another one than 'nan') the one that Python has."""
    total = pc.sum(numbers).as_py()
    if total is None or total == total:
        return numbers
    return pc.if_else(pc.is_nan(numbers), pa.scalar(float("nan"), numbers.type), numbers)


def _microseconds(moments: pa.Array, target: pa.DataType) -> pa.Array:
    """Moments of another unit. DuckDB's infinities are the greatest and the least number there are, in any unit."""
    counts = moments.cast(pa.int64())
    naive = counts.cast(pa.timestamp(moments.type.unit))  # a zone's clock has hours that come twice
    endless = pc.equal(pc.abs(counts), ENDLESS)
    some_endless = pc.any(endless).as_py()
    if some_endless:
        naive = pc.if_else(endless, None, naive)
    if moments.type.unit == "ns":
        naive = pc.floor_temporal(naive, 1, "microsecond")
    micros = naive.cast(pa.timestamp("us")).cast(pa.int64())
    if some_endless:
        micros = pc.if_else(endless, counts, micros)
    return micros.cast(target)


def signed(dtype: pa.DataType) -> pa.DataType:
    """The nearest type that holds all values of a plain one in engines without unsigned or single-byte integers, half
    floats, or columns of nothing but NULL."""
    if is_list(dtype):
        return pa.list_(signed(dtype.value_type))
    return _SIGNED.get(dtype, dtype)


_SIGNED = {
    pa.int8(): pa.int16(), pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0), pa.float16(): pa.float32(), pa.null(): pa.string(),
}  # fmt: skip


def without_wide(dtype: pa.DataType) -> pa.DataType:
    """The type with text in place of decimals of more than 38 digits."""
    if pa.types.is_decimal256(dtype):
        return pa.string()
    if pa.types.is_map(dtype):
        return pa.map_(without_wide(dtype.key_type), without_wide(dtype.item_type))
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(without_wide(field.type)) for field in dtype])
    if pa.types.is_list(dtype):
        return pa.list_(dtype.value_field.with_type(without_wide(dtype.value_type)))
    return dtype


def to_pandas(table: pa.Table) -> Any:
    """A table as pandas with nullable types, so that NULL, NaN and integers stay apart."""
    try:
        import pandas as pd
    except ImportError:
        raise InputError("pandas is not installed: pip install 'dbt-feature-store[pandas]'.") from None
    from materializer.warehouse.moments import all_stated, holds_moments, to_objects

    nullable = {
        pa.bool_(): pd.BooleanDtype(),
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
        pa.string(): pd.StringDtype(),
        **{getattr(pa, f"{kind}{bits}")(): getattr(pd, f"{name}{bits}Dtype")()
           for kind, name in (("int", "Int"), ("uint", "UInt")) for bits in (8, 16, 32, 64)},
    }  # fmt: skip
    # What pandas has no form for: dates before the year 1, for one. Such a column is one of objects, with texts in it.
    plain = {place: to_plain(column) for place, column in enumerate(table.columns) if holds_moments(column.type)}
    beyond = {place: to_objects(column) for place, column in plain.items() if not all_stated(column)}
    for place in beyond:
        table = table.set_column(place, table.column_names[place], pa.nulls(table.num_rows))
    frame = table.to_pandas(types_mapper=nullable.get)
    for place, objects in beyond.items():
        frame.isetitem(place, pd.Series(objects, index=frame.index, dtype=object))
    for place, column in enumerate(table.columns):
        # On its way pandas takes NaN for missing; an array put together from its parts keeps the two apart.
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            values, missing = column.fill_null(0).to_numpy().copy(), column.is_null().to_numpy()
            frame.isetitem(place, pd.arrays.FloatingArray(values, missing))
    return frame


def column_of(values: Sequence[Any]) -> pa.Array:
    """Python values as an Arrow array; integers beyond 64 bits are decimals. Raises pa.ArrowException, TypeError,
    ValueError for values that Arrow has no one type for."""
    try:
        return pa.array(values)
    except OverflowError:
        whole = [python_value(value) for value in values]
        if not all(value is None or type(value) is int for value in whole):
            raise ValueError("a number beyond 64 bits stands among values that are no integers") from None
        longest = max(len(str(abs(value))) for value in whole if value is not None)
        if longest > 76:
            raise ValueError("an integer has more than 76 digits") from None
        dtype = pa.decimal128(38, 0) if longest <= 38 else pa.decimal256(76, 0)
        return pa.array([None if value is None else Decimal(value) for value in whole], dtype)


def table_of_duckdb(relation: Any) -> pa.Table:
    """Unsigned 128-bit integers as text: Arrow is handed the upper half of them as negative numbers."""
    columns = zip(map(quoted, relation.columns), map(str, relation.types), strict=True)
    parts = [f"cast({name} as varchar) as {name}" if kind == "UHUGEINT" else name for name, kind in columns]
    return relation.project(", ".join(parts)).to_arrow_table()


def python_value(value: Any) -> Any:
    """A value of numpy's or pandas' as Python's own; None for NULL, NaN, NaT and NA."""
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        return None
    # Python's datetime has no nanoseconds, so numpy gives an integer for one that has.
    if kind == "datetime64":
        value = value.astype("datetime64[us]")
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, (float, Decimal)) and value != value else value
