"""Rows as Redis commands, column by column: Arrow joins the bytes, Python only cuts them into calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from materializer.online.due import due_text
from materializer.online.keys import CREATED, DUE, EVENT, EXPIRES, bulk_strings, keys_of_columns
from materializer.online.values import codec, encode_all, encode_since
from materializer.project.definitions import FeatureView
from materializer.warehouse.arrow import to_plain
from materializer.warehouse.moments import SINCE_EVER, SINCE_EVER_DATE, STATED

_DAY = timedelta(days=1)
# How many arguments of WRITE_ROWS stand before the number of fields.
HEAD_STRINGS = 3
# No two moments that the format can state are this far apart.
ALL_TIME = timedelta(days=3_652_059)


@dataclass(frozen=True)
class Rows:
    """A batch of rows, encoded for WRITE_ROWS: `head` is its arguments that are the same for all rows, `head_strings`
    how many these are; for each row the bytes of its key and of its own arguments, `row_strings` of them."""

    head: bytes
    head_strings: int
    keys: pa.Array
    arguments: pa.Array
    row_strings: int

    def __len__(self) -> int:
        return len(self.keys)

    def as_fields(self) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Each row's key, and the fields that its hash would have, but for who wrote it."""
        names = _unpacked(self.head)[HEAD_STRINGS + 1 :]
        for key, packed in zip(self.keys.to_pylist(), self.arguments.to_pylist(), strict=True):
            _, has, *texts = _unpacked(packed)
            there = zip(names, texts, has or b"1" * len(names), strict=True)
            yield _unpacked(key)[0], {name: text for name, text, mark in there if mark == ord("1")}

    def calls(self, rows: int) -> Iterator[tuple[int, bytes, memoryview]]:
        """Cut into calls of at most `rows` rows: (number of rows, keys, arguments)."""
        keys, arguments = memoryview(self.keys.buffers()[2]), memoryview(self.arguments.buffers()[2])
        cuts = [*range(0, len(self), rows), len(self)]
        key_ends, argument_ends = _offsets(self.keys, cuts), _offsets(self.arguments, cuts)
        for place, (start, stop) in enumerate(itertools.pairwise(cuts)):
            yield (
                stop - start,
                bytes(keys[key_ends[place] : key_ends[place + 1]]),
                arguments[argument_ends[place] : argument_ends[place + 1]],
            )


def keep_for(ttl: timedelta) -> timedelta:
    """How long after its event time a row is kept: twice the ttl, and a day at least. Only memory depends on it."""
    return max(2 * min(ttl, ALL_TIME), _DAY)


def encode_rows(
    batch: pa.RecordBatch, view: FeatureView, namespace: str, writer: str, expiring: bool = True,
    seen: int | None = None, over: bool = False,
) -> Rows:  # fmt: skip
    """Encode rows of a view: its join keys (none NULL), timestamps and features, in any column order.

    Rows that are not `expiring` stay in Redis until they are removed. `seen` is the landing's number that they were
    computed from, None for a view that reads no stream; `over` begins an epoch: greater numbers of before do not count.
    """
    columns = {name: to_plain(batch.column(name)) for name in batch.schema.names}
    fields, drop_at = _fields(columns, batch.num_rows, view, expiring)
    return _rows(keys_of_columns(namespace, view, columns), fields, drop_at, _head(writer, seen, over))


def encode_steps(
    batch: pa.Table, view: FeatureView, namespace: str, writer: str, *, firsts: Sequence[int], moments: Sequence[int],
    now: int, expiring: bool = True, seen: int | None = None, over: bool = False,
) -> Rows:  # fmt: skip
    """Encode entities with the rows that fall due. `batch` has all rows of each, in order, which begin at the places
    `firsts`; `moments` says since when each is in force: the first may be so at `now`, the others come after it. Else
    as `encode_rows`."""
    columns = {name: to_plain(batch.column(name)).combine_chunks() for name in batch.schema.names}
    fields, drop_at = _fields(columns, batch.num_rows, view, expiring)
    blobs = {feature.name for feature in view.features if codec(feature.dtype, feature.name).blob}
    texts = zip(*(column.to_pylist() for _, column in fields), strict=True)
    rows = [dict(zip((name for name, _ in fields), row, strict=True)) for row in texts]
    lasts = [*(first - 1 for first in firsts[1:]), len(rows) - 1]
    begun = [moments[first] <= now for first in firsts]
    due = []
    for first, last, some in zip(firsts, lasts, begun, strict=True):
        steps = list(zip(moments[first : last + 1], rows[first : last + 1], strict=True))
        due.append(due_text(steps.pop(0)[1] if some else {}, steps, blobs) if len(steps) > some else None)
    heads, begun = pa.array(firsts, pa.int64()), pa.array(begun, pa.bool_())
    fields = [(name, pc.if_else(begun, column.take(heads), None)) for name, column in fields]
    return _rows(
        keys_of_columns(namespace, view, {name: columns[name].take(heads) for name in view.join_keys}),
        [*fields, (DUE, pa.array(due, pa.binary()))], drop_at.take(pa.array(lasts, pa.int64())),
        _head(writer, seen, over),
    )  # fmt: skip


