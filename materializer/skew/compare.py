"""Compares what was served with the point-in-time join at its moment, and explains each difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from materializer.errors import InputError
from materializer.materialize.log import read_log
from materializer.materialize.state import state_folder
from materializer.online.served_log import REQUEST_ID, SERVED_AT, epoch_micros
from materializer.project.checksums import Checksums
from materializer.project.definitions import FeatureView, Registry, split_reference
from materializer.project.manifest import load_manifest, read_registry
from materializer.project.settings import Project
from materializer.skew.reasons import DEFINITION, REASONS, UNEXPLAINED, Candidate, Today, reason
from materializer.skew.rows import Row, Views, differ, texts
from materializer.skew.runs import Run, Runs
from materializer.skew.served import Piece, Served
from materializer.warehouse import open_warehouse
from materializer.warehouse.typed import with_columns

# Unexplained values that are shown, of each feature.
_EXAMPLES = 3


@dataclass(frozen=True)
class FeatureSkew:
    """How many rows of a feature were compared, how many of them differ, and how many for which reason."""

    feature: str
    rows: int
    differ: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Example:
    """A served value that nothing explains, with what the warehouse has for its moment; both as the online format's
    text, None for NULL."""

    feature: str
    served_at: datetime
    request_id: str
    join_keys: Mapping[str, Any]
    served: str | None
    true: str | None


@dataclass(frozen=True)
class Skew:
    """What was served against what was true. `notes` are sentences."""

    features: list[FeatureSkew]
    examples: list[Example]
    notes: list[str]

    @property
    def unexplained(self) -> int:
        """How many values differ with no reason known."""
        return sum(one.reasons.get(UNEXPLAINED, 0) for one in self.features)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "unexplained": self.unexplained}


@dataclass
class _Count:
    rows: int = 0
    examples: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def in_order(self) -> dict[str, int]:
        return {reason: self.reasons[reason] for reason in REASONS if self.reasons[reason]}


def skew(
    project: Project, namespace: str, folder: Path, features: Sequence[str] = (), since: datetime | None = None
) -> Skew:
    """Compare the log of served features in a folder with a project's warehouse.

    Args:
        namespace: whose rows were served; files of others are passed over.
        features: ``view:feature`` or ``view``; default all that is logged.
        since: only what was served from then on.

    Raises:
        InputError: where nothing of that is logged, or a file is not of the log.
        WarehouseError: where the warehouse is locked or refuses.
    """
    manifest = load_manifest(project)
    registry = read_registry(manifest)
    served = Served(folder, namespace, [_resolved(registry, one) for one in features], since)
    checksums, counts, examples, notes = Checksums(manifest), {}, [], {}
    state = state_folder(project)
    try:
        log = read_log(state, namespace)
    except OSError as error:
        raise InputError(f"The log of runs in {state} cannot be read: {error.strerror or error}.") from None
    with open_warehouse(project) as warehouse:
        views = Views(warehouse, manifest, registry)
        known: dict[str, tuple[FeatureView, Runs, Today]] = {}
        for piece in served.pieces():
            if piece.view not in registry.views:
                for feature in piece.features:
                    count = counts.setdefault(f"{piece.view}:{feature}", _Count())
                    count.rows += piece.table.num_rows
                    count.reasons[DEFINITION] += piece.table.num_rows
                notes[f"The project declares no feature view '{piece.view}' any more."] = None
                continue
            if piece.view not in known:
                view = with_columns(registry.view(piece.view), warehouse)
                today = Today(
                    view.ttl, view.available_after, checksums.of(view.unique_id), view.created_timestamp is not None
                )  # fmt: skip
                known[piece.view] = view, Runs(log, piece.view), today
            examples += _compare(views, *known[piece.view], piece, counts, notes)
    if not counts:
        raise InputError(_nothing(folder, namespace, features, since, served.others))
    if served.others:
        notes[f"Files of other namespaces were passed over: {', '.join(sorted(served.others))}."] = None
    found = [
        FeatureSkew(name, count.rows, count.reasons.total(), count.in_order())
        for name, count in sorted(counts.items())
    ]  # fmt: skip
    return Skew(found, examples, list(notes))


def _compare(
    views: Views, view: FeatureView, runs: Runs, today: Today, piece: Piece, counts: dict[str, _Count],
    notes: dict[str, None],
) -> list[Example]:  # fmt: skip
    """Count a piece's rows and reasons; give examples of what is unexplained."""
    there = {feature.name for feature in view.features}
    features = [feature for feature in piece.features if feature in there]
    for feature in piece.features:
        count = counts.setdefault(f"{piece.view}:{feature}", _Count())
        count.rows += piece.table.num_rows
        if feature not in there:
            count.reasons[DEFINITION] += piece.table.num_rows
            notes[f"Feature view '{piece.view}' has no feature '{feature}' any more."] = None
    if not features:
        return []
    spine = piece.table.select([*piece.join_keys, SERVED_AT])
    served = [texts(piece.table[feature]) for feature in features]
    truth = views.truth(view, features, spine, SERVED_AT)
    unlike = [differ(*pair) for pair in zip(served, truth, strict=True)]
    anywhere = unlike[0]
    for column in unlike[1:]:
        anywhere = pc.or_(anywhere, column)
    places = pc.indices_nonzero(anywhere)
    if not len(places):
        return []
    table = piece.table.take(places)
    whole = [column.take(places).to_pylist() for column in served]
    events = table["__event"].cast(pa.int64()).to_pylist()
    rows = [Row(event, None, tuple(values)) for event, *values in zip(events, *whole, strict=True)]
    why = _reasons(views, view, runs, today, features, table, rows, notes)
    examples = []
    for feature, column, values, true in zip(features, unlike, whole, truth, strict=True):
        name = f"{piece.view}:{feature}"
        count = counts[name]
        for place, differs in enumerate(column.take(places).to_pylist()):
            if not differs:
                continue
            count.reasons[why[place]] += 1
            if why[place] == UNEXPLAINED and count.examples < _EXAMPLES:
                count.examples += 1
                (row,) = table.slice(place, 1).select([SERVED_AT, REQUEST_ID, *piece.join_keys]).to_pylist()
                at, request = row.pop(SERVED_AT), row.pop(REQUEST_ID)
                real = true[places[place].as_py()].as_py()
                examples.append(Example(name, at, request, row, _shown(values[place]), _shown(real)))
    return examples


