"""An embedded DuckDB that computes on-demand features: an engine without files, over the rows of one request."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from materializer.warehouse import quoted

_threads = threading.local()
_SETTINGS = {
    "threads": 1, "memory_limit": "1GB", "enable_external_access": False, "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}  # fmt: skip


def connection() -> duckdb.DuckDBPyConnection:
    """This thread's engine. It has no files, no extensions, no settings to change, and sees none of Python's tables."""
    if not hasattr(_threads, "connection"):
        made = duckdb.connect(":memory:", config=_SETTINGS)
        for setting in ("enable_progress_bar", "python_enable_replacements"):
            made.execute(f"set {setting} = false")
        made.execute("set lock_configuration = true")
        _threads.connection = made
    return _threads.connection


def values_of(expressions: Mapping[str, tuple[str, pa.DataType]], inputs: pa.Table) -> dict[str, list[Any]]:
    """The values of on-demand features over rows of inputs, as Python has them.

    Args:
        expressions: the SQL of each and the type of its values.
        inputs: a column for every name that they read, each an `input_type`; at least one column.
    """
    engine = connection()
    engine.register("inputs", inputs)
    try:
        columns = [f"try({sql}) as {quoted(name)}" for name, (sql, _) in expressions.items()]
        made = engine.sql(f"select {', '.join(columns)} from inputs").to_arrow_table()
    finally:
        engine.unregister("inputs")
    # Another release of DuckDB may give a type that is as wide, or wider.
    return {
        name: column.cast(dtype).to_pylist()
        for (name, (_, dtype)), column in zip(expressions.items(), made.columns, strict=True)
    }


def table_of(inputs: Mapping[str, Sequence[Any]], types: Mapping[str, pa.DataType], rows: int) -> pa.Table:
    """Columns of Python values as a table of inputs; where there are none, one of nothing but rows."""
    if not inputs:
        return pa.table({"_fs_row": pa.nulls(rows, pa.int8())})
    return pa.table({name: pa.array(values, types[name]) for name, values in inputs.items()})
