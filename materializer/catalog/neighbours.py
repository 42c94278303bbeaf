"""The neighbours of models in dbt's graph: what they are made from, who uses them, and what tests them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from materializer.project.definitions import FeatureView
from materializer.project.graph import Graph, reference_of

# Models that call one of these are training sets.
_TRAINING = ("macro.feature_store.point_in_time_join", "macro.feature_store.aggregate_as_of")


@dataclass(frozen=True)
class Tested:
    """One test: its name, the column it is about (None for the whole view), and its kind, ``data`` or ``unit``."""

    name: str
    column: str | None
    kind: str
    unique_id: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of a node in dbt's graph, by name, sources as ``source.table``."""

    made_from: tuple[str, ...]
    used_by: tuple[str, ...]
    # The services that list each of its features: {"age": ("recommendation",)}.
    services: Mapping[str, tuple[str, ...]]
    tests: tuple[Tested, ...]
    file: str


def neighbours(manifest: Mapping[str, Any], view: FeatureView) -> Neighbours:
    """The neighbours of `view`, which is of this manifest."""
    return Neighbourhood(Graph(manifest), manifest).of(view.unique_id)


class Neighbourhood:
    """The neighbours of every node of a manifest, whose tests and services are gone through once."""

    def __init__(self, graph: Graph, manifest: Mapping[str, Any]) -> None:
        self.graph = graph
        self._tests: dict[str, list[Tested]] = {}
        # By model and feature the ids of the services that list it.
        self._services: dict[str, dict[str, dict[str, None]]] = {}
        for unique_id, exposure in graph.exposures.items():
            for model, feature in graph.listed_features(exposure).values():
                self._services.setdefault(model, {}).setdefault(feature, {})[unique_id] = None
        for unique_id, node in manifest["nodes"].items():
            if node["resource_type"] == "test":
                self._add_test(unique_id, node)
        for unique_id, node in (manifest.get("unit_tests") or {}).items():
            for tested in dict.fromkeys((node.get("depends_on") or {}).get("nodes", ())):
                self._tests.setdefault(tested, []).append(Tested(node["name"], None, "unit", unique_id))

    def of(self, unique_id: str) -> Neighbours:
        """The neighbours of a node."""
        graph, node = self.graph, self.graph.nodes[unique_id]
        users = [graph.nodes.get(one) or graph.exposures[one] for one in self.users(unique_id)]
        return Neighbours(
            tuple(sorted(_called(parent) for parent in graph.parents(node))),
            tuple(sorted({one["name"] for one in users})),
            {
                feature: tuple(sorted(graph.exposures[one]["name"] for one in ids))
                for feature, ids in self._services.get(unique_id, {}).items()
            },
            tuple(self.tests(unique_id)),
            node["original_file_path"],
        )

    def users(self, unique_id: str) -> list[str]:
        """The ids of the nodes and exposures that read a node, or list a feature of it; tests are no users."""
        listing = [one for ids in self._services.get(unique_id, {}).values() for one in ids]
        below = [
            one
            for one in self.graph.children(unique_id)
            if (self.graph.nodes.get(one) or self.graph.exposures[one])["resource_type"] not in ("test", "unit_test")
        ]
        return list(dict.fromkeys((*listing, *below)))

    def tests(self, unique_id: str) -> list[Tested]:
        """The tests of a node, by column."""
        return sorted(self._tests.get(unique_id, ()), key=lambda one: (one.column or "", one.kind, one.name))

    def kind_of(self, unique_id: str) -> str:
        """What a node is called: view, training set, service, exposure, or as dbt calls it."""
        if unique_id in self.graph.feature_views:
            return "view"
        exposure = self.graph.exposures.get(unique_id)
        if exposure is not None:
            return "service" if exposure.get("type") == "ml" else "exposure"
        node = self.graph.nodes[unique_id]
        macros = (node.get("depends_on") or {}).get("macros") or ()
        return "training set" if any(one in macros for one in _TRAINING) else str(node["resource_type"])

    def _add_test(self, unique_id: str, node: Mapping[str, Any]) -> None:
        attached = node.get("attached_node")
        if attached:
            generic = node.get("test_metadata") or {}
            name = ".".join(filter(None, (generic.get("namespace"), generic.get("name") or node["name"])))
            arguments = {
                key: value
                for key, value in (generic.get("kwargs") or {}).items()
                if key not in ("model", "column_name")
            }
            tested = Tested(name, node.get("column_name"), "data", unique_id, arguments)
        else:
            tested = Tested(node["name"], None, "data", unique_id)
        for one in [attached] if attached else dict.fromkeys((node.get("depends_on") or {}).get("nodes", ())):
            self._tests.setdefault(one, []).append(tested)


def _called(node: Mapping[str, Any]) -> str:
    return reference_of(node) if node["resource_type"] == "source" else node["name"]
