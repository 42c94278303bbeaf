"""The landing: a folder of Parquet files, each committed by a name's appearance, that nothing ever changes.

    landing.duckdb                    the manifest: a view a source over an explicit list of files; what dbt attaches
    <source>/<name>.parquet           rows
    <source>/live/<name>              an empty file: these rows count

A name is ``<seq>-<topic>-<partition>-<first>-<last>``: the number of the commit, one for all sources, and the offsets
that it covers. So the folder is the only place that says which offsets are in: it is read at each commit, under a lock.
What a merged file covers is not live any more, but stays as long as a reader may have an older manifest open.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from materializer.errors import InputError
from materializer.stream.source import OF_THE_LANDING, StreamedSource
from materializer.warehouse import quoted
from materializer.warehouse.duckdb_profile import escaped

MANIFEST = "landing.duckdb"
# Beside the event's columns and the landing's: why a message is no row, and its bytes; the key of a push.
OF_MESSAGES = {"_fs_reason": "VARCHAR", "_fs_message": "BLOB", "_fs_push": "VARCHAR"}
# The topic of what producers push themselves.
PUSHED = "_push"
# How long rows that a merged file has too are kept for readers of an older manifest, in seconds: a day.
KEPT = 86_400
# How long a push may be repeated with its key, in seconds: a week.
KEYS_KEPT = 7 * 86_400


class Covered(NamedTuple):
    """A committed file: which offsets of a topic's partition it covers, and the number of its commit."""

    seq: int
    topic: str
    partition: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.seq:019d}-{self.topic}-{self.partition}-{self.first:019d}-{self.last:019d}"

    @classmethod
    def named(cls, name: str) -> Covered:
        seq, rest = name.split("-", 1)
        topic, partition, first, last = rest.rsplit("-", 3)
        return cls(int(seq), topic, int(partition), int(first), int(last))


