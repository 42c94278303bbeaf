"""The rows of one view, for some of its entities: by its own SQL, over the events of these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa

from materializer.materialize.current import Current, micros, stored
from materializer.materialize.horizon import Horizon
from materializer.materialize.unstorable import conditions_of, find_unstorable
from materializer.online.served_log import epoch_micros
from materializer.project.definitions import FeatureView
from materializer.project.duration import macro_moment
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer, ProjectManifest
from materializer.sql.reach import Reach
from materializer.stream.replica import OWN, Replica
from materializer.warehouse import quoted
from materializer.warehouse.typed import with_columns

# How long ago the newest row of an entity may be for its newer events to tell all of it.
_SLACK = timedelta(days=1)
# After so many queries tables are made anew, for DuckDB keeps the place of deleted rows.
_WORN = 500
# Stand in SQL that was rendered once for the moments of each query.
_SINCE, _UNTIL = "2001-01-01 00:00:00.000001", "2001-01-01 00:00:00.000002"


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


class Evaluation:
    """One view in a replica whose models are made. `view` has the types that its rows have there.

    `touched` or `backlog` list entities; `ask` asks for some of them; `current` gives their rows.

    Raises:
        WarehouseError: where DuckDB does not take the view's SQL; DefinitionError as `with_columns`.
    """

    def __init__(self, replica: Replica, one: Streamed, manifest: ProjectManifest, place: int) -> None:
        self._replica, self.streamed = replica, one
        self._warehouse = replica.warehouse
        self._touched, self._backlog, self._asked, self._all, self._rows = (
            f"{OWN}.main.{name}_{place}" for name in ("touched", "backlog", "asked", "all", "rows")
        )
        self._place = place
        self._whole, self._newer = f"whole_{place}", f"newer_{place}"
        self._keys = [f"k{number}" for number in range(len(one.keys))]
        self._queries = 0
        self._make_tables()
        # What reads the view reads the rows that were worked out, once, for the entities that are asked for.
        self.view = replace(with_columns(one.view, self._warehouse), relation=self._rows)
        node = {**manifest["nodes"][one.view.unique_id], "relation_name": self._rows}
        nodes = {**manifest["nodes"], one.view.unique_id: node}
        macros = MacroRenderer(ProjectManifest({**manifest, "nodes": nodes}, manifest.project), self._warehouse.columns)
        self._latest = macros.render("latest", one.view.reference, as_of=_UNTIL)
        self._ahead = macros.render("_rows_ahead", one.view.reference, since=_SINCE, until=_UNTIL)
        types = {column.name.lower(): column.dtype for column in self._warehouse.columns(Relation(self._rows))}
        named = {entity.name: entity for entity in self.view.entities}
        self._asked_keys = ", ".join(
            f"{stored(named[key]).replace(quoted(key), f'cast(k{number} as {types[key.lower()]})')} as {quoted(key)}"
            for number, key in enumerate(one.keys)
        )
        self._same = " and ".join(
            f"there.{quoted(key)} = cast(k{number} as {types[key.lower()]})" for number, key in enumerate(one.keys)
        )

    def touched(self, after: int) -> int:
        """List the entities that rows touch which landed after a commit, and say how many they are."""
        return self._list(after, self._touched)

    def backlog(self, after: int) -> int:
        """The same in a list of its own, which stays."""
        return self._list(after, self._backlog)

    def ask(self, first: int, most: int, backlog: bool = False) -> None:
        """Ask for some of the entities of a list."""
        listed = self._backlog if backlog else self._touched
        for table in (self._asked, self._all):
            self._warehouse.execute(f"delete from {table}")
            self._warehouse.execute(f"insert into {table} select * from {listed} limit {most} offset {first}")
        for unique_id, ways in self.streamed.filters.items():
            self._replica.show(unique_id, " or ".join(map(self._among, ways)))

    def current(self, now: datetime, horizon: Horizon | None) -> Current:
        """The rows that belong online of the entities that are asked for."""
        self._queries += 1
        if self._queries > _WORN:
            self._queries = 0
            self._make_tables(keep=True)
        self._work_out(now, horizon.until if horizon else now)
        if any(self._replica.events.doubts(name) for name in self.streamed.filters):
            asked = f"select 1 from {self._all} where {self._same}"
            self._warehouse.execute(f"delete from {self._rows} as there where not exists ({asked})")
        if horizon:
            sql = self._ahead.replace(_SINCE, macro_moment(horizon.since)).replace(_UNTIL, macro_moment(horizon.until))
        else:
            sql = self._latest.replace(_UNTIL, macro_moment(now))
        current = Current(self.view, sql, now, True, horizon)
        unstorable = find_unstorable(self._warehouse, self.view, current.belonging, conditions_of(self.view))
        return current.without(unstorable.condition) if unstorable.rows else current

    def missing(self, sent: pa.Table | None) -> pa.Table:
        """The entities asked for that are not among those `sent`: join keys, as they are remembered."""
        asked = f"select {self._asked_keys} from {self._all}"
        # Of a key that cannot be stated online there is nothing to remove.
        stated = [f"not coalesce({sql}, false)" for name, (sql, _) in conditions_of(self.view).items()
                  if name in self.streamed.keys]  # fmt: skip
        if stated:
            asked = f"select * from ({asked}) as asked where {' and '.join(stated)}"
        if sent is None or not sent.num_rows:
            return self._warehouse.query(asked)
        on = ", ".join(map(quoted, self.streamed.keys))
        with self._replica.seeing("_fs_sent", sent):
            return self._warehouse.query(f"select * from ({asked}) as asked anti join _fs_sent using ({on})")

    def _work_out(self, now: datetime, ends: datetime) -> None:
        """The rows of the entities that are asked for. Where it is known how far the view reaches back, of newer events
        first: that gives all rows from a moment on, so it is all of an entity that has one of them by now."""
        run = self._warehouse.execute
        run(f"delete from {self._rows}")
        if self.streamed.reach is None:
            return self._execute(self._whole)
        begins = now - _SLACK
        self._replica.reach_from(begins - self.streamed.reach.longest, begins, ends)
        self._execute(self._newer)
        event = micros(self.view.timestamp)
        run(f"delete from {self._rows} where {event} is null or {event} < {epoch_micros(begins)}")
        run(
            f"delete from {self._asked} where exists (select 1 from {self._rows} as there "
            f"where {self._same} and {event} <= {epoch_micros(now)})"
        )
        if self._warehouse.query(f"select count(*) as n from {self._asked}")["n"][0].as_py():
            run(f"delete from {self._rows} as there where exists (select 1 from {self._asked} where {self._same})")
            self._execute(self._whole)
        return None

    def _execute(self, prepared: str) -> None:
        with self._replica.as_dbt():
            self._warehouse.execute(f"execute {prepared}")

    def _list(self, after: int, into: str) -> int:
        self._warehouse.execute(f"delete from {into}")
        with self._replica.as_dbt():
            self._warehouse.execute(f"insert into {into} {self._touching(f'_seq > {after}', after)}")
        return self._warehouse.query(f"select count(*) as n from {into}")["n"][0].as_py()

    def _touching(self, condition: str, after: int) -> str:
        events = self._replica.events
        parts = [
            f"select {', '.join(f'{sql} as k{number}' for number, sql in enumerate(way))} "
            f"from {events.table(unique_id)} where {condition} or {events.doubtful(unique_id, after)}"
            for unique_id, ways in self.streamed.filters.items()
            for way in ways
        ]
        known = " and ".join(f"{key} is not null" for key in self._keys)
        return f"select distinct {', '.join(self._keys)} from ({' union all '.join(parts)}) where {known}"

    def _among(self, way: Sequence[str]) -> str:
        """The condition that expressions name an entity that is asked for."""
        if len(way) == 1:
            return f"({way[0]}) in (select k0 from {self._asked})"
        return f"({', '.join(way)}) in (select ({', '.join(self._keys)}) from {self._asked})"

    def _make_tables(self, keep: bool = False) -> None:
        with self._replica.as_dbt():
            self._make_them(keep)

    def _make_them(self, keep: bool) -> None:
        run = self._warehouse.execute
        nobody = self._touching("false", 0)
        for name in (self._touched, self._backlog, self._asked, self._all):
            run(f"create or replace table {name} as {f'select * from {name}' if keep else nobody}")
        relation = self.streamed.view.relation
        run(f"create or replace table {self._rows} as select * from {relation} limit 0")
        reads = {self._whole: relation}
        if self.streamed.reach is not None:
            self._replica.make_reached(self.streamed.reach.models, self._place)
            reads[self._newer] = self._replica.reached_name(self.streamed.view.unique_id, self._place)
        for name, read in reads.items():
            if keep:
                run(f"deallocate {name}")
            run(f"prepare {name} as insert into {self._rows} select * from {read}")
