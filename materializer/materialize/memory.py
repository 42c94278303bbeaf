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
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

HEAD = "memory.json"
_GROUP_ROWS = 100_000
LOG = "log.jsonl"
OWN = re.compile(r"memory\.json(\.\d+)?|(sent|pending|written)-[^/\\]+\.parquet")
# What one part of a path may hold on any file system: 255 bytes, and no name of a device.
_LONGEST = 200
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Memory:
    """The memory of one view as of its last run.

    `sent` is the file of rows known to be online, None where nothing is known; `pending` are the files of changes
    that an unfinished run may or may not have written; `rows` counts the rows of `sent`; `keys` are the join keys;
    `seen` is the landing's number that its rows had seen, None of a view that reads no stream.
    """

    run: str
    previous: str | None
    finished: bool
    fingerprint: str
    sent: str | None
    pending: tuple[str, ...]
    rows: int
    keys: tuple[str, ...]
    seen: int | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that it needs to be there."""
        return (*self.pending, *([self.sent] if self.sent else []))


class ViewMemory:
    """The folder of one view's memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Memory | None:
        """What is remembered; None where nothing is, or where a part of it is missing or unreadable."""
        head = self.head()
        try:
            return head if head and all((self.folder / name).is_file() for name in head.files) else None
        except (OSError, ValueError):
            return None

    def head(self) -> Memory | None:
        """What the head file says, whether or not the files that it names are there; each would be one of ours, right
        in the folder."""
        try:
            head = msgspec.json.decode((self.folder / HEAD).read_bytes())
            memory = msgspec.convert(head, Memory)
            known = head.keys() <= {field.name for field in fields(Memory)}  # what says more is a newer release's
            ours = all(OWN.fullmatch(name) for name in memory.files)
            whole = memory.rows >= 0 and (memory.sent is not None or not memory.finished)
            return memory if known and ours and whole else None
        except (OSError, ValueError, RecursionError):
            return None

    def save(self, memory: Memory) -> None:
        """Make `memory` what is remembered, whole or not at all; once a run is finished, files of others go."""
        head = self.folder / HEAD
        partial = self.folder / f"{HEAD}.{os.getpid()}"
        partial.unlink(missing_ok=True)  # of a run that was killed
        with partial.open("x") as file:
            said = {name: value for name, value in asdict(memory).items() if name != "seen" or value is not None}
            json.dump(said, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        if head.is_dir() and not head.is_symlink():  # nothing of ours, so not ours to remove: it is put aside
            head.rename(Path(tempfile.mkdtemp(prefix="not-ours-", dir=self.folder)) / HEAD)
        partial.replace(head)
        if memory.finished:
            self._clear(HEAD, memory.sent)

    def forget(self) -> None:
        """Remember nothing."""
        with suppress(IsADirectoryError, PermissionError):
            (self.folder / HEAD).unlink(missing_ok=True)
        self._clear()

    def _clear(self, *kept: str | None) -> None:
        for path in self.folder.glob("*"):
            # Nothing but the files that runs wrote is theirs to remove, wherever this folder may be.
            if OWN.fullmatch(path.name) and path.name not in kept:
                with suppress(IsADirectoryError, PermissionError):  # a folder is nothing of ours
                    path.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """The file called `name`."""
        return self.folder / name

    def discard(self, name: str) -> None:
        """Remove a file, unless memory names it."""
        current = self.load()
        if current is None or name not in current.pending:
            self.path(name).unlink(missing_ok=True)


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
    folder = own_folder(state_folder, folder_name(namespace), folder_name(view))
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable")
    return ViewMemory(folder)


def own_folder(state_folder: Path, *names: str) -> Path:
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
