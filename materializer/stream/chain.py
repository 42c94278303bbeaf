"""The models between streamed sources and feature views, as dbt's graph has them, and what these read beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from materializer.project.graph import Graph


@dataclass(frozen=True)
class Chain:
    """Nodes by unique id.

    Attributes:
        models: those that read streams, with the views themselves, each after what it reads.
        static: what they read beside them.
        built: all that the views are made from and dbt builds, these among it.
    """

    models: tuple[str, ...]
    static: tuple[str, ...]
    built: tuple[str, ...]


def chain_of(graph: Graph, sources: Collection[str], views: Sequence[str]) -> Chain:
    """What some views are made from. An ephemeral model is a part of others' SQL, and none of these."""
    reads: dict[str, bool] = {}
    models: dict[str, None] = {}
    static: dict[str, None] = {}

    def visit(unique_id: str) -> bool:
        if unique_id in reads:
            return reads[unique_id]
        reads[unique_id] = unique_id in sources
        parents = _parents(graph, unique_id)
        found = [visit(parent) for parent in parents]
        reads[unique_id] |= any(found)
        if reads[unique_id]:
            for parent in parents:
                if not reads[parent]:
                    static.update(dict.fromkeys(_tables(graph, parent)))
            if unique_id not in sources and not _is_ephemeral(graph, unique_id):
                models[unique_id] = None
        return reads[unique_id]

    for one in views:
        visit(one)
    built = [one for one in reads if _is_built(graph, one)]
    return Chain(tuple(models), tuple(static), tuple(built))


def _parents(graph: Graph, unique_id: str) -> list[str]:
    return list((graph.nodes.get(unique_id, {}).get("depends_on") or {}).get("nodes") or ())


def _is_ephemeral(graph: Graph, unique_id: str) -> bool:
    return (graph.nodes.get(unique_id, {}).get("config") or {}).get("materialized") == "ephemeral"


def _is_built(graph: Graph, unique_id: str) -> bool:
    node = graph.nodes.get(unique_id, {})
    return node.get("resource_type") in ("model", "seed", "snapshot") and not _is_ephemeral(graph, unique_id)


def _tables(graph: Graph, unique_id: str) -> Iterator[str]:
    """A node that reads no stream, or, where it is only a part of others' SQL, what it reads."""
    if _is_ephemeral(graph, unique_id):
        for parent in _parents(graph, unique_id):
            yield from _tables(graph, parent)
    elif graph.nodes.get(unique_id, {}).get("relation_name"):
        yield unique_id
