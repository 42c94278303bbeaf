"""The rows of streamed views, for some of their entities: by the views' own SQL, over the events of these alone.

What computes them is an `Evaluator`: a DuckDB beside the stream, or PostgreSQL or Spark itself. Either way the rows
come to a DuckDB, where all that follows is the same.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import pyarrow as pa

from materializer.errors import WarehouseError
from materializer.materialize.current import Current, stored
from materializer.materialize.engine import Engine
from materializer.materialize.horizon import Horizon
from materializer.materialize.unstorable import Conditions, conditions_of, find_unstorable
from materializer.online.served_log import epoch_micros
from materializer.project.definitions import FeatureView
from materializer.project.duration import macro_moment
from materializer.project.relation import Column, Relation
from materializer.project.render import MacroRenderer, ProjectManifest
from materializer.project.settings import Project
from materializer.sql.reach import Reach
from materializer.stream.source import StreamedSource
from materializer.warehouse import Warehouse, quoted
from materializer.warehouse.duckdb import DuckDBWarehouse, open_in_memory
from materializer.warehouse.typed import with_columns

EvaluatorT = TypeVar("EvaluatorT")
# How long ago the newest row of an entity may be for its newer events to tell all of it.
_SLACK = timedelta(days=1)
# Stand in SQL that was rendered once for the moments of each query.
_SINCE, _UNTIL = "2001-01-01 00:00:00.000001", "2001-01-01 00:00:00.000002"


class WarehouseAway(WarehouseError):
    """The warehouse went away while it computed: no view's fault."""


@dataclass(frozen=True)
class Streamed:
    """A view that streams.

    Attributes:
        definition: a checksum of what makes its rows.
        keys: the join keys that it streams by.
        filters: by the streamed sources' ids, what names the entities of a row: SQL over its columns, in the order of
            `keys`; several where it is read in several ways.
        reach: how far back it reads; None where that is not known.
    """

    view: FeatureView
    definition: str
    keys: tuple[str, ...]
    filters: Mapping[str, tuple[tuple[str, ...], ...]]
    reach: Reach | None = None


@dataclass(frozen=True)
class CurrentSQL:
    """SQL for the rows of a view that belong online, by the macros."""

    latest: str
    ahead: str

    @classmethod
    def of(
        cls, manifest: ProjectManifest, view: FeatureView, relation: str, columns: Callable[[Relation], list[Column]]
    ) -> CurrentSQL:
        """Over a relation that has the view's rows."""
        node = {**manifest["nodes"][view.unique_id], "relation_name": relation}
        nodes = {**manifest["nodes"], view.unique_id: node}
        macros = MacroRenderer(ProjectManifest({**manifest, "nodes": nodes}, manifest.project), columns)
        return cls(
            macros.render("latest", view.reference, as_of=_UNTIL),
            macros.render("_rows_ahead", view.reference, since=_SINCE, until=_UNTIL),
        )

    @property
    def parameters(self) -> CurrentSQL:
        """The same with the parameters of a prepared statement for the moments."""
        first = f"timestamp '{_SINCE}'", "cast($1 as timestamp)"
        return CurrentSQL(
            self.latest.replace(f"timestamp '{_UNTIL}'", first[1]),
            self.ahead.replace(*first).replace(f"timestamp '{_UNTIL}'", "cast($2 as timestamp)"),
        )

    def at(self, now: datetime, horizon: Horizon | None) -> str:
        if horizon is None:
            return self.latest.replace(_UNTIL, macro_moment(now))
        return self.ahead.replace(_SINCE, macro_moment(horizon.since)).replace(_UNTIL, macro_moment(horizon.until))


def without_unstorable(duckdb: DuckDBWarehouse, current: Current, conditions: Conditions) -> Current:
    """The same without the rows that the online format cannot state."""
    unstorable = find_unstorable(duckdb, current.view, current.belonging, conditions)
    return current.without(unstorable.condition) if unstorable.rows else current


