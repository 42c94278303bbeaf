"""What streamed views are computed from, in a DuckDB of the stream's own.

Landed events are tables there. A model that reads them is a view of its own SQL, compiled as for a full build, under
its own name; what reads no stream is a copy of what dbt built. So all that reads a feature view reads it there as in
the warehouse: the macros ``latest`` and ``_rows_ahead``, and what `materialize` makes of them. A streamed source is a
view as well: of the events of those entities that are asked for, by the filters that `materializer.sql.apart` found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.relation import Relation
from materializer.project.render import ProjectManifest
from materializer.project.settings import Project
from materializer.stream.chain import chain_of
from materializer.stream.events import Events
from materializer.stream.files import FileLanding, literal
from materializer.stream.source import StreamedSource
from materializer.warehouse import quoted
from materializer.warehouse.duckdb import DuckDBWarehouse, in_memory_as, zone_of

# The database of what is the stream's own, and that of the events.
OWN, _EVENTS = "_fs", "_fs_events"


class Replica:
    """See the module.

    Args:
        manifest: dbt's, with the SQL of full builds.
        room: an empty folder, for events.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, manifest: ProjectManifest, landing: FileLanding,
        views: Sequence[FeatureView], room: Path, zone: str = "UTC",
    ) -> None:  # fmt: skip
        self._connection = connection
        self.warehouse = DuckDBWarehouse(connection, "memory", lambda: zone)
        self._graph = Graph(manifest)
        self._sources = {source.unique_id: source for source in landing.sources.values()}
        connection.execute(f"attach ':memory:' as {OWN}")
        # A file is compressed, as what is in memory is not: a fifth of the room, and it is read in less time. When its
        # process has ended it is of no use, so no change of it waits for the disk.
        connection.execute(f"attach {literal(room / 'events.duckdb')} as {_EVENTS} (recovery_mode no_wal_writes)")
        self.events = Events(connection, landing, _EVENTS)
        self._shown: dict[str, str] = {}
        chain = chain_of(self._graph, self._sources, [one.unique_id for one in views])
        self._models, self._static = chain.models, chain.static
        for node in (*self._sources.values(), *map(self._graph.nodes.get, (*self._models, *self._static))):
            self._make_room(node)
        for name in ("since", "begins", "ends"):
            connection.execute(f"set variable _fs_{name} = cast(null as timestamp)")
        for source in self._sources.values():
            self.show(source.unique_id, "true")

    @property
    def reads_tables(self) -> bool:
        """Whether views need more of the warehouse than the events."""
        return bool(self._static)

    def copy_tables(self, warehouse: DuckDBWarehouse) -> None:
        """Take what reads no stream as it stands in the warehouse now. Raises WarehouseError naming what cannot
        be had."""
        for unique_id in self._static:
            name = self._graph.nodes[unique_id]["relation_name"]
            columns = warehouse.columns(Relation(name))
            if not columns:
                continue  # a source that is a file by another name: SQL reads that itself
            rows = warehouse.as_it_is(f"select * from {name}")
            listed = ", ".join(f"cast({quoted(one.name)} as {one.dtype}) as {quoted(one.name)}" for one in columns)
            with self.seeing("_fs_copied", rows):
                self.warehouse.execute(f"create or replace table {name} as select {listed} from _fs_copied")

    @contextmanager
    def seeing(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Have SQL read rows by a name meanwhile."""
        self._connection.register(name, rows)
        try:
            yield
        finally:
            self._connection.unregister(name)

    def make_models(self) -> None:
        """Make the views of the models."""
        for unique_id in self._models:
            node = self._graph.nodes[unique_id]
            self.warehouse.execute(f"create or replace view {node['relation_name']} as {node['compiled_code']}")

    def _make_room(self, node: Any) -> None:
        named = node if isinstance(node, StreamedSource) else None
        database = named.database if named else node.get("database")
        schema = named.schema if named else node.get("schema")
        if database:
            self.warehouse.execute(f"attach if not exists ':memory:' as {quoted(database)}")
        where = ".".join(quoted(part) for part in (database, schema) if part)
        self.warehouse.execute(f"create schema if not exists {where}")

    def make_reached(self, models: Mapping[str, str], place: int) -> None:
        """Make these models once more, of events from `reach_from` on, under names of their own: `reached_name`."""
        for unique_id, code in models.items():
            for other in models:
                name = self._graph.nodes[other]["relation_name"]
                code = code.replace(name, self.reached_name(other, place))
            self.warehouse.execute(f"create or replace view {self.reached_name(unique_id, place)} as {code}")

    def reached_name(self, unique_id: str, place: int) -> str:
        """The relation of a model that reads events from `reach_from` on alone."""
        return f"{OWN}.main.{quoted(f'{unique_id}_{place}')}"

    def reach_from(self, since: datetime, begins: datetime, ends: datetime) -> None:
        """Where it is known how far models reach back: take events from a moment on, and make the rows of others."""
        for name, at in {"since": since, "begins": begins, "ends": ends}.items():
            self.warehouse.execute(f"set variable _fs_{name} = timestamp '{at.replace(tzinfo=None)}'")

    def show(self, unique_id: str, condition: str) -> None:
        """Make a source a view of its events, of those that a condition is true for, and of those whose id decides too
        little: they are looked at whosever they are."""
        source = self._sources[unique_id]
        doubts = self.events.doubts(unique_id)
        condition = f"{condition} or {doubts}" if doubts else condition
        if self._shown.get(unique_id) != condition:  # any change makes DuckDB plan all queries anew
            rows = f"select * from {self.events.table(unique_id)} where {condition}"
            self.warehouse.execute(f"create or replace view {_name(source)} as {rows}")
        self._shown[unique_id] = condition


def _name(source: StreamedSource) -> str:
    return ".".join(map(quoted, filter(None, (source.database, source.schema, source.table))))


@contextmanager
def replica(
    project: Project, manifest: ProjectManifest, landing: FileLanding, views: Sequence[FeatureView]
) -> Iterator[Replica]:
    """A replica for some views, for as long as this lasts. Raises WarehouseError where DuckDB does not take what the
    profile asks of it."""
    with tempfile.TemporaryDirectory(prefix="feature-store-") as room, closing(in_memory_as(project)) as connection:
        connection.execute(f"set temp_directory = {literal(room)}")
        try:
            yield Replica(connection, manifest, landing, views, Path(room), zone_of(project))
        except duckdb.Error as error:
            raise WarehouseError(str(error).partition("\n")[0]) from None
