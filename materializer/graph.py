"""The manifest's graph, as the lint asks it: what a model is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Graph:
    """Models and sources by unique id and by the name of their relation in SQL."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.nodes: dict[str, Mapping[str, Any]] = {**manifest["nodes"], **manifest.get("sources", {})}
        self.dialect = manifest["metadata"].get("adapter_type") or "duckdb"
        self._project = manifest["metadata"].get("project_name")
        self._by_relation = {
            relation_key(node["relation_name"]): node for node in self.nodes.values() if node.get("relation_name")
        }

    def parents(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The models and sources that a node reads."""
        return [self.nodes[i] for i in node.get("depends_on", {}).get("nodes", ()) if i in self.nodes]

    def upstream_models(self, unique_id: str) -> Iterator[Mapping[str, Any]]:
        """A model and every SQL model of the project above it, nearest first, each once."""
        waiting, seen = [self.nodes[unique_id]], set()
        while waiting:
            node = waiting.pop(0)
            if node["unique_id"] in seen:
                continue
            seen.add(node["unique_id"])
            waiting += self.parents(node)
            if (
                node["resource_type"] == "model"
                and node.get("language", "sql") == "sql"
                and node["package_name"] == self._project
            ):
                yield node

    def sources_above(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Every source that a node is made from."""
        seen: set[str] = set()
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if one["unique_id"] not in seen:
                seen.add(one["unique_id"])
                if one["resource_type"] == "source":
                    yield one
                waiting += self.parents(one)

    def at(self, relation: str) -> Mapping[str, Any] | None:
        """The model or source that a relation in SQL is."""
        return self._by_relation.get(relation_key(relation))

    def mutable_source(self, node: Mapping[str, Any]) -> str | None:
        """The name of the source that a node shows as it is now: the source itself, or a model that only reads it.

        None where its rows do not change once written: ``config.meta.immutable: true`` on the source or model says so.
        """
        meta = (node.get("config") or {}).get("meta") or node.get("meta") or {}
        if meta.get("immutable") is True:
            return None
        if node["resource_type"] == "source":
            return f"{node['source_name']}.{node['name']}"
        parents = self.parents(node)
        if node["resource_type"] != "model" or len(parents) != 1:
            return None
        return self.mutable_source(parents[0])


def relation_key(relation: str) -> str:
    """A relation's name without quotes, for comparison."""
    return relation.replace('"', "").replace("`", "").lower()
