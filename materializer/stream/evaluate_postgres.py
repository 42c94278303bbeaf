"""Views computed by PostgreSQL itself, over the landing's tables and what stands beside them.

A view's SQL is one query. Its sources and models are CTEs, each source with the events of the entities that are asked
for alone; what reads no stream is read where it is, so nothing has to be copied. The latest rows then come to a DuckDB,
as those of a run do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from materializer.materialize.current import Current
from materializer.materialize.engine import Engine
from materializer.materialize.horizon import Horizon
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.relation import Relation
from materializer.project.render import ProjectManifest
from materializer.project.settings import Project
from materializer.stream.chain import chain_of
from materializer.stream.evaluate import CurrentSQL, Evaluation, Streamed, without_unstorable
from materializer.stream.events_postgres import PostgresEvents
from materializer.stream.postgres_session import Session, texts
from materializer.stream.source import StreamedSource
from materializer.stream.stand_in import stood_in
from materializer.warehouse import quoted
from materializer.warehouse.duckdb import open_in_memory
from materializer.warehouse.typed import with_columns

# Whether tables are those that they were, with the rows that they had.
_STATE = """
    select coalesce(string_agg(concat_ws(':', pg_class.oid, relfilenode,
        pg_stat_get_tuples_inserted(pg_class.oid) + pg_stat_get_tuples_updated(pg_class.oid)
        + pg_stat_get_tuples_deleted(pg_class.oid)), ' ' order by pg_class.oid), '')
    from unnest({names}) as named (name) join pg_class on pg_class.oid = to_regclass(named.name)
