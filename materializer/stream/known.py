"""Which entities a view has online, where it streams by some of its join keys only.

The events of a user tell of the pairs that she has now, not of those that she has no more: these are known from before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from materializer.online.keys import view_prefix
from materializer.project.definitions import FeatureView


class Known:
    """Keys of Redis by the `keys` among a view's join keys."""

    def __init__(self, namespace: str, view: FeatureView, keys: Sequence[str]) -> None:
        self._start = len(view_prefix(namespace, view.reference).encode())
        self._places = [view.join_keys.index(key) for key in keys]
        self._online: dict[tuple[bytes, ...], set[bytes]] = {}

    def learn(self, names: Iterable[bytes]) -> None:
        """These are online."""
        for name in names:
            parts = name[self._start :].split(b":")
            self._online.setdefault(tuple(parts[place] for place in self._places), set()).add(name)

    def replace(self, asked: Iterable[bytes], sent: Sequence[bytes]) -> list[bytes]:
        """Of entities that were `asked` for, by keys of `keys` alone, those in `sent` are online now: the others."""
        groups = [tuple(name[self._start :].split(b":")) for name in asked]
        before = [name for group in groups for name in self._online.pop(group, ())]
        self.learn(sent)
        return sorted(set(before) - set(sent))
