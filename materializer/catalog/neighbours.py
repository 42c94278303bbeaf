"""The neighbours of a feature view in dbt's graph: what it is made from, who uses it, and what tests it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph


@dataclass(frozen=True)
class Tested:
    """One test: its name, the column it is about (None for the whole view), and its kind, ``data`` or ``unit``."""

    name: str
    column: str | None
    kind: str


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of a view in dbt's graph, by name, sources as ``source.table``."""

    made_from: tuple[str, ...]
    used_by: tuple[str, ...]
    # The services that list each of its features: {"age": ("recommendation",)}.
    services: Mapping[str, tuple[str, ...]]
    tests: tuple[Tested, ...]
    file: str


def neighbours(manifest: Mapping[str, Any], view: FeatureView) -> Neighbours:
    """The neighbours of `view`, which is of this manifest."""
    graph = Graph(manifest)
    node = graph.nodes[view.unique_id]
    services: dict[str, list[str]] = {}
    for exposure in graph.exposures.values():
        for model, feature in graph.listed_features(exposure).values():
            if model == view.unique_id:
                services.setdefault(feature, []).append(exposure["name"])
    above = [
        f"{parent['source_name']}.{parent['name']}" if parent["resource_type"] == "source" else parent["name"]
        for parent in graph.parents(node)
    ]
    below = [graph.nodes.get(i) or graph.exposures[i] for i in graph.children(view.unique_id)]
    users = {one["name"] for one in below if one["resource_type"] not in ("test", "unit_test")}
    listing = {name for names in services.values() for name in names}
    return Neighbours(
        tuple(sorted(above)),
        tuple(sorted(users | listing)),
        {feature: tuple(sorted(names)) for feature, names in services.items()},
        tuple(_tests(manifest, view.unique_id)),
        node["original_file_path"],
    )


def _tests(manifest: Mapping[str, Any], unique_id: str) -> list[Tested]:
    found = []
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and unique_id in (node.get("depends_on") or {}).get("nodes", ()):
            if node.get("attached_node") == unique_id:
                generic = node.get("test_metadata") or {}
                parts = (generic.get("namespace"), generic.get("name") or node["name"])
                found.append(Tested(".".join(filter(None, parts)), node.get("column_name"), "data"))
            elif not node.get("attached_node"):
                found.append(Tested(node["name"], None, "data"))
    for node in (manifest.get("unit_tests") or {}).values():
        if unique_id in (node.get("depends_on") or {}).get("nodes", ()):
            found.append(Tested(node["name"], None, "unit"))
    return sorted(found, key=lambda test: (test.column or "", test.kind, test.name))
