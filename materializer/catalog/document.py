"""The catalog's document: one value, for the page, for programs and for agents. Docs: catalog-document.md.

What cannot be found out does not stop the rest: it is said where it is missing, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import msgspec

from materializer.catalog.checks import checks_of
from materializer.catalog.columns import column_parts
from materializer.catalog.declared import Declared, entity_parts
from materializer.catalog.findings import REMEDIES, findings_of
from materializer.catalog.freshness import Freshness, judge, not_asked
from materializer.catalog.lint import Finding, broken, lint
from materializer.catalog.rows import Asking, Rows, column_types, iso, with_types
from materializer.catalog.trained import training_sets
from materializer.catalog.versions import add_changes
from materializer.errors import FeatureStoreError, InputError
from materializer.materialize.log import read_log
from materializer.materialize.state import state_folder
from materializer.online.connect import plain_errors
from materializer.online.keys import view_prefix
from materializer.online.published import published_facts
from materializer.online.topology import OnlineStore
from materializer.project.compiled import compile_missing, with_compiled
from materializer.project.definitions import FeatureService, FeatureView, Registry
from materializer.project.duration import parse_moment
from materializer.project.git import git_state
from materializer.project.graph import Graph
from materializer.project.manifest import ProjectManifest, load_manifest, read_registry
from materializer.project.results import run_results
from materializer.project.settings import Project
from materializer.sql.columns import Read, no_garbage, workers_for
from materializer.sql.memory import Memory
from materializer.warehouse import Warehouse, open_warehouse
from materializer.warehouse.typed import broken_services, named, typed_service

FORMAT = 1
# Beyond, features are not compared with each other: that reads every model of all of them once more.
MANY_VIEWS = 300


@dataclass(frozen=True)
class Options:
    """How a document is built, as of the moment `built_at`.

    `light` leaves out SQL and history; without `statistics` no values are looked at. `seconds` is how long the
    warehouse is asked about rows: what is not known then is said. `workers` are processes that read SQL; `server` is
    where `feature-store serve` is expected.
    """

    built_at: datetime
    light: bool = False
    statistics: bool = True
    seconds: float = 60.0
    workers: int | None = None
    server: str = "http://127.0.0.1:6566"


@dataclass
class _Found:
    """What is gathered on the way."""

    typed: list[FeatureView]
    types: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)
    problems: dict[str, str] = field(default_factory=dict)
    warehouse: str | None = None


@no_garbage()
def build(
    project: Project, namespace: str, client: Callable[[], OnlineStore], redis_url: str, options: Options
) -> dict[str, Any]:
    """The document of a project.

    Raises:
        ProjectError: where there is no manifest of this target.
    """
    manifest = with_compiled(project, load_manifest(project))
    refused: dict[str, str] = {}
    registry = read_registry(manifest, refused)
    views = registry.all_views()
    compile_missing(project, manifest, [view.unique_id for view in views], open_warehouse)
    found = _Found(list(views))
    graph = Graph(manifest, lambda node: list(found.types.get(node["unique_id"], ())))
    read = _read_and_ask(project, manifest, graph, views, found, options)
    results, tested_at = run_results(project.target_folder)
    declared = Declared(graph, manifest, results)
    fresh = _freshness(project, namespace, client, redis_url, found, options)
    published = _published(namespace, client, redis_url)
    versions: dict[str, list[FeatureView]] = {}
    for view in found.typed:
        versions.setdefault(view.name, []).append(view)
    for several in versions.values():
        several.sort(key=lambda one: (not str(one.version).isdigit(), str(one.version).zfill(20)))
    view_parts = []
    for view, state in zip(found.typed, fresh, strict=True):
        part = declared.view(view, found.types.get(view.unique_id, {}), versions[view.name])
        broken_at = found.problems.get(view.reference) or _failed(results.get(view.unique_id))
        part["problem"] = broken_at or (read[view.unique_id].problem if view.unique_id in read else None)
        part["freshness"] = _freshness_part(state)
        part["online"] = _online_part(view, namespace, state, published)
        _add_values(part, found.rows, options)
        view_parts.append(part)
    models = [declared.model(one, found.types.get(one, {})) for one in declared.models()]
    for unique_id, part in zip(declared.models(), models, strict=True):
        part["problem"] = _failed(results.get(unique_id)) or (read[unique_id].problem if unique_id in read else None)
    models += [
        {**declared.model(one, found.types.get(one, {})), "problem": said}
        for one, said in refused.items()
        if one in manifest["nodes"]
    ]
    models.sort(key=lambda one: one["name"])
    ids = {exposure["name"]: one for one, exposure in graph.exposures.items() if exposure.get("type") == "ml"}
    typed = named(registry, [view for view in found.typed if view.reference not in found.problems])
    services = [declared.service(_typed(one, typed), ids[name]) for name, one in sorted(registry.services.items())]
    sources = []
    for unique_id in declared.sources():
        known = found.rows.sources.get(unique_id, {"rows": None, "newest_load": None})
        part = {**declared.source(unique_id, found.types.get(unique_id, {})), **known}
        sources.append({**part, "problem": refused.get(unique_id)})
    columns, row_sets = column_parts(graph, declared.names, read)
    add_changes(view_parts, columns)
    linted = _lint(project, manifest, registry, found, read)
    findings = findings_of(view_parts, [*models, *sources], linted)
    missing = _missing(found, views, published, tested_at, options)
    document = {
        "format": FORMAT,
        "project": _project(project, namespace, manifest, options, found),
        "entities": [{**one, "example": found.rows.keys.get(one["name"])} for one in entity_parts(found.typed)],
        "views": view_parts,
        "services": services,
        "sources": sources,
        "models": models,
        "training_sets": training_sets(project),
        "columns": columns,
        "row_sets": row_sets,
        "findings": findings,
        "remedies": REMEDIES,
        "checks": checks_of(view_parts, models, columns, missing, iso(options.built_at), tested_at),
    }
    return _light(document) if options.light else document


def moment_of_build(moment: datetime | str | None = None) -> datetime:
    """The moment that a document is of: the one given, else ``SOURCE_DATE_EPOCH``, else now.

    Raises:
        InputError: for what is no moment.
    """
    if moment is not None:
        return parse_moment(moment)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(timezone.utc)
    try:
        return datetime.fromtimestamp(int(epoch), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise InputError(f"SOURCE_DATE_EPOCH is '{epoch}': it is a number of seconds since 1970.") from None


def to_json(document: Mapping[str, Any]) -> bytes:
    """The document as bytes: the same one gives the same."""
    return msgspec.json.encode(document)


# Parts.


def _read_and_ask(
    project: Project, manifest: ProjectManifest, graph: Graph, views: Sequence[FeatureView], found: _Found,
    options: Options,
) -> Mapping[str, Read]:  # fmt: skip
    """Read all SQL, and ask the warehouse meanwhile where other processes read; where it cannot be asked, note why."""
    own = {view.unique_id: view for view in views}
    with ExitStack() as stack:
        try:
            warehouse = stack.enter_context(open_warehouse(project))
            found.types = column_types(warehouse, project, graph)
        except FeatureStoreError as error:
            found.warehouse = str(error)
        memory = Memory(project.target_folder / "feature_store" / "lineage.msgpack", graph, own)
        workers = options.workers or workers_for(graph, memory.known)
        apart = stack.enter_context(ThreadPoolExecutor(1)).submit(memory.read, workers) if workers > 1 else None
        if found.warehouse is None:
            _ask(warehouse, project, manifest, graph, views, found, options)
        return apart.result() if apart else memory.read(workers)


def _ask(
    warehouse: Warehouse, project: Project, manifest: ProjectManifest, graph: Graph, views: Sequence[FeatureView],
    found: _Found, options: Options,
) -> None:  # fmt: skip
    try:
        found.typed, found.problems = with_types(warehouse, views)
        asking = Asking(warehouse, project, manifest, options.built_at, options.seconds, found.types)
        found.rows = asking.rows
        there = [view for view in found.typed if view.reference not in found.problems]
        asking.freshness(there)
        asking.sources(graph)
        if not options.light:
            asking.history(graph, found.types)
        if options.statistics:
            asking.keys(there)
            asking.statistics(there)
            asking.drift(there)
    except FeatureStoreError as error:
        found.warehouse = str(error)


def _freshness(
    project: Project, namespace: str, client: Callable[[], OnlineStore], url: str, found: _Found, options: Options
) -> list[Freshness]:
    def ask(view: FeatureView) -> Any:
        why = found.problems.get(view.reference) or found.warehouse or "it was not asked"
        return found.rows.of_view.get(view.reference) or not_asked(why)

    try:
        log = read_log(state_folder(project), namespace)
    except (OSError, FeatureStoreError):
        log = []
    return judge(found.typed, ask, log, namespace, client, url, options.built_at)


def _published(namespace: str, client: Callable[[], OnlineStore], url: str) -> Mapping[str, Any] | str:
    """The rows and the newest event of each published view; why not, where Redis cannot be asked."""
    try:
        with plain_errors(url):
            return published_facts(client(), namespace)
    except FeatureStoreError as error:
        return str(error)


def _add_values(part: dict[str, Any], rows: Rows, options: Options) -> None:
    """What the values of a view's features look like, looked like, and how far they moved."""
    name = part["name"]
    part["drift_period"] = rows.periods.get(name)
    history = {} if options.light else rows.history.get(name, {})
    for feature in part["features"]:
        feature["statistics"] = rows.statistics.get(name, {}).get(feature["name"])
        feature["history"] = history.get(feature["name"], [])
        feature["drift"] = rows.drift.get(name, {}).get(feature["name"])


