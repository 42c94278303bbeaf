"""An embedded DuckDB that computes on-demand features: an engine without files, over the rows of one request."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from materializer.warehouse import quoted
from materializer.warehouse.on_demand_types import sql_type

_threads = threading.local()
# Queries that are kept parsed: a handler asks for a few of them, over and over.
_STATEMENTS = 256
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
        _threads.connection, _threads.statements = made, {}
    return _threads.connection


def values_of(
    expressions: Mapping[str, tuple[str, pa.DataType]], inputs: Mapping[str, Sequence[Any]],
    types: Mapping[str, pa.DataType], rows: int,
) -> dict[str, Sequence[Any]]:  # fmt: skip
    """The values of on-demand features over rows of inputs, as Python has them.

    Args:
        expressions: the SQL of each and the type of its values.
        inputs: the values of every name that they read, `types` their `input_type`.
    """
    # Lists in parameters: a table of Arrow's would make DuckDB import pandas.
    columns = ", ".join(
        f"unnest({_list(place, types[name])}) as {quoted(name)}" for place, name in enumerate(inputs, 1)
    )
    # Another release of DuckDB may give a wider type than the one that was published.
    values = ", ".join(f"cast(try({sql}) as {sql_type(dtype)})" for sql, dtype in expressions.values())
    parameters = [_parameter(values, types[name]) for name, values in inputs.items()] or [rows]
    sql = f"select {values} from {f'(select {columns})' if inputs else 'range($1)'} as inputs"
    engine = connection()
    if sql not in _threads.statements:
        if len(_threads.statements) >= _STATEMENTS:
            _threads.statements.clear()
        (_threads.statements[sql],) = engine.extract_statements(sql)
    found = engine.execute(_threads.statements[sql], parameters).fetchall()
    return dict(zip(expressions, zip(*found, strict=True) if found else ((),) * len(expressions), strict=True))


def _list(place: int, dtype: pa.DataType) -> str:
    return f"${place}::{'varchar[]::' if pa.types.is_decimal(dtype) else ''}{sql_type(dtype)}[]"


def _parameter(values: Sequence[Any], dtype: pa.DataType) -> list[Any]:
    """Decimals as text: DuckDB would take each for one of its own digits, and their list for doubles."""
    if pa.types.is_decimal(dtype):
        return [None if value is None else f"{value:f}" for value in values]
    return list(values)
