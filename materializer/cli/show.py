"""``feature-store show``: one view, feature, entity or service, and what stands around it."""

from __future__ import annotations

from typing import Any

import click

from materializer.catalog.neighbours import Neighbours, Tested
from materializer.cli.common import brief, open_store, output_option, print_json, print_rows, say, store_options
from materializer.cli.shapes import entity_json, feature_json, service_json, view_json
from materializer.errors import NotFoundError
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView
from materializer.project.duration import format_duration
from materializer.store import FeatureStore
from materializer.warehouse.join_keys import type_name


@click.command()
@click.argument("name")
@store_options
@output_option
def show(name: str, output: str, **where: Any) -> None:
    """Show one feature view (NAME or NAME.v2), feature (VIEW:FEATURE), entity or feature service.

    \b
        feature-store show user_features --project-dir dbt_project
    """
    store = open_store(reader=True, **where)
    reference, _, feature = name.partition(":")
    try:
        view = store.get_feature_view(reference)
    except NotFoundError as error:
        services = {service.name: service for service in store.list_feature_services()} if feature else {}
        if reference in services:
            return _show_of_service(services[reference], feature, output)
        if feature:
            raise
        return _show_other(store, name, output, error)
    around = store.get_neighbours(reference) if store.has_project else None
    if feature:
        return _show_feature(view, feature, around, output)
    if output == "json":
        return print_json({**view_json(view), **(_around_json(around) if around else {})})
    _heading(view.reference, view.description)
    _facts(
        owner=view.owner,
        timestamp=view.timestamp,
        created_timestamp=view.created_timestamp,
        available_after=view.available_after and format_duration(view.available_after),
        ttl=format_duration(view.ttl) if view.ttl else "no limit",
        warn_after=view.warn_after and format_duration(view.warn_after),
        error_after=view.error_after and format_duration(view.error_after),
        online="yes" if view.online else "no",
        tags=", ".join(f"{key}={value}" if value else key for key, value in view.tags.items()),
        relation=view.relation,
        file=around and around.file,
        made_from=around and ", ".join(around.made_from),
        used_by=around and ", ".join(around.used_by),
        tests=around and _counted(around.tests),
    )
    say()
    print_rows(
        ["column", "role", "type", "description"],
        [[e.name, "join key", e.dtype and type_name(e.dtype), brief(e.description)] for e in view.entities]
        + [[f.name, "feature", f.dtype, brief(f.description)] for f in view.features]
        + [[f.name, "on demand", f.dtype, brief(f.description)] for f in view.on_demand],
    )


def _show_feature(view: FeatureView, name: str, around: Neighbours | None, output: str) -> None:
    feature = view.feature(name)
    services = around.services.get(name, ()) if around else ()
    tests = [test.name for test in around.tests if (test.column or "").lower() == name.lower()] if around else []
    if output == "json":
        known = {"services": list(services), "tests": tests} if around else {}
        return print_json(
            {"reference": f"{view.reference}:{name}", **feature_json(feature), "view": view.reference,
             "entities": list(view.join_keys), "owner": view.owner, "tags": dict(view.tags), **known}
        )  # fmt: skip
    _heading(f"{view.reference}:{name}", feature.description)
    _facts(
        type=feature.dtype,
        **_computed(feature),
        entities=", ".join(view.join_keys),
        owner=view.owner,
        ttl=format_duration(view.ttl) if view.ttl else "no limit",
        services=", ".join(services),
        tests=", ".join(tests),
    )


def _computed(feature: Feature) -> dict[str, str]:
    """From what a feature is computed on demand; nothing of one that is stored."""
    how = feature.on_demand
    if how is None:
        return {}
    request = ", ".join(f"{name} ({declared.lower()})" for name, declared in how.request.items())
    return {"expression": how.expression, "request": request, "reads": ", ".join(how.reads.values())}


def _show_of_service(service: FeatureService, name: str, output: str) -> None:
    feature = next((one for one in service.on_demand if one.name == name), None)
    if feature is None:
        there = ", ".join(one.name for one in service.on_demand) or "none"
        raise NotFoundError(
            f"Feature service '{service.name}' has no on-demand feature '{name}' of its own; it has: {there}."
        )
    if output == "json":
        return print_json({"reference": f"{service.name}:{name}", **feature_json(feature), "service": service.name})
    _heading(f"{service.name}:{name}", feature.description)
    _facts(type=feature.dtype, **_computed(feature), owner=service.owner)


def _show_other(store: FeatureStore, name: str, output: str, error: NotFoundError) -> None:
    """An entity or service, where `name` is no view."""
    services = {service.name: service for service in store.list_feature_services()}
    if name in services:
        return _show_service(services[name], output)
    views = store.list_feature_views()
    for entity in store.list_entities():
        if entity.name == name:
            return _show_entity(entity, [view.reference for view in views if name in view.join_keys], output)
    entities = ", ".join(entity.name for entity in store.list_entities()) or "none"
    raise NotFoundError(
        f"{error} It is no entity (there are: {entities}) and no service (there are: {', '.join(services) or 'none'})."
    )


def _show_service(service: FeatureService, output: str) -> None:
    if output == "json":
        return print_json(service_json(service))
    _heading(service.name, service.description)
    _facts(owner=service.owner)
    for feature in service.references:
        say(f"  {feature}")


def _show_entity(entity: Entity, views: list[str], output: str) -> None:
    if output == "json":
        return print_json({**entity_json(entity), "views": views})
    _heading(entity.name, entity.description)
    _facts(type=entity.dtype and type_name(entity.dtype), views=", ".join(views))


def _around_json(around: Neighbours) -> dict[str, Any]:
    return {
        "file": around.file,
        "made_from": list(around.made_from),
        "used_by": list(around.used_by),
        "tests": [{"name": one.name, "column": one.column, "kind": one.kind} for one in around.tests],
    }


def _counted(tests: tuple[Tested, ...]) -> str:
    counts = {kind: sum(test.kind == kind for test in tests) for kind in ("data", "unit")}
    return (
        ", ".join(f"{count} {kind} test{'s' if count > 1 else ''}" for kind, count in counts.items() if count) or "none"
    )


def _heading(name: str, description: str) -> None:
    say(name)
    if description:
        first, *more = description.strip().split("\n")
        say(first)
        for line in more:
            say(f"  {line}".rstrip())
    say()


def _facts(**facts: Any) -> None:
    """A line for each that is known."""
    for label, value in facts.items():
        if value:
            say(f"{label.replace('_', ' ') + ':':<19}{value}")
