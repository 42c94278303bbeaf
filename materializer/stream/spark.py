"""The landing on Spark: one table of Parquet files, `_fs_events`, whose partitions are the commits.

Rows are written into a folder of their own first; that it becomes the partition of the next number is the commit, which
the catalog takes from one writer alone. So who commits knows all that is in, whatever Spark does twice and wherever it
is stopped. Each source is a view of the table, and so are the dead letters.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple

from materializer.errors import DefinitionError, WarehouseError
from materializer.project.settings import Project
from materializer.stream.begin import Place
from materializer.stream.source import StreamedSource
from materializer.warehouse import quoted
from materializer.warehouse.spark import open_spark, refusals

TABLE = "_fs_events"
_name = partial(quoted, dialect="spark")
_OWN = {
    "_fs_source": "string", "_topic": "string", "_partition": "int", "_offset": "bigint", "_fs_reason": "string",
    "_fs_message": "binary",
}  # fmt: skip
# Types of Spark that land, and what DuckDB calls them, which reads the messages.
_TYPES = {
    "tinyint": "tinyint", "byte": "tinyint", "smallint": "smallint", "short": "smallint", "int": "integer",
    "integer": "integer", "bigint": "bigint", "long": "bigint", "float": "float", "real": "float", "double": "double",
    "boolean": "boolean", "string": "varchar", "binary": "blob", "date": "date", "timestamp": "timestamptz",
    "timestamp_ltz": "timestamptz", "timestamp_ntz": "timestamp",
}  # fmt: skip
_DECIMAL = re.compile(r"(decimal|dec|numeric)\(\d+(,\d+)?\)")


class News(NamedTuple):
    """What landed in some commits: rows and dead letters by source, and when the oldest of them did."""

    landed: Counter[str]
    dead: Counter[str]
    landed_at: datetime | None


@dataclass
class SparkLanding:
    """The landing of some sources, whose columns are of Spark's types, in the schema that they name.

    Attributes:
        at: the number of the last commit that is known.
        ends: of each partition of a topic the offset that comes after what is in by then.
    """

    project: Project
    sources: Mapping[str, StreamedSource]
    schema: str
    session: Any = field(default=None, repr=False)
    at: int = 0
    ends: dict[Place, int] = field(default_factory=dict)
    _opened: ExitStack = field(default_factory=ExitStack, repr=False)
    _folder: str = ""

    @property
    def place(self) -> str:
        return f"{self.schema}.{TABLE}"

    def prepare(self) -> None:
        """Make what is not there yet, so that dbt can read the sources. Raises WarehouseError."""
        with refusals("Spark does not make the landing"):
            self._prepare(self.session.sql)

    def _prepare(self, run: Callable[[str], Any]) -> None:
        run(f"create schema if not exists {_name(self.schema)}")
        columns = _OWN | self._columns()
        listed = ", ".join(f"{_name(name)} {dtype}" for name, dtype in columns.items())
        run(
            f"create table if not exists {self._table} ({listed}, _landed_at timestamp, _seq bigint) using parquet "
            "partitioned by (_seq)"
        )
        there = {one.name: one.dataType.simpleString() for one in run(f"select * from {self._table}").schema.fields}
        if new := [f"{_name(name)} {dtype}" for name, dtype in columns.items() if name not in there]:
            run(f"alter table {self._table} add columns ({', '.join(new)})")
        for source in self.sources.values():
            made = [f"{_name(column_of(source, name))} as {_name(name)}" for name in source.columns]
            run(
                f"create or replace view {_name(self.schema)}.{_name(source.table)} as select {', '.join(made)}, "
                f"_topic, _partition, _offset, _landed_at, _seq from {self._table} "
                f"where _fs_source = '{source.name}' and _fs_reason is null"
            )
        run(
            f"create or replace view {_name(self.schema)}.dead_letters as select _fs_source as source, "
            "_topic, _partition, _offset, _landed_at, _seq, _fs_reason as reason, "
            f"_fs_message as message from {self._table} where _fs_reason is not null"
        )
        # Since when each commit can be read, in microseconds of the server's clock; its rows are those of the commit.
        run(
            f"create table if not exists {self._shown} (_offset bigint, seq bigint, moment bigint) using parquet "
            "partitioned by (seq, moment)"
        )
        run(f"create or replace view {_name(self.schema)}._fs_landing as select _seq as seq from {self._table}")

    def of_messages(self) -> Any:
        """The columns that a batch of messages has."""
        return self.session.table(self._table).drop("_landed_at", "_seq").schema

    def show(self) -> None:
        """Readers see what is in at once."""

    def open(self) -> None:
        """Have a session of its own, another one than before. Raises WarehouseError."""
        self._opened.close()
        self.session = self._opened.enter_context(open_spark(self.project)).session

    def close(self) -> None:
        """Let go of the session."""
        self._opened.close()

    def _columns(self) -> dict[str, str]:
        return {
            column_of(source, name): dtype for source in self.sources.values() for name, dtype in source.columns.items()
        }

    @property
    def _table(self) -> str:
        return f"{_name(self.schema)}.{TABLE}"

    @property
    def _shown(self) -> str:
        return f"{_name(self.schema)}._fs_shown"

    # How far it is.

    def seq(self) -> int:
        """The number of the last commit."""
        parts = self.session.sql(f"show partitions {self._table}").toArrow()[0].to_pylist()
        return max((int(one.partition("=")[2]) for one in parts), default=0)

    def sync(self) -> News:
        """Take note of what has landed since. Raises WarehouseError."""
        with refusals("Spark does not say what has landed"):
            return self._sync()

    def _sync(self) -> News:
        seq, rows = self.seq(), []
        if seq > self.at:
            rows = self.session.sql(
                "select _fs_source as source, _topic as topic, _partition as partition, "
                "max(_offset) + 1 as next, count(*) as rows, count(_fs_reason) as dead, "
                f"unix_micros(min(_landed_at)) as landed_at from {self._table} "
                f"where _seq > {self.at} and _seq <= {seq} group by _fs_source, _topic, _partition"
            ).toArrow().to_pylist()  # fmt: skip
        landed: Counter[str] = Counter()
        dead: Counter[str] = Counter()
        for row in rows:
            place = row["topic"], row["partition"]
            self.ends[place] = max(row["next"], self.ends.get(place, 0))
            landed[row["source"]] += row["rows"] - row["dead"]
            dead[row["source"]] += row["dead"]
        self.at = seq
        oldest = min((row["landed_at"] for row in rows), default=None)
        landed_at = None if oldest is None else datetime.fromtimestamp(oldest / 1_000_000, timezone.utc)
        return News(landed, dead, landed_at)

    def land(self, rows: Any, moment: datetime) -> bool:
        """Land rows, all or none of them, as of a moment: the messages that come next after `ends`. False where another
        process has landed some since that was known, and these are not in. Raises WarehouseError."""
        from pyspark.sql import functions

        with refusals("Spark does not land events"):
            if not self._folder:
                about = self.session.sql(f"describe table extended {self._table}").toArrow().to_pylist()
                (self._folder,) = (one["data_type"] for one in about if one["col_name"] == "Location")
            path = f"{self._folder}/{uuid.uuid4().hex}"
            landed_at = functions.lit(moment.isoformat()).cast("timestamp")
            rows.withColumn("_landed_at", landed_at).write.parquet(path)
            return self._commit(path)

    def _commit(self, path: str) -> bool:
        """Whether what lies there is the next commit."""
        from pyspark.errors import AnalysisException

        seq = self.at + 1
        try:
            self.session.sql(f"alter table {self._table} add partition (_seq = {seq}) location '{path}'")
        except AnalysisException as error:
            if "PARTITIONS_ALREADY_EXIST" not in str(error.getCondition()) + str(error):
                raise
            return False
        moment = int(datetime.now(timezone.utc).timestamp() * 1_000_000)
        self.session.sql(f"alter table {self._shown} add partition (seq = {seq}, moment = {moment}) location '{path}'")
        return True


def column_of(source: StreamedSource, name: str) -> str:
    """The column of the one table that has a source's: no table's name has that sign."""
    return f"{source.table}${name}"


def spark_sources(sources: Mapping[str, StreamedSource]) -> tuple[StreamedSource, ...]:
    """The same with DuckDB's types. Raises DefinitionError for a type that does not land."""
    found = []
    for source in sources.values():
        types = {}
        for name, dtype in source.columns.items():
            plain = dtype.lower().replace(" ", "")
            types[name] = _TYPES.get(plain, "")
            if digits := _DECIMAL.fullmatch(plain):
                types[name] = plain.replace(digits[1], "decimal", 1)
                types[name] = types[name] if digits[2] else types[name].replace(")", ",0)")
            if not types[name]:
                raise DefinitionError(
                    f"Column '{name}' of source '{source.name}' is {dtype}: on Spark values of {', '.join(_TYPES)} "
                    "and decimal(p, s) land."
                )
        found.append(replace(source, columns=types))
    return tuple(found)


def open_landing(project: Project, sources: Mapping[str, StreamedSource]) -> SparkLanding:
    """The landing of a project on Spark. Raises DefinitionError for a type that does not land, and where the sources
    are in several schemas; WarehouseError where Spark does not answer, or its session is not one of Python's."""
    spark_sources(sources)
    if len(schemas := {source.schema for source in sources.values()}) > 1:
        raise DefinitionError(
            f"One schema holds the events of all sources on Spark, and these name {' and '.join(sorted(schemas))}."
        )
    if (method := project.connection.get("method")) != "session":
        raise WarehouseError(
            f"Events land on Spark by dbt-spark's method session, with SPARK_REMOTE or without; target "
            f"'{project.target}' has {method}."
        )
    landing = SparkLanding(project, sources, schemas.pop())
    landing.open()
    return landing