def _reasons(
    views: Views, view: FeatureView, runs: Runs, today: Today, features: Sequence[str], table: pa.Table,
    served: Sequence[Row], notes: dict[str, None],
) -> list[str]:  # fmt: skip
    """The reason of each row that differs."""
    keys = table.select(list(view.join_keys))
    moments = table[SERVED_AT].to_pylist()
    truths = views.rows(view, features, keys.append_column(SERVED_AT, table[SERVED_AT]), SERVED_AT)
    seen = [runs.at(moment) for moment in moments]
    if not all(seen):
        notes[f"Of '{view.reference}' rows were served before the first run that the log beside the warehouse has."] = (
            None
        )
    candidates = _candidates(views, view, features, keys, moments, seen)
    same_event: Sequence[Row | None] = [None] * len(served)
    if not today.has_created:
        delay = 0 if today.available_after is None else int(today.available_after.total_seconds()) * 1_000_000
        shown_from = [None if row.event is None else row.event + delay for row in served]
        events = pa.array(shown_from, pa.timestamp("us", "UTC"))
        if events.null_count < len(events):
            same_event = views.rows(view, features, keys.append_column(SERVED_AT, events), SERVED_AT)
    found = [
        reason(row, epoch_micros(at), truth, of_row, same, today)
        for row, at, truth, of_row, same in zip(served, moments, truths, candidates, same_event, strict=True)
    ]
    if UNEXPLAINED in found and not today.has_created:
        notes[
            f"The rows of '{view.reference}' do not say when they were loaded, so a correction cannot be told from a "
            "wrong value: declare created_timestamp."
        ] = None
    return found


def _candidates(
    views: Views, view: FeatureView, features: Sequence[str], keys: pa.Table, moments: Sequence[datetime],
    seen: Sequence[tuple[Run, ...]],
) -> list[list[Candidate]]:  # fmt: skip
    """For each row the runs that its reader may have seen at these moments, with what they could have sent."""
    of_run: dict[Run, list[int]] = {}
    for place, runs in enumerate(seen):
        for run in runs:
            of_run.setdefault(run, []).append(place)
    rows: dict[tuple[Run, int], tuple[Row, ...]] = {}
    for run, places in of_run.items():
        asked, found = keys.take(pa.array(places)), []
        seen_at = [[run.read_at] * len(places)]
        if run.sent_until:  # rows fell due meanwhile, as far as they were sent
            seen_at.append([min(moments[place], run.sent_until) for place in places])
        for moment in seen_at:
            spine = asked.append_column(SERVED_AT, pa.array(moment, pa.timestamp("us", "UTC")))
            found.append(views.rows(view, features, spine, SERVED_AT))
            if view.created_timestamp and run.newest_load is not None:
                found.append(views.rows(view, features, spine, SERVED_AT, loaded=run.newest_load))
        for place, *here in zip(places, *found, strict=True):
            rows[run, place] = tuple(here)
    return [[Candidate(run, rows[run, place]) for run in runs] for place, runs in enumerate(seen)]


def _resolved(registry: Registry, name: str) -> str:
    """A view or feature by the name that its view has in the log, whatever version is the latest."""
    view, colon, feature = name.partition(":")
    if colon:
        split_reference(name)
    return f"{registry.view(view).reference}{colon}{feature}" if view in registry.views else name


def _nothing(folder: Path, namespace: str, features: Sequence[str], since: datetime | None, others: set[str]) -> str:
    what = f"of {', '.join(features)} " if features else ""
    when = f"since {since:%Y-%m-%d %H:%M:%S} " if since else ""
    there = f"; there are files of: {', '.join(sorted(others))}" if others else ""
    return f"Nothing {what}that was served {when}from namespace '{namespace}' is logged in {folder}{there}."


def _shown(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
