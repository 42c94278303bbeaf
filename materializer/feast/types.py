"""Feast's types in SQL, as the warehouse of a view's source writes them, and where a column has to be cast."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from materializer.feast.definitions import FeastType

if TYPE_CHECKING:
    import pyarrow as pa

# The warehouse that a kind of source stands for; all others are files, which DuckDB reads.
WAREHOUSES = {
    "AthenaSource": "Athena",
    "BigQuerySource": "BigQuery",
    "ClickhouseSource": "ClickHouse",
    "CouchbaseColumnarSource": "Couchbase",
    "HiveSource": "Hive",
    "MsSqlServerSource": "SQL Server",
    "OracleSource": "Oracle",
    "PostgreSQLSource": "PostgreSQL",
    "RedshiftSource": "Redshift",
    "SnowflakeSource": "Snowflake",
    "SparkSource": "Spark",
    "TeradataSource": "Teradata",
    "TrinoSource": "Trino",
}
_STANDARD = {
    "Bool": "boolean",
    "Bytes": "bytea",
    "Float32": "real",
    "Float64": "double precision",
    "Int32": "integer",
    "Int64": "bigint",
    "String": "varchar",
    "UnixTimestamp": "timestamp with time zone",
}
_TYPES = {
    "DuckDB": _STANDARD | {"Bytes": "blob", "Float64": "double", "UnixTimestamp": "timestamptz"},
    "BigQuery": {
        "Bool": "bool", "Bytes": "bytes", "Float32": "float64", "Float64": "float64", "Int32": "int64",
        "Int64": "int64", "String": "string", "UnixTimestamp": "timestamp",
    },
    "Spark": _STANDARD
    | {"Bytes": "binary", "Float32": "float", "Float64": "double", "String": "string", "UnixTimestamp": "timestamp"},
}  # fmt: skip
_TYPES["Hive"] = _TYPES["Athena"] = _TYPES["Trino"] = _TYPES["Spark"]
_TEXT = ("Json", "TimeUuid", "Uuid")
_BINARY = ("ImageBytes", "PdfBytes")
# What a column is cast to. The others keep what the source has: a cast of a map or a time of day says more than Feast.
_CAST = ("Bool", "Float32", "Float64", "Int32", "Int64", "String", "TimeUuid", "Uuid")
# More than any one warehouse reserves: quotes are right for every name.
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        all analyse analyze and any array as asc asymmetric at both by case cast check collate column constraint
        create cross default deferrable desc describe distinct do else end except false fetch for foreign from full
        group having in initially inner intersect into is join lambda lateral leading left like limit natural not null
        offset on only or order outer partition pivot placing primary qualify references returning right rows select
        set show some summarize symmetric table then to trailing true union unique unpivot user using values variadic
        when where window with
        """,
    )
)


def is_plain(name: str) -> bool:
    """Whether a column's name needs no quotes."""
    return bool(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)) and name.lower() not in _RESERVED


def quoted(name: str, warehouse: str) -> str:
    """A column's name in SQL, in quotes where it needs them."""
    if is_plain(name):
        return name
    if warehouse in ("BigQuery", "Spark", "Hive"):
        return "`" + name.replace("`", "``") + "`"
    return '"' + name.replace('"', '""') + '"'


def sql_type(dtype: FeastType, warehouse: str) -> str | None:
    """A type's name in the warehouse's SQL, or None where it has none that is sure."""
    names = _TYPES.get(warehouse, _STANDARD)
    if dtype.name in ("Array", "Set") and dtype.inner:
        inner = sql_type(dtype.inner, warehouse)
        if inner is None or warehouse == "Snowflake":
            return "array" if warehouse == "Snowflake" else None
        return f"array<{inner}>" if warehouse in ("BigQuery", "Spark", "Hive") else f"{inner}[]"
    if dtype.name == "Struct" and warehouse == "DuckDB":
        parts = [(name, sql_type(inner, warehouse)) for name, inner in dtype.fields]
        return (
            f"struct({', '.join(f'{quoted(n, warehouse)} {t}' for n, t in parts)})"
            if all(t for _, t in parts)
            else None
        )
    if dtype.name in _TEXT:
        return names["String"]
    return names.get("Bytes" if dtype.name in _BINARY else dtype.name)


def converted(column: str, dtype: FeastType | None, warehouse: str, actual: pa.DataType | None) -> str:
    """A column's expression in the type that Feast gives it.

    Args:
        column: its name in SQL.
        actual: the type that the source's file has, where it could be looked into.
    """
    if dtype is None:
        return column
    target = sql_type(dtype, warehouse)
    if dtype.name in ("Array", "Set"):
        # Elsewhere a list has no cast, or one that not every version knows.
        castable = dtype.inner and dtype.inner.name in _CAST and warehouse == "DuckDB"
        return f"cast({column} as {target})" if castable else column
    if actual is not None:
        import pyarrow as pa

        if dtype.name == "UnixTimestamp" and pa.types.is_integer(actual):
            return f"to_timestamp({column})"
        if dtype.name == "UnixTimestamp" and pa.types.is_temporal(actual) and getattr(actual, "tz", None) is None:
            return f"cast({column} as timestamp) at time zone 'UTC'"
        if dtype.name == "UnixTimestamp" and (pa.types.is_string(actual) or pa.types.is_large_string(actual)):
            return f"cast({column} as {target})"
        if dtype.name in ("Int32", "Int64") and pa.types.is_floating(actual):
            # pandas keeps whole numbers with gaps as floats, and a gap as NaN.
            return f"case when not isnan({column}) then cast({column} as {target}) end"
    return f"cast({column} as {target})" if dtype.name in _CAST else column
