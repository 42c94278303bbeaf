"""``feature-store list``: what exists."""

from __future__ import annotations

from typing import Any

import click

from materializer.cli.common import brief, open_store, output_option, print_json, print_rows, store_options
from materializer.cli.shapes import service_json, view_json
from materializer.project.definitions import entities_of
from materializer.warehouse.join_keys import type_name


@click.command("list")
@click.argument("what", type=click.Choice(["views", "features", "entities", "services"]), default="views")
@click.option("--tag", "tags", multiple=True, help="Only what has this tag, or tag=value; repeatable.")
@click.option("--owner", help="Only what this group (for a service: person or team) owns.")
@click.option("--entity", help="Only what is keyed by this join key.")
@store_options
@output_option
def list_(what: str, tags: tuple[str, ...], owner: str | None, entity: str | None, output: str, **where: Any) -> None:
    """List feature views (the default), features, entities or services.

    \b
        feature-store list features --tag team=growth --project-dir dbt_project
    """
    store = open_store(reader=True, **where)
    if what == "services":
        services = store.list_feature_services(tags=list(tags))
        if owner or entity:
            found = {match.reference for match in store.search(kind="service", owner=owner, entity=entity)}
            services = [service for service in services if service.name in found]
        if output == "json":
            return print_json([service_json(service) for service in services])
        return print_rows(
            ["service", "features", "owner", "description"],
            [[s.name, len(s.features), s.owner, brief(s.description)] for s in services],
        )
    views = [
        view
        for view in store.list_feature_views(tags=list(tags))
        if (not owner or view.owner == owner) and (not entity or entity in view.join_keys)
    ]
    if what == "views":
        if output == "json":
            return print_json([view_json(view) for view in views])
        return print_rows(
            ["view", "entities", "features", "ttl", "owner", "description"],
            [
                [v.reference, ", ".join(v.join_keys), len(v.features), v.ttl, v.owner, brief(v.description)]
                for v in views
            ],
        )
    if what == "features":
        rows = [[f"{v.reference}:{f.name}", f.dtype, brief(f.description)] for v in views for f in v.features]
        names = ["feature", "type", "description"]
    else:
        entities = entities_of(views)
        used = {e.name: [v.reference for v in views if e.name in v.join_keys] for e in entities}
        rows = [[e.name, e.dtype and type_name(e.dtype), used[e.name], brief(e.description)] for e in entities]
        names = ["entity", "type", "views", "description"]
    if output == "json":
        return print_json([dict(zip(names, row, strict=True)) for row in rows])
    return print_rows(names, rows)
