"""Views computed by PostgreSQL itself, over the landing's tables and what stands beside them.

A view's SQL is one query. Its sources and models are CTEs, each source with the events of the entities that are asked
for alone; what reads no stream is read where it is, so nothing has to be copied. The latest rows then come to a DuckDB,
as those of a run do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from materializer.materialize.current import Current
from materializer.materialize.engine import Engine
from materializer.materialize.horizon import Horizon
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.render import ProjectManifest
from materializer.project.settings import Project
from materializer.stream.chain import chain_of
from materializer.stream.evaluate import Evaluation, Reached, Streamed, TableEvaluation, brought
from materializer.stream.events_postgres import PostgresEvents
from materializer.stream.explain import reached_moment
from materializer.stream.postgres_session import Session, texts
from materializer.stream.source import StreamedSource
from materializer.stream.stand_in import ctes_of, listed, stood_in
from materializer.warehouse import quoted

# Whether tables are those that they were, with the rows that they had.
_STATE = """
    select coalesce(string_agg(concat_ws(':', pg_class.oid, relfilenode,
        pg_stat_get_tuples_inserted(pg_class.oid) + pg_stat_get_tuples_updated(pg_class.oid)
        + pg_stat_get_tuples_deleted(pg_class.oid)), ' ' order by pg_class.oid), '')
    from unnest({names}) as named (name) join pg_class on pg_class.oid = to_regclass(named.name)
"""


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


class PostgresEvaluation(TableEvaluation):
    """One view in an evaluator's session, in temporary tables of `place`.

    Raises:
        WarehouseError: where PostgreSQL does not take the view's SQL; DefinitionError as `with_columns`.
    """

    def __init__(self, evaluator: PostgresEvaluator, one: Streamed, place: int) -> None:
        tables = [f"_fs_{name}_{place}" for name in ("touched", "backlog", "asked", "all", "rows")]
        super().__init__(evaluator.duckdb, one, tables)
        self._evaluator, self._session = evaluator, evaluator.session
        graph = evaluator.graph
        self._ctes = ctes_of(graph, one.filters, one.view.unique_id)
        names, newer = dict(self._ctes.names), {}
        for number, (unique_id, code) in enumerate(one.reach.models.items() if one.reach else ()):
            # What is reached reads what is reached as well, and else the whole.
            newer[cte := f"_fs_newer_{number}"] = stood_in(code, names, graph.dialect)
            names[graph.nodes[unique_id]["relation_name"]] = cte
        self._newer = newer
        self._make_tables()
        with self._session.whole():
            self._know(evaluator.manifest, self._session.warehouse)

    def ask(self, first: int, most: int, backlog: bool = False) -> None:
        listed = self._backlog if backlog else self._touched
        for table in (self._asked, self._all):
            self._run(f"delete from {table}")
            self._run(
                f"insert into {table} select {', '.join(self._keys)} from {listed} "
                f"where n > {first} and n <= {first + most}"
            )

    def current(self, now: datetime, horizon: Horizon | None) -> Current:
        event = f"extract(epoch from {quoted(self.view.timestamp)}) * 1000000"
        doubts = any(self._evaluator.events.doubts(unique_id) for unique_id in self.streamed.filters)
        self._work_out(now, horizon.until if horizon else now, event, doubts)
        with self._session.whole():
            return brought(
                self._evaluator.engine, self._session.warehouse, self.view, self._sql.at(now, horizon), now, horizon
            )

    def _asked_for(self) -> str:
        asked = self._session.query(f"select {self._typed} from {self._all}")
        return f"select * from {self._duckdb.spine('_fs_asked', asked)}"

    def _run(self, sql: str) -> None:
        self._session.execute(sql)

    def _some(self, table: str) -> bool:
        return self._session.value(f"select exists (select from {table})") is True

    def _insert(self, reached: Reached | None) -> None:
        self._run(f"insert into {self._rows} {self._view(reached)}")

    def _view(self, reached: Reached | None = None) -> str:
        """The view's SQL, over the events of the entities that are asked for."""
        events = self._evaluator.events
        sources = {
            cte: self._events(
                unique_id, [*map(self._among, self.streamed.filters[unique_id]), *events.doubts(unique_id)]
            )
            for unique_id, cte in self._ctes.sources.items()
        }
        ctes = sources | self._ctes.models
        if reached is None:
            return f"with {listed(ctes)}\nselect * from {self._ctes.last}"
        sql = f"with {listed(ctes | self._newer)}\nselect * from {[*self._newer][-1]}"
        for name, moment in reached._asdict().items():
            sql = sql.replace(reached_moment(name), f"timestamp '{moment.replace(tzinfo=None).isoformat(' ')}'")
        return sql

    def _events(self, unique_id: str, conditions: Sequence[str]) -> str:
        table = self._evaluator.events.table(unique_id)
        if len(conditions) == 1:
            return f"select * from {table} where {conditions[0]}"
        each = " union ".join(f"select ctid from {table} where {condition}" for condition in conditions)
        return f"select * from {table} where ctid = any (array({each}))"

    def _among(self, way: Sequence[str]) -> str:
        """The condition that expressions name an entity that is asked for."""
        return f"({', '.join(way)}) in (select {', '.join(self._keys)} from {self._asked})"

    def _list(self, after: int, into: str) -> int:
        self._run(f"truncate {into}" if into == self._backlog else f"delete from {into}")
        self._run(f"insert into {into} select row_number() over (), * from ({self._touching(after)}) as found")
        found = self._session.value(f"select count(*) from {into}")
        assert isinstance(found, int)
        return found

    def _touching(self, after: int | None) -> str:
        """The entities that rows touch which landed after a commit; with None nobody."""
        events = self._evaluator.events

        def rows(unique_id: str) -> list[str]:
            landed = ["false"] if after is None else [f"_seq > {after}", *events.doubtful(unique_id, after)]
            return [f"{events.table(unique_id)} where {condition}" for condition in landed]

        return self._named(rows)

    def _make_tables(self) -> None:
        """All but the backlog are emptied at a step's end, which changes no catalog."""
        keys = ", ".join(self._keys)
        nobody = f"({self._touching(None)}) as nobody"
        numbered = f"select cast(0 as bigint) as n, {keys} from {nobody}"
        made = {
            self._touched: numbered, self._backlog: numbered, self._asked: f"select {keys} from {nobody}",
            self._all: f"select {keys} from {nobody}",
        }  # fmt: skip
        for name, sql in made.items():
            self._make(name, sql)
        self._run(f"alter table {self._backlog} add primary key (n)")
        self._run(f"alter table {self._asked} add unique ({keys})")  # so that each is known to be listed once
        self._make(self._rows, self._view())

    def _make(self, name: str, sql: str) -> None:
        kept = "" if name == self._backlog else "on commit delete rows "
        self._run(f"drop table if exists pg_temp.{name}")
        self._run(f"create temporary table {name} {kept}as {sql}\nwith no data")
        # Of one that was never looked at PostgreSQL takes it that it has ten pages; of an empty one it counts them.
        self._run(f"analyze {name}")
