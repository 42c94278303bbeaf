"""The log of runs: one JSON object a run and view. In a folder these are the lines of ``<namespace>/log.jsonl``; on
object storage, where nothing can be appended, that is a folder with an object for each, folded now and then."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from materializer.materialize.memory import LOG, folder_name, own_folder
from materializer.project.storage import Remote

# From how many objects of single runs on these become one.
FOLD_FROM = 500
_RUN, _FOLDED = "run-", "runs-"


def append_log(state: Path | Remote, namespace: str, entry: Mapping[str, Any]) -> None:
    """Add a line. Raises OSError where it cannot be written."""
    line = (json.dumps(entry, default=str) + "\n").encode()
    if isinstance(state, Remote):
        folder = state / folder_name(namespace) / LOG
        # Runs of two views that end at once write two objects, and neither takes the other's line away.
        name = f"{_RUN}{time.time_ns():020}-{hashlib.sha256(line).hexdigest()[:16]}.jsonl"
        (folder / name).write_bytes(line)
        with suppress(OSError):
            _fold(folder)
        return
    path = own_folder(state, folder_name(namespace)) / LOG
    if path.is_symlink():
        path.unlink()
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a crash cut the last line short: this one must not run on
                line = b"\n" + line
        file.write(line)


def read_log(state: Path | Remote, namespace: str) -> list[dict[str, Any]]:
    """The log, oldest first; a line that is not whole, or not of `append_log`, is left out. Raises OSError where it
    lies on storage that cannot be read."""
    if isinstance(state, Remote):
        folder = state / folder_name(namespace) / LOG
        names = [name for name in folder.names() if name.startswith((_RUN, _FOLDED))]
        # While lines are folded they are there twice.
        lines = dict.fromkeys(line for content in folder.read_many(names).values() for line in content.split(b"\n"))
        return sorted(_entries(lines), key=lambda entry: (entry["at"], str(entry.get("read_at") or "")))
    path = state / folder_name(namespace) / LOG
    try:
        return _entries(path.read_bytes().split(b"\n")) if path.is_file() else []
    except OSError:
        return []


def _fold(folder: Remote) -> None:
    """Make one object of many. Whoever else does so at the same time writes some lines twice: none is ever lost, as
    nothing is removed before what holds its lines is there."""
    single = [name for name in folder.names() if name.startswith(_RUN)]
    if len(single) < FOLD_FROM:
        return
    found = folder.read_many(single)
    if len(found) == len(single):  # else another run is at it
        content = b"".join(found.values())
        (folder / f"{_FOLDED}{hashlib.sha256(content).hexdigest()}.jsonl").write_bytes(content)
        folder.unlink_many(single)


def _entries(lines: Any) -> list[dict[str, Any]]:
    entries = []
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
