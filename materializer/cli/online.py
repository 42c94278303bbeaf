"""``feature-store online``: values of entities now, from the online store."""

from __future__ import annotations

from typing import Any

import click

from materializer.cli.common import key_values, open_store, output_option, print_json, print_rows, store_options
from materializer.store import FeatureStore


@click.command()
@click.argument("features", nargs=-1, required=True, metavar="FEATURE ...")
@click.option("--entity", "-e", "entities", multiple=True, metavar="KEY=VALUE[,KEY=VALUE]", required=True,
              help="The join keys of one entity; repeat it for more entities.")  # fmt: skip
@click.option("--full-feature-names", is_flag=True, help="Call values view__feature.")
@store_options
@output_option
def online(
    features: tuple[str, ...], entities: tuple[str, ...], full_feature_names: bool, output: str, **where: Any
) -> None:
    """Read features of entities from the online store.

    FEATURE is a reference (user_features:age), a feature view (all of its features) or a feature service.

        feature-store online user_features -e user_id=1
    """
    rows = [key_values(tuple(entity.split(","))) for entity in entities]
    # What is published counts here, whatever the project and its warehouse are at.
    named = open_store(reader=True, starts_redis=True, **where)
    store = FeatureStore(redis_url=named._redis_url, namespace=named.namespace)
    answer = store.get_online_features(references(store, features), rows, full_feature_names).to_dict(
        include_statuses=True, include_event_timestamps=True
    )
    if output == "json":
        return print_json(answer)
    names = [name for name in answer if f"{name}__status" in answer]
    lines = []
    for number, row in enumerate(rows):
        entity = ",".join(f"{key}={value}" for key, value in row.items())
        for name in names:
            event = answer[f"{name}__event_timestamp"][number]
            lines.append([entity, name, answer[name][number], answer[f"{name}__status"][number], event])
    return print_rows(["entity", "feature", "value", "status", "event timestamp"], lines)


def references(store: FeatureStore, names: tuple[str, ...]) -> list[str]:
    """References as they are; a view's name as all of its features, a service's as its list."""
    found: list[str] = []
    services = {service.name: service for service in store.list_feature_services()}
    for name in names:
        if ":" in name:
            found.append(name)
        elif name in services:
            found += services[name].features
        else:
            found += [f"{name}:{feature.name}" for feature in store.get_feature_view(name).features]
    return found
