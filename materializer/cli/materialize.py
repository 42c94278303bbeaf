"""``materialize``: after ``dbt build``, make Redis equal to the latest rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, print_rows, store_options
from materializer.cli.progress import progress_bars
from materializer.errors import FeatureStoreError, MaterializationError


@click.command()
@click.argument("views", nargs=-1, metavar="[VIEW ...]")
@click.option("--select", "selected", multiple=True, metavar="tag:TAG", help="Only views with this tag; repeatable.")
@click.option("--full", is_flag=True, help="Send every row again and remove what is gone (every run does, for now).")
@store_options
@output_option
@click.pass_context
def materialize(
    context: click.Context, views: tuple[str, ...], selected: tuple[str, ...], full: bool, output: str, **where: Any
) -> None:
    """Make the online store equal to the latest rows of the feature views.

    Without VIEW every online view is sent. Run it after `dbt build`:

        materialize --project-dir dbt_project
    """
    tags = []
    for text in selected:
        kind, colon, tag = text.partition(":")
        if kind != "tag" or not colon or not tag:
            raise click.UsageError(f"--select takes tag:<name>, not '{text}'.")
        tags.append(tag)
    store = open_store(**where)
    failure: FeatureStoreError | None = None
    with progress_bars() as progress:
        try:
            results = store.materialize(feature_views=views, full=full, tags=tags, progress=progress)
        except MaterializationError as error:
            results, failure = error.results, error
    if output == "json":
        print_json({"views": [asdict(result) for result in results]})
    else:
        print_rows(
            ["view", "read", "written", "skipped", "deleted", "seconds"],
            [[r.view, r.rows_read, r.rows_written, r.rows_skipped, r.rows_deleted, r.seconds]
             for r in results if not r.error],
        )  # fmt: skip
    for result in results:
        if result.error:
            click.echo(f"Error: {result.view}: {result.error}", err=True)
    if failure:
        context.exit(1)
