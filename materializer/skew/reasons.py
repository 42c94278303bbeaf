"""Why a served value is not the point-in-time one, told by facts alone: rows, their moments, and the log of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from materializer.online.served_log import epoch_micros
from materializer.skew.rows import Row
from materializer.skew.runs import Run

LATE, CORRECTION, TTL = "late data", "a correction", "ttl"
DEFINITION, NOT_MATERIALIZED, UNEXPLAINED = "definition changed", "not materialized yet", "unexplained"
REASONS = (LATE, CORRECTION, TTL, DEFINITION, NOT_MATERIALIZED, UNEXPLAINED)


@dataclass(frozen=True)
class Today:
    """What a view is by now: its ttl, delay and definition, and whether its rows say when they were loaded."""

    ttl: timedelta | None
    available_after: timedelta | None
    definition: str | None
    has_created: bool


@dataclass(frozen=True)
class Candidate:
    """A run that a reader may have seen, with the row that belonged online after it: by all that is in the warehouse
    now, and by what was loaded when the run read it (None where that is not known)."""

    run: Run
    rows: tuple[Row, ...]


def reason(
    served: Row, at: int, truth: Row, candidates: Sequence[Candidate], same_event: Row | None, today: Today
) -> str:
    """Why `served` (its values those that a caller got, at the moment `at`) is not what `truth` shows.

    Args:
        truth: the row in force at that moment, however old.
        candidates: the newest complete run first.
        same_event: the warehouse's row of the event that was served.
    """
    if not candidates:
        return UNEXPLAINED
    complete = candidates[0].run
    if complete.ttl != today.ttl and served.values == truth.shown(at, complete.ttl):
        return TTL
    for candidate in candidates:
        for row in candidate.rows:
            if row != truth and _is(served, row, at, candidate.run.ttl):
                return _later(truth, row, candidate.run, today)
    if complete.definition != today.definition:
        return DEFINITION
    # Rows that do not say when they were loaded: the run would have sent a newer one, had it been there.
    true_row = served.event is None or (same_event is not None and _is(served, same_event, at, complete.ttl))
    if not today.has_created and true_row and served.event != truth.event:
        return _later(truth, served, complete, today)
    return UNEXPLAINED


def _is(served: Row, row: Row, at: int, ttl: timedelta | None) -> bool:
    """Whether a reader who meets this row gives what was served. One that is past its ttl may be gone from Redis."""
    shown = row.shown(at, ttl)
    return served.values == shown and (served.event == row.event or (served.event is None and set(shown) <= {None}))


def _later(truth: Row, row: Row, run: Run, today: Today) -> str:
    """How the truth came to be another row than the one that a run sent."""
    if truth.event is None or (row.event is not None and truth.event < row.event):
        return UNEXPLAINED
    if truth.event == row.event:
        return CORRECTION
    due = truth.event + (today.available_after or timedelta()) // timedelta(microseconds=1)
    return NOT_MATERIALIZED if due > epoch_micros(run.read_at) else LATE
