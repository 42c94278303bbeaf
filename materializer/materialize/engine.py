"""The DuckDB in which a view's rows are compared with what is remembered: that the run is never wrong rests on one
engine, whatever the warehouse. A DuckDB warehouse is it itself; of another one the latest rows are brought first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from materializer.errors import WarehouseError
from materializer.materialize.current import MOVING, VISIBLE
from materializer.materialize.difference import file_sql
from materializer.project.definitions import FeatureView
from materializer.project.relation import Relation
from materializer.warehouse import Warehouse
from materializer.warehouse.arrow import plain_type, to_plain
from materializer.warehouse.duckdb import DuckDBWarehouse, open_in_memory

BATCH_ROWS = 20_000
# The columns that the macro `_rows_ahead` adds.
_STEPS = ((VISIBLE, pa.timestamp("us")), (MOVING, pa.bool_()))


@dataclass(frozen=True)
class Engine:
    """A DuckDB, and the folder for the rows of another warehouse; None where the DuckDB is the warehouse."""

    duckdb: DuckDBWarehouse
    folder: Path | None

    def rows(self, warehouse: Warehouse, view: FeatureView, rows: str, steps: bool) -> tuple[FeatureView, str]:
        """The view as the DuckDB sees it, and SQL there for what `rows` gives in the warehouse: of the macro ``latest``
        or, where `steps`, of ``_rows_ahead``.

        Raises:
            WarehouseError: where they do not fit on the disk; and as `Warehouse.stream`.
        """
        if self.folder is None:
            return view, rows
        path = self.folder / "latest.parquet"
        given = warehouse.schema(Relation(view.relation))
        moments = (view.timestamp, view.created_timestamp) if view.created_timestamp else (view.timestamp,)
        names = [*view.join_keys, *moments, *(feature.name for feature in view.features)]
        fields = [(name, plain_type(given.field(name).type)) for name in names]
        schema = pa.schema([*fields, *(_STEPS if steps else ())])
        try:
            with pq.ParquetWriter(path, schema) as writer:
                for batch in warehouse.stream(rows, BATCH_ROWS):
                    columns = {name: to_plain(batch.column(name)) for name in schema.names}
                    writer.write_table(pa.table(columns).cast(schema))
        except pa.ArrowInvalid as error:
            raise WarehouseError(
                f"Feature view '{view.reference}' gives other types than it had a moment ago ({error}): run it again "
                "when what builds it is done."
            ) from None
        except OSError as error:
            raise WarehouseError(
                f"The latest rows of '{view.reference}' cannot be kept in {self.folder.parent} while they are "
                f"compared: {error.strerror or error}. Name another folder with TMPDIR."
            ) from None
        staged = file_sql(path)
        return replace(view, relation=staged), f"select * from {staged}"


@contextmanager
def beside(warehouse: Warehouse) -> Iterator[Engine]:
    """The engine for a warehouse, for as long as this lasts."""
    if isinstance(warehouse, DuckDBWarehouse):
        yield Engine(warehouse, None)
        return
    with tempfile.TemporaryDirectory(prefix="feature-store-") as folder, open_in_memory(Path(folder)) as duckdb:
        yield Engine(duckdb, Path(folder))
