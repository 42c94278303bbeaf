"""The rows of one view in an online request, read into columns while they come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import compress, repeat
from operator import itemgetter
from typing import Any

import pyarrow as pa

from materializer.online.due import bytes_of, changes_by, none_due
from materializer.online.keys import DUE, EVENT
from materializer.online.response import MISSING, Status, events_of
from materializer.online.served_log import epoch_micros
from materializer.project.definitions import FeatureView

# The bytes of a column's values as what the answer holds for each; None where one cannot be read.
ReadColumn = Callable[[Sequence[bytes]], list[Any] | None]
_FIRST, _LAST = b"0001-01-01T00:00:00.000000Z", b"9999-12-31T23:59:59.999999Z"


@dataclass(frozen=True)
class Part:
    """What is requested of one view: its features in order, and the command around each key."""

    view: FeatureView
    names: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    readers: tuple[ReadColumn, ...]
    prefix: bytes
    head: bytes
    tail: bytes
    # The join key, where it is a single integer.
    integer_key: str | None
    # The fields, where the hash is read whole (HGETALL) and they are picked from it.
    picked: tuple[bytes, ...] | None


class Table:
    """The columns of one view, decoded as their rows come in; rows of NULL keys are not among them.

    `problems` are what cannot be read: the row's place, the field (None for the whole key) and what it holds.
    """

    def __init__(self, part: Part, clock: datetime | None) -> None:
        self._oldest = _oldest(clock, part.view.ttl) if part.view.ttl and clock else None
        self._now = epoch_micros(clock) if part.view.due and clock else None
        self._part = part
        self.values: list[list[Any]] = [[] for _ in part.names]
        self.statuses: list[list[Status]] = [[] for _ in part.names]
        self.moments: list[bytes | None] = []
        self.problems: list[tuple[int, str | None, Any]] = []

    def add(self, rows: list[Any]) -> None:
        """A column with nothing special in it costs no step of Python's for each value."""
        part, first = self._part, len(self.moments)
        if part.picked:
            rows = picked(part.picked, rows)
        try:
            columns = list(zip(*rows, strict=True))
        except TypeError:  # the error in place of a row: its key holds no hash
            self.problems += [(first + place, None, row) for place, row in enumerate(rows) if not isinstance(row, list)]
            nothing = [None] * (len(part.names) + 1 + part.view.due)
            columns = list(zip(*[row if isinstance(row, list) else nothing for row in rows], strict=True))
        if self._now is not None:
            columns = self._in_force(columns, self._now, first)
        *columns, moments = columns
        events: list[datetime | None] | None = None
        if None in moments or not _all_since(moments, self._oldest):
            events = self._events_of(moments, columns, first)
            moments = [None if event is None else moment for moment, event in zip(moments, events, strict=True)]
        for place, column in enumerate(columns):
            values = None if events is not None or None in column else part.readers[place](column)
            if values is None:
                events = events or events_of(moments)
                self._add_each(place, column, events, first)
            else:
                self.values[place].extend(values)
                self.statuses[place].extend(repeat(Status.PRESENT, len(values)))
        self.moments.extend(moments)

    def _in_force(self, columns: list[Sequence[Any]], now: int, first: int) -> list[Sequence[Any]]:
        """The columns, of which the last is what falls due beside each row, without it and as they are by now."""
        *columns, lists = columns
        later = none_due(now)
        if min(filter(None, lists), default=later) >= later:
            return columns
        changed = list(map(list, columns))
        by_name: dict[str, list[list[Any]]] = {}
        for name, column in zip([*self._part.names, EVENT], changed, strict=True):
            by_name.setdefault(name, []).append(column)
        for place, text in enumerate(lists):
            if text is None or text >= later:
                continue
            try:
                changes = {name: bytes_of(said) for name, said in changes_by(text, now).items() if name in by_name}
            except ValueError:
                self.problems.append((first + place, DUE, text))
                continue
            for name, value in changes.items():
                for column in by_name[name]:
                    column[place] = value
        return changed

    def _add_each(self, place: int, column: Sequence[Any], events: Sequence[datetime | None], first: int) -> None:
        values, statuses, oldest = self.values[place], self.statuses[place], self._oldest
        read = self._part.readers[place]
        shown = [
            raw is not None and event is not None and (oldest is None or event >= oldest)
            for raw, event in zip(column, events, strict=True)
        ]
        those = read(list(compress(column, shown)))
        found = iter(those if those is not None else ())
        for number, (raw, event, show) in enumerate(zip(column, events, shown, strict=True)):
            if not show:
                values.append(None)
                statuses.append(
                    MISSING if event is None
                    else Status.OUTSIDE_MAX_AGE if oldest is not None and event < oldest
                    else Status.NULL_VALUE
                )  # fmt: skip
                continue
            one = [next(found)] if those is not None else read([raw])
            if one is None:
                self.problems.append((first + number, self._part.names[place], raw))
            values.append(one[0] if one else None)
            statuses.append(Status.PRESENT if one else Status.NULL_VALUE)

    def _events_of(self, moments: Sequence[Any], columns: Sequence[Sequence[Any]], first: int) -> list[datetime | None]:
        """The event times; a row that has none, or none that can be read, is no row."""
        events = events_of(moments)
        for number, (moment, event) in enumerate(zip(moments, events, strict=True)):
            if event is None and (moment is not None or any(column[number] is not None for column in columns)):
                self.problems.append((first + number, EVENT, moment))
        return events


def picked(fields: Sequence[bytes], rows: Sequence[Any]) -> list[Any]:
    """Hashes read whole, ``[field, value, ...]``, as the values of these fields in order."""
    found: list[Any] = []
    known: list[bytes] | None = None
    for row in rows:
        if not isinstance(row, list):  # an error
            found.append(row)
            continue
        names, values = row[::2], row[1::2]
        if names != known:  # mostly one row's fields stand as those of the one before
            known, places = names, {name: place for place, name in enumerate(names)}
            order = [places.get(field) for field in fields]
            pick = None if None in order else itemgetter(*order)
        found.append(list(pick(values)) if pick else [None if one is None else values[one] for one in order])
    return found


def _oldest(clock: datetime, ttl: timedelta) -> datetime:
    """The oldest event that is not too old. A ttl may reach back beyond Python's moments; "since ever" is the first of
    them, and older than any ttl."""
    first = datetime.min.replace(tzinfo=timezone.utc)
    return clock - ttl if ttl < clock - first else first + timedelta(microseconds=1)


def _all_since(moments: Sequence[bytes], oldest: datetime | None) -> bool:
    """Whether no moment is before `oldest`, by their texts alone; False where these do not show it."""
    text = _FIRST
    if oldest is not None:
        text = oldest.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds").encode() + b"Z"
    return set(map(len, moments)) == {len(text)} and min(moments) >= text and max(moments) <= _LAST