@dataclass(frozen=True)
class Landing:
    """The landing of some sources in a folder of this machine. Several processes may write to it.

    Attributes:
        clock: tells the moment at which a row lands, the online store's where there is one.
    """

    folder: Path
    sources: Mapping[str, StreamedSource]
    clock: Callable[[], datetime]

    def prepare(self) -> None:
        """Make the folders, and a manifest that dbt can attach. Raises InputError where they cannot be written."""
        try:
            for source in self.sources.values():
                (self.folder_of(source) / "live").mkdir(parents=True, exist_ok=True)
            if not (self.folder / MANIFEST).exists():
                write_manifest(self)
        except OSError as error:
            raise InputError(f"Events cannot land in {self.folder}: {error.strerror or error}.") from None

    def folder_of(self, source: StreamedSource) -> Path:
        return self.folder / source.name

    def file_of(self, source: StreamedSource, covered: Covered) -> Path:
        return self.folder_of(source) / f"{covered.name}.parquet"

    def live(self, source: StreamedSource) -> list[Covered]:
        """What is in, in order of partition and offset; without what a merged file has too."""
        with suppress(FileNotFoundError):
            names = [entry.name for entry in os.scandir(self.folder_of(source) / "live")]
            found = sorted((Covered.named(name) for name in names), key=lambda one: (one[1:4], -one.last))
            kept: list[Covered] = []
            for one in found:
                if not kept or one[1:3] != kept[-1][1:3] or one.last > kept[-1].last:
                    kept.append(one)
            return kept
        return []

    def seq(self) -> int:
        """The number of the last commit."""
        lives = self.folder.glob("*/live")  # of sources that are not declared any more, too
        return max((int(entry.name.partition("-")[0]) for live in lives for entry in os.scandir(live)), default=0)

    def next_offset(self, source: StreamedSource, topic: str, partition: int) -> int | None:
        """The first offset that is not in; None where nothing of the partition is."""
        lasts = [one.last for one in self.live(source) if (one.topic, one.partition) == (topic, partition)]
        return max(lasts) + 1 if lasts else None

    def commit(
        self,
        connection: duckdb.DuckDBPyConnection,
        source: StreamedSource,
        rows: str,
        covered: Callable[[], Covered | None],
    ) -> Covered | None:
        """Land rows, all or none of them.

        Args:
            rows: a table or view of `connection` with the source's columns, `_topic`, `_partition`, `_offset` and those
                of `OF_MESSAGES`.
            covered: asked under the lock for the offsets that these rows cover; None: they are in already.

        Returns:
            What landed; None where nothing did.

        Raises:
            OSError, duckdb.IOException: where the folder cannot be written; nothing has landed then.
        """
        folder = self.folder_of(source)
        with self.locked():
            asked = covered()
            if asked is None:
                return None
            asked = asked._replace(seq=self.seq() + 1)
            written = folder / f".{uuid.uuid4().hex}"
            columns = ", ".join(map(quoted, (*source.columns, "_topic", "_partition", "_offset")))
            try:
                write_parquet(
                    connection,
                    f"select {columns}, timestamptz '{self.clock().isoformat()}' as _landed_at, "
                    f"cast({asked.seq} as bigint) as _seq, {', '.join(OF_MESSAGES)} from {rows} order by _offset",
                    written,
                )
                written.rename(self.file_of(source, asked))
            finally:
                written.unlink(missing_ok=True)
            self.make_live(source, asked)
        return asked

    def make_live(self, source: StreamedSource, covered: Covered) -> None:
        """From here on these rows count."""
        live = self.folder_of(source) / "live"
        flush(live.parent)
        os.close(os.open(live / covered.name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        flush(live)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among the processes of this machine that change the landing."""
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write a query's answer and wait until it is on the disk."""
    connection.execute(f"copy ({query}) to {literal(path)} (format parquet, compression zstd)")
    flush(path)


def write_manifest(landing: Landing) -> int:
    """Let readers see what is in, all sources as of one commit, and give its number. Who has the old manifest open
    keeps that."""
    with landing.locked():
        seq = landing.seq()
        files = {
            name: [landing.file_of(source, one) for one in landing.live(source)]
            for name, source in landing.sources.items()
        }
    beside = landing.folder / f".{uuid.uuid4().hex}.duckdb"
    try:
        with duckdb.connect(str(beside), config={"threads": 1}) as connection:
            connection.execute("set timezone = 'UTC'")
            for name, source in landing.sources.items():
                connection.execute(f"create schema if not exists {quoted(source.schema)}")
                described = _described(connection, landing, source)
                connection.execute(_view(source, [described, *files[name]]))
            connection.execute(_dead_letters(landing.sources.values()))
            connection.execute(f"create table main._fs_landing as select cast({seq} as bigint) as seq")
        beside.replace(landing.folder / MANIFEST)
    finally:
        beside.unlink(missing_ok=True)
    return seq


def sweep(landing: Landing, kept: float = KEPT) -> int:
    """Remove files that have not counted for `kept` seconds, with what a killed writer left, and say how many."""
    removed = 0
    oldest = time.time() - kept
    for source in landing.sources.values():
        with landing.locked():
            live = {f"{one.name}.parquet" for one in landing.live(source)}
            entries = [entry for entry in os.scandir(landing.folder_of(source)) if entry.is_file()]
        with suppress(FileNotFoundError):
            for entry in os.scandir(landing.folder_of(source) / "keys"):
                if entry.stat().st_mtime < time.time() - KEYS_KEPT:
                    Path(entry.path).unlink(missing_ok=True)
        for entry in entries:
            if entry.name not in live and not entry.name.startswith(".columns-") and entry.stat().st_mtime < oldest:
                Path(entry.path).unlink(missing_ok=True)
                removed += 1
    return removed


def _described(connection: duckdb.DuckDBPyConnection, landing: Landing, source: StreamedSource) -> Path:
    """A file without rows that has the columns as they are declared now: older files may lack some, and there may be
    none yet."""
    columns = {**source.columns, **OF_THE_LANDING, **OF_MESSAGES}
    typed = ", ".join(f"cast(null as {dtype}) as {quoted(name)}" for name, dtype in columns.items())
    name = uuid.uuid5(uuid.NAMESPACE_OID, typed).hex
    path = landing.folder_of(source) / f".columns-{name}.parquet"
    if not path.exists():
        beside = path.with_name(f".{uuid.uuid4().hex}")
        write_parquet(connection, f"select {typed} limit 0", beside)
        beside.replace(path)
    return path


def _view(source: StreamedSource, files: Sequence[Path]) -> str:
    columns = {**source.columns, **OF_THE_LANDING}
    typed = ", ".join(f"cast({quoted(name)} as {dtype}) as {quoted(name)}" for name, dtype in columns.items())
    listed = ", ".join(map(literal, files))
    return (
        f"create view {_all(source)} as "
        f"select * from read_parquet([{listed}], union_by_name = true, hive_partitioning = false);"
        f"create view {quoted(source.schema)}.{quoted(source.table)} as "
        f"select {typed} from {_all(source)} where _fs_reason is null"
    )


def _all(source: StreamedSource) -> str:
    """The view with what is no row, too."""
    return f"{quoted(source.schema)}.{quoted(f'_fs_all_{source.table}')}"


def _dead_letters(sources: Sequence[StreamedSource]) -> str:
    columns = ", ".join((*OF_THE_LANDING, "_fs_reason as reason, _fs_message as message"))
    return "create view main.dead_letters as " + " union all ".join(
        f"select {literal(source.name)} as source, {columns} from {_all(source)} where _fs_reason is not null"
        for source in sources
    )


def literal(value: object) -> str:
    return f"'{escaped(str(value))}'"


def flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
