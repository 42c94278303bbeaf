"""DuckDB files: opened read-only for one call and closed after it, so that a notebook never blocks ``dbt run``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.project.relation import Column, Relation
from materializer.project.settings import Project
from materializer.warehouse import SQL_TYPE, quoted
from materializer.warehouse.duckdb_profile import OURS, escaped, is_locked, once_unlocked, profile_settings, sentence
from materializer.warehouse.exact import exactly

# How long a file that another process holds is waited for, in seconds.
LOCK_PATIENCE = 5.0
_connecting = threading.Lock()
# A PIVOT over values that are yet to be found counts as several.
_QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)
# From how many relations on their columns are looked up together.
FEW = 20


class DuckDBWarehouse:
    """See `materializer.warehouse.Warehouse`. The materializer compares rows in one: `execute`, `save`."""

    dialect, version = "duckdb", duckdb.__version__

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, place: str, zone: Callable[[], str] = lambda: "UTC"
    ) -> None:
        self._connection, self._zone = connection, zone
        self.place = place

    def columns(self, relation: Relation) -> list[Column]:
        with _refusals():
            try:
                described = self._connection.execute(self._one(f"describe select * from {relation}")).fetchall()
            except duckdb.CatalogException:
                return []
        return [Column(row[0], row[1]) for row in described]

    def schema(self, relation: Relation) -> pa.Schema:
        return self.query(f"select * from {relation} limit 0").schema

    def schemas(self, relations: Sequence[Relation]) -> dict[Relation, pa.Schema]:
        if len(relations) < FEW:
            return {}
        named = {_names(relation): relation for relation in relations}
        # Of tables only: what a view gives is known when it is read, not from what it once gave.
        query = """
            select database_name, schema_name, table_name, columns.column_name, columns.data_type
            from duckdb_columns() as columns
            join (select distinct table_oid, database_oid from duckdb_tables()) using (table_oid, database_oid)
            where table_name in (select unnest(?))
            order by database_oid, table_oid, column_index
        """
        with _refusals():
            found = self._connection.execute(query, [[names[-1] for names in named if names]]).fetchall()
        types = list(dict.fromkeys(row[4] for row in found))
        if not types:
            return {}
        nothing = ", ".join(f"cast(null as {name}) as c{place}" for place, name in enumerate(types))
        try:
            arrow = dict(zip(types, self.query(f"select {nothing} limit 0").schema.types, strict=True))
        except WarehouseError:
            return {}
        columns: dict[Relation, list[pa.Field]] = {}
        for *names, column, data_type in found:
            relation = named.get(tuple(names))
            if relation is not None:
                columns.setdefault(relation, []).append(
                    pa.field(column, arrow[data_type], metadata={SQL_TYPE: data_type})
                )
        return {relation: pa.schema(fields) for relation, fields in columns.items()}

    def query(self, sql: str) -> pa.Table:
        with _refusals():
            relation, finish = exactly(self._connection.sql(self._one(sql)))
            return finish(relation.to_arrow_table())

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        with _refusals(pa.ArrowException, OSError):  # Arrow wraps what DuckDB meets half-way
            relation, finish = exactly(self._connection.sql(self._one(sql)))
            yield from map(finish, relation.to_arrow_reader(batch_rows))

    def as_it_is(self, sql: str) -> pa.Table:
        """The answer of a query for another DuckDB, which gives each value as this one has it."""
        self.execute("set arrow_lossless_conversion = true")
        try:
            with _refusals():
                return self._connection.sql(self._one(sql)).to_arrow_table()
        finally:
            self.execute("set arrow_lossless_conversion = false")

    def execute(self, sql: str) -> None:
        """Run a statement for its effect on this connection."""
        with _refusals():
            self._connection.execute(sql)

    @contextmanager
    def as_dbt(self) -> Iterator[None]:
        """Meanwhile dates and hours are those of dbt's time zone, as the project's own SQL means them."""
        zone = self._zone()
        if zone == "UTC":
            yield
            return
        self.execute(f"set timezone = '{escaped(zone)}'")
        try:
            yield
        finally:
            self.execute("set timezone = 'UTC'")

    def save(self, sql: str, path: Path) -> None:
        """Write the answer of a query to a Parquet file."""
        literal = str(path).replace("'", "''")
        self._one(sql)
        self.execute(f"copy ({sql}) to '{literal}' (format parquet)")

    def _one(self, sql: str) -> duckdb.Statement:
        """A query as a statement. DuckDB would run several, and what was meant as one part of a query may hold more."""
        with _refusals():
            found = self._connection.extract_statements(sql)
        if len(found) != 1 or found[0].type not in _QUERIES:
            raise WarehouseError("A query of this project is more than one statement, or none that only reads.")
        return found[0]

    def spine(self, name: str, table: pa.Table) -> Relation:
        # DuckDB reads no decimals of more than 38 digits; text that spells a number it compares as one.
        kept = [field.with_type(pa.string()) if pa.types.is_decimal256(field.type) else field for field in table.schema]
        self._connection.register(name, table if kept == list(table.schema) else table.cast(pa.schema(kept)))
        return Relation(name)


@contextmanager
def open_duckdb(project: Project) -> Iterator[DuckDBWarehouse]:
    """Open the DuckDB of a project's target as dbt-duckdb opens it (its attached databases, settings, secrets, file
    systems), but read-only. Raises WarehouseError where there is no such file, another process holds it longer than
    `LOCK_PATIENCE`, or something that the profile names cannot be had."""
    settings = profile_settings(project)
    path = settings.database

    def connect() -> duckdb.DuckDBPyConnection:
        # The first connection to a file is not whole before `connect` returns, and threads share what it opens.
        with _connecting:
            return duckdb.connect(path, read_only=path != ":memory:", config=dict(settings.config))

    connection = _patiently(path, connect)
    try:
        settings.apply(connection)
        # DuckDB draws its own on stdout after two seconds, also in a pipe and into the middle of JSON.
        connection.execute("set enable_progress_bar = false")
        yield DuckDBWarehouse(connection, str(settings.state_beside), partial(zone_of, project))
    finally:
        connection.close()


@contextmanager
def open_in_memory(folder: Path) -> Iterator[DuckDBWarehouse]:
    """A DuckDB of its own, which spills into a folder."""
    with closing(duckdb.connect(":memory:")) as connection:
        for name, value in {**OURS, "temp_directory": str(folder), "enable_progress_bar": "false"}.items():
            connection.execute(f"set {name} = '{escaped(value)}'")
        yield DuckDBWarehouse(connection, "memory")


def in_memory_as(project: Project) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that takes the SQL of a target's models: its extensions, settings, secrets and file systems,
    and none of its tables. Raises WarehouseError where one of these cannot be had."""
    settings = profile_settings(project)
    connection = duckdb.connect(":memory:", config=dict(settings.config))
    try:
        settings.apply(connection, attached=False)
        connection.execute("set enable_progress_bar = false")
    except BaseException:
        connection.close()
        raise
    return connection


