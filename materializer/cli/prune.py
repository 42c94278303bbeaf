"""``feature-store prune``: remove views and versions that left the project."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, print_rows, say, store_options


@click.command()
@click.option("--grace", default="7 days", show_default=True, help="Keep what was materialized this lately.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would go.")
@store_options
@output_option
def prune(grace: str, dry_run: bool, output: str, **where: Any) -> None:
    """Remove from Redis what the project does not declare any more: old versions, deleted views.

    Readers of an old version have the grace period to move on; it counts from the version's last run.

        feature-store prune --grace '7 days' --project-dir dbt_project
    """
    pruned = open_store(**where).prune(grace, dry_run=dry_run)
    if output == "json":
        return print_json({"views": [asdict(one) for one in pruned], **({"dry_run": True} if dry_run else {})})
    if not pruned:
        return say("Nothing to remove: every published view is declared.")
    if dry_run:
        say("A dry run: nothing was changed. It would be:")
    return print_rows(
        ["view", "last run", "rows deleted"],
        [
            [one.view, one.last_run or "unknown", "kept for now" if one.rows_deleted is None else one.rows_deleted]
            for one in pruned
        ],
    )
