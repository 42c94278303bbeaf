"""Where a source's rows are, for dbt: a file that DuckDB reads in place, a table of a warehouse, or a query."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from materializer.feast.definitions import Repository, Source

if TYPE_CHECKING:
    import pyarrow as pa

# The repository's folder, in what dbt reads.
REPOSITORY = "{{ var('feast_repository') }}"
# How DuckDB reads each format. Delta, Iceberg and Avro are extensions of it.
_READERS = {
    "avro": "read_avro",
    "csv": "read_csv",
    "delta": "delta_scan",
    "iceberg": "iceberg_scan",
    "json": "read_json",
    "orc": None,
    "parquet": "read_parquet",
}


@dataclass(frozen=True)
class Location:
    """Exactly one of `file`, `table` and `query` is given. `columns` are the file's, where it could be looked into."""

    file: str | None = None
    table: str | None = None
    schema: str | None = None
    database: str | None = None
    query: str | None = None
    columns: dict[str, pa.DataType] | None = None
    notes: tuple[str, ...] = ()
    # Whether `file` begins with the variable of the repository's folder.
    inside: bool = False
    # Whether `query` is one query, which the parentheses around it in a model hold.
    whole: bool = True

    @property
    def is_file(self) -> bool:
        return self.file is not None


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
    table = (source.table or "").replace("`", "").replace('"', "").replace(":", ".")
    *above, name = table.split(".")
    schema = source.schema or (above[-1] if above else None) or repository.schema or None
    database = source.database or (above[-2] if len(above) > 1 else None) or repository.database or None
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
    path, notes = source.path or "", []
    reader = _READERS.get(source.file_format, "read_parquet")
    if reader is None:
        notes.append("DuckDB does not read ORC files: convert them to Parquet")
        reader = "read_parquet"
    if source.file_format in ("avro", "delta", "iceberg"):
        notes.append(f"DuckDB reads {source.file_format} with an extension, which it fetches at first use")
    path = path.removeprefix("file://")
    columns, inside = None, False
    if PureWindowsPath(path).drive:
        notes.append("its path is of Windows, and was not looked into")
        written = path.replace("\\", "/")
    elif "://" in path:
        notes.append(
            f"DuckDB reads {path.partition('://')[0]}:// with its extension httpfs: give it a secret in profiles.yml"
        )
        written = path
    else:
        absolute = (folder / Path(path).expanduser()).absolute()
        absolute = Path(*absolute.parts) if ".." not in absolute.parts else absolute.resolve()
        inside = absolute.is_relative_to(folder)
        written = f"{REPOSITORY}/{absolute.relative_to(folder).as_posix()}" if inside else absolute.as_posix()
        if absolute.is_dir() and reader == "read_parquet":
            written += "/**/*.parquet"
        if "*" not in path and not absolute.exists():
            notes.append(f"there is no {absolute} yet: dbt fails until it is there")
        elif not absolute.resolve().is_relative_to(folder.resolve()):
            notes.append(f"{absolute} lies outside of the repository, and was not looked into")
        elif reader == "read_parquet":
            columns, problem = _columns(absolute)
            notes += [problem] if problem else []
    if written.endswith(".parquet") and not set("()'") & set(path):
        file = written
    else:
        variable = REPOSITORY if inside else ""
        file = f"{reader}('{variable}{_doubled(written.removeprefix(variable))}')"
    return Location(file=file, columns=columns, notes=tuple(notes), inside=inside)


def _doubled(path: str) -> str:
    """A path for quotes of SQL."""
    return path.replace("'", "''")


def _columns(path: Path) -> tuple[dict[str, pa.DataType] | None, str]:
    """The columns of a Parquet file or of the first one in a folder, by name, and why they are not known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if "*" in path.name:
        files = sorted(path.parent.glob(path.name))
    else:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        return None, f"{path} holds no Parquet file yet: dbt fails until it does"
    try:
        schema = pq.read_schema(files[0])
    except (pa.ArrowException, OSError):
        return None, f"{files[0]} could not be read as Parquet: dbt may fail on it too"
    return {field.name: field.type for field in schema}, ""