@contextmanager
def opened(
    within: Callable[..., EvaluatorT], project: Project, manifest: ProjectManifest,
    sources: Mapping[str, StreamedSource], views: Sequence[FeatureView],
) -> Iterator[EvaluatorT]:  # fmt: skip
    """An evaluator within the warehouse, for as long as this lasts, with the DuckDB that rows come to."""
    with (
        tempfile.TemporaryDirectory(prefix="feature-store-") as room,
        open_in_memory(Path(room)) as duckdb,
        closing(within(project, manifest, sources, views, Engine(duckdb, Path(room)))) as evaluator,
    ):
        yield evaluator


def brought(
    engine: Engine, warehouse: Warehouse, view: FeatureView, sql: str, now: datetime, horizon: Horizon | None
) -> Current:
    """The rows that a warehouse's SQL gives, brought to a DuckDB, as a run brings them."""
    found = engine.latest(warehouse, view, sql, horizon is not None)
    current = Current(found.view, found.rows, now, True, horizon, found.digests)
    return without_unstorable(engine.duckdb, current, found.unstorable)


class Reached(NamedTuple):
    """Of events `since` a moment the rows of a view of the moments from `begins` to `ends`."""

    since: datetime
    begins: datetime
    ends: datetime


class Evaluation(ABC):
    """One view. `view` has the types that its rows have.

    `touched` or `backlog` list entities; `ask` asks for some of them; `current` gives their rows.
    """

    view: FeatureView
    # Entities that are computed together at most.
    together = 5_000

    def __init__(self, duckdb: DuckDBWarehouse, streamed: Streamed) -> None:
        self._duckdb, self.streamed = duckdb, streamed
        self._keys = [f"k{number}" for number in range(len(streamed.keys))]

    @abstractmethod
    def touched(self, after: int) -> int:
        """List the entities that rows touch which landed after a commit, and say how many they are."""

    @abstractmethod
    def backlog(self, after: int) -> int:
        """The same in a list of its own, which stays."""

    @abstractmethod
    def ask(self, first: int, most: int, backlog: bool = False) -> None:
        """Ask for some of the entities of a list."""

    @abstractmethod
    def current(self, now: datetime, horizon: Horizon | None) -> Current:
        """The rows that belong online of the entities that are asked for, as the evaluator's DuckDB has them."""

    @abstractmethod
    def _asked_for(self) -> str:
        """SQL for DuckDB: the entities that are asked for, their join keys in the types of the view's rows."""

    def _named(self, rows: Callable[[str], Iterable[str]]) -> str:
        """SQL for the entities that rows name; `rows` gives what comes after FROM for them, by a source's unique id."""
        parts = [
            f"select {', '.join(f'{sql} as {key}' for key, sql in zip(self._keys, way, strict=True))} from {some}"
            for unique_id, ways in self.streamed.filters.items()
            for way in ways
            for some in rows(unique_id)
        ]
        known = " and ".join(f"{key} is not null" for key in self._keys)
        return f"select distinct {', '.join(self._keys)} from ({' union all '.join(parts)}) as named where {known}"

    def missing(self, sent: pa.Table | None) -> pa.Table:
        """The entities asked for that are not among those `sent`: join keys, as they are remembered."""
        keys = self.streamed.keys
        named = {entity.name: entity for entity in self.view.entities}
        columns = ", ".join(f"{stored(named[key])} as {quoted(key)}" for key in keys)
        asked = f"select {columns} from ({self._asked_for()}) as asked"
        # Of a key that cannot be stated online there is nothing to remove.
        stated = [f"not coalesce({sql}, false)" for name, (sql, _) in conditions_of(self.view).items() if name in keys]
        if stated:
            asked = f"select * from ({asked}) as asked where {' and '.join(stated)}"
        if sent is not None and sent.num_rows:
            there = self._duckdb.spine("_fs_sent", sent)
            asked = f"select * from ({asked}) as asked anti join {there} using ({', '.join(map(quoted, keys))})"
        return self._duckdb.query(asked)


