"""The DuckDB in which a view's rows are compared with what is remembered: that the run is never wrong rests on one
engine, whatever the warehouse. A DuckDB warehouse is it itself; of another one the latest rows are brought first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from materializer.errors import WarehouseError
from materializer.materialize import executors
from materializer.materialize.current import DIGESTS, MOVING, VISIBLE, Digests, digests_of
from materializer.materialize.difference import file_sql
from materializer.materialize.unstorable import Conditions, conditions_of
from materializer.project.definitions import FeatureView
from materializer.project.relation import Relation
from materializer.warehouse import Warehouse
from materializer.warehouse.arrow import plain_type, to_plain
from materializer.warehouse.duckdb import DuckDBWarehouse, open_in_memory

if TYPE_CHECKING:
    from materializer.warehouse.spark import Snapshot

BATCH_ROWS = 20_000
# The columns that the macro `_rows_ahead` adds.
_STEPS = {VISIBLE: pa.timestamp("us"), MOVING: pa.bool_()}


@dataclass(frozen=True)
class Latest:
    """A view and SQL for its rows, as the engine's DuckDB sees them, and SQL for what is calculated of each.

    `snapshot` is where the rows lie, if the DuckDB has only their keys, moments and what was calculated of them there.
    """

    view: FeatureView
    rows: str
    digests: Digests
    unstorable: Conditions
    snapshot: Snapshot | None = None


@dataclass(frozen=True)
class Engine:
    """A DuckDB, and the folder for the rows of another warehouse; None where the DuckDB is the warehouse."""

    duckdb: DuckDBWarehouse
    folder: Path | None

    def latest(
        self, warehouse: Warehouse, view: FeatureView, sql: str, steps: bool, from_executors: bool = False
    ) -> Latest:
        """The rows that `sql` gives in the warehouse: of the macro ``latest`` or, where `steps`, of ``_rows_ahead``;
        with `from_executors`, which those of ``latest`` alone may, they stay on Spark's.

        Raises:
            WarehouseError: where they do not fit on the disk; and as `Warehouse.stream`.
        """
        digests, unstorable, snapshot = digests_of(view), conditions_of(view), None
        if self.folder is None:
            return Latest(view, sql, digests, unstorable)
        path = self.folder / "latest.parquet"
        given = warehouse.schema(Relation(view.relation))
        moments = (view.timestamp, view.created_timestamp) if view.created_timestamp else (view.timestamp,)
        features = () if from_executors else tuple(feature.name for feature in view.features)
        types = {name: plain_type(given.field(name).type) for name in (*view.join_keys, *moments, *features)}
        types |= _STEPS if steps else {}
        try:
            if from_executors:
                snapshot, calculated, unstorable = executors.take_snapshot(warehouse, view, sql, digests, unstorable)
                types, digests = types | calculated, DIGESTS
                batches = executors.brought(snapshot, tuple(types))
            else:
                batches = warehouse.stream(sql, BATCH_ROWS)
            with pq.ParquetWriter(path, pa.schema(types)) as writer:
                for batch in batches:
                    columns = {name: to_plain(batch.column(name)) for name in types}
                    writer.write_table(pa.table(columns).cast(pa.schema(types)))
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
        return Latest(replace(view, relation=staged), f"select * from {staged}", digests, unstorable, snapshot)


@contextmanager
def beside(warehouse: Warehouse) -> Iterator[Engine]:
    """The engine for a warehouse, for as long as this lasts."""
    if isinstance(warehouse, DuckDBWarehouse):
        yield Engine(warehouse, None)
        return
    with tempfile.TemporaryDirectory(prefix="feature-store-") as folder, open_in_memory(Path(folder)) as duckdb:
        yield Engine(duckdb, Path(folder))
