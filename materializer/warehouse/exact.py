"""DuckDB's values as Arrow can hold them: what its own conversion would change is converted to another form first.

Arrow gets 2^128-1 of a UHUGEINT as -1, ten o'clock of a TIMETZ without its zone, an INTERVAL of 300 years as another
one, and of a BIT, BIGNUM or VARIANT the bytes that DuckDB has in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from materializer.warehouse import quoted

# UHUGEINT has up to 39 digits, which only a wide decimal holds; it is brought there as text.
_WIDE = pa.decimal256(39, 0)
_AS_TEXT = ("uhugeint", "time with time zone", "interval", "bit", "bignum")
# Text would not say which member a union holds, or of which type a variant is.
_AS_JSON = ("union", "variant")
_threads = threading.local()
_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


def exactly(relation: duckdb.DuckDBPyRelation) -> tuple[duckdb.DuckDBPyRelation, Callable[[_Rows], _Rows]]:
    """The relation with only what Arrow holds exactly, and what is to be done with the rows that come of it.

    Wide integers become decimals of 39 digits; times with a zone, intervals, bit strings and integers without limit the
    text that DuckDB writes for them, unions and variants JSON. Alike inside of lists, structs and maps.
    """
    types = dict(zip(relation.columns, relation.types, strict=False))
    casts = {name: sql for name, kind in types.items() if (sql := _carried(kind))}
    if not casts:
        return relation, lambda rows: rows
    columns = [f"cast({quoted(name)} as {casts[name]}) as {quoted(name)}" if name in casts else quoted(name)
               for name in relation.columns]  # fmt: skip
    wide = {name for name in casts if "UHUGEINT" in str(types[name])}

    def widened(rows: _Rows) -> _Rows:
        fields = [field.with_type(_widened(field.type, types[field.name])) if field.name in wide else field
                  for field in rows.schema]  # fmt: skip
        return rows.cast(pa.schema(fields))

    return relation.project(", ".join(columns)), widened if wide else lambda rows: rows


def _carried(kind: Any) -> str | None:
    """The SQL type to cast a type to, None where it may stay as it is."""
    name = kind.id
    if name in _AS_TEXT:
        return "VARCHAR"
    if name in _AS_JSON:
        return "JSON"
    if name in ("list", "array"):
        item = _carried(kind.children[0][1])
        return item and item + (f"[{kind.children[1][1]}]" if name == "array" else "[]")
    if name in ("struct", "map", "tuple"):
        parts = [(part, _carried(of) or str(of)) for part, of in kind.children]
        if not any(_carried(of) for _, of in kind.children):
            return None
        if name == "map":
            return f"MAP({parts[0][1]}, {parts[1][1]})"
        if not all(part for part, _ in parts):
            return f"TUPLE({', '.join(sql for _, sql in parts)})"
        return f"STRUCT({', '.join(f'{quoted(part)} {sql}' for part, sql in parts)})"
    return None


def _widened(arrow: pa.DataType, kind: Any) -> pa.DataType:
    """The Arrow type that came of a cast, with decimals for the text of a UHUGEINT."""
    if kind.id == "uhugeint":
        return _WIDE
    if kind.id in ("list", "array"):
        item = _widened(arrow.value_type, kind.children[0][1])
        return pa.list_(item, arrow.list_size) if pa.types.is_fixed_size_list(arrow) else pa.list_(item)
    if kind.id == "map":
        return pa.map_(_widened(arrow.key_type, kind.children[0][1]), _widened(arrow.item_type, kind.children[1][1]))
    if kind.id in ("struct", "tuple"):
        parts = zip(arrow, kind.children, strict=True)
        return pa.struct([(field.name, _widened(field.type, of)) for field, (_, of) in parts])
    return arrow


def number_texts(columns: Sequence[pa.Array]) -> list[pa.Array]:
    """Floats and decimals as the shortest text that reads back the same (0.1, 1e-07, -0.0, nan), decimals in full.
    Columns are of one length; each query costs as much as some thousand numbers, so it is one for all."""
    if not hasattr(_threads, "connection"):  # one that is shared refuses whoever comes second
        _threads.connection = duckdb.connect(":memory:", config={"threads": 1})
    numbers = _threads.connection.from_arrow(pa.table({f"x{place}": column for place, column in enumerate(columns)}))
    texts = numbers.select(", ".join(f"cast(x{place} as varchar)" for place in range(len(columns)))).to_arrow_table()
    return [text.combine_chunks() if text.num_chunks != 1 else text.chunk(0) for text in texts.columns]
