"""What is declared, as the catalog's document has it: views, services, entities, models and sources, out of the
manifest and the columns that the warehouse has. Docs: catalog-document.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from materializer.catalog.neighbours import Neighbourhood
from materializer.project.definitions import Feature, FeatureService, FeatureView, entities_of
from materializer.project.graph import Graph, reference_of
from materializer.project.render import PACKAGE
from materializer.warehouse.join_keys import type_name

Part = dict[str, Any]
# The names of a node's columns with the warehouse's names of their types, in order; empty where neither is known.
Types = Mapping[str, str]


class Names:
    """What each node is called in the document: a name of its own, whatever else is called so."""

    def __init__(self, graph: Graph) -> None:
        self.of: dict[str, str] = {}
        taken: set[str] = set()
        nodes = sorted(graph.nodes.items(), key=lambda one: one[1].get("package_name") != graph.project)
        for unique_id, node in nodes:
            if node.get("resource_type") in ("model", "seed", "snapshot", "source"):
                name = reference_of(node)
                self.of[unique_id] = name if name not in taken else f"{node.get('package_name')}.{name}"
                taken.add(self.of[unique_id])
        for unique_id, exposure in graph.exposures.items():
            self.of[unique_id] = exposure["name"]

    def __getitem__(self, unique_id: str) -> str:
        return self.of.get(unique_id, unique_id)


def view_part(view: FeatureView, types: Types | None = None) -> Part:
    """A view by itself, as it is declared or published."""
    types = {name.lower(): text for name, text in (types or {}).items()}
    return {
        "name": view.reference,
        "model": view.name,
        "version": view.version,
        "latest": view.latest,
        "description": view.description.strip(),
        "owner": {"group": None, "name": view.owner, "email": None} if view.owner else None,
        "tags": _tags(view.tags),
        "entities": list(view.join_keys),
        "timestamp": view.timestamp,
        "created_timestamp": view.created_timestamp,
        "available_after_seconds": _seconds(view.available_after),
        "ttl_seconds": _seconds(view.ttl),
        "warn_after_seconds": _seconds(view.warn_after),
        "error_after_seconds": _seconds(view.error_after),
        "features": [feature_part(one, types.get(one.name.lower())) for one in view.all_features],
    }


def feature_part(feature: Feature, sql_type: str | None = None) -> Part:
    """A feature by itself; `on_demand` says how it is computed, where it is not stored."""
    how = feature.on_demand
    arrow = None if feature.dtype is None else type_name(feature.dtype)
    computed = how and {
        "expression": how.expression,
        "request": {name: declared.lower() for name, declared in how.request.items()},
        "reads": list(how.reads.values()),
    }
    return {
        "name": feature.name,
        "type": (sql_type or "").lower() or arrow,
        "arrow_type": arrow,
        "description": feature.description.strip(),
        "on_demand": computed,
    }


def service_part(service: FeatureService) -> Part:
    """A service by itself, as it is declared or published."""
    return {
        "name": service.name,
        "description": service.description.strip(),
        "owner": {"group": None, "name": service.owner, "email": None} if service.owner else None,
        "tags": _tags(service.tags),
        "features": list(service.references),
        "on_demand": [feature_part(one) for one in service.on_demand],
    }


def entity_parts(views: Iterable[FeatureView]) -> list[Part]:
    """The join keys of views, by name."""
    views = list(views)
    by_key: dict[str, list[str]] = {}
    for view in views:
        for name in view.join_keys:
            by_key.setdefault(name, []).append(view.reference)
    return [
        {
            "name": entity.name,
            "type": entity.dtype and type_name(entity.dtype),
            "description": entity.description.strip(),
            "views": sorted(by_key[entity.name]),
        }
        for entity in sorted(entities_of(views), key=lambda one: one.name)
    ]


class Declared:
    """The parts of a manifest, with what stands around them in its graph."""

    def __init__(self, graph: Graph, manifest: Mapping[str, Any], results: Mapping[str, Part]) -> None:
        self.graph, self.names = graph, Names(graph)
        self._around = Neighbourhood(graph, manifest)
        self._groups = {group["name"]: group for group in (manifest.get("groups") or {}).values()}
        self._results = results

    def view(self, view: FeatureView, types: Types, versions: Sequence[FeatureView]) -> Part:
        """A view with its model; `versions` are all of its model's, where it has any."""
        node = self.graph.nodes[view.unique_id]
        contract = (node.get("config") or {}).get("contract") or {}
        return {
            **view_part(view, types),
            **self._model(view.unique_id, node),
            "owner": self._owner(node),
            "contract": bool(contract.get("enforced")),
            "versions": [
                {"name": one.reference, "version": one.version, "latest": one.latest, "file": self._file(one.unique_id)}
                for one in versions
            ]
            if view.version is not None
            else None,
        }

    def model(self, unique_id: str, types: Types) -> Part:
        """A model, snapshot or seed that is no view."""
        node = self.graph.nodes[unique_id]
        return {
            "name": self.names[unique_id],
            "description": (node.get("description") or "").strip(),
            "kind": self._around.kind_of(unique_id),
            **self._model(unique_id, node),
            "owner": self._owner(node),
            "tags": list(node.get("tags") or ()),
            "columns": _columns(node, types),
        }

    def source(self, unique_id: str, types: Types) -> Part:
        """A source."""
        node = self.graph.nodes[unique_id]
        config = node.get("config") or {}
        limits = config.get("freshness") or node.get("freshness") or {}
        return {
            "name": self.names[unique_id],
            "description": (node.get("description") or "").strip(),
            "location": str(node.get("relation_name") or "").strip("'").replace('"', ""),
            "columns": _columns(node, types),
            "loaded_at": config.get("loaded_at_field") or node.get("loaded_at_field"),
            "warn_after_seconds": _limit(limits.get("warn_after")),
            "error_after_seconds": _limit(limits.get("error_after")),
            "file": self._file(unique_id),
            "tags": list(node.get("tags") or ()),
            "used_by": self._used_by(unique_id),
        }

    def service(self, service: FeatureService, unique_id: str) -> Part:
        """A service with what its exposure says beside it."""
        exposure = self.graph.exposures[unique_id]
        owner = exposure.get("owner") or {}
        return {
            **service_part(service),
            "label": exposure.get("label") or None,
            "owner": {"group": None, "name": owner.get("name"), "email": _one(owner.get("email"))},
            "maturity": exposure.get("maturity"),
            "url": exposure.get("url"),
            "file": exposure.get("original_file_path"),
        }

    def models(self) -> list[str]:
        """The ids of the models, snapshots and seeds that are no views and none of the package's own, by name."""
        found = [
            unique_id
            for unique_id, node in self.graph.nodes.items()
            if node.get("resource_type") in ("model", "seed", "snapshot")
            and unique_id not in self.graph.feature_views
            and node.get("package_name") != PACKAGE
        ]
        return sorted(found, key=self.names.__getitem__)

    def sources(self) -> list[str]:
        """The ids of the sources, by name."""
        found = [one for one, node in self.graph.nodes.items() if node.get("resource_type") == "source"]
        return sorted(found, key=self.names.__getitem__)

    def _model(self, unique_id: str, node: Mapping[str, Any]) -> Part:
        result = self._results.get(unique_id) or {}
        return {
            "relation": str(node.get("relation_name") or "").replace('"', "").replace("`", "") or None,
            "file": self._file(unique_id),
            "materialized": (node.get("config") or {}).get("materialized"),
            "sql": node.get("raw_code") or None,
            "compiled": node.get("compiled_code") or None,
            "reads": [self.names[one["unique_id"]] for one in self.graph.parents(node)],
            "used_by": self._used_by(unique_id),
            "tests": [self._test(one) for one in self._around.tests(unique_id)],
            "status": result.get("status"),
            "built_at": result.get("at"),
        }

    def _used_by(self, unique_id: str) -> list[Part]:
        users = [(self._around.kind_of(one), self.names[one]) for one in self._around.users(unique_id)
                 if (self.graph.nodes.get(one) or {}).get("package_name") != PACKAGE]  # fmt: skip
        order = ("service", "view", "training set")
        users.sort(key=lambda one: (order.index(one[0]) if one[0] in order else len(order), one[1]))
        return [{"kind": kind, "name": name} for kind, name in users]

    def _test(self, tested: Any) -> Part:
        result = self._results.get(tested.unique_id) or {}
        return {
            "name": tested.name,
            "column": tested.column,
            "kind": tested.kind,
            "arguments": {name: _plain(value) for name, value in tested.arguments.items()},
            "status": result.get("status"),
            "failures": result.get("failures"),
            "seconds": result.get("seconds"),
        }

    def _owner(self, node: Mapping[str, Any]) -> Part | None:
        group = (node.get("config") or {}).get("group") or node.get("group")
        if not group:
            return None
        owner = (self._groups.get(group) or {}).get("owner") or {}
        return {"group": group, "name": owner.get("name") or group, "email": _one(owner.get("email"))}

    def _file(self, unique_id: str) -> str | None:
        return (self.graph.nodes.get(unique_id) or {}).get("original_file_path")


def _columns(node: Mapping[str, Any], types: Types) -> list[Part]:
    declared = {name.lower(): column for name, column in (node.get("columns") or {}).items()}
    names = list(types) or [str(column.get("name") or name) for name, column in declared.items()]
    return [
        {
            "name": name,
            "type": (types.get(name) or declared.get(name.lower(), {}).get("data_type") or "").lower() or None,
            "description": (declared.get(name.lower(), {}).get("description") or "").strip(),
        }
        for name in names
    ]


def _tags(tags: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" if value else key for key, value in tags.items()]


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _limit(limit: Any) -> int | None:
    """A limit of a source's freshness, ``{count, period}``, in seconds."""
    units = {"minute": 60, "hour": 3600, "day": 86400}
    if not isinstance(limit, dict) or not isinstance(limit.get("count"), int) or limit.get("period") not in units:
        return None
    return limit["count"] * units[limit["period"]]


def _one(email: Any) -> str | None:
    return (email[0] if email else None) if isinstance(email, list) else email


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)
