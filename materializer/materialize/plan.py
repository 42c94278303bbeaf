"""What a run will do to one view, read and decided before it writes anything; a dry run ends here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from materializer.errors import DefinitionError, OnlineStoreError, WarehouseError
from materializer.materialize import difference
from materializer.materialize.bounded import Bounded
from materializer.materialize.current import Current
from materializer.materialize.difference import Known
from materializer.materialize.engine import Engine
from materializer.materialize.horizon import horizon_for
from materializer.materialize.memory import Memory, ViewMemory
from materializer.materialize.seen import NO_HOOK, Standing, seen_by, standing, with_doubt
from materializer.materialize.trust import eviction, why_not
from materializer.materialize.unstorable import Unstorable, find_unstorable
from materializer.online.keys import marker_key
from materializer.online.published import Published, published_view, read_from_elsewhere
from materializer.online.rows import keep_for
from materializer.online.stream_record import read_record
from materializer.online.topology import OnlineStore, on_every_master, server_time
from materializer.online.values import check_key_type, codec
from materializer.project.definitions import FeatureView, Registry
from materializer.project.duration import format_duration, macro_moment
from materializer.project.render import MacroRenderer
from materializer.project.storage import Remote
from materializer.warehouse import Warehouse
from materializer.warehouse.typed import with_columns

if TYPE_CHECKING:
    from materializer.warehouse.spark import Snapshot

# Removing more than half of a view of more entities than this is taken for a mistake upstream.
SHRINK_FROM = 1_000
# Called with a view, the rows of it that are done so far, and how many there will be.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How to run; see `materializer.FeatureStore.materialize`."""

    full: bool = False
    allow_shrink: bool = False
    allow_retype: bool = False
    dry_run: bool = False
    as_of: datetime | None = None
    memory_limit: int | None = None
    # How far ahead of their moment rows are sent, zero for not at all; None leaves it to each view.
    ahead: timedelta | None = None
    from_executors: bool = False


@dataclass(frozen=True)
class Job:
    """What all views of one call share."""

    client: OnlineStore
    url: str
    namespace: str
    open_warehouse: Callable[[], AbstractContextManager[Warehouse]]
    macros: MacroRenderer
    registry: Registry
    options: Options
    progress: Progress | None = None
    # A checksum of what makes a view's rows, for the log of runs.
    checksum: Callable[[FeatureView], str] | None = None
    # Where runs are remembered; None: nowhere.
    state_folder: Path | Remote | None = None


@dataclass(frozen=True)
class ViewResult:
    """What one run did to one view; `error` is a sentence where it failed, or where rows have values that cannot be
    stated online: the others landed then, and are counted.

    `rows_skipped` are those that are online already, that a newer push or a stream that has seen newer events keeps
    out, that have a NULL join key, or that are so far past their view's ttl that they are not kept.
    `why` says why rows moved (or, in a dry run, would move); `warnings` are sentences.
    """

    view: str
    run_id: str
    rows_read: int = 0
    rows_written: int = 0
    rows_skipped: int = 0
    rows_deleted: int = 0
    seconds: float = 0.0
    error: str | None = None
    why: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def landed(self) -> bool:
        """Whether the run came to its end, be it without some rows."""
        return self.error is None or self.rows_read > 0