class TableEvaluation(Evaluation):
    """One view whose rows are worked out in a table of the engine, `rows`, which the macros read in the place of the
    view.

    Args:
        tables: the names of these: entities that were touched, a backlog of them, those that are asked for (of which
            some are done, and all), and `rows`.
    """

    def __init__(self, duckdb: DuckDBWarehouse, streamed: Streamed, tables: Sequence[str]) -> None:
        super().__init__(duckdb, streamed)
        self._touched, self._backlog, self._asked, self._all, self._rows = tables

    def _know(self, manifest: ProjectManifest, warehouse: Warehouse) -> None:
        """Read what `rows` is, which has been made."""
        self.view = with_columns(replace(self.streamed.view, relation=self._rows), warehouse)
        self._sql = CurrentSQL.of(manifest, self.streamed.view, self._rows, warehouse.columns)
        types = {column.name.lower(): column.dtype for column in warehouse.columns(Relation(self._rows))}
        typed = [f"cast({k} as {types[key.lower()]})" for k, key in zip(self._keys, self.streamed.keys, strict=True)]
        named = [*map(quoted, self.streamed.keys)]
        self._typed = ", ".join(f"{one} as {name}" for one, name in zip(typed, named, strict=True))
        self._same = " and ".join(f"there.{name} = {one}" for one, name in zip(typed, named, strict=True))

    def touched(self, after: int) -> int:
        return self._list(after, self._touched)

    def backlog(self, after: int) -> int:
        return self._list(after, self._backlog)

    @abstractmethod
    def _list(self, after: int, into: str) -> int:
        """See `touched`."""

    @abstractmethod
    def _run(self, sql: str) -> None:
        """Run a statement in the engine."""

    @abstractmethod
    def _some(self, table: str) -> bool:
        """Whether a table has rows."""

    @abstractmethod
    def _insert(self, reached: Reached | None) -> None:
        """Put the view's rows of those that are `asked` for into `rows`: all, or those that are `reached`."""

    def _work_out(self, now: datetime, ends: datetime, event: str, doubts: bool) -> None:
        """The rows of the entities that are asked for. Where it is known how far the view reaches back, of newer events
        first: that gives all rows from a moment on, so it is all of an entity that has one of them by now.

        Args:
            event: SQL for the microseconds of a row's event.
            doubts: whether rows of others come with them.
        """
        self._run(f"delete from {self._rows}")
        if self.streamed.reach is None:
            self._insert(None)
        else:
            begins = now - _SLACK
            self._insert(Reached(begins - self.streamed.reach.longest, begins, ends))
            self._run(f"delete from {self._rows} where {event} is null or {event} < {epoch_micros(begins)}")
            self._run(
                f"delete from {self._asked} where exists (select 1 from {self._rows} as there "
                f"where {self._same} and {event} <= {epoch_micros(now)})"
            )
            if self._some(self._asked):
                self._run(
                    f"delete from {self._rows} as there where exists (select 1 from {self._asked} where {self._same})"
                )
                self._insert(None)
        if doubts:
            asked = f"select 1 from {self._all} where {self._same}"
            self._run(f"delete from {self._rows} as there where not exists ({asked})")


class Evaluator(Protocol):
    """Computes the rows of views.

    Attributes:
        duckdb: where rows are when they have been computed.
        broken: how many ids of a source did not decide what they should, by its name.
        landed_at: when the oldest of the rows landed that came in since it was read before; None where none did.
    """

    duckdb: DuckDBWarehouse
    broken: Mapping[str, int]
    landed_at: datetime | None

    def reading(self) -> AbstractContextManager[int]:
        """Read what has landed by now, and give the number of the last commit that is in. All that is computed within
        is of one state. Raises WarehouseError."""

    def refresh(self) -> bool:
        """Take what is no event as it is by now, and say whether it may have changed since it was taken before. Raises
        WarehouseError where it cannot be had at all; to be called while it reads."""

    def evaluation(self, one: Streamed) -> Evaluation:
        """What computes one of the views, while it reads. Raises WarehouseError, DefinitionError where its SQL cannot
        be run, or its rows cannot be kept online."""