def zone_of(project: Project) -> str:
    """The time zone in which dbt builds: the profile's, or else that of this machine."""
    named = {str(name).lower(): str(value) for part in ("config_options", "settings")
             for name, value in (project.connection.get(part) or {}).items()}  # fmt: skip
    with closing(duckdb.connect(":memory:")) as connection:
        return named.get("timezone") or connection.execute("select current_setting('TimeZone')").fetchall()[0][0]


def query_apart(project: Project, sql: str) -> pa.Table:
    """The answer of one SELECT that somebody else wrote, which sees the warehouse's tables and no file at all. Raises
    WarehouseError where it is anything else than one SELECT, or reaches further; and as `open_duckdb`.

    It runs in its own engine, which only has the warehouse and what the profile attaches, read-only: files,
    extensions and settings are locked, and no other connection is touched. Types that Arrow does not have come back as
    DuckDB's own.
    """
    settings = profile_settings(project)
    with closing(duckdb.connect(":memory:", config=dict(settings.config))) as connection:
        if settings.database != ":memory:":
            literal = settings.database.replace("'", "''")
            name = quoted(str(project.connection.get("database") or Path(settings.database).stem))
            attach = f"attach '{literal}' as {name} (read_only)"
            _patiently(settings.database, lambda: connection.execute(attach))
            connection.execute(f"use {name}")
        settings.apply(connection)
        for setting in (
            "set enable_progress_bar = false", "set arrow_lossless_conversion = true",
            "set python_enable_replacements = false", "set enable_external_access = false",
            "set lock_configuration = true",
        ):  # fmt: skip
            connection.execute(setting)
        with _refusals(pa.ArrowException):
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise WarehouseError("It is not one SELECT.")
            return connection.sql(statements[0]).to_arrow_table()


def _patiently(path: str, opened: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
    try:
        return once_unlocked(opened, LOCK_PATIENCE)
    except duckdb.ConnectionException:
        said = f"The warehouse {path} is open for writing in this very process: close that connection first."
    except duckdb.Error as error:
        said = f"DuckDB cannot open {path}: {sentence(error)}"
        if is_locked(error):
            said = (
                f"The warehouse {path} is locked by another process, most likely a dbt run ({sentence(error)}): "
                "try again when it is done."
            )
    raise WarehouseError(said)


def _names(relation: Relation) -> tuple[str, ...]:
    """The database, schema and name of a relation that dbt wrote with all three; empty for any other."""
    parts = tuple(part or "" for part in (relation.database, relation.schema, relation.identifier))
    return parts if ".".join(map(quoted, parts)) == relation.sql else ()


@contextmanager
def _refusals(*others: type[Exception]) -> Iterator[None]:
    """Turns what DuckDB raises, and these, into a `WarehouseError`."""
    try:
        yield
    except (duckdb.Error, *others) as error:
        raise WarehouseError(f"DuckDB refused a query: {sentence(error)}") from None