def _freshness_part(state: Freshness) -> dict[str, Any]:
    status, reason = state.of_rows
    return {
        "status": status, "reason": reason, "rows": state.rows, "entities": state.entities,
        "expired_entities": state.expired_entities, "newest_event": iso(state.newest_event),
        "newest_load": iso(state.newest_load),
    }  # fmt: skip


def _online_part(
    view: FeatureView, namespace: str, state: Freshness, published: Mapping[str, Any] | str
) -> dict[str, Any]:
    known = {} if isinstance(published, str) else published.get(view.reference) or {}
    status, reason = state.of_runs or (None, "")
    return {
        "wanted": view.online,
        "published": state.published,
        "status": status,
        "reason": reason,
        "rows": known.get("rows"),
        "newest_event": iso(known.get("newest_event")),
        "last_run": iso(state.last_materialized),
        "seconds": state.last_run_seconds,
        "error": state.last_run_error,
        "key": view_prefix(namespace, view.reference),
    }


def _failed(result: Mapping[str, Any] | None) -> str | None:
    """Why dbt's last run could not build a model."""
    if not result or result["status"] not in ("error", "fail", "runtime error", "skipped"):
        return None
    if result["status"] == "skipped":
        return "The last dbt run left it out, because one that it reads failed."
    return f"The last dbt run failed at it: {result['message']}"


