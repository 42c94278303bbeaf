"""``feature-store doctor``: is everything in place, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import redis

from materializer.cli.common import open_store, output_option, print_json, store_options
from materializer.errors import FeatureStoreError
from materializer.manifest import load_manifest, read_registry
from materializer.online.connect import connect, plain_errors, public_name, redis_url
from materializer.online.published import read_published
from materializer.registry import with_columns
from materializer.run import check_storable
from materializer.warehouse import open_warehouse


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

    def check(name: str, work: Callable[[], str]) -> bool:
        try:
            findings.append({"check": name, "ok": True, "message": work()})
        except FeatureStoreError as error:
            findings.append({"check": name, "ok": False, "message": str(error)})
        return findings[-1]["ok"]

    found: dict[str, Any] = {}

    def project() -> str:
        found["store"] = open_store(**where)
        found["project"] = found["store"].project
        return f"{found['project'].name}, target {found['project'].target}, in {found['project'].folder}"

    def manifest() -> str:
        found["registry"] = read_registry(load_manifest(found["project"]))
        views, services = found["registry"].all_views(), found["registry"].services
        return f"{len(views)} feature views, {len(services)} feature services"

    def warehouse() -> str:
        with open_warehouse(found["project"]):
            return f"{found['project'].connection.get('type')} opens"

    if check("project", project) and check("manifest", manifest) and check("warehouse", warehouse):
        for view in found["registry"].all_views():
            check(f"view {view.reference}", lambda view=view: _view(found["project"], view))
    url = redis_url(where["redis_url"])
    if check("redis", lambda: _redis(url)) and "store" in found:
        check("online", lambda: _online(url, found["store"].namespace))

    if output == "json":
        print_json({"checks": findings})
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding['ok'] else 'FAIL'}  {finding['check']}: {finding['message']}")
    if not all(finding["ok"] for finding in findings):
        context.exit(1)


def _view(project: Any, view: Any) -> str:
    with open_warehouse(project) as warehouse:
        view = with_columns(view, warehouse)
    if view.online:
        check_storable(view)
    return f"{len(view.features)} features by {', '.join(view.join_keys)}"


def _redis(url: str) -> str:
    with plain_errors(url):
        client = connect(url)
        client.ping()
        try:
            version = client.info("server").get("redis_version", "?")
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "?")
        except redis.RedisError:
            return f"answers at {public_name(url)} (its settings may not be read)"
    if policy not in ("noeviction", "?") and not policy.startswith("volatile"):
        policy += ", which may drop rows when memory is short: noeviction is safe"
    return f"{version} answers at {public_name(url)}, eviction policy {policy}"


def _online(url: str, namespace: str) -> str:
    with plain_errors(url):
        _, published = read_published(connect(url), namespace)
    views = published.all_views()
    if not views:
        return f"nothing is published in namespace {namespace} yet: run `materialize`"
    return f"{len(views)} feature views are published in namespace {namespace}"
