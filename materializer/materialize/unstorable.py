"""Values that a warehouse's types hold but the online format cannot state: their rows stay out, and are named."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from materializer.project.definitions import FeatureView
from materializer.warehouse import Warehouse, quoted
from materializer.warehouse.arrow import is_list
from materializer.warehouse.moments import STATED

_DATES = "date '0001-01-01' and date '9999-12-31'"
_MOMENTS = " and ".join(map(str, STATED["timestamp"]))
_DIGITS = "9" * 38

_MOMENT = "a moment that is infinite, before the year 1 or after 9999"
_MIDNIGHT = "a time of 24:00:00"
_NUMBER = "a number of more than 38 digits"


@dataclass(frozen=True)
class Unstorable:
    """Rows that have no place online: how many, a sentence about them ('' for none), and SQL that is true for them."""

    rows: int = 0
    sentence: str = ""
    condition: str = "false"


# By the name of a column that can hold such values: SQL that is true where it does, and what that is.
Conditions = dict[str, tuple[str, str]]


def find_unstorable(warehouse: Warehouse, view: FeatureView, rows: str, conditions: Conditions) -> Unstorable:
    """Those of `rows` (SQL: what of the view belongs online). The view itself is looked through first, by the columns
    that can hold such values alone."""
    if not conditions:
        return Unstorable()
    held = [f"coalesce(bool_or({sql}), false) as c{place}" for place, (sql, _) in enumerate(conditions.values())]
    (found,) = warehouse.query(f"select {', '.join(held)} from {view.relation}").to_pylist()
    conditions = {name: one for (name, one), any_ in zip(conditions.items(), found.values(), strict=True) if any_}
    if not conditions:
        return Unstorable()
    condition = " or ".join(f"coalesce({sql}, false)" for sql, _ in conditions.values())
    counts = [f"count(*) filter (where {sql}) as c{place}" for place, (sql, _) in enumerate(conditions.values())]
    (counted,) = warehouse.query(
        f"select {', '.join(counts)}, count(*) filter (where {condition}) as n from ({rows}) as current_rows"
    ).to_pylist()
    total = counted.pop("n")
    each = zip(conditions.items(), counted.values(), strict=True)
    columns = [f"{count:,} with {what} in '{name}'" for (name, (_, what)), count in each if count]
    sentence = (
        f"{total:,} row{'s' if total > 1 else ''} of '{view.reference}' cannot be stated online and "
        f"{'are' if total > 1 else 'is'} not there ({'; '.join(columns)}); all others are. "
        "Give such values another form in the model, or NULL."
    )  # fmt: skip
    return Unstorable(total, sentence if total else "", condition)


def conditions_of(view: FeatureView) -> Conditions:
    found = {}
    # A join key is only ever text online, so its digits are no matter.
    keys = [entity for entity in view.entities if not pa.types.is_decimal(entity.dtype)]
    for part in (*keys, *view.features):
        condition = _condition(quoted(part.name), part.dtype)
        if condition:
            found[part.name] = condition
    for name in filter(None, (view.timestamp, view.created_timestamp)):
        # Of -infinity, which has its own form here, they are NULL; and a row of +infinity is never due.
        found[name] = (f"(epoch_us(try_cast({quoted(name)} as timestamptz)) not between {_MOMENTS})", _MOMENT)
    return found


def _condition(value: str, dtype: pa.DataType, depth: int = 0) -> tuple[str, str] | None:
    if pa.types.is_timestamp(dtype):
        # The microseconds of what is infinite are NULL.
        micros = f"epoch_us(cast({value} as timestamptz))"
        return f"({value} is not null and coalesce({micros} not between {_MOMENTS}, true))", _MOMENT
    if pa.types.is_date(dtype):
        return f"({value} not between {_DATES})", _MOMENT
    if pa.types.is_time(dtype):
        return f"(cast({value} as varchar) like '24%')", _MIDNIGHT
    if pa.types.is_decimal128(dtype) and dtype.precision == 38 and dtype.scale == 0:  # it may be a HUGEINT
        return f"({value} not between -{_DIGITS} and {_DIGITS})", _NUMBER
    if is_list(dtype):
        item = f"item_{depth}"
        inside = _condition(item, dtype.value_type, depth + 1)
        return inside and (f"(len(list_filter({value}, lambda {item}: {inside[0]})) > 0)", inside[1])
    if pa.types.is_map(dtype):
        parts = [(f"map_keys({value})", pa.list_(dtype.key_type)), (f"map_values({value})", pa.list_(dtype.item_type))]
    elif pa.types.is_struct(dtype):
        parts = [(f"struct_extract_at({value}, {place})", field.type) for place, field in enumerate(dtype, 1)]
    else:
        return None
    inner = [found for part, of in parts if (found := _condition(part, of, depth))]
    return (f"({' or '.join(sql for sql, _ in inner)})", inner[0][1]) if inner else None
