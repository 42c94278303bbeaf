"""Small files become large ones: a reader pays for each file it opens."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from itertools import groupby

import duckdb

from materializer.stream.files import FileLanding, literal, write_parquet
from materializer.stream.landing import Covered
from materializer.stream.source import StreamedSource

# So many files of one size become one of the next, so a row is written anew a few times at most.
TOGETHER = 64
# Files up to this size are small, up to `TOGETHER` times as large are the next size, and so on; in bytes.
SMALL = 256 * 1024
# Beyond this size, in bytes, a file stays as it is.
LARGE = 512 * 1024 * 1024


def merge(connection: duckdb.DuckDBPyConnection, landing: FileLanding, together: int = TOGETHER) -> int:
    """Merge what is due, and say how many files were made of many.

    A merged file covers the offsets of all of them under the greatest of their commits' numbers. From the moment that
    it is live they count no more, as it reaches further; then their names go, and their rows when nobody reads them.
    """
    made = 0
    for source in landing.sources.values():
        for files in _due(landing, source, together):
            _merge(connection, landing, source, files)
            made += 1
    return made


def _due(landing: FileLanding, source: StreamedSource, together: int) -> list[list[Covered]]:
    """Runs of files that lie beside each other in a partition and are of one size."""
    due = []

    def partition(one: Covered) -> tuple[str, int]:
        return one.topic, one.partition

    for _, files in groupby(landing.live(source), partition):
        sized = [(one, _size(landing.file_of(source, one).stat().st_size, together)) for one in files]
        for size, run in groupby(sized, lambda one: one[1]):
            beside = [one for one, _ in run]
            if size is not None and len(beside) >= together:
                due.append(beside)
    return due


def _size(count: int, together: int) -> int | None:
    if count > LARGE:
        return None
    size, limit = 0, SMALL
    while count > limit:
        size, limit = size + 1, limit * together
    return size


def _merge(
    connection: duckdb.DuckDBPyConnection, landing: FileLanding, source: StreamedSource, files: Sequence[Covered]
) -> None:
    merged = files[0]._replace(seq=max(one.seq for one in files), last=files[-1].last)
    folder = landing.folder_of(source)
    written = folder / f".{uuid.uuid4().hex}"
    listed = ", ".join(literal(landing.file_of(source, one)) for one in files)
    try:
        write_parquet(
            connection, f"select * from read_parquet([{listed}], union_by_name = true) order by _offset", written
        )
        with landing.locked():
            if not set(files) <= set(landing.live(source)):
                return  # another process was quicker
            written.rename(landing.file_of(source, merged))
            landing.make_live(source, merged)
            for one in files:
                os.utime(landing.file_of(source, one))  # who reads by an older manifest has as long as from now
                (folder / "live" / one.name).unlink(missing_ok=True)
    finally:
        written.unlink(missing_ok=True)