@dataclass(frozen=True)
class Plan:
    """What the run `run_id` will do to a view: `current` are its rows that belong online, in `snapshot` if they lie
    anywhere else than in the engine's DuckDB; the file `pending` lists the changes. `new`, `changed` and `gone` are to
    be moved, `moving` of them with rows that follow; of the `unsure` there is no row, but a stream may have written
    one. `aged` were too old to be kept, and `gone_aged` of those that are gone; `newest` is the newest event that came
    into force, in microseconds. When the rows were read the newest created time of the view was `newest_load`; what
    falls due by `sent_until` is among them."""

    run_id: str
    view: FeatureView
    current: Current
    snapshot: Snapshot | None
    pending: Path
    folder: ViewMemory | None
    remembered: Memory | None
    known: Known
    fingerprint: str
    why_full: str
    policy: str | None
    published: Published | None
    markers: tuple[str, ...]
    read_from: str
    read_at: datetime
    newest_load: datetime | None
    sent_until: datetime | None
    unstorable: Unstorable
    streams: Standing
    null_keys: int
    unchanged: int
    new: int
    changed: int
    gone: int
    unsure: int
    aged: int
    gone_aged: int
    moving: int
    newest: int | None

    @property
    def published_rows(self) -> int:
        """How many rows the last run said there are."""
        return self.published.rows if self.published else 0

    @property
    def watermarks(self) -> tuple[str | None, str | None]:
        """The newest event online, before and after the run."""
        before, newest = self.published.watermark if self.published else None, None
        if self.newest is not None:
            newest = (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=self.newest)).isoformat()
        return before, newest if self.why_full else max(filter(None, (before, newest)), default=None)

    @property
    def idle(self) -> bool:
        """Whether Redis holds everything already."""
        settled = self.remembered is not None and self.remembered.finished and self.known.comparable
        return settled and not (self.new or self.changed or self.gone or self.unsure)

    def result(
        self, sent: int, written: int, deleted: int, warnings: tuple[str, ...] = (), kept: int = 0
    ) -> ViewResult:
        """What is said of the run once this was done; newer rows of streams and pushes kept out `kept`."""
        read = sent + self.unchanged + self.null_keys + self.aged + self.unstorable.rows
        return ViewResult(
            self.view.reference, self.run_id, read, written, read - written, deleted,
            error=self.unstorable.sentence or None, why=self._why(kept), warnings=(*self._warnings(), *warnings),
        )  # fmt: skip

    def _why(self, kept: int) -> str:
        left_out = f"; {self.aged:,} left out, {self._too_old}" if self.aged else ""
        if self.streams.seen and kept:
            left_out += f"; {kept:,} stay as a stream or a push has newer ones"
        if self.why_full:
            return f"every row: {self.why_full}{left_out}"
        again = "" if self.known.comparable else " (the definition changed, so every row is sent again)"
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone{again}{left_out}"

    @property
    def _too_old(self) -> str:
        kept = format_duration(keep_for(self.view.ttl or timedelta()))
        return f"older than {kept} (rows are kept for twice the ttl, and a day at least)"

    def _warnings(self) -> list[str]:
        name, said = self.view.reference, []
        if self.policy:
            said.append(
                f"Redis may drop rows of '{name}' unseen (maxmemory-policy {self.policy}), so every run sends all of "
                "them: set noeviction."
            )
        if self.null_keys:
            said.append(f"{self.null_keys:,} rows of '{name}' have a NULL join key and are not written.")
        if self.aged and not (self.new or self.changed or self.unchanged):
            said.append(
                f"'{name}' has no row young enough to be online: the newest of each of its {self.aged:,} entities is "
                f"{self._too_old}, so all of them are NOT_FOUND."
            )
        if self.streams.seen and not self.streams.seen.recorded:
            said.append(NO_HOOK)
        if elsewhere := read_from_elsewhere(name, self.published and self.published.read_from, self.read_from):
            said.append(elsewhere)
        return said

    def clean_up(self) -> None:
        """Remove the list of changes, unless memory names it."""
        if self.folder:
            self.folder.discard(self.pending.name)
        else:
            self.pending.unlink(missing_ok=True)


