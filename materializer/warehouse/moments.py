"""Dates, times and timestamps that neither Python nor the online format can state: infinite ones, years before 1 and
after 9999, 24:00:00."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.warehouse.arrow import ENDLESS, is_list, to_plain

# What can be stated, as Arrow counts it: days, and microseconds, since 1970; microseconds of a day.
_DAY = 86_400_000_000
STATED = {
    "date": (-719_162, 2_932_896),  # 0001-01-01 and 9999-12-31
    "time": (0, _DAY - 1),
    "timestamp": (-719_162 * _DAY, 2_932_897 * _DAY - 1),
}
ENDLESS_DATE = 2**31 - 1
# An event or created time of `-infinity`: its row is as old as any, and known to all.
SINCE_EVER, SINCE_EVER_DATE = -ENDLESS, -ENDLESS_DATE


def all_stated(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether Python has an object for each date, time and timestamp in a column (in its plain type), at any depth."""
    if isinstance(column, pa.ChunkedArray):
        return all(map(all_stated, column.chunks))
    dtype = column.type
    if pa.types.is_struct(dtype):
        return all(all_stated(column.field(place)) for place in range(dtype.num_fields))
    if pa.types.is_map(dtype):
        return all_stated(column.keys) and all_stated(column.items)
    if is_list(dtype):
        return all_stated(column.flatten())
    kind = _kind(dtype)
    if kind is None:
        return True
    found = pc.min_max(_counts(column))
    least, greatest = found["min"].as_py(), found["max"].as_py()
    return least is None or (STATED[kind][0] <= least and greatest <= STATED[kind][1])


def holds_moments(dtype: pa.DataType) -> bool:
    """Whether a type is, or has inside, dates, times or timestamps."""
    if pa.types.is_map(dtype):
        return holds_moments(dtype.key_type) or holds_moments(dtype.item_type)
    if pa.types.is_struct(dtype):
        return any(holds_moments(field.type) for field in dtype)
    return holds_moments(dtype.value_type) if is_list(dtype) else _kind(dtype) is not None


def to_objects(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """Values as ``to_pylist`` gives them; a date, time or timestamp that Python has no object for is its text, such as
    ``infinity``, ``12000-01-01`` or ``24:00:00``."""
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in to_objects(chunk)]
    column = to_plain(column)
    if all_stated(column):
        return column.to_pylist()
    dtype, valid = column.type, column.is_valid().to_pylist()
    if pa.types.is_struct(dtype):
        names = [field.name for field in dtype]
        parts = zip(*(to_objects(column.field(place)) for place in range(len(names))), strict=True)
        return [dict(zip(names, values, strict=True)) if is_there else None
                for is_there, values in zip(valid, parts, strict=True)]  # fmt: skip
    if is_list(dtype) or pa.types.is_map(dtype):
        if pa.types.is_map(dtype):
            items: list[Any] = list(zip(to_objects(column.keys), to_objects(column.items), strict=True))
        else:
            items = to_objects(column.values)
        ends = column.offsets.to_pylist()
        return [items[ends[place] : ends[place + 1]] if is_there else None for place, is_there in enumerate(valid)]
    low, high = STATED[_kind(dtype)]
    counts = _counts(column)
    stated = pc.and_(pc.greater_equal(counts, low), pc.less_equal(counts, high))
    objects = pc.if_else(stated, column, None).to_pylist()
    return [_moment_text(count, dtype) if known is False else value
            for value, count, known in zip(objects, counts.to_pylist(), stated.to_pylist(), strict=True)]  # fmt: skip


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as ``to_pylist`` gives them, with values as `to_objects` gives them."""
    columns = [to_objects(column) for column in table.columns]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _kind(dtype: pa.DataType) -> str | None:
    kinds = (pa.types.is_date, "date"), (pa.types.is_time, "time"), (pa.types.is_timestamp, "timestamp")
    return next((kind for is_kind, kind in kinds if is_kind(dtype)), None)


def _counts(column: pa.Array) -> pa.Array:
    return column.cast(pa.int32()).cast(pa.int64()) if pa.types.is_date(column.type) else column.cast(pa.int64())


def _moment_text(count: int, dtype: pa.DataType) -> str:
    """A moment as ISO 8601 writes it, also of years that Python and Arrow have no words for: -0043 is 44 BC."""
    if pa.types.is_time(dtype):
        return "24:00:00"  # the only one there is
    is_date = pa.types.is_date(dtype)
    if abs(count) == (ENDLESS_DATE if is_date else ENDLESS):
        return "infinity" if count > 0 else "-infinity"
    days, rest = (count, 0) if is_date else divmod(count, _DAY)
    cycles, days = divmod(days, 146_097)  # the days of 400 years, after which the calendar begins anew
    moment = datetime(1970, 1, 1) + timedelta(days=days, microseconds=rest)
    year = moment.year + 400 * cycles
    text = f"{'-' if year < 0 else ''}{abs(year):04}-" + moment.strftime("%m-%d")
    return text if is_date else f"{text} {moment.time().isoformat('microseconds')}{'Z' if dtype.tz else ''}"
