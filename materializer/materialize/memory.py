"""What the materializer remembers of a view: which rows it last sent, and a list of those under way.

It is a folder of Parquet files beside the warehouse, ``<warehouse file>.feature_store/<namespace>/<view>/``, so that
the warehouse's own engine compares it with the view, and so that no file is ever locked (a run that was frozen may
still hold its handles). One small JSON file names the rest and is replaced whole: that is the only commit there is.
Losing any of it costs a full run, never a wrong value.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

_HEAD = "memory.json"
_GROUP_ROWS = 100_000
LOG = "log.jsonl"
_OWN = re.compile(r"memory\.json(\.\d+)?|(sent|pending|written)-[^/\\]+\.parquet")
# What one part of a path may hold on any file system: 255 bytes, and no name of a device.
_LONGEST = 200
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


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
            head = msgspec.json.decode((self.folder / _HEAD).read_bytes())
            memory = msgspec.convert(head, Memory)
            known = len(head) == len(fields(Memory))  # what says more is a newer release's
            files = [*memory.pending, *([memory.sent] if memory.sent else [])]
            # Each a file of ours right in the folder.
            there = all(_OWN.fullmatch(name) and (self.folder / name).is_file() for name in files)
            whole = memory.rows >= 0 and (memory.sent is not None or not memory.finished)
            return memory if known and there and whole else None
        except (OSError, ValueError, RecursionError):
            return None

    def save(self, memory: Memory) -> None:
        """Make `memory` what is remembered, whole or not at all; once a run is finished, files of others go."""
        head = self.folder / _HEAD
        partial = self.folder / f"{_HEAD}.{os.getpid()}"
        partial.unlink(missing_ok=True)  # of a run that was killed
        with partial.open("x") as file:
            json.dump(asdict(memory), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        if head.is_dir() and not head.is_symlink():  # nothing of ours, so not ours to remove: it is put aside
            head.rename(Path(tempfile.mkdtemp(prefix="not-ours-", dir=self.folder)) / _HEAD)
        partial.replace(head)
        if memory.finished:
            self._clear(_HEAD, memory.sent)

    def forget(self) -> None:
        """Remember nothing."""
        with suppress(IsADirectoryError, PermissionError):
            (self.folder / _HEAD).unlink(missing_ok=True)
        self._clear()

    def _clear(self, *kept: str | None) -> None:
        for path in self.folder.glob("*"):
            # Nothing but the files that runs wrote is theirs to remove, wherever this folder may be.
            if _OWN.fullmatch(path.name) and path.name not in kept:
                with suppress(IsADirectoryError, PermissionError):  # a folder is nothing of ours
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
        """The whole file; None where no row was sent. Raises OSError where it could not be written."""
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
    """The memory of a view, its folder made. Raises OSError where the folder cannot be written, or is a link to
    elsewhere."""
    folder = _own_folder(state_folder, folder_name(namespace), folder_name(view))
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable")
    return ViewMemory(folder)


def _own_folder(state_folder: Path, *names: str) -> Path:
    """A folder of the state folder, made; no part of it is a link, which a clone may have brought along. Raises OSError
    where it cannot be had."""
    folder = state_folder
    for name in (None, *names):
        folder = folder / name if name else folder
        if folder.is_symlink():
            raise PermissionError(f"{folder} is a link to elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def folder_name(name: str) -> str:
    """The folder of a namespace or view: always one folder, with this name alone, directly where it is put."""
    text = quote(name, safe="", errors="surrogatepass") or "+"
    if not text.strip(".") or text == LOG or _DEVICE.fullmatch(text):
        text = "".join(f"%{ord(letter):02X}" for letter in text[:1]) + text[1:].replace(".", "%2E")
    if text.endswith("."):
        text = text[:-1] + "%2E"
    if len(text) > _LONGEST:
        # A plus sign is never left by the quoting, so no name that is short has such a folder.
        text = text[:100] + "+" + hashlib.sha256(text.encode()).hexdigest()
    return text


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
    path = _own_folder(state_folder, folder_name(namespace)) / LOG
    if path.is_symlink():
        path.unlink()
    line = (json.dumps(entry, default=str) + "\n").encode()
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a crash cut the last line short: this one must not run on
                line = b"\n" + line
        file.write(line)


def read_log(state_folder: Path, namespace: str) -> list[dict[str, Any]]:
    """The materialization log, oldest first; a line that is not whole, or not of `append_log`, is left out."""
    path = state_folder / folder_name(namespace) / LOG
    entries = []
    try:
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            if (
                isinstance(entry["view"], str)
                and isinstance(entry["error"], (str, type(None)))
                and type(entry["rows_written"]) is int
                and datetime.fromisoformat(entry["at"]).tzinfo is not None
            ):
                entries.append(entry)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return entries
