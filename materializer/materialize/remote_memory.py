"""The memory of a view on object storage: a run works on a copy in a temporary folder, and uploads what it saves.

Files go up first, each under a name of its run's own; the head last, which is the only commit there is. So whatever is
cut off in between leaves the memory of before, which Redis' marker then tells from what was sent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from materializer.materialize.memory import HEAD, OWN, Memory, ViewMemory, folder_name, view_memory
from materializer.project.storage import Remote


class RemoteMemory(ViewMemory):
    """The memory at `remote`, as it was when this was made; `folder` is the copy. Raises OSError where it cannot be
    read."""

    def __init__(self, remote: Remote, folder: Path) -> None:
        super().__init__(folder)
        self._remote = remote
        self._there: set[str] = set()  # what is known to lie there
        try:
            (folder / HEAD).write_bytes((remote / HEAD).read_bytes())
        except FileNotFoundError:
            return
        head = self.head()
        for name in head.files if head else ():
            try:
                (remote / name).fetch(folder / name)
                self._there.add(name)
            except FileNotFoundError:  # lost, or another run's by now: nothing is remembered then
                continue

    def save(self, memory: Memory) -> None:
        for name in memory.files:
            if name not in self._there:
                (self._remote / name).put(self.folder / name)
                self._there.add(name)
        super().save(memory)
        (self._remote / HEAD).write_bytes((self.folder / HEAD).read_bytes())
        if memory.finished:
            self._clear_remote(HEAD, memory.sent)

    def forget(self) -> None:
        super().forget()
        with suppress(OSError):
            (self._remote / HEAD).unlink(missing_ok=True)
        self._clear_remote()

    def discard(self, name: str) -> None:
        """Nothing: the copy goes as a whole, and what was uploaded goes with the next run that finishes."""

    def _clear_remote(self, *kept: str | None) -> None:
        """Who may not list or remove keeps what nobody needs."""
        with suppress(OSError):
            gone = [name for name in self._remote.names() if OWN.fullmatch(name) and name not in kept]
            self._remote.unlink_many(gone)


@contextmanager
def opened(state: Path | Remote, namespace: str, view: str) -> Iterator[ViewMemory]:
    """The memory of a view, wherever it is. Raises OSError where it cannot be had."""
    if isinstance(state, Path):
        yield view_memory(state, namespace, view)
        return
    with tempfile.TemporaryDirectory(prefix="feature-store-", ignore_cleanup_errors=True) as folder:
        yield RemoteMemory(state / folder_name(namespace) / folder_name(view), Path(folder))
