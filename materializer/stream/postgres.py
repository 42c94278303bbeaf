"""The landing on PostgreSQL: tables of the sources, with the offsets that are in, each commit one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import adbc_driver_manager
import duckdb
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from materializer.errors import DefinitionError, WarehouseError
from materializer.project.settings import Project
from materializer.stream.landing import PUSHED, CannotLand, Covered, Landed, NoEvent, first_number
from materializer.stream.source import StreamedSource
from materializer.warehouse import quoted
from materializer.warehouse.postgres import connect, literal, sentence

_ROWS = {
    "_topic": "text not null", "_partition": "integer not null", "_offset": "bigint not null",
    "_landed_at": "timestamptz not null", "_seq": "bigint not null",
}  # fmt: skip
# How far each topic was read, the numbers of the last commit and before the first, since when each was there to be read
# (of each four seconds the last), what is no event, and the keys of pushes.
_OWN = """
    create table if not exists {schema}._fs_landing (seq bigint not null, begun bigint not null default 0);
    insert into {schema}._fs_landing select {first}, {first} where not exists (select from {schema}._fs_landing);
    create table if not exists {schema}._fs_offsets (
        topic text, partition integer, next bigint not null, primary key (topic, partition)
    );
    create table if not exists {schema}._fs_shown (
        slot bigint primary key, seq bigint not null, "at" timestamptz not null
    );
    create table if not exists {schema}._fs_pushes (
        source text, key text, content text not null, at timestamptz not null, primary key (source, key)
    );
    create table if not exists {schema}.dead_letters (
        source text not null, _topic text, _partition integer, _offset bigint, _landed_at timestamptz, _seq bigint,
        reason text not null, message bytea, unique (_topic, _partition, _offset)
    )
