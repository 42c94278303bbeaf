"""``feature-store online`` and ``training``: values of entities now, and as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from materializer.cli.common import key_values, open_store, output_option, print_json, print_rows, store_options
from materializer.errors import InputError
from materializer.online.connect import redis_url
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
    store = FeatureStore(redis_url=redis_url(where["redis_url"]), namespace=open_store(reader=True, **where).namespace)
    answer = store.get_online_features(_references(store, features), rows, full_feature_names).to_dict(
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


@click.command()
@click.option(
    "--spine", required=True, help="Labels: a Parquet, CSV or JSON-lines file, or a SELECT for the warehouse."
)
@click.option("--feature", "-f", "features", multiple=True, help="A reference, view or service; repeatable.")
@click.option("--service", help="A feature service.")
@click.option("--timestamp", default="event_timestamp", show_default=True, help="The spine's time column.")
@click.option("--full-feature-names", is_flag=True, help="Call columns view__feature.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A Parquet or CSV file; else rows print.")
@click.option("--rows", default=10, show_default=True, help="How many rows to print without --out.")
@store_options
@output_option
def training(
    spine: str,
    features: tuple[str, ...],
    service: str | None,
    timestamp: str,
    full_feature_names: bool,
    out: Path | None,
    rows: int,
    output: str,
    **where: Any,
) -> None:
    """Join features to labels, each as it was at the label's moment.

    \b
        feature-store training --spine labels.parquet --service recommendation --out set.parquet
    """
    if not features and not service:
        raise click.UsageError("Name the features with --service or --feature.")
    if out and out.suffix not in (".parquet", ".csv"):
        raise click.UsageError(f"--out writes .parquet or .csv, not '{out.name}'.")
    store = open_store(**where)
    asked = _references(store, features) + (list(store.get_feature_service(service).features) if service else [])
    result = store.get_historical_features(_spine(spine), asked, full_feature_names, timestamp=timestamp)
    table = result.to_arrow()
    if out is None:
        shown = table.slice(0, rows).to_pylist()
        if output == "json":
            return print_json(shown)
        return print_rows(table.column_names, [list(row.values()) for row in shown])
    if out.suffix == ".csv":
        _write_csv(table, out)
    else:
        result.to_parquet(out)
    if output == "json":
        return print_json({"rows": table.num_rows, "columns": table.column_names, "out": str(out)})
    return click.echo(f"{table.num_rows} rows and {table.num_columns} columns written to {out}")


def _references(store: FeatureStore, names: tuple[str, ...]) -> list[str]:
    """References as they are; a view's name as all of its features, a service's as its list."""
    references: list[str] = []
    services = {service.name: service for service in store.list_feature_services()}
    for name in names:
        if ":" in name:
            references.append(name)
        elif name in services:
            references += services[name].features
        else:
            references += [f"{name}:{feature.name}" for feature in store.get_feature_view(name).features]
    return references


def _spine(text: str) -> Any:
    path = Path(text)
    if text.lstrip().lower().startswith(("select", "with", "from")) and not path.exists():
        return text
    readers = {
        ".parquet": pyarrow.parquet.read_table,
        ".csv": pyarrow.csv.read_csv,
        ".json": pyarrow.json.read_json,
        ".jsonl": pyarrow.json.read_json,
    }
    if path.suffix not in readers:
        raise InputError(f"--spine is a .parquet, .csv or .jsonl file, or a SELECT; '{text}' is none of them.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        return readers[path.suffix](path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _write_csv(table: pyarrow.Table, out: Path) -> None:
    """Whole or not at all, as `TrainingSet.to_parquet`."""
    partial = out.with_name(out.name + ".partial")
    try:
        pyarrow.csv.write_csv(table, partial)
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}.") from None
    except pyarrow.ArrowException as error:
        raise InputError(f"{out} cannot be written ({error}): lists and the like need .parquet.") from None
    finally:
        partial.unlink(missing_ok=True)
