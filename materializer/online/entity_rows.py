"""Entity rows as callers give them, and their join key values as they stand in keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from materializer.errors import InputError
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.join_keys import OutOfRangeError, as_key, key_text, refused, table_of_duckdb


def key_texts(values: Iterable[Any], dtype: pa.DataType, name: str) -> list[str | None]:
    """Join key values as they stand in keys, cast to the view's type; NULL and NaN are None.

    Raises:
        InputError: for a value that is not of the type, such as text in an integer key.
    """
    values = list(values)
    kinds = set(map(type, values))
    if kinds == {int} and pa.types.is_integer(dtype):
        return list(map(str, values))
    if kinds == {str} and pa.types.is_string(dtype):
        return values
    texts: list[str | None] = []
    for value in values:
        try:
            texts.append(key_text(as_key(value, dtype)))
        except OutOfRangeError as error:
            texts.append(str(error))  # a number like any other, of an entity that is not there
        except ValueError:
            raise refused(name, dtype, value) from None
    return texts


def rows_of(entity_rows: Any) -> list[Mapping[str, Any]]:
    """Entity rows as a list of dicts. A dict of lists, as Feast also takes, and a frame (pandas, polars, Arrow, DuckDB)
    are turned.

    Raises:
        InputError: for anything else.
    """
    if hasattr(entity_rows, "iloc"):  # pandas
        entity_rows = {str(name): entity_rows[name].tolist() for name in entity_rows.columns}
    elif hasattr(entity_rows, "to_dicts"):  # polars
        return entity_rows.to_dicts()
    elif hasattr(entity_rows, "to_arrow_table") or hasattr(entity_rows, "__arrow_c_stream__"):
        duckdb = hasattr(entity_rows, "to_arrow_table")
        return _decoded_rows(table_of_duckdb(entity_rows) if duckdb else pa.table(entity_rows))
    if isinstance(entity_rows, Mapping):
        if any(isinstance(values, (str, bytes)) or not hasattr(values, "__len__") for values in entity_rows.values()):
            raise InputError("entity_rows as one dict has a list of values for each join key: {'user_id': [1, 2]}.")
        lengths = {len(values) for values in entity_rows.values()}
        if len(lengths) > 1:
            raise InputError("The lists in entity_rows are of different lengths.")
        return [dict(zip(entity_rows, values, strict=True)) for values in zip(*entity_rows.values(), strict=True)]
    if isinstance(entity_rows, Iterable) and not isinstance(entity_rows, (str, bytes)):
        rows = list(entity_rows)
        if set(map(type, rows)) <= {dict} or all(isinstance(row, Mapping) for row in rows):
            return rows
    raise InputError(
        "entity_rows is a list of dicts, for example [{'user_id': 1}], or a frame with a column for each join key."
    )


def _decoded_rows(table: pa.Table) -> list[Mapping[str, Any]]:
    """The rows of a table; nanoseconds are truncated, for Python has none."""
    columns = [
        (to_plain(column) if pa.types.is_timestamp(column.type) else column).to_pylist() for column in table.columns
    ]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]
