"""The landed rows of streamed sources, as tables in a DuckDB that grow with the landing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import duckdb

from materializer.stream.files import FileLanding, literal
from materializer.stream.landing import Covered
from materializer.stream.source import OF_THE_LANDING, StreamedSource
from materializer.warehouse import quoted


class Events:
    """Tables of a database of `connection`, one a source. `seq` is the last commit that is in: all rows up to it are.

    Where a source says what an id decides (`determines`), the ids that came with several decisions are known: `broken`
    counts them, by the source's name.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, landing: FileLanding, database: str) -> None:
        self._connection, self._landing = connection, landing
        self._tables = {
            source.unique_id: f"{database}.main.events_{number}"
            for number, source in enumerate(landing.sources.values())
        }
        self.seq = 0
        # When the oldest of the rows landed that the last `sync` brought; None where it brought none.
        self.landed_at: datetime | None = None
        # The last offset of each topic's partition that is in.
        self._ends: dict[tuple[str, str, int], int] = {}
        self.broken = dict.fromkeys(landing.sources, 0)
        for source in landing.sources.values():
            columns = ", ".join(f"{quoted(name)} {dtype}" for name, dtype in _columns(source).items())
            connection.execute(f"create table {self.table(source.unique_id)} ({columns})")
            connection.execute(f"create table {self._broken(source.unique_id)} (name varchar, id ubigint, seq bigint)")

    def table(self, unique_id: str) -> str:
        """The table of a source's rows."""
        return self._tables[unique_id]

    def sync(self) -> int:
        """Take in what has landed since, and give the number of the last commit that is in."""
        with self._landing.locked():
            seq = self._landing.seq()
            files = {source.unique_id: self._landing.live(source) for source in self._landing.sources.values()}
        self.landed_at = None
        if seq == self.seq:
            return seq
        for source in self._landing.sources.values():
            new = [one for one in files[source.unique_id] if one.last > self._end(source, one)]
            if new:
                self._add(source, new)
                self._find_broken(source)
                self._tell_age(source)
        self.seq = seq
        return seq

    def _tell_age(self, source: StreamedSource) -> None:
        table = self.table(source.unique_id)
        ((first,),) = self._connection.execute(
            f"select epoch(min(_landed_at)) from {table} where _seq > {self.seq}"
        ).fetchall()
        if first is not None:
            landed = datetime.fromtimestamp(first, timezone.utc)
            self.landed_at = min(landed, self.landed_at or landed)

    def doubts(self, unique_id: str) -> str:
        """A condition for rows whose id does not decide what it should, '' where there are none: they are looked at
        whosever they are."""
        source = next(one for one in self._landing.sources.values() if one.unique_id == unique_id)
        if not self.broken[source.name]:
            return ""
        return " or ".join(self._of_broken(source, name) for name in source.determines or {})

    def doubtful(self, unique_id: str, after: int) -> str:
        """A condition for rows that share an id with one that landed after a commit and says otherwise."""
        source = next(one for one in self._landing.sources.values() if one.unique_id == unique_id)
        if not self.broken[source.name]:
            return "false"
        return " or ".join(self._of_broken(source, name, f" and seq > {after}") for name in source.determines or {})

    def _end(self, source: StreamedSource, one: Covered) -> int:
        return self._ends.get((source.name, one.topic, one.partition), -1)

    def _add(self, source: StreamedSource, files: Sequence[Covered]) -> None:
        columns = ", ".join(
            f"cast({quoted(name)} as {dtype}) as {quoted(name)}" for name, dtype in _columns(source).items()
        )
        listed = ", ".join(literal(self._landing.file_of(source, one)) for one in files)
        known = [
            f"(_topic = {literal(one.topic)} and _partition = {one.partition} and _offset <= {self._end(source, one)})"
            for one in files
            if self._end(source, one) >= one.first
        ]
        self._connection.execute(
            f"insert into {self.table(source.unique_id)} select {columns} from read_parquet([{listed}], "
            f"union_by_name = true, hive_partitioning = false) where _fs_reason is null"
            + (f" and not ({' or '.join(dict.fromkeys(known))})" if known else "")
        )
        for one in files:
            place = source.name, one.topic, one.partition
            self._ends[place] = max(self._ends.get(place, -1), one.last)

    # Ids that do not decide what they should.

    def _broken(self, unique_id: str) -> str:
        return f"{self.table(unique_id)}_broken"

    def _of_broken(self, source: StreamedSource, name: str, more: str = "") -> str:
        ids = f"select id from {self._broken(source.unique_id)} where name = {literal(name)}{more}"
        return f"hash({quoted(name)}) in ({ids})"

    def _find_broken(self, source: StreamedSource) -> None:
        table, broken = self.table(source.unique_id), self._broken(source.unique_id)
        for name, decided in (source.determines or {}).items():
            values = ", ".join(map(quoted, decided))
            self._connection.execute(
                f"insert into {broken} select {literal(name)}, hash({quoted(name)}), max(_seq) from {table} "
                f"where hash({quoted(name)}) in (select hash({quoted(name)}) from {table} where _seq > {self.seq}) "
                f"group by {quoted(name)} having count(distinct hash({values})) > 1"
            )
        if source.determines:
            ((count,),) = self._connection.execute(f"select count(distinct (name, id)) from {broken}").fetchall()
            self.broken[source.name] = count


def _columns(source: StreamedSource) -> dict[str, str]:
    return {**source.columns, **OF_THE_LANDING}
