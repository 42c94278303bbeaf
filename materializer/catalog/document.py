"""The catalog's document: one value, for the page, for programs and for agents. Docs: catalog-document.md.

What cannot be found out does not stop the rest: it is said where it is missing, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Any

from materializer.catalog.columns import column_parts
from materializer.catalog.declared import Declared, entity_parts
from materializer.catalog.findings import REMEDIES, findings_of
from materializer.catalog.freshness import Freshness, judge, not_asked
from materializer.catalog.lint import Finding, broken, lint
from materializer.catalog.rows import DRIFT_PERIOD, Asking, Rows, column_types, iso, with_types
from materializer.errors import FeatureStoreError
from materializer.materialize.log import read_log
from materializer.materialize.state import state_folder
from materializer.online.connect import plain_errors
from materializer.online.keys import view_prefix
from materializer.online.published import published_facts
from materializer.online.topology import OnlineStore
from materializer.project.compiled import compile_missing, with_compiled
from materializer.project.definitions import FeatureView, Registry
from materializer.project.git import git_state
from materializer.project.graph import Graph
from materializer.project.manifest import ProjectManifest, load_manifest, read_registry
from materializer.project.results import run_results
from materializer.project.settings import Project
from materializer.sql.columns import read_columns
from materializer.warehouse import open_warehouse
from materializer.warehouse.typed import broken_services

FORMAT = 1
# Beyond, features are not compared with each other: that reads every model of all of them once more.
MANY_VIEWS = 300


@dataclass(frozen=True)
class Options:
    """How a document is built, as of the moment `built_at`.

    `light` leaves out SQL and history; without `statistics` no values are looked at. `seconds` is how long the warehouse
    is asked about rows: what is not known then is said. `workers` are processes that read SQL.
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
    found = _asked(project, manifest, views, options)
    graph = Graph(manifest, lambda node: list(found.types.get(node["unique_id"], ())))
    read = read_columns(graph, options.workers)
    results, tested_at = run_results(project.target_folder)
    declared = Declared(graph, manifest, results)
    fresh = _freshness(project, namespace, client, redis_url, found, options)
    published = _published(namespace, client, redis_url)
    versions: dict[str, list[FeatureView]] = {}
    for view in found.typed:
        versions.setdefault(view.name, []).append(view)
    view_parts = []
    for view, state in zip(found.typed, fresh, strict=True):
        part = declared.view(view, found.types.get(view.unique_id, {}), versions[view.name])
        problem = (
            found.problems.get(view.reference)
            or _failed(results.get(view.unique_id))
            or (read[view.unique_id].problem if view.unique_id in read else None)
        )
        part["problem"] = problem
        part["freshness"] = _freshness_part(state)
        part["online"] = _online_part(view, namespace, state, published)
        part["drift_period"] = found.rows.periods.get(view.reference)
        for feature in part["features"]:
            feature["statistics"] = found.rows.statistics.get(view.reference, {}).get(feature["name"])
            feature["history"] = [] if options.light else (
                found.rows.history.get(view.reference, {}).get(feature["name"], [])
            )
            feature["drift"] = found.rows.drift.get(view.reference, {}).get(feature["name"])
        view_parts.append(part)
    models = [declared.model(one, found.types.get(one, {})) for one in declared.models()]
    for unique_id, part in zip(declared.models(), models, strict=True):
        part["problem"] = _failed(results.get(unique_id)) or (read[unique_id].problem if unique_id in read else None)
    refused_parts = [_refused(graph, declared, one, said) for one, said in refused.items()]
    models = sorted([*[m for m in models if m["name"] not in {r["name"] for r in refused_parts}], *refused_parts],
                    key=lambda one: one["name"])  # fmt: skip
    ids = {exposure["name"]: one for one, exposure in graph.exposures.items() if exposure.get("type") == "ml"}
    services = [declared.service(one, ids[name]) for name, one in sorted(registry.services.items())]
    sources = []
    for unique_id in declared.sources():
        known = found.rows.sources.get(unique_id, {"rows": None, "newest_load": None})
        sources.append({**declared.source(unique_id, found.types.get(unique_id, {})), **known})
    columns, row_sets = column_parts(graph, declared.names, read)
    linted, lint_trouble = _lint(project, manifest, registry, found)
    findings = findings_of(view_parts, [*models, *refused_parts], linted)
    document = {
        "format": FORMAT,
        "project": _project(project, namespace, manifest, options, found),
        "entities": entity_parts(found.typed),
        "views": view_parts,
        "services": services,
        "sources": sources,
        "models": models,
        "columns": columns,
        "row_sets": row_sets,
        "findings": findings,
        "remedies": REMEDIES,
        "checks": _checks(found, view_parts, models, columns, published, tested_at, lint_trouble, options),
    }
    return _light(document) if options.light else document


