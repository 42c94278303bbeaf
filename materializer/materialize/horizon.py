"""How far ahead a run sends rows: up to fixed moments, so that a run finds nothing to do until the next of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from materializer.project.definitions import FeatureView

DEFAULT = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Horizon:
    """A run at `now` sends the rows in force then, and those that come into force by `until`. What it compares begins
    at `since`, which is not after now: that depends on the rows and on `since` alone, not on the moment of the run."""

    now: datetime
    since: datetime
    until: datetime


def horizon_for(view: FeatureView, now: datetime, ahead: timedelta | None = None) -> Horizon | None:
    """The horizon of a view as it declares it, or by another `ahead`; None where nothing is sent ahead."""
    if ahead is None:
        ahead = DEFAULT if view.ahead is None else view.ahead
    return horizon_of(view.reference, now, ahead) if ahead else None


def horizon_of(view: str, now: datetime, ahead: timedelta) -> Horizon:
    """The horizon of a run: `ahead` to twice `ahead` from now on.

    A horizon begins and ends at multiples of `ahead`. They are shifted by the view's name, so that not all views have
    much to send in the same run.
    """
    shift = _MICROSECOND * (zlib.crc32(view.encode()) * (ahead // _MICROSECOND) // 2**32)
    since = _EPOCH + shift + (now - _EPOCH - shift) // ahead * ahead
    return Horizon(now, since, since + 2 * ahead)
