"""Feast's types in SQL, as the warehouse of a view's source writes them, and where a column has to be cast."""

from __future__ import annotations

import re

# The warehouse that a kind of source stands for; all others are files, which DuckDB reads.
WAREHOUSES = {
    "AthenaSource": "Athena",
    "BigQuerySource": "BigQuery",
    "ClickhouseSource": "ClickHouse",
    "CouchbaseColumnarSource": "Couchbase",
    "MsSqlServerSource": "SQL Server",
    "OracleSource": "Oracle",
    "PostgreSQLSource": "PostgreSQL",
    "RedshiftSource": "Redshift",
    "SnowflakeSource": "Snowflake",
    "SparkSource": "Spark",
    "TrinoSource": "Trino",
}
_STANDARD = {
    "BOOL": "boolean",
    "BYTES": "bytea",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "INT32": "integer",
    "INT64": "bigint",
    "STRING": "varchar",
    "UNIX_TIMESTAMP": "timestamp with time zone",
}
_SPARK = {"BYTES": "binary", "FLOAT": "float", "DOUBLE": "double", "STRING": "string", "UNIX_TIMESTAMP": "timestamp"}
_TYPES = {
    "DuckDB": _STANDARD | {"BYTES": "blob", "DOUBLE": "double", "UNIX_TIMESTAMP": "timestamptz"},
    "BigQuery": {
        "BOOL": "bool", "BYTES": "bytes", "FLOAT": "float64", "DOUBLE": "float64", "INT32": "int64",
        "INT64": "int64", "STRING": "string", "UNIX_TIMESTAMP": "timestamp",
    },
} | dict.fromkeys(("Athena", "Spark", "Trino"), _STANDARD | _SPARK)  # fmt: skip
_AS = {"IMAGE_BYTES": "BYTES", "JSON": "STRING", "PDF_BYTES": "BYTES", "TIME_UUID": "STRING", "UUID": "STRING"}
# What a column is cast to. The others keep what the source has: a cast of a map or a time of day says more than Feast.
_CAST = ("BOOL", "FLOAT", "DOUBLE", "INT32", "INT64", "STRING", "TIME_UUID", "UUID")
_IN_FILES = {
    "binary": "blob", "bool": "boolean", "date32[day]": "date", "double": "double", "float": "real", "int32": "integer",
    "int64": "bigint", "large_string": "varchar", "string": "varchar",
}  # fmt: skip
# More than any one warehouse reserves: quotes are right for every name.
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        all analyse analyze and any array as asc asymmetric at both by case cast check collate column
        constraint create cross default deferrable desc describe distinct do else end except false fetch for
        foreign from full group having in initially inner intersect into is join lambda lateral leading left
        like limit natural not null offset on only or order outer partition pivot placing primary qualify
        references returning right rows select set show some summarize symmetric table then to trailing true
        union unique unpivot user using values variadic when where window with
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
    quote = "`" if warehouse in ("BigQuery", "Spark") else '"'
    return quote + name.replace(quote, quote * 2) + quote


def data_type(dtype: str, actual: str | None, warehouse: str) -> str | None:
    """The type of a model's column, in the warehouse's SQL; None where it is not sure.

    Args:
        actual: Arrow's name of the type that the source's file has, where Feast looked into it.
    """
    declared = _sql_type(dtype, warehouse)
    if actual is None or (declared and dtype != "UNIX_TIMESTAMP"):
        return declared
    if actual.startswith("timestamp"):
        return "timestamptz" if "tz=" in actual or dtype else "timestamp"
    return _IN_FILES.get(actual, declared)


def converted(column: str, dtype: str, warehouse: str, actual: str | None) -> str:
    """A column's expression, from its name in SQL, in the type that Feast gives it."""
    target, inner = _sql_type(dtype, warehouse), _inner(dtype)
    # In other warehouses a list has no cast, or one that not every version knows.
    cast = (
        f"cast({column} as {target})"
        if target and (inner in _CAST and warehouse == "DuckDB" if inner else True)
        else column
    )
    if actual and dtype == "UNIX_TIMESTAMP":
        if actual.startswith(("int", "uint")):
            return f"to_timestamp({column})"
        if actual.startswith(("timestamp", "date", "time")) and "tz=" not in actual:
            return f"cast({column} as timestamp) at time zone 'UTC'"
        if actual in ("string", "large_string"):
            return cast
    if actual in ("halffloat", "float", "double") and dtype in ("INT32", "INT64"):
        # pandas keeps whole numbers with gaps as floats, and a gap as NaN.
        return f"case when not isnan({column}) then {cast} end"
    return cast if inner or dtype in _CAST else column


def _inner(dtype: str) -> str:
    """What a list or set is of; empty for what is none."""
    name, _, collection = dtype.rpartition("_")
    return name if collection in ("LIST", "SET") else ""


def _sql_type(dtype: str, warehouse: str) -> str | None:
    if inner := _inner(dtype):
        of = _sql_type(inner, warehouse)
        if warehouse == "Snowflake":
            return "array"
        return of and (f"array<{of}>" if warehouse in ("BigQuery", "Spark") else f"{of}[]")
    return _TYPES.get(warehouse, _STANDARD).get(_AS.get(dtype, dtype))
