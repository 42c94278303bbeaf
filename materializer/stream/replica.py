"""What streamed views are computed from, in a DuckDB of the stream's own.

Landed events are tables there. A model that reads them is a view of its own SQL, compiled as for a full build, under
its own name; what reads no stream is a copy of what dbt built. So all that reads a feature view reads it there as in
the warehouse: the macros ``latest`` and ``_rows_ahead``, and what `materialize` makes of them. A streamed source is a
view as well: of the events of those entities that are asked for, by the filters that `materializer.sql.apart` found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.materialize.current import Current, stored
from materializer.materialize.horizon import Horizon
from materializer.materialize.unstorable import find_unstorable
from materializer.project.definitions import FeatureView
from materializer.project.duration import macro_moment
from materializer.project.graph import Graph
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.project.settings import Project
from materializer.stream.events import Events
from materializer.stream.files import FileLanding
from materializer.stream.source import StreamedSource
from materializer.warehouse import quoted
from materializer.warehouse.duckdb import DuckDBWarehouse, in_memory_as

# The database of what is the stream's own; the entities that are asked for, and the rows of a view that they have.
_OWN = "_fs"
TOUCHED, _ASKED, _ROWS = (f"{_OWN}.main.{name}" for name in ("touched", "asked", "rows"))


@dataclass(frozen=True)
class Streamed:
    """A view that streams.

    Attributes:
        definition: a checksum of what makes its rows.
        keys: the join keys that it streams by.
        filters: by the streamed sources' ids, what names the entities of a row: SQL over its columns, in the order of
            `keys`; several where it is read in several ways.
    """

    view: FeatureView
    definition: str
    keys: tuple[str, ...]
    filters: Mapping[str, tuple[tuple[str, ...], ...]]


class Replica:
    """See the module.

    Args:
        manifest: dbt's, with the SQL of full builds.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], landing: FileLanding,
        views: Sequence[Streamed], macros: MacroRenderer,
    ) -> None:  # fmt: skip
        self._connection = connection
        self.warehouse = DuckDBWarehouse(connection, "memory")
        self._graph = Graph(manifest)
        self._sources = {source.unique_id: source for source in landing.sources.values()}
        connection.execute(f"attach ':memory:' as {_OWN}")
        self.events = Events(connection, landing, _OWN)
        self._macros = macros.over(self.warehouse.columns)
        self._models, self._static = self._relations([one.view.unique_id for one in views])
        for node in (*self._sources.values(), *map(self._graph.nodes.get, (*self._models, *self._static))):
            self._make_room(node)
        for source in self._sources.values():
            self._show(source, None)

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
            self._connection.register("_fs_copied", rows)
            try:
                self.warehouse.execute(f"create or replace table {name} as select {listed} from _fs_copied")
            finally:
                self._connection.unregister("_fs_copied")

    def make_models(self) -> None:
        """Make the views of the models."""
        for unique_id in self._models:
            node = self._graph.nodes[unique_id]
            self.warehouse.execute(f"create or replace view {node['relation_name']} as {node['compiled_code']}")

    def touched(self, one: Streamed, after: int, into: str = TOUCHED) -> int:
        """Find the entities that rows landed after a commit touch, and say how many they are."""
        named = ", ".join(f"k{place}" for place in range(len(one.keys)))
        parts = [
            f"select {', '.join(f'{sql} as k{place}' for place, sql in enumerate(way))} from {self.events.table(name)} "
            f"where _seq > {after} or {self.events.doubtful(name, after)}"
            for name, ways in one.filters.items()
            for way in ways
        ]
        self.warehouse.execute(
            f"create or replace table {into} as select distinct {named} from ({' union all '.join(parts)}) "
            f"where {' and '.join(f'k{place} is not null' for place in range(len(one.keys)))}"
        )
        return self._connection.execute(f"select count(*) from {into}").fetchall()[0][0]

    def backlog(self, one: Streamed, after: int) -> int:
        """The same, for a list of the view's own, which stays: `backlog_of`."""
        return self.touched(one, after, self.backlog_of(one))

    def backlog_of(self, one: Streamed) -> str:
        return f"{_OWN}.main.{quoted(f'backlog_{one.view.reference}')}"

    def everything(self, one: Streamed) -> None:
        """Ask for all entities that there are."""
        for unique_id in one.filters:
            self._show(self._sources[unique_id], None)

    def ask(self, one: Streamed, listed: str, first: int, most: int) -> None:
        """Ask for some of the entities that a table lists; what is computed then is computed for these."""
        self.warehouse.execute(
            f"create or replace table {_ASKED} as select * from {listed} limit {most} offset {first}"
        )
        for unique_id, ways in one.filters.items():
            self._show(self._sources[unique_id], " or ".join(map(_among, ways)))

    def current(self, one: Streamed, view: FeatureView, now: datetime, horizon: Horizon | None) -> Current:
        """The rows that belong online of the entities that are asked for, all worked out."""
        if horizon:
            span = {"since": macro_moment(horizon.since), "until": macro_moment(horizon.until)}
            sql = self._macros.render("_rows_ahead", view.reference, **span)
        else:
            sql = self._macros.render("latest", view.reference, as_of=macro_moment(now))
        if any(self.events.doubts(name) for name in one.filters):
            keys = tuple(map(quoted, one.keys))
            sql = f"select * from ({sql}) as found where {_among(keys)}"
        self.warehouse.execute(f"create or replace table {_ROWS} as {sql}")
        current = Current(view, f"select * from {_ROWS}", now, True, horizon)
        unstorable = find_unstorable(self.warehouse, view, current.belonging)
        return current.without(unstorable.condition) if unstorable.rows else current

    def missing(self, one: Streamed, view: FeatureView, sent: pa.Table | None) -> pa.Table:
        """The entities asked for that are not among those `sent`: join keys, as they are remembered."""
        types = {column.name.lower(): column.dtype for column in self.warehouse.columns(Relation(view.relation))}
        named = {entity.name: entity for entity in view.entities}
        listed = ", ".join(
            f"{stored(named[key]).replace(quoted(key), f'cast(k{place} as {types[key.lower()]})')} as {quoted(key)}"
            for place, key in enumerate(one.keys)
        )
        asked = f"select {listed} from {_ASKED}"
        if sent is None or not sent.num_rows:
            return self.warehouse.query(asked)
        self._connection.register("_fs_sent", sent)
        try:
            on = ", ".join(map(quoted, one.keys))
            return self.warehouse.query(f"select * from ({asked}) as asked anti join _fs_sent using ({on})")
        finally:
            self._connection.unregister("_fs_sent")

    def _relations(self, views: Sequence[str]) -> tuple[list[str], list[str]]:
        """The models between the streamed sources and the views, those below after those above; and what they read
        beside them."""
        reads: dict[str, bool] = {}
        models: dict[str, None] = {}
        static: dict[str, None] = {}

        def visit(unique_id: str) -> bool:
            if unique_id in reads:
                return reads[unique_id]
            reads[unique_id] = unique_id in self._sources
            node = self._graph.nodes.get(unique_id, {})
            parents = list((node.get("depends_on") or {}).get("nodes") or ())
            found = [visit(parent) for parent in parents]
            reads[unique_id] |= any(found)
            ephemeral = (node.get("config") or {}).get("materialized") == "ephemeral"
            if reads[unique_id]:
                for parent in parents:
                    if not reads[parent]:
                        static.update(dict.fromkeys(self._tables(parent)))
                if unique_id not in self._sources and not ephemeral:
                    models[unique_id] = None
            return reads[unique_id]

        for one in views:
            visit(one)
        return list(models), list(static)

    def _tables(self, unique_id: str) -> Iterator[str]:
        """A node that reads no stream, or, where it is only a part of others' SQL, what it reads."""
        node = self._graph.nodes.get(unique_id, {})
        if (node.get("config") or {}).get("materialized") == "ephemeral":
            for parent in (node.get("depends_on") or {}).get("nodes") or ():
                yield from self._tables(parent)
        elif node.get("relation_name"):
            yield unique_id

    def _make_room(self, node: Any) -> None:
        named = node if isinstance(node, StreamedSource) else None
        database = named.database if named else node.get("database")
        schema = named.schema if named else node.get("schema")
        if database:
            self.warehouse.execute(f"attach if not exists ':memory:' as {quoted(database)}")
        where = ".".join(quoted(part) for part in (database, schema) if part)
        self.warehouse.execute(f"create schema if not exists {where}")

    def _show(self, source: StreamedSource, condition: str | None) -> None:
        """Make the source a view of its events, of those that `condition` is true for."""
        doubts = self.events.doubts(source.unique_id)
        either = f" or {doubts}" if doubts else ""
        where = f" where {condition}{either}" if condition else ""
        name = ".".join(map(quoted, filter(None, (source.database, source.schema, source.table))))
        self.warehouse.execute(
            f"create or replace view {name} as select * from {self.events.table(source.unique_id)}{where}"
        )


def _among(way: Sequence[str]) -> str:
    """The condition that expressions name an entity that is asked for."""
    named = [f"k{place}" for place in range(len(way))]
    if len(way) == 1:
        return f"({way[0]}) in (select k0 from {_ASKED})"
    return f"({', '.join(way)}) in (select ({', '.join(named)}) from {_ASKED})"


@contextmanager
def replica(
    project: Project, manifest: Mapping[str, Any], landing: FileLanding, views: Sequence[Streamed],
    macros: MacroRenderer,
) -> Iterator[Replica]:  # fmt: skip
    """A replica for some views, for as long as this lasts. Raises WarehouseError where DuckDB does not take what the
    profile asks of it."""
    with closing(in_memory_as(project)) as connection:
        try:
            yield Replica(connection, manifest, landing, views, macros)
        except duckdb.Error as error:
            raise WarehouseError(str(error).partition("\n")[0]) from None
