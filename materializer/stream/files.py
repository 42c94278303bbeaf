"""The landing: a folder of Parquet files, each committed by a name's appearance, that nothing ever changes.

    landing.duckdb                    the manifest: a view a source over an explicit list of files; what dbt attaches
    begun                             the number before the first commit's, above all of a landing that was here before
    <source>/<name>.parquet           rows
    <source>/live/<name>              an empty file: these rows count

A name is ``<seq>-<topic>-<partition>-<first>-<last>``: the number of the commit, one for all sources, and the offsets
that it covers. So the folder is the only place that says which offsets are in: it is read at each commit, under a lock.
What a merged file covers is not live any more, but stays as long as a reader may have an older manifest open.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from materializer.stream.landing import OF_MESSAGES, PUSHED, CannotLand, Covered, Landed, first_number
from materializer.stream.source import OF_THE_LANDING, StreamedSource
from materializer.warehouse import quoted
from materializer.warehouse.duckdb_profile import escaped

MANIFEST, BEGUN = "landing.duckdb", "begun"
Asked = Callable[[], Covered | None]
# How long rows that a merged file has too are kept for readers of an older manifest, in seconds: a day.
KEPT = 86_400
# How long a push may be repeated with its key, in seconds: a week.
KEYS_KEPT = 7 * 86_400


@dataclass(frozen=True)
class FileLanding:
    """The landing of some sources in a folder of this machine. Several processes may write to it.

    Attributes:
        clock: tells the moment at which a row lands, the online store's where there is one.
    """

    folder: Path
    sources: Mapping[str, StreamedSource]
    clock: Callable[[], datetime]

    @property
    def place(self) -> str:
        return str(self.folder)

    def prepare(self) -> None:
        """Make the folders, and a manifest that dbt can attach. Raises CannotLand."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.locked():
                if not any(self.folder.glob("*/live")):
                    self._begin()
                for source in self.sources.values():
                    (self.folder_of(source) / "live").mkdir(parents=True, exist_ok=True)
            if not (self.folder / MANIFEST).exists():
                write_manifest(self)
        except (OSError, duckdb.IOException) as error:
            raise CannotLand(why_not(error)) from None

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
        last = max((int(entry.name.partition("-")[0]) for live in lives for entry in os.scandir(live)), default=0)
        return last or self.begun()

    def begun(self) -> int:
        """The number that this landing began with; 0 where it began at 1, as they did once."""
        with suppress(FileNotFoundError):
            return int((self.folder / BEGUN).read_text())
        return 0

    def next_offset(self, source: StreamedSource, topic: str, partition: int) -> int | None:
        """The first offset that is not in; None where nothing of the partition is."""
        lasts = [one.last for one in self.live(source) if (one.topic, one.partition) == (topic, partition)]
        return max(lasts) + 1 if lasts else None

    def commit(
        self, connection: duckdb.DuckDBPyConnection, source: StreamedSource, rows: str, covered: Asked
    ) -> Landed | None:
        """See `Landing.commit`."""
        folder = self.folder_of(source)
        written = folder / f".{uuid.uuid4().hex}"
        columns = ", ".join(map(quoted, (*source.columns, "_topic", "_partition", "_offset")))
        try:
            with self.locked():
                asked = covered()
                if asked is None:
                    return None
                asked = asked._replace(seq=self.seq() + 1)
                ((count, dead),) = connection.execute(f"select count(*), count(_fs_reason) from {rows}").fetchall()
                write_parquet(
                    connection,
                    f"select {columns}, timestamptz '{self.clock().isoformat()}' as _landed_at, "
                    f"cast({asked.seq} as bigint) as _seq, {', '.join(OF_MESSAGES)} from {rows} order by _offset",
                    written,
                )
                written.rename(self.file_of(source, asked))
                self.make_live(source, asked)
        except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise CannotLand(why_not(error)) from None
        finally:
            written.unlink(missing_ok=True)
        return Landed(asked, count - dead, dead)

    def pushed_with(self, connection: duckdb.DuckDBPyConnection, source: StreamedSource, key: str) -> str | None:
        """See `Landing.pushed_with`. The key's file may be of a push that never landed: its rows carry the key too."""
        try:
            first, content = (self.folder_of(source) / "keys" / key).read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        for one in self.live(source):
            if one.topic == PUSHED and one.first <= int(first) <= one.last:
                file = literal(self.file_of(source, one))
                rows = f"select _fs_push from read_parquet({file}) where _offset = {first}"
                return content if connection.execute(rows).fetchall() == [(key,)] else None
        return None

    def note_push(self, source: StreamedSource, key: str, first: int, content: str) -> None:
        """See `Landing.note_push`."""
        file = self.folder_of(source) / "keys" / key
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{first} {content}")
        flush(file)

    def show(self) -> None:
        """See `Landing.show`."""
        write_manifest(self)

    def close(self) -> None:
        """Nothing is open."""

    def make_live(self, source: StreamedSource, covered: Covered) -> None:
        """From here on these rows count."""
        live = self.folder_of(source) / "live"
        flush(live.parent)
        os.close(os.open(live / covered.name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        flush(live)

    def _begin(self) -> None:
        beside = self.folder / f".{uuid.uuid4().hex}"
        beside.write_text(str(first_number(self.clock)))
        flush(beside)
        beside.replace(self.folder / BEGUN)
        flush(self.folder)

    @contextmanager
    def locked(self, name: str = ".lock") -> Iterator[None]:
        """Alone among the processes of this machine that change the landing."""
        with (self.folder / name).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def why_not(error: Exception) -> str:
    """Why a file was not written, as the system says it; DuckDB has its number in a long text."""
    if number := re.search(r'"errno":"(\d+)"', str(error)):
        return os.strerror(int(number[1]))
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


@contextmanager
def engine(file: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of the stream's own, in memory or in a file: moments are in UTC, and other cores are left alone."""
    with duckdb.connect(str(file or ":memory:"), config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write a query's answer and wait until it is on the disk."""
    connection.execute(f"copy ({query}) to {literal(path)} (format parquet, compression zstd)")
    flush(path)


def write_manifest(landing: FileLanding) -> int:
    """Let readers see what is in, all sources as of one commit, and give its number. Who has the old manifest open
    keeps that."""
    with landing.locked(".manifest-lock"):  # so that no older one takes the place of a newer one
        return _write_manifest(landing)


def _write_manifest(landing: FileLanding) -> int:
    with landing.locked():
        seq, begun = landing.seq(), landing.begun()
        files = {
            name: [landing.file_of(source, one) for one in landing.live(source)]
            for name, source in landing.sources.items()
        }
    beside = landing.folder / f".{uuid.uuid4().hex}.duckdb"
    try:
        with engine(beside) as connection:
            for name, source in landing.sources.items():
                connection.execute(f"create schema if not exists {quoted(source.schema)}")
                described = _described(connection, landing, source)
                connection.execute(_view(source, [described, *files[name]]))
            connection.execute(_dead_letters(landing.sources.values()))
            numbers = f"cast({seq} as bigint) as seq, cast({begun} as bigint) as begun"
            connection.execute(f"create table main._fs_landing as select {numbers}")
        beside.replace(landing.folder / MANIFEST)
    finally:
        beside.unlink(missing_ok=True)
    return seq


def sweep(landing: FileLanding, kept: float = KEPT) -> int:
    """Remove files that have not counted for `kept` seconds, with what a killed writer left, and say how many."""
    removed = 0
    oldest = time.time() - kept
    for source in landing.sources.values():
        folder = landing.folder_of(source)
        with landing.locked():  # a name that a killed writer left may be taken again by the next one
            live = {f"{one.name}.parquet" for one in landing.live(source)}
            for entry in os.scandir(folder):
                counts = not entry.is_file() or entry.name in live or entry.name.startswith(".columns-")
                if not counts and entry.stat().st_mtime < oldest:
                    Path(entry.path).unlink()
                    removed += 1
            for entry in os.scandir(folder / "keys") if (folder / "keys").is_dir() else ():
                if entry.stat().st_mtime < time.time() - KEYS_KEPT:
                    Path(entry.path).unlink()
    return removed


def _described(connection: duckdb.DuckDBPyConnection, landing: FileLanding, source: StreamedSource) -> Path:
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
