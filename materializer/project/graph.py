"""The manifest's graph: what a model is made from, what is made from it, and which node a relation in SQL is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from materializer.errors import FeatureStoreError
from materializer.project.meta import on_demand_of_service, on_demand_of_view
from materializer.project.relation import REFERABLE


class Computed(NamedTuple):
    """A feature that is computed on demand: its expression, and the columns that it reads, each with its node's id."""

    name: str
    expression: str
    reads: tuple[tuple[str, str], ...]


class Graph:
    """Models, seeds, snapshots and sources by unique id and by the name of their relation in SQL.

    Args:
        manifest: dbt's, as it was read.
        built: asks the warehouse for the names of a node's columns; None or nothing where it cannot tell.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        built: Callable[[Mapping[str, Any]], Sequence[str] | None] | None = None,
    ) -> None:
        self.nodes: dict[str, Mapping[str, Any]] = {**manifest["nodes"], **manifest.get("sources", {})}
        self.exposures: Mapping[str, Mapping[str, Any]] = manifest.get("exposures") or {}
        self.adapter = manifest["metadata"].get("adapter_type") or "duckdb"
        self.project = manifest["metadata"].get("project_name")
        self._built = built
        self._asked: dict[str, list[str]] = {}
        self._computed: dict[str, dict[str, Computed]] = {}

    @cached_property
    def dialect(self) -> str:
        """The name by which sqlglot knows the warehouse's SQL; empty, its common SQL, where it does not."""
        from sqlglot.dialects.dialect import Dialect

        name = _DIALECTS.get(self.adapter, self.adapter)
        try:
            Dialect.get_or_raise(name)
        except ValueError:
            return ""
        return name

    @cached_property
    def _by_relation(self) -> dict[str, Mapping[str, Any]]:
        return {relation_key(node["relation_name"]): node for node in self.nodes.values() if node.get("relation_name")}

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for unique_id, node in (*self.nodes.items(), *self.exposures.items()):
            for parent in (node.get("depends_on") or {}).get("nodes") or ():
                children.setdefault(parent, []).append(unique_id)
        return children

    def parents(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The models and sources that a node reads."""
        return [self.nodes[i] for i in (node.get("depends_on") or {}).get("nodes") or () if i in self.nodes]

    def children(self, unique_id: str) -> list[str]:
        """The ids of the nodes and exposures that read a node."""
        return self._children.get(unique_id, [])

    def below(self, unique_id: str) -> list[str]:
        """Everything that reads a node, through others: the ids, each once."""
        found: dict[str, None] = {}
        waiting = [unique_id]
        while waiting:
            for child in self.children(waiting.pop()):
                if child not in found:
                    found[child] = None
                    waiting.append(child)
        return list(found)

    def above(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Everything that a node is made from, nearest first, each once, without the node itself."""
        waiting, seen = self.parents(node), {node.get("unique_id")}
        while waiting:
            one = waiting.pop(0)
            if one["unique_id"] not in seen:
                seen.add(one["unique_id"])
                yield one
                waiting += self.parents(one)

    def upstream_models(self, unique_id: str) -> Iterator[Mapping[str, Any]]:
        """A model and every SQL model of the project above it, nearest first, each once."""
        node = self.nodes[unique_id]
        for one in (node, *self.above(node)):
            if (
                one["resource_type"] == "model"
                and one.get("language", "sql") == "sql"
                and one["package_name"] == self.project
            ):
                yield one

    def sources_above(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Every source that a node is made from."""
        for one in (node, *self.above(node)):
            if one["resource_type"] == "source":
                yield one

    def at(self, relation: str) -> Mapping[str, Any] | None:
        """The model or source that a relation in SQL is."""
        return self._by_relation.get(relation_key(relation))

    def ending(self, relation: str) -> list[Mapping[str, Any]]:
        """The nodes whose relation's name ends so, from some dot on."""
        end = "." + relation_key(relation)
        return [node for key, node in self._by_relation.items() if key.endswith(end)]

    def columns(self, node: Mapping[str, Any]) -> list[str]:
        """The names of a node's columns: as the warehouse has them, else as declared; empty where neither is known."""
        return self.built_columns(node) or self.declared_columns(node)

    def declared_columns(self, node: Mapping[str, Any]) -> list[str]:
        """The names of the columns that a properties file declares, which need not be all."""
        return [column.get("name") or name for name, column in (node.get("columns") or {}).items()]

    def built_columns(self, node: Mapping[str, Any]) -> list[str]:
        """The names of a node's columns in the warehouse, asked once; empty where they are not known."""
        unique_id = node["unique_id"]
        if self._built is not None and unique_id not in self._asked:
            self._asked[unique_id] = list(self._built(node) or ())
        return self._asked.get(unique_id, [])

    @cached_property
    def feature_views(self) -> dict[str, str]:
        """The models, seeds and snapshots that are feature views: their references by unique id."""
        return {unique_id: reference_of(node) for unique_id, node in self.nodes.items() if is_view(node)}

    @cached_property
    def _named_views(self) -> dict[str, str]:
        """The ids of feature views by the names that references use: a bare name is the latest version."""
        found = {reference: unique_id for unique_id, reference in self.feature_views.items()}
        for unique_id in self.feature_views:
            node = self.nodes[unique_id]
            if node.get("version") is not None and node["version"] == node.get("latest_version"):
                found[node["name"]] = unique_id
        return found

    def listed_features(self, exposure: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """The features that a feature service lists: the id of the view's model and the column, by reference."""
        listed = meta_of(exposure).get("features") if exposure.get("type") == "ml" else None
        found = {}
        for reference in listed if isinstance(listed, list) else ():
            view, _, feature = str(reference).partition(":")
            if view in self._named_views:
                found[str(reference)] = (self._named_views[view], feature)
        return found

    def on_demand(self, unique_id: str) -> dict[str, Computed]:
        """What is computed on demand in a feature view, or a feature service, by its name in lower case. Where that is
        not declared as it may be, nothing: whoever reads the declaration says so."""
        if unique_id not in self._computed:
            self._computed[unique_id] = self._found_on_demand(unique_id)
        return self._computed[unique_id]

    def _found_on_demand(self, unique_id: str) -> dict[str, Computed]:
        node = self.exposures.get(unique_id) or self.nodes.get(unique_id) or {}
        meta = meta_of(node)
        view = meta.get("feature_view") if unique_id in self.feature_views else None
        if not (isinstance(view, dict) and "on_demand" in view) and not (
            unique_id in self.exposures and "on_demand" in meta
        ):
            return {}
        try:
            if view is not None:
                found = on_demand_of_view(node["name"], view, node["resource_type"])
            else:
                found = on_demand_of_service(node["name"], meta)
        except FeatureStoreError:
            return {}
        computed = {}
        for name, one in found.items():
            references = [one["inputs"][read].partition(":") for read in one["reads"]] if view is None else []
            known = [(self._named_views[of], column.lower()) for of, _, column in references if of in self._named_views]
            reads = known if view is None else [(unique_id, read.lower()) for read in one["reads"]]
            computed[name.lower()] = Computed(name, one["expression"], tuple(reads))
        return computed

    def mutable_source(self, node: Mapping[str, Any]) -> str | None:
        """The name of the source that a node shows as it is now: the source itself, or a model that only reads it.

        None where its rows do not change once written: ``config.meta.immutable: true`` on the source or model says so.
        """
        if meta_of(node).get("immutable") is True:
            return None
        if node["resource_type"] == "source":
            return f"{node['source_name']}.{node['name']}"
        parents = self.parents(node)
        if node["resource_type"] != "model" or len(parents) != 1:
            return None
        return self.mutable_source(parents[0])


def reference_of(node: Mapping[str, Any]) -> str:
    """How a node is called: its name, ``name.v2`` for a version, ``source.table`` for a source."""
    if node.get("resource_type") == "source":
        return f"{node.get('source_name')}.{node.get('name')}"
    version = node.get("version")
    return f"{node.get('name')}" if version is None else f"{node.get('name')}.v{version}"


def is_view(node: Mapping[str, Any]) -> bool:
    """Whether a node is a feature view: a model, seed or snapshot with ``meta.feature_view``."""
    return node.get("resource_type") in REFERABLE and "feature_view" in meta_of(node)


def meta_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a node, or an entry of a properties file, says under ``config.meta``."""
    config = node.get("config")
    meta = (config.get("meta") if isinstance(config, dict) else None) or node.get("meta")
    return meta if isinstance(meta, dict) else {}


def relation_key(relation: str) -> str:
    """A relation's name without quotes, for comparison."""
    return relation.translate(_QUOTES).lower()


_QUOTES = str.maketrans("", "", "\"`'[]")
# dbt's adapters that sqlglot knows under another name.
_DIALECTS = {
    "sqlserver": "tsql", "synapse": "tsql", "glue": "spark", "impala": "hive", "greenplum": "postgres",
    "timescaledb": "postgres",
}  # fmt: skip
