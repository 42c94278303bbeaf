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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

_HEAD = "memory.json"
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
            head = json.loads((self.folder / _HEAD).read_text())
            memory = Memory(**{**head, "pending": tuple(head["pending"]), "keys": tuple(head["keys"])})
            files = [*memory.pending, *([memory.sent] if memory.sent else [])]
            own = all(_OWN.fullmatch(name) for name in files)
            whole = own and isinstance(memory.rows, int) and all((self.folder / name).is_file() for name in files)
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
            for path in self._own_files():
                if path.name not in (_HEAD, memory.sent):
                    path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remember nothing."""
        (self.folder / _HEAD).unlink(missing_ok=True)
        for path in self._own_files():
            path.unlink(missing_ok=True)

    def _own_files(self) -> list[Path]:
        """The files here that runs wrote. Nothing else is theirs to remove, wherever this folder should come to lie."""
        return [path for path in self.folder.glob("*") if _OWN.fullmatch(path.name)]

    def path(self, name: str) -> Path:
        """The file called `name`."""
        return self.folder / name


def view_memory(state_folder: Path, namespace: str, view: str) -> ViewMemory:
    """The memory of a view, its folder made.

    Raises:
        OSError: where the folder cannot be written.
    """
    folder = state_folder / folder_name(namespace) / folder_name(view)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable")
    return ViewMemory(folder)


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
    folder = state_folder / folder_name(namespace)
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry, default=str) + "\n"
    with (folder / LOG).open("a") as file:
        file.write(line)


def read_log(state_folder: Path, namespace: str) -> list[dict[str, Any]]:
    """The materialization log, oldest first; a line cut short by a crash is left out."""
    path = state_folder / folder_name(namespace) / LOG
    entries = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
