"""Views computed in a DuckDB of the stream's own; see `materializer.stream.replica`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from materializer.errors import WarehouseError
from materializer.materialize.current import Current, micros
from materializer.materialize.horizon import Horizon
from materializer.materialize.unstorable import conditions_of
from materializer.project.duration import macro_moment
from materializer.project.render import ProjectManifest
from materializer.stream.evaluate import Evaluation, Reached, Streamed, TableEvaluation, without_unstorable
from materializer.stream.files import literal
from materializer.stream.replica import OWN, Replica
from materializer.warehouse.duckdb import DuckDBWarehouse

# After so many queries tables are made anew, for DuckDB keeps the place of deleted rows.
_WORN = 500


class DuckDBEvaluator:
    """An `Evaluator` over a replica.

    Args:
        open_warehouse: opens the warehouse that dbt builds, which the replica copies tables of.
        tables: the file whose time says that one of them may have changed; None where nothing does.
        say: takes sentences for whoever looks on.
    """

    def __init__(
        self, replica: Replica, manifest: ProjectManifest,
        open_warehouse: Callable[[], AbstractContextManager[DuckDBWarehouse]], tables: Path | None,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._replica, self._manifest, self._say = replica, manifest, say
        self._open_warehouse, self._tables = open_warehouse, tables
        self._copied: float | None = None
        self._places: dict[str, int] = {}
        self.duckdb = replica.warehouse

    @property
    def broken(self) -> Mapping[str, int]:
        return self._replica.events.broken

    @property
    def landed_at(self) -> datetime | None:
        return self._replica.events.landed_at

    @contextmanager
    def reading(self) -> Iterator[int]:
        yield self._replica.events.sync()

    def refresh(self) -> bool:
        """Copy the tables beside the events; while dbt writes them, they stay as they were."""
        changed = _changed_at(self._tables) if self._tables and self._replica.reads_tables else 0.0
        if changed == self._copied:
            return False
        try:
            if self._replica.reads_tables:
                with self._open_warehouse() as warehouse:
                    self._replica.copy_tables(warehouse)
            self._replica.make_models()
        except WarehouseError as error:
            if self._copied is None:
                raise
            self._say(f"What is not streamed stays as it was: {error}")
            return False
        again, self._copied = self._copied is not None, changed
        return again

    def evaluation(self, one: Streamed) -> Evaluation:
        place = self._places.setdefault(one.view.reference, len(self._places))
        return DuckDBEvaluation(self._replica, one, self._manifest, place)


class DuckDBEvaluation(TableEvaluation):
    """One view in a replica whose models are made; in tables and statements of `place`.

    Raises:
        WarehouseError: where DuckDB does not take the view's SQL; DefinitionError as `with_columns`.
    """

    def __init__(self, replica: Replica, one: Streamed, manifest: ProjectManifest, place: int) -> None:
        tables = [f"{OWN}.main.{name}_{place}" for name in ("touched", "backlog", "asked", "all", "rows")]
        super().__init__(replica.warehouse, one, tables)
        self._replica, self._place = replica, place
        self._found = {name: f"{OWN}.main.{name}_{place}" for name in ("latest", "ahead")}
        self._newer = replica.reached_name(one.view.unique_id, place)
        self._queries = 0
        self._make_tables()
        self._know(manifest, self._duckdb)
        self._prepare_current()

    def ask(self, first: int, most: int, backlog: bool = False) -> None:
        listed = self._backlog if backlog else self._touched
        for table in (self._asked, self._all):
            self._run(f"delete from {table}")
            self._run(f"insert into {table} select * from {listed} limit {most} offset {first}")
        for unique_id, ways in self.streamed.filters.items():
            self._replica.show(unique_id, " or ".join(map(self._among, ways)))

    def current(self, now: datetime, horizon: Horizon | None) -> Current:
        self._queries += 1
        if self._queries > _WORN:
            self._queries = 0
            self._make_tables(keep=True)
            self._prepare_current(again=True)
        doubts = any(self._replica.events.doubts(name) for name in self.streamed.filters)
        self._work_out(now, horizon.until if horizon else now, micros(self.view.timestamp), doubts)
        current = Current(self.view, f"select * from {self._take_current(now, horizon)}", now, True, horizon)
        return without_unstorable(self._duckdb, current, conditions_of(self.view))

    def _take_current(self, now: datetime, horizon: Horizon | None) -> str:
        """Where the rows are that belong online."""
        name, moments = ("ahead", (horizon.since, horizon.until)) if horizon else ("latest", (now,))
        given = ", ".join(literal(macro_moment(moment)) for moment in moments)
        self._run(f"delete from {self._found[name]}")
        self._run(f"execute {name}_{self._place}({given})")
        return self._found[name]

    def _prepare_current(self, again: bool = False) -> None:
        """Have what the macros make of the rows planned once: their plans take longer than the rows of a batch."""
        run, macros = self._run, self._sql.parameters
        nothing = "cast(null as timestamp)"
        for name, table in self._found.items():
            sql = getattr(macros, name)
            empty = sql.replace("cast($1 as timestamp)", nothing).replace("cast($2 as timestamp)", nothing)
            run(f"create or replace table {table} as select * from ({empty}) limit 0")
            if again:
                run(f"deallocate {name}_{self._place}")
            run(f"prepare {name}_{self._place} as insert into {table} {sql}")

    def _asked_for(self) -> str:
        return f"select {self._typed} from {self._all}"

    def _run(self, sql: str) -> None:
        self._duckdb.execute(sql)

    def _some(self, table: str) -> bool:
        return bool(self._count(table))

    def _count(self, table: str) -> int:
        return self._duckdb.query(f"select count(*) as n from {table}")["n"][0].as_py()

    def _insert(self, reached: Reached | None) -> None:
        if reached:
            self._replica.reach_from(*reached)
        relation = self._newer if reached else self.streamed.view.relation
        with self._duckdb.as_dbt():  # not prepared: DuckDB plans it anew in any case, which the moments are a part of
            self._run(f"insert into {self._rows} select * from {relation}")

    def _list(self, after: int, into: str) -> int:
        self._run(f"delete from {into}")
        with self._duckdb.as_dbt():
            self._run(f"insert into {into} {self._touching(f'_seq > {after}', after)}")
        return self._count(into)

    def _touching(self, condition: str, after: int) -> str:
        events = self._replica.events
        return self._named(lambda one: [f"{events.table(one)} where {condition} or {events.doubtful(one, after)}"])

    def _among(self, way: Sequence[str]) -> str:
        """The condition that expressions name an entity that is asked for."""
        if len(way) == 1:
            return f"({way[0]}) in (select k0 from {self._asked})"
        return f"({', '.join(way)}) in (select ({', '.join(self._keys)}) from {self._asked})"

    def _make_tables(self, keep: bool = False) -> None:
        with self._duckdb.as_dbt():
            self._make_them(keep)

    def _make_them(self, keep: bool) -> None:
        run = self._run
        nobody = self._touching("false", 0)
        for name in (self._touched, self._backlog, self._asked, self._all):
            run(f"create or replace table {name} as {f'select * from {name}' if keep else nobody}")
        run(f"create or replace table {self._rows} as select * from {self.streamed.view.relation} limit 0")
        if self.streamed.reach is not None:
            self._replica.make_reached(self.streamed.reach.models, self._place)


def _changed_at(path: Path) -> float:
    """When a DuckDB file was written last, its log of changes counted."""
    times = []
    for one in (path, path.with_name(f"{path.name}.wal")):
        with suppress(OSError):
            times.append(one.stat().st_mtime)
    return max(times, default=0.0)
