"""The rule for features that two views compute alike: which of them is right, once one is changed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph

if TYPE_CHECKING:
    from materializer.lineage.nodes import Nodes
    from materializer.lint.signature import Signatures

# A feature by its view and name.
Named = tuple[FeatureView, str]


def duplicates(graph: Graph, views: Sequence[FeatureView], chosen: Sequence[FeatureView]) -> list[tuple[Named, Named]]:
    """Features of `chosen` views that another of `views` has too, whatever each is called there.

    They are the same where their expressions are, resolved down to source columns, over the same rows, for the same
    entities, with event times from the same columns. Versions of one view are not compared with each other, nor are
    constants.

    Returns:
        the feature and the other one that is like it; of two chosen views the later one is told.
    """
    from materializer.lineage import known_columns
    from materializer.lint.signature import Signatures

    nodes, signatures = known_columns(graph), Signatures()
    names = {view.unique_id for view in chosen}
    alike: dict[object, list[Named]] = {}
    for view in sorted(_comparable(graph, views, names), key=lambda one: (one.unique_id in names, one.reference)):
        for feature, signature in _signatures(nodes, signatures, view):
            alike.setdefault(signature, []).append((view, feature))
    told = []
    for features in alike.values():
        if len({view.name for view, _ in features}) > 1:
            told += [pair for pair in _pairs(nodes, features) if pair[0][0].unique_id in names]
    return told


def _comparable(graph: Graph, views: Sequence[FeatureView], names: set[str]) -> list[FeatureView]:
    """The views that are made from the very sources that another one is made from, one of both being asked for.

    Others cannot be over the same rows, and a large project's SQL takes a while to read.
    """
    groups: dict[frozenset[str], list[FeatureView]] = {}
    for view in views:
        above = [node for node in graph.above(graph.nodes[view.unique_id]) if not graph.parents(node)]
        groups.setdefault(frozenset(str(node["unique_id"]) for node in above), []).append(view)
    several = [same for same in groups.values() if len({view.name for view in same}) > 1]
    return [view for same in several if any(one.unique_id in names for one in same) for view in same]


def _signatures(nodes: Nodes, signatures: Signatures, view: FeatureView) -> Iterator[tuple[str, object]]:
    """The features of a view whose SQL can be followed, each with what it computes, over which rows, for which keys."""
    from materializer.lineage.relations import Ref
    from materializer.lint.expression import Unknown

    node = nodes.node(view.unique_id)
    outputs = node.outputs()
    if node.body is None or not outputs:
        return
    spelled = {output.name.casefold(): output.name for output in outputs}
    try:
        rows = signatures.rows(node)
        keys = frozenset(signatures.column(Ref(node, spelled[name.casefold()])) for name in view.join_keys)
    except (Unknown, RecursionError, KeyError):
        return
    apart = {name.casefold() for name in (*view.join_keys, view.timestamp, view.created_timestamp) if name}
    for folded, name in spelled.items():
        if folded not in apart:
            try:
                yield name, (signatures.column(Ref(node, name)), rows, keys)
            except (Unknown, RecursionError):
                continue


def _pairs(nodes: Nodes, features: Sequence[Named]) -> Iterator[tuple[Named, Named]]:
    """Of features that compute alike those that are so indeed: over the same times, and made from something."""
    from materializer.lineage.walk import walk_up

    first: dict[object, Named] = {}
    for view, feature in features:
        lineage = walk_up(nodes, view.unique_id, feature)
        if lineage.unresolved or not (lineage.sources or lineage.counted):
            continue
        node = nodes.node(view.unique_id)
        times = [node.find(name) for name in (view.timestamp, view.created_timestamp) if name]
        known = [walk_up(nodes, view.unique_id, time.name).sources for time in times if time is not None]
        before = first.setdefault(tuple(frozenset(sources) for sources in known), (view, feature))
        if before[0].name != view.name and len(known) == len(times):
            yield (view, feature), before


def place_of(feature: str, model: Mapping[str, object]) -> tuple[str, str | None]:
    """The file that a finding about a feature points at, and the word in it: its declaration, else the model's file."""
    columns = model.get("columns")
    declared = {str(name).casefold() for name in columns} if isinstance(columns, Mapping) else set()
    if model.get("patch_path") and feature.casefold() in declared:
        return str(model["patch_path"]).split("://")[-1], feature
    return str(model["original_file_path"]), None
