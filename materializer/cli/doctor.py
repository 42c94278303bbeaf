"""``feature-store doctor``: is everything in place, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from materializer.cli.common import number_of, open_store, output_option, print_json, say, store_options
from materializer.errors import FeatureStoreError
from materializer.materialize.memory import read_log
from materializer.materialize.plan import check_storable
from materializer.online import health
from materializer.online.connect import connect, plain_errors
from materializer.online.health import Finding
from materializer.online.published import published_view, read_from_elsewhere, read_published
from materializer.online.topology import OnlineStore
from materializer.online.urls import private_url, redis_url
from materializer.project import dbt_package
from materializer.project.definitions import FeatureView, Registry
from materializer.project.manifest import load_manifest, read_registry
from materializer.store import FeatureStore
from materializer.warehouse import open_warehouse
from materializer.warehouse.typed import broken_services, with_columns


@click.command()
@store_options
@output_option
@click.pass_context
def doctor(context: click.Context, output: str, **where: Any) -> None:
    """Check the project, the manifest, the warehouse, every view and Redis.

    \b
        feature-store doctor --project-dir dbt_project
    """
    findings: list[dict[str, Any]] = []

    def check(name: str, work: Callable[[], str | Finding]) -> bool:
        try:
            said = work()
            message, warning = (said, False) if isinstance(said, str) else said
            findings.append({"check": name, "ok": True, "warning": warning, "message": message})
        except FeatureStoreError as error:
            findings.append({"check": name, "ok": False, "warning": False, "message": str(error)})
        return findings[-1]["ok"]

    found: dict[str, Any] = {}

    def project() -> Finding:
        found["store"] = open_store(**where)
        found["project"] = found["store"].project
        said = f"{found['project'].name}, target {found['project'].target}, in {found['project'].folder}"
        notes = found["project"].notes
        return ". ".join((said, *notes)), bool(notes)

    def manifest() -> str:
        found["registry"] = read_registry(load_manifest(found["project"]))
        views, services = found["registry"].all_views(), found["registry"].services
        return f"{number_of(len(views), 'feature view')}, {number_of(len(services), 'feature service')}"

    def warehouse() -> str:
        project = found["project"]
        with open_warehouse(project):
            where = f" ({project.database_file})" if project.database_file else ""
            return f"{project.connection.get('type')} opens{where}"

    def package() -> str | Finding:
        copy = dbt_package.copied_files(found["project"].folder)
        if copy and copy != dbt_package.package_files():
            return "the copy in the project is of another release: run `feature-store init` and `dbt deps` there", True
        return "of this release" if copy else "not copied into the project"

    if check("project", project):
        check("dbt package", package)
    if "project" in found and check("manifest", manifest) and check("warehouse", warehouse):
        typed: list[FeatureView] = []
        for view in found["registry"].all_views():
            check(f"view {view.reference}", lambda view=view: _view(found["project"], view, typed))
        for name, sentence in broken_services(found["registry"], typed).items():
            findings.append({"check": f"service {name}", "ok": False, "warning": False, "message": sentence})
    url = redis_url(where["redis_url"], found["project"].folder if "project" in found else None)
    private = "project" in found and url == private_url(found["project"].folder)
    if check("redis", lambda: _redis(url, health.topology) + (", this project's private one" if private else "")):
        check("redis eviction", lambda: _redis(url, lambda store, _: health.eviction(store)))
        check("redis persistence", lambda: _redis(url, lambda store, _: health.persistence(store)))
        if "store" in found:
            check("online", lambda: _online(url, found["store"], found.get("registry")))
    if "registry" in found:
        check("runs", lambda: _runs(found["project"], found["store"].namespace))

    if output == "json":
        print_json({"checks": findings})
    else:
        for finding in findings:
            sign = "FAIL" if not finding["ok"] else "warn" if finding["warning"] else "ok  "
            say(f"{sign}  {finding['check']}: {finding['message']}")
    if not all(finding["ok"] for finding in findings):
        context.exit(1)


def _view(project: Any, view: FeatureView, typed: list[FeatureView]) -> str:
    with open_warehouse(project) as warehouse:
        view = with_columns(view, warehouse)
    typed.append(view)
    if view.online:
        check_storable(view)
    return f"{number_of(len(view.features), 'feature')} by {', '.join(view.join_keys)}"


def _redis(url: str, look: Callable[[OnlineStore, str], str | Finding]) -> str | Finding:
    with plain_errors(url):
        return look(connect(url), url)


def _online(url: str, store: FeatureStore, registry: Registry | None) -> str | Finding:
    namespace = store.namespace
    with plain_errors(url):
        client = connect(url)
        _, published = read_published(client, namespace)
        views = published.all_views()
        if not views:
            return f"nothing is published in namespace {namespace} yet: run `materialize`"
        said = f"{number_of(len(views), 'feature view')} published in namespace {namespace}"
        if registry is None:
            return said
        with open_warehouse(store.project) as warehouse:
            place = warehouse.place
        for view in registry.all_views():
            known = published_view(client, namespace, view.reference)
            elsewhere = known and read_from_elsewhere(view.reference, known.read_from, f"{view.relation} of {place}")
            if elsewhere:
                return f"{said}. {elsewhere}", True
    return said


def _runs(project: Any, namespace: str) -> str | Finding:
    """The last run of each view, by the materialization log."""
    with open_warehouse(project) as warehouse:
        entries = read_log(warehouse.state_folder, namespace)
    last = {entry["view"]: entry for entry in entries}
    if not last:
        return "none is known of here"
    now = datetime.now(timezone.utc)
    told = []
    for view, entry in sorted(last.items()):
        age = format_age(now - datetime.fromisoformat(entry["at"]))
        outcome = f"failed ({entry['error']})" if entry["error"] else f"{entry['rows_written']:,} written"
        told.append(f"{view} {age} ago, {outcome}")
    failed = sum(1 for entry in entries if entry["error"])
    text = "; ".join(told) + (f" ({failed} of {len(entries)} runs failed)" if failed else "")
    return text, any(entry["error"] for entry in last.values())


def format_age(age: timedelta) -> str:
    """An age in its largest whole unit: ``3 hours``."""
    seconds = max(int(age.total_seconds()), 0)
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return number_of(seconds, "second")
