"""What the materializer remembers of a view: which rows it last sent, and a list of those under way.

It is a folder of Parquet files beside the warehouse, ``<warehouse file>.feature_store/<namespace>/<view>/``, so that
the warehouse's own engine compares it with the view, and so that no file is ever locked (a run that was frozen may
still hold its handles). One small JSON file names the rest and is replaced whole: that is the only commit there is.
Losing any of it costs a full run, never a wrong value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

_HEAD = "memory.json"
_GROUP_ROWS = 100_000
LOG = "log.jsonl"


@dataclass(frozen=True)
class Memory:
    """The memory of one view as of its last run.

    `sent` is the file of rows known to be online, None where nothing is known; `pending` are the files of changes
    that an unfinished run may or may not have written; `rows` counts the rows of `sent`; `keys` are the join keys.
    """

    run: str
    previous: str | None
    finished: bool
    fingerprint: str
    sent: str | None
    pending: tuple[str, ...]
    rows: int
    keys: tuple[str, ...]


class ViewMemory:
    """The folder of one view's memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Memory | None:
        """What is remembered; None where nothing is, or where a part of it is missing or unreadable."""
        try:
            head = json.loads((self.folder / _HEAD).read_text())
            memory = Memory(**{**head, "pending": tuple(head["pending"]), "keys": tuple(head["keys"])})
            files = [*memory.pending, *([memory.sent] if memory.sent else [])]
            whole = isinstance(memory.rows, int) and all((self.folder / name).is_file() for name in files)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return memory if whole else None

    def save(self, memory: Memory) -> None:
        """Make `memory` what is remembered, whole or not at all; once a run is finished, files of others go."""
        head = self.folder / _HEAD
        partial = self.folder / f"{_HEAD}.{os.getpid()}"
        with partial.open("w") as file:
            json.dump(asdict(memory), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(head)
        if memory.finished:
            for path in self.folder.glob("*"):
                if path.name not in (_HEAD, memory.sent):
                    path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remember nothing."""
        (self.folder / _HEAD).unlink(missing_ok=True)
        for path in self.folder.glob("*"):
            path.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """The file called `name`."""
        return self.folder / name


class SentRows:
    """Keeps join keys and digests of the rows that a run sends, in the Parquet file `path` (None: only counts them).

    A context manager; the file is gone at its end. `rows` is how many there are so far.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._failed: OSError | None = None
        self._waiting: list[pa.Table] = []
        self.rows = 0

    def __enter__(self) -> SentRows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def add(self, rows: pa.Table) -> None:
        """Keep these too."""
        self.rows += rows.num_rows
        if self._path is not None and self._failed is None:
            self._waiting.append(rows)
            if sum(table.num_rows for table in self._waiting) >= _GROUP_ROWS:
                self._write()

    def close(self) -> Path | None:
        """The whole file; None where no row was sent.

        Raises:
            OSError: where it could not be written.
        """
        self._write()
        if self._writer is not None:
            self._writer.close()
        if self._failed is not None:
            raise self._failed
        return self._path if self._writer is not None else None

    def _write(self) -> None:
        """What cannot be kept costs the next run: it stops nobody."""
        if not self._waiting or self._path is None or self._failed is not None:
            return
        rows, self._waiting = pa.concat_tables(self._waiting), []
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, rows.schema)
            self._writer.write_table(rows, _GROUP_ROWS)
        except OSError as error:
            self._failed = error


def view_memory(state_folder: Path, namespace: str, view: str) -> ViewMemory:
    """The memory of a view, its folder made.

    Raises:
        OSError: where the folder cannot be written.
    """
    folder = state_folder / quote(namespace, safe="") / quote(view, safe="")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable")
    return ViewMemory(folder)


def started(memory: Memory | None, run: str, fingerprint: str, pending: str, keys: tuple[str, ...]) -> Memory:
    """The memory once `pending` is stored and before the first write; `memory` is None for a full run.

    What an earlier run left in doubt is in `pending` too: it was compared as differing from whatever there is now.
    """
    if memory is None:
        return Memory(run, None, False, fingerprint, None, (pending,), 0, keys)
    previous = memory.run if memory.finished else memory.previous
    return replace(memory, run=run, previous=previous, finished=False, fingerprint=fingerprint, pending=(pending,))


def append_log(state_folder: Path, namespace: str, entry: Mapping[str, Any]) -> None:
    """Add a line to the materialization log, ``<namespace>/log.jsonl``: one JSON object a run and view."""
    folder = state_folder / quote(namespace, safe="")
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry, default=str) + "\n"
    with (folder / LOG).open("a") as file:
        file.write(line)


def read_log(state_folder: Path, namespace: str) -> list[dict[str, Any]]:
    """The materialization log, oldest first; a line cut short by a crash is left out."""
    path = state_folder / quote(namespace, safe="") / LOG
    entries = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