def _fields(
    columns: Mapping[str, pa.Array], count: int, view: FeatureView, expiring: bool
) -> tuple[list[tuple[str, pa.Array]], pa.Array]:
    """The fields of rows with their texts, and when Redis may drop each row: ms, empty for never."""
    event = _timestamps(columns[view.timestamp])
    names = [feature.name for feature in view.features]
    fields = list(zip(names, encode_all([columns[name] for name in names]), strict=True))
    fields.append((EVENT, encode_since(event)))
    if view.created_timestamp:
        fields.append((CREATED, encode_since(_timestamps(columns[view.created_timestamp]))))
    drop_at = _constant(b"", count)
    if view.ttl:
        fields.append((EXPIRES, encode_since(_later(event, min(view.ttl, ALL_TIME)))))
    if view.ttl and expiring:
        moment = _later(event, keep_for(view.ttl)).cast(pa.int64())
        drop_at = pc.fill_null(pc.divide(moment, 1000).cast(pa.string()).cast(pa.binary()), b"")
    return fields, drop_at


def _head(writer: str, seen: int | None, over: bool) -> list[bytes]:
    return [writer.encode(), b"" if seen is None else b"%d" % seen, b"1" if over else b""]


def _rows(keys: pa.Array, fields: Sequence[tuple[str, pa.Array]], drop_at: pa.Array, head: list[bytes]) -> Rows:
    names = [name.encode() for name, _ in fields]
    head = [*head, b"%d" % len(names), *names]
    has = _constant(b"", len(keys))
    if any(texts.null_count for _, texts in fields):
        marks = [pc.if_else(pc.is_valid(texts), b"1", b"0") for _, texts in fields]
        has = pc.binary_join_element_wise(*marks, b"")
    parts: list[pa.Array] = [has] + [pc.fill_null(texts, b"") for _, texts in fields]
    return Rows(bulk_strings(*head), len(head), _bulk(keys), _bulk(drop_at, *parts), 2 + len(names))


def _timestamps(column: pa.Array) -> pa.Array:
    """Zone-less UTC microseconds: dates become midnights, zoned timestamps lose their zone's name."""
    if pa.types.is_date(column.type):
        days = column.cast(pa.int32()).cast(pa.int64())
        since_ever = pc.equal(days, SINCE_EVER_DATE)
        column = pc.if_else(since_ever, SINCE_EVER, pc.multiply(days, 86_400_000_000))
    return column.cast(pa.int64()).cast(pa.timestamp("us"))


def _later(event: pa.Array, span: timedelta) -> pa.Array:
    """Moments a span later: after the year 9999 none, and of one "since ever" itself."""
    found = pc.min_max(event.cast(pa.int64()))
    micros = span // timedelta(microseconds=1)
    moved = pc.add(event, pa.scalar(span, pa.duration("us")))
    if found["min"].as_py() == SINCE_EVER:
        moved = pc.if_else(pc.equal(event.cast(pa.int64()), SINCE_EVER), event, moved)
    if (found["max"].as_py() or 0) + micros > STATED["timestamp"][1]:
        moved = pc.if_else(pc.greater(moved.cast(pa.int64()), STATED["timestamp"][1]), None, moved)
    return moved


def _bulk(*columns: pa.Array) -> pa.Array:
    """The RESP bulk strings of each row's values, one after the other."""
    # Made here and not once: Arrow's first scalar loads pandas, which a reader has no use for.
    between, end = pa.scalar(b"\r\n$"), pa.scalar(b"\r\n")
    pieces: list[pa.Array | pa.Scalar] = []
    for texts in columns:
        length = pc.binary_length(texts).cast(pa.string()).cast(pa.binary())
        pieces += [between if pieces else pa.scalar(b"$"), length, end, texts]
    return pc.binary_join_element_wise(*pieces, end, b"")


def _unpacked(bulk: bytes) -> list[bytes]:
    """The texts of RESP bulk strings, one after the other."""
    texts, at = [], 0
    while at < len(bulk):
        end = bulk.index(b"\r\n", at)
        length = int(bulk[at + 1 : end])
        texts.append(bulk[end + 2 : end + 2 + length])
        at = end + 4 + length
    return texts


def _constant(value: int | bytes, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.int64() if isinstance(value, int) else pa.binary()), count)


def _offsets(texts: pa.Array, places: list[int]) -> list[int]:
    ends = pa.Array.from_buffers(pa.int32(), len(texts) + 1, [None, texts.buffers()[1]], offset=texts.offset)
    return ends.take(pa.array(places)).to_pylist()
