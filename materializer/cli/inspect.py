"""``feature-store list`` and ``show``: what exists."""

from __future__ import annotations

from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, print_rows, store_options
from materializer.duration import format_duration
from materializer.errors import NotFoundError
from materializer.feature_view import FeatureService, FeatureView, entities_of


@click.command("list")
@click.argument("what", type=click.Choice(["views", "features", "entities", "services"]), default="views")
@click.option("--tag", "tags", multiple=True, help="Only views with this tag; repeatable.")
@store_options
@output_option
def list_(what: str, tags: tuple[str, ...], output: str, **where: Any) -> None:
    """List feature views (the default), features, entities or services.

    \b
        feature-store list features --project-dir dbt_project
    """
    store = open_store(reader=True, **where)
    if what == "services":
        services = store.list_feature_services(tags=list(tags) or None)
        if output == "json":
            return print_json([service_json(service) for service in services])
        return print_rows(
            ["service", "features", "owner", "description"],
            [[s.name, len(s.features), s.owner, s.description] for s in services],
        )
    views = store.list_feature_views(tags=list(tags) or None)
    if what == "views":
        if output == "json":
            return print_json([view_json(view) for view in views])
        return print_rows(
            ["view", "entities", "features", "ttl", "owner", "description"],
            [[v.reference, ", ".join(v.join_keys), len(v.features), v.ttl, v.owner, v.description] for v in views],
        )
    if what == "features":
        rows = [[f"{v.reference}:{f.name}", str(f.dtype), f.description] for v in views for f in v.features]
        names = ["feature", "type", "description"]
    else:
        entities = entities_of(views)
        used = {e.name: [v.reference for v in views if e.name in v.join_keys] for e in entities}
        rows = [[e.name, str(e.dtype), ", ".join(used[e.name]), e.description] for e in entities]
        names = ["entity", "type", "views", "description"]
    if output == "json":
        return print_json([dict(zip(names, row, strict=True)) for row in rows])
    return print_rows(names, rows)


@click.command()
@click.argument("name")
@store_options
@output_option
def show(name: str, output: str, **where: Any) -> None:
    """Show one feature view (NAME or NAME.v2) or feature service.

    \b
        feature-store show user_features --project-dir dbt_project
    """
    store = open_store(reader=True, **where)
    try:
        view = store.get_feature_view(name)
    except NotFoundError:
        services = {service.name: service for service in store.list_feature_services()}
        if name not in services:
            raise
        return _show_service(services[name], output)
    if output == "json":
        return print_json(view_json(view))
    _heading(view.reference, view.description)
    for label, value in (
        ("owner", view.owner),
        ("timestamp", view.timestamp),
        ("created timestamp", view.created_timestamp),
        ("available after", view.available_after and format_duration(view.available_after)),
        ("ttl", format_duration(view.ttl) if view.ttl else "no limit"),
        ("online", "yes" if view.online else "no"),
        ("tags", ", ".join(f"{k}={v}" if v else k for k, v in view.tags.items()) or None),
        ("relation", view.relation or None),
    ):
        if value is not None:
            click.echo(f"{label + ':':<19}{value}")
    click.echo()
    print_rows(
        ["column", "role", "type", "description"],
        [[e.name, "join key", str(e.dtype), e.description] for e in view.entities]
        + [[f.name, "feature", str(f.dtype), f.description] for f in view.features],
    )


def _show_service(service: FeatureService, output: str) -> None:
    if output == "json":
        return print_json(service_json(service))
    _heading(service.name, service.description)
    if service.owner:
        click.echo(f"owner: {service.owner}")
    for feature in service.features:
        click.echo(f"  {feature}")


def _heading(name: str, description: str) -> None:
    click.echo(name)
    if description:
        click.echo(description.strip())
    click.echo()


def view_json(view: FeatureView) -> dict[str, Any]:
    """A view as the commands print it."""
    return {
        "name": view.name,
        "version": view.version,
        "reference": view.reference,
        "description": view.description,
        "owner": view.owner,
        "tags": dict(view.tags),
        "entities": [{"name": e.name, "type": str(e.dtype), "description": e.description} for e in view.entities],
        "features": [{"name": f.name, "type": str(f.dtype), "description": f.description} for f in view.features],
        "timestamp": view.timestamp,
        "created_timestamp": view.created_timestamp,
        "available_after_seconds": view.available_after,
        "ttl_seconds": view.ttl,
        "online": view.online,
        "relation": view.relation or None,
    }


def service_json(service: FeatureService) -> dict[str, Any]:
    """A service as the commands print it."""
    return {
        "name": service.name,
        "description": service.description,
        "owner": service.owner,
        "tags": dict(service.tags),
        "features": list(service.features),
    }
