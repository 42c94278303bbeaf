"""What a user calls a column: ``user_features:age``, ``user_features.v2:age``, ``raw.users:age``, ``stg_users:age``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from materializer.errors import InputError, NotFoundError
from materializer.project.graph import Computed, Graph, meta_of, reference_of
from materializer.sql.reader import Node, Reader
from materializer.sql.steps import Ref

_KINDS = ("model", "snapshot", "seed", "source")


def find_column(reader: Reader, unique_id: str, column: str) -> Ref:
    """The column of a node, by its name in any case."""
    if unique_id not in reader.graph.nodes:
        raise NotFoundError(f"The manifest has no node '{unique_id}'.")
    node, name = reader.node(unique_id), column.lower()
    taken = name if node.scope is None else node.passed(node.scope, name)
    if name in reader.graph.on_demand(unique_id):
        return Ref(node, None, reader.graph.on_demand(unique_id)[name].name)
    if name in node.columns or (node.may_have and taken):
        return Ref(node, None, name)
    sentence = node.lacks(column)
    raise NotFoundError(sentence[0].upper() + sentence[1:])


def columns_named(reader: Reader, reference: str) -> list[Ref]:
    """The columns that a reference means: one, or all where it names only the node; of a view its features."""
    unique_id, (name, _, column) = node_named(reader.graph, reference), reference.partition(":")
    node = reader.node(unique_id)
    if column:
        try:
            return [find_column(reader, unique_id, column)]
        except NotFoundError:
            view = reader.graph.feature_views.get(unique_id)
            if view is None:
                raise
            computed = [one.name for one in reader.graph.on_demand(unique_id).values()]
            there = ", ".join(_features(reader, node) + computed) or "none"
            raise NotFoundError(f"Feature view '{view}' has no feature '{column}'; it has: {there}.") from None
    if not node.columns:
        why = node.problem or f"The columns of {node.title} are not known"
        raise NotFoundError(f"{why.rstrip('.')}: name the one you mean, as '{name}:column'.")
    stored = [Ref(node, None, one.lower()) for one in _features(reader, node)]
    return stored + [Ref(node, None, one.name) for one in reader.graph.on_demand(unique_id).values()]


def service_named(graph: Graph, reference: str) -> tuple[str, Computed] | None:
    """The id of the feature service, and its on-demand feature, that ``service:feature`` names; None for all else."""
    name, _, feature = reference.partition(":")
    for unique_id, exposure in graph.exposures.items():
        computed = graph.on_demand(unique_id).get(feature.lower()) if exposure.get("name") == name else None
        if computed:
            return unique_id, computed
    return None


def _features(reader: Reader, node: Node) -> list[str]:
    """The features of a view; of any other node its columns."""
    view = meta_of(node.about).get("feature_view")
    if node.id not in reader.graph.feature_views or not isinstance(view, dict):
        return list(node.columns.values())
    keys = view.get("entities") if isinstance(view.get("entities"), list) else []
    times = (view.get("timestamp", "event_timestamp"), view.get("created_timestamp"))
    apart = {str(one).lower() for one in (*keys, *times)}
    return [name for folded, name in node.columns.items() if folded not in apart]


def node_named(graph: Graph, reference: str) -> str:
    """The id of the model, snapshot, seed or source that a reference names; without a version the latest one.

    Raises:
        InputError: for what is no reference.
        NotFoundError: naming the nearest there are.
    """
    name, colon, column = reference.partition(":")
    if not name or (colon and not column) or ":" in column:
        raise InputError(
            f"'{reference}' is no column's name: write 'view:feature', 'model:column' or 'source.table:column', or "
            "the name of a view for all of its features."
        )
    nodes = graph.nodes
    if name in nodes:
        return name
    end = name.rpartition(".")[2]
    near = [one for one in nodes if one.endswith(end) or f".{name}.v" in one]
    found = [unique_id for unique_id in near if name in _called(nodes[unique_id])]
    own = [unique_id for unique_id in found if nodes[unique_id].get("package_name") == graph.project]
    if len(own or found) == 1:
        return (own or found)[0]
    if found:
        raise NotFoundError(f"'{name}' is ambiguous: name one of {', '.join(sorted(found))}.")
    there = {reference_of(node) for node in nodes.values() if node.get("resource_type") in _KINDS}
    close = difflib.get_close_matches(name, sorted(there), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`dbt ls` lists those there are."
    raise NotFoundError(f"There is no model, snapshot, seed or source '{name}' in the manifest; {hint}")


def _called(node: Mapping[str, object]) -> set[str]:
    """What a node may be called by: with its package, without a version where that is the latest."""
    if node.get("resource_type") not in _KINDS:
        return set()
    called = {reference_of(node), f"{node.get('package_name')}.{reference_of(node)}"}
    if node.get("version") is not None and node["version"] == node.get("latest_version"):
        called.add(str(node.get("name")))
    return called