def make_plan(
    job: Job, view: FeatureView, run_id: str, warehouse: Warehouse, engine: Engine, bounded: Bounded,
    folder: ViewMemory | None,
) -> Plan:  # fmt: skip
    """Compare a view with what is remembered and published of it, in the engine's DuckDB.

    `folder` is where the view's runs are remembered, None for nowhere.

    Raises DefinitionError, WarehouseError or OnlineStoreError where the run cannot be, or should not without asking.
    """
    options = job.options
    view = with_columns(view, warehouse)
    check_storable(view)
    published = published_view(job.client, job.namespace, view.reference)
    if published and not (options.full and options.allow_retype):
        _check_types(view, published.view)
    macros = job.macros.over(warehouse.columns)
    seen = seen_by(macros, warehouse, view)
    record = read_record(job.client, job.namespace, view.reference)
    now = server_time(job.client, job.namespace)
    moment = macro_moment(options.as_of or now)
    # The readers' clock of a past moment stands: no row falls due there.
    horizon = None if options.as_of else horizon_for(view, now, options.ahead)
    span = {"since": macro_moment(horizon.since), "until": macro_moment(horizon.until)} if horizon else {}
    unseen = warehouse.query(macros.render("_unseen", view.reference, as_of=moment, **span)).combine_chunks()
    due, newest, sent_until = False, None, None
    if horizon:
        sent_until, newest = horizon.until, _micros(unseen["newest_event"])
        # Once a view had such rows its readers ask for them, until a run sends all rows anew.
        marked = published is not None and published.view.due and not options.full
        coming, later = (unseen[name][0].as_py() > 0 for name in ("coming", "due"))
        due = later or marked or record is not None  # a stream writes such rows too
        if not (later or (marked and coming)):
            horizon = None  # so each entity has one row, its latest: that is found in less time
    view = replace(view, due=due)
    read_from = f"{view.relation} of {warehouse.place}"
    sql = macros.render("_rows_ahead", view.reference, **span) if horizon else (
        macros.render("latest", view.reference, as_of=moment)
    )  # fmt: skip
    steps = horizon is not None
    # What follows a row is worked out here: where any falls due, the rows go the ordinary way.
    found = engine.latest(warehouse, view, sql, steps, from_executors=options.from_executors and not steps)
    view = found.view
    current = Current(view, found.rows, now, options.as_of is None, horizon, found.digests)
    unstorable = find_unstorable(engine.duckdb, view, current.belonging, found.unstorable)
    if unstorable.rows:
        current = current.without(unstorable.condition)
    remembered = folder.load() if folder else None
    markers = on_every_master(job.client, marker_key(job.namespace, view.reference))
    policy = eviction(job.client, view)
    streams = standing(seen, record, published, job.checksum(view) if job.checksum else "")
    why_full = (
        streams.epoch or _asked_for(options, policy) or why_not(job.client, view, remembered, markers)
        or ("it read no stream before" if seen and remembered.seen is None else "")
    )  # fmt: skip
    fingerprint = difference.fingerprint(view, current.expiring)
    known = Known()
    if not why_full:
        sent, *doubted = (name and folder.path(name) for name in (remembered.sent, *remembered.pending))
        known = Known(sent, tuple(doubted), comparable=remembered.fingerprint == fingerprint)
    name = f"pending-{run_id}.parquet"
    pending = folder.path(name) if folder else Path(tempfile.gettempdir()) / f"feature-store-{name}"
    try:
        with tempfile.TemporaryDirectory(prefix="feature-store-") as beside:
            if not why_full:
                known = with_doubt(known, streams, remembered.seen, warehouse, bounded, current, Path(beside))
            bounded.save(difference.changes(current, known), pending)
            (before,) = engine.duckdb.query(difference.known_count(view, known)).column("n").to_pylist()
    except (WarehouseError, ValueError) as error:
        if known.sent is None:
            raise
        # Perhaps what is remembered cannot be read; where it is the view itself, it fails again.
        why_full = (
            str(error) if isinstance(error, ValueError) else "what is remembered of an earlier run cannot be read"
        )
        known, before = Known(), 0
        bounded.save(difference.changes(current, known), pending)
    (count,) = engine.duckdb.query(difference.counts(pending)).to_pylist()
    count["newest"] = max((one for one in (count["newest"], newest) if one is not None), default=None)
    plan = Plan(
        run_id, view, current, found.snapshot, pending, folder, None if why_full else remembered, known, fingerprint,
        why_full, policy, published, tuple(markers), read_from, now, _newest_load(unseen["newest_load"]),
        sent_until, unstorable, streams, unseen["null_keys"][0].as_py(), before - count["changed"] - count["gone"],
        **count,
    )  # fmt: skip
    if not options.allow_shrink:
        _check_shrink(plan)
    return plan


def _asked_for(options: Options, policy: str | None) -> str:
    """Why every row is sent whatever is remembered, '' where there is no reason to."""
    if options.full:
        return "--full was given"
    if options.as_of:
        return "--as-of was given"
    return f"Redis may drop rows unseen (maxmemory-policy {policy})" if policy else ""


def _newest_load(column: pa.ChunkedArray) -> datetime | None:
    """The one moment of a column; None where it is NULL, or none that can be stated."""
    micros = _micros(column)
    try:
        return None if micros is None else datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
    except OverflowError:
        return None


def _micros(column: pa.ChunkedArray) -> int | None:
    return column.cast(pa.timestamp("us")).cast(pa.int64())[0].as_py()


def check_storable(view: FeatureView) -> None:
    """Stop for a view whose types cannot be kept online. Raises DefinitionError naming the column and its type."""
    for entity in view.entities:
        check_key_type(entity.dtype, f"Join key '{entity.name}' of feature view '{view.reference}'")
    for feature in view.features:
        codec(feature.dtype, f"Feature '{view.reference}:{feature.name}'")


def _check_types(view: FeatureView, published: FeatureView) -> None:
    before = {part.name: part.dtype for part in published.schema}
    for part in view.schema:
        if part.name in before and not before[part.name].equals(part.dtype):
            raise DefinitionError(
                f"'{view.reference}:{part.name}' is online as {before[part.name]} and is now {part.dtype}, which "
                "breaks its readers: make a new version of the model, or pass --full --allow-retype."
            )


def _check_shrink(plan: Plan) -> None:
    before = (plan.remembered.rows if plan.remembered else 0) or plan.published_rows
    removed = plan.gone if plan.remembered else max(before - plan.new, 0)
    emptied = before > 0 and plan.new + plan.changed + plan.unchanged == 0
    if emptied or (before > SHRINK_FROM and removed > before / 2):
        # An entity that is gone only because its rows grew too old to keep is no mistake of anyone's.
        removed -= plan.gone_aged if plan.remembered else plan.aged
        if removed <= (0 if emptied else before / 2):
            return
        plan.clean_up()
        raise OnlineStoreError(
            f"This run would remove {removed:,} of the {before:,} entities of '{plan.view.reference}', which looks "
            "like a mistake upstream: nothing was changed; pass --allow-shrink if it is meant."
        )