def _lint(
    project: Project, manifest: ProjectManifest, registry: Registry, found: _Found, read: Mapping[str, Read]
) -> list[Finding]:
    built = [view for view in found.typed if view.reference not in found.problems]
    services = broken(manifest, broken_services(registry, [] if found.warehouse else built))
    checked = {unique_id: one.checked for unique_id, one in read.items() if one.checked is not None}
    views = registry.all_views()
    return [*services, *lint(manifest, views, project.folder, len(views) <= MANY_VIEWS, checked)]


def _typed(service: FeatureService, views: Mapping[str, FeatureView]) -> FeatureService:
    """The service with the types of its on-demand features, where these are known."""
    try:
        return typed_service(service, views)
    except FeatureStoreError:
        return service


def _project(
    project: Project, namespace: str, manifest: ProjectManifest, options: Options, found: _Found
) -> dict[str, Any]:
    git = git_state(project.folder)
    return {
        "name": project.name,
        "target": project.target,
        "namespace": namespace,
        "warehouse": project.connection.get("type"),
        "dbt": manifest["metadata"].get("dbt_version"),
        "tool": f"dbt-feature-store {version('dbt-feature-store')}",
        "revision": git and git.revision[:12],
        "dirty": git and git.dirty,
        "built_at": iso(options.built_at),
        "manifest_at": manifest["metadata"].get("generated_at"),
        "light": options.light,
        "serve": options.server,
    }


def _missing(
    found: _Found, views: Sequence[FeatureView], published: Mapping[str, Any] | str, tested_at: str | None,
    options: Options,
) -> dict[str, str]:  # fmt: skip
    """Why a check could not be made, or not wholly, by its name."""
    said = dict(found.rows.missing)
    if found.warehouse:
        said |= dict.fromkeys(("freshness", "drift", "statistics"), found.warehouse)
    if not options.statistics:
        said |= dict.fromkeys(("drift", "statistics"), "Statistics were switched off (--no-statistics).")
    if isinstance(published, str):
        said["online"] = published
    if tested_at is None:
        said["tests"] = "There is no target/run_results.json: run `dbt build`."
    if len(views) > MANY_VIEWS:
        said["lint"] = (
            f"Features that compute the same are looked for among up to {MANY_VIEWS} views: `feature-store lint` finds "
            "them among more."
        )
    return said


def _light(document: dict[str, Any]) -> dict[str, Any]:
    for part in (*document["views"], *document["models"]):
        part["sql"] = part["compiled"] = None
    return document
