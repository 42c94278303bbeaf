"""What a user calls a column: ``user_features:age``, ``user_features.v2:age``, ``raw.users:age``, ``stg_users:age``."""

from __future__ import annotations

import difflib

from materializer.errors import InputError, NotFoundError
from materializer.lineage.nodes import Nodes
from materializer.project.graph import Graph, meta_of, reference_of

_KINDS = ("model", "snapshot", "seed", "source")


def find_columns(nodes: Nodes, reference: str) -> list[tuple[str, str]]:
    """The unique id and name of each column that a reference means: one, or all of them where it names only the node.

    Of a feature view all means all features. Names of columns match in any case.

    Raises:
        InputError: for what is no reference.
        NotFoundError: naming what there is.
    """
    name, colon, column = reference.partition(":")
    if not name or (colon and not column) or ":" in column:
        raise InputError(
            f"'{reference}' is no column's name: write 'view:feature', 'model:column' or 'source.table:column', or "
            "the name of a view for all of its features."
        )
    unique_id = find_node(nodes.graph, name)
    node = nodes.node(unique_id)
    if column:
        found = node.find(column) or node.find(column.lower())
        if found is None:
            raise NotFoundError(_lacks(nodes, unique_id, column))
        return [(unique_id, found.name)]
    columns = _features(nodes, unique_id)
    if not columns:
        why = node.problem or f"The columns of {node.title} are not known"
        raise NotFoundError(f"{why.rstrip('.')}: name the one you mean, as '{name}:column'.")
    return [(unique_id, one) for one in columns]


def find_node(graph: Graph, name: str) -> str:
    """The unique id of the model, snapshot, seed or source of that name; without a version the latest one.

    Raises:
        NotFoundError: naming the nearest there are.
    """
    if name in graph.nodes:
        return name
    end = name.rpartition(".")[2]
    near = [one for one in graph.nodes if one.endswith(end) or f".{name}.v" in one]
    found = [unique_id for unique_id in near if name in _called(graph, unique_id)]
    own = [unique_id for unique_id in found if graph.nodes[unique_id].get("package_name") == graph.project]
    if len(own or found) == 1:
        return (own or found)[0]
    if found:
        raise NotFoundError(f"'{name}' is ambiguous: name one of {', '.join(sorted(found))}.")
    there = {reference_of(node) for node in graph.nodes.values() if node.get("resource_type") in _KINDS}
    near = difflib.get_close_matches(name, sorted(there), 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`dbt ls` lists those there are."
    raise NotFoundError(f"There is no model, snapshot, seed or source '{name}' in the manifest; {hint}")


def _called(graph: Graph, unique_id: str) -> set[str]:
    """What a node may be called by: with its package, without a version where that is the latest."""
    node = graph.nodes[unique_id]
    if node.get("resource_type") not in _KINDS:
        return set()
    called = {reference_of(node), f"{node.get('package_name')}.{reference_of(node)}"}
    if node.get("version") is not None and node["version"] == node.get("latest_version"):
        called.add(str(node.get("name")))
    return called


def _features(nodes: Nodes, unique_id: str) -> list[str]:
    """The features of a view; of any other node its columns."""
    node = nodes.node(unique_id)
    outputs = node.outputs()
    names = [output.name for output in outputs] if outputs else nodes.graph.columns(node.about)
    view = meta_of(node.about).get("feature_view")
    if unique_id not in nodes.graph.feature_views or not isinstance(view, dict):
        return names
    keys = view.get("entities") if isinstance(view.get("entities"), list) else []
    apart = {
        str(one).lower() for one in (*keys, view.get("timestamp", "event_timestamp"), view.get("created_timestamp"))
    }
    return [name for name in names if name.lower() not in apart]


def _lacks(nodes: Nodes, unique_id: str, column: str) -> str:
    node = nodes.node(unique_id)
    if unique_id not in nodes.graph.feature_views:
        sentence = node.lacks(column)
        return sentence[0].upper() + sentence[1:]
    features = ", ".join(_features(nodes, unique_id)) or "none"
    return f"Feature view '{nodes.graph.feature_views[unique_id]}' has no feature '{column}'; it has: {features}."
