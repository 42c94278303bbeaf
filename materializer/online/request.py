"""One online request: the commands it sends, and their replies read into columns while they come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import compress, repeat
from operator import itemgetter
from typing import Any

import pyarrow as pa

from materializer.errors import InputError
from materializer.online.keys import EVENT, bulk_strings, key_texts, keys_of_texts, revision_key, view_prefix
from materializer.online.response import MISSING, Column, OnlineResponse, Status, events_of
from materializer.online.values import Codec, codec, decode_column
from materializer.project.definitions import FeatureView, Pick

# Where so many fields of a view are requested, and this share of all that it has or so many of them, its hash is read
# whole: in a small hash Redis looks for each field from the beginning on, and most of them cost more than all
# (`python benchmarks/online.py --border`).
_WHOLE_FROM, _WHOLE_SHARE, _WHOLE_ANYWAY = 20, 0.65, 80
# The bytes of a column's values as what the answer holds for each; None where one cannot be read.
ReadColumn = Callable[[Sequence[bytes]], list[Any] | None]
# Which reader a type has.
ReaderOf = Callable[[pa.DataType, Codec], ReadColumn]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST, _LAST = b"0001-01-01T00:00:00.000000Z", b"9999-12-31T23:59:59.999999Z"


@dataclass(frozen=True)
class _Part:
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


@dataclass(frozen=True)
class Selection:
    """Features of views, ready to request: made once for a list of references, used by every request for it."""

    namespace: str
    parts: tuple[_Part, ...]
    # For each column of the answer, in order: its name, the part it is of and its place there.
    outputs: tuple[tuple[str, int, int], ...]
    # Whether a view has a ttl: the server is asked what time it is.
    timed: bool
    # The commands before those for rows, and the keys by which their server is found.
    keys: tuple[bytes, ...]
    commands: tuple[bytes, ...]


def decoded(_: pa.DataType, codec: Codec) -> ReadColumn:
    """The reader of a column as what Arrow's ``as_py`` gives for its values."""
    return partial(decode_column, codec)


def select(
    namespace: str, picks: Sequence[Pick], reader_of: ReaderOf = decoded, inputs: Sequence[Pick] = ()
) -> Selection:
    """The selection of these features, each column read by what `reader_of` gives for its type; the `inputs` of
    on-demand features are decoded."""
    columns: dict[str, list[tuple[str, ReaderOf]]] = {}
    views: dict[str, FeatureView] = {}
    places: list[tuple[str, str, int]] = []
    for pick, read in [*((pick, reader_of) for pick in picks), *((pick, decoded) for pick in inputs)]:
        assert pick.view is not None
        views[pick.view.reference] = pick.view
        columns.setdefault(pick.view.reference, []).append((pick.feature, read))
        places.append((pick.output, pick.view.reference, len(columns[pick.view.reference]) - 1))
    order = {reference: place for place, reference in enumerate(views)}
    outputs = tuple((output, order[reference], place) for output, reference, place in places)
    timed = any(view.ttl for view in views.values())
    revision = revision_key(namespace).encode()
    commands = [b"*2\r\n" + bulk_strings(b"GET", revision)]
    if timed:
        # Of the revision's server: one clock for all readers, wherever the rows are.
        commands.append(b"*1\r\n" + bulk_strings(b"TIME"))
    parts = tuple(_part(namespace, view, columns[reference]) for reference, view in views.items())
    return Selection(namespace, parts, outputs, timed, (revision,) * len(commands), tuple(commands))


