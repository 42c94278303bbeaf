"""What made a training set, as a JSON file beside it; and what differs between two of them, in sentences.

It holds no profile, no URL and no row: names, versions, counts and hashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from materializer.errors import InputError
from materializer.project.storage import Remote

FORMAT = 2
# The engines whose versions a record has, by dbt's names of their adapters.
ENGINES = ("duckdb", "postgres", "spark")
# Those that this release reads: the first had no on-demand features.
_READ = (1, FORMAT)


@dataclass(frozen=True)
class Options:
    """How features were joined; see `materializer.FeatureStore.get_historical_features`."""

    timestamp: str = "event_timestamp"
    full_feature_names: bool = False
    allow_exact_matches: bool = True
    filter_by_created_timestamp: bool = True


@dataclass(frozen=True)
class SpineFacts:
    """Where the labels came from.

    `kind` is ``file``, ``sql`` or ``rows`` (in memory); `path` is relative to the record (in another bucket: the URL;
    where only the record is on object storage: the file's name) and `sha256` of the file's bytes; `content` is a hash
    of the rows of a SELECT in whatever order.
    """

    kind: str
    path: str | None
    sha256: str | None
    sql: str | None
    rows: int
    content: str | None


@dataclass(frozen=True)
class ViewFacts:
    """A feature view as it was read.

    `name` is what the features call it and `reference` what that stood for. `definition` is a hash of its SQL file,
    ``meta.feature_view``, columns and materialization, `compiled` of its compiled SQL (None where dbt compiled other
    models only), `models` are the checksums of the files of all models that it is made from. `rows_read` counts the
    rows up to `until`, the newest moment of the spine, and `content` is a hash of them in whatever order.
    """

    name: str
    reference: str
    definition: str
    compiled: str | None
    models: dict[str, str]
    rows: int
    rows_read: int
    until: str | None
    newest_event: str | None
    content: str | None


@dataclass(frozen=True)
class OnDemandFacts:
    """A feature that was computed from the spine's own columns, `request` (with their types), and from stored features,
    `reads`."""

    feature: str
    expression: str
    request: dict[str, str]
    reads: dict[str, str]


@dataclass(frozen=True)
class ColumnFacts:
    """A column of the training set; `feature` is its reference, None for a column of the spine."""

    name: str
    type: str
    feature: str | None
    sha256: str


@dataclass(frozen=True)
class OutputFacts:
    """The training set: `rows_sha256` is of its values in their order, `sha256` of the file's bytes."""

    file: str
    rows: int
    columns: tuple[ColumnFacts, ...]
    rows_sha256: str
    sha256: str


@dataclass(frozen=True)
class TrainingRecord:
    """All that made one training set. `versions` are of the tools; git is None where there is none."""

    format: int
    made_at: str
    versions: dict[str, str]
    project: str
    target: str
    git_revision: str | None
    git_dirty: bool | None
    manifest_sha256: str
    definitions_sha256: str
    features: tuple[str, ...]
    options: Options
    spine: SpineFacts
    views: tuple[ViewFacts, ...]
    on_demand: tuple[OnDemandFacts, ...]
    output: OutputFacts


def record_path(path: Path | Remote) -> Path | Remote:
    """Where the record of a training set is: ``set.parquet.json``."""
    return path.with_name(path.name + ".json")


def dump_record(record: TrainingRecord) -> str:
    """The record as its file has it."""
    return json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"


def read_record(path: Path | Remote) -> TrainingRecord:
    """Read a record back. Raises InputError where it is missing, damaged or of a format that this release does not
    know."""
    try:
        found = json.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (ValueError, RecursionError):
        found = None
    damaged = InputError(
        f"{path} is not the record of a training set, or is damaged: it lies beside the set, as set.parquet.json."
    )
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        raise damaged
    if found["format"] not in _READ:
        versions = found.get("versions")
        writer = str(versions.get("dbt-feature-store", "unknown")) if isinstance(versions, dict) else "unknown"
        raise InputError(
            f"{path} is a record of format {found['format']}, and this release knows format {FORMAT}: "
            f"use the release that wrote it ({writer})."
        )
    if found["format"] == 1:
        found["on_demand"] = []
    try:
        return _built(TrainingRecord, found)
    except (ValueError, TypeError):
        raise damaged from None


def _built(hint: Any, found: Any) -> Any:
    """A value of JSON as the type that a field declares. Raises ValueError where it is another."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        if isinstance(found, dict) and set(found) == set(hints):
            return hint(**{name: _built(hints[name], value) for name, value in found.items()})
    elif origin is tuple:
        if isinstance(found, list):
            return tuple(_built(arguments[0], item) for item in found)
    elif origin is dict:
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
    elif type(found) in (arguments or (hint,)):
        return found
    raise ValueError(found)


def differences(old: TrainingRecord, new: TrainingRecord) -> list[str]:
    """What was otherwise when `old` was made, the likeliest cause first; without what only says when it was made."""
    return [
        *_spine_differences(old, new),
        *(line for before in old.views for line in _view_differences(before, old, new)),
        *_computed_differences(old, new),
        *_tool_differences(old, new),
    ]


def output_difference(old: OutputFacts, new: OutputFacts) -> str:
    """How the training sets themselves differ."""
    if old.rows_sha256 == new.rows_sha256:
        return "every row is the same, but the file is written otherwise"
    if old.rows != new.rows:
        return f"it had {old.rows:,} rows and now has {new.rows:,}"
    before, after = ({column.name: column for column in facts.columns} for facts in (old, new))
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not differing:
        return "its columns come in another order"
    return f"these columns differ: {', '.join(differing)}"


def _spine_differences(old: TrainingRecord, new: TrainingRecord) -> Iterator[str]:
    before, after = old.spine, new.spine
    where = f"the spine {before.path}" if before.path else "the spine"
    if before.kind != after.kind:
        yield f"{where} was a {before.kind} and is now a {after.kind}"
    elif before.sha256 != after.sha256:
        yield f"{where} has changed ({_rows(before.rows, after.rows)})"
    elif before.kind != "file":
        labels = [
            [(column.name, column.type, column.sha256) for column in record.output.columns if column.feature is None]
            for record in (old, new)
        ]
        same_rows = before.content is not None and before.content == after.content
        if labels[0] != labels[1] and same_rows and not _engines_differ(old, new):
            yield (
                f"{where} gave the same rows in another order: end its SELECT with an ORDER BY that leaves no two rows "
                "equal"
            )
        elif labels[0] != labels[1]:
            yield f"{where} gave other rows ({_rows(before.rows, after.rows)})"


def _view_differences(before: ViewFacts, old: TrainingRecord, new: TrainingRecord) -> Iterator[str]:
    (after,) = (view for view in new.views if view.name == before.name)
    name = f"feature view '{before.name}'"
    if before.reference != after.reference:
        yield f"{name} was {before.reference} and is now {after.reference}"
        return
    both_compiled = before.compiled is not None and after.compiled is not None
    if before.definition != after.definition or (both_compiled and before.compiled != after.compiled):
        yield f"the definition of {name} has changed"
    above = {**before.models, **after.models}
    changed = sorted(model for model in above if before.models.get(model) != after.models.get(model))
    own = {model for model in changed if model.endswith(f".{before.reference}")}
    if set(changed) - own:
        yield f"models above {name} have changed: {', '.join(sorted(set(changed) - own))}"
    up_to = f" up to {before.until}" if before.until else ""
    if before.until != after.until:
        return  # other labels read other rows: their counts say nothing
    if before.rows_read != after.rows_read:
        yield f"the data of {name} has changed ({before.rows_read:,} rows{up_to}, now {after.rows_read:,})"
    elif before.content != after.content and not _engines_differ(old, new):
        yield f"the data of {name} has changed ({before.rows_read:,} rows{up_to} as before, with other values)"


def _computed_differences(old: TrainingRecord, new: TrainingRecord) -> Iterator[str]:
    after = {facts.feature: facts for facts in new.on_demand}
    for before in old.on_demand:
        now = after.get(before.feature)
        if now is not None and now != before:
            yield f"on-demand feature '{before.feature}' was {_computed(before)} and is now {_computed(now)}"


def _computed(facts: OnDemandFacts) -> str:
    request = ", ".join(f"{name} {declared.lower()}" for name, declared in facts.request.items())
    return f"`{' '.join(facts.expression.split())}`{f' of {request}' if request else ''}"


def _tool_differences(old: TrainingRecord, new: TrainingRecord) -> Iterator[str]:
    for name in sorted({**old.versions, **new.versions}):
        before, after = old.versions.get(name, "none"), new.versions.get(name, "none")
        if before != after:
            yield f"{name} was {before} and is now {after}"
    if (old.project, old.target) != (new.project, new.target):
        yield f"it was made in {old.project}, target {old.target}; this is {new.project}, target {new.target}"
    before, after = _git(old), _git(new)
    if before != after:
        yield f"git was at {before} and is now at {after}"


def _engines_differ(old: TrainingRecord, new: TrainingRecord) -> bool:
    """Whether hashes of content, which an engine makes in its own way, cannot be compared."""
    return any(old.versions.get(engine) != new.versions.get(engine) for engine in ENGINES)


def _git(record: TrainingRecord) -> str:
    if record.git_revision is None:
        return "no revision"
    return record.git_revision[:12] + (" with uncommitted changes" if record.git_dirty else "")


def _rows(before: int, after: int) -> str:
    return f"{before:,} rows, now {after:,}" if before != after else f"{before:,} rows as before"
