"""Column-level lineage: from a feature back to source columns, and from a column on to what uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from materializer.errors import NotFoundError
from materializer.lineage.values import Column, Constant, Edge, Lineage, Unresolved
from materializer.project.graph import Graph

if TYPE_CHECKING:
    from materializer.lineage.nodes import Nodes

__all__ = [
    "Column", "Constant", "Edge", "Lineage", "Unresolved", "downstream", "known_columns", "lineage_of", "upstream",
]  # fmt: skip


def upstream(graph: Graph, unique_id: str, column: str) -> Lineage:
    """What a column is made from, through models and CTEs, down to columns of sources and seeds.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    from materializer.lineage.walk import walk_up

    return walk_up(known_columns(graph), unique_id, _spelled(graph, unique_id, column))


def downstream(graph: Graph, unique_id: str, column: str) -> Lineage:
    """What is made from a column: columns of models, features of views, feature services and other exposures.

    Raises:
        NotFoundError: where there is no such node, or it has no such column, naming those it has.
    """
    from materializer.lineage.walk import walk_down

    return walk_down(known_columns(graph), unique_id, _spelled(graph, unique_id, column))


def lineage_of(graph: Graph, reference: str, downstream: bool = False) -> list[Lineage]:
    """The lineage of the column that a reference means, or of each column where it names a whole view or model.

    Args:
        graph: of the manifest.
        reference: ``view:feature``, ``view.v2:feature``, ``model:column``, ``source.table:column`` or the name alone.
        downstream: what is made from it, in place of what it is made from.

    Raises:
        InputError: for what is no reference.
        NotFoundError: naming what there is.
    """
    from materializer.lineage.reference import find_columns
    from materializer.lineage.walk import walk_down, walk_up

    walk = walk_down if downstream else walk_up
    return [
        walk(known_columns(graph), unique_id, name) for unique_id, name in find_columns(known_columns(graph), reference)
    ]


def known_columns(graph: Graph) -> Nodes:
    """What is known of a graph's columns, kept with it: each model's SQL is read once."""
    from materializer.lineage.nodes import Nodes

    if "_columns_known" not in vars(graph):
        graph._columns_known = Nodes(graph)
    return graph._columns_known


def _spelled(graph: Graph, unique_id: str, column: str) -> str:
    """The column's name as the node has it."""
    if unique_id not in graph.nodes:
        raise NotFoundError(f"The manifest has no node '{unique_id}'.")
    node = known_columns(graph).node(unique_id)
    found = node.find(column)
    if found is None:
        sentence = node.lacks(column)
        raise NotFoundError(sentence[0].upper() + sentence[1:])
    return found.name
