"""``feature-store online``: values of entities now, from the online store."""

from __future__ import annotations

import logging
from typing import Any

import click

from materializer.cli.common import key_values, open_store, output_option, print_json, print_rows, say, store_options
from materializer.errors import InputError
from materializer.project.definitions import pick_features, request_fields, split_reference
from materializer.store import FeatureStore


@click.command()
@click.argument("features", nargs=-1, required=True, metavar="FEATURE ...")
@click.option("--entity", "-e", "entities", multiple=True, metavar="KEY=VALUE[,KEY=VALUE]", required=True,
              help="One entity's join keys, or as JSON: '{\"name\": \"a,b=c\"}'. Repeat it for more.")  # fmt: skip
@click.option("--full-feature-names", is_flag=True, help="Call values view__feature.")
@store_options
@output_option
def online(
    features: tuple[str, ...], entities: tuple[str, ...], full_feature_names: bool, output: str, **where: Any
) -> None:
    """Read features of entities from the online store.

    FEATURE is a reference (user_features:age), a feature view (all of its stored features) or a feature service. What
    on-demand features need of the request stands beside the join keys: -e user_id=1,amount=25.

        feature-store online user_features -e user_id=1 -e user_id=2

    It prints a row an entity, with (not found), (too old) or (null) where there is no value; --output json tells the
    statuses and event times of all.
    """
    rows = [key_values(entity) for entity in entities]
    # What is published counts here, whatever the project and its warehouse are at.
    named = open_store(reader=True, starts_redis=True, **where)
    store = FeatureStore(redis_url=named._redis_url, namespace=named.namespace)
    logging.getLogger("materializer").addHandler(logging.NullHandler())  # problems are said here, once
    asked = references(store, features)
    _check_keys(store, asked, rows)
    response = store.get_online_features(asked, rows, full_feature_names)
    for problem in response.problems:
        say(f"Warning: {problem}", err=True)
    answer = response.to_dict(include_statuses=True, include_event_timestamps=True)
    if output == "json":
        return print_json(answer)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    names = [name for name in answer if f"{name}__status" in answer]
    lines = [
        [row.get(key) for key in keys]
        + [_MISSING.get(answer[f"{name}__status"][number], answer[name][number]) for name in names]
        for number, row in enumerate(rows)
    ]
    return print_rows([*keys, *names], lines)


_MISSING = {"NOT_FOUND": "(not found)", "OUTSIDE_MAX_AGE": "(too old)", "NULL_VALUE": "(null)"}


def _check_keys(store: FeatureStore, asked: list[str], rows: list[dict[str, Any]]) -> None:
    """Raises:
    InputError: for a key that none of the views has, and no request field is: on a command line that is a slip.
    """
    registry = store._registry()
    fields = request_fields(pick_features(registry, dict.fromkeys(asked), full_feature_names=True))
    views = dict.fromkeys(split_reference(reference)[0] for reference in registry.stored(asked))
    known = dict.fromkeys(key for view in views for key in registry.view(view).join_keys)
    for name in (name for row in rows for name in row if name not in known and name not in fields):
        brought = f"; the request fields are: {', '.join(fields)}" if fields else ""
        raise InputError(
            f"'{name}' is no join key of {', '.join(views)}; the join keys are: {', '.join(known)}{brought}."
        )


def references(store: FeatureStore, names: tuple[str, ...]) -> list[str]:
    """References as they are; a view's name as all of its features, a service's as its list."""
    found: list[str] = []
    services = {service.name: service for service in store.list_feature_services()}
    for name in names:
        if ":" in name:
            found.append(name)
        elif name in services:
            found += services[name].references
        else:
            found += [f"{name}:{feature.name}" for feature in store.get_feature_view(name).features]
    return found
