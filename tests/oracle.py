"""The point-in-time rule in plain Python: what training sets, `latest` and online reads are compared with.

It is written to be obviously right, not to be fast: no SQL, no Arrow, no sharing with the code under test.
All instants are whole microseconds since 1970, UTC; so are durations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class View:
    """What a feature view says about time. `created`: whether its rows say when they became known."""

    created: bool = False
    available_after: int = 0
    ttl: int | None = None


@dataclass(frozen=True)
class Row:
    """One row of a feature view. `created` is not looked at where the view declares none."""

    keys: tuple[Any, ...]
    event: int | None
    created: int | None
    features: Mapping[str, Any]


def row_in_force(
    view: View,
    rows: Iterable[Row],
    keys: tuple[Any, ...],
    moment: int | None,
    *,
    allow_exact_matches: bool = True,
    filter_by_created_timestamp: bool = True,
) -> Row | None:
    """The row of `keys` that is the truth at `moment`, however old it is."""
    if moment is None or None in keys:
        return None

    def visible(row: Row) -> bool:
        if row.keys != keys or row.event is None:
            return False
        if row.event > moment or (row.event == moment and not allow_exact_matches):
            return False
        if row.event + view.available_after > moment:
            return False
        if view.created and filter_by_created_timestamp:
            return row.created is not None and row.created <= moment
        return True

    return max(filter(visible, rows), key=lambda row: _place(view, row), default=None)


def point_in_time_value(
    view: View,
    rows: Iterable[Row],
    keys: tuple[Any, ...],
    moment: int | None,
    *,
    allow_exact_matches: bool = True,
    filter_by_created_timestamp: bool = True,
) -> Row | None:
    """The row whose features a spine row gets; None where every feature is NULL."""
    row = row_in_force(
        view,
        rows,
        keys,
        moment,
        allow_exact_matches=allow_exact_matches,
        filter_by_created_timestamp=filter_by_created_timestamp,
    )
    return None if row is None or too_old(view, row, moment) else row


def too_old(view: View, row: Row, moment: int) -> bool:
    """Whether a row is older than the ttl. A row of exactly that age is not."""
    return view.ttl is not None and row.event < moment - view.ttl


def latest(view: View, rows: Iterable[Row], now: int) -> dict[tuple[Any, ...], Row]:
    """Each entity's row in force now; entities that have none, or a NULL in their key, are not there."""
    rows = list(rows)
    found = {keys: row_in_force(view, rows, keys, now) for keys in {row.keys for row in rows}}
    return {keys: row for keys, row in found.items() if row is not None}


def online_value(
    view: View, rows: Iterable[Row], keys: tuple[Any, ...], now: int, feature: str
) -> tuple[Any, str, int | None]:
    """What a reader gets for a feature now, rows having been materialized now: its value, status and event time."""
    return read_online(view, row_in_force(view, rows, keys, now), now, feature)


def read_online(view: View, row: Row | None, now: int, feature: str) -> tuple[Any, str, int | None]:
    """The same, of the row that is in force now."""
    if row is None:
        return None, "NOT_FOUND", None
    if too_old(view, row, now):
        return None, "OUTSIDE_MAX_AGE", row.event
    value = row.features[feature]
    return value, "NULL_VALUE" if value is None else "PRESENT", row.event


def _place(view: View, row: Row) -> tuple[Any, ...]:
    """Rows are ordered by event, then created (NULL lowest), then all features in the order of their names."""
    created = (row.created is not None, row.created or 0) if view.created else ()
    return (row.event, created, [greatness(row.features[name]) for name in sorted(row.features)])


def greatness(value: Any) -> tuple[Any, ...]:
    """Sorts values of one type: NULL lowest, NaN highest, text by bytes, false before true, lists by element.

    0.0 and -0.0 are equal numbers; where nothing else tells two values apart, the positive one is the greater.
    """
    return (_order(value, null=-1), _signs(value))


def _order(value: Any, null: int) -> tuple[Any, ...]:
    if value is None:
        return (null,)
    if isinstance(value, float) and math.isnan(value):
        return (1,)
    if isinstance(value, str):
        return (0, value.encode())
    if isinstance(value, (list, tuple)):
        return (0, [_order(item, null) for item in value])
    if isinstance(value, dict):
        # Inside a struct the contract says nothing of NULL; the warehouse puts it highest.
        return (0, [_order(item, null=2) for item in value.values()])
    return (0, value)


def _signs(value: Any) -> list[bool]:
    if isinstance(value, float):
        return [math.copysign(1, value) > 0]
    if isinstance(value, dict):
        value = list(value.values())
    return [sign for item in value for sign in _signs(item)] if isinstance(value, (list, tuple)) else []
