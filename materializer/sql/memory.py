"""What was read of models, kept in a file: the next time only those are read on which something has changed.

A model is taken from the file where all is as it was that reading it looks at: its SQL and properties and those of
every node above it, the columns that these have in the warehouse, what nodes and relations are called, and this code.
One that reads a table of the project that does not stand above it is never kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import sqlglot

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph
from materializer.sql.columns import MANY, Read, read_columns, slim

_PACKAGE = Path(__file__).parents[1]
_CALLED = ("unique_id", "resource_type", "relation_name", "schema", "name", "alias", "identifier")


class _Kept(msgspec.Struct):
    reads: dict[str, tuple[str, Read]]


class Memory:
    """What the file at `path` has of a graph's models; `known` is what still holds."""

    def __init__(self, path: Path, graph: Graph, views: Mapping[str, FeatureView]) -> None:
        self._path, self._graph, self._views = path, graph, views
        self._keys = _keys_of(graph, views)
        try:
            kept = msgspec.msgpack.decode(path.read_bytes(), type=_Kept).reads
        except (OSError, msgspec.MsgspecError, RecursionError):
            kept = {}  # missing, or of another release
        self.known = {one: read for one, (key, read) in kept.items() if self._keys.get(one) == key}

    def read(self, workers: int) -> dict[str, Read]:
        """All models, as `read_columns`; of a large graph they are kept, where the file can be written."""
        reads = read_columns(self._graph, self._views, workers, self.known)
        if len(reads) >= MANY and len(reads) > len(self.known):
            kept = _Kept({one: (self._keys[one], read) for one, read in reads.items() if not read.beside})
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                partial = self._path.with_suffix(f".{os.getpid()}")
                partial.write_bytes(msgspec.msgpack.encode(kept))
                partial.replace(self._path)
        return reads


def _keys_of(graph: Graph, views: Mapping[str, FeatureView]) -> dict[str, str]:
    """By the id of a node the digest of all that it is read from."""
    nodes = graph.nodes
    called = [[node.get(name) for name in _CALLED] for node in nodes.values()]
    around = _digest([graph.adapter, graph.project, sqlglot.__version__, _code(), called])
    keys: dict[str, str] = {}
    waiting, begun = list(nodes), set()
    while waiting:
        one = waiting[-1]
        above = [up["unique_id"] for up in graph.parents(nodes[one])]
        left = [up for up in above if up not in keys and up not in begun]
        if one not in keys and one not in begun and left:
            begun.add(one)
            waiting += left
            continue
        waiting.pop()
        if one not in keys:
            facts = [around, slim(nodes[one]), graph.built_columns(nodes[one]), repr(views.get(one))]
            keys[one] = _digest([*facts, [[up, keys.get(up)] for up in above]])
    return keys


def _code() -> list[str]:
    """The code that reads: what it finds may change with it."""
    files = sorted(path for room in ("sql", "project") for path in (_PACKAGE / room).glob("*.py"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic", enc_hook=repr)).hexdigest()
