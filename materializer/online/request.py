"""One online request: the commands it sends, and their replies read into columns while they come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pyarrow as pa

from materializer.errors import InputError
from materializer.online.keys import DUE, EVENT, bulk_strings, key_texts, keys_of_texts, revision_key, view_prefix
from materializer.online.response import MISSING, Column, OnlineResponse
from materializer.online.table import Part, ReadColumn, Table
from materializer.online.values import Codec, codec, decode_column
from materializer.project.definitions import FeatureView, Pick

# Where so many fields of a view are requested, and this share of all that it has or so many of them, its hash is read
# whole: in a small hash Redis looks for each field from the beginning on, and most of them cost more than all
# (`python benchmarks/online.py --border`).
_WHOLE_FROM, _WHOLE_SHARE, _WHOLE_ANYWAY = 20, 0.65, 80
# Which reader a type has.
ReaderOf = Callable[[pa.DataType, Codec], ReadColumn]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Selection:
    """Features of views, ready to request: made once for a list of references, used by every request for it."""

    namespace: str
    parts: tuple[Part, ...]
    # For each column of the answer, in order: its name, the part it is of and its place there.
    outputs: tuple[tuple[str, int, int], ...]
    # Whether a view has a ttl, or rows that fall due: the server is asked what time it is.
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
    timed = any(view.ttl or view.due for view in views.values())
    revision = revision_key(namespace).encode()
    commands = [b"*2\r\n" + bulk_strings(b"GET", revision)]
    if timed:
        # Of the revision's server: one clock for all readers, wherever the rows are.
        commands.append(b"*1\r\n" + bulk_strings(b"TIME"))
    parts = tuple(_part(namespace, view, columns[reference]) for reference, view in views.items())
    return Selection(namespace, parts, outputs, timed, (revision,) * len(commands), tuple(commands))


def _part(namespace: str, view: FeatureView, columns: Sequence[tuple[str, ReaderOf]]) -> Part:
    names = tuple(name for name, _ in columns)
    types = tuple(view.feature(name).dtype for name in names)
    fields = [name.encode() for name in names] + [EVENT.encode()] + ([DUE.encode()] if view.due else [])
    single = view.entities[0] if len(view.entities) == 1 else None
    what = f"A feature of view '{view.reference}'"
    readers = [read(dtype, codec(dtype, what)) for dtype, (_, read) in zip(types, columns, strict=True)]
    whole = len(names) >= max(_WHOLE_FROM, min(_WHOLE_SHARE * len(view.features), _WHOLE_ANYWAY))
    return Part(
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
            self._tables: list[Table] = []
        if len(replies) < self._at:
            return
        for place, part in enumerate(selection.parts):
            if place == len(self._tables):
                clock = part.view.as_of or (clock_of(replies[1]) if selection.timed else None)
                self._tables.append(Table(part, clock))
            table, keys = self._tables[place], self._row_keys[place]
            missing = len(keys) - keys.count(None) - len(table.moments)
            rows = replies[self._at : self._at + missing]
            if rows:
                table.add(rows)
                self._at += len(rows)
            if len(rows) < missing:
                return


def _keys_of(namespace: str, part: Part, rows: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
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
    if field == DUE:
        return (
            f"The row '{name}' of feature view '{view.reference}' in Redis has {_short(found)} as _fs_due, which is no "
            f"list of what falls due, so it is read without: {mend}."
        )
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


def inputs_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Entity rows as columns."""
    if len(set(map(len, rows))) == 1:
        try:
            return {name: [row[name] for row in rows] for name in rows[0]}
        except KeyError:
            pass  # as many keys, but others
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
