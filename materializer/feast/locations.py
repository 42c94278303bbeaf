"""Where a source's rows are, for dbt: a file that DuckDB reads in place, a table of a warehouse, or a query."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

# The repository's folder, in what dbt reads.
REPOSITORY = "{{ var('feast_repository') }}"
# How DuckDB reads each format. Delta, Iceberg and Avro are extensions of it.
_READERS = {
    "avro": "read_avro",
    "csv": "read_csv",
    "delta": "delta_scan",
    "iceberg": "iceberg_scan",
    "json": "read_json",
    "parquet": "read_parquet",
}


def query_of(text: str, notes: list[str]) -> dict[str, Any]:
    """The facts of a `Source` that is a query."""
    query = textwrap.dedent(text.strip("\r\n")).strip().rstrip(";").rstrip()
    notes.append("it reads a query: make the tables in it dbt sources, so that dbt knows where the rows come from")
    whole = _is_one_query(query)
    if not whole:
        notes.append("its query is not one SELECT: it is written with `enabled: false` until you corrected it")
    return {"query": query, "whole": whole}


def _is_one_query(query: str) -> bool:
    import sqlglot
    from sqlglot.errors import SqlglotError
    from sqlglot.tokens import TokenType

    try:
        tokens = [token.token_type for token in sqlglot.tokenize(query)]
    except SqlglotError:
        return False
    depth = 0
    for token in tokens:
        depth += (token == TokenType.L_PAREN) - (token == TokenType.R_PAREN)
        if depth < 0 or token == TokenType.SEMICOLON:
            return False
    return bool(tokens) and depth == 0


def table_of(text: str, schema: str, database: str, store: Mapping[str, str]) -> dict[str, Any]:
    """The facts of a `Source` that is a table; where it does not say its schema, the offline `store` may."""
    *above, name = text.replace("`", "").replace('"', "").replace(":", ".").split(".")
    return {
        "table": name,
        "schema": schema or (above[-1] if above else "") or store["schema"],
        "database": database or (above[-2] if len(above) > 1 else "") or store["database"],
    }


def file_of(path: str, kind: str, folder: Path, found: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The facts of a `Source` that is a file: a path inside the repository's `folder` is written with the dbt variable
    ``feast_repository``. `found` is what Feast saw there."""
    path, inside = path.removeprefix("file://"), False
    if kind == "orc":
        notes.append("DuckDB does not read ORC files: convert them to Parquet")
    if kind in ("avro", "delta", "iceberg"):
        notes.append(f"DuckDB reads {kind} with an extension, which it fetches at first use")
    reader = _READERS.get(kind, "read_parquet")
    if PureWindowsPath(path).drive:
        written = path.replace("\\", "/")
    elif "://" in path:
        notes.append(
            f"DuckDB reads {path.partition('://')[0]}:// with its extension httpfs: give it a secret in profiles.yml"
        )
        written = path
    else:
        # Files are Feast's to look into, not ours.
        absolute = folder / Path(path).expanduser()
        absolute = absolute.resolve() if ".." in absolute.parts else absolute
        inside = absolute.is_relative_to(folder)
        written = f"{REPOSITORY}/{absolute.relative_to(folder).as_posix()}" if inside else absolute.as_posix()
        if reader == "read_parquet" and found.get("is_folder"):
            written += "/**/*.parquet"
        error = found.get("columns_error", "")
        if error == "FileNotFoundError":
            notes.append(f"there is no {absolute} yet: dbt fails until it is there")
        elif error and reader == "read_parquet":
            notes.append(f"Feast could not read {absolute} ({error}): dbt may fail on it too")
    if not written.endswith(".parquet") or set("()'") & set(path):
        variable = REPOSITORY if inside else ""
        quoted = written.removeprefix(variable).replace("'", "''")
        written = f"{reader}('{variable}{quoted}')"
    return {"file": written, "inside": inside}
