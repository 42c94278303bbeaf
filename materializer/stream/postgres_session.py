"""A session of PostgreSQL in which views are computed: step by step, each one transaction that sees one state."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from materializer.errors import WarehouseError
from materializer.project.settings import Project
from materializer.stream.evaluate import WarehouseAway
from materializer.warehouse.postgres import SETTINGS, PostgresWarehouse, connect, literal, sentence

# How often it is tried to read tables of which one is being replaced, and after how many seconds each.
_TRIES, _PAUSE = 20, 0.05
_LOCKED = "55P03"
# What is looked up is mostly in memory. At four times the cost of a page in order whole landings would be read instead.
_LOOKED_UP = {"random_page_cost": "1.1"}
# A name is looked up as of this moment, a kind as of the query's: of a table that was just replaced there is none.
_KINDS = """
    select named.name, pg_class.relkind from unnest({names}) as named (name)
    left join pg_class on pg_class.oid = to_regclass(named.name) where to_regclass(named.name) is not null
    order by named.name
"""


class Session:
    """Opened when a step begins, and anew after it was lost, with its temporary tables.

    Dates and hours are of the zone in which dbt builds, which is the role's own.

    Args:
        read: relations that dbt may replace. To a transaction that began before, what has taken a table's place is
            empty: so they are locked, as any reader does, before anything is read.
    """

    def __init__(self, project: Project, read: Sequence[str]) -> None:
        self._project, self._read = project, read
        self._connection: dbapi.Connection | None = None
        self._locked: list[str] | None = None

    def begin(self) -> bool:
        """Begin a step, and say whether it is the first one of its session.

        Raises:
            WarehouseError: where PostgreSQL does not answer, or a relation is being replaced for long; a session that
                was lost is opened by the next step, as what was made in it is gone.
        """
        fresh = self._connection is None
        try:
            if fresh:
                self._open()
            for _ in range(_TRIES):
                if self._has_begun():
                    break
                time.sleep(_PAUSE)
            else:
                raise WarehouseError("a table beside the events is being replaced, which takes long.")
            if fresh:
                self.warehouse = PostgresWarehouse(self._connection, self._place)
        except adbc_driver_manager.Error as error:
            self.close()
            raise WarehouseAway(f"PostgreSQL: {sentence(error)}.") from None
        return fresh

    def end(self) -> None:
        """End the step. What it wrote is the session's own, and stays. Raises WarehouseAway where that is lost."""
        if self._connection is None:
            return
        try:
            self._run("commit")
        except adbc_driver_manager.Error as error:
            self.close()
            raise WarehouseAway(f"PostgreSQL: {sentence(error)}.") from None

    def close(self) -> None:
        if self._connection is not None:
            with suppress(adbc_driver_manager.Error):
                self._connection.close()
        self._connection = None

    def execute(self, sql: str) -> None:
        """Run a statement for its effect on temporary tables. Raises WarehouseError; the step goes on then."""
        with self.whole():
            self.warehouse.execute(sql)

    def query(self, sql: str) -> pa.Table:
        """The answer of a query. Raises WarehouseError; the step goes on then."""
        with self.whole():
            return self.warehouse.query(sql)

    def value(self, sql: str) -> object:
        """The only value of a query's answer."""
        return self.query(sql).column(0)[0].as_py()

    def look_again(self) -> None:
        """Find out which of the relations there are to lock, when the next step begins."""
        self._locked = None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Meanwhile a WarehouseError becomes a WarehouseAway where the session is gone; else the step can go on."""
        try:
            yield
        except WarehouseError as error:
            if not self._is_open():
                raise WarehouseAway(str(error)) from None
            raise

    def _is_open(self) -> bool:
        """Whether the session goes on; one that does not is closed."""
        if self._connection is not None:
            try:
                self._run("select 1")
            except adbc_driver_manager.Error:
                self.close()
        return self._connection is not None

    def _open(self) -> None:
        self._connection, self._place = connect(self._project)
        for name, value in {**SETTINGS, **_LOOKED_UP}.items():
            if name != "timezone":
                self._run(f"set {name} = {literal(value)}")
        self._locked = None

    def _has_begun(self) -> bool:
        """Whether a transaction has begun and locked what there is to lock, of which none is being replaced."""
        assert self._connection is not None
        if self._locked is None:
            with self._connection.cursor() as cursor:
                cursor.execute(_KINDS.format(names=texts(self._read)))
                kinds = dict(cursor.fetchall())
            if None in kinds.values():
                return False
            self._locked = [name for name, kind in kinds.items() if kind in ("r", "p", "v")]
        self._run("begin transaction isolation level repeatable read")
        if not self._locked or self._has_locked():
            return True
        self._run("rollback")
        return False

    def _has_locked(self) -> bool:
        assert self._locked
        try:
            # Whoever waits while it holds a lock can bring dbt into a deadlock.
            self._run(f"lock table {', '.join(self._locked)} in access share mode nowait")
        except adbc_driver_manager.Error as error:
            if error.sqlstate != _LOCKED:
                raise
            return False
        return True

    def _run(self, statement: str) -> None:
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            cursor.execute(statement)


def texts(values: Sequence[str]) -> str:
    """An array of texts."""
    return f"cast(array[{', '.join(map(literal, values))}] as text[])"
