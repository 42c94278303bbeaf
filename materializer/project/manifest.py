"""dbt's manifest as a registry: the only source of what is declared. Read, never written."""

from __future__ import annotations

import difflib
import gc
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from materializer.errors import DefinitionError, ProjectError
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView, Registry
from materializer.project.duration import parse_duration
from materializer.project.graph import is_view, meta_of
from materializer.project.manifest_age import check_fresh
from materializer.project.manifest_shape import shaped
from materializer.project.manifest_target import check_target
from materializer.project.meta import ahead_of, check_meta, freshness_limits, on_demand_of_service, on_demand_of_view
from materializer.project.on_demand import check_names, on_demand_features
from materializer.project.relation import is_relation_name
from materializer.project.render import ProjectManifest
from materializer.project.settings import Project

_SCHEMA_VERSIONS = ("v12",)


def load_manifest(project: Project) -> ProjectManifest:
    """The project's ``target/manifest.json``, checked to be of a version we know, fresh, and of this target.

    Raises:
        ProjectError: where it is missing, broken, older than the models, or another target's.
    """
    manifest = read_manifest(project.manifest_path, f"run `dbt build` in {project.folder}")
    check_fresh(project, manifest)
    check_target(project, manifest)
    return ProjectManifest(manifest, project)


def read_manifest(path: Path, mend: str) -> dict[str, Any]:
    """A manifest of a version that this release knows. `mend` says how to make one.

    Raises:
        ProjectError: where there is none, or it is not of dbt's making, or of another version.
    """
    try:
        manifest = _parse(path.read_bytes())
        version = Path(manifest["metadata"]["dbt_schema_version"]).stem
        manifest["nodes"], manifest["macros"]
    except FileNotFoundError:
        raise ProjectError(f"There is no manifest at {path}: {mend} first.") from None
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProjectError(f"{path} is not a manifest of dbt's: {mend} again.") from None
    if version not in _SCHEMA_VERSIONS:
        raise ProjectError(
            f"{path} is of schema version {version}; this release reads {', '.join(_SCHEMA_VERSIONS)} (dbt 1.10, 1.11)."
        )
    manifest = shaped(manifest, str(path), mend)
    _check_relations(path, manifest["nodes"].values())
    return manifest


def _check_relations(path: Path, nodes: Iterable[Mapping[str, Any]]) -> None:
    """A manifest may come from elsewhere, and what it calls a model's relation stands in SQL: it has to be a name.

    Raises:
        ProjectError: for one that is SQL, or a file's path, which DuckDB would read in a table's place.
    """
    for node in nodes:
        relation = node.get("relation_name")
        if relation and not is_relation_name(relation):
            raise ProjectError(
                f"{path} calls the relation of {node.get('resource_type')} '{node.get('name')}' {relation!r}, which is "
                "no name of a table: it was not written by dbt."
            )


def _parse(text: bytes) -> Any:
    """JSON as `json.loads` gives it, in half the time: of a million new objects none is garbage to look for."""
    if not gc.isenabled() or gc.get_freeze_count():
        return json.loads(text)
    gc.disable()
    try:
        return json.loads(text)
    finally:
        # Among the old objects they are looked through last; from the young ones they would be moved up, thrice.
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def read_registry(manifest: Mapping[str, Any], refused: dict[str, str] | None = None) -> Registry:
    """The feature views and services that a manifest declares. Their types are not known yet.

    A service that names what is not a view does not stop the others: it is among the registry's `broken` ones.

    Args:
        refused: takes the sentence, by unique id, on each view or source whose declaration would raise, which is left
            out then.

    Raises:
        DefinitionError: for a mistyped, missing or wrong key in ``meta.feature_view``, an ephemeral view, or one on a
            source.
    """
    owners = {group["name"]: group for group in (manifest.get("groups") or {}).values()}
    views: dict[str, FeatureView] = {}
    for unique_id, node in sorted(manifest["nodes"].items()):
        if is_view(node):
            try:
                view = _view(unique_id, node, meta_of(node)["feature_view"], owners)
                names = {view.reference} | ({view.name} if view.latest else set())
                for reference in sorted(names & views.keys()):
                    raise DefinitionError(
                        f"Feature view '{reference}' is declared twice, by {views[reference].unique_id} and "
                        f"{unique_id}: rename one of the models."
                    )
            except DefinitionError as error:
                if refused is None:
                    raise
                refused[unique_id] = str(error)
                continue
            views |= dict.fromkeys(names, view)
    for source in (manifest.get("sources") or {}).values():
        if "feature_view" in meta_of(source):
            said = (
                f"Source '{source.get('source_name')}.{source.get('name')}' says meta.feature_view, but a feature view "
                "is what dbt builds: select from it in a model, and say it there."
            )
            if refused is None:
                raise DefinitionError(said)
            refused[source["unique_id"]] = said
    services, broken = {}, {}
    for exposure in (manifest.get("exposures") or {}).values():
        if exposure.get("type") == "ml":
            try:
                services[exposure["name"]] = _service(exposure, views)
            except DefinitionError as error:
                broken[exposure["name"]] = str(error)
    absent = {}
    for nodes in (manifest.get("disabled") or {}).values():
        for node in nodes:
            if is_view(node) and node["name"] not in views:
                absent[node["name"]] = "is disabled: remove `enabled: false` from its configuration and run `dbt build`"
    return Registry(views, services, absent, broken)