def _part(namespace: str, view: FeatureView, columns: Sequence[tuple[str, ReaderOf]]) -> _Part:
    names = tuple(name for name, _ in columns)
    types = tuple(view.feature(name).dtype for name in names)
    fields = [name.encode() for name in names] + [EVENT.encode()]
    single = view.entities[0] if len(view.entities) == 1 else None
    what = f"A feature of view '{view.reference}'"
    readers = [read(dtype, codec(dtype, what)) for dtype, (_, read) in zip(types, columns, strict=True)]
    whole = len(names) >= max(_WHOLE_FROM, min(_WHOLE_SHARE * len(view.features), _WHOLE_ANYWAY))
    return _Part(
        view, names, types, tuple(readers),
        prefix=view_prefix(namespace, view.reference).encode(),
        head=b"*2\r\n$7\r\nHGETALL\r\n" if whole else b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2),
        tail=b"" if whole else bulk_strings(*fields),
        integer_key=single.name if single and pa.types.is_integer(single.dtype) else None,
        picked=tuple(fields) if whole else None,
    )  # fmt: skip


class Request:
    """The rows that one call requests: packs the commands, then reads their replies. Raises InputError for a row
    without a join key, or with a value that is not of its type.

    `keys` and `commands` are of one length: the key says which server a command goes to.
    """

    def __init__(self, selection: Selection, entity_rows: Sequence[Mapping[str, Any]]) -> None:
        self._selection = selection
        self._rows = entity_rows
        # For each part the key of each row, None where one of its join keys is NULL.
        self._row_keys = [_keys_of(selection.namespace, part, entity_rows) for part in selection.parts]
        self.keys, self.commands = list(selection.keys), list(selection.commands)
        for part, keys in zip(selection.parts, self._row_keys, strict=True):
            asked = [key for key in keys if key is not None] if None in keys else keys
            head, tail = part.head, part.tail
            self.keys += asked
            self.commands += [b"%s$%d\r\n%s\r\n%s" % (head, len(key), key, tail) for key in asked]
        self._replies: list[Any] | None = None  # those that were decoded so far are its first `_at`

    def received(self, replies: list[Any]) -> None:
        """Decode what has come of the replies, while the server works on the rest of them. What cannot be decoded is
        left to `response`: it may be of a type that was published after the registry was read."""
        try:
            self._take(replies)
        except Exception:
            self._replies = None

    def response(self, replies: list[Any]) -> OnlineResponse:
        """The answer, once all replies are there."""
        self._take(replies)
        tables: list[list[Column]] = []
        problems: list[str] = []
        for part, table, keys in zip(self._selection.parts, self._tables, self._row_keys, strict=True):
            moments = _spread(table.moments, keys)
            if table.problems:
                asked = [key for key in keys if key is not None]
                problems += [_problem(part.view, asked[place], *what) for place, *what in table.problems]
            tables.append(
                [
                    (dtype, _spread(values, keys), _spread(statuses, keys, MISSING), moments)
                    for dtype, values, statuses in zip(part.types, table.values, table.statuses, strict=True)
                ]
            )
        columns = {output: tables[part][place] for output, part, place in self._selection.outputs}
        return OnlineResponse(inputs_of(self._rows), columns, tuple(dict.fromkeys(problems)))

    def _take(self, replies: list[Any]) -> None:
        selection = self._selection
        if replies is not self._replies:
            self._replies, self._at = replies, len(selection.commands)
            self._tables: list[_Table] = []
        if len(replies) < self._at:
            return
        for place, part in enumerate(selection.parts):
            if place == len(self._tables):
                clock = part.view.as_of or (clock_of(replies[1]) if selection.timed else None)
                self._tables.append(_Table(part, clock))
            table, keys = self._tables[place], self._row_keys[place]
            missing = len(keys) - keys.count(None) - len(table.moments)
            rows = replies[self._at : self._at + missing]
            if rows:
                table.add(rows)
                self._at += len(rows)
            if len(rows) < missing:
                return