def to_json(document: Mapping[str, Any]) -> bytes:
    """The document as bytes: the same one gives the same."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


# Parts.


def _asked(
    project: Project, manifest: ProjectManifest, views: Sequence[FeatureView], options: Options
) -> _Found:  # fmt: skip
    """What the warehouse says; where it cannot be asked, why."""
    found = _Found(list(views))
    graph = Graph(manifest)
    try:
        with open_warehouse(project) as warehouse:
            found.types = column_types(warehouse, project, graph)
            found.typed, found.problems = with_types(warehouse, views)
            asking = Asking(warehouse, project, manifest, options.built_at, options.seconds)
            found.rows = asking.rows
            there = [view for view in found.typed if view.reference not in found.problems]
            asking.freshness(there)
            asking.sources(graph)
            if not options.light:
                asking.history(graph, found.types)
            if options.statistics:
                asking.statistics(there)
                asking.drift(there)
    except FeatureStoreError as error:
        found.warehouse = str(error)
    return found


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


def _refused(graph: Graph, declared: Declared, unique_id: str, said: str) -> dict[str, Any]:
    """A model whose declaration as a view is wrong: listed among the models, with the sentence."""
    if graph.nodes[unique_id].get("resource_type") == "source":
        return {"name": declared.names[unique_id], "file": None, "tests": [], "problem": said, "owner": None}
    return {**declared.model(unique_id, {}), "problem": said}


def _lint(
    project: Project, manifest: ProjectManifest, registry: Registry, found: _Found
) -> tuple[list[Finding], str | None]:
    built = [view for view in found.typed if view.reference not in found.problems]
    services = broken(manifest, broken_services(registry, [] if found.warehouse else built))
    views = registry.all_views()
    try:
        return [*services, *lint(manifest, views, project.folder, duplicates=len(views) <= MANY_VIEWS)], None
    except FeatureStoreError as error:
        return services, str(error)


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


def _checks(
    found: _Found, views: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any], published: Mapping[str, Any] | str, tested_at: str | None, lint_trouble: str | None,
    options: Options,
) -> list[dict[str, Any]]:  # fmt: skip
    missing = found.rows.missing
    now = iso(options.built_at)
    features = [feature for view in views for feature in view["features"]]
    tests = [test for part in (*views, *models) for test in part["tests"] if test["status"]]
    off = None if options.statistics else "Statistics were switched off (--no-statistics)."
    online = [view for view in views if view["online"]["wanted"]]
    unread = [one for one in columns.values() if one.get("problem")]
    duplicates = (
        None if len(views) <= MANY_VIEWS
        else f"Features that compute the same are looked for among up to {MANY_VIEWS} views: `feature-store lint` does."
    )  # fmt: skip
    rows = [
        ("freshness", "newest event and load against ttl and limits",
         sum(view["freshness"]["status"] != "unknown" for view in views), now, missing.get("freshness")),
        ("online", "what Redis has, and how the last run ended",
         0 if isinstance(published, str) else len(online), now, published if isinstance(published, str) else None),
        ("lint", "SQL that reads the clock or the future; features that compute the same; services",
         0 if lint_trouble else len(views), now, lint_trouble or duplicates),
        ("tests", "data and unit tests of the last dbt command",
         len(tests), tested_at, None if tested_at else "There is no target/run_results.json: run `dbt build`."),
        ("drift", f"the newest {DRIFT_PERIOD} against the {DRIFT_PERIOD} before",
         sum(feature["drift"] is not None for feature in features), now, off or missing.get("drift")),
        ("statistics", "what the values of features look like",
         sum(feature["statistics"] is not None for feature in features), now, off or missing.get("statistics")),
        ("lineage", "every column traced one step back",
         len(columns) - len(unread), now,
         f"{len(unread):,} columns could not be followed: each says why." if unread else None),
        ("build", "models in the manifest that are built and can be read",
         len(views) + len(models) - sum(bool(one.get("problem")) for one in (*views, *models)), tested_at, None),
    ]  # fmt: skip
    asked = ("freshness", "drift", "statistics")
    return [
        {"name": name, "what": what, "count": count, "at": at,
         "problem": (found.warehouse if name in asked else None) or problem}
        for name, what, count, at, problem in rows
    ]  # fmt: skip


def _light(document: dict[str, Any]) -> dict[str, Any]:
    for part in (*document["views"], *document["models"]):
        part["sql"] = part["compiled"] = None
    return document
