"""Spark by a session, of a Connect server (`SPARK_REMOTE`) or its own, as dbt-spark's method `session`: rows are Arrow.

A profile with another method (thrift, http, odbc) is read by dbt's own adapter.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from materializer import errors
from materializer.errors import WarehouseError
from materializer.project.relation import Column, Relation
from materializer.project.settings import Project
from materializer.warehouse import quoted
from materializer.warehouse.adapter import open_adapter
from materializer.warehouse.arrow import signed, to_plain

# What executors do with the rows of a partition.
OnExecutor = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
_quoted = partial(quoted, dialect="spark")
# What functions on executors raised comes as text, with a traceback before it.
_OURS = re.compile(r"^materializer\.errors\.(\w+): (.+)$", re.MULTILINE)
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception): .+$", re.MULTILINE)
_MISSING = re.compile(r"^ModuleNotFoundError: No module named '(\w+)", re.MULTILINE)
# What the client was told of a call, where it shows its own object.
_DETAILS = re.compile(r'details = "([^"]*)')


class SparkWarehouse:
    """See `materializer.warehouse.Warehouse`."""

    dialect = "spark"

    def __init__(self, session: Any, place: str) -> None:
        self.session = session
        self.place = place
        self.version = str(session.version)

    def columns(self, relation: Relation) -> list[Column]:
        from pyspark.errors import AnalysisException

        with refusals():
            try:
                fields = self.session.sql(f"select * from {relation}").schema.fields
            except AnalysisException as error:
                if error.getCondition() in ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"):
                    return []
                raise
        return [Column(field.name, field.dataType.simpleString()) for field in fields]

    def schema(self, relation: Relation) -> pa.Schema:
        return self.query(f"select * from {relation} limit 0").schema

    def schemas(self, relations: Sequence[Relation]) -> dict[Relation, pa.Schema]:
        return {}

    def query(self, sql: str) -> pa.Table:
        with refusals():
            return self.session.sql(sql).toArrow()

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        with refusals():
            frame = self.session.sql(sql)
            for batches in _arriving(self.session, frame):
                yield from batches.to_batches(max_chunksize=batch_rows)

    def snapshot(self, sql: str, function: OnExecutor, added: Mapping[str, pa.DataType]) -> Snapshot:
        """Keep the answer of a query on the executors, each partition of it as `function` gives it there: the same rows
        with the columns `added` behind theirs. Both have what `function` imports installed."""
        from pyspark.sql.pandas.types import from_arrow_type
        from pyspark.sql.types import StructType

        with refusals("Spark cannot keep rows on its executors"):
            frame = self.session.sql(sql)
            schema = StructType(list(frame.schema.fields))
            for name, dtype in added.items():
                schema.add(name, from_arrow_type(dtype))
            return Snapshot(self.session, frame.mapInArrow(function, schema).localCheckpoint())

    def spine(self, name: str, table: pa.Table) -> Relation:
        table = pa.table({column: to_plain(table.column(column)) for column in table.column_names})
        table = table.cast(pa.schema([field.with_type(signed(field.type)) for field in table.schema]))
        with refusals():
            frame = self.session.createDataFrame(table)
            frame.createOrReplaceTempView(name)
        # What is naive there is zoned here: the zone of the session is UTC, so that the same moment is meant.
        naive = {field.name for field in table.schema if field.type == pa.timestamp("us")}
        columns = [f"cast({_quoted(column)} as timestamp_ntz) as {_quoted(column)}" if column in naive
                   else _quoted(column) for column in table.column_names]  # fmt: skip
        return Relation(f"(select {', '.join(columns)} from {name}) as {name}") if naive else Relation(name)


class Snapshot:
    """Rows that lie on the executors: the same ones however often they are read, or an error where they are lost."""

    def __init__(self, session: Any, frame: Any) -> None:
        self._session = session
        self._frame = frame

    def stream(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some of their columns."""
        with refusals():
            for table in _arriving(self._session, self._frame.select(*map(_quoted, columns))):
                yield from table.to_batches()

    def mapped(self, function: OnExecutor, answer: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """What `function` gives, on the executors, for the rows of each partition: columns `answer`. What it raises of
        this package's errors is raised here."""
        from pyspark.sql.pandas.types import from_arrow_schema

        with refusals("Spark's executors stopped"):
            frame = self._frame.mapInArrow(function, from_arrow_schema(pa.schema(answer)))
            for table in _arriving(self._session, frame):
                yield from table.to_batches()


def open_spark(project: Project) -> AbstractContextManager[Any]:
    """Open the Spark of a project's target. Raises WarehouseError where it does not answer."""
    if project.connection.get("method") != "session":
        return open_adapter(project)
    import pyspark.sql  # noqa: F401 - its absence is to be told here

    return _session_of(project)


@contextmanager
def _session_of(project: Project) -> Iterator[SparkWarehouse]:
    from pyspark.sql import SparkSession

    remote = os.environ.get("SPARK_REMOTE")
    if remote:
        _check_that_it_answers(remote)
    # It logs what it refuses with the whole stack of the JVM, and warns of its own dependencies.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pyspark")
    with refusals("Spark cannot be used"):
        builder = SparkSession.builder
        for name, value in (project.connection.get("server_side_parameters") or {}).items():
            builder = builder.config(name, value)
        # A session a call: another thread's has its own zone and its own temporary views, under the same names.
        session = builder.remote(remote).create() if remote else builder.getOrCreate().newSession()
        if remote:
            from pyspark.sql.connect.client.retries import DefaultPolicy

            # Its own way would be to ask a server that died again for ten minutes.
            session.client.set_retry_policies([DefaultPolicy(max_retries=6, max_backoff=5_000)])
        session.conf.set("spark.sql.session.timeZone", "UTC")
    try:
        yield SparkWarehouse(session, remote.partition(";")[0] if remote else "a session of its own")
    finally:
        if remote:  # else it would end the one that all share
            with suppress(Exception):
                session.stop()


def _check_that_it_answers(remote: str) -> None:
    """Spark's own client would ask again for ten minutes."""
    where = urlsplit(remote)
    try:
        socket.create_connection((where.hostname or "", where.port or 15002), 10).close()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise WarehouseError(f"Spark at {remote.partition(';')[0]} (SPARK_REMOTE) does not answer: {said}.") from None


def _arriving(session: Any, frame: Any) -> Iterator[pa.Table]:
    """An answer as it comes from a Connect server; from a session of its own at once."""
    client = getattr(session, "client", None)
    if client is None or not hasattr(client, "to_table_as_iterator"):
        yield frame.toArrow()
        return
    plan = frame._plan.to_proto(client)
    for part in client.to_table_as_iterator(plan, {}):
        if isinstance(part, pa.Table):
            yield part


@contextmanager
def refusals(what: str = "Spark refused a query") -> Iterator[None]:
    """What Spark raises meanwhile as a WarehouseError, or as what this package raised on its executors."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        if ours := _OURS.findall(str(error)):
            kind, said = ours[-1]
            raise getattr(errors, kind, WarehouseError)(said.strip()) from None
        if missing := _MISSING.search(str(error)):
            raise WarehouseError(
                f"Spark's executors have no Python module '{missing[1]}': install dbt-feature-store[spark] there as it "
                "is here, and name that Python with PYSPARK_PYTHON."
            ) from None
        said = (str(error.getMessage() or error).strip().splitlines() or ["no reason was given"])[0].rstrip(". ")
        if said.startswith("<_") and (details := _DETAILS.search(str(error))):
            said = details[1].rstrip(". ")
        if said.endswith("Traceback (most recent call last):") and (raised := _RAISED.findall(str(error))):
            said = raised[-1].strip().rstrip(". ")
        raise WarehouseError(f"{what}: {said}.") from None