def _view(unique_id: str, node: Mapping[str, Any], meta: Any, owners: Mapping[str, Any]) -> FeatureView:
    where = f"{node['resource_type'].capitalize()} '{node['name']}': meta.feature_view"
    check_meta(node["name"], meta, node["resource_type"])
    if node["config"].get("materialized") == "ephemeral":
        raise DefinitionError(
            f"Feature view '{node['name']}' is ephemeral, so the warehouse holds no rows of it: "
            "materialize it as a table, an incremental model or a view."
        )
    columns = {name.lower(): column for name, column in (node.get("columns") or {}).items()}

    def described(name: str) -> str:
        return columns.get(name.lower(), {}).get("description", "")

    timestamp = meta.get("timestamp", "event_timestamp")
    created = meta.get("created_timestamp")
    apart = {name.lower() for name in (*meta["entities"], timestamp, created) if name}
    group = node["config"].get("group") or node.get("group")
    view = FeatureView(
        name=node["name"],
        entities=tuple(Entity(name, described(name)) for name in meta["entities"]),
        features=tuple(
            Feature(column["name"], column.get("description", ""))
            for name, column in columns.items()
            if name not in apart
        ),
        timestamp=timestamp,
        created_timestamp=created,
        available_after=_duration(meta, "available_after", where),
        ttl=_duration(meta, "ttl", where),
        **freshness_limits(meta, where),
        online=meta.get("online", True),
        ahead=ahead_of(meta["ahead"], f"{where}.ahead") if "ahead" in meta else None,
        tags={**{tag: "" for tag in node.get("tags") or []}, **{k: str(v) for k, v in meta.get("tags", {}).items()}},
        description=node.get("description", ""),
        owner=owners.get(group, {}).get("name", group),
        version=node.get("version"),
        latest=node.get("version") is None or node["version"] == node.get("latest_version"),
        relation=node.get("relation_name") or "",
        unique_id=unique_id,
    )
    if "on_demand" not in meta:
        return view
    on_demand = on_demand_features(
        on_demand_of_view(node["name"], meta, node["resource_type"]), f"{where}.on_demand",
        lambda _, read: f"{view.reference}:{read}",
    )  # fmt: skip
    view = replace(view, on_demand=on_demand)
    check_names(view)
    return view


def _duration(meta: Mapping[str, Any], key: str, where: str) -> timedelta | None:
    return parse_duration(meta[key], f"{where}.{key}") if key in meta else None


def _service(exposure: Mapping[str, Any], views: Mapping[str, FeatureView]) -> FeatureService:
    name = exposure["name"]
    features = meta_of(exposure).get("features", [])
    if not isinstance(features, list) or not all(isinstance(f, str) and f.count(":") == 1 for f in features):
        raise DefinitionError(f"Exposure '{name}': meta.features is a list of 'view:feature' references.")
    for reference in features:
        view = reference.split(":")[0]
        if view not in views:
            near = difflib.get_close_matches(view, views, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            known = ", ".join(sorted(views)) or "none"
            raise DefinitionError(
                f"Exposure '{name}' names '{reference}', but there is no feature view '{view}'{hint}; "
                f"there are: {known}."
            )
    on_demand = service_on_demand(exposure)
    if on_demand and name in views:
        raise DefinitionError(
            f"Exposure '{name}' has on-demand features, which are referenced by its name, and there is a feature view "
            "of that name: rename it."
        )
    owner = exposure.get("owner") or {}
    return FeatureService(
        name=name,
        features=tuple(features),
        description=exposure.get("description") or "",
        owner=owner.get("name") or owner.get("email"),
        tags={tag: "" for tag in exposure.get("tags") or []},
        on_demand=on_demand,
    )


def service_on_demand(exposure: Mapping[str, Any]) -> tuple[Feature, ...]:
    """The on-demand features that an exposure declares over several views. Raises DefinitionError where they are not
    what they may be."""
    name = exposure["name"]
    return on_demand_features(
        on_demand_of_service(name, meta_of(exposure)), f"Exposure '{name}': meta.on_demand",
        lambda one, read: one["inputs"][read],
    )  # fmt: skip
