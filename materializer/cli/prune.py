"""``feature-store prune``: remove views and versions that left the project."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, print_rows, say, store_options


@click.command()
@click.option("--grace", default="7 days", show_default=True, help="Keep what was materialized this lately.")
@store_options
@output_option
def prune(grace: str, output: str, **where: Any) -> None:
    """Remove from Redis what the project does not declare any more: old versions, deleted views.

    Readers of an old version have the grace period to move on; it counts from the version's last run.

        feature-store prune --grace '7 days' --project-dir dbt_project
    """
    pruned = open_store(**where).prune(grace)
    if output == "json":
        return print_json({"views": [asdict(one) for one in pruned]})
    if not pruned:
        return say("Nothing to remove: every published view is declared.")
    return print_rows(
        ["view", "last run", "rows deleted"],
        [[one.view, one.last_run, "kept for now" if one.rows_deleted is None else one.rows_deleted] for one in pruned],
    )
