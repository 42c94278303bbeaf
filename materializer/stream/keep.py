"""What the landing needs beside the path of the events: its manifest, merged files, old ones removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext

import duckdb

from materializer.stream.files import KEPT, FileLanding, engine, sweep, why_not, write_manifest
from materializer.stream.merge import merge

# So often readers see something new at most, files are looked at, and old ones are removed; in seconds.
_MANIFEST, _MERGE, _SWEEP = 1.0, 10.0, 600.0


@contextmanager
def kept(landing: object, say: Callable[[str], None]) -> Iterator[None]:
    """Keep a landing meanwhile, where it is of files; others keep themselves."""
    with closing(Keeper(landing, say)) if isinstance(landing, FileLanding) else nullcontext():
        yield


class Keeper:
    """A thread that keeps a landing, until it is closed; it leaves a manifest of all that is in."""

    def __init__(self, landing: FileLanding, say: Callable[[str], None], kept: float = KEPT) -> None:
        self._landing, self._say, self._kept = landing, say, kept
        self._seq, self._said = -1, ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="landing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._safely(self._show)

    def _keep(self) -> None:
        merged = swept = 0.0
        while not self._end.wait(_MANIFEST):
            self._safely(self._show)
            if time.monotonic() - merged > _MERGE:
                self._safely(self._merge)
                merged = time.monotonic()
            if time.monotonic() - swept > _SWEEP:
                self._safely(lambda: sweep(self._landing, self._kept))
                swept = time.monotonic()

    def _show(self) -> None:
        if self._landing.seq() != self._seq:
            self._seq = write_manifest(self._landing)

    def _merge(self) -> None:
        with engine() as connection:
            if merge(connection, self._landing):
                self._seq = write_manifest(self._landing)

    def _safely(self, work: Callable[[], object]) -> None:
        """A landing that cannot be kept now is kept later, which is said once; its rows do not wait for it."""
        try:
            work()
            self._said = ""
        except (OSError, duckdb.Error) as error:
            said = why_not(error)
            if said != self._said:
                self._say(f"Readers do not see yet what lands in {self._landing.folder}, or many small files: {said}.")
            self._said = said
