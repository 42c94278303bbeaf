"""Warehouses behind one small interface: Arrow in, Arrow out, read-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from materializer.errors import WarehouseError

if TYPE_CHECKING:
    import pyarrow as pa

    from materializer.project.relation import Column, Relation
    from materializer.project.settings import Project

SQL_TYPE = b"sql_type"


class Warehouse(Protocol):
    """An open connection to a warehouse. It reads; nothing here writes to a user's tables.

    `state_folder` is where the materializer keeps its memory, `place` says which warehouse it is.
    """

    state_folder: Path
    place: str

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a relation in order; empty where it does not exist."""

    def schema(self, relation: Relation) -> pa.Schema:
        """The Arrow types that a relation's rows arrive with."""

    def schemas(self, relations: Sequence[Relation]) -> dict[Relation, pa.Schema]:
        """The `schema` of many relations with few queries; those for which it takes more are left out.

        Each field's metadata has the warehouse's own name of its type under `SQL_TYPE`.
        """

    def query(self, sql: str) -> pa.Table:
        """The whole answer of a query."""

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The answer of a query in batches of at most `batch_rows` rows."""

    def execute(self, sql: str) -> None:
        """Run a statement for its effect on this connection."""

    def save(self, sql: str, path: Path) -> None:
        """Write the answer of a query to a Parquet file."""

    def register(self, name: str, table: pa.Table) -> Relation:
        """Make a table of the caller's readable in SQL for as long as the connection is open."""


def open_warehouse(project: Project) -> AbstractContextManager[Warehouse]:
    """Connect to the warehouse that the project's target names, as a context manager. Raises WarehouseError for a kind
    of warehouse that cannot be read yet, or one that does not answer."""
    kind = project.connection.get("type")
    if kind != "duckdb":
        raise WarehouseError(f"Target '{project.target}' is a {kind} warehouse; this release reads: duckdb.")
    try:
        from materializer.warehouse.duckdb import open_duckdb
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise WarehouseError(
            f"Target '{project.target}' is a DuckDB warehouse, and duckdb is not installed beside this package: "
            "pip install 'dbt-feature-store[duckdb]'."
        ) from None
    return open_duckdb(project)


def query_apart(project: Project, sql: str) -> pa.Table:
    """The answer of one SELECT that somebody else wrote, with no file in its reach. Raises WarehouseError where it is
    anything else, or reaches further; and as `open_warehouse`."""
    with open_warehouse(project):
        pass  # a warehouse that is not there, or cannot be read, is not the SELECT's fault
    from materializer.warehouse import duckdb

    return duckdb.query_apart(project, sql)


def quoted(name: str) -> str:
    """A column's name as SQL has it, whatever letters are in it."""
    return '"' + name.replace('"', '""') + '"'