class _Table:
    """The columns of one view, decoded as their rows come in; rows of NULL keys are not among them.

    `problems` are what cannot be read: the row's place, the field (None for the whole key) and what it holds.
    """

    def __init__(self, part: _Part, clock: datetime | None) -> None:
        self._oldest = _oldest(clock, part.view.ttl) if part.view.ttl and clock else None
        self._part = part
        self.values: list[list[Any]] = [[] for _ in part.names]
        self.statuses: list[list[Status]] = [[] for _ in part.names]
        self.moments: list[bytes | None] = []
        self.problems: list[tuple[int, str | None, Any]] = []

    def add(self, rows: list[Any]) -> None:
        """A column with nothing special in it costs no step of Python's for each value."""
        part, first = self._part, len(self.moments)
        if part.picked:
            rows = _picked(part.picked, rows)
        try:
            *columns, moments = zip(*rows, strict=True)
        except TypeError:  # the error in place of a row: its key holds no hash
            self.problems += [(first + place, None, row) for place, row in enumerate(rows) if not isinstance(row, list)]
            nothing = [None] * (len(part.names) + 1)
            *columns, moments = zip(*[row if isinstance(row, list) else nothing for row in rows], strict=True)
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


def _picked(fields: Sequence[bytes], rows: Sequence[Any]) -> list[Any]:
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


def _keys_of(namespace: str, part: _Part, rows: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
    view = part.view
    columns = []
    for entity in view.entities:
        try:
            values = [row[entity.name] for row in rows]
        except KeyError:
            for number, row in enumerate(rows):
                if entity.name not in row:
                    raise InputError(
                        f"Entity row {number} has no '{entity.name}', a join key of feature view "
                        f"'{view.reference}' (it has: {', '.join(row) or 'nothing'})."
                    ) from None
            raise
        if part.integer_key and {int} == set(map(type, values)):
            start = part.prefix
            return [b"%b%d" % (start, value) for value in values]
        columns.append(key_texts(values, entity.dtype, entity.name))
    try:
        return keys_of_texts(namespace, view.reference, columns)
    except UnicodeEncodeError as error:
        names = ", ".join(view.join_keys)
        raise InputError(f"Join key '{names}' was given a text that is not Unicode: {error.object!r}.") from None


def _oldest(clock: datetime, ttl: timedelta) -> datetime:
    """The oldest event that is not too old. A ttl may reach back beyond Python's moments; "since ever" is the first of
    them, and older than any ttl."""
    first = datetime.min.replace(tzinfo=timezone.utc)
    return clock - ttl if ttl < clock - first else first + timedelta(microseconds=1)


def clock_of(reply: Sequence[Any]) -> datetime:
    """What the server answered to TIME."""
    seconds, microseconds = reply
    return _EPOCH + timedelta(seconds=int(seconds), microseconds=int(microseconds))


def _problem(view: FeatureView, key: bytes, field: str | None, found: Any) -> str:
    name, mend = key.decode(errors="replace"), "push it again as the online format has it, or run `materialize --full`"
    if field is None:
        return f"The key '{name}' of feature view '{view.reference}' in Redis holds no hash, so no row: {mend}."
    if field == EVENT:
        what = "has no _fs_event" if found is None else f"has {_short(found)} as _fs_event, which is no moment"
        return f"The row '{name}' of feature view '{view.reference}' in Redis {what}, so it counts as none: {mend}."
    return (
        f"Feature '{view.reference}:{field}' of the row '{name}' in Redis holds {_short(found)}, which is no "
        f"{view.feature(field).dtype}, so its value is None: {mend}."
    )


def _short(found: bytes) -> str:
    text = repr(found)[1:]
    return text if len(text) <= 40 else text[:36] + "...'"


def _spread(values: list[Any], keys: Sequence[bytes | None], absent: Any = None) -> list[Any]:
    """The values of rows that were requested, with `absent` in the places of those that were not."""
    if len(values) == len(keys):
        return values
    found = iter(values)
    return [absent if key is None else next(found) for key in keys]


def _all_since(moments: Sequence[bytes], oldest: datetime | None) -> bool:
    """Whether no moment is before `oldest`, by their texts alone; False where these do not show it."""
    text = _FIRST
    if oldest is not None:
        text = oldest.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds").encode() + b"Z"
    return set(map(len, moments)) == {len(text)} and min(moments) >= text and max(moments) <= _LAST


def inputs_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Entity rows as columns."""
    if len(set(map(len, rows))) == 1:
        try:
            return {name: [row[name] for row in rows] for name in rows[0]}
        except KeyError:
            pass  # as many keys, but others
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
