"""The runs of `materialize` as their log has them: which of them a reader saw at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

_MOMENTS = ("read_at", "published_at", "newest_load")


@dataclass(frozen=True)
class Run:
    """A run over one view: its rows are as of `read_at`, and readers were told at `published_at` (None: it failed).
    Rows that fell due by `sent_until` were sent with them; None for none."""

    read_at: datetime
    published_at: datetime | None
    # The newest created time that the view had then; None where it declares none.
    newest_load: datetime | None
    ttl: timedelta | None
    definition: str | None
    sent_until: datetime | None = None


class Runs:
    """The runs over one view."""

    def __init__(self, log: Iterable[Mapping[str, Any]], view: str) -> None:
        found = (_run(entry) for entry in log if entry["view"] == view)
        self._runs = sorted((run for run in found if run), key=lambda run: run.read_at)
        self.at = cache(self._at)

    def _at(self, moment: datetime) -> tuple[Run, ...]:
        """The last run that was complete by then, and after it those that may have written some of their rows; none
        where no complete run is known."""
        complete = [run for run in self._runs if run.published_at is not None and run.published_at <= moment]
        if not complete:
            return ()
        last = max(complete, key=lambda run: run.published_at)
        return (last, *(run for run in self._runs if last.read_at < run.read_at <= moment))


def _run(entry: Mapping[str, Any]) -> Run | None:
    """A run; None for an entry of a release that did not say when it read, or that is damaged."""
    try:
        read, *others = (entry[name] and datetime.fromisoformat(entry[name]) for name in _MOMENTS)
        ttl = entry["ttl_seconds"]
        until = entry.get("sent_until")
        return read and Run(
            read, *others, None if ttl is None else timedelta(seconds=ttl), entry["definition"],
            until and datetime.fromisoformat(until),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
