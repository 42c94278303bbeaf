"""Training sets as files that can be made again: the same bytes, or an answer to what has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import FeatureStoreError, InputError, worded
from materializer.project.definitions import FeatureView, Registry, split_reference
from materializer.project.duration import macro_moment
from materializer.project.git import git_state
from materializer.project.graph import Graph
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.render import MacroRenderer
from materializer.project.settings import Project
from materializer.project.storage import Remote, place
from materializer.training.files import SUFFIXES, column_sha256, put_in_place, whole_or_not_at_all, write_table
from materializer.training.join import TrainingSet, get_historical_features, labels_of, spine_timestamp
from materializer.training.labels import path_from, recorded_spine
from materializer.training.record import (
    FORMAT,
    ColumnFacts,
    OnDemandFacts,
    Options,
    OutputFacts,
    SpineFacts,
    TrainingRecord,
    ViewFacts,
    differences,
    dump_record,
    output_difference,
    read_record,
    record_path,
)
from materializer.training.spine import Spine, file_sha256, read_spine
from materializer.warehouse import Warehouse, open_warehouse
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.moments import to_rows

# A file as a user names it: its path or URL.
Named = str | os.PathLike[str]


class TrainingSetChangedError(FeatureStoreError):
    """A training set cannot be made again as it was. `changes` are sentences; nothing was written."""

    def __init__(self, message: str, changes: tuple[str, ...]) -> None:
        super().__init__(message)
        self.changes = changes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.changes)


@dataclass(frozen=True)
class Repeated:
    """A training set made again: its new record, whether its bytes are the same, and what has changed since."""

    record: TrainingRecord
    same: bool
    changes: tuple[str, ...]


def save(project: Project, named: Named, spine: Any, features: Any, options: Options) -> TrainingRecord:
    """See `materializer.FeatureStore.save_training_set`."""
    path = _checked(project, named)
    with whole_or_not_at_all(path) as partial:
        record = _make(project, read_spine(spine, project.connection), features, options, partial, path)
        _put_in_place(partial, path, record)
    return record


def repeat(project: Project, record: Named, named: Named, spine: Any = None, allow_changes: bool = False) -> Repeated:
    """See `materializer.FeatureStore.repeat_training_set`."""
    path, source = _checked(project, named), place(record, project.connection)
    old = read_record(source)
    if Path(old.output.file).suffix != path.suffix:
        raise InputError(f"{old.output.file} can only be made again with its own suffix, not as '{path.name}'.")
    if spine is not None:
        labels, rows = read_spine(spine, project.connection), None
    else:
        labels, rows = recorded_spine(project, old, source)
    with whole_or_not_at_all(path) as partial:
        new = _make(project, labels, old.features, old.options, partial, path, rows)
        changes = tuple(differences(old, new))
        same = new.output.sha256 == old.output.sha256
        if not same and not allow_changes:
            causes = changes or ("nothing that was recorded explains it, so a view may give other rows on every read",)
            if old.git_dirty and old.git_revision == new.git_revision:
                causes += ("the project already had uncommitted changes when it was made",)
            raise worded(
                lambda text: TrainingSetChangedError(text, changes),
                lambda say: (
                    f"{old.output.file} cannot be made again as it was: {output_difference(old.output, new.output)}. "
                    f"Since then: {'; '.join(causes)}. Nothing was written: {say.allow_changes} writes it all the same."
                ),
            )
        _put_in_place(partial, path, new)
    return Repeated(new, same, changes)


def _checked(project: Project, named: Named) -> Path | Remote:
    """The file that a training set is to be written to."""
    path = place(named, project.connection)
    if path.suffix not in SUFFIXES:
        raise InputError(f"A training set is written as {' or '.join(SUFFIXES)}, not '{path.name}'.")
    return path


def _put_in_place(partial: Path, path: Path | Remote, record: TrainingRecord) -> None:
    """First the record that may be of an older set goes, so that none is ever beside a set that it is not of."""
    beside = record_path(path)
    try:
        with whole_or_not_at_all(beside) as record_partial:
            record_partial.write_text(dump_record(record), encoding="utf-8")
            if beside.is_file():  # who may write to a bucket and remove nothing is refused only then
                beside.unlink(missing_ok=True)
            put_in_place(partial, path)
            put_in_place(record_partial, beside)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _make(
    project: Project, spine: Spine, features: Any, options: Options, partial: Path, path: Path | Remote,
    recorded: pa.Table | None = None,
) -> TrainingRecord:  # fmt: skip
    """Join, write the set to `partial`, and record what went into it. The warehouse is one and the same throughout.

    `recorded` are the rows that the spine's SQL gave, where that is not the user's own and has run apart.
    """
    if spine.path is not None and _resolved(spine.path) == _resolved(path):
        raise InputError(f"{path} is the spine itself: write the training set to another file.")
    manifest = load_manifest(project)
    registry = read_registry(manifest)
    references = registry.references(features)
    with open_warehouse(project) as warehouse:
        rows = spine.rows
        if recorded is not None:
            rows = f"select * from {warehouse.spine('_fs_recorded_spine', recorded)}"
        result = get_historical_features(warehouse, manifest, registry, rows, references, options)
        table = result.to_arrow()
        macros = MacroRenderer(manifest, warehouse.columns)
        views = _view_facts(warehouse, macros, manifest, registry, references, options, _newest(result, options))
        spine_facts = _spine_facts(warehouse, macros, spine, result, path)
        engine = {warehouse.dialect: warehouse.version}
    write_table(table, partial, path)
    git = git_state(project.folder)
    definitions = json.dumps([[view.reference, view.definition] for view in views])
    return TrainingRecord(
        format=FORMAT, made_at=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        versions=_versions(manifest, engine), project=project.name, target=project.target,
        git_revision=git.revision if git else None, git_dirty=git.dirty if git else None,
        manifest_sha256=file_sha256(project.manifest_path), definitions_sha256=_sha256(definitions),
        features=tuple(references), options=options, spine=spine_facts, views=tuple(views),
        on_demand=tuple(_on_demand_facts(registry, references)),
        output=_output_facts(table, dict(zip(result.features, references, strict=True)), partial, path),
    )  # fmt: skip


def _view_facts(
    warehouse: Warehouse, macros: MacroRenderer, manifest: Mapping[str, Any], registry: Registry,
    references: Sequence[str], options: Options, until: str | None,
) -> list[ViewFacts]:  # fmt: skip
    picked: dict[str, list[str]] = {}
    for reference in registry.stored(references):
        name, feature = split_reference(reference)
        picked.setdefault(name, []).append(feature)
    facts = []
    graph = Graph(manifest)
    for name, features in picked.items():
        view = registry.view(name)
        sql = macros.render(
            "_view_fingerprint", name, features, until=until,
            filter_by_created_timestamp=options.filter_by_created_timestamp,
        )  # fmt: skip
        (row,) = to_rows(warehouse.query(sql))
        node = manifest["nodes"][view.unique_id]
        compiled = _compiled(node)
        above = graph.upstream_models(view.unique_id)
        models = {one["unique_id"].removeprefix("model."): one["checksum"]["checksum"] for one in above}
        facts.append(
            ViewFacts(
                name=name, reference=view.reference, definition=_definition(node, view),
                compiled=_sha256(compiled) if compiled else None, models=models, rows=row["rows_in_all"],
                rows_read=row["rows_read"], until=until, content=row["content"],
                newest_event=str(row["newest_event"]) if row["newest_event"] else None,
            )
        )  # fmt: skip
    return facts


def _on_demand_facts(registry: Registry, references: Sequence[str]) -> Iterator[OnDemandFacts]:
    for reference in references:
        feature = registry.on_demand(reference)
        if feature is not None and feature.on_demand is not None:
            how = feature.on_demand
            yield OnDemandFacts(reference, how.expression, dict(how.request), dict(how.reads))


def _compiled(node: Mapping[str, Any]) -> str | None:
    """A view's compiled SQL, where it is the same after every run: an incremental model's is not."""
    if (node.get("config") or {}).get("materialized") == "incremental" or "is_incremental" in (node["raw_code"] or ""):
        return None
    return node.get("compiled_code")


def _definition(node: Mapping[str, Any], view: FeatureView) -> str:
    """Of what a view's author writes; dbt's own manifest is another one after every run."""
    config = node["config"]
    parts = {
        "file": node["checksum"]["checksum"],
        "feature_view": (config.get("meta") or node.get("meta") or {})["feature_view"],
        "columns": {name: column.get("data_type") for name, column in node["columns"].items()},
        "materialized": config.get("materialized"),
        "version": view.version,
    }
    return _sha256(json.dumps(parts, sort_keys=True, default=str))


def _spine_facts(
    warehouse: Warehouse, macros: MacroRenderer, spine: Spine, result: TrainingSet, path: Path | Remote
) -> SpineFacts:
    table = result.to_arrow()
    facts = SpineFacts(spine.kind, None, spine.sha256, None, table.num_rows, None)
    if spine.path is not None:
        return replace(facts, path=path_from(spine.path, record_path(path)))
    if spine.kind == "rows":
        return facts
    labels = labels_of(result)
    relation = warehouse.spine("_fs_spine_rows", labels)
    (row,) = warehouse.query(macros.render("_rows_fingerprint", relation, labels.column_names)).to_pylist()
    return replace(facts, sql=spine.rows, content=row["content"])


def _resolved(path: Path | Remote) -> Path | Remote:
    return path if isinstance(path, Remote) else path.resolve()


def _output_facts(table: pa.Table, features: Mapping[str, str], partial: Path, path: Path | Remote) -> OutputFacts:
    columns = tuple(
        ColumnFacts(field.name, str(field.type), features.get(field.name), column_sha256(table.column(place)))
        for place, field in enumerate(table.schema)
    )
    rows = _sha256("\n".join(f"{column.name} {column.sha256}" for column in columns))
    return OutputFacts(path.name, table.num_rows, columns, rows, file_sha256(partial))


def _newest(result: TrainingSet, options: Options) -> str | None:
    """The newest moment of the spine in UTC, as the macros take it; None where it has none."""
    labels = labels_of(result)
    column = labels.column(spine_timestamp(labels.schema, options.timestamp))
    try:
        newest = None if column.null_count == len(column) else pc.max(to_plain(column)).as_py()
    except (OverflowError, ValueError):  # beyond the year 9999: all rows may have been read
        return None
    if newest is None:
        return None
    if not isinstance(newest, datetime):
        newest = datetime.combine(newest, time())
    return macro_moment(newest)


def _versions(manifest: Mapping[str, Any], engine: Mapping[str, str]) -> dict[str, str]:
    """Of all that has a part in the values or in the bytes; `engine` is the warehouse's."""
    return {
        "dbt": str(manifest["metadata"].get("dbt_version")),
        "dbt-feature-store": metadata.version("dbt-feature-store"),
        "pyarrow": pa.__version__,
        **engine,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
