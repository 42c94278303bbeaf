"""``feature-store freshness``: are features up to date, for people and for alarms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from materializer.catalog import webhook
from materializer.catalog.freshness import Freshness, report, summary
from materializer.cli.common import (
    open_store,
    output_option,
    print_json,
    print_rows,
    say,
    store_options,
    webhook_option,
)
from materializer.errors import FeatureStoreError
from materializer.project.duration import format_age


@click.command()
@click.argument("views", nargs=-1, metavar="[VIEW ...]")
@click.option("--fail-on", type=click.Choice(["error", "warn"]), default="error", show_default=True,
              help="Exit with 1 from this status on.")  # fmt: skip
@webhook_option("when a view does not pass")
@click.option("--webhook-always", is_flag=True, help="POST the report of every run.")
@store_options
@output_option
@click.pass_context
def freshness(
    context: click.Context,
    views: tuple[str, ...],
    fail_on: str,
    url: str | None,
    webhook_always: bool,
    output: str,
    **where: Any,
) -> None:
    """Compare the newest event, load and materialization of feature views with their limits.

    The limits are `ttl` and `freshness` in meta.feature_view. Exits with 1 where a view is in error.

        feature-store freshness --project-dir dbt_project
    """
    if webhook_always and not url:
        raise click.UsageError("--webhook-always needs --webhook.")
    try:
        results = open_store(**where).get_freshness(views)
    except FeatureStoreError as error:
        if url:  # an alarm that falls silent when it cannot look would be none
            unchecked = {"text": f"Freshness could not be checked: {error}", "error": str(error)}
            try:
                webhook.send(url, report([]) | unchecked)
            except FeatureStoreError as undelivered:
                say(f"Error: {undelivered}", err=True)
        raise
    document = report(results)
    if output == "json":
        print_json(document)
    else:
        _print(results)
    passed = all(result.status == "pass" for result in results)
    if url and (webhook_always or not passed):
        webhook.send(url, document)
    failing = ("error",) if fail_on == "error" else ("error", "warn")
    if any(result.status in failing for result in results):
        context.exit(1)


def _print(results: list[Freshness]) -> None:
    if not results:
        return say("The project declares no feature view.")
    print_rows(
        ["view", "status", "newest event", "newest load", "materialized", "rows", "entities", "past ttl"],
        [
            [r.view, r.status, _ago(r.event_age), _ago(r.load_age), _materialized(r), r.rows, r.entities,
             r.expired_entities]
            for r in results
        ],
    )  # fmt: skip
    said: dict[str, list[str]] = {}
    for result in results:
        for reason in result.reasons:
            said.setdefault(reason, []).append(result.view)
    for reason, names in said.items():
        say(f"{', '.join(names)}: {reason}.")
    return say(summary(results).partition(";")[0] + ".")


def _ago(age: timedelta | None) -> str | None:
    return None if age is None else f"{format_age(age)} ago"


def _materialized(result: Freshness) -> str | None:
    if not result.online:
        return "offline"
    return _ago(result.materialization_age) or ("never" if result.published is False else "unknown")