"""


@contextmanager
def postgres_evaluator(
    project: Project, manifest: ProjectManifest, sources: Mapping[str, StreamedSource], views: Sequence[FeatureView]
) -> Iterator[PostgresEvaluator]:
    """An evaluator for some views, for as long as this lasts."""
    with (
        tempfile.TemporaryDirectory(prefix="feature-store-") as room,
        open_in_memory(Path(room)) as duckdb,
        closing(PostgresEvaluator(project, manifest, sources, views, Engine(duckdb, Path(room)))) as evaluator,
    ):
        yield evaluator


class PostgresEvaluator:
    """An `Evaluator` in a session of PostgreSQL; `engine` is where rows come to."""

    def __init__(
        self, project: Project, manifest: ProjectManifest, sources: Mapping[str, StreamedSource],
        views: Sequence[FeatureView], engine: Engine,
    ) -> None:  # fmt: skip
        self.manifest, self.graph, self.engine, self.duckdb = manifest, Graph(manifest), engine, engine.duckdb
        self._sources = list(sources.values())
        chain = chain_of(self.graph, [one.unique_id for one in self._sources], [one.unique_id for one in views])
        self.session = Session(project, [self.graph.nodes[one]["relation_name"] for one in chain.static])
        self._built = [self.graph.nodes[one]["relation_name"] for one in chain.built]
        self._state: object = None
        self._places: dict[str, int] = {}
        self.broken: Mapping[str, int] = {}
        self.landed_at: datetime | None = None

    @contextmanager
    def reading(self) -> Iterator[int]:
        try:
            if self.session.begin():
                self.events = PostgresEvents(self.session, self._sources)
            seq = self.events.sync()
        except BaseException:
            self.session.close()  # whatever is half made there
            raise
        self.broken, self.landed_at = self.events.broken, self.events.landed_at
        try:
            yield seq
        finally:
            self.session.end()

    def refresh(self) -> bool:
        """See whether dbt has built something of what the views are made from: what it builds is read where it is."""
        self.session.look_again()
        state = self.session.value(_STATE.format(names=texts(self._built)))
        changed, self._state = self._state not in (None, state), state
        return changed

    def evaluation(self, one: Streamed) -> Evaluation:
        place = self._places.setdefault(one.view.reference, len(self._places))
        return PostgresEvaluation(self, one, place)

    def close(self) -> None:
        self.session.close()


class PostgresEvaluation(Evaluation):
    """One view in an evaluator's session, in temporary tables of `place`.

    Raises:
        WarehouseError: where PostgreSQL does not take the view's SQL; DefinitionError as `with_columns`.
    """

    def __init__(self, evaluator: PostgresEvaluator, one: Streamed, place: int) -> None:
        super().__init__(evaluator.duckdb, one)
        self._evaluator, self._session = evaluator, evaluator.session
        self._keys = [f"k{number}" for number in range(len(one.keys))]
        self._touched, self._backlog, self._asked = (f"_fs_{name}_{place}" for name in ("touched", "backlog", "asked"))
        self._make_lists()
        graph, names = evaluator.graph, {}
        self._sources = {unique_id: f"_fs_source_{number}" for number, unique_id in enumerate(one.filters)}
        for unique_id, cte in self._sources.items():
            names[graph.nodes[unique_id]["relation_name"]] = cte
        self._models: dict[str, str] = {}
        for number, unique_id in enumerate(chain_of(graph, [*one.filters], [one.view.unique_id]).models):
            node, cte = graph.nodes[unique_id], f"_fs_model_{number}"
            self._models[cte] = stood_in(node["compiled_code"], names, graph.dialect)
            names[node["relation_name"]] = cte
        # A table without rows, which has the types of the view's; within the query a CTE of its name has the rows.
        self._rows = f"_fs_rows_{place}"
        self._session.execute(f"drop table if exists pg_temp.{self._rows}")
        self._session.execute(
            f"create temporary table {self._rows} as {self._with()}select * from {self._rows} with no data"
        )
        with self._session.whole():
            warehouse = self._session.warehouse
            self.view = with_columns(replace(one.view, relation=self._rows), warehouse)
            self._sql = CurrentSQL.of(evaluator.manifest, one.view, self._rows, warehouse.columns)
            types = {column.name.lower(): column.dtype for column in warehouse.columns(Relation(self._rows))}
        self._typed = {key: f"cast(k{number} as {types[key.lower()]})" for number, key in enumerate(one.keys)}

    def touched(self, after: int) -> int:
        return self._list(after, self._touched)

    def backlog(self, after: int) -> int:
        return self._list(after, self._backlog)

    def ask(self, first: int, most: int, backlog: bool = False) -> None:
        listed = self._backlog if backlog else self._touched
        self._session.execute(f"delete from pg_temp.{self._asked}")
        self._session.execute(
            f"insert into pg_temp.{self._asked} select {', '.join(self._keys)} from pg_temp.{listed} "
            f"where n > {first} and n <= {first + most}"
        )

    def current(self, now: datetime, horizon: Horizon | None) -> Current:
        sql = f"{self._with()}select * from (\n{self._sql.at(now, horizon)}\n) as belonging"
        with self._session.whole():
            found = self._evaluator.engine.latest(self._session.warehouse, self.view, sql, horizon is not None)
        current = Current(found.view, found.rows, now, True, horizon, found.digests)
        return without_unstorable(self._duckdb, current, found.unstorable)

    def _asked_for(self) -> str:
        columns = ", ".join(f"{typed} as {quoted(key)}" for key, typed in self._typed.items())
        asked = self._session.query(f"select {columns} from pg_temp.{self._asked}")
        return f"select * from {self._duckdb.spine('_fs_asked', asked)}"

    def _with(self) -> str:
        """The CTEs that give the rows of the entities that are asked for, under the name of `_rows`."""
        events = self._evaluator.events
        doubts = {unique_id: events.doubts(unique_id) for unique_id in self._sources}
        ctes = {
            cte: self._events(unique_id, [*map(self._among, self.streamed.filters[unique_id]), *doubts[unique_id]])
            for unique_id, cte in self._sources.items()
        } | self._models
        rows = f"select * from {[*ctes][-1]}"
        if any(doubts.values()):  # whose rows are of others, too
            named = zip(self.streamed.keys, self._keys, strict=True)
            same = " and ".join(f"there.{quoted(key)} = {number}" for key, number in named)
            rows += f" as there where exists (select from pg_temp.{self._asked} where {same})"
        listed = ",\n".join(f"{name} as (\n{sql}\n)" for name, sql in {**ctes, self._rows: rows}.items())
        return f"with {listed}\n"

    def _events(self, unique_id: str, conditions: Sequence[str]) -> str:
        table = self._evaluator.events.table(unique_id)
        if len(conditions) == 1:
            return f"select * from {table} where {conditions[0]}"
        each = " union ".join(f"select ctid from {table} where {condition}" for condition in conditions)
        return f"select * from {table} where ctid = any (array({each}))"

    def _among(self, way: Sequence[str]) -> str:
        """The condition that expressions name an entity that is asked for."""
        return f"({', '.join(way)}) in (select {', '.join(self._keys)} from pg_temp.{self._asked})"

    def _list(self, after: int, into: str) -> int:
        if into == self._backlog:
            self._session.execute(f"truncate pg_temp.{into}")
        numbered = f"select row_number() over (), * from ({self._touching(after)}) as found"
        self._session.execute(f"insert into pg_temp.{into} {numbered}")
        found = self._session.value(f"select count(*) from pg_temp.{into}")
        assert isinstance(found, int)
        return found

    def _touching(self, after: int | None) -> str:
        """The entities that rows touch which landed after a commit; with None nobody."""
        events = self._evaluator.events
        parts = []
        for unique_id, ways in self.streamed.filters.items():
            landed = ["false"] if after is None else [f"_seq > {after}", *events.doubtful(unique_id, after)]
            for way in ways:
                columns = ", ".join(f"{sql} as k{number}" for number, sql in enumerate(way))
                parts += [f"select {columns} from {events.table(unique_id)} where {condition}" for condition in landed]
        known = " and ".join(f"{key} is not null" for key in self._keys)
        return f"select distinct {', '.join(self._keys)} from ({' union all '.join(parts)}) as named where {known}"

    def _make_lists(self) -> None:
        """Lists of entities. Those of a step alone are emptied at its end, which changes no catalog."""
        run, keys = self._session.execute, ", ".join(self._keys)
        for name in (self._touched, self._backlog, self._asked):
            run(f"drop table if exists pg_temp.{name}")
            kept = "" if name == self._backlog else "on commit delete rows "
            number = "" if name == self._asked else "cast(0 as bigint) as n, "
            nobody = f"select {number}{keys} from ({self._touching(None)}) as nobody"
            run(f"create temporary table {name} {kept}as {nobody} with no data")
        run(f"alter table pg_temp.{self._backlog} add primary key (n)")
        # Says that entities are listed once, without which PostgreSQL expects few of them.
        run(f"alter table pg_temp.{self._asked} add unique ({keys})")