"""
# Said by a transaction that began when the commits before it had ended: so whoever began to read later saw these. For
# builds, which know when they began and last no longer than a week. They look back five seconds further, to what is not
# replaced any more: so no build has seen less than the one before.
_SHOWN = (
    """
    insert into {schema}._fs_shown
    select floor(extract(epoch from clock_timestamp()) / 4), seq, clock_timestamp() from {schema}._fs_landing
    on conflict (slot) do update set seq = excluded.seq, "at" = excluded."at" where _fs_shown.seq < excluded.seq
    """,
    """
    delete from {schema}._fs_shown where slot < floor(extract(epoch from clock_timestamp()) / 4) - 7 * 21600
    and slot < (select max(slot) from {schema}._fs_shown)
    """,
)


@dataclass
class PostgresLanding:
    """See `Landing`. A commit takes the number of the last one first, and holds it: so commits come one by one."""

    project: Project
    sources: Mapping[str, StreamedSource]
    clock: Callable[[], datetime]
    place: str = ""
    _connection: dbapi.Connection | None = field(default=None, repr=False)
    _cursor: Any = field(default=None, repr=False)

    def prepare(self) -> None:
        with self._transaction() as cursor:
            cursor.execute("select pg_advisory_xact_lock(hashtext('feature-store landing'))")
            for schema in {source.schema for source in self.sources.values()}:
                cursor.execute(f"create schema if not exists {quoted(schema)}")
            if self._columns(cursor, f"{self._schema}._fs_landing") == {"seq"}:  # of an earlier version
                cursor.execute(f"alter table {self._schema}._fs_landing add column begun bigint not null default 0")
            for statement in _OWN.format(schema=self._schema, first=first_number(self.clock)).split(";"):
                cursor.execute(statement)
            for source in self.sources.values():
                columns = [f"{quoted(name)} {dtype}" for name, dtype in (source.columns | _ROWS).items()]
                cursor.execute(
                    f"create table if not exists {_table(source)} ({', '.join(columns)}, "
                    "unique (_topic, _partition, _offset))"
                )
                self._complete(cursor, source)
        self._show()

    def _columns(self, cursor: Any, table: str) -> set[str]:
        cursor.execute(
            "select attname::text from pg_attribute "
            "where attrelid = to_regclass($1) and attnum > 0 and not attisdropped",
            (table,),
        )
        return {name for (name,) in cursor.fetchall()}

    def _complete(self, cursor: Any, source: StreamedSource) -> None:
        """Add columns and indexes that a table lacks. Either lets nobody read or write meanwhile, so only those."""
        for name in source.columns.keys() - self._columns(cursor, _table(source)):
            dtype = source.columns[name]
            cursor.execute(f"alter table {_table(source)} add column if not exists {quoted(name)} {dtype}")
        # By what rows are looked for: what has landed since, events of an entity, and of an id that decides.
        for columns in filter(None, {("_seq",), source.key, *((name,) for name in source.determines or {})}):
            index = quoted(f"_fs_by_{'_'.join(columns)}_{source.table}"[:63])  # of the schema, as the table's own name
            cursor.execute("select to_regclass($1) is null", (f"{quoted(source.schema)}.{index}",))
            if cursor.fetchone()[0]:
                listed = ", ".join(map(quoted, columns))
                cursor.execute(f"create index if not exists {index} on {_table(source)} ({listed})")

    def next_offset(self, source: StreamedSource, topic: str, partition: int) -> int | None:
        with self._transaction() as cursor:
            cursor.execute(
                f"select next from {self._schema}._fs_offsets where topic = $1 and partition = $2", (topic, partition)
            )
            found = cursor.fetchone()
        return found[0] if found else None

    def commit(
        self,
        connection: duckdb.DuckDBPyConnection,
        source: StreamedSource,
        rows: str,
        covered: Callable[[], Covered | None],
    ) -> Landed | None:
        with self._transaction() as cursor:
            cursor.execute(f"update {self._schema}._fs_landing set seq = seq + 1 returning seq")
            (seq,) = cursor.fetchone()
            asked = covered()
            if asked is None:
                return None
            made = [f"{_text(name, dtype)} as {quoted(name)}" for name, dtype in source.columns.items()]
            table = connection.sql(
                f"select {', '.join(made)}, _topic, _partition, _offset, _fs_reason, _fs_message from {rows}"
            ).to_arrow_table()
            moment = f"cast('{self.clock().isoformat()}' as timestamptz)"
            try:
                self._insert(cursor, source, table, moment, seq)
                dead = table.num_rows - table["_fs_reason"].null_count
            except adbc_driver_manager.Error as error:
                if not _of_a_value(error):
                    raise
                dead = 0
                for place in range(table.num_rows):  # a value that PostgreSQL does not take: each alone
                    refused = self._insert_one(cursor, source, table.slice(place, 1), moment, seq)
                    if refused and asked.topic == PUSHED:
                        raise NoEvent(place, refused) from None
                    dead += refused is not None
            cursor.execute(
                f"insert into {self._schema}._fs_offsets values ($1, $2, $3) "
                "on conflict (topic, partition) do update set next = excluded.next",
                (asked.topic, asked.partition, asked.last + 1),
            )
        with suppress(CannotLand):  # the rows are in; what is not said now is said with the next ones
            self._show()
        return Landed(asked._replace(seq=seq), table.num_rows - dead, dead)

    def _show(self) -> None:
        with self._transaction() as cursor:
            for statement in _SHOWN:
                cursor.execute(statement.format(schema=self._schema))

    def _insert(self, cursor: Any, source: StreamedSource, table: pa.Table, moment: str, seq: int) -> None:
        """All of these rows or none; what is no event becomes a dead letter."""
        columns = ", ".join(map(quoted, (*source.columns, "_topic", "_partition", "_offset")))
        typed = ", ".join(_typed(name, dtype) for name, dtype in source.columns.items())
        cursor.execute("savepoint feature_store_rows")
        try:
            cursor.adbc_ingest("_fs_rows", table, mode="create", temporary=True)
            cursor.execute(
                f"insert into {_table(source)} ({columns}, _landed_at, _seq) "
                f"select {typed}, _topic, _partition, _offset, {moment}, {seq} from _fs_rows where _fs_reason is null"
            )
            cursor.execute(
                f"insert into {self._schema}.dead_letters select {literal(source.name)}, _topic, _partition, _offset, "
                f"{moment}, {seq}, _fs_reason, _fs_message from _fs_rows where _fs_reason is not null"
            )
            cursor.execute("drop table _fs_rows")
        except adbc_driver_manager.Error:
            cursor.execute("rollback to savepoint feature_store_rows")
            raise

    def _insert_one(self, cursor: Any, source: StreamedSource, row: pa.Table, moment: str, seq: int) -> str | None:
        """Why it is a dead letter; None for an event."""
        try:
            self._insert(cursor, source, row, moment, seq)
            return row["_fs_reason"][0].as_py()
        except adbc_driver_manager.Error as error:
            if not _of_a_value(error):
                raise
            empty = {name: pa.nulls(1, row.schema.field(name).type) for name in source.columns}
            reason = f"PostgreSQL does not take it: {sentence(error)}"
            kept = {name: row[name] for name in row.column_names}
            self._insert(cursor, source, pa.table(kept | empty | {"_fs_reason": pa.array([reason])}), moment, seq)
            return reason

    def pushed_with(self, connection: duckdb.DuckDBPyConnection, source: StreamedSource, key: str) -> str | None:
        with self._transaction() as cursor:
            cursor.execute(
                f"select content from {self._schema}._fs_pushes where source = $1 and key = $2", (source.name, key)
            )
            found = cursor.fetchone()
        return found[0] if found else None

    def note_push(self, source: StreamedSource, key: str, first: int, content: str) -> None:
        with self._transaction() as cursor:
            cursor.execute(f"delete from {self._schema}._fs_pushes where at < now() - interval '7 days'")
            cursor.execute(
                f"insert into {self._schema}._fs_pushes values ($1, $2, $3, now())", (source.name, key, content)
            )

    def show(self) -> None:
        """Readers see what is in at once."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _schema(self) -> str:
        return quoted(next(iter(self.sources.values())).schema)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A cursor within one transaction: the one that is open, else one of its own. Raises CannotLand."""
        if self._cursor is not None:
            yield self._cursor
            return
        whole = False
        try:
            if self._connection is None:
                self._connection, self.place = connect(self.project)
            with self._connection.cursor() as self._cursor:
                self._cursor.execute("begin")
                yield self._cursor
                self._cursor.execute("commit")
            whole = True
        except (adbc_driver_manager.Error, pa.ArrowException, WarehouseError) as error:
            raise CannotLand(str(error) if isinstance(error, WarehouseError) else sentence(error)) from None
        finally:
            self._cursor = None
            if not whole:  # and with the connection the transaction, whatever became of it
                self.close()


def _table(source: StreamedSource) -> str:
    return f"{quoted(source.schema)}.{quoted(source.table)}"


def _text(name: str, dtype: str) -> str:
    """A value as DuckDB says it in text, from which PostgreSQL makes the same."""
    return f"'\\x' || hex({quoted(name)})" if dtype.lower() in ("bytea", "blob") else f"cast({quoted(name)} as varchar)"


def _typed(name: str, dtype: str) -> str:
    """From its text; one that is too long for its column is refused, and not cut as a cast would."""
    return quoted(name) if dtype.lower().startswith(("varchar(", "character")) else f"cast({quoted(name)} as {dtype})"


def _of_a_value(error: adbc_driver_manager.Error) -> bool:
    """Whether PostgreSQL refused a value, and not the statement: classes 22 and 23 of its codes."""
    return str(error.sqlstate or "")[:2] in ("22", "23")


def open_landing(
    project: Project, sources: Mapping[str, StreamedSource], clock: Callable[[], datetime]
) -> PostgresLanding:
    """The landing of a project on PostgreSQL. Raises DefinitionError for a column of lists or structs, and where the
    sources are in several schemas; WarehouseError as `connect`."""
    for source in sources.values():
        for name, dtype in source.columns.items():
            if "[" in dtype or dtype.lower().startswith(("struct", "map")):
                raise DefinitionError(
                    f"Column '{name}' of source '{source.name}' is {dtype}: on PostgreSQL only plain values land."
                )
    if len(schemas := {source.schema for source in sources.values()}) > 1:
        raise DefinitionError(
            f"One schema holds the events of all sources on PostgreSQL, and these name {' and '.join(sorted(schemas))}."
        )
    connection, place = connect(project)
    return PostgresLanding(project, sources, clock, place, connection)
