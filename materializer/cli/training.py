"""``feature-store training``: features as they were at each label's moment, and training sets made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, print_rows, say, store_options
from materializer.cli.online import references
from materializer.store import FeatureStore
from materializer.training.spine import read_spine
from materializer.warehouse.moments import to_rows


@click.command()
@click.option("--spine", help="Labels: a Parquet, CSV or JSON-lines file (a path, or a URL as s3://...), or a SELECT.")
@click.option("--feature", "-f", "features", multiple=True, help="A reference, view or service; repeatable.")
@click.option("--service", help="A feature service.")
@click.option("--timestamp", default="event_timestamp", show_default=True, help="The spine's time column.")
@click.option("--full-feature-names", is_flag=True, help="Call columns view__feature.")
@click.option("--out", type=click.Path(dir_okay=False),
              help="A Parquet or CSV file, with a record of what made it beside it; else rows print.")  # fmt: skip
@click.option("--rows", default=10, show_default=True, help="How many rows to print without --out.")
@click.option("--from", "source", type=click.Path(dir_okay=False), metavar="RECORD",
              help="Make the set again that this record (set.parquet.json) is of.")  # fmt: skip
@click.option("--allow-changes", is_flag=True, help="With --from: write it although it is not the same any more.")
@store_options
@output_option
@click.pass_context
def training(
    context: click.Context,
    spine: str | None,
    features: tuple[str, ...],
    service: str | None,
    timestamp: str,
    full_feature_names: bool,
    out: str | None,
    rows: int,
    source: str | None,
    allow_changes: bool,
    output: str,
    **where: Any,
) -> None:
    """Join features to labels, each as it was at the label's moment.

    \b
        feature-store training --spine labels.parquet --service recommendation --out set.parquet
        feature-store training --from set.parquet.json --out again.parquet

    Beside set.parquet, set.parquet.json says what made it: code, definitions, data and labels, as versions and hashes.
    With --from the same bytes come out, or what has changed is told and nothing is written.
    """
    if out and Path(out).suffix not in (".parquet", ".csv"):
        raise click.UsageError(f"--out writes .parquet or .csv, not '{Path(out).name}'.")
    if source:
        given = [
            name
            for name in ("features", "service", "timestamp", "full_feature_names", "rows")
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if given or not out:
            raise click.UsageError("--from takes features and options from the record: give --out, and none of them.")
        return _again(open_store(**where), source, out, spine, allow_changes, output)
    if allow_changes:
        raise click.UsageError("--allow-changes needs --from.")
    if not features and not service:
        raise click.UsageError("Name the features with --service or --feature.")
    if not spine:
        raise click.UsageError("Name the labels with --spine.")
    store = open_store(**where)
    asked = references(store, features) + (list(store.get_feature_service(service).references) if service else [])
    if out:
        record = store.save_training_set(out, spine, asked, full_feature_names, timestamp=timestamp).output
        if output == "json":
            columns = [column.name for column in record.columns]
            return print_json({"rows": record.rows, "columns": columns, "out": str(out)})
        return say(f"{record.rows} rows and {len(record.columns)} columns written to {out}")
    result = store.get_historical_features(
        read_spine(spine, store.project.connection).rows, asked, full_feature_names, timestamp=timestamp
    )
    table = result.to_arrow()
    shown = to_rows(table.slice(0, rows))
    if output == "json":
        return print_json(shown)
    return print_rows(table.column_names, [list(row.values()) for row in shown])


def _again(
    store: FeatureStore, source: str, out: str, spine: str | None, allow_changes: bool, output: str
) -> None:  # fmt: skip
    done = store.repeat_training_set(source, out, spine, allow_changes=allow_changes)
    if output == "json":
        rows = done.record.output.rows
        return print_json({"rows": rows, "out": str(out), "same": done.same, "changes": list(done.changes)})
    what = "the same bytes as before" if done.same else "not the same as before"
    say(f"{done.record.output.rows} rows written to {out}: {what}")
    if done.changes:
        say("Since then: " + "; ".join(done.changes) + ".")
    return None
