"""Views computed by Spark, over the landing's table and what stands beside it.

A view's SQL is one query. Its sources and models are CTEs, each source with the events of the entities that are asked
for alone; what reads no stream is read where it is. The latest rows then come to a DuckDB, as those of a run do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.materialize.current import Current
from materializer.materialize.engine import Engine
from materializer.materialize.horizon import Horizon
from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer, ProjectManifest
from materializer.project.settings import Project
from materializer.stream.chain import chain_of
from materializer.stream.evaluate import CurrentSQL, Evaluation, Streamed, WarehouseAway, brought
from materializer.stream.source import StreamedSource
from materializer.stream.spark import SparkLanding
from materializer.stream.stand_in import ctes_of, listed
from materializer.warehouse.spark import SparkWarehouse, open_spark, refusals
from materializer.warehouse.typed import with_columns

# Entities that are computed together at most: each time costs Spark seconds, however few they are.
_TOGETHER = 500_000
# How often it is asked what has landed, and whether the files of tables are others; in seconds.
_ASKED, _REFRESHED = 1.0, 5.0


class SparkEvaluator:
    """An `Evaluator` in a session of Spark's; `engine` is where rows come to. What an id decides is not looked after
    here: `materializer.stream.explain.decide` does not rely on it."""

    def __init__(
        self, project: Project, manifest: ProjectManifest, sources: Mapping[str, StreamedSource],
        views: Sequence[FeatureView], engine: Engine,
    ) -> None:  # fmt: skip
        self._project, self._sources = project, sources
        self.manifest, self.graph, self.engine, self.duckdb = manifest, Graph(manifest), engine, engine.duckdb
        ids = [source.unique_id for source in sources.values()]
        chain = chain_of(self.graph, ids, [one.unique_id for one in views])
        self._static = [self.graph.nodes[one]["relation_name"] for one in chain.static]
        self._built = MacroRenderer(manifest, lambda _: []).ask("_built_table")
        self._opened = ExitStack()
        self._landing: SparkLanding | None = None
        self._asked = self._refreshed = 0.0
        self._state: object = None
        self.broken: Mapping[str, int] = dict.fromkeys(sources, 0)
        self.landed_at: datetime | None = None

    @contextmanager
    def reading(self) -> Iterator[int]:
        try:
            landing, now = self._landing or self._open(), time.monotonic()
            self.landed_at = None
            if now - self._asked > _ASKED:
                self.landed_at = landing.sync().landed_at
                self._asked = now
            if now - self._refreshed > _REFRESHED:
                for relation in self._static:  # dbt's own session may have replaced its files
                    if self.warehouse.columns(Relation(relation)):
                        with refusals():
                            landing.session.catalog.refreshTable(relation)
                self._refreshed = now
        except WarehouseError as error:
            self.close()  # its session may be gone with the server
            raise WarehouseAway(str(error)) from None
        yield landing.at

    def refresh(self) -> bool:
        """See whether dbt has built something since: what it builds is read where it is."""
        state = None
        if self.warehouse.columns(Relation(self._built)):
            state = self.warehouse.query(f"select max(at) as at from {self._built}")["at"][0].as_py()
        changed, self._state = self._state not in (None, state), state
        return changed

    def evaluation(self, one: Streamed) -> Evaluation:
        return SparkEvaluation(self, one)

    def close(self) -> None:
        self._landing, self._asked, self._refreshed = None, 0.0, 0.0
        self._opened.close()

    @property
    def at(self) -> int:
        """The last commit that is read."""
        assert self._landing is not None
        return self._landing.at

    def events(self, unique_id: str) -> str:
        """SQL for the rows of a source."""
        return f"select * from {self.graph.nodes[unique_id]['relation_name']} where _seq <= {self.at}"

    def _open(self) -> SparkLanding:
        self.warehouse: SparkWarehouse = self._opened.enter_context(open_spark(self._project))
        schema = next(iter(self._sources.values())).schema
        self._landing = SparkLanding(self._project, self._sources, schema, self.warehouse.session)
        return self._landing


class SparkEvaluation(Evaluation):
    """One view in an evaluator's session.

    Raises:
        WarehouseError: where Spark does not take the view's SQL; DefinitionError as `with_columns`.
    """

    together = _TOGETHER

    def __init__(self, evaluator: SparkEvaluator, one: Streamed) -> None:
        super().__init__(evaluator.duckdb, one)
        self._evaluator = evaluator
        nobody = evaluator.warehouse.query(f"{self._touching(0)} limit 0")
        self._touched = self._backlog = self._asked = nobody
        self._ctes = ctes_of(evaluator.graph, one.filters, one.view.unique_id)
        self._rows = f"_fs_rows_{one.view.unique_id.replace('.', '_')}"
        # A view of nobody's rows has the types of the view's; within the query a CTE of its name has the rows.
        empty = {cte: f"{evaluator.events(one)} and false" for one, cte in self._ctes.sources.items()}
        select = f"with {listed(empty | self._ctes.models)}\nselect * from {self._ctes.last}"
        with refusals():
            evaluator.warehouse.session.sql(f"create or replace temporary view {self._rows} as {select}")
        self.view = with_columns(replace(one.view, relation=self._rows), evaluator.warehouse)
        self._sql = CurrentSQL.of(evaluator.manifest, one.view, self._rows, evaluator.warehouse.columns)

    def touched(self, after: int) -> int:
        self._touched = self._evaluator.warehouse.query(self._touching(after))
        return self._touched.num_rows

    def backlog(self, after: int) -> int:
        self._backlog = self._evaluator.warehouse.query(self._touching(after))
        return self._backlog.num_rows

    def ask(self, first: int, most: int, backlog: bool = False) -> None:
        self._asked = (self._backlog if backlog else self._touched).slice(first, most)

    def current(self, now: datetime, horizon: Horizon | None) -> Current:
        ctes = {
            cte: f"{self._evaluator.events(unique_id)} and ({self._of_asked(self.streamed.filters[unique_id])})"
            for unique_id, cte in self._ctes.sources.items()
        } | self._ctes.models
        ctes[self._rows] = f"select * from {self._ctes.last}"
        sql = f"with {listed(ctes)}\nselect * from (\n{self._sql.at(now, horizon)}\n) as belonging"
        return brought(self._evaluator.engine, self._evaluator.warehouse, self.view, sql, now, horizon)

    def _asked_for(self) -> str:
        types = {entity.name: entity.dtype for entity in self.view.entities}
        columns = [
            self._asked.column(number).cast(types[key])
            if pa.types.is_integer(types[key])
            else self._asked.column(number)
            for number, key in enumerate(self.streamed.keys)
        ]
        return f"select * from {self._duckdb.spine('_fs_asked', pa.table(columns, names=list(self.streamed.keys)))}"

    def _of_asked(self, ways: Sequence[Sequence[str]]) -> str:
        """The condition that a row names an entity that is asked for."""
        if not self._asked.num_rows:
            return "false"  # a table without rows has no types there
        asked = self._evaluator.warehouse.spine("_fs_asked", self._asked)
        return " or ".join(f"({', '.join(way)}) in (select {', '.join(self._keys)} from {asked})" for way in ways)

    def _touching(self, after: int) -> str:
        """The entities that rows touch which landed after a commit."""
        return self._named(lambda one: [f"({self._evaluator.events(one)}) where _seq > {after}"])
