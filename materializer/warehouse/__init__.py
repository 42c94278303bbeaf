"""Warehouses behind one small interface: Arrow in, Arrow out, read-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from materializer.errors import WarehouseError

if TYPE_CHECKING:
    import pyarrow as pa

    from materializer.project.relation import Column, Relation
    from materializer.project.settings import Project

SQL_TYPE = b"sql_type"
# What is read by a driver of its own; all others by dbt's adapter.
OWN_WAY = {"duckdb": "DuckDB", "postgres": "PostgreSQL", "spark": "Spark"}
_DRIVERS = ("duckdb", "adbc_driver_manager", "adbc_driver_postgresql", "pyspark", "grpc", "pandas")


class Warehouse(Protocol):
    """An open connection to a warehouse. It reads; nothing here writes to a user's tables.

    `dialect` is dbt's name of its adapter, `version` the engine's, `place` says which warehouse it is.
    """

    dialect: str
    version: str
    place: str

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a relation in order, with the warehouse's names of types; empty where it does not exist."""

    def schema(self, relation: Relation) -> pa.Schema:
        """The Arrow types that a relation's rows arrive with."""

    def schemas(self, relations: Sequence[Relation]) -> dict[Relation, pa.Schema]:
        """The `schema` of many relations with few queries; those for which it takes more are left out.

        Each field's metadata has the warehouse's own name of its type under `SQL_TYPE`.
        """

    def query(self, sql: str) -> pa.Table:
        """The whole answer of a query."""

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The answer of a query in batches, of at most `batch_rows` rows where the warehouse can be told."""

    def spine(self, name: str, table: pa.Table) -> Relation:
        """Make a table of the caller's readable in SQL for as long as the connection is open."""


@runtime_checkable
class AsDbt(Protocol):
    """A warehouse where sessions have a time zone, which is UTC here and may be another for dbt."""

    def as_dbt(self) -> AbstractContextManager[None]:
        """Meanwhile dates and hours are those of dbt's time zone, as the project's own SQL means them."""


def open_warehouse(project: Project) -> AbstractContextManager[Warehouse]:
    """Connect to the warehouse that the project's target names, as a context manager. Raises WarehouseError where its
    driver is not installed, or it does not answer."""
    kind = str(project.connection.get("type"))
    if kind not in OWN_WAY:
        from materializer.warehouse.adapter import open_adapter

        return open_adapter(project)
    try:
        return getattr(import_module(f"materializer.warehouse.{kind}"), f"open_{kind}")(project)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _DRIVERS:
            raise
        raise WarehouseError(
            f"Target '{project.target}' is a {OWN_WAY[kind]} warehouse, and {error.name} is not installed beside this "
            f"package: pip install 'dbt-feature-store[{kind}]'."
        ) from None


def query_apart(project: Project, sql: str) -> pa.Table:
    """The answer of one SELECT that somebody else wrote, with no file in its reach. Raises WarehouseError where it is
    anything else, or reaches further; and as `open_warehouse`."""
    with open_warehouse(project) as warehouse:
        pass  # one that is not there, or cannot be read, is not the SELECT's fault
    module = import_module(f"materializer.warehouse.{warehouse.dialect if warehouse.dialect in OWN_WAY else 'adapter'}")
    if not hasattr(module, "query_apart"):
        raise WarehouseError(f"On {warehouse.dialect} nothing keeps it to that.")
    return module.query_apart(project, sql)


def quoted(name: str, dialect: str = "") -> str:
    """A column's name as SQL has it, whatever letters are in it: as DuckDB and PostgreSQL have it, or Spark."""
    mark = "`" if dialect == "spark" else '"'
    return mark + name.replace(mark, mark * 2) + mark
