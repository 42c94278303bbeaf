"""The audit log: one JSON line a request, of who asked for what; never a key, a value or a header."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from materializer.serve.asked import Asked


class Audit:
    """Appends lines to a file, or does nothing where there is none. With several workers all append to the same.
    Without `reads`, what was answered is left out, and what was refused is not."""

    def __init__(self, file: str | None, reads: bool = True) -> None:
        self._reads = reads
        self._file = Path(file).open("ab", buffering=0) if file else None  # noqa: SIM115 - as long as the server

    def note(self, route: str, caller: str, asked: Asked) -> None:
        """A request that was answered."""
        if self._file and self._reads:
            what = {"service": asked.service} if asked.service else {"features": asked.features}
            self._write({"route": route, "caller": caller, **what, "entities": len(asked.rows), "status": 200})

    def refused(self, route: str, caller: str | None, status: int) -> None:
        """A request that was refused, or failed."""
        if self._file:
            self._write({"route": route, "caller": caller, "status": status})

    def _write(self, line: dict[str, Any]) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        assert self._file is not None
        self._file.write(msgspec.json.encode({"at": at, **line}) + b"\n")
