"""The landed rows of streamed sources, where they are tables of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from materializer.stream.postgres_session import Session
from materializer.stream.source import StreamedSource
from materializer.warehouse import quoted


class PostgresEvents:
    """What a session knows of the landing. `seq` is the last commit that is in.

    `broken` and the conditions for rows are as of `materializer.stream.events.Events`; each condition alone is one that
    an index serves, which several joined by OR are not.
    """

    def __init__(self, session: Session, sources: Sequence[StreamedSource]) -> None:
        self._session = session
        self._sources = {source.unique_id: source for source in sources}
        self._schema = quoted(sources[0].schema)
        self.seq = 0
        self.landed_at: datetime | None = None
        self.broken = {source.name: 0 for source in sources}
        self._broken: dict[tuple[str, str], str] = {}
        for source in sources:
            for name in source.determines or {}:
                table = self._broken[source.unique_id, name] = f"pg_temp._fs_broken_{len(self._broken)}"
                session.execute(
                    f"create temporary table {table.removeprefix('pg_temp.')} as select {quoted(name)} as id, "
                    f"_seq as seq from {self.table(source.unique_id)} with no data"
                )

    def table(self, unique_id: str) -> str:
        """The table of a source's rows."""
        source = self._sources[unique_id]
        return f"{quoted(source.schema)}.{quoted(source.table)}"

    def sync(self) -> int:
        """See what has landed by now, and give the number of the last commit that is in."""
        seq = self._session.value(f"select seq from {self._schema}._fs_landing")
        assert isinstance(seq, int)
        self.landed_at = None
        if seq != self.seq:
            for source in self._sources.values():
                self._find_broken(source)
            if self.seq:
                self.landed_at = self._first_landed()
            self.seq = seq
        return seq

    def doubts(self, unique_id: str) -> list[str]:
        """Conditions for rows whose id does not decide what it should: they are looked at whosever they are."""
        return self._of_broken(unique_id, "true")

    def doubtful(self, unique_id: str, after: int) -> list[str]:
        """Conditions for rows that share an id with one that landed after a commit and says otherwise."""
        return self._of_broken(unique_id, f"seq > {after}")

    def _first_landed(self) -> datetime | None:
        parts = [
            f"select min(_landed_at) as landed_at from {self.table(one)} where _seq > {self.seq}"
            for one in self._sources
        ]
        found = self._session.value(f"select min(landed_at) from ({' union all '.join(parts)}) as landed")
        assert found is None or isinstance(found, datetime)
        return found

    def _of_broken(self, unique_id: str, which: str) -> list[str]:
        source, found = self._sources[unique_id], []
        for name in source.determines or {} if self.broken[source.name] else ():
            ids = f"from {self._broken[unique_id, name]} where {which}"
            found.append(f"{quoted(name)} in (select id {ids})")
            found.append(f"{quoted(name)} is null and exists (select {ids} and id is null)")
        return found

    def _find_broken(self, source: StreamedSource) -> None:
        table, count = self.table(source.unique_id), 0
        for name, decided in (source.determines or {}).items():
            one, broken = quoted(name), self._broken[source.unique_id, name]
            new = f"select {one} from {table} where _seq > {self.seq}"
            among = [f"{one} in ({new})", f"{one} is null and exists ({new} and {one} is null)"]
            for condition in among if self.seq else ["true"]:
                self._session.execute(
                    f"insert into {broken} select {one}, max(_seq) from {table} where {condition} "
                    f"group by {one} having count(distinct row({', '.join(map(quoted, decided))})) > 1"
                )
            found = self._session.value(f"select count(*) from (select distinct id from {broken}) as ids")
            assert isinstance(found, int)
            count += found
        self.broken[source.name] = count
