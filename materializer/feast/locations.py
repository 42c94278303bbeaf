"""Where a source's rows are, for dbt: a file that DuckDB reads in place, a table of a warehouse, or a query."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from materializer.feast.definitions import Repository, Source

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


@dataclass(frozen=True)
class Location:
    """Exactly one of `file`, `table` and `query` is given."""

    file: str = ""
    table: str = ""
    schema: str = ""
    database: str = ""
    query: str = ""
    notes: tuple[str, ...] = ()
    # Whether `file` begins with the variable of the repository's folder.
    inside: bool = False
    # Whether `query` is one query, which the parentheses around it in a model hold.
    whole: bool = True


def location_of(source: Source, repository: Repository) -> Location:
    """Where a source's rows are.

    A path inside the repository's folder is written with the dbt variable ``feast_repository``.
    """
    if source.query:
        query = textwrap.dedent(source.query.strip("\r\n")).strip().rstrip(";").rstrip()
        notes = ["it reads a query: make the tables in it dbt sources, so that dbt knows where the rows come from"]
        whole = _is_one_query(query)
        if not whole:
            notes.append("its query is not one SELECT: it is written with `enabled: false` until you corrected it")
        return Location(query=query, notes=tuple(notes), whole=whole)
    if source.path:
        return _file(source, repository.folder)
    *above, name = source.table.replace("`", "").replace('"', "").replace(":", ".").split(".")
    schema = source.schema or (above[-1] if above else "") or repository.schema
    database = source.database or (above[-2] if len(above) > 1 else "") or repository.database
    return Location(table=name, schema=schema, database=database)


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


def _file(source: Source, folder: Path) -> Location:
    path, notes, inside = source.path.removeprefix("file://"), [], False
    if source.file_format == "orc":
        notes.append("DuckDB does not read ORC files: convert them to Parquet")
    if source.file_format in ("avro", "delta", "iceberg"):
        notes.append(f"DuckDB reads {source.file_format} with an extension, which it fetches at first use")
    reader = _READERS.get(source.file_format, "read_parquet")
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
        if reader == "read_parquet" and source.is_folder:
            written += "/**/*.parquet"
        if source.columns_error == "FileNotFoundError":
            notes.append(f"there is no {absolute} yet: dbt fails until it is there")
        elif source.columns_error and reader == "read_parquet":
            notes.append(f"Feast could not read {absolute} ({source.columns_error}): dbt may fail on it too")
    if written.endswith(".parquet") and not set("()'") & set(path):
        file = written
    else:
        variable = REPOSITORY if inside else ""
        quoted = written.removeprefix(variable).replace("'", "''")
        file = f"{reader}('{variable}{quoted}')"
    return Location(file=file, notes=tuple(notes), inside=inside)
